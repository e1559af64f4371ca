"""Events: one stored object, seen through two groups.

The stored form is core/v1's. `to_events_v1` and `from_events_v1` turn one view into the other; they share no
parts with their argument that they change.
"""

from __future__ import annotations

from collections.abc import Callable

from . import formats, meta
from .duration import age
from .kind import Column, Kind, View
from .meta import Object
from .metadata import faults, immutable, validating
from .models import core_v1, events_v1
from .resource import CORE_EVENTS, EVENTS
from .status import FieldError, invalid, required

_LIMIT = 128
_MESSAGE_LIMIT = 1024

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
    Column("Name", meta.name, wide=True, format="name"),
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


def _validate(event: Object, old: Object | None) -> list[FieldError]:
    """What is asked of an Event of either view: more of those with a microsecond time."""
    errors: list[FieldError] = []
    namespace = meta.namespace(event)
    involved = str(_get(event, "involvedObject").get("namespace") or "")
    stray = invalid("involvedObject.namespace", involved, "does not match event.namespace")
    if not event.get("eventTime"):
        if namespace != involved and not (not involved and namespace == "default"):
            errors.append(stray)
        return errors
    if not involved and namespace not in ("default", "kube-system"):
        errors.append(stray)
    controller = _text(event, "reportingComponent")
    if not controller:
        errors.append(required("reportingController"))
    errors += faults("reportingController", controller, formats.label_key(controller))
    for field in ("reportingInstance", "action", "reason"):
        text = str(event.get(field) or "")
        if not text:
            errors.append(required(field))
        elif formats.size(text) > _LIMIT:
            errors.append(invalid(field, "", f"can have at most {_LIMIT} characters"))
    if formats.size(_text(event, "message")) > _MESSAGE_LIMIT:
        errors.append(invalid("message", "", f"can have at most {_MESSAGE_LIMIT} characters"))
    return errors


_FIXED = (
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
)


def _validate_v1(event: Object, old: Object | None) -> list[FieldError]:
    """events.k8s.io/v1 is stricter: the old fields stay empty, and only the series may change."""
    errors = _validate(event, old)
    series = event.get("series")
    if series is not None and (old is None or series != old.get("series")):
        if (series.get("count") or 0) < 2:
            errors.append(invalid("series.count", "", "should be at least 2"))
        if not series.get("lastObservedTime"):
            errors.append(required("series.lastObservedTime"))
    if old is not None:
        for field in _FIXED:
            view = _TO_EVENTS.get(field, field)
            shown = "reportingController" if field == "reportingComponent" else field
            errors += immutable(shown, event.get(view), old.get(view))
        return errors
    if not event.get("eventTime"):
        errors.append(required("eventTime"))
    kind = event.get("type") or ""
    if kind not in ("Normal", "Warning"):
        errors.append(invalid("type", "", f"has invalid value: {kind}"))
    for field in ("firstTimestamp", "lastTimestamp", "count"):
        if event.get(_TO_EVENTS[field]):
            errors.append(invalid(field, "", "needs to be unset"))
    if any((event.get("deprecatedSource") or {}).values()):
        errors.append(invalid("source", "", "needs to be unset"))
    return errors


CORE_EVENT = Kind(
    resource=CORE_EVENTS,
    model=core_v1.Event,
    singular="event",
    short_names=("ev",),
    columns=_COLUMNS,
    default=default,
    validate=validating(formats.path_segment, _validate),
    selectable_fields=_selectable("involvedObject"),
)

EVENT = Kind(
    resource=EVENTS,
    model=events_v1.Event,
    view=View(CORE_EVENTS, to_events_v1, from_events_v1),
    singular="event",
    short_names=("ev",),
    columns=_COLUMNS,
    validate=validating(formats.dns_subdomain, _validate_v1),
    selectable_fields={**_selectable("regarding"), **_selectable("involvedObject")},
)
