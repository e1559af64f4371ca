"""A structural schema, compiled: what pruning, defaulting and validation walk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MISSING: Any = object()
"""Where there is no value; null is one."""

TYPE_META = ("apiVersion", "kind", "metadata")


class Schema:
    """One node of an ``openAPIV3Schema``.

    *additional* is the schema of the values of a map; *open* says that any key may be there
    (``additionalProperties: true``). *source* is the JSON it was made of. A *resource* has apiVersion, kind
    and metadata whatever its properties say.
    """

    __slots__ = (
        "additional",
        "all_of",
        "any_of",
        "closed",
        "default",
        "enum",
        "int_or_string",
        "items",
        "list_type",
        "map_keys",
        "map_type",
        "negated",
        "nullable",
        "one_of",
        "open",
        "preserve",
        "properties",
        "required",
        "resource",
        "ruled",
        "rules",
        "source",
        "type",
    )

    def __init__(self, source: Mapping[str, Any], *, root: bool = False) -> None:
        self.source = source
        self.type: str = source.get("type") or ""
        self.nullable = bool(source.get("nullable"))
        self.default: Any = source.get("default", MISSING)
        self.enum: Sequence[Any] | None = source.get("enum")
        self.required: Sequence[str] = source.get("required") or ()
        self.preserve = bool(source.get("x-kubernetes-preserve-unknown-fields"))
        self.resource = root or bool(source.get("x-kubernetes-embedded-resource"))
        self.int_or_string = bool(source.get("x-kubernetes-int-or-string"))
        self.list_type: str = source.get("x-kubernetes-list-type") or ""
        self.map_keys: Sequence[str] = source.get("x-kubernetes-list-map-keys") or ()
        self.map_type: str = source.get("x-kubernetes-map-type") or ""
        self.rules: Sequence[Mapping[str, Any]] = source.get("x-kubernetes-validations") or ()
        self.properties = {name: Schema(each) for name, each in (source.get("properties") or {}).items()}
        additional = source.get("additionalProperties")
        self.additional = Schema(additional) if isinstance(additional, dict) else None
        self.open = self.additional is not None or additional is True
        self.closed = additional is False
        items = source.get("items")
        self.items = Schema(items) if isinstance(items, dict) else None
        self.all_of = tuple(map(Schema, source.get("allOf") or ()))
        self.any_of = tuple(map(Schema, source.get("anyOf") or ()))
        self.one_of = tuple(map(Schema, source.get("oneOf") or ()))
        negated = source.get("not")
        self.negated = Schema(negated) if isinstance(negated, dict) else None

        self.ruled: bool = bool(self.rules) or any(each.ruled for each in self.children())
        """Whether there is a rule here or below."""

    def children(self) -> list[Schema]:
        """The schemas of what is directly inside."""
        found = list(self.properties.values())
        found += [each for each in (self.additional, self.items) if each is not None]
        return found

    def child(self, name: str) -> Schema | None:
        """The schema of an object's field, None if it says nothing about it."""
        return self.properties.get(name) or self.additional
