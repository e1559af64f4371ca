"""What silence or a condition of a node means for its conditions and taints.

Names, reasons and texts are those of k8s.io/kubernetes ``pkg/controller/nodelifecycle``.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from buoy.api import meta, pods, taints
from buoy.api.meta import Object

_WATCHED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_PRESSURE = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
_READINESS = {"False": taints.NOT_READY, "Unknown": taints.UNREACHABLE}
_MANAGED = frozenset({*_PRESSURE.values(), *_READINESS.values(), taints.UNSCHEDULABLE})


def readiness(node: Object) -> str:
    """``True``, ``False`` or ``Unknown``, which is also what a node without the condition is."""
    condition = pods.condition(node, "Ready")
    return str(condition["status"]) if condition else "Unknown"


def gone_quiet(node: Object, now: datetime.datetime) -> list[Object] | None:
    """The conditions of a node that nothing has been heard of for too long, None if it has them already."""
    moment = meta.format_time(now)
    old = (node.get("status") or {}).get("conditions") or []
    found = {each["type"]: each for each in old}
    changed = False
    for kind in _WATCHED:
        condition = found.get(kind)
        if condition is None:
            found[kind] = {
                "type": kind,
                "status": "Unknown",
                "lastHeartbeatTime": node["metadata"].get("creationTimestamp", moment),
                "lastTransitionTime": moment,
                "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
            }
            changed = True
        elif condition["status"] != "Unknown":
            found[kind] = {
                **condition,
                "status": "Unknown",
                "lastTransitionTime": moment,
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
            }
            changed = True
    return list(found.values()) if changed else None


def wanted_taints(node: Object, *, may_evict: bool, now: datetime.datetime) -> list[Object]:
    """All taints that the node is to have: its own, and those that follow from its conditions.

    The ones that evict (NoExecute) are only added if *may_evict*; one that is there stays, or changes places
    with its like, until the node is ready.
    """
    current = taints.of(node)
    kept = [
        taint
        for taint in current
        if taint["key"] not in _MANAGED or taint.get("effect") not in ("NoSchedule", "NoExecute")
    ]
    kept += [
        taint
        for taint in current
        if taint.get("effect") == "NoExecute" and taint["key"] in _MANAGED - {*_READINESS.values()}
    ]
    ready = readiness(node)
    # A node that has just registered has the taint from its admission; without conditions nothing is known.
    if ready in _READINESS:
        key = _READINESS[ready] if pods.condition(node, "Ready") else taints.NOT_READY
        kept.append(_keep(current, key, "NoSchedule", now))
        evicting = [
            taint
            for taint in current
            if taint["key"] in _READINESS.values() and taint.get("effect") == "NoExecute"
        ]
        if evicting or (may_evict and pods.condition(node, "Ready")):
            kept.append(_keep(current, key, "NoExecute", now))
    for kind, key in _PRESSURE.items():
        if pods.is_true(node, kind):
            kept.append(_keep(current, key, "NoSchedule", now))
    if (node.get("spec") or {}).get("unschedulable"):
        kept.append(_keep(current, taints.UNSCHEDULABLE, "NoSchedule", now))
    return kept


def is_evicting(node: Object) -> bool:
    """It has the taint that makes Pods leave a node that is not ready."""
    return any(taint["key"] in _READINESS.values() for taint in taints.of(node, "NoExecute"))


def without_eviction(found: Iterable[Object]) -> list[Object]:
    return [
        taint
        for taint in found
        if taint["key"] not in _READINESS.values() or taint.get("effect") != "NoExecute"
    ]


def same_taints(one: Iterable[Object], other: Iterable[Object]) -> bool:
    """Whatever their order."""

    def key(found: Iterable[Object]) -> set[tuple[str, str, str]]:
        return {(each["key"], each.get("value") or "", each.get("effect") or "") for each in found}

    return key(one) == key(other)


def _keep(current: Iterable[Object], key: str, effect: str, now: datetime.datetime) -> Object:
    for taint in current:
        if taint["key"] == key and taint.get("effect") == effect:
            return taint
    made = {"key": key, "effect": effect}
    if effect == "NoExecute":
        made["timeAdded"] = meta.format_time(now)
    return made


class Zone(Enum):
    """How bad things are in a zone: many nodes lost at once look like the network's fault, not the nodes'."""

    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


@dataclass(frozen=True, slots=True)
class ZoneState:
    state: Zone
    size: int


def zone_of(node: Object) -> str:
    labels = meta.labels(node)
    return (
        f"{labels.get('topology.kubernetes.io/region', '')}/{labels.get('topology.kubernetes.io/zone', '')}"
    )


def zones(nodes: Iterable[Object], threshold: float) -> dict[str, ZoneState]:
    """The state of each zone, partly disrupted from a share *threshold* of unready nodes on."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for node in nodes:
        counts[zone_of(node)][readiness(node) == "True"] += 1
    found = {}
    for zone, (bad, good) in counts.items():
        state = Zone.NORMAL
        if not good:
            state = Zone.FULL
        elif bad > 2 and bad / (bad + good) >= threshold:
            state = Zone.PARTIAL
        found[zone] = ZoneState(state, bad + good)
    return found


class Pace:
    """A token bucket of one token: how fast nodes of a zone may be given up. Times are of a steady clock."""

    def __init__(self) -> None:
        self._last: float | None = None

    def wait(self, rate: float, now: float) -> float:
        """Seconds until the next one may go, 0 for now. *rate* is in nodes a second and must not be 0."""
        return 0.0 if self._last is None else max(0.0, self._last + 1 / rate - now)

    def take(self, now: float) -> None:
        self._last = now
