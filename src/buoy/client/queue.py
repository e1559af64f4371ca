"""The work queue of a controller: keys to reconcile, each at most once at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..api.status import StatusError
from .http import ConnectionFailed

log = logging.getLogger(__name__)

_RETRYING = "%s: %s: %s; retrying"

FIRST_RETRY = 0.005
LONGEST_RETRY = 1000.0
LONGEST_OUTAGE_RETRY = 2.0


class WorkQueue:
    """Keys waiting to be reconciled.

    A key that waits already is not queued twice; one added while it is being worked on is queued again when
    that work ends. Failures back off by key: 5 ms doubling to 1000 s, as client-go's default rate limiter.
    """

    def __init__(self) -> None:
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._working: set[str] = set()
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """How many keys wait, those with a timer not counted."""
        return len(self._waiting)

    def add(self, key: str) -> None:
        if key not in self._waiting:
            self._waiting.add(key)
            if key not in self._working:
                self._ready.put_nowait(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Add *key* when *seconds* have passed, or earlier if an earlier call has said so."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        timer = self._timers.get(key)
        if timer:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._due, key)

    def _due(self, key: str) -> None:
        del self._timers[key]
        self.add(key)

    def retry(self, key: str, *, longest: float = LONGEST_RETRY) -> None:
        """Add *key* after its back-off, which grows with each call until `forget`, but not over *longest*."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.add_after(key, min(FIRST_RETRY * 2 ** min(failures, 30), longest))

    def forget(self, key: str) -> None:
        """The key's work has succeeded: its next failure backs off from the start again."""
        self._failures.pop(key, None)

    def failures(self, key: str) -> int:
        """How often *key* has been retried since it was last forgotten."""
        return self._failures.get(key, 0)

    async def run(
        self, reconcile: Callable[[str], Awaitable[None]], *, workers: int = 1, name: str = "queue"
    ) -> None:
        """Reconcile keys for ever, *workers* at a time.

        What the API server or the system refuses (StatusError, OSError) is logged and retried, after two
        seconds at most if the server cannot be reached. Any other exception is a mistake of the program and
        ends this.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(reconcile, name))
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    async def _work(self, reconcile: Callable[[str], Awaitable[None]], name: str) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._working.add(key)
            try:
                await reconcile(key)
            except ConnectionFailed as error:
                # No fault of the key's: it must not have to wait long when the server is there again.
                log.log(logging.DEBUG if self.failures(key) else logging.WARNING, _RETRYING, name, key, error)
                self.retry(key, longest=LONGEST_OUTAGE_RETRY)
            except (StatusError, OSError) as error:
                routine = isinstance(error, StatusError) and error.code == 409
                log.log(logging.DEBUG if routine else logging.WARNING, _RETRYING, name, key, error)
                self.retry(key)
            else:
                self.forget(key)
            finally:
                self._working.discard(key)
                if key in self._waiting:
                    self._ready.put_nowait(key)
