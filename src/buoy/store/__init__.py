"""Revisioned storage with watch."""

from .interface import (
    Compacted,
    Event,
    FutureRevision,
    KeyExists,
    KeyNotFound,
    Page,
    Record,
    RevisionConflict,
    StorageFailed,
    Store,
    Watch,
)
from .sqlite import SqliteStore

__all__ = [
    "Compacted",
    "Event",
    "FutureRevision",
    "KeyExists",
    "KeyNotFound",
    "Page",
    "Record",
    "RevisionConflict",
    "SqliteStore",
    "StorageFailed",
    "Store",
    "Watch",
]
