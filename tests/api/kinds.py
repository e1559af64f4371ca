"""Objects to try, and what an API server would do with them short of storing them."""

import copy
from typing import Any

from buoy.api.kind import Kind
from buoy.api.meta import Object


def made(kind: Kind, obj: Object, old: Object | None = None) -> Object:
    """The object, defaulted and prepared."""
    obj = copy.deepcopy(obj)
    obj.setdefault("metadata", {}).setdefault("name", "a")
    if kind.resource.namespaced:
        obj["metadata"].setdefault("namespace", "default")
    kind.default(obj)
    kind.prepare(obj, old)
    return obj


def faults(kind: Kind, obj: Object, old: Object | None = None) -> list[str]:
    """What validation says of the object once it is defaulted and prepared."""
    return [str(error) for error in kind.validate(made(kind, obj, old), old)]


def put(obj: Object, path: str, value: Any) -> Object:
    """A copy with the value at the dotted path set; numbers are list indices; ... deletes it."""
    obj = copy.deepcopy(obj)
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    place: Any = obj
    for step in steps:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return obj
