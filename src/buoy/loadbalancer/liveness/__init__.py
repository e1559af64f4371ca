"""Which speakers are there, without asking the API server: small authenticated messages over UDP.

`message` is what they say, `detector` what follows from it, purely; `transport` moves the messages.
"""
