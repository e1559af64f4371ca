"""From a container's requests and limits to what the kernel enforces. No input or output."""

from __future__ import annotations

from typing import NamedTuple

from ..api import pods as api_pods
from ..api import quantity
from ..api.meta import Object
from . import pod as pods

CPU_PERIOD = 100_000
_MIN_SHARES, _MAX_SHARES = 2, 262_144
_MIN_QUOTA = 1000
_SYSTEM_CRITICAL_PRIORITY = 2_000_000_000


class Limits(NamedTuple):
    """*cpu_quota* in microseconds a `CPU_PERIOD`, *memory* in bytes; 0 for no limit."""

    cpu_shares: int
    cpu_quota: int
    memory: int


def cpu_shares(milli: int) -> int:
    return min(max(milli * 1024 // 1000, _MIN_SHARES), _MAX_SHARES)


def cpu_quota(milli: int) -> int:
    return max(milli * CPU_PERIOD // 1000, _MIN_QUOTA) if milli else 0


def container_limits(container: Object) -> Limits:
    cpu, memory = pods.limit(container, "cpu"), pods.limit(container, "memory")
    request = pods.requested(container, "cpu")
    return Limits(
        cpu_shares(quantity.milli(request) if request is not None else 0),
        cpu_quota(quantity.milli(cpu)) if cpu is not None else 0,
        quantity.whole(memory) if memory is not None else 0,
    )


def pod_limits(pod: Object) -> Limits:
    """The bounds of the whole Pod's cgroup: only where every container has one (or the Pod itself)."""
    requests, limits = api_pods.requests(pod), api_pods.limits(pod)
    whole = (pod["spec"].get("resources") or {}).get("limits") or {}
    lasting = [*pods.init_containers(pod), *pods.containers(pod)]
    bounded = {
        name: name in whole or all(pods.limit(c, name) is not None for c in lasting)
        for name in ("cpu", "memory")
    }
    cpu = requests.get("cpu", 0) or 0
    return Limits(
        cpu_shares(int(cpu * 1000)),
        cpu_quota(int(limits.get("cpu", 0) * 1000)) if bounded["cpu"] else 0,
        int(limits.get("memory", 0)) if bounded["memory"] else 0,
    )


def oom_score_adjust(pod: Object, container: Object, memory_capacity: int) -> int:
    """How willingly the kernel kills the container when memory is short: -997 (hardly) to 1000 (first)."""
    if (pod["spec"].get("priority") or 0) >= _SYSTEM_CRITICAL_PRIORITY:
        return -997
    qos = api_pods.qos_class(pod)
    if qos == "Guaranteed":
        return -997
    if qos == "BestEffort":
        return 1000
    request = pods.requested(container, "memory")
    asked = quantity.whole(request) if request is not None else 0
    return min(max(1000 - 1000 * asked // max(memory_capacity, 1), 3), 999)
