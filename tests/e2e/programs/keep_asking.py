"""Asks a DNS server over UDP, again and again, each time from a new port: python keep_asking.py ADDRESS

Prints "asking" at the first answer; when standard input ends, how many were answered and what went wrong.
"""

import json
import select
import socket
import sys

QUESTION = b"\0\1\1\0\0\1\0\0\0\0\0\0\12kubernetes\7default\3svc\7cluster\5local\0\0\1\0\1"
answered, problems = 0, []
while not select.select([sys.stdin], [], [], 0)[0]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)  # as the C library does
        sock.connect((sys.argv[1], 53))
        try:
            sock.send(QUESTION)
            code = sock.recv(512)[3] & 15
        except OSError as error:
            problems.append(str(error))
            continue
    if code:
        problems.append(f"rcode {code}")
    elif not answered:
        print("asking", flush=True)
    answered += 1
print(json.dumps([answered, problems]))
