"""Which Pods go first when there are too many.

The order is that of k8s.io/kubernetes ``pkg/controller`` ``ActivePodsWithRanks``: those that are worth least.
"""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from buoy.api import meta, pods
from buoy.api.meta import Object

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def to_delete(
    own: Sequence[Object], related: Iterable[Object], count: int, now: datetime.datetime
) -> list[Object]:
    """The *count* Pods of *own* to delete. *related* are all Pods of the same Deployment, own ones too.

    First those without a node, then pending, unknown and unready ones, cheap ones
    (``controller.kubernetes.io/pod-deletion-cost``), those that share a node with most related Pods, those
    ready for the shortest time, those restarted most often, the youngest. Times count by their order of
    magnitude only, so that which of Pods of about the same age goes is left to chance (their uid).
    """
    if count >= len(own):
        return list(own)
    on_node = Counter(pod["spec"].get("nodeName", "") for pod in related if pods.is_active(pod))
    rank = _rank(on_node, now)
    return sorted(own, key=rank)[:count]


def _rank(on_node: Counter[str], now: datetime.datetime) -> Callable[[Object], tuple[Any, ...]]:
    def key(pod: Object) -> tuple[Any, ...]:
        node = pod["spec"].get("nodeName", "")
        status = pod.get("status") or {}
        ready = pods.is_ready(pod)
        return (
            bool(node),
            _PHASES.get(status.get("phase", ""), 0),
            ready,
            deletion_cost(pod),
            -on_node[node],
            _magnitude(_ready_since(pod), now) if ready else 0,
            tuple(-count for count in _restarts(pod)),
            _magnitude(pod["metadata"].get("creationTimestamp", ""), now),
            meta.uid(pod),
        )

    return key


def deletion_cost(pod: Object) -> int:
    """The annotation's value; 0 if it has none or one that is no 32 bit integer."""
    text = meta.annotations(pod).get(DELETION_COST, "")
    try:
        cost = int(text)
    except ValueError:
        return 0
    return cost if -(2**31) <= cost < 2**31 and text[:1] != "+" else 0


def _ready_since(pod: Object) -> str:
    condition = pods.condition(pod, "Ready")
    return (condition or {}).get("lastTransitionTime") or ""


def _restarts(pod: Object) -> tuple[int, int]:
    """Most restarts of one of its containers, and of one of its sidecars."""
    status = pod.get("status") or {}
    sidecars = {each["name"] for each in pod["spec"].get("initContainers") or () if pods.is_sidecar(each)}
    return (
        max((each.get("restartCount", 0) for each in status.get("containerStatuses") or ()), default=0),
        max(
            (
                each.get("restartCount", 0)
                for each in status.get("initContainerStatuses") or ()
                if each["name"] in sidecars
            ),
            default=0,
        ),
    )


def _magnitude(moment: str, now: datetime.datetime) -> int:
    """The order of magnitude of an age: what has no time yet counts as the youngest."""
    if not moment:
        return -2
    age = (now - meta.parse_time(moment)).total_seconds() * 1e9
    return int(math.log2(age)) if age > 0 else -1
