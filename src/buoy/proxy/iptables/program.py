"""Runs a program on an event loop.

The loop's own way is fork(2), which costs a process of our size milliseconds in which it does nothing else;
`subprocess` uses vfork(2). Input and output are files in memory: nobody has to pump them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program left behind. *code* is negative for a signal."""

    code: int
    output: bytes
    errors: bytes


async def run(command: Sequence[str], input: bytes, started: Callable[[int], object]) -> Ended:
    """Run *command* to its end; *started* is told its process id. OSError if that cannot be done."""
    with _memory(input) as source, _memory() as output, _memory() as errors:
        process = subprocess.Popen(command, stdin=source, stdout=output, stderr=errors)  # noqa: ASYNC220
        try:
            started(process.pid)
            await _ended(process.pid)
        finally:
            process.kill()  # it runs only if nobody waits for it any more
            code = process.wait()
        return Ended(code, _content(output), _content(errors))


async def _ended(pid: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _memory(content: bytes = b"") -> BinaryIO:
    file = open(os.memfd_create("buoy-proxy"), "w+b")  # noqa: SIM115  # the caller's to close
    file.write(content)
    file.seek(0)
    return file


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()
