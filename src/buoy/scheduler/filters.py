"""Where a Pod can run: one function a plugin, with kube-scheduler's words for why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from buoy.api import placement, pods, taints
from buoy.api.meta import Object

from .state import NodeState, PodInfo, Spread

UNSCHEDULABLE = "node(s) were unschedulable"
NODE_NAME = "node(s) didn't match the requested node name"
TAINTS = "node(s) had untolerated taint(s)"
AFFINITY = "node(s) didn't match Pod's node affinity/selector"
PORTS = "node(s) didn't have free ports for the requested pod ports"
TOO_MANY_PODS = "Too many pods"
SPREAD = "node(s) didn't match pod topology spread constraints"
SPREAD_LABEL = f"{SPREAD} (missing required label)"
POD_AFFINITY = "node(s) didn't match pod affinity rules"
POD_ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
EXISTING_ANTI_AFFINITY = "node(s) didn't satisfy existing pods anti-affinity rules"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node won't do. *resolvable*: it might, if Pods of lower priority left it."""

    reasons: tuple[str, ...]
    resolvable: bool = False


def node_unschedulable(pod: PodInfo, state: NodeState) -> Refusal | None:
    assert state.node is not None
    if not (state.node.get("spec") or {}).get("unschedulable"):
        return None
    taint = {"key": taints.UNSCHEDULABLE, "effect": "NoSchedule"}
    return Refusal((UNSCHEDULABLE,)) if taints.untolerated(pod.obj, [taint]) else None


def node_name(pod: PodInfo, state: NodeState) -> Refusal | None:
    wanted = pod.spec.get("nodeName")
    return Refusal((NODE_NAME,)) if wanted and wanted != state.name else None


def taint_toleration(pod: PodInfo, state: NodeState) -> Refusal | None:
    assert state.node is not None
    found = taints.of(state.node, "NoSchedule", "NoExecute")
    return Refusal((TAINTS,)) if found and taints.untolerated(pod.obj, found) else None


def node_affinity(pod: PodInfo, state: NodeState) -> Refusal | None:
    assert state.node is not None
    return None if placement.fits_node(pod.spec, state.node) else Refusal((AFFINITY,))


def node_ports(pod: PodInfo, state: NodeState) -> Refusal | None:
    if pods.host_ports_clash(pod.ports, state.ports):
        return Refusal((PORTS,), resolvable=True)
    return None


def node_resources_fit(pod: PodInfo, state: NodeState) -> Refusal | None:
    reasons = []
    resolvable = True
    if len(state.pods) + 1 > state.allocatable.get("pods", 0):
        reasons.append(TOO_MANY_PODS)
    order = {"cpu": 0, "memory": 1, "ephemeral-storage": 2}
    for name in sorted(pod.requests, key=lambda each: (order.get(each, 3), each)):
        wanted, there = pod.requests[name], state.allocatable.get(name, 0)
        if wanted > there - state.requested[name]:
            reasons.append(f"Insufficient {name}")
            resolvable = resolvable and wanted <= there
    return Refusal(tuple(reasons), resolvable) if reasons else None


_EACH: Sequence[Callable[[PodInfo, NodeState], Refusal | None]] = (
    node_unschedulable,
    node_name,
    taint_toleration,
    node_affinity,
    node_ports,
    node_resources_fit,
)


class TopologySpread:
    """``topologySpreadConstraints`` with ``DoNotSchedule``: counted once for a Pod, asked for each node."""

    def __init__(self, pod: PodInfo, nodes: Sequence[NodeState]) -> None:
        self._pod = pod
        self._constraints = [each for each in pod.spread if each.required]
        self._counts = [domains(each, pod, nodes) for each in self._constraints]

    def __call__(self, state: NodeState) -> Refusal | None:
        for constraint, counts in zip(self._constraints, self._counts, strict=True):
            domain = state.labels.get(constraint.key)
            if domain is None:
                return Refusal((SPREAD_LABEL,))
            least = min(counts.values(), default=0) if len(counts) >= constraint.min_domains else 0
            own = constraint.selector.matches(self._pod.labels)
            if counts[domain] + own - least > constraint.max_skew:
                return Refusal((SPREAD,), resolvable=True)
        return None


def domains(constraint: Spread, pod: PodInfo, nodes: Iterable[NodeState]) -> Counter[str]:
    """How many Pods that the constraint counts are in each domain that *pod* may go to."""
    counts: Counter[str] = Counter()
    for state in nodes:
        domain = state.labels.get(constraint.key)
        if domain is None or any(each.key not in state.labels for each in pod.spread if each.required):
            continue
        if constraint.honor_affinity and not placement.fits_node(pod.spec, state.node or {}):
            continue
        if constraint.honor_taints and taint_toleration(pod, state):
            continue
        counts[domain] += sum(constraint.counts(each, pod.namespace) for each in state.pods.values())
    return counts


class InterPodAffinity:
    """Required affinity and anti-affinity between Pods, the new one's and that of those already there."""

    def __init__(self, pod: PodInfo, nodes: Sequence[NodeState]) -> None:
        self._affinity = [(term, set[str]()) for term in pod.affinity]
        self._anti_affinity = [(term, set[str]()) for term in pod.anti_affinity]
        self._existing: set[tuple[str, str]] = set()
        for state in nodes:
            for term, found in (*self._affinity, *self._anti_affinity):
                domain = state.labels.get(term.topology_key)
                if domain is not None and any(map(term.fits, state.pods.values())):
                    found.add(domain)
            for other in state.sociable.values():
                for term in other.anti_affinity:
                    if term.topology_key in state.labels and term.fits(pod):
                        self._existing.add((term.topology_key, state.labels[term.topology_key]))
        # The first of a set that wants to be together has nobody to be with yet.
        self._first = not any(found for _, found in self._affinity) and all(
            term.fits(pod) for term, _ in self._affinity
        )

    def __call__(self, state: NodeState) -> Refusal | None:
        for term, found in self._affinity:
            domain = state.labels.get(term.topology_key)
            if domain is None or (domain not in found and not self._first):
                return Refusal((POD_AFFINITY,))
        for term, found in self._anti_affinity:
            if state.labels.get(term.topology_key) in found:
                return Refusal((POD_ANTI_AFFINITY,), resolvable=True)
        if any(state.labels.get(key) == value for key, value in self._existing):
            return Refusal((EXISTING_ANTI_AFFINITY,), resolvable=True)
        return None


def refusals(
    pod: PodInfo, nodes: Sequence[NodeState], volumes: Callable[[Object], Refusal | None] | None = None
) -> dict[str, Refusal]:
    """The nodes that won't do, each with the first reason found; *volumes* says why the Pod's forbid one."""
    spread = TopologySpread(pod, nodes) if pod.spread else None
    affinity = InterPodAffinity(pod, nodes)
    found = {}
    for state in nodes:
        refusal = next(filter(None, (check(pod, state) for check in _EACH)), None)
        if refusal is None and volumes is not None:
            assert state.node is not None
            refusal = volumes(state.node)
        if refusal is None and spread is not None:
            refusal = spread(state)
        if refusal is None:
            refusal = affinity(state)
        if refusal is not None:
            found[state.name] = refusal
    return found
