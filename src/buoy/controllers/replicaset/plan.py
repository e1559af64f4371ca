"""What a ReplicaSet lacks or has too many of, and what it says of itself."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buoy.api import meta, pods
from buoy.api.meta import Object

from . import ranking

BURST = 500
"""How many Pods are created or deleted in one go."""


@dataclass(frozen=True, slots=True)
class Plan:
    """*create* so many Pods, or delete those of *delete*; never both."""

    create: int = 0
    delete: tuple[Object, ...] = ()


def plan(
    replica_set: Object, active: Sequence[Object], related: Iterable[Object], now: datetime.datetime
) -> Plan:
    """*active* are its own Pods that count, *related* those of all ReplicaSets of the same owner."""
    if meta.is_terminating(replica_set):
        return Plan()
    surplus = len(active) - replicas(replica_set)
    if surplus < 0:
        return Plan(create=min(-surplus, BURST))
    if surplus > 0:
        return Plan(delete=tuple(ranking.to_delete(active, related, min(surplus, BURST), now)))
    return Plan()


def replicas(replica_set: Object) -> int:
    wanted = replica_set["spec"].get("replicas")
    return 1 if wanted is None else int(wanted)


def pod(owner: Object, template: Object) -> Object:
    """A Pod of *template* that *owner* controls. Its name is the server's to complete."""
    metadata = template.get("metadata") or {}
    made: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{meta.name(owner)}-",
            "namespace": meta.namespace(owner),
            "ownerReferences": [meta.owner_reference(owner)],
        },
        "spec": template.get("spec") or {},
    }
    for field in ("labels", "annotations", "finalizers"):
        if metadata.get(field):
            made["metadata"][field] = metadata[field]
    return made


def available_in(pod: Object, min_ready_seconds: int, now: datetime.datetime) -> float | None:
    """Seconds until a ready Pod is available, 0 if it is; None if it is not ready."""
    condition = pods.condition(pod, "Ready")
    if condition is None or condition.get("status") != "True":
        return None
    if not min_ready_seconds:
        return 0
    since = condition.get("lastTransitionTime")
    if not since:
        return None
    return max(0.0, min_ready_seconds - (now - meta.parse_time(since)).total_seconds())


@dataclass(frozen=True, slots=True)
class Failure:
    """Pods could not be created or deleted: *reason* is ``FailedCreate`` or ``FailedDelete``."""

    reason: str
    message: str


def conditions(replica_set: Object, failure: Failure | None, now: datetime.datetime) -> list[Object]:
    """Its conditions after an attempt that ended in *failure*, or well."""
    old = (replica_set.get("status") or {}).get("conditions") or []
    others = [each for each in old if each["type"] != "ReplicaFailure"]
    if failure is None:
        return others
    current = pods.condition(replica_set, "ReplicaFailure") or {
        "type": "ReplicaFailure",
        "status": "True",
        "lastTransitionTime": meta.format_time(now),
        "reason": failure.reason,
        "message": failure.message,
    }
    return [*others, current]


def status(
    replica_set: Object,
    active: Sequence[Object],
    terminating: int,
    found: Sequence[Object],
    now: datetime.datetime,
) -> tuple[Object, float | None]:
    """The status with the conditions *found*, and the seconds until a ready Pod becomes available."""
    spec = replica_set["spec"]
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    min_ready = int(spec.get("minReadySeconds") or 0)
    waits = [wait for wait in (available_in(each, min_ready, now) for each in active) if wait is not None]
    counts = {
        "fullyLabeledReplicas": sum(labels.items() <= meta.labels(each).items() for each in active),
        "readyReplicas": sum(map(pods.is_ready, active)),
        "availableReplicas": sum(wait == 0 for wait in waits),
        "observedGeneration": replica_set["metadata"].get("generation", 0),
    }
    new: Object = {
        "replicas": len(active),
        **{name: count for name, count in counts.items() if count},
        "terminatingReplicas": terminating,
    }
    if found:
        new["conditions"] = list(found)
    return new, min((wait for wait in waits if wait > 0), default=None)
