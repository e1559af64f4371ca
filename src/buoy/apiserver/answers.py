"""HTTP answers, written to the connection in one piece."""

from __future__ import annotations

import http
from typing import Any

import msgspec
from aiohttp import web

from buoy.api.status import StatusError

JSON = "application/json"

_encode = msgspec.json.Encoder().encode
_REASONS = {status.value: status.phrase for status in http.HTTPStatus}
_LARGE = 65536


class Answer:
    """A whole response. It has the part of `aiohttp.web.StreamResponse` that the protocol calls.

    What StreamResponse does beyond that (cookies, ranges, header objects, a writer) costs more than most
    requests here; the head is known at once, so head and body go out as one write.
    """

    __slots__ = ("body", "content_type", "headers", "keep_alive", "status")

    def __init__(
        self,
        body: bytes,
        status: int = 200,
        content_type: str = JSON,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.body = body
        self.status = status
        self.content_type = content_type
        self.headers = headers
        self.keep_alive = True

    async def prepare(self, request: web.BaseRequest) -> None:
        self.keep_alive = request.keep_alive
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        body = self.body
        more = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        if not self.keep_alive:
            more += "Connection: close\r\n"
        head = (
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, '')}\r\nCache-Control: no-cache, private\r\n"
            f"Content-Type: {self.content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        ).encode("latin-1", "replace")
        if request.method == "HEAD":
            transport.write(head)
        elif len(body) < _LARGE:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
            await request.writer.drain()

    async def write_eof(self) -> None:
        """All is written already."""


class Streamed:
    """Stands for a response that its handler has written to the connection itself."""

    __slots__ = ("keep_alive", "status")

    def __init__(self, keep_alive: bool, status: int = 200) -> None:
        self.keep_alive = keep_alive
        self.status = status

    async def prepare(self, request: web.BaseRequest) -> None:
        """All is written already."""

    async def write_eof(self) -> None:
        """All is written already."""


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(_encode(value), status)


def text_answer(text: str, status: int = 200) -> Answer:
    return Answer(
        text.encode(), status, "text/plain; charset=utf-8", (("X-Content-Type-Options", "nosniff"),)
    )


def error_answer(error: StatusError) -> Answer:
    headers: tuple[tuple[str, str], ...] = ()
    retry = (error.details or {}).get("retryAfterSeconds")
    if retry:
        headers = (("Retry-After", str(retry)),)
    return Answer(_encode(error.to_object()), error.code, headers=headers)


def warning_header(text: str) -> tuple[str, str]:
    """A ``Warning`` header (RFC 7234, section 5.5), which kubectl shows to its user."""
    printable = "".join(each if each.isprintable() else " " for each in text)
    quoted = printable.replace("\\", "\\\\").replace('"', '\\"')
    return "Warning", f'299 - "{quoted}"'
