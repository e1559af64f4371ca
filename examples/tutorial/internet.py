"""Plays the internet for the tutorial, on the machine outside the cluster.

Its name server knows one name, www.baidu.com; the web page behind it says by which name it was asked for.
"""

import http.server
import socket
import struct
import threading

NAME, ADDRESS = "www.baidu.com", "192.168.1.200"
A, NO_SUCH_NAME, RESPONSE = 1, 3, 0x8180


def answer(query: bytes) -> bytes:
    """The DNS message (RFC 1035) that answers *query*, which holds one question."""
    position, labels = 12, []
    while length := query[position]:
        labels.append(query[position + 1 : position + 1 + length])
        position += 1 + length
    question = query[12 : position + 5]
    known = b".".join(labels).decode().lower() == NAME
    (kind,) = struct.unpack_from("!H", query, position + 1)
    records = b""
    if known and kind == A:
        records = struct.pack("!HHHIH", 0xC00C, A, 1, 60, 4) + socket.inet_aton(ADDRESS)
    flags = RESPONSE if known else RESPONSE | NO_SUCH_NAME
    return query[:2] + struct.pack("!HHHHH", flags, 1, bool(records), 0, 0) + question + records


def serve_names() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((ADDRESS, 53))
        while True:
            query, client = server.recvfrom(512)
            server.sendto(answer(query), client)


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = f"<p>This is {NAME}, asked for as {self.headers['Host']}</p>\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments: object) -> None:
        """Nobody reads it."""


threading.Thread(target=serve_names, daemon=True).start()
http.server.HTTPServer((ADDRESS, 80), Page).serve_forever()
