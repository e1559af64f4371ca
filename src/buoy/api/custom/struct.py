"""A schema as the `Struct` that patches and server-side apply walk."""

from __future__ import annotations

from collections.abc import Mapping

from ..meta import Object
from ..models import meta_v1
from ..schema import Base, Field, Merge, Struct, struct_of
from .fitting import prune
from .schema import MISSING, Schema

_TEXT = Field("string", "string")
_ANYTHING = Field("any", "interface {}")
_BASES: Mapping[str, Base] = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
}


class CustomStruct(Struct):
    """The type of a custom resource. It is fitted by pruning; what has the wrong type, validation finds."""

    __slots__ = ("schema",)

    def __init__(self, name: str, schema: Schema) -> None:
        super().__init__(name, "", object, _resource_fields(schema), frozenset(("metadata",)))
        self.schema = schema

    def conform(self, obj: Object) -> list[str]:
        return prune(obj, self.schema)


def _resource_fields(schema: Schema) -> dict[str, Field]:
    metadata = Field("struct", "v1.ObjectMeta", struct_of(meta_v1.ObjectMeta))
    return {**_fields(schema), "apiVersion": _TEXT, "kind": _TEXT, "metadata": metadata}


def _fields(schema: Schema) -> dict[str, Field]:
    return {name: _field(each) for name, each in schema.properties.items()}


def _field(schema: Schema) -> Field:
    atomic = schema.map_type == "atomic"
    if schema.type == "array" and schema.items is not None:
        return Field("list", "[]", item=_field(schema.items), merge=_merge(schema))
    if schema.resource:
        return Field("struct", "", _struct(_resource_fields(schema), schema), atomic=atomic)
    if schema.properties:
        return Field("struct", "", _struct(_fields(schema), schema), atomic=atomic)
    if schema.additional is not None:
        return Field("map", "map[string]", item=_field(schema.additional), atomic=atomic)
    if schema.type == "object" and (schema.preserve or schema.open):
        return Field("deduced", "", atomic=atomic)
    if schema.type == "object":
        return Field("struct", "", _struct({}, schema), atomic=atomic)
    return Field(_BASES.get(schema.type, "deduced" if schema.preserve else "any"), "")


def _struct(fields: dict[str, Field], schema: Schema) -> Struct:
    return Struct("", "", object, fields, frozenset(), open=schema.preserve)


def _merge(schema: Schema) -> Merge:
    if schema.list_type == "set":
        return Merge(("merge",))
    if schema.list_type == "map" and schema.items is not None:
        known = schema.items.properties
        defaults = {
            key: known[key].default
            for key in schema.map_keys
            if key in known and known[key].default is not MISSING
        }
        return Merge((), "", tuple(schema.map_keys), defaults)
    return Merge()
