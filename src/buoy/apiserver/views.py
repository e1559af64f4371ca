"""The forms in which a client can have its objects: whole, as a Table, as their metadata only."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from buoy.api.duration import age
from buoy.api.kind import Column, Kind
from buoy.api.meta import Object
from buoy.store import Record

from .encoding import Decoded, join_list, splice, splice_all, to_json
from .watch import EventType

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Served:
    """A kind as the server serves it: what it needs at every request, worked out once."""

    __slots__ = ("kind", "prefix", "resource", "show", "store", "struct")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.resource = kind.resource
        self.struct = kind.struct
        lies = kind.view.of if kind.view else kind.resource
        self.prefix = f"/{lies.group or 'core'}/{lies.plural}/"
        """Where all objects of the kind lie in the store: ``/apps/deployments/``."""
        self.show = kind.view.show if kind.view else None
        """From the stored form to this kind's; None if they are the same."""
        self.store = kind.view.store if kind.view else None

    def key(self, namespace: str, name: str) -> str:
        return f"{self.prefix}{namespace}/{name}" if self.resource.namespaced else f"{self.prefix}{name}"

    def seen(self, stored: Object) -> Object:
        """The stored object in this kind's form."""
        return self.show(stored) if self.show is not None else stored


class Whole:
    """Objects as they are: the kept bytes."""

    content_type = "application/json"

    def __init__(self, served: Served, decoded: Decoded) -> None:
        self._served = served
        self._decoded = decoded

    @property
    def shape(self) -> Hashable:
        return Whole, self._served.resource

    def _bytes(self, record: Record) -> bytes:
        show = self._served.show
        if show is None:
            return splice(record.value, record.revision)
        return to_json(show(self._decoded.get(record)))

    def one(self, record: Record) -> bytes:
        return self._bytes(record)

    def list(self, records: Iterable[Record], metadata: Object) -> bytes:
        resource = self._served.resource
        items = splice_all(records) if self._served.show is None else map(self._bytes, records)
        return join_list(self._served.kind.list_kind, resource.api_version, metadata, items)

    def event(self, type: EventType, record: Record, obj: Callable[[], Object]) -> bytes:
        return b'{"type":"%b","object":%b}\n' % (type.encode(), self._bytes(record))

    def bookmark(self, revision: int, *, initial_events_end: bool = False) -> bytes:
        resource = self._served.resource
        return _bookmark(resource.kind, resource.api_version, revision, initial_events_end)


class Partial:
    """``PartialObjectMetadata``: who only wants labels and owners need not read specs."""

    def __init__(self, served: Served, decoded: Decoded, version: str) -> None:
        self._decoded = decoded
        self._api_version = f"meta.k8s.io/{version}"
        self.content_type = f"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v={version}"

    @property
    def shape(self) -> Hashable:
        return Partial, self._api_version

    def _object(self, obj: Object) -> Object:
        return {"kind": "PartialObjectMetadata", "apiVersion": self._api_version, "metadata": obj["metadata"]}

    def one(self, record: Record) -> bytes:
        return to_json(self._object(self._decoded.get(record)))

    def list(self, records: Iterable[Record], metadata: Object) -> bytes:
        items = (to_json(self._object(self._decoded.get(record))) for record in records)
        return join_list("PartialObjectMetadataList", self._api_version, metadata, items)

    def event(self, type: EventType, record: Record, obj: Callable[[], Object]) -> bytes:
        return b'{"type":"%b","object":%b}\n' % (type.encode(), to_json(self._object(obj())))

    def bookmark(self, revision: int, *, initial_events_end: bool = False) -> bytes:
        return _bookmark("PartialObjectMetadata", self._api_version, revision, initial_events_end)


class Table:
    """Rows and columns, as ``kubectl get`` prints them.

    *include* is what of the object goes with its row: ``Metadata`` (the default), ``Object`` or ``None``. A
    watch names the columns in its first event only.
    """

    def __init__(self, served: Served, decoded: Decoded, version: str, include: str) -> None:
        self._served = served
        self._decoded = decoded
        self._columns: tuple[Column, ...] = served.kind.columns
        self._api_version = f"meta.k8s.io/{version}"
        self._include = include
        self._headed = False
        self.content_type = f"application/json;as=Table;g=meta.k8s.io;v={version}"

    @property
    def shape(self) -> Hashable:
        return Table, self._api_version, self._include, self._headed, self._served.resource

    def definitions(self) -> list[Object]:
        return [
            {
                "name": column.name,
                "type": "string" if column.type == "date" else column.type,
                "format": column.format,
                "description": column.description,
                "priority": 1 if column.wide else 0,
            }
            for column in self._columns
        ]

    def row(self, obj: Object) -> Object:
        obj = self._served.seen(obj)
        row: Object = {"cells": [_cell(column, obj) for column in self._columns]}
        if self._include == "Object":
            row["object"] = obj
        elif self._include != "None":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": self._api_version,
                "metadata": obj["metadata"],
            }
        return row

    def table(self, rows: Iterable[Object], metadata: Object, *, headed: bool = True) -> Object:
        return {
            "kind": "Table",
            "apiVersion": self._api_version,
            "metadata": metadata,
            "columnDefinitions": self.definitions() if headed else None,
            "rows": list(rows),
        }

    def one(self, record: Record) -> bytes:
        obj = self._decoded.get(record)
        return to_json(self.table([self.row(obj)], {"resourceVersion": str(record.revision)}))

    def list(self, records: Iterable[Record], metadata: Object) -> bytes:
        rows = (self.row(self._decoded.get(record)) for record in records)
        return to_json(self.table(rows, metadata)) + b"\n"

    def event(self, type: EventType, record: Record, obj: Callable[[], Object]) -> bytes:
        metadata = {"resourceVersion": str(record.revision)}
        table = self.table([self.row(obj())], metadata, headed=not self._headed)
        self._headed = True
        return b'{"type":"%b","object":%b}\n' % (type.encode(), to_json(table))

    def bookmark(self, revision: int, *, initial_events_end: bool = False) -> bytes:
        metadata: Object = {"resourceVersion": str(revision)}
        if initial_events_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        table = self.table([], metadata, headed=not self._headed)
        return b'{"type":"BOOKMARK","object":%b}\n' % to_json(table)


Form = Whole | Partial | Table


def _bookmark(kind: str, api_version: str, revision: int, initial_events_end: bool) -> bytes:
    metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_events_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    obj = {"kind": kind, "apiVersion": api_version, "metadata": metadata}
    return b'{"type":"BOOKMARK","object":%b}\n' % to_json(obj)


def _cell(column: Column, obj: Object) -> Any:
    value = column.value(obj)
    if column.type != "date" or value is None:
        return value
    try:
        return age(value)
    except ValueError:
        # Of a custom resource it may be any text.
        return "<invalid>"
