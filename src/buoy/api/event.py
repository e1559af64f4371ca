"""Events: one stored object, seen through two groups.

The stored form is core/v1's. `to_events_v1` and `from_events_v1` turn one view into the other; they share no
parts with their argument that they change.
"""

from __future__ import annotations

from collections.abc import Callable

from .duration import age
from .kind import Column, Kind, View
from .meta import Object, name
from .models import core_v1, events_v1
from .resource import CORE_EVENTS, EVENTS

# core/v1's name of a field, and events.k8s.io/v1's.
_RENAMED = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
)
_TO_EVENTS = dict(_RENAMED)
_TO_CORE = {theirs: ours for ours, theirs in _RENAMED}


def to_events_v1(event: Object) -> Object:
    """A core/v1 Event as events.k8s.io/v1 shows it."""
    return _renamed(event, _TO_EVENTS, EVENTS.api_version)


def from_events_v1(event: Object) -> Object:
    """An events.k8s.io/v1 Event in the stored form."""
    return _renamed(event, _TO_CORE, CORE_EVENTS.api_version)


def _renamed(event: Object, names: dict[str, str], api_version: str) -> Object:
    converted = {names.get(field, field): value for field, value in event.items()}
    converted["apiVersion"] = api_version
    return converted


def _get(event: Object, field: str) -> Object:
    """A nested object by its core/v1 name, from either view."""
    found: Object = event.get(field) or event.get(_TO_EVENTS.get(field, field)) or {}
    return found


def _text(event: Object, field: str) -> str:
    return str(event.get(field) or event.get(_TO_EVENTS.get(field, field)) or "")


def _first_seen(event: Object) -> str:
    return age(_text(event, "firstTimestamp") or event.get("eventTime"))


def _last_seen(event: Object) -> str:
    series = event.get("series")
    if series:
        return age(series.get("lastObservedTime"))
    last = _text(event, "lastTimestamp")
    return age(last) if last else _first_seen(event)


def _count(event: Object) -> int:
    series = event.get("series")
    if series:
        return int(series.get("count") or 0)
    return int(_text(event, "count") or 1)


def _object(event: Object) -> str:
    involved = _get(event, "involvedObject")
    kind = str(involved.get("kind", "")).lower()
    return f"{kind}/{involved['name']}" if involved.get("name") else kind


def _source(event: Object) -> str:
    source = _get(event, "source")
    component = source.get("component") or _text(event, "reportingComponent")
    host = source.get("host") or event.get("reportingInstance") or ""
    return f"{component}, {host}" if host else str(component)


_COLUMNS = (
    Column("Last Seen", _last_seen),
    Column("Type", lambda event: event.get("type", "")),
    Column("Reason", lambda event: event.get("reason", "")),
    Column("Object", _object),
    Column("Subobject", lambda event: _get(event, "involvedObject").get("fieldPath", ""), wide=True),
    Column("Source", _source, wide=True),
    Column("Message", lambda event: _text(event, "message").strip()),
    Column("First Seen", _first_seen, wide=True),
    Column("Count", _count, wide=True),
    Column("Name", name, wide=True, format="name"),
)


def _involved(field: str) -> Callable[[Object], str]:
    return lambda event: str(_get(event, "involvedObject").get(field) or "")


def _selectable(prefix: str) -> dict[str, Callable[[Object], str]]:
    fields: dict[str, Callable[[Object], str]] = {
        f"{prefix}.{field}": _involved(field)
        for field in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    }
    fields["reason"] = lambda event: str(event.get("reason") or "")
    fields["type"] = lambda event: str(event.get("type") or "")
    fields["reportingComponent"] = lambda event: _text(event, "reportingComponent")
    fields["source"] = lambda event: str(
        _get(event, "source").get("component") or _text(event, "reportingComponent")
    )
    return fields


def default(event: Object) -> None:
    """core/v1 Events always show these, even empty."""
    for field, value in (
        ("involvedObject", {}),
        ("source", {}),
        ("eventTime", None),
        ("reportingComponent", ""),
        ("reportingInstance", ""),
    ):
        event.setdefault(field, value)


CORE_EVENT = Kind(
    resource=CORE_EVENTS,
    model=core_v1.Event,
    singular="event",
    short_names=("ev",),
    columns=_COLUMNS,
    default=default,
    selectable_fields=_selectable("involvedObject"),
)

EVENT = Kind(
    resource=EVENTS,
    model=events_v1.Event,
    view=View(CORE_EVENTS, to_events_v1, from_events_v1),
    singular="event",
    short_names=("ev",),
    columns=_COLUMNS,
    selectable_fields={**_selectable("regarding"), **_selectable("involvedObject")},
)
