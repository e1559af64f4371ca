"""The store on SQLite: one file, one thread that writes, everything else from memory.

The file is a log: a row for each write. Appending is all that a write costs there, so that many waiting
writes become one statement, one transaction and one fsync. Compaction deletes the rows that no longer count.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, Self, TypeVar

import msgspec

from .interface import KeyExists, KeyNotFound, Page, Record, RevisionConflict, StorageFailed
from .memory import Change, Memory, MemoryWatch

log = logging.getLogger(__name__)

COMPACTION_SECONDS = 300.0
MOST_EVENTS = 20_000
MOST_EVENT_BYTES = 32 << 20

_ROWS = 256  # in one statement, at most: a millisecond or two of work
_SECONDS_FOR_LOCK = 10.0
_CHECKPOINT_PAGES = 4096

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (revision INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB);
CREATE TABLE IF NOT EXISTS history (compacted INTEGER NOT NULL);
INSERT INTO history SELECT 0 WHERE NOT EXISTS (SELECT * FROM history);
"""
_READ = "SELECT key, value, revision FROM log WHERE revision > ? AND revision <= ? ORDER BY revision"
# Many rows by one step of one statement: between two steps the thread would have to get the interpreter's
# lock back from a busy event loop, which can take 5 ms. ?1 is [[revision, key, offset, length], ...] into ?2.
_APPEND = """
INSERT INTO log (revision, key, value)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),
       substr(?2, json_extract(value, '$[2]'), json_extract(value, '$[3]'))
FROM json_each(?1)
"""
_REMOVE = "DELETE FROM log WHERE revision IN (SELECT value FROM json_each(?))"


class _Write:
    """A write on its way to the disk. Those of one *generation* fail together."""

    __slots__ = ("change", "done", "generation")

    def __init__(self, change: Change, generation: int, done: asyncio.Future[None]) -> None:
        self.change = change
        self.generation = generation
        self.done = done


class _Compaction(NamedTuple):
    """History up to *revision* is of no use any more, nor are the rows *dead*."""

    revision: int
    dead: list[int]
    done: asyncio.Future[None]


class _Stop:
    """The last job of the writer."""


