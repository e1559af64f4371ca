"""Whether a node may do something: the Node authorizer of Kubernetes 1.36.

After k8s.io/kubernetes' ``plugin/pkg/auth/authorizer/node``. What it does not allow, RBAC may allow still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from buoy.api.meta import Object

from ..attributes import Attributes, Verdict, rule_allows
from .relations import Ref, Relations

LEASE_NAMESPACE = "kube-node-lease"
NOT_THE_NAMESPACE = f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
NOT_THE_LEASE = "can only access node lease with the same name as the requesting node"
NOT_THE_CSI_NODE = "can only access CSINode with the same name as the requesting node"

NO_RULES = "node authorizer does not support user rule resolution"
"""Why a node's rules cannot be listed."""

_ALLOWED = Verdict(True)
_OWN = ("get", "create", "update", "patch", "delete")

_Decide = Callable[[str, Attributes, Relations], Verdict]


def decide(node: str, wanted: Attributes, relations: Relations, rules: Sequence[Object]) -> Verdict:
    """Whether the node of that name may. *rules* hold for all that does not depend on the node."""
    if not node:
        return Verdict(False, 'unknown node for user "system:node:"')
    divided = None if wanted.path else _DIVIDED.get((wanted.group, wanted.resource))
    if divided is not None:
        return divided(node, wanted, relations)
    return Verdict(any(rule_allows(rule, wanted) for rule in rules))


def _related(node: str, wanted: Attributes, relations: Relations) -> Verdict:
    if not wanted.name:
        return Verdict(False, "No Object name found")
    if relations.related(node, Ref(wanted.resource, wanted.namespace, wanted.name)):
        return _ALLOWED
    return Verdict(False, f"no relationship found between node '{node}' and this object")


def _get(node: str, wanted: Attributes, relations: Relations) -> Verdict:
    if wanted.verb != "get":
        return Verdict(False, "can only get individual resources of this type")
    if wanted.subresource:
        return Verdict(False, "cannot get subresource")
    return _related(node, wanted, relations)


def _read(node: str, wanted: Attributes, relations: Relations) -> Verdict:
    if wanted.verb not in ("get", "list", "watch"):
        return Verdict(False, "can only read resources of this type")
    if wanted.subresource:
        return Verdict(False, "cannot read subresource")
    if not wanted.namespace:
        return Verdict(False, "can only read namespaced object of this type")
    return _related(node, wanted, relations)


def _claim(node: str, wanted: Attributes, relations: Relations) -> Verdict:
    if wanted.subresource != "status":
        return _get(node, wanted, relations)
    if wanted.verb not in ("update", "patch"):
        return Verdict(False, "can only get/update/patch this type")
    return _related(node, wanted, relations)


def _service_account(node: str, wanted: Attributes, relations: Relations) -> Verdict:
    if wanted.verb == "get" and not wanted.subresource:
        return _read(node, wanted, relations)
    if wanted.verb != "create" or not wanted.name:
        return Verdict(False, "can only create tokens for individual service accounts")
    if wanted.subresource != "token":
        return Verdict(False, "can only create token subresource of serviceaccount")
    return _related(node, wanted, relations)


def _lease(node: str, wanted: Attributes, relations: Relations) -> Verdict:
    if wanted.verb not in _OWN:
        return Verdict(False, "can only get, create, update, patch, or delete a node lease")
    if wanted.namespace != LEASE_NAMESPACE:
        return Verdict(False, NOT_THE_NAMESPACE)
    # The name of what is created is known to the admission only; so it is below.
    if wanted.verb != "create" and wanted.name != node:
        return Verdict(False, NOT_THE_LEASE)
    return _ALLOWED


def _csi_node(node: str, wanted: Attributes, relations: Relations) -> Verdict:
    if wanted.verb not in _OWN:
        return Verdict(False, "can only get, create, update, patch, or delete a CSINode")
    if wanted.subresource:
        return Verdict(False, "cannot authorize CSINode subresources")
    if wanted.verb != "create" and wanted.name != node:
        return Verdict(False, NOT_THE_CSI_NODE)
    return _ALLOWED


def _resource_slice(node: str, wanted: Attributes, relations: Relations) -> Verdict:
    if wanted.subresource:
        return Verdict(False, "cannot authorize ResourceSlice subresources")
    match wanted.verb:
        case "create":
            return _ALLOWED
        case "get" | "update" | "patch" | "delete":
            return _related(node, wanted, relations)
        case "watch" | "list" | "deletecollection":
            if ("spec.nodeName", node) in wanted.fields:
                return _ALLOWED
            return Verdict(
                False, "can only list/watch/deletecollection resourceslices with nodeName field selector"
            )
    return Verdict(
        False,
        "only the following verbs are allowed for a ResourceSlice: "
        "get, watch, list, create, update, patch, delete, deletecollection",
    )


def _node(node: str, wanted: Attributes, relations: Relations) -> Verdict:
    match wanted.subresource, wanted.verb:
        case ("", "create" | "update" | "patch") | ("status", "update" | "patch"):
            return _ALLOWED
        case "", "get" | "list" | "watch":
            if wanted.name == node:
                return _ALLOWED
            others = f"'{wanted.name}'" if wanted.name else "all nodes"
            return Verdict(False, f"node '{node}' cannot read {others}, only its own Node object")
    return Verdict(False)


def _pod(node: str, wanted: Attributes, relations: Relations) -> Verdict:
    match wanted.subresource, wanted.verb:
        case "", "get":
            return _related(node, wanted, relations)
        case "", "list" | "watch":
            if ("spec.nodeName", node) in wanted.fields:
                return _ALLOWED
            if wanted.name:
                return _related(node, wanted, relations)
            return Verdict(False, "can only list/watch pods with spec.nodeName field selector")
        case ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create"):
            return _ALLOWED  # as far as the admission goes
    return Verdict(False)


_DIVIDED: dict[tuple[str, str], _Decide] = {
    ("", "secrets"): _read,
    ("", "configmaps"): _read,
    ("", "persistentvolumeclaims"): _claim,
    ("", "persistentvolumes"): _get,
    ("", "serviceaccounts"): _service_account,
    ("", "nodes"): _node,
    ("", "pods"): _pod,
    ("coordination.k8s.io", "leases"): _lease,
    ("resource.k8s.io", "resourceclaims"): _get,
    ("resource.k8s.io", "resourceslices"): _resource_slice,
    ("storage.k8s.io", "csinodes"): _csi_node,
    ("storage.k8s.io", "volumeattachments"): _get,
}
"""Resources of which a node may do some things to some objects only."""
