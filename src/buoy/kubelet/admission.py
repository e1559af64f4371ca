"""Whether the node can take a Pod that has been put on it, by a scheduler or past it. Pure.

After k8s.io/kubernetes' ``pkg/kubelet/lifecycle/predicate.go``, reasons and messages included.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from ..api import meta, placement, pods, taints
from ..api.meta import Object
from .status import Verdict

NODE_AFFINITY = "NodeAffinity"


def refusal(
    pod: Object, others: Iterable[Object], node: Object, allocatable: Mapping[str, Decimal]
) -> Verdict | None:
    """Why *pod* cannot run on *node* beside *others*, which do; None if it can.

    *node* is the Node as the API has it, *allocatable* what there is for Pods.
    """
    others = list(others)
    return _unfit(pod) or _short_of(pod, others, allocatable) or _unwanted(pod, others, node)


def _unfit(pod: Object) -> Verdict | None:
    """What no node of this kind can run."""
    spec = pod["spec"]
    if meta.labels(pod).get("kubernetes.io/os", "linux") != "linux":
        return _rejected(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        )
    if (spec.get("os") or {}).get("name", "linux") != "linux":
        return _rejected("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    if (spec.get("securityContext") or {}).get("supplementalGroupsPolicy") == "Strict":
        # containerd knows it from 2.0 on.
        return _rejected(
            "SupplementalGroupsPolicyNotSupported",
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        )
    return None


def _short_of(pod: Object, others: Sequence[Object], allocatable: Mapping[str, Decimal]) -> Verdict | None:
    used: Counter[str] = Counter(pods=len(others))
    for other in others:
        used.update(_units(pods.requests(other)))
    wanted = {"pods": 1, **_units(pods.requests(pod))}
    there = _units(allocatable)
    for name, amount in wanted.items():
        if "/" in name and name not in there:
            continue  # it is the cluster's, not the node's
        if amount and used[name] + amount > there.get(name, 0):
            return _rejected(
                f"OutOf{name}",
                f"Node didn't have enough resource: {name}, requested: {amount}, used: {used[name]},"
                f" capacity: {there.get(name, 0)}",
            )
    return None


def _unwanted(pod: Object, others: Sequence[Object], node: Object) -> Verdict | None:
    if not placement.fits_node(pod["spec"], node):
        return _failed(NODE_AFFINITY, "node(s) didn't match Pod's node affinity/selector")
    taken = {port for other in others for port in pods.host_ports(other)}
    if pods.host_ports_clash(pods.host_ports(pod), taken):
        return _failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    if taints.untolerated(pod, taints.of(node, "NoExecute")):
        return _failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    return None


def _failed(predicate: str, why: str) -> Verdict:
    return _rejected(predicate, f"Predicate {predicate} failed: {why}")


def _rejected(reason: str, message: str) -> Verdict:
    return Verdict(reason, message, rejected=True)


def _units(amounts: Mapping[str, Decimal]) -> dict[str, int]:
    """In thousandths of cores, bytes and pieces, as messages have them."""
    return {name: math.ceil(value * 1000 if name == "cpu" else value) for name, value in amounts.items()}
