"""What the scheduler knows: nodes, and what the Pods on them take.

Amounts are whole numbers: CPU in thousandths of a core, everything else in its own unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from buoy.api import meta, pods, quantity, selectors, volumes
from buoy.api.meta import Object
from buoy.api.selectors import Selector

HOSTNAME = "kubernetes.io/hostname"

_SCORE_CPU = 100
_SCORE_MEMORY = 200 * 1024 * 1024


def amount(name: str, text: str | int) -> int:
    return quantity.milli(text) if name == "cpu" else quantity.whole(text)


@dataclass(frozen=True)
class Term:
    """An (anti-)affinity term: Pods of *namespaces* (None: all) that *selector* fits, by *topology_key*."""

    selector: Selector
    topology_key: str
    namespaces: frozenset[str] | None
    weight: int = 0

    def fits(self, pod: PodInfo) -> bool:
        return (self.namespaces is None or pod.namespace in self.namespaces) and self.selector.matches(
            pod.labels
        )


@dataclass(frozen=True)
class PodInfo:
    """A Pod, read once."""

    obj: Object

    @property
    def uid(self) -> str:
        return meta.uid(self.obj)

    @property
    def namespace(self) -> str:
        return meta.namespace(self.obj)

    @property
    def labels(self) -> Mapping[str, str]:
        return meta.labels(self.obj)

    @property
    def spec(self) -> Object:
        spec: Object = self.obj["spec"]
        return spec

    @cached_property
    def owner(self) -> str:
        """The uid of its controller, empty if it has none."""
        owner = meta.controller_of(self.obj)
        return str(owner["uid"]) if owner else ""

    @cached_property
    def requests(self) -> Mapping[str, int]:
        return {
            name: int((value * 1000 if name == "cpu" else value).to_integral_value("ROUND_CEILING"))
            for name, value in pods.requests(self.obj).items()
            if value
        }

    @cached_property
    def weight(self) -> tuple[int, int]:
        """CPU and memory as they count for scores: what asks for nothing still takes something."""
        containers = self.spec.get("containers") or ()
        cpu, memory = self.requests.get("cpu", 0), self.requests.get("memory", 0)
        for container in containers:
            asked = (container.get("resources") or {}).get("requests") or {}
            cpu += 0 if "cpu" in asked else _SCORE_CPU
            memory += 0 if "memory" in asked else _SCORE_MEMORY
        return cpu, memory

    @cached_property
    def claims(self) -> frozenset[str]:
        """The keys of the PersistentVolumeClaims that it uses."""
        return frozenset(volumes.claim_keys(self.obj))

    @cached_property
    def ports(self) -> frozenset[tuple[str, str, int]]:
        return frozenset(pods.host_ports(self.obj))

    @cached_property
    def affinity(self) -> tuple[Term, ...]:
        return tuple(self._terms("podAffinity", "requiredDuringSchedulingIgnoredDuringExecution"))

    @cached_property
    def anti_affinity(self) -> tuple[Term, ...]:
        return tuple(self._terms("podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution"))

    @cached_property
    def preferred(self) -> tuple[Term, ...]:
        """Preferred terms; those of anti-affinity with a negative weight."""
        liked = self._terms("podAffinity", "preferredDuringSchedulingIgnoredDuringExecution")
        disliked = self._terms("podAntiAffinity", "preferredDuringSchedulingIgnoredDuringExecution")
        return (
            *liked,
            *(Term(each.selector, each.topology_key, each.namespaces, -each.weight) for each in disliked),
        )

    def _terms(self, kind: str, strength: str) -> Iterator[Term]:
        affinity = (self.spec.get("affinity") or {}).get(kind) or {}
        for each in affinity.get(strength) or ():
            term, weight = each.get("podAffinityTerm") or each, int(each.get("weight") or 0)
            namespaces: frozenset[str] | None = frozenset(term.get("namespaces") or ())
            if term.get("namespaceSelector") is not None:
                # Only the empty selector, all namespaces, is understood: labels of namespaces aren't known.
                namespaces = None
            elif not namespaces:
                namespaces = frozenset({self.namespace})
            selector = self._with_label_keys(term)
            yield Term(selector, term["topologyKey"], namespaces, weight)

    def _with_label_keys(self, term: Object) -> Selector:
        """The term's selector, with ``matchLabelKeys`` and ``mismatchLabelKeys`` filled in from the Pod."""
        selector: Object = dict(term.get("labelSelector") or {})
        more = [
            {"key": key, "operator": operator, "values": [self.labels[key]]}
            for field_name, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn"))
            for key in term.get(field_name) or ()
            if key in self.labels
        ]
        if more:
            selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), *more]
        return selectors.from_object(selector if term.get("labelSelector") is not None or more else None)

    @cached_property
    def spread(self) -> tuple[Spread, ...]:
        return tuple(
            Spread(
                key=each["topologyKey"],
                max_skew=int(each["maxSkew"]),
                required=each.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
                selector=self._with_label_keys(each),
                min_domains=int(each.get("minDomains") or 1),
                honor_affinity=each.get("nodeAffinityPolicy", "Honor") == "Honor",
                honor_taints=each.get("nodeTaintsPolicy", "Ignore") == "Honor",
            )
            for each in self.spec.get("topologySpreadConstraints") or ()
        )


