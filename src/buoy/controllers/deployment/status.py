"""What a Deployment says of itself: counts, and the conditions Available, Progressing, ReplicaFailure."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from buoy.api import meta
from buoy.api.meta import Object

from . import numbers

Conditions = tuple[Object, ...]

FOUND_NEW = "FoundNewReplicaSet"
CREATED_NEW = "NewReplicaSetCreated"
UPDATED = "ReplicaSetUpdated"
AVAILABLE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"
CREATE_ERROR = "ReplicaSetCreateError"
PAUSED = "DeploymentPaused"
RESUMED = "DeploymentResumed"


def condition(type: str, status: str, reason: str, message: str, now: datetime.datetime) -> Object:
    moment = meta.format_time(now)
    return {
        "type": type,
        "status": status,
        "lastUpdateTime": moment,
        "lastTransitionTime": moment,
        "reason": reason,
        "message": message,
    }


def find(conditions: Sequence[Object], type: str) -> Object | None:
    return next((each for each in conditions if each["type"] == type), None)


def without(conditions: Conditions, type: str) -> Conditions:
    return tuple(each for each in conditions if each["type"] != type)


def with_condition(conditions: Conditions, new: Object) -> Conditions:
    """Set it, unless status and reason are the same already; the transition time is the status's alone."""
    current = find(conditions, new["type"])
    if current is not None and current["status"] == new["status"]:
        if current.get("reason") == new["reason"]:
            return conditions
        new = {**new, "lastTransitionTime": current.get("lastTransitionTime", new["lastTransitionTime"])}
    return (*without(conditions, new["type"]), new)


def deadline(deployment: Object) -> int | None:
    """``progressDeadlineSeconds`` if there is one in effect."""
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return None if seconds is None or seconds == numbers.NO_LIMIT else int(seconds)


def conditions_of(deployment: Object) -> Conditions:
    return tuple((deployment.get("status") or {}).get("conditions") or ())


def complete(deployment: Object, status: Object) -> bool:
    """The rollout is over and every Pod of it available."""
    wanted = numbers.replicas(deployment)
    return all(
        status.get(field, 0) == wanted for field in ("updatedReplicas", "replicas", "availableReplicas")
    ) and status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)


def progressing(before: Object, after: Object) -> bool:
    def old_pods(status: Object) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    return old_pods(after) < old_pods(before) or any(
        after.get(field, 0) > before.get(field, 0)
        for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )


def seconds_left(deployment: Object, conditions: Conditions, now: datetime.datetime) -> float | None:
    """Until the progress deadline passes; None where none runs."""
    limit = deadline(deployment)
    current = find(conditions, "Progressing")
    if limit is None or current is None or current.get("reason") in (AVAILABLE, TIMED_OUT):
        return None
    since = meta.parse_time(current["lastUpdateTime"])
    return limit - (now - since).total_seconds()


def counts(
    deployment: Object,
    replica_sets: Sequence[Object],
    new: Object | None,
    conditions: Conditions,
    now: datetime.datetime,
) -> Object:
    """The status with all its numbers and the Available condition. Zero counts are left out, as in Go."""
    available = numbers.total(replica_sets, "availableReplicas")
    numbers_only: dict[str, Any] = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": numbers.total(replica_sets, "replicas"),
        "updatedReplicas": numbers.count(new, "replicas") if new else 0,
        "readyReplicas": numbers.total(replica_sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, numbers.total_size(replica_sets) - available),
    }
    status: Object = {key: value for key, value in numbers_only.items() if value}
    if all("terminatingReplicas" in (each.get("status") or {}) for each in replica_sets):
        status["terminatingReplicas"] = numbers.total(replica_sets, "terminatingReplicas")
    collisions = (deployment.get("status") or {}).get("collisionCount")
    if collisions is not None:
        status["collisionCount"] = collisions
    if available >= numbers.replicas(deployment) - numbers.max_unavailable(deployment):
        verdict = condition(
            "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now
        )
    else:
        verdict = condition(
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
            now,
        )
    status["conditions"] = list(with_condition(conditions, verdict))
    return status


def rollout(
    deployment: Object,
    replica_sets: Sequence[Object],
    new: Object | None,
    conditions: Conditions,
    now: datetime.datetime,
) -> Object:
    """`counts`, and how the rollout goes: the conditions Progressing and ReplicaFailure."""
    status = counts(deployment, replica_sets, new, conditions, now)
    before = deployment.get("status") or {}
    found: Conditions = tuple(status["conditions"])
    current = find(found, "Progressing")
    subject = f'ReplicaSet "{meta.name(new)}"' if new else f'Deployment "{meta.name(deployment)}"'
    if deadline(deployment) is None:
        found = without(found, "Progressing")
    elif not (
        status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and current is not None
        and current.get("reason") == AVAILABLE
    ):
        left = seconds_left(deployment, found, now)
        if complete(deployment, status):
            found = with_condition(
                found,
                condition("Progressing", "True", AVAILABLE, f"{subject} has successfully progressed.", now),
            )
        elif progressing(before, status):
            moved = condition("Progressing", "True", UPDATED, f"{subject} is progressing.", now)
            if current is not None and current["status"] == "True":
                moved["lastTransitionTime"] = current["lastTransitionTime"]
            # Each step forward restarts the deadline, so that the time of update must always be written.
            found = (*without(found, "Progressing"), moved)
        elif left is not None and left < 0:
            found = with_condition(
                found,
                condition("Progressing", "False", TIMED_OUT, f"{subject} has timed out progressing.", now),
            )
    failure = _failure(replica_sets, new)
    found = with_condition(found, failure) if failure else without(found, "ReplicaFailure")
    status["conditions"] = list(found)
    return status


def pause(deployment: Object, conditions: Conditions, now: datetime.datetime) -> Conditions:
    """The Progressing condition while ``spec.paused``, and after, so that the deadline restarts then."""
    current = find(conditions, "Progressing")
    if deadline(deployment) is None or (current is not None and current.get("reason") == TIMED_OUT):
        return conditions
    shown = current is not None and current.get("reason") == PAUSED
    paused = bool(deployment["spec"].get("paused"))
    if paused and not shown:
        new = condition("Progressing", "Unknown", PAUSED, "Deployment is paused", now)
    elif not paused and shown:
        new = condition("Progressing", "Unknown", RESUMED, "Deployment is resumed", now)
    else:
        return conditions
    return with_condition(conditions, new)


def _failure(replica_sets: Sequence[Object], new: Object | None) -> Object | None:
    for each in ([new] if new else []) + [other for other in replica_sets if other is not new]:
        failure = find((each.get("status") or {}).get("conditions") or (), "ReplicaFailure")
        if failure is not None:
            moment = failure.get("lastTransitionTime", "")
            return {
                "type": "ReplicaFailure",
                "status": failure["status"],
                "lastUpdateTime": moment,
                "lastTransitionTime": moment,
                "reason": failure.get("reason", ""),
                "message": failure.get("message", ""),
            }
    return None
