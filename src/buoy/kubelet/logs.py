"""Container logs as the runtime writes them: CRI's format, one file a container, rotated by the kubelet.

A line is ``<RFC 3339 time> <stdout|stderr> <F|P> <text>``; P marks a part of a line that goes on in the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import glob
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from buoy.inotify import DirectoryWatch

_CHUNK = 256 * 1024
_MESSAGE_LIMIT = 4096
_LOG_MESSAGE_LINES = 80
_LOG_MESSAGE_LIMIT = 2048
_TIME = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)


class Line(NamedTuple):
    """One entry of a log. *time* is nanoseconds since the epoch; *partial*: the next entry goes on."""

    time: int
    stamp: bytes
    stream: bytes
    partial: bool
    text: bytes


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What to show. *tail_lines*, *limit_bytes*: None for all. *since*: nanoseconds since the epoch."""

    follow: bool = False
    tail_lines: int | None = None
    since: int = 0
    timestamps: bool = False
    limit_bytes: int | None = None
    stream: bytes = b""


def parse_line(raw: bytes) -> Line | None:
    """None if it is not in CRI's format."""
    stamp, _, rest = raw.partition(b" ")
    stream, _, rest = rest.partition(b" ")
    tags, separator, text = rest.partition(b" ")
    moment = parse_nanoseconds(stamp)
    if moment is None or stream not in (b"stdout", b"stderr") or not tags:
        return None
    if not separator:
        text = b""
    return Line(moment, stamp, stream, tags.split(b":")[0] == b"P", text)


def parse_nanoseconds(stamp: bytes) -> int | None:
    """An RFC 3339 time in nanoseconds since the epoch; None if it is none."""
    found = _TIME.fullmatch(stamp)
    if not found:
        return None
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = found.groups()
    try:
        moment = datetime.datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=datetime.UTC
        )
    except ValueError:
        return None
    seconds = int(moment.timestamp())
    if sign:
        offset = int(zone_hours) * 3600 + int(zone_minutes) * 60
        seconds -= offset if sign == b"+" else -offset
    return seconds * 10**9 + int((fraction or b"").ljust(9, b"0"))


def format_nanoseconds(nanoseconds: int) -> bytes:
    """RFC 3339 with all nine digits, in UTC."""
    seconds, rest = divmod(nanoseconds, 10**9)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z".encode()


class Formatter:
    """Turns raw lines into what a user sees. Keeps count of *limit_bytes*; `done` once it is reached."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._left = options.limit_bytes
        self._fresh = True
        self._rest = b""

    @property
    def done(self) -> bool:
        return self._left == 0

    def feed(self, data: bytes) -> bytes:
        """What *data*, the next piece of the file, adds."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        shown = bytearray()
        for raw in lines:
            line = parse_line(raw)
            if line is None or line.time < self._options.since:
                continue
            if self._options.stream and line.stream != self._options.stream:
                continue
            if self._fresh and self._options.timestamps:
                shown += format_nanoseconds(line.time) + b" "
            shown += line.text
            self._fresh = not line.partial
            if self._fresh:
                shown += b"\n"
        if self._left is not None:
            del shown[self._left :]
            self._left -= len(shown)
        return bytes(shown)


def tail_offset(fd: int, lines: int) -> int:
    """Where the last *lines* whole lines of the log begin; a line in parts is one line."""
    size = os.fstat(fd).st_size
    if lines <= 0:
        return size
    counted = 0
    for offset, raw in _backwards(fd, size):
        entry = parse_line(raw)
        if entry is not None and not entry.partial:
            counted += 1
            if counted > lines:
                return offset + len(raw) + 1
    return 0


def _backwards(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    """The file's whole lines from the last to the first, each with its offset."""
    position = size
    rest = b""
    first = True
    while position > 0:
        step = min(_CHUNK, position)
        position -= step
        block = os.pread(fd, step, position) + rest
        rest, *lines = block.split(b"\n")
        offset = position + len(block)
        for raw in reversed(lines):
            offset -= len(raw)
            if not (first and not raw):  # what stands behind the last newline
                yield offset, raw
            first = False
            offset -= 1
    if rest:
        yield 0, rest


async def read(path: str, options: LogOptions, ended: Awaitable[None]) -> AsyncGenerator[bytes, None]:
    """The log at *path* in pieces; with follow, on and on until *ended* is done and all has been read.

    Raises FileNotFoundError. Goes on in the new file when the log is rotated.
    """
    over = asyncio.ensure_future(ended)
    formatter = Formatter(options)
    fd = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        position = 0
        if options.tail_lines is not None:
            position = await asyncio.to_thread(tail_offset, fd, options.tail_lines)
        with contextlib.ExitStack() as stack:
            watch = stack.enter_context(DirectoryWatch(os.path.dirname(path))) if options.follow else None
            while not formatter.done:
                last = over.done()
                data = await asyncio.to_thread(os.pread, fd, _CHUNK, position)
                if data:
                    position += len(data)
                    shown = formatter.feed(data)
                    if shown:
                        yield shown
                    continue
                following = await asyncio.to_thread(_successor, path, fd)
                if following is not None:
                    os.close(fd)
                    fd, position = following, 0
                    continue
                if watch is None or last:
                    return
                changed = asyncio.ensure_future(watch.changed())
                try:
                    await asyncio.wait((changed, over), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
    finally:
        over.cancel()
        os.close(fd)


def _successor(path: str, fd: int) -> int | None:
    """The file that took the place of *fd* at *path*, if one did."""
    try:
        following = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if os.path.samestat(os.fstat(fd), os.fstat(following)):
        os.close(following)
        return None
    return following


def termination_message(path: str, log_path: str) -> str:
    """What a container left at *path* as its last words; if nothing, the end of its log, if given."""
    with contextlib.suppress(OSError):
        if path and os.path.getsize(path):
            with open(path, "rb") as file:
                return file.read(_MESSAGE_LIMIT).decode(errors="replace")
    if not log_path:
        return ""
    try:
        fd = os.open(log_path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        start = tail_offset(fd, _LOG_MESSAGE_LINES)
        shown = Formatter(LogOptions()).feed(os.pread(fd, os.fstat(fd).st_size - start, start))
    finally:
        os.close(fd)
    return shown[-_LOG_MESSAGE_LIMIT:].decode(errors="replace")


def needs_rotation(path: str, max_size: int) -> bool:
    try:
        return os.path.getsize(path) >= max_size
    except OSError:
        return False


def rotate(path: str, max_files: int) -> None:
    """Rename the log away, keeping *max_files* in all. The runtime is then to open *path* anew."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    os.rename(path, f"{path}.{stamp}")
    older = sorted(glob.glob(f"{glob.escape(path)}.*"))
    for file in older[: max(0, len(older) - (max_files - 1))]:
        os.unlink(file)
