"""The interfaces of this network namespace, now and whenever they change."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterable

import msgspec

from .interfaces import Interface, usable

_RTMGRP_LINK = 1
_TOGETHER_SECONDS = 0.05


async def follow(excluded: Iterable[str]) -> AsyncIterator[tuple[Interface, ...]]:
    """The `usable` interfaces, first as they are, then after each change. Raises OSError."""
    patterns = tuple(excluded)
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    ) as sock:
        sock.bind((0, _RTMGRP_LINK))
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        loop.add_reader(sock, changed.set)
        try:
            last: tuple[Interface, ...] | None = None
            while True:
                changed.clear()
                _drain(sock)
                found = usable(await _links(), patterns)
                if found != last:
                    last = found
                    yield found
                await changed.wait()
                await asyncio.sleep(_TOGETHER_SECONDS)  # a Pod that starts makes several changes
        finally:
            loop.remove_reader(sock)


def _drain(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            try:
                sock.recv(65536)
            except OSError as error:
                if isinstance(error, BlockingIOError):
                    raise
                # some were lost; that something changed is all there is to know


async def _links() -> list[dict[str, object]]:
    process = await asyncio.create_subprocess_exec(
        "ip", "-json", "link", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    if process.returncode:
        raise OSError(f"ip link: {errors.decode(errors='replace').strip()}")
    links: list[dict[str, object]] = msgspec.json.decode(out or b"[]")
    return [link for link in links if link]
