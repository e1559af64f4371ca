"""Taints on nodes and the tolerations of Pods: what k8s.io/component-helpers' ``v1`` says of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .meta import Object

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


def of(node: Object, *effects: str) -> list[Object]:
    """The node's taints with one of *effects* (any, if none is given)."""
    taints = (node.get("spec") or {}).get("taints") or ()
    return [taint for taint in taints if not effects or taint.get("effect") in effects]


def tolerates(toleration: Object, taint: Object) -> bool:
    """An empty effect or key fits any; an empty key wants the operator ``Exists``."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    key, operator = toleration.get("key") or "", toleration.get("operator") or "Equal"
    if key and key != taint.get("key"):
        return False
    if operator == "Exists":
        return True
    return operator == "Equal" and bool(key) and (toleration.get("value") or "") == (taint.get("value") or "")


def tolerations(pod: Object) -> Sequence[Object]:
    return (pod.get("spec") or {}).get("tolerations") or ()


def untolerated(pod: Object, taints: Iterable[Object]) -> list[Object]:
    """Those of *taints* that the Pod has no toleration for."""
    found = tolerations(pod)
    return [taint for taint in taints if not any(tolerates(each, taint) for each in found)]
