"""Server-side apply: who set which field, and what happens when they disagree (KEP-555).

Ownership is kept in ``metadata.managedFields``, a ``fieldsV1`` trie for each manager; here it is a set of
paths. A path is a tuple of the trie's keys: ``f:name`` is a field, ``k:{"name":"web"}`` an element of a keyed
list, ``v:"x"`` one of a set, and ``.`` at the end the element itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .meta import Object
from .schema import Field, Struct

Path = tuple[str, ...]
Paths = frozenset[Path]

BEFORE_FIRST_APPLY = "before-first-apply"

_NOBODYS = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "clusterName",
                "generation",
                "managedFields",
                "resourceVersion",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "generateName",
            )
        ),
    }
)
_PROTOCOL = {"protocol": "TCP"}
_DEDUCED = Field("deduced", "")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Manager:
    """One entry of managedFields."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""
    time: str = ""
    fields: Paths = frozenset()

    @property
    def identity(self) -> tuple[str, str, str, str]:
        return self.name, self.operation, self.api_version, self.subresource

    def __str__(self) -> str:
        text = json.dumps(self.name)
        if self.subresource:
            text += f" with subresource {json.dumps(self.subresource)}"
        if self.operation == "Update":
            text += f" using {self.api_version}"
            if self.time:
                text += f" at {self.time}"
        return text


