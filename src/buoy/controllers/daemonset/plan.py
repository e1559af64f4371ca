"""Which nodes lack their Pod, which have one too many, and which shall get a new one.

Follows k8s.io/kubernetes ``pkg/controller/daemon``. The Pods name their node by affinity, and the scheduler
binds them.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from buoy.api import meta, placement, pods, taints
from buoy.api.meta import Object

from ..deployment.numbers import share
from ..replicaset.plan import available_in
from ..replicaset.plan import pod as pod_of_template

HASH_LABEL = "controller-revision-hash"
GENERATION_LABEL = "pod-template-generation"
GENERATION = "deprecated.daemonset.template.generation"

_TOLERATED = (
    (taints.NOT_READY, "NoExecute"),
    (taints.UNREACHABLE, "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    (taints.UNSCHEDULABLE, "NoSchedule"),
)
_NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")


@dataclass(frozen=True, slots=True)
class Plan:
    """*create* are names of nodes; *wait* is in seconds, until a Pod that is ready becomes available."""

    create: tuple[str, ...] = ()
    delete: tuple[Object, ...] = ()
    wait: float | None = None


def node_of(pod: Object) -> str:
    """The node that it is on, or that its affinity binds it to; empty if neither."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for each in term.get("matchFields") or ():
            if each["key"] == "metadata.name" and len(each["values"]) == 1:
                return str(each["values"][0])
    return ""


def tolerations(daemon_set: Object) -> list[Object]:
    spec = daemon_set["spec"]["template"].get("spec") or {}
    own = list(spec.get("tolerations") or ())
    wanted = [*_TOLERATED, _NETWORK] if spec.get("hostNetwork") else _TOLERATED
    added = [{"key": key, "operator": "Exists", "effect": effect} for key, effect in wanted]
    return [*own, *(each for each in added if each not in own)]


def pod_for(daemon_set: Object, node: str, short_hash: str) -> Object:
    made = pod_of_template(daemon_set, daemon_set["spec"]["template"])
    made["metadata"]["labels"] = {
        **(made["metadata"].get("labels") or {}),
        HASH_LABEL: short_hash,
    }
    if generation := meta.annotations(daemon_set).get(GENERATION):
        made["metadata"]["labels"][GENERATION_LABEL] = generation
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    spec = made["spec"]
    affinity = spec.get("affinity") or {}
    node_affinity = affinity.get("nodeAffinity") or {}
    required = {"nodeSelectorTerms": [term]}  # that the node fits has been made sure of
    node_affinity = {**node_affinity, "requiredDuringSchedulingIgnoredDuringExecution": required}
    made["spec"] = {
        **spec,
        "affinity": {**affinity, "nodeAffinity": node_affinity},
        "tolerations": tolerations(daemon_set),
    }
    return made


def fits(daemon_set: Object, node: Object) -> tuple[bool, bool]:
    """(it should run there, it may go on running there)."""
    spec = daemon_set["spec"]["template"].get("spec") or {}
    if spec.get("nodeName") and spec["nodeName"] != meta.name(node):
        return False, False
    if not placement.fits_node(spec, node):
        return False, False
    subject: Object = {"spec": {"tolerations": tolerations(daemon_set)}}
    if taints.untolerated(subject, taints.of(node, "NoExecute")):
        return False, False
    return not taints.untolerated(subject, taints.of(node, "NoSchedule")), True


