"""The sockets: messages in, messages out, over UDP and TCP.

Sources: RFC 7766 (TCP), RFC 1035 section 4.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections.abc import Coroutine, Iterable
from typing import Any

from .address import Address
from .metrics import Metrics
from .resolver import Resolver

log = logging.getLogger(__name__)

_BATCH = 64
_LONGEST_MESSAGE = 4096
_BACKLOG = 512
_RECEIVE_BUFFER = 4 << 20
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_SO_RCVBUFFORCE = 33

_MOST_WAITING = 2000
_MOST_CONNECTIONS = 1000
_MOST_PIPELINED = 64
_IDLE_SECONDS = 10.0


def _open_socket(address: Address, kind: socket.SocketKind) -> socket.socket:
    """A bound socket; the address need not exist yet on this machine. Raises OSError."""
    v6 = ":" in address.host
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    try:
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            with contextlib.suppress(PermissionError):  # then the system's default has to do
                sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from error
    return sock


def open_sockets(addresses: Iterable[Address]) -> tuple[socket.socket, ...]:
    """For each address one socket that takes datagrams and one that listens for connections. Raises OSError.

    With port 0, both have the same free port.
    """
    with contextlib.ExitStack() as failing:
        sockets = []
        for address in addresses:
            datagram = failing.enter_context(_open_socket(address, socket.SOCK_DGRAM))
            bound = Address(*datagram.getsockname()[:2])
            stream = failing.enter_context(_open_socket(bound, socket.SOCK_STREAM))
            stream.listen(_BACKLOG)
            sockets += [datagram, stream]
        failing.pop_all()
        return tuple(sockets)


class Server:
    """Serves *resolver* at *sockets*, as `open_sockets` makes them, and closes them at its end.

    To be used as an asynchronous context manager. What came to the sockets before `start` is answered, too.
    """

    def __init__(self, resolver: Resolver, sockets: Iterable[socket.socket], metrics: Metrics) -> None:
        self._resolver = resolver
        self._sockets = tuple(sockets)
        self._metrics = metrics
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0

    @property
    def bound(self) -> list[Address]:
        """Where it listens; of interest if a port was 0."""
        return [Address(*sock.getsockname()[:2]) for sock in self._datagrams]

    @property
    def _datagrams(self) -> list[socket.socket]:
        return [sock for sock in self._sockets if sock.type == socket.SOCK_DGRAM]

    @property
    def waiting(self) -> int:
        """How many questions and connections are being worked on."""
        return len(self._tasks)

    async def __aenter__(self) -> Server:
        return self

    async def start(self) -> None:
        """Answer from now on."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            if sock.type == socket.SOCK_DGRAM:
                loop.add_reader(sock, self._drain, sock)
            else:
                server = await asyncio.start_server(self._connected, sock=sock, backlog=_BACKLOG)
                self._servers.append(server)

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening; questions that wait for others get no answer."""
        loop = asyncio.get_running_loop()
        for sock in self._datagrams:
            loop.remove_reader(sock)
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drain(self, sock: socket.socket) -> None:
        """Answer what has arrived, but let others have their turn after a while."""
        receive, send = sock.recvfrom, sock.sendto
        ready, generation = self._resolver.ready, self._resolver.generation
        now = time.monotonic()
        for _ in range(_BATCH):
            try:
                data, peer = receive(_LONGEST_MESSAGE)
            except OSError:  # nothing there, mostly
                return
            known = ready.get(data[2:])
            if (
                known is not None
                and known.until > now
                and (known.generation == generation or self._resolver.still_holds(known))
            ):
                known.tally.count += 1
                reply = data[:2] + next(known.replies)
            elif (slow := self._slow(sock, data, peer)) is not None:
                reply = slow
            else:
                continue
            try:
                send(reply, peer)
            except OSError:
                self._metrics.dropped.inc()

    def _slow(self, sock: socket.socket, data: bytes, peer: tuple[Any, ...]) -> bytes | None:
        """The answer that is not ready; None if there is none yet, or never will be."""
        response = self._resolver.respond(data, udp=True)
        if response is None or isinstance(response, bytes):
            if response is None:
                self._metrics.dropped.inc()
            return response
        if len(self._tasks) < _MOST_WAITING:
            self._spawn(self._send_later(sock, response, peer))
        else:
            response.close()
            self._metrics.dropped.inc()
        return None

    async def _send_later(
        self, sock: socket.socket, response: Coroutine[None, None, bytes], peer: tuple[Any, ...]
    ) -> None:
        reply = await response
        try:
            sock.sendto(reply, peer)
        except OSError:
            self._metrics.dropped.inc()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._connections >= _MOST_CONNECTIONS:
            writer.close()
            return
        self._tasks.add(task)
        self._connections += 1
        self._metrics.connections.inc()
        try:
            await self._converse(reader, writer)
        except* (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone, or had nothing to say for too long
        finally:
            self._tasks.discard(task)
            self._connections -= 1
            self._metrics.connections.dec()
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer messages as they come; a slow answer does not hold up those after it."""
        free = asyncio.Semaphore(_MOST_PIPELINED)
        async with asyncio.TaskGroup() as pending:
            while True:
                async with asyncio.timeout(_IDLE_SECONDS):
                    await free.acquire()
                    await writer.drain()
                    try:
                        (length,) = struct.unpack("!H", await reader.readexactly(2))
                    except asyncio.IncompleteReadError:
                        return
                    data = await reader.readexactly(length)
                response = self._resolver.respond(data, udp=False)
                if response is None or isinstance(response, bytes):
                    if response is not None:
                        writer.write(struct.pack("!H", len(response)) + response)
                    free.release()
                else:
                    pending.create_task(_write_later(writer, response, free))


async def _write_later(
    writer: asyncio.StreamWriter, response: Coroutine[None, None, bytes], free: asyncio.Semaphore
) -> None:
    reply = await response
    if not writer.is_closing():
        writer.write(struct.pack("!H", len(reply)) + reply)
    free.release()