class Conflicts(Exception):
    """Fields that others own, and would be changed: (manager, path) each."""

    def __init__(self, found: Sequence[tuple[Manager, Path]]) -> None:
        self.found = found
        if len(found) == 1:
            text = f"conflict with {found[0][0]}: {show(found[0][1])}"
        else:
            lines: list[str] = []
            last = None
            for manager, path in found:
                if manager != last:
                    lines.append(f"conflicts with {manager}:")
                    last = manager
                lines.append(f"- {show(path)}")
            text = "\n".join(lines)
        plural = "s" if len(found) > 1 else ""
        super().__init__(f"Apply failed with {len(found)} conflict{plural}: {text}")

    @property
    def causes(self) -> list[Object]:
        return [
            {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": show(path)}
            for manager, path in self.found
        ]


def show(path: Path) -> str:
    """``.spec.containers[name="web"].image``."""
    text = ""
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            keys = json.loads(rest)
            text += "[" + ",".join(f"{name}={json.dumps(value)}" for name, value in keys.items()) + "]"
        elif kind == "v":
            text += f"[={rest}]"
    return text


# -- managedFields ----------------------------------------------------------------------------------------


def read(entries: Iterable[Object] | None) -> list[Manager]:
    return [
        Manager(
            str(entry.get("manager") or ""),
            str(entry.get("operation") or ""),
            str(entry.get("apiVersion") or ""),
            str(entry.get("subresource") or ""),
            str(entry.get("time") or ""),
            frozenset(_paths(entry.get("fieldsV1") or {})),
        )
        for entry in entries or ()
    ]


def write(managers: Iterable[Manager]) -> list[Object]:
    """The entries of those who own something, in a fixed order."""
    found: list[Object] = []
    for manager in sorted(managers, key=lambda each: (each.operation, each.time, each.name)):
        if not manager.fields:
            continue
        entry: Object = {"manager": manager.name, "operation": manager.operation}
        entry["apiVersion"] = manager.api_version
        if manager.time:
            entry["time"] = manager.time
        entry["fieldsType"] = "FieldsV1"
        entry["fieldsV1"] = _trie(manager.fields)
        if manager.subresource:
            entry["subresource"] = manager.subresource
        found.append(entry)
    return found


def _paths(trie: Object, prefix: Path = ()) -> Iterator[Path]:
    for step, inner in trie.items():
        if inner:
            yield from _paths(inner, (*prefix, step))
        else:
            yield (*prefix, step)


def _trie(paths: Paths) -> Object:
    root: Object = {}
    for path in sorted(paths):
        node = root
        for step in path:
            node = node.setdefault(step, {})
    return root


# -- fields of objects ------------------------------------------------------------------------------------


def fields_of(obj: Object, struct: Struct) -> Paths:
    """All that *obj* sets and somebody can own."""
    return frozenset(path for path in _struct_fields(obj, struct, ()) if path[:2] not in _NOBODYS)


def _struct_fields(obj: Object, struct: Struct, prefix: Path) -> Iterator[Path]:
    for name, value in obj.items():
        field = _field_of(struct, name)
        if field is not None and value is not None:
            yield from _value_fields(value, field, (*prefix, f"f:{name}"))


def _field_of(struct: Struct, name: str) -> Field | None:
    return struct.fields.get(name) or (_DEDUCED if struct.open else None)


def _value_fields(value: Any, field: Field, prefix: Path) -> Iterator[Path]:
    if value and not field.atomic:
        if isinstance(value, dict):
            if field.struct is not None:
                yield from _struct_fields(value, field.struct, prefix)
                return
            if field.base in ("map", "deduced"):
                for key, element in value.items():
                    yield from _value_fields(element, field.item or _DEDUCED, (*prefix, f"f:{key}"))
                return
        elif isinstance(value, list) and (field.merge.map_keys or field.merge.merges):
            for element in value:
                step = (*prefix, _step(element, field))
                if field.item is None or field.item.struct is None or not isinstance(element, dict):
                    yield step
                else:
                    yield (*step, ".")
                    yield from _struct_fields(element, field.item.struct, step)
            return
    yield prefix


def _step(element: Any, field: Field) -> str:
    """The path step of a list's element."""
    if not field.merge.map_keys or not isinstance(element, dict):
        return f"v:{json.dumps(element, separators=(',', ':'))}"
    return f"k:{json.dumps(_key(element, field), separators=(',', ':'), sort_keys=True)}"


def _key(element: Object, field: Field) -> Object:
    merge = field.merge
    found = {name: element.get(name, merge.defaults.get(name)) for name in merge.map_keys}
    return {name: value for name, value in found.items() if value is not None}


def value_at(obj: Any, path: Path) -> Any:
    """What is at *path*, or a value that equals nothing."""
    for step in path:
        if step == ".":
            return True
        obj = _child(obj, step)
        if obj is _MISSING:
            return _MISSING
    return obj


def _child(obj: Any, step: str) -> Any:
    kind, _, rest = step.partition(":")
    if kind == "f":
        return obj.get(rest, _MISSING) if isinstance(obj, dict) else _MISSING
    index = _index(obj, step)
    return obj[index] if index is not None else _MISSING


def _index(items: Any, step: str) -> int | None:
    if not isinstance(items, list):
        return None
    wanted = json.loads(step[2:])
    for index, element in enumerate(items):
        if step.startswith("v:"):
            if element == wanted:
                return index
        elif isinstance(element, dict) and all(
            element.get(name, _PROTOCOL.get(name)) == value for name, value in wanted.items()
        ):
            return index
    return None


def _is_key(path: Path) -> bool:
    """Whether *path* is a field by which its element is known."""
    return len(path) > 1 and path[-2].startswith("k:") and path[-1][2:] in json.loads(path[-2][2:])


def _remove(obj: Any, path: Path) -> bool:
    """Take what is at *path* out of *obj*; whether that leaves *obj* empty."""
    step, *rest = path
    if rest and rest != ["."]:
        inner = _child(obj, step)
        if inner is _MISSING or not _remove(inner, tuple(rest)) or step.startswith("k:"):
            return False
    if step.startswith("f:"):
        if isinstance(obj, dict):
            obj.pop(step[2:], None)
    else:
        index = _index(obj, step)
        if index is not None:
            del obj[index]
    return not obj


def _merge(live: Any, applied: Any, field: Field | None, struct: Struct | None) -> Any:
    """*live* with everything that *applied* sets."""
    if struct is not None:
        if not isinstance(live, dict) or not isinstance(applied, dict):
            return applied
        result = dict(live)
        for name, value in applied.items():
            inner = _field_of(struct, name)
            if name not in live or inner is None or inner.atomic:
                result[name] = value
            else:
                result[name] = _merge(live[name], value, inner, inner.struct)
        return result
    if field is None or not isinstance(live, type(applied)):
        return applied
    if field.base == "map" or (field.base == "deduced" and isinstance(applied, dict)):
        item = field.item or _DEDUCED
        return {
            **live,
            **{
                key: _merge(live[key], value, item, item.struct) if key in live else value
                for key, value in applied.items()
            },
        }
    if field.base == "list" and (field.merge.map_keys or field.merge.merges):
        inner = field.item
        result_list = list(live)
        for element in applied:
            index = _index(result_list, _step(element, field))
            if index is None:
                result_list.append(element)
            elif inner is not None and inner.struct is not None:
                result_list[index] = _merge(result_list[index], element, inner, inner.struct)
        return result_list
    return applied


# -- apply and update -------------------------------------------------------------------------------------


def apply(
    live: Object,
    applied: Object,
    struct: Struct,
    manager: Manager,
    *,
    force: bool,
    normalise: Callable[[Object], Object],
) -> Object:
    """*live* with *applied* by *manager*, and the managedFields to go with it.

    What the manager applied before and does not any more is removed, unless others own it too. *normalise*
    brings a copy of an object to its stored form, in which values are compared. *live* may be changed. Raises
    Conflicts, unless *force* takes the fields from their owners.
    """
    managers = read(live["metadata"].get("managedFields"))
    if not managers:
        before = fields_of(live, struct)
        managers = [Manager(BEFORE_FIRST_APPLY, "Update", manager.api_version, fields=before)]
    previous = next((each for each in managers if each.identity == manager.identity), None)
    others = [each for each in managers if each is not previous]
    wanted = fields_of(applied, struct)
    merged = _merge(live, applied, None, struct)
    compared = normalise(merged)
    changed = {path for path in wanted if value_at(compared, path) != value_at(live, path)}
    conflicts = [(each, path) for each in others for path in sorted(each.fields & changed)]
    if conflicts and not force:
        raise Conflicts(conflicts)
    if force:
        others = [_without(each, changed) for each in others]
    merged = normalise(merged)
    if previous is not None:
        held = frozenset().union(*(each.fields for each in others), wanted)
        # Whole elements first: without its keys an element could not be found any more.
        for path in sorted(previous.fields - held, key=lambda path: (path[-1] != ".", -len(path), path)):
            if path[-1] == "." and any(other[: len(path) - 1] == path[:-1] for other in held):
                continue
            if not _is_key(path):
                _remove(merged, path)
    unchanged = previous is not None and previous.fields == wanted and not changed
    time = previous.time if unchanged and previous is not None else manager.time
    mine = Manager(*manager.identity, time, wanted)
    merged["metadata"]["managedFields"] = write([*others, mine])
    return merged


def _without(manager: Manager, paths: Iterable[Path]) -> Manager:
    return Manager(*manager.identity, manager.time, manager.fields - frozenset(paths))


def track(new: Object, old: Object, struct: Struct, manager: Manager) -> list[Object]:
    """The managedFields of *new*, to which *manager* changed *old* by other means than apply.

    Objects that nobody ever applied have none, and get none here.
    """
    managers = read(old["metadata"].get("managedFields"))
    if not managers:
        return []
    before, after = fields_of(old, struct), fields_of(new, struct)
    changed = frozenset(
        path for path in after if path not in before or value_at(new, path) != value_at(old, path)
    )
    gone = before - after
    if not changed and not gone:
        return write(managers)
    kept = [_without(each, changed | gone) for each in managers if each.identity != manager.identity]
    own = next((each.fields for each in managers if each.identity == manager.identity), frozenset())
    return write([*kept, Manager(*manager.identity, manager.time, (own - gone) | changed)])


def first(applied: Object, struct: Struct, manager: Manager) -> list[Object]:
    """The managedFields of an object that is created by applying it."""
    return write([Manager(*manager.identity, manager.time, fields_of(applied, struct))])
