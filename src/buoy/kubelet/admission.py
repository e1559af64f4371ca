"""Whether the node can take a Pod that has been put on it, by a scheduler or past it. Pure.

After k8s.io/kubernetes' ``pkg/kubelet/lifecycle/predicate.go``, reasons and messages included.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal

from ..api import pods
from ..api.meta import Object
from .status import Verdict

_PORTS = "node(s) didn't have free ports for the requested pod ports"


def refusal(pod: Object, others: Iterable[Object], allocatable: Mapping[str, Decimal]) -> Verdict | None:
    """Why *pod* cannot run beside *others*, which do; None if it can. *allocatable* is what the node has."""
    others = list(others)
    used: Counter[str] = Counter(pods=len(others))
    for other in others:
        used.update(_units(pods.requests(other)))
    wanted = {"pods": 1, **_units(pods.requests(pod))}
    there = _units(allocatable)
    for name, amount in wanted.items():
        if amount and used[name] + amount > there.get(name, 0):
            return _rejected(
                f"OutOf{name}",
                f"Node didn't have enough resource: {name}, requested: {amount}, used: {used[name]},"
                f" capacity: {there.get(name, 0)}",
            )
    taken = {port for other in others for port in pods.host_ports(other)}
    if pods.host_ports_clash(pods.host_ports(pod), taken):
        return _rejected("NodePorts", f"Predicate NodePorts failed: {_PORTS}")
    return None


def _rejected(reason: str, message: str) -> Verdict:
    return Verdict(reason, message, rejected=True)


def _units(amounts: Mapping[str, Decimal]) -> dict[str, int]:
    """In thousandths of cores, bytes and pieces, as messages have them."""
    return {name: math.ceil(value * 1000 if name == "cpu" else value) for name, value in amounts.items()}
