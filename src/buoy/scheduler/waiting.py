"""Pods that wait for a node: some in line, some until something changes."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import dataclass

FIRST_BACKOFF = 0.05
LONGEST_BACKOFF = 10.0
GIVE_ANOTHER_TRY = 300.0
"""Seconds after which a Pod is tried again though nothing seems to have changed, as in Kubernetes."""


@dataclass(slots=True)
class _Entry:
    priority: int
    attempts: int = 0
    not_before: float = 0.0
    unschedulable: bool = False
    timer: asyncio.TimerHandle | None = None


class WaitingPods:
    """By key: the Pods of the highest priority first, of one priority in the order of arrival."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._line: list[tuple[int, int, str]] = []
        self._in_line: set[str] = set()
        self._order = itertools.count()
        self._filled = asyncio.Event()

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def add(self, key: str, priority: int = 0) -> None:
        """A Pod that is new, or that has changed itself: it is next in its class."""
        entry = self._entries.setdefault(key, _Entry(priority))
        entry.priority = priority
        self._line_up(key, entry)

    def remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None and entry.timer is not None:
            entry.timer.cancel()
        self._in_line.discard(key)

    async def next(self) -> str:
        """The next Pod's key, when there is one. It stays known until `remove`."""
        while True:
            while self._line:
                _, _, key = heapq.heappop(self._line)
                if key in self._in_line:
                    self._in_line.discard(key)
                    self._entries[key].attempts += 1
                    return key
            self._filled.clear()
            await self._filled.wait()

    def unschedulable(self, key: str) -> None:
        """No node will do as things are: wait for `cluster_changed`."""
        self._put_off(key, unschedulable=True)

    def failed(self, key: str) -> None:
        """Something went wrong: try again after the back-off."""
        self._put_off(key, unschedulable=False)

    def cluster_changed(self) -> None:
        """What could not be placed may find a place now; not before its back-off has passed."""
        for key, entry in self._entries.items():
            if entry.unschedulable:
                entry.unschedulable = False
                self._wake_at(key, entry, entry.not_before)

    def _put_off(self, key: str, *, unschedulable: bool) -> None:
        entry = self._entries.get(key)
        if entry is None or key in self._in_line:
            return
        backoff = min(FIRST_BACKOFF * 2 ** min(entry.attempts - 1, 30), LONGEST_BACKOFF)
        entry.not_before = asyncio.get_running_loop().time() + backoff
        entry.unschedulable = unschedulable
        self._wake_at(key, entry, entry.not_before + (GIVE_ANOTHER_TRY if unschedulable else 0))

    def _wake_at(self, key: str, entry: _Entry, when: float) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
        loop = asyncio.get_running_loop()
        if when <= loop.time():
            self._line_up(key, entry)
        else:
            entry.timer = loop.call_at(when, self._line_up, key, entry)

    def _line_up(self, key: str, entry: _Entry) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        entry.unschedulable = False
        if key not in self._in_line:
            self._in_line.add(key)
            heapq.heappush(self._line, (-entry.priority, next(self._order), key))
            self._filled.set()