class _Disk:
    """The file. SQLite's and the system's errors come out as they are."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=_SECONDS_FOR_LOCK
        )
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second writer would not see our memory
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        except sqlite3.Error:
            connection.close()
            raise
        directory = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)  # or a power cut could take a new file's name with it
        finally:
            os.close(directory)
        return connection

    def load(self) -> tuple[Memory, list[int]]:
        """What the file holds, and the rows in it that a compaction has left over."""
        (compacted,) = self._connection.execute("SELECT compacted FROM history").fetchone()
        records: dict[str, Record] = {}
        dead: list[int] = []
        for key, value, revision in self._connection.execute(_READ, (0, compacted)):
            if key in records:
                dead.append(records[key].revision)
            if value is None:
                dead.append(revision)
                records.pop(key, None)
            else:
                records[key] = Record(key, value, revision)
        memory = Memory(records.values(), compacted)
        memory.apply(Change(*row) for row in self._connection.execute(_READ, (compacted, 2**63 - 1)))
        return memory, dead

    def append(self, changes: Sequence[Change]) -> None:
        """Put *changes* on the disk, all or none."""
        rows: list[tuple[int, str, int, int | None]] = []
        values = [b"."]  # SQLite takes nothing at all for NULL, which is a deletion
        offset = 2
        for key, value, revision in changes:
            if value is None:
                rows.append((revision, key, offset, None))
            else:
                rows.append((revision, key, offset, len(value)))
                values.append(value)
                offset += len(value)
        self._connection.execute(_APPEND, (msgspec.json.encode(rows).decode(), b"".join(values)))

    def compact(self, revision: int) -> None:
        self._connection.execute("UPDATE history SET compacted = ?", (revision,))

    def remove(self, revisions: Sequence[int]) -> None:
        self._connection.execute(_REMOVE, (msgspec.json.encode(revisions).decode(),))

    def recover(self, revision: int) -> None:
        """After an error: open the file anew, and undo what of the failed writes may have reached it."""
        self._connection.close()
        self._connection = self._open()
        self._connection.execute("DELETE FROM log WHERE revision > ?", (revision,))

    def close(self) -> None:
        self._connection.close()


_Job = TypeVar("_Job", _Write, _Compaction)
_Report = Callable[[list[_Job], StorageFailed | None], None]


class _Listener(Protocol):
    """Whom the writer tells, in the event loop."""

    def written(self, writes: list[_Write], error: StorageFailed | None, /) -> None: ...
    def compacted(self, compactions: list[_Compaction], error: StorageFailed | None, /) -> None: ...
    def ended(self) -> None: ...


class _Writer:
    """The thread that owns the file once it is loaded: takes jobs, reports the outcome of each batch."""

    def __init__(self, disk: _Disk, memory: Memory, dead: list[int], listener: _Listener) -> None:
        self.jobs: queue.SimpleQueue[_Write | _Compaction | _Stop] = queue.SimpleQueue()
        self._disk = disk
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._written = memory.revision
        self._compacted = self._compacted_on_disk = memory.compacted
        self._dead = dead
        self._healthy = True
        self._failed_generation = -1
        threading.Thread(target=self._run, name="store-writer", daemon=True).start()

    def _run(self) -> None:
        try:
            while self._serve():
                pass
        finally:
            self._disk.close()
            self._loop.call_soon_threadsafe(self._listener.ended)

    def _serve(self) -> bool:
        """One batch of jobs; False when it was the last."""
        writes: list[_Write] = []
        compactions: list[_Compaction] = []
        stop = False
        for job in self._next():
            if isinstance(job, _Write):
                # What was decided on top of a write that then failed has failed with it.
                if job.generation > self._failed_generation:
                    writes.append(job)
            elif isinstance(job, _Compaction):
                compactions.append(job)
            else:
                stop = True
        if writes and not self._attempt(self._append, writes, self._listener.written):
            self._failed_generation = writes[-1].generation
        self._attempt(self._clean, compactions, self._listener.compacted)
        return not stop

    def _next(self) -> Iterator[_Write | _Compaction | _Stop]:
        """The jobs that wait; if none does, the next one to come, unless there are old rows to remove."""
        try:
            yield self.jobs.get(block=not (self._dead and self._healthy))
            for _ in range(_ROWS - 1):
                yield self.jobs.get_nowait()
        except queue.Empty:
            pass

    def _attempt(self, act: Callable[[list[_Job]], None], jobs: list[_Job], report: _Report[_Job]) -> bool:
        failure: StorageFailed | None = None
        try:
            if not self._healthy:
                self._disk.recover(self._written)
                self._healthy = True
            act(jobs)
        except (sqlite3.Error, OSError) as error:
            self._healthy = False
            failure = StorageFailed(f"cannot write to {self._disk.path}: {error}")
            failure.__cause__ = error
            log.error("%s", failure)
        if jobs:
            self._loop.call_soon_threadsafe(report, jobs, failure)
        return failure is None

    def _append(self, writes: list[_Write]) -> None:
        self._disk.append([write.change for write in writes])
        self._written = writes[-1].change.revision

    def _clean(self, compactions: list[_Compaction]) -> None:
        for compaction in compactions:
            self._compacted = max(self._compacted, compaction.revision)
            self._dead += compaction.dead
        if self._compacted_on_disk < self._compacted:  # first, or the missing rows would look like a fault
            self._disk.compact(self._compacted)
            self._compacted_on_disk = self._compacted
        if chunk := self._dead[-_ROWS:]:
            self._disk.remove(chunk)
            del self._dead[-_ROWS:]


class SqliteStore:
    """`Store` in the SQLite file at a path. To be opened, used and closed in one event loop.

    Every five minutes history is cut to the last five minutes, and earlier if it grows beyond 20,000 events
    or 32 MiB.
    """

    def __init__(self, disk: _Disk, memory: Memory, dead: list[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._memory = memory
        self._assigned = memory.revision
        self._generation = 0
        self._pending: dict[str, _Write] = {}  # the newest write of each key that has any on its way
        self._unfinished: set[_Write] = set()
        self._closing = False
        self._closed = asyncio.Event()
        self._writer = _Writer(disk, memory, dead, self)
        self._mark = memory.revision
        self._timer = self._loop.call_later(COMPACTION_SECONDS, self._compact_by_time)

    @classmethod
    async def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the file; a new one is for its owner's eyes only. StorageFailed if that cannot be done."""

        def load() -> tuple[_Disk, Memory, list[int]]:
            disk = _Disk(os.fspath(path))
            try:
                return disk, *disk.load()
            except sqlite3.Error:
                disk.close()
                raise

        try:
            return cls(*await asyncio.to_thread(load))
        except (sqlite3.Error, OSError) as error:
            raise StorageFailed(f"cannot open {os.fspath(path)}: {error}") from error

    @property
    def revision(self) -> int:
        return self._memory.revision

    async def get(self, key: str) -> Record | None:
        return self._memory.get(key)

    async def list(
        self, prefix: str, *, revision: int | None = None, after: str = "", limit: int = 0
    ) -> Page:
        return self._memory.list(prefix, revision, after, limit)

    def watch(self, prefix: str, revision: int) -> MemoryWatch:
        return self._memory.watch(prefix, revision)

    async def create(self, key: str, value: bytes) -> int:
        while True:
            current, pending = self._newest(key)
            if current is None:
                return await self._write(key, value)
            # A refusal tells what is there, which must be on disk first, or it may never have been.
            if pending is None:
                raise KeyExists(current)
            await asyncio.wait([pending.done])

    async def update(self, key: str, value: bytes, expected_revision: int) -> int:
        await self._expect(key, expected_revision)
        return await self._write(key, value)

    async def delete(self, key: str, expected_revision: int | None = None) -> int:
        await self._expect(key, expected_revision)
        return await self._write(key, None)

    async def _expect(self, key: str, revision: int | None) -> None:
        while True:
            current, pending = self._newest(key)
            if current is not None and revision in (None, current.revision):
                return
            if pending is None:
                if current is None:
                    raise KeyNotFound(key)
                raise RevisionConflict(current)
            await asyncio.wait([pending.done])

    def _newest(self, key: str) -> tuple[Record | None, _Write | None]:
        """The record that *key* will have once all is written, and the write which that waits for."""
        pending = self._pending.get(key)
        if pending is None:
            return self._memory.get(key), None
        _, value, revision = pending.change
        return (None if value is None else Record(key, value, revision)), pending

    async def _write(self, key: str, value: bytes | None) -> int:
        if self._closing:
            raise StorageFailed("the store is closed")
        if not key.isprintable() or not isinstance(value, bytes | None):
            raise ValueError(f"not a key of printable characters with bytes for a value: {key!r}")
        self._assigned += 1
        write = _Write(Change(key, value, self._assigned), self._generation, self._loop.create_future())
        self._pending[key] = write
        self._unfinished.add(write)
        self._writer.jobs.put(write)
        await asyncio.shield(write.done)  # who stops waiting does not stop the write
        return write.change.revision

    async def compact(self, revision: int) -> None:
        """As the interface says. On StorageFailed the history is forgotten all the same, if not on disk."""
        done = self._forget(revision)
        await asyncio.shield(done)

    def _forget(self, revision: int) -> asyncio.Future[None]:
        done = self._loop.create_future()
        dead = self._memory.compact(revision)
        if self._closing:
            done.set_result(None)
        else:
            self._writer.jobs.put(_Compaction(self._memory.compacted, dead, done))
        return done

    def _compact_by_time(self) -> None:
        self._forget(self._mark)
        self._mark = self._memory.revision
        self._timer = self._loop.call_later(COMPACTION_SECONDS, self._compact_by_time)

    def written(self, writes: Sequence[_Write], error: StorageFailed | None) -> None:
        """The writer's report. Not for others."""
        if error:
            # All that is on its way was decided on the strength of what has just failed.
            self._generation += 1
            writes = list(self._unfinished)
            self._pending.clear()
        else:
            self._memory.apply(write.change for write in writes)
        for write in writes:
            self._unfinished.discard(write)
            if self._pending.get(write.change.key) is write:
                del self._pending[write.change.key]
            _settle(write.done, error)
        events = self._memory.events
        if len(events) > MOST_EVENTS or self._memory.event_bytes > MOST_EVENT_BYTES:
            self._forget(events[len(events) // 4].revision)

    def compacted(self, compactions: Sequence[_Compaction], error: StorageFailed | None) -> None:
        """The writer's report. Not for others."""
        for compaction in compactions:
            _settle(compaction.done, error)

    def ended(self) -> None:
        """The writer's last report. Not for others."""
        self._closing = True
        self._timer.cancel()
        if self._unfinished:
            self.written((), StorageFailed("the store is closed"))
        self._memory.close()
        self._closed.set()

    async def close(self) -> None:
        """Finish what is on its way, end all watches, and let go of the file. Reading goes on to work."""
        if not self._closing:
            self._closing = True
            self._writer.jobs.put(_Stop())
        await self._closed.wait()


def _settle(done: asyncio.Future[None], error: StorageFailed | None) -> None:
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
        done.exception()  # seen, also if nobody waits for it any more
