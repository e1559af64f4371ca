"""Asks a UDP server again and again from one source port, which is one flow to the kernel.

udp_client.py HOST PORT: a line for each line of input: the answer, or ``none`` after half a second.
"""

import socket
import sys

asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(0.5)
for _ in sys.stdin:
    try:
        asking.sendto(b"?", (sys.argv[1], int(sys.argv[2])))
        print(asking.recvfrom(2048)[0].decode(), flush=True)
    except OSError:
        print("none", flush=True)
