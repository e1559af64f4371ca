"""What is known without asking the disk: current records, recent history, and who watches what."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from .interface import Compacted, Event, FutureRevision, Page, Record

_LAST = "\U0010ffff"  # sorts after every character that a key may go on with
_revision = attrgetter("revision")

Revisions = list[int]


class Change(NamedTuple):
    """A write that is on disk: *value* None is a deletion."""

    key: str
    value: bytes | None
    revision: int


class Memory:
    """The newest record of every key, the events since the last compaction, and the watches on them.

    For use from one thread. Lists cost what they return (plus, for an older revision, the events since);
    an event costs one look-up per distinct length of watched prefix and one append per watch that wants it.
    """

    def __init__(self, records: Iterable[Record], compacted: int) -> None:
        """*records* as of revision *compacted*; `apply` what happened since."""
        self._records = {record.key: record for record in records}
        self._keys = sorted(self._records)
        self._events: list[Event] = []
        self._groups: dict[str, set[MemoryWatch]] = {}
        self._lengths: Counter[int] = Counter()
        self.compacted = compacted
        self.revision = max(compacted, 1)
        self.event_bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def events(self) -> Sequence[Event]:
        """The history that is kept, oldest first."""
        return self._events

    def get(self, key: str) -> Record | None:
        return self._records.get(key)

    def list(self, prefix: str, revision: int | None, after: str, limit: int) -> Page:
        if revision is None or revision == self.revision:
            return self._page(self._keys, self._records, self.revision, prefix, after, limit)
        if revision > self.revision:
            raise FutureRevision(self.revision)
        if revision < self.compacted:
            raise Compacted(self.compacted)
        records = dict(self._past(prefix, revision))
        return self._page(sorted(records), records, revision, prefix, after, limit)

    @staticmethod
    def _page(
        keys: Sequence[str], records: dict[str, Record], revision: int, prefix: str, after: str, limit: int
    ) -> Page:
        start = bisect_left(keys, prefix)
        if after >= prefix:
            start = bisect_right(keys, after, lo=start)
        end = bisect_left(keys, prefix + _LAST, lo=start)
        stop = min(end, start + limit) if limit else end
        return Page([records[key] for key in keys[start:stop]], revision, stop < end, end - stop)

    def _past(self, prefix: str, revision: int) -> Iterable[tuple[str, Record]]:
        undone: dict[str, Record | None] = {}
        for event in self._events[bisect_right(self._events, revision, key=_revision) :]:
            if event.key.startswith(prefix):
                undone.setdefault(event.key, event.previous)  # the oldest change tells what was before
        for record in self.list(prefix, None, "", 0).records:
            if record.key not in undone:
                yield record.key, record
        for key, previous in undone.items():
            if previous is not None:
                yield key, previous

    def apply(self, changes: Iterable[Change]) -> None:
        """Make *changes* visible, which must be in order and fit what is there."""
        batches: dict[str, list[Event]] = {}
        for key, value, revision in changes:
            event = self._advance(key, value, revision)
            for length in self._lengths:
                prefix = key[:length]
                if prefix in self._groups:
                    batches.setdefault(prefix, []).append(event)
        for prefix, batch in batches.items():
            for watch in self._groups[prefix]:
                watch.push(batch)

    def _advance(self, key: str, value: bytes | None, revision: int) -> Event:
        previous = self._records.get(key)
        if value is None:
            del self._records[key]
            del self._keys[bisect_left(self._keys, key)]
            event = Event("delete", key, None, revision, previous)
        else:
            self._records[key] = Record(key, value, revision)
            if previous is None:
                insort(self._keys, key)
            event = Event("update" if previous else "create", key, value, revision, previous)
            self.event_bytes += len(value)
        self._events.append(event)
        self.revision = revision
        return event

    def compact(self, revision: int) -> Revisions:
        """Forget the history before *revision*; gives the revisions of the writes that count no more."""
        if revision > self.revision:
            raise FutureRevision(self.revision)
        if revision <= self.compacted:
            return []
        forgotten = self._events[: bisect_right(self._events, revision, key=_revision)]
        del self._events[: len(forgotten)]
        self.compacted = revision
        dead: Revisions = []
        for event in forgotten:
            if event.previous is not None:
                dead.append(event.previous.revision)
            if event.value is None:
                dead.append(event.revision)
            else:
                self.event_bytes -= len(event.value)
        for watch in [watch for group in self._groups.values() for watch in group]:
            watch.forget(revision)
        return dead

    def watch(self, prefix: str, revision: int) -> MemoryWatch:
        if revision > self.revision:
            raise FutureRevision(self.revision)
        if revision < self.compacted:
            raise Compacted(self.compacted)
        watch = MemoryWatch(self, prefix, revision)
        missed = self._events[bisect_right(self._events, revision, key=_revision) :]
        if batch := [event for event in missed if event.key.startswith(prefix)]:
            watch.push(batch)
        if prefix not in self._groups:
            self._groups[prefix] = set()
            self._lengths[len(prefix)] += 1
        self._groups[prefix].add(watch)
        return watch

    def unwatch(self, watch: MemoryWatch) -> None:
        group = self._groups.get(watch.prefix)
        if group is None or watch not in group:
            return
        group.remove(watch)
        if not group:
            del self._groups[watch.prefix]
            self._lengths[len(watch.prefix)] -= 1
            if not self._lengths[len(watch.prefix)]:
                del self._lengths[len(watch.prefix)]

    def close(self) -> None:
        """End all watches."""
        for watch in [watch for group in self._groups.values() for watch in group]:
            watch.end()


class MemoryWatch:
    """`Watch` on a `Memory`. What its reader has not fetched yet is kept no longer than the history is."""

    def __init__(self, memory: Memory, prefix: str, revision: int) -> None:
        self.prefix = prefix
        self._memory = memory
        self._given = revision
        self._batches: deque[list[Event]] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._ended = False
        self._behind = False

    @property
    def revision(self) -> int:
        if self._batches or self._behind or self._ended:
            return self._given
        return self._memory.revision

    def push(self, batch: list[Event]) -> None:
        """More events for the reader. The list is shared by all watches of a prefix."""
        self._batches.append(batch)
        self._wake()

    def forget(self, revision: int) -> None:
        """History before *revision* is gone: so is a reader that still waits for some of it."""
        if self._batches and self._batches[0][0].revision <= revision:
            self._batches.clear()
            self._behind = True
            self.end()

    def end(self) -> None:
        self._ended = True
        self._memory.unwatch(self)
        self._wake()

    def _wake(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)

    def __aiter__(self) -> MemoryWatch:
        return self

    async def __anext__(self) -> Sequence[Event]:
        while not self._batches:
            if self._behind:
                raise Compacted(self._memory.compacted)
            if self._ended:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        batch = self._batches.popleft()
        self._given = batch[-1].revision
        return batch

    async def aclose(self) -> None:
        self._batches.clear()
        self.end()
