"""Two joined connections: nothing is lost at the end.

On uvloop, which components run on: how the loop ends a connection is what counts here.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvloop

from buoy.client.splice import Splice
from eventual import eventually

from .test_kubeconfig import Authority

MUCH = bytes(range(250)) * 250
"""More than the kernel takes with small buffers, less than what stops the far end."""

SMALL = 8192


class FarEnd(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        transport.write(MUCH)
        transport.close()


class Accepting(asyncio.Protocol):
    """Splices the connection to the far port, and has *found* keep the splice."""

    def __init__(self, far_port: int, found: list[Splice]) -> None:
        self._far_port = far_port
        self._found = found

    def connection_made(self, transport: Any) -> None:
        splice = Splice(transport)
        transport.set_protocol(splice)
        self._connecting = asyncio.create_task(splice.connect(host="127.0.0.1", port=self._far_port))
        self._found.append(splice)


@contextlib.asynccontextmanager
async def joined(folder: Path) -> AsyncIterator[tuple[Splice, ssl.SSLSocket]]:
    """A splice, and the client's end of its near connection: a blocking socket."""
    authority = Authority("ca")
    pair = authority.issue("localhost", "127.0.0.1")
    (folder / "pair.pem").write_text(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    loop = asyncio.get_running_loop()
    far = await loop.create_server(FarEnd, "127.0.0.1", 0)
    found: list[Splice] = []
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    port = far.sockets[0].getsockname()[1]
    near = await loop.create_server(lambda: Accepting(port, found), sock=listening, ssl=context)

    def connect() -> ssl.SSLSocket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        client.settimeout(20)
        client.connect(listening.getsockname())
        trusting = ssl.create_default_context(cadata=authority.certificate)
        return trusting.wrap_socket(client, server_hostname="127.0.0.1")

    client = await asyncio.to_thread(connect)
    try:
        await eventually(lambda: found and found[0].far)
        yield found[0], client
    finally:
        client.close()
        near.close()
        far.close()


def all_of(client: socket.socket) -> bytes:
    found = b""
    while piece := client.recv(65536):
        found += piece
    return found


def test_a_slow_reader_that_speaks_hears_all(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as (splice, client):
            await eventually(splice.near.is_closing)
            assert not splice.ended.done()
            await asyncio.to_thread(client.sendall, b"ping")
            assert await asyncio.to_thread(all_of, client) == MUCH
            client.close()
            await asyncio.wait_for(splice.ended, 10)

    uvloop.run(scenario())
