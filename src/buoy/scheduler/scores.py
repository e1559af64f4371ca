"""Where a Pod would best run: 0 to 100 points a plugin, weighted as kube-scheduler's defaults are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from buoy.api import placement, taints

from .filters import domains
from .state import HOSTNAME, NodeState, PodInfo

Scores = Mapping[str, float]

_ZONE = "topology.kubernetes.io/zone"
_DEFAULT_SPREAD = ((HOSTNAME, 3), (_ZONE, 5))


def least_allocated(pod: PodInfo, nodes: Sequence[NodeState]) -> Scores:
    """The more that stays free, the better."""
    scores = {}
    for state in nodes:
        cpu, memory = _shares(pod, state)
        scores[state.name] = (_free(cpu) + _free(memory)) / 2
    return scores


def balanced_allocation(pod: PodInfo, nodes: Sequence[NodeState]) -> Scores:
    """CPU and memory shall be used up at the same pace."""
    scores = {}
    for state in nodes:
        cpu, memory = (min(share, 1.0) for share in _shares(pod, state))
        scores[state.name] = (1 - abs(cpu - memory) / 2) * 100
    return scores


def _shares(pod: PodInfo, state: NodeState) -> tuple[float, float]:
    cpu, memory = pod.weight
    return (
        _share(state.cpu_weight + cpu, state.allocatable.get("cpu", 0)),
        _share(state.memory_weight + memory, state.allocatable.get("memory", 0)),
    )


def _share(used: int, there: int) -> float:
    return used / there if there else 1.0


def _free(share: float) -> float:
    return max(0.0, 1 - share) * 100


def taint_toleration(pod: PodInfo, nodes: Sequence[NodeState]) -> Scores:
    """The fewer PreferNoSchedule taints that it does not tolerate, the better."""
    counts = {
        state.name: len(taints.untolerated(pod.obj, taints.of(state.node or {}, "PreferNoSchedule")))
        for state in nodes
    }
    return _normalised(counts, reverse=True)


def node_affinity(pod: PodInfo, nodes: Sequence[NodeState]) -> Scores:
    affinity = (pod.spec.get("affinity") or {}).get("nodeAffinity") or {}
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    if not preferred:
        return {}
    return _normalised(
        {
            state.name: sum(
                each["weight"]
                for each in preferred
                if placement.matches_term(each["preference"], state.node or {})
            )
            for state in nodes
        }
    )


def topology_spread(pod: PodInfo, nodes: Sequence[NodeState]) -> Scores:
    """``ScheduleAnyway`` constraints; without any constraint, apart from what has the same controller."""
    wished = [each for each in pod.spread if not each.required]
    parts: list[tuple[str, int, Counter[str]]] = []
    if wished:
        parts = [(each.key, each.max_skew, domains(each, pod, nodes)) for each in wished]
    elif not pod.spread and pod.owner:
        for key, max_skew in _DEFAULT_SPREAD:
            counts: Counter[str] = Counter()
            for state in nodes:
                if key in state.labels:
                    counts[state.labels[key]] += state.owners[pod.owner]
            parts.append((key, max_skew, counts))
    if not any(counts for _, _, counts in parts):
        return {}
    costs = {
        state.name: sum(
            counts[state.labels[key]] * math.log(len(counts) + 2) + max_skew - 1
            for key, max_skew, counts in parts
            if key in state.labels
        )
        for state in nodes
    }
    most, least = max(costs.values()), min(costs.values())
    return {name: 100 * (most + least - cost) / most if most else 100 for name, cost in costs.items()}


def inter_pod_affinity(pod: PodInfo, nodes: Sequence[NodeState]) -> Scores:
    """Preferences for and against company, the new Pod's and those of the Pods already there."""
    weights: Counter[tuple[str, str]] = Counter()
    for state in nodes:
        for term in pod.preferred:
            if term.topology_key in state.labels:
                company = sum(map(term.fits, state.pods.values()))
                weights[term.topology_key, state.labels[term.topology_key]] += company * term.weight
        for other in state.sociable.values():
            for term in other.preferred:
                if term.topology_key in state.labels and term.fits(pod):
                    weights[term.topology_key, state.labels[term.topology_key]] += term.weight
    if not weights:
        return {}
    sums = {
        state.name: sum(weight for (key, value), weight in weights.items() if state.labels.get(key) == value)
        for state in nodes
    }
    least, most = min(sums.values()), max(sums.values())
    return {name: 100 * (each - least) / (most - least) if most > least else 0 for name, each in sums.items()}


def _normalised(counts: Mapping[str, int], *, reverse: bool = False) -> Scores:
    most = max(counts.values(), default=0)
    if not most:
        return {}
    return {name: 100 * ((most - count) if reverse else count) / most for name, count in counts.items()}


PLUGINS: Sequence[tuple[Callable[[PodInfo, Sequence[NodeState]], Scores], int]] = (
    (taint_toleration, 3),
    (node_affinity, 2),
    (topology_spread, 2),
    (inter_pod_affinity, 2),
    (least_allocated, 1),
    (balanced_allocation, 1),
)


def total(pod: PodInfo, nodes: Sequence[NodeState]) -> dict[str, float]:
    sums = {state.name: 0.0 for state in nodes}
    for plugin, weight in PLUGINS:
        for name, score in plugin(pod, nodes).items():
            sums[name] += weight * score
    return sums
