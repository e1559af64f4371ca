"""Strategic merge patch: a merge patch that knows which lists are keyed.

The rules are those of k8s.io/apimachinery's ``util/strategicpatch`` and sig-api-machinery's document
"strategic-merge-patch.md": the directives ``$patch``, ``$retainKeys``, ``$setElementOrder/…`` and
``$deleteFromPrimitiveList/…``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from .meta import Object
from .schema import Field, Struct

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


class BadPatch(ValueError):
    """The patch contradicts itself; the text says how."""


def merge(original: Object, patch: Object, struct: Struct | None) -> Object:
    """*original* with *patch* applied; neither is changed, parts of both may be shared by the result.

    *struct* is the type of both (None: untyped, where lists are replaced whole). Raises BadPatch.
    """
    return _merge(original, patch, struct.fields.get if struct else _unknown)


Lookup = Callable[[str], Field | None]


def _unknown(name: str) -> Field | None:
    return None


def _inside(field: Field | None) -> Lookup:
    """What the fields of an object in *field* are."""
    if field is not None and field.struct is not None:
        return field.struct.fields.get
    if field is not None and field.base == "map":
        return lambda name: field.item
    return _unknown


def _merge(original: Object, patch: Object, field_of: Lookup) -> Object:
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: _plain(value) for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadPatch(f"Unknown patch type found: {directive}")
    result = dict(original)
    retain = patch.get(_RETAIN)
    if retain is not None:
        if not isinstance(retain, list):
            raise BadPatch(f"invalid patch format of list: {_RETAIN}")
        for key in patch:
            if not key.startswith("$") and patch[key] is not None and key not in retain:
                raise BadPatch(f"$retainKeys list doesn't contain all present keys: {key}")
        result = {key: value for key, value in result.items() if key in retain}

    orders: dict[str, list[Any]] = {}
    for key, value in patch.items():
        if key.startswith(_ORDER):
            orders[key[len(_ORDER) :]] = value
        elif key.startswith(_DELETE):
            name = key[len(_DELETE) :]
            if isinstance(result.get(name), list):
                result[name] = [item for item in result[name] if item not in value]
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
            continue
        present = result.get(key)
        field = field_of(key)
        if isinstance(value, dict):
            if isinstance(present, dict):
                result[key] = _merge(present, value, _inside(field))
            else:
                result[key] = _plain(value)
        elif isinstance(value, list):
            order = orders.pop(key, None)
            if isinstance(present, list) and field is not None and field.merge.merges:
                result[key] = _merge_list(present, value, field, order)
            elif field is not None and field.merge.merges:
                result[key] = _merge_list([], value, field, order)
            else:
                result[key] = value
        else:
            result[key] = value
    for name, order in orders.items():
        field = field_of(name)
        if field is not None and isinstance(result.get(name), list):
            result[name] = _reorder(result[name], [], field, order)
    return result


def _merge_list(present: list[Any], patch: list[Any], field: Field, order: list[Any] | None) -> list[Any]:
    item = field.item
    if item is None or item.struct is None:
        added = [value for value in patch if value not in present]
        return _arrange(present + added, patch, present, order, lambda value: value)
    key = field.merge.key
    deleted = set()
    patched: list[Object] = []
    for element in patch:
        if not isinstance(element, dict):
            raise BadPatch(f"list element is not a map: {element!r}")
        directive = element.get(_DIRECTIVE)
        if directive == "replace":
            return [_plain(other) for other in patch if _DIRECTIVE not in other]
        if key not in element:
            raise BadPatch(f"map: {element} does not contain declared merge key: {key}")
        if directive == "delete":
            deleted.add(element[key])
        elif directive in (None, "merge"):
            patched.append(element)
        else:
            raise BadPatch(f"Unknown patch type found: {directive}")
    result = [element for element in present if element.get(key) not in deleted]
    places = {element.get(key): index for index, element in reversed(list(enumerate(result)))}
    for element in patched:
        place = places.get(element[key])
        if place is None:
            places[element[key]] = len(result)
            result.append(_plain(element))
        else:
            result[place] = _merge(result[place], element, _inside(item))
    return _reorder(result, patched, field, order, present)


def _reorder(
    merged: list[Any],
    patched: list[Any],
    field: Field,
    order: list[Any] | None,
    present: list[Any] | None = None,
) -> list[Any]:
    key = field.merge.key

    def identity(element: Any) -> Hashable:
        return element.get(key) if isinstance(element, dict) else element

    return _arrange(merged, patched, merged if present is None else present, order, identity)


def _arrange(
    merged: list[Any], patched: list[Any], present: list[Any], order: list[Any] | None, identity: Any
) -> list[Any]:
    """The patch's elements in its order, the others in theirs, zipped by where the server had them."""
    wanted = [identity(element) for element in (patched if order is None else order)]
    rank = {name: index for index, name in reversed(list(enumerate(wanted)))}
    place = {identity(element): index for index, element in reversed(list(enumerate(present)))}
    ours = sorted((each for each in merged if identity(each) in rank), key=lambda each: rank[identity(each)])
    others: Sequence[Any] = [each for each in merged if identity(each) not in rank]
    result: list[Any] = []
    position = 0
    for element in ours:
        where = place.get(identity(element))
        if where is not None:
            while position < len(others) and place.get(identity(others[position]), -1) < where:
                result.append(others[position])
                position += 1
        result.append(element)
    result.extend(others[position:])
    return result


def _plain(value: Any) -> Any:
    """*value* without directives and nulls: what a patch adds where there was nothing."""
    if isinstance(value, dict):
        if value.get(_DIRECTIVE) == "delete":
            return {}
        return {
            key: _plain(element)
            for key, element in value.items()
            if element is not None and not key.startswith((_DIRECTIVE, _RETAIN, _ORDER, _DELETE))
        }
    if isinstance(value, list):
        return [
            _plain(element)
            for element in value
            if not (isinstance(element, dict) and element.get(_DIRECTIVE) == "delete")
        ]
    return value
