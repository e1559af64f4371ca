"""Asks servers such as whoami.py, each from a new socket, all at once.

ask.py tcp:HOST:PORT udp:HOST:PORT...: a line for each, in order: the answer, or ``refused``, or ``silence``
after two seconds: Linux hears of an unreachable IPv6 address at the second try, after one. An address that
nobody has counts as refused. IPv6 addresses are in brackets; ``tcp6`` and ``udp6`` look names up in IPv6.
For a name that does not exist: ``no such name``; where no DNS server answers: ``nobody knows``.
"""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress


def ask(question):
    protocol, _, where = question.partition(":")
    host, _, port = where.rpartition(":")
    kind = socket.SOCK_STREAM if protocol.startswith("tcp") else socket.SOCK_DGRAM
    family = socket.AF_INET6 if protocol.endswith("6") or ":" in host else socket.AF_INET
    with socket.socket(family, kind) as asking:
        asking.settimeout(2)
        try:
            asking.connect((host.strip("[]"), int(port)))
            with suppress(PermissionError):  # the node's own rules stop it; if they refuse it, recv hears
                asking.send(b"GET / HTTP/1.0\r\n\r\n")
            answer = asking.recv(4096)
        except TimeoutError:
            return "silence"
        except socket.gaierror as error:
            return "no such name" if error.errno == socket.EAI_NONAME else "nobody knows"
        except OSError:
            return "refused"
    return answer.decode().splitlines()[-1]


with ThreadPoolExecutor(16) as threads:
    for line in threads.map(ask, sys.argv[1:]):
        print(line)
