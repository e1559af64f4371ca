"""Objects brought to their schema: unknown fields pruned, defaults filled in.

After k8s.io/apiextensions-apiserver's ``schema/pruning``, ``schema/defaulting`` and ``schema/objectmeta``.
"""

from __future__ import annotations

from typing import Any

from ..meta import Object
from ..models import meta_v1
from ..schema import Struct, struct_of
from .schema import MISSING, TYPE_META, Schema


def prune(obj: Object, schema: Schema) -> list[str]:
    """Drop in place what *schema* does not know; the paths of what was dropped.

    ``metadata``, the object's own and that of embedded resources, is fitted to ``ObjectMeta``. Raises
    TypeMismatch for metadata that is none.
    """
    unknown: list[str] = []
    _prune(obj, schema, "", unknown)
    return unknown


def _prune(value: Any, schema: Schema | None, path: str, unknown: list[str]) -> None:
    if isinstance(value, dict):
        _prune_object(value, schema, path, unknown)
    elif isinstance(value, list):
        items = schema.items if schema is not None else None
        if schema is not None and schema.preserve and items is None:
            return
        for index, element in enumerate(value):
            _prune(element, items, f"{path}[{index}]", unknown)


def _prune_object(value: Object, schema: Schema | None, path: str, unknown: list[str]) -> None:
    dropped = []
    for name, element in value.items():
        here = f"{path}.{name}" if path else name
        if schema is not None and schema.resource and name in TYPE_META:
            if name == "metadata" and isinstance(element, dict):
                unknown += [f"{here}.{each}" for each in _metadata().conform(element)]
            continue
        known = schema.properties.get(name) if schema is not None else None
        if known is not None:
            _prune(element, known, here, unknown)
        elif schema is not None and schema.open:
            _prune(element, schema.additional, here, unknown)
        elif schema is None or not schema.preserve:
            dropped.append(name)
            unknown.append(here)
    for name in dropped:
        del value[name]


def _metadata() -> Struct:
    return struct_of(meta_v1.ObjectMeta)


def default(value: Any, schema: Schema) -> None:
    """Fill in place what *schema* has defaults for; a null that may not be is as good as nothing."""
    if isinstance(value, dict):
        for name, known in schema.properties.items():
            if name in value:
                if value[name] is None and not known.nullable and not known.preserve:
                    if known.default is MISSING:
                        del value[name]
                        continue
                    value[name] = copy(known.default)
            elif known.default is not MISSING:
                value[name] = copy(known.default)
            else:
                continue
            default(value[name], known)
        if schema.additional is not None:
            _default_all(value, value.keys() - schema.properties.keys(), schema.additional)
    elif isinstance(value, list) and schema.items is not None:
        _default_all(value, range(len(value)), schema.items)


def _default_all(container: Any, keys: Any, schema: Schema) -> None:
    for key in keys:
        if container[key] is None and not schema.nullable and schema.default is not MISSING:
            container[key] = copy(schema.default)
        default(container[key], schema)


def copy(value: Any) -> Any:
    """A copy of JSON that shares nothing."""
    if isinstance(value, dict):
        return {name: copy(each) for name, each in value.items()}
    if isinstance(value, list):
        return [copy(each) for each in value]
    return value
