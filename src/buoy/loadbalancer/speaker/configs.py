"""Where the speaker has its configuration from: the API server, in all forms, read when one changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from buoy.client import Client

from ..config import NOTHING, read
from ..following import Followed
from ..model import Config

log = logging.getLogger(__name__)


class FollowedConfigs:
    """The configuration of *namespace*. While a form of it is at fault, its last good state holds."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._changed = asyncio.Event()
        self._followed = Followed(client, namespace, self._changed.set)

    async def run(self, changed: Callable[[Config], None]) -> None:
        """Call *changed* with each configuration, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._followed.run())
            await self._followed.synced()
            self._changed.set()
            reading = NOTHING
            while True:
                await self._changed.wait()
                self._changed.clear()
                before, reading = reading, read(self._followed.sources(), reading)
                for problem in set(reading.problems) - set(before.problems):
                    log.error("configuration: %s", problem)
                if before is NOTHING or reading.config != before.config:
                    changed(reading.config)