@dataclass(frozen=True, slots=True)
class Spread:
    """A topology spread constraint."""

    key: str
    max_skew: int
    required: bool
    selector: Selector
    min_domains: int = 1
    honor_affinity: bool = True
    honor_taints: bool = False

    def counts(self, pod: PodInfo, namespace: str) -> bool:
        return (
            pod.namespace == namespace
            and not meta.is_terminating(pod.obj)
            and self.selector.matches(pod.labels)
        )


@dataclass
class NodeState:
    """A node and the sums over its Pods. *node* is None as long as only its Pods are known.

    *sociable* are those of its Pods that mind who comes near them.
    """

    name: str
    node: Object | None = None
    pods: dict[str, PodInfo] = field(default_factory=dict)
    sociable: dict[str, PodInfo] = field(default_factory=dict)
    allocatable: dict[str, int] = field(default_factory=dict)
    requested: Counter[str] = field(default_factory=Counter)
    cpu_weight: int = 0
    memory_weight: int = 0
    ports: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    owners: Counter[str] = field(default_factory=Counter)

    @property
    def labels(self) -> Mapping[str, str]:
        return meta.labels(self.node) if self.node is not None else {}

    def set_node(self, node: Object | None) -> None:
        self.node = node
        found = ((node or {}).get("status") or {}).get("allocatable") or {}
        self.allocatable = {name: amount(name, text) for name, text in found.items()}

    def add(self, pod: PodInfo) -> None:
        self.remove(pod.uid)
        self.pods[pod.uid] = pod
        if pod.anti_affinity or pod.preferred:
            self.sociable[pod.uid] = pod
        self._count(pod, 1)

    def remove(self, uid: str) -> None:
        pod = self.pods.pop(uid, None)
        self.sociable.pop(uid, None)
        if pod is not None:
            self._count(pod, -1)

    def _count(self, pod: PodInfo, sign: int) -> None:
        for name, value in pod.requests.items():
            self.requested[name] += sign * value
        cpu, memory = pod.weight
        self.cpu_weight += sign * cpu
        self.memory_weight += sign * memory
        for port in pod.ports:
            self.ports[port] += sign
            if not self.ports[port]:
                del self.ports[port]
        if pod.owner:
            self.owners[pod.owner] += sign
            if not self.owners[pod.owner]:
                del self.owners[pod.owner]


class ClusterState:
    """All nodes with their Pods, also those that are being bound and not yet seen there."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeState] = {}
        self._places: dict[str, str] = {}
        self._assumed: dict[str, PodInfo] = {}
        self._claim_users: dict[str, set[str]] = {}

    def nodes(self) -> list[NodeState]:
        return [state for state in self._nodes.values() if state.node is not None]

    def set_node(self, name: str, node: Object | None) -> None:
        state = self._state(name)
        state.set_node(node)
        if node is None and not state.pods:
            del self._nodes[name]

    def set_pod(self, pod: Object) -> None:
        """A Pod as the API server shows it; one without a node keeps the place it is assumed to have."""
        uid = meta.uid(pod)
        node = pod["spec"].get("nodeName") or ""
        if not node and uid in self._assumed and not pods.is_terminal(pod):
            return
        self._take_away(uid)
        if node and not pods.is_terminal(pod):
            self._place(PodInfo(pod), node)

    def remove_pod(self, uid: str) -> None:
        self._take_away(uid)

    def assume(self, pod: PodInfo, node: str) -> None:
        """Reckon with *pod* on *node* though it is still being bound."""
        self._place(pod, node)
        self._assumed[pod.uid] = pod

    def give_up(self, uid: str) -> None:
        """The binding has failed. Does nothing to a Pod that has been seen on its node meanwhile."""
        if uid in self._assumed:
            self._take_away(uid)

    def node(self, name: str) -> Object | None:
        state = self._nodes.get(name)
        return state.node if state is not None else None

    def claim_users(self, key: str) -> list[str]:
        """The uids of the Pods on nodes that use the claim of that key."""
        return list(self._claim_users.get(key, ()))

    def is_placed(self, uid: str) -> bool:
        return uid in self._places

    def _place(self, pod: PodInfo, node: str) -> None:
        self._state(node).add(pod)
        self._places[pod.uid] = node
        for key in pod.claims:
            self._claim_users.setdefault(key, set()).add(pod.uid)

    def _take_away(self, uid: str) -> None:
        self._assumed.pop(uid, None)
        node = self._places.pop(uid, None)
        if node is not None:
            state = self._state(node)
            for key in state.pods[uid].claims if uid in state.pods else ():
                self._claim_users[key].discard(uid)
                if not self._claim_users[key]:
                    del self._claim_users[key]
            state.remove(uid)
            if state.node is None and not state.pods:
                del self._nodes[node]

    def _state(self, name: str) -> NodeState:
        if name not in self._nodes:
            self._nodes[name] = NodeState(name)
        return self._nodes[name]
