"""Endpoints into slices, with as few writes as may be.

The aim is k8s.io/endpointslice's: first keep every endpoint where it is, then fill slices that must be
written anyway, then one that has room for all that is left, then new ones. Slices aren't levelled out: each
write of a slice goes to every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from buoy.api import meta
from buoy.api.meta import Object

from .desired import EndpointKey, Group, PortKey, endpoint_key, port_key

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(frozen=True, slots=True)
class Template:
    """What all slices of one owner have in common."""

    namespace: str
    generate_name: str
    labels: dict[str, str]
    owner: Object
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Writes, to be done in this order, so that no endpoint is missing in between."""

    create: tuple[Object, ...] = ()
    update: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()


@dataclass(slots=True)
class _Draft:
    """A slice on its way: *origin* is the stored one it comes from."""

    origin: Object | None
    ports: list[Object]
    endpoints: list[Object]
    changed: bool


def plan(template: Template, groups: Iterable[Group], existing: Iterable[Object], limit: int) -> Plan:
    """How the slices that exist become those that hold *groups*, at most *limit* endpoints each.

    A slice that is being deleted already counts as gone.
    """
    by_group: dict[tuple[str, PortKey], list[Object]] = {}
    for obj in sorted(existing, key=meta.name):
        if not meta.is_terminating(obj):
            key = obj["addressType"], port_key(obj.get("ports") or ())
            by_group.setdefault(key, []).append(obj)
    drafts: dict[str, list[_Draft]] = {}
    for group in groups:
        slices = by_group.pop((group.address_type, port_key(group.ports)), [])
        drafts.setdefault(group.address_type, []).extend(_pack(group, slices, limit))
    spare: dict[str, list[Object]] = {}
    for (address_type, _), slices in by_group.items():
        spare.setdefault(address_type, []).extend(slices)
    create, update, delete = [], [], []
    for address_type, of_type in drafts.items():
        kept = [draft for draft in of_type if draft.endpoints]
        emptied = [draft.origin for draft in of_type if not draft.endpoints and draft.origin is not None]
        free = [*emptied, *spare.pop(address_type, ())]
        if not kept:
            # The empty slice says that the Service is known and has nothing behind it.
            origin = free.pop(0) if free else None
            same = origin is not None and not origin.get("endpoints") and not origin.get("ports")
            kept = [_Draft(origin, [], [], changed=not same)]
        for draft in kept:
            if draft.origin is None and free:
                draft.origin = free.pop(0)
                draft.changed = True
            if draft.origin is None:
                create.append(_new(template, address_type, draft))
            elif draft.changed or not _fits(template, draft.origin):
                update.append(_updated(template, draft.origin, draft))
        delete.extend(free)
    for slices in spare.values():
        delete.extend(slices)
    return Plan(tuple(create), tuple(update), tuple(delete))


def _pack(group: Group, slices: Sequence[Object], limit: int) -> list[_Draft]:
    left = dict(group.endpoints)
    drafts = [_keep(group, obj, left) for obj in slices]
    by_fill = sorted(drafts, key=lambda draft: len(draft.endpoints), reverse=True)
    for draft in by_fill:
        if draft.changed and draft.endpoints:
            _fill(draft, left, limit)
    while left:
        fitting = [draft for draft in by_fill if 0 < len(draft.endpoints) <= limit - len(left)]
        if fitting:
            target = fitting[0]
        else:
            target = _Draft(None, group.ports, [], changed=True)
            drafts.append(target)
        _fill(target, left, limit)
    return drafts


def _keep(group: Group, obj: Object, left: dict[EndpointKey, Object]) -> _Draft:
    """The part of a stored slice that is still wanted; it is taken out of *left*."""
    kept = []
    changed = False
    for stored in obj.get("endpoints") or ():
        wanted = left.pop(endpoint_key(stored), None)
        if wanted is None:
            changed = True
        else:
            kept.append(wanted)
            changed = changed or wanted != stored
    return _Draft(obj, group.ports, kept, changed)


def _fill(draft: _Draft, left: dict[EndpointKey, Object], limit: int) -> None:
    for key in list(left)[: limit - len(draft.endpoints)]:
        draft.endpoints.append(left.pop(key))
        draft.changed = True


def _fits(template: Template, obj: Object) -> bool:
    owner = meta.controller_of(obj)
    annotations = {key: value for key, value in meta.annotations(obj).items() if key != TRIGGER_TIME}
    wanted = {key: value for key, value in template.annotations.items() if key != TRIGGER_TIME}
    return (
        meta.labels(obj) == template.labels
        and annotations == wanted
        and owner is not None
        and owner["uid"] == template.owner["uid"]
    )


def _new(template: Template, address_type: str, draft: _Draft) -> Object:
    metadata: Object = {
        "generateName": template.generate_name,
        "namespace": template.namespace,
        "labels": template.labels,
        "ownerReferences": [template.owner],
    }
    if template.annotations:
        metadata["annotations"] = template.annotations
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": address_type,
        "endpoints": draft.endpoints,
        "ports": draft.ports,
    }


def _updated(template: Template, origin: Object, draft: _Draft) -> Object:
    made = _new(template, origin["addressType"], draft)
    metadata = {key: value for key, value in origin["metadata"].items() if key != "annotations"}
    made["metadata"] = {**metadata, **made["metadata"], "name": meta.name(origin)}
    return made
