"""Announcing routes by BGP, with FRR as the speaker.

`frr` turns peers and routes into FRR's commands, and `sessions` reads what FRR says, both purely; `daemons`
runs FRR beside this process.
"""
