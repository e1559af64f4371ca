"""Watching: one reader of the store, fanned out to every watcher.

The hub keeps the newest changes, so that a watcher that starts at an older revision is brought up to date
without a gap. A change is encoded once for all watchers that want it in the same form, and written straight
to their connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Literal, Protocol

from buoy.api.meta import Object
from buoy.api.status import StatusError
from buoy.store import Compacted, Event, Record, Store

from .encoding import Decoded

log = logging.getLogger(__name__)

EventType = Literal["ADDED", "MODIFIED", "DELETED"]

_KEPT_CHANGES = 20_000
_KEPT_BYTES = 64 << 20
_BOOKMARK_SECONDS = 60.0
_MOST_UNSENT = 32 << 20


class Change:
    """One write. *record* is the object as it is now; if deleted, as it was, at the deletion's revision."""

    __slots__ = ("_hub", "encoded", "key", "namespace", "previous", "record", "revision", "type")

    def __init__(self, hub: Hub, event: Event, namespace: str) -> None:
        self._hub = hub
        self.key = event.key
        self.namespace = namespace
        self.revision = event.revision
        self.previous = event.previous
        self.encoded: dict[Hashable, bytes] = {}
        if event.value is not None:
            self.type: EventType = "ADDED" if event.previous is None else "MODIFIED"
            self.record = Record(event.key, event.value, event.revision)
        else:
            assert event.previous is not None
            self.type = "DELETED"
            self.record = Record(event.key, event.previous.value, event.revision)

    @property
    def obj(self) -> Object:
        """The object, shared: not to be changed."""
        return self._hub.decoded.get(self.record)

    @property
    def old(self) -> Object | None:
        return self._hub.decoded.get(self.previous) if self.previous is not None else None


class View(Protocol):
    """How one client wants its objects: encodes events as the JSON lines of a watch."""

    @property
    def shape(self) -> Hashable:
        """Equal for views that encode alike."""
        ...

    def event(self, type: EventType, record: Record, obj: Callable[[], Object]) -> bytes: ...

    def bookmark(self, revision: int, *, initial_events_end: bool = False) -> bytes: ...


