"""Answers over HTTP and UDP, in both IP families: its host name, the client's address, the port asked at.

whoami.py PORT...
"""

import socket
import sys
import threading
from contextlib import suppress


def answer(peer, port):
    return f"{socket.gethostname()} {peer[0].removeprefix('::ffff:')} {port}".encode()


def serve_tcp(port):
    listening = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        # One whose client is cut off in the middle does not hold up the others.
        threading.Thread(target=serve_one, args=(*listening.accept(), port), daemon=True).start()


def serve_one(connection, peer, port):
    with connection, suppress(OSError):
        connection.settimeout(10)
        connection.recv(4096)
        body = answer(peer, port)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def serve_udp(port):
    listening = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listening.bind(("", port))
    while True:
        _, peer = listening.recvfrom(2048)
        listening.sendto(answer(peer, port), peer)


threads = [
    threading.Thread(target=serve, args=(int(port),))
    for port in sys.argv[1:]
    for serve in (serve_tcp, serve_udp)
]
for thread in threads:
    thread.start()
