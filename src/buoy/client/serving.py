"""Serving what a component tells of itself: its health, its metrics."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

log = logging.getLogger(__name__)

_RETRY_SECONDS = 5.0


async def serve(application: web.Application, bind: str, purpose: str) -> None:
    """Serve at *bind*, ``host:port``, for ever; while the address is taken, say so and try again."""
    host, _, port = bind.rpartition(":")
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    complained = False
    try:
        while True:
            try:
                await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
                break
            except OSError as error:
                if not complained:
                    log.error("cannot serve %s at %s: %s; still trying", purpose, bind, error.strerror)
                complained = True
            await asyncio.sleep(_RETRY_SECONDS)
        await asyncio.get_running_loop().create_future()
    finally:
        await runner.cleanup()