class Watcher:
    """One client's watch: of one namespace, one name, if they are given, and of what *matches*.

    *send* writes bytes to its connection and tells how many are not yet sent.
    """

    __slots__ = (
        "_ending",
        "_matches",
        "_send",
        "bookmarks",
        "closed",
        "namespace",
        "prefix",
        "revision",
        "view",
    )

    def __init__(
        self,
        prefix: str,
        namespace: str,
        view: View,
        send: Callable[[bytes], int],
        name: str = "",
        matches: Callable[[Object], bool] | None = None,
        bookmarks: bool = False,
    ) -> None:
        self.prefix = prefix
        self.namespace = namespace
        self.view = view
        self.revision = 0
        self.bookmarks = bookmarks
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending = f"/{name}" if name else ""
        self._matches = matches
        self._send = send

    def close(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def deliver(self, change: Change) -> None:
        if change.revision <= self.revision:
            return
        self.revision = change.revision
        if self.namespace and change.namespace != self.namespace:
            return
        if self._ending and not change.key.endswith(self._ending):
            return
        type = change.type
        record = change.record
        matches = self._matches
        if matches is not None:
            old = change.old
            before = old is not None and matches(old)
            after = type != "DELETED" and matches(change.obj)
            if after:
                type = "MODIFIED" if before else "ADDED"
            elif before:
                if type != "DELETED":
                    # It fell out of the selection: the watcher sees its last fitting state go.
                    assert change.previous is not None
                    record = Record(change.key, change.previous.value, change.revision)
                type = "DELETED"
            else:
                return
        kept = (self.view.shape, type, record is change.record)
        line = change.encoded.get(kept)
        if line is None:
            decoded = change._hub.decoded
            line = change.encoded[kept] = frame(self.view.event(type, record, lambda: decoded.get(record)))
        self.send(line)

    def send(self, framed: bytes) -> None:
        if self.closed.done():
            return
        if self._send(framed) > _MOST_UNSENT:
            log.warning("closing a watch of %s: its client does not read", self.prefix)
            self.close()

    def bookmark(self, revision: int, *, initial_events_end: bool = False) -> None:
        self.revision = max(self.revision, revision)
        self.send(frame(self.view.bookmark(self.revision, initial_events_end=initial_events_end)))


def frame(line: bytes) -> bytes:
    """One HTTP chunk (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(line), line)


class Hub:
    """All changes of the store, in order."""

    def __init__(self, store: Store, decoded: Decoded) -> None:
        self.decoded = decoded
        self.revision = 0
        """Every change up to here has been delivered."""
        self._store = store
        self._oldest = 0
        self._kept: deque[Change] = deque()
        self._kept_bytes = 0
        self._watchers: dict[str, set[Watcher]] = {}
        self._listeners: list[tuple[str, Callable[[Change], None]]] = []
        self._reached: list[tuple[int, asyncio.Future[None]]] = []

    def listen(self, prefix: str, listener: Callable[[Change], None]) -> None:
        """Call *listener* for every change under *prefix*."""
        self._listeners.append((prefix, listener))

    def ignore(self, prefix: str) -> None:
        """Call nobody any more for changes under *prefix*."""
        self._listeners = [each for each in self._listeners if each[0] != prefix]

    def end_watches(self, prefix: str) -> None:
        for watcher in tuple(self._watchers.get(prefix, ())):
            watcher.close()

    async def run(self, ready: asyncio.Event) -> None:
        """Read the store for ever. *ready* is set when the history that it still has is read."""
        start = 0
        goal = self._store.revision
        bookmarks = asyncio.create_task(self._bookmark_forever())
        try:
            while True:
                try:
                    watch = self._store.watch("/", start)
                    self._oldest = self.revision = start
                    if start >= goal:
                        ready.set()
                    async for batch in watch:
                        self._apply(batch)
                        if self.revision >= goal:
                            ready.set()
                    return
                except Compacted as error:
                    start = max(int(error.args[0]), start + 1)
                    self._lost()
        finally:
            bookmarks.cancel()

    def _lost(self) -> None:
        """The store has forgotten changes that were not read yet: nobody may go on as if there were none."""
        self._kept.clear()
        self._kept_bytes = 0
        for watchers in self._watchers.values():
            for watcher in list(watchers):
                watcher.close()

    def _apply(self, batch: Iterable[Event]) -> None:
        for event in batch:
            _, group, plural, rest = event.key.split("/", 3)
            prefix = f"/{group}/{plural}/"
            namespace, slash, _ = rest.partition("/")
            change = Change(self, event, namespace if slash else "")
            self.revision = event.revision
            self._kept.append(change)
            self._kept_bytes += len(change.record.value)
            for wanted, listener in self._listeners:
                if prefix == wanted:
                    listener(change)
            watchers = self._watchers.get(prefix)
            if watchers:
                for watcher in tuple(watchers):
                    watcher.deliver(change)
                change.encoded.clear()
            if change.type == "DELETED":
                self.decoded.forget(change.key)
        while len(self._kept) > _KEPT_CHANGES or self._kept_bytes > _KEPT_BYTES:
            gone = self._kept.popleft()
            self._kept_bytes -= len(gone.record.value)
            self._oldest = gone.revision
        if self._reached:
            waiting = self._reached
            self._reached = []
            for revision, future in waiting:
                if revision > self.revision:
                    self._reached.append((revision, future))
                elif not future.done():
                    future.set_result(None)

    async def reached(self, revision: int, seconds: float) -> bool:
        """Wait until all changes up to *revision* are delivered; False if *seconds* pass before."""
        if self.revision >= revision:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reached.append((revision, future))
        try:
            await asyncio.wait_for(future, seconds)
        except TimeoutError:
            return False
        return True

    def subscribe(self, watcher: Watcher, revision: int) -> None:
        """Deliver to *watcher* every change after *revision*. Raises StatusError 410 if one is forgotten."""
        if revision < self._oldest:
            raise StatusError(410, "Expired", f"too old resource version: {revision} ({self._oldest})")
        watcher.revision = revision
        if revision < self.revision:
            missed = [
                change for change in self._changes_after(revision) if change.key.startswith(watcher.prefix)
            ]
            for change in reversed(missed):
                watcher.deliver(change)
        self._watchers.setdefault(watcher.prefix, set()).add(watcher)

    def _changes_after(self, revision: int) -> Iterable[Change]:
        for change in reversed(self._kept):
            if change.revision <= revision:
                return
            yield change

    def unsubscribe(self, watcher: Watcher) -> None:
        watchers = self._watchers.get(watcher.prefix)
        if watchers:
            watchers.discard(watcher)

    def close(self) -> None:
        """End every watch, as a server does that goes away."""
        for watchers in self._watchers.values():
            for watcher in tuple(watchers):
                watcher.close()

    async def _bookmark_forever(self) -> None:
        while True:
            await asyncio.sleep(_BOOKMARK_SECONDS)
            for watchers in self._watchers.values():
                for watcher in tuple(watchers):
                    if watcher.bookmarks:
                        watcher.bookmark(self.revision)
