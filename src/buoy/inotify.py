"""Waiting for changes of files, woken by the kernel (inotify(7))."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Iterable
from types import TracebackType
from typing import Self

_IN_MODIFY = 0x2
_IN_CLOSE_WRITE = 0x8
_IN_MOVED_FROM = 0x40
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_DELETE = 0x200
_IN_DELETE_SELF = 0x400
_IN_MOVE_SELF = 0x800

_MOST_LINKS = 40
"""As many as the kernel follows."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Watch:
    """Tells when any of *paths* has an event of *mask*. OSError if one cannot be watched."""

    def __init__(self, paths: Iterable[str], mask: int) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"inotify_init1: {os.strerror(error)}")
        for path in paths:
            if _libc.inotify_add_watch(self._fd, os.fsencode(path), mask) < 0:
                error = ctypes.get_errno()
                os.close(self._fd)
                raise OSError(error, os.strerror(error), path)
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._drain)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._fd, 65536):
                self._changed.set()

    async def changed(self) -> None:
        """Wait for a change since the last call."""
        await self._changed.wait()
        self._changed.clear()


class DirectoryWatch(_Watch):
    """Tells when a file in *path* is written, made or renamed. OSError if *path* is no directory."""

    def __init__(self, path: str) -> None:
        super().__init__((path,), _IN_MODIFY | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE)


class FileWatch(_Watch):
    """Tells, once, when the file at *path* may be another or has been written; it need not exist.

    What there is to watch may then be another, too: make a new one, and read the file after that. OSError if
    it cannot be watched; FileNotFoundError if it went away meanwhile.
    """

    def __init__(self, path: str) -> None:
        renamed = _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE
        super().__init__(_places(path), _IN_CLOSE_WRITE | renamed | _IN_DELETE_SELF | _IN_MOVE_SELF)


def _places(path: str) -> list[str]:
    """The folders of *path* and of each file that it links to, as far as they exist, and the file itself.

    The file may be written by another name, from outside this mount namespace: its folder does not notice.
    """
    path = os.path.abspath(path)
    places = []
    for _ in range(_MOST_LINKS):
        folder = os.path.dirname(path)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        places.append(folder)
        if not os.path.islink(path):
            break
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    return [*places, path] if os.path.exists(path) else places
