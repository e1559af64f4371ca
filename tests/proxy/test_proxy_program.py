"""Programs that the proxy runs: what goes in, what comes out, and that none is left behind."""

from __future__ import annotations

import asyncio
import os

import pytest

from buoy.proxy.iptables.program import Ended, run

MUCH = b"0123456789abcdef" * (1 << 16)


async def test_what_a_program_says_comes_back_whole() -> None:
    pids: list[int] = []
    assert await run(("cat",), MUCH, pids.append) == Ended(0, MUCH, b"")
    assert len(pids) == 1
    script = "echo out; echo err >&2; exit 3"
    assert await run(("sh", "-c", script), MUCH, pids.append) == Ended(3, b"out\n", b"err\n")
    assert await run(("sh", "-c", "kill -9 $$"), b"", pids.append) == Ended(-9, b"", b"")
    with pytest.raises(FileNotFoundError):
        await run(("/nowhere/iptables",), b"", pids.append)


async def test_a_program_that_nobody_waits_for_is_ended() -> None:
    started: asyncio.Queue[int] = asyncio.Queue()
    task = asyncio.create_task(run(("sleep", "60"), b"", started.put_nowait))
    pid = await started.get()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
