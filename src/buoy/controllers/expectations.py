"""What a controller has written and its cache has not shown yet.

A controller that creates objects under generated names must not decide again before it has seen them: it
would create them twice. So it counts what it is about to create and to delete, and waits until the cache
has caught up. Where a creation got no answer, counting is no use: then what the server has must be compared
with what the cache shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

TIMEOUT = 300.0
"""Seconds after which a change that never showed is given up, as in Kubernetes."""


@dataclass(slots=True)
class _Pending:
    since: float
    creations: int = 0
    deletions: set[str] = field(default_factory=set)
    in_doubt: bool = False


class Expectations:
    """By key of the owner: creations by number (their uids aren't known before), deletions by uid."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pending: dict[str, _Pending] = {}

    def expect_creations(self, key: str, count: int) -> None:
        """To be called before the first of them is asked for."""
        if count:
            pending = self._pending.setdefault(key, _Pending(self._clock()))
            pending.creations += count
            pending.since = self._clock()

    def expect_deletions(self, key: str, uids: Iterable[str]) -> None:
        if uids := set(uids):
            pending = self._pending.setdefault(key, _Pending(self._clock()))
            pending.deletions |= uids
            pending.since = self._clock()

    def created(self, key: str, count: int = 1) -> None:
        """The cache shows one more, or it was refused and never will."""
        pending = self._pending.get(key)
        if pending is not None:
            pending.creations = max(0, pending.creations - count)
            self._settle(key, pending)

    def deleted(self, key: str, uid: str) -> None:
        """The cache shows it gone or on its way out, or its deletion was refused."""
        pending = self._pending.get(key)
        if pending is not None:
            pending.deletions.discard(uid)
            self._settle(key, pending)

    def doubt(self, key: str) -> None:
        """A creation got no answer: it may have been done or not. `forget` ends the doubt."""
        self._pending.setdefault(key, _Pending(self._clock())).in_doubt = True

    def in_doubt(self, key: str) -> bool:
        pending = self._pending.get(key)
        return pending is not None and pending.in_doubt

    def forget(self, key: str) -> None:
        self._pending.pop(key, None)

    def satisfied(self, key: str) -> bool:
        pending = self._pending.get(key)
        if pending is None:
            return True
        if self._clock() - pending.since > TIMEOUT:
            del self._pending[key]
            return True
        return False

    def _settle(self, key: str, pending: _Pending) -> None:
        if not pending.creations and not pending.deletions and not pending.in_doubt:
            del self._pending[key]
