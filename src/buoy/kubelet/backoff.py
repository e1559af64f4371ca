"""Exponential back-off by key, as the kubelet applies it to crashing containers and failing image pulls."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Entry:
    delay: float
    since: float


class BackOff:
    """Delays of *first* seconds, doubling to *longest*; forgotten after twice *longest* without failure.

    All times are seconds of one clock, which the caller reads.
    """

    def __init__(self, first: float = 10.0, longest: float = 300.0) -> None:
        self._first = first
        self._longest = longest
        self._entries: dict[Hashable, _Entry] = {}

    def delay(self, key: Hashable) -> float:
        """The delay that holds now, 0 before the first failure."""
        entry = self._entries.get(key)
        return entry.delay if entry else 0.0

    def until(self, key: Hashable, failed_at: float) -> float:
        """When *key*, which failed at *failed_at*, may be tried again. In the past: at once."""
        entry = self._entries.get(key)
        if entry is None or self._expired(entry, failed_at):
            return 0.0
        return failed_at + entry.delay

    def next(self, key: Hashable, failed_at: float, now: float) -> None:
        """Note that *key*, which failed at *failed_at*, is tried again *now*: the next delay is longer."""
        entry = self._entries.get(key)
        if entry is None or self._expired(entry, failed_at):
            self._entries[key] = _Entry(self._first, now)
        else:
            entry.delay = min(2 * entry.delay, self._longest)
            entry.since = now

    def forget(self, key: Hashable) -> None:
        self._entries.pop(key, None)

    def _expired(self, entry: _Entry, failed_at: float) -> bool:
        return failed_at - entry.since > 2 * self._longest
