"""How objects lie in the store, and how the kept bytes become what a client reads.

A stored value is the object's JSON without its resourceVersion, ``metadata`` first, so that the version,
which the store alone knows, is spliced in at a fixed place and nothing is decoded to be served.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from buoy.api.meta import Object
from buoy.store import Record

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

_HEAD = len(b'{"metadata":{')


def encode(obj: Object) -> bytes:
    """The value to store for *obj*, whose resourceVersion is left out (and taken from it)."""
    metadata = obj["metadata"]
    metadata.pop("resourceVersion", None)
    return _encode({"metadata": metadata, **obj})


def splice(value: bytes, revision: int) -> bytes:
    """The JSON to serve for a stored value. Revision 0 (a dry run) gives no resourceVersion."""
    if not revision:
        return value
    return b'{"metadata":{"resourceVersion":"%d",%b' % (revision, value[_HEAD:])


def splice_all(records: Iterable[Record]) -> list[bytes]:
    """What `splice` makes of each stored record, in one go."""
    return [
        b'{"metadata":{"resourceVersion":"%d",%b' % (revision, value[_HEAD:])
        for _, value, revision in records
    ]


def decode(value: bytes, revision: int) -> Object:
    """A stored value as an object of the caller's own."""
    obj: Object = _decode(splice(value, revision))
    return obj


def to_json(value: Any) -> bytes:
    return _encode(value)


class Decoded:
    """Objects decoded before, so that selectors and updates decode each revision once.

    They are shared: who wants to change one decodes its own. Bounded; the oldest go first.
    """

    def __init__(self, limit: int = 8192) -> None:
        self._limit = limit
        self._objects: dict[str, tuple[int, Object]] = {}

    def get(self, record: Record) -> Object:
        kept = self._objects.get(record.key)
        if kept is not None and kept[0] == record.revision:
            return kept[1]
        obj = decode(record.value, record.revision)
        self.put(record.key, record.revision, obj)
        return obj

    def put(self, key: str, revision: int, obj: Object) -> None:
        self._objects.pop(key, None)
        self._objects[key] = revision, obj
        if len(self._objects) > self._limit:
            del self._objects[next(iter(self._objects))]

    def forget(self, key: str) -> None:
        self._objects.pop(key, None)


def join_list(kind: str, api_version: str, metadata: Object, items: Iterable[bytes]) -> bytes:
    """A ``…List`` around items that are JSON already."""
    parts = list(items)
    start = b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
        kind.encode(),
        api_version.encode(),
        _encode(metadata),
    )
    # Head and tail go into the join, so that a long list is copied once and not twice.
    parts[0:1] = [start + b"".join(parts[0:1])]
    parts[-1] += b"]}\n"
    return b",".join(parts)
