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
    Store,
)

__all__ = [
    "Compacted",
    "Event",
    "FutureRevision",
    "KeyExists",
    "KeyNotFound",
    "Page",
    "Record",
    "RevisionConflict",
    "Store",
]
