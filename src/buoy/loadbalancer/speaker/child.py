"""The wire process as the speaker sees it: started, started again if it ends, told the latest orders."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from . import orders
from .orders import Orders, Report

log = logging.getLogger(__name__)

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 10.0
_FAREWELL_SECONDS = 2.0
_LONGEST_LINE = 1 << 24


class Child:
    """*reported* is called with each report, and with an empty one if the process has ended.

    It is started with the first orders.
    """

    def __init__(self, node: str, port: int, reported: Callable[[Report], None]) -> None:
        self._command = (sys.executable, "-m", "buoy.loadbalancer.speaker.wire", node, str(port))
        self._reported = reported
        self._key: Path | None = None
        self._orders: Orders | None = None
        self._changed = asyncio.Event()
        self._stdin: asyncio.StreamWriter | None = None

    def start(self, key: Path) -> None:
        """Have it run, with the key in this file; again, if it runs with another."""
        self._key = key
        self._changed.set()
        if self._stdin:
            self._stdin.close()

    def order(self, new: Orders) -> None:
        if new != self._orders:
            self._orders = new
            self._changed.set()

    async def run(self) -> None:
        """Go on for ever. Its end is announced to the other speakers."""
        delay = 0.0
        loop = asyncio.get_running_loop()
        while True:
            while self._key is None or self._orders is None:
                await self._changed.wait()
                self._changed.clear()
            started = loop.time()
            status = await self._live(self._key)
            self._reported(Report())
            log.error("the wire process has ended with status %s: nothing is announced on the LAN", status)
            delay = (
                0.0
                if loop.time() - started > _LONGEST_DELAY
                else min(max(2 * delay, _FIRST_DELAY), _LONGEST_DELAY)
            )
            await asyncio.sleep(delay)

    async def _live(self, key: Path) -> int | None:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            str(key),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
        assert process.stdin
        assert process.stdout
        self._stdin = process.stdin
        telling = asyncio.create_task(self._tell(process.stdin))
        try:
            async for line in process.stdout:
                self._reported(orders.decode_report(line))
        except msgspec.DecodeError as error:
            log.error("the wire process says what makes no sense: %s", error)
        finally:
            self._stdin = None
            telling.cancel()
            process.stdin.close()
            try:
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        return process.returncode

    async def _tell(self, stdin: asyncio.StreamWriter) -> None:
        try:
            while True:
                self._changed.clear()
                stdin.write(orders.encode(self._orders) + b"\n")
                await stdin.drain()
                await self._changed.wait()
        except ConnectionError:
            return  # it has ended, as its output says too
