"""Asks servers such as whoami.py, each from a new socket, all at once.

ask.py tcp:HOST:PORT udp:HOST:PORT...: a line for each, in order: the answer, or ``refused``, or ``silence``
after a second. An address that nobody has counts as refused.
"""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress


def ask(question):
    protocol, host, port = question.split(":")
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as asking:
        asking.settimeout(1)
        try:
            asking.connect((host, int(port)))
            with suppress(PermissionError):  # the node's own rules stop it; if they refuse it, recv hears
                asking.send(b"GET / HTTP/1.0\r\n\r\n")
            answer = asking.recv(4096)
        except TimeoutError:
            return "silence"
        except OSError:
            return "refused"
    return answer.decode().splitlines()[-1]


with ThreadPoolExecutor(16) as threads:
    for line in threads.map(ask, sys.argv[1:]):
        print(line)
