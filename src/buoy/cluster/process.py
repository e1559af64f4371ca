"""A component in a process of its own: logging, event loop, end by signal."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import uvloop

log = logging.getLogger(__name__)


def set_up_logging() -> None:
    """Log to standard error, wherever that goes: forks inherit this, each with its own."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        force=True,
    )


def run_component(*mains: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run coroutines together until SIGTERM or SIGINT; if one ends, all do."""
    uvloop.run(_until_signal(mains))


async def _until_signal(mains: tuple[Callable[[], Awaitable[None]], ...]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.ensure_future(main()) for main in mains]
    waiter = asyncio.ensure_future(stop.wait())
    done, pending = await asyncio.wait([*tasks, waiter], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
