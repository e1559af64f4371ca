"""The arithmetic of a rollout: how far a Deployment may go above and below its size.

Rounding follows k8s.io/kubernetes ``pkg/controller/deployment/util``: surge is rounded up, unavailability
down, and both zero would never move, so that one Pod may then be unavailable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from buoy.api.meta import Object

NO_LIMIT = 2**31 - 1
"""The value by which users say "never" where a field is defaulted."""

DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"


def share(value: int | str, total: int, *, round_up: bool) -> int:
    """An int-or-percent of *total*. ValueError if it is neither."""
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ValueError(f"neither an integer nor a percentage: {value!r}")
    scaled = int(value[:-1]) * total
    return -(-scaled // 100) if round_up else scaled // 100


def replicas(deployment: Object) -> int:
    """The size wanted."""
    wanted = deployment["spec"].get("replicas")
    return 1 if wanted is None else int(wanted)


def is_rolling(deployment: Object) -> bool:
    return (deployment["spec"].get("strategy") or {}).get("type") != "Recreate"


def fence_posts(deployment: Object) -> tuple[int, int]:
    """(surge, unavailable) as numbers of Pods."""
    if not is_rolling(deployment):
        return 0, 0
    limits = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    total = replicas(deployment)
    surge = share(limits.get("maxSurge", "25%"), total, round_up=True)
    unavailable = share(limits.get("maxUnavailable", "25%"), total, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable


def max_surge(deployment: Object) -> int:
    return fence_posts(deployment)[0]


def max_unavailable(deployment: Object) -> int:
    return min(fence_posts(deployment)[1], replicas(deployment))


def size(replica_set: Object) -> int:
    """The size that a ReplicaSet is to have."""
    return int(replica_set["spec"].get("replicas", 1))


def total_size(replica_sets: Iterable[Object]) -> int:
    return sum(map(size, replica_sets))


def count(replica_set: Object, field: str) -> int:
    """A number of its status: ``replicas``, ``readyReplicas``, ``availableReplicas``."""
    return int((replica_set.get("status") or {}).get(field) or 0)


def total(replica_sets: Iterable[Object], field: str) -> int:
    return sum(count(each, field) for each in replica_sets)


def annotated(replica_set: Object, annotation: str) -> int | None:
    """An annotation that should be a number; None if it is missing or is none."""
    text = (replica_set["metadata"].get("annotations") or {}).get(annotation, "")
    return int(text) if text.isascii() and text.isdigit() else None


def new_size(deployment: Object, replica_sets: Iterable[Object], new: Object) -> int:
    """How large the newest ReplicaSet may be now, beside the others."""
    wanted = replicas(deployment)
    if not is_rolling(deployment):
        return wanted
    current = total_size(replica_sets)
    room = wanted + max_surge(deployment) - current
    if room <= 0:
        return size(new)
    return size(new) + min(room, wanted - size(new))


def proportional(deployment: Object, replica_sets: list[Object]) -> list[tuple[Object, int]]:
    """Sizes for ReplicaSets in the middle of a rollout when the Deployment's own size changes.

    Each keeps its share of the whole; what rounding leaves over goes to the largest.
    """
    allowed = replicas(deployment) + max_surge(deployment) if replicas(deployment) > 0 else 0
    to_add = allowed - total_size(replica_sets)
    ordered = sorted(replica_sets, key=_created, reverse=to_add > 0)
    ordered.sort(key=size, reverse=True)
    added = 0
    sizes = []
    for each in ordered:
        proportion = 0
        if size(each) and to_add != added:
            left = to_add - added
            fraction = _fraction(deployment, each)
            proportion = min(fraction, left) if to_add > 0 else max(fraction, left)
        added += proportion
        sizes.append(size(each) + proportion)
    if sizes and to_add:
        sizes[0] = max(0, sizes[0] + to_add - added)
    return list(zip(ordered, sizes, strict=True))


def _created(replica_set: Object) -> tuple[str, str]:
    metadata = replica_set["metadata"]
    return metadata.get("creationTimestamp", ""), metadata["name"]


def _fraction(deployment: Object, replica_set: Object) -> int:
    if replicas(deployment) == 0:
        return -size(replica_set)
    before = annotated(replica_set, MAXIMUM) or count(deployment, "replicas")
    if not before:
        return 0
    exact = size(replica_set) * (replicas(deployment) + max_surge(deployment)) / before
    return math.floor(exact + 0.5) - size(replica_set)
