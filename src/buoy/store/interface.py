"""The storage interface: a revisioned key-value store with watch, the part of etcd that Kubernetes uses.

Keys are paths such as ``/pods/default/web-1``; values are opaque bytes. One counter, the revision, numbers
every write in the store; it never goes back, also not over a restart, and an empty store is at revision 1.
A write that has returned is on disk, and nothing is shown to any reader before it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol


class Record(NamedTuple):
    """A value as it was written at *revision*."""

    key: str
    value: bytes
    revision: int


class Event(NamedTuple):
    """One change. For ``delete``, *value* is None, *revision* the deletion's, *previous* the last record."""

    type: Literal["create", "update", "delete"]
    key: str
    value: bytes | None
    revision: int
    previous: Record | None


class KeyExists(Exception):
    """create: the key is there already. The argument is its `Record`."""


class KeyNotFound(Exception):
    """update, delete: there is no such key."""


class RevisionConflict(Exception):
    """update, delete: the key's revision is not the expected one. The argument is its current `Record`."""


class Compacted(Exception):
    """The revision asked for is older than what is kept; the argument is the oldest revision kept."""


class FutureRevision(Exception):
    """The revision asked for has not been reached; the argument is the current revision."""


class StorageFailed(OSError):
    """The disk (or the database behind it) refused: the write was not done. Reading goes on."""


@dataclass(frozen=True, slots=True)
class Page:
    """A consistent list: *records* in key order, all as of *revision*; *more* if the limit cut it short."""

    records: Sequence[Record]
    revision: int
    more: bool
    remaining: int


class Watch(Protocol):
    """Batches of events, in order, without gaps; for one reader, who closes it."""

    @property
    def revision(self) -> int:
        """Every event up to this revision has been given to the reader."""
        ...

    def __aiter__(self) -> Watch: ...

    async def __anext__(self) -> Sequence[Event]:
        """The next events, at least one. Raises Compacted if the reader fell behind what is kept."""
        ...

    async def aclose(self) -> None: ...


class Store(Protocol):
    """What the API server needs of a storage; SQLite and etcd can both give it."""

    @property
    def revision(self) -> int:
        """The newest revision."""
        ...

    async def create(self, key: str, value: bytes) -> int:
        """Write a new key; its revision. Raises KeyExists, StorageFailed."""
        ...

    async def update(self, key: str, value: bytes, expected_revision: int) -> int:
        """Replace the value if the key is at *expected_revision*; the new revision.

        Raises KeyNotFound, RevisionConflict, StorageFailed.
        """
        ...

    async def delete(self, key: str, expected_revision: int | None = None) -> int:
        """Remove the key; the revision of the deletion.

        Raises KeyNotFound, RevisionConflict, StorageFailed.
        """
        ...

    async def get(self, key: str) -> Record | None:
        """The newest record of the key."""
        ...

    async def list(
        self, prefix: str, *, revision: int | None = None, after: str = "", limit: int = 0
    ) -> Page:
        """The records under *prefix* with key > *after*, at most *limit* (0: all), as of *revision*.

        No revision means now.

        Raises Compacted, FutureRevision.
        """
        ...

    def watch(self, prefix: str, revision: int) -> Watch:
        """The events under *prefix* after *revision*. Raises Compacted, FutureRevision."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget what was before *revision*; the records as of then remain. Raises FutureRevision."""
        ...

    async def close(self) -> None: ...
