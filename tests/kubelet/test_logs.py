"""Logs in CRI's format: parsing, choosing, tailing, following over a rotation."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.kubelet.logs import (
    Formatter,
    Line,
    LogOptions,
    needs_rotation,
    parse_line,
    parse_nanoseconds,
    read,
    rotate,
    tail_offset,
    termination_message,
)

SECOND = 10**9


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            b"1970-01-01T00:00:01.5Z stdout F hello",
            Line(SECOND * 3 // 2, b"1970-01-01T00:00:01.5Z", b"stdout", False, b"hello"),
        ),
        (
            b"1970-01-01T01:00:01+01:00 stderr P a b ",
            Line(SECOND, b"1970-01-01T01:00:01+01:00", b"stderr", True, b"a b "),
        ),
        (b"1970-01-01T00:00:01Z stdout F ", Line(SECOND, b"1970-01-01T00:00:01Z", b"stdout", False, b"")),
        (b"1970-01-01T00:00:01Z stdout F", Line(SECOND, b"1970-01-01T00:00:01Z", b"stdout", False, b"")),
        (b"1970-01-01T00:00:01Z other F x", None),
        (b"1970-13-01T00:00:01Z stdout F x", None),
        (b"", None),
        (b"no log at all", None),
    ],
)
def test_lines(raw: bytes, expected: Line | None) -> None:
    assert parse_line(raw) == expected


def test_times() -> None:
    assert parse_nanoseconds(b"2023-11-14T22:13:20.123456789Z") == 1_700_000_000_123_456_789
    assert parse_nanoseconds(b"2023-11-14T22:13:20") is None


def entry(second: int, text: str, tag: str = "F", stream: str = "stdout") -> bytes:
    return f"1970-01-01T00:00:{second:02d}Z {stream} {tag} {text}\n".encode()


LOG = entry(1, "one") + entry(2, "two-", "P") + entry(3, "and-half") + entry(4, "three", stream="stderr")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (LogOptions(), b"one\ntwo-and-half\nthree\n"),
        (LogOptions(since=4 * SECOND), b"three\n"),
        (LogOptions(limit_bytes=6), b"one\ntw"),
        (LogOptions(stream=b"stderr"), b"three\n"),
        (
            LogOptions(timestamps=True),
            b"1970-01-01T00:00:01.000000000Z one\n1970-01-01T00:00:02.000000000Z two-and-half\n"
            b"1970-01-01T00:00:04.000000000Z three\n",
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_formatting_in_any_pieces(options: LogOptions, expected: bytes, size: int) -> None:
    formatter = Formatter(options)
    assert b"".join(formatter.feed(LOG[i : i + size]) for i in range(0, len(LOG), size)) == expected
    assert formatter.done is (options.limit_bytes is not None)


@given(st.lists(st.tuples(st.text("xyz", max_size=5), st.booleans()), max_size=20), st.integers(0, 25))
def test_a_tail_is_the_last_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[str, bool]], wanted: int
) -> None:
    data = b"".join(entry(1, text, "P" if partial else "F") for text, partial in parts)
    whole = Formatter(LogOptions()).feed(data)
    finished = whole.count(b"\n")
    path = tmp_path_factory.getbasetemp() / "tail.log"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        start = tail_offset(fd, wanted)
    finally:
        os.close(fd)
    shown = Formatter(LogOptions()).feed(data[start:])
    expected = b"".join(whole.splitlines(keepends=True)[max(0, finished - wanted) :]) if wanted else b""
    assert shown == expected


async def collect(path: Path, options: LogOptions, ended: asyncio.Event, got: list[bytes]) -> None:
    async for piece in read(str(path), options, ended.wait()):
        got.append(piece)


async def until(got: list[bytes], text: bytes) -> None:
    async with asyncio.timeout(5):
        while text not in b"".join(got):
            await asyncio.sleep(0.005)


async def test_following_over_a_rotation_to_the_end(tmp_path: Path) -> None:
    path, ended, got = tmp_path / "0.log", asyncio.Event(), list[bytes]()
    path.write_bytes(LOG)
    following = asyncio.create_task(collect(path, LogOptions(follow=True, tail_lines=1), ended, got))
    await until(got, b"three\n")
    old = path.open("ab")
    old.write(entry(5, "five"))
    old.flush()
    await until(got, b"five\n")
    rotate(str(path), 3)
    old.write(entry(6, "six"))
    old.close()
    path.write_bytes(entry(7, "seven"))
    await until(got, b"seven\n")
    with path.open("ab") as new:
        new.write(entry(8, "eight"))
    ended.set()
    await asyncio.wait_for(following, 5)
    assert b"".join(got) == b"three\nfive\nsix\nseven\neight\n"


async def test_reading_without_following_ends(tmp_path: Path) -> None:
    path, got = tmp_path / "0.log", list[bytes]()
    path.write_bytes(LOG)
    await asyncio.wait_for(collect(path, LogOptions(tail_lines=2), asyncio.Event(), got), 5)
    assert b"".join(got) == b"two-and-half\nthree\n"
    with pytest.raises(FileNotFoundError):
        await collect(tmp_path / "none", LogOptions(), asyncio.Event(), got)


def test_rotation_keeps_so_many(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    for n in range(4):
        (tmp_path / f"0.log.2020010{n}-000000").touch()
    path.write_bytes(b"x" * 10)
    assert needs_rotation(str(path), 10)
    assert not needs_rotation(str(path), 11)
    assert not needs_rotation(str(tmp_path / "none"), 0)
    rotate(str(path), 3)
    assert len(list(tmp_path.iterdir())) == 2
    assert not path.exists()


def test_last_words(tmp_path: Path) -> None:
    words, log = tmp_path / "words", tmp_path / "log"
    words.write_bytes(b"bye" * 3000)
    log.write_bytes(b"".join(entry(1, f"line {n}") for n in range(200)))
    assert termination_message(str(words), str(log)) == ("bye" * 3000)[:4096]
    words.write_bytes(b"")
    assert termination_message(str(words), "") == ""
    fallen_back = termination_message(str(words), str(log))
    assert fallen_back.splitlines() == [f"line {n}" for n in range(120, 200)]
    assert termination_message(str(tmp_path / "none"), str(tmp_path / "none")) == ""