def _unavailable(daemon_set: Object, desired: int) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers of nodes."""
    rolling = (daemon_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    surge = share(rolling.get("maxSurge", 0), desired, round_up=True)
    unavailable = share(rolling.get("maxUnavailable", 1), desired, round_up=True)
    return surge, unavailable if surge or unavailable else 1


@dataclass(frozen=True, slots=True)
class _View:
    """How the Pods of a DaemonSet look at a moment."""

    short_hash: str
    min_ready: int
    now: datetime.datetime

    def is_new(self, pod: Object) -> bool:
        return meta.labels(pod).get(HASH_LABEL) == self.short_hash

    def available(self, pod: Object) -> bool:
        return available_in(pod, self.min_ready, self.now) == 0


def _view(daemon_set: Object, short_hash: str, now: datetime.datetime) -> _View:
    return _View(short_hash, int(daemon_set["spec"].get("minReadySeconds") or 0), now)


def _by_node(owned: Iterable[Object]) -> Mapping[str, list[Object]]:
    found: dict[str, list[Object]] = defaultdict(list)
    for pod in sorted(
        owned, key=lambda each: (each["metadata"].get("creationTimestamp", ""), meta.name(each))
    ):
        found[node_of(pod)].append(pod)
    return found


def plan(
    daemon_set: Object,
    owned: Sequence[Object],
    nodes: Iterable[Object],
    short_hash: str,
    now: datetime.datetime,
) -> Plan:
    """*short_hash* marks Pods of the present template. Pods of nodes that are gone are left to others."""
    if meta.is_terminating(daemon_set):
        return Plan()
    view = _view(daemon_set, short_hash, now)
    by_node = _by_node(owned)
    create: list[str] = []
    delete: list[Object] = []
    run_on: list[str] = []
    for node in nodes:
        name = meta.name(node)
        should_run, may_stay = fits(daemon_set, node)
        if should_run:
            run_on.append(name)
        here = by_node.get(name, [])
        staying = [each for each in here if not meta.is_terminating(each)]
        ended = [each for each in staying if pods.is_terminal(each)]
        if not may_stay:
            delete += staying
        elif ended:
            delete += ended  # the next pass makes another
        elif should_run and not here:
            create.append(name)
        else:
            delete += _superfluous(daemon_set, staying, view)
    waits = [available_in(each, view.min_ready, now) for each in owned]
    wait = min((each for each in waits if each), default=None)
    if not create and not delete and not _on_delete(daemon_set):
        create, delete = _replace(daemon_set, {name: by_node.get(name, []) for name in run_on}, view)
    return Plan(tuple(create), tuple(delete), wait)


def _on_delete(daemon_set: Object) -> bool:
    return (daemon_set["spec"].get("updateStrategy") or {}).get("type") == "OnDelete"


def _superfluous(daemon_set: Object, staying: Sequence[Object], view: _View) -> Sequence[Object]:
    """All but the oldest of a node; with surge an old one stays until a new one is available."""
    surge, _ = _unavailable(daemon_set, 1)
    if not surge:
        return staying[1:]
    new = [each for each in staying if view.is_new(each)]
    old = [each for each in staying if not view.is_new(each)]
    replaced = new and view.available(new[0])
    return [*new[1:], *(old if replaced else old[1:])]


def _replace(
    daemon_set: Object, here: Mapping[str, Sequence[Object]], view: _View
) -> tuple[list[str], list[Object]]:
    """A rolling update: nodes that get a new Pod beside the old one, and Pods that make room for one."""
    surge, most = _unavailable(daemon_set, len(here))
    missing, beside = 0, 0
    at_once: list[Object] = []
    in_turn: list[Object] = []
    for found in here.values():
        staying = [each for each in found if not meta.is_terminating(each)]
        new = [each for each in staying if view.is_new(each)]
        old = [each for each in staying if not view.is_new(each)]
        if new and old:
            beside += 1
        if old and not new:
            if view.available(old[0]):
                in_turn.append(old[0])
            else:
                missing += 1
                at_once.append(old[0])
        elif not any(map(view.available, staying)):
            missing += 1
    if surge:
        chosen = [*at_once, *in_turn[: max(0, surge - beside)]]
        return [node_of(each) for each in chosen], []
    return [], [*at_once, *in_turn[: max(0, most - missing)]]


def status(
    daemon_set: Object,
    owned: Sequence[Object],
    nodes: Iterable[Object],
    short_hash: str,
    now: datetime.datetime,
) -> Object:
    view = _view(daemon_set, short_hash, now)
    by_node = _by_node(owned)
    desired = current = misscheduled = ready = updated = available = 0
    for node in nodes:
        here = [each for each in by_node.get(meta.name(node), []) if not meta.is_terminating(each)]
        if not fits(daemon_set, node)[0]:
            misscheduled += bool(here)
            continue
        desired += 1
        current += bool(here)
        ready += any(map(pods.is_ready, here))
        available += any(map(view.available, here))
        updated += any(map(view.is_new, here))
    optional = {
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": desired - available,
        "observedGeneration": daemon_set["metadata"].get("generation", 0),
        "collisionCount": (daemon_set.get("status") or {}).get("collisionCount") or 0,
    }
    return {
        "currentNumberScheduled": current,
        "desiredNumberScheduled": desired,
        "numberMisscheduled": misscheduled,
        "numberReady": ready,
        **{name: value for name, value in optional.items() if value},
    }
