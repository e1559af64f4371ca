"""What a node may write: the NodeRestriction admission of Kubernetes 1.36.

After k8s.io/kubernetes' ``plugin/pkg/admission/noderestriction``. Each function gives the reason for which a
write is forbidden, ``""`` if it is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from buoy.api import meta, references, volumes
from buoy.api.meta import Object
from buoy.api.resource import Resource

from .authorizer import LEASE_NAMESPACE, NOT_THE_CSI_NODE, NOT_THE_LEASE, NOT_THE_NAMESPACE

MIRROR = "kubernetes.io/config.mirror"

_RESTRICTED_LABELS = "node-restriction.kubernetes.io"
_KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    }
)
_KUBELET_LABEL_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")

_Restrict = Callable[[str, str, Object | None, Object | None], str]


def restrict(node: str, resource: Resource, subresource: str, new: Object | None, old: Object | None) -> str:
    """The node of that name writes: without *old* it creates, without *new* it deletes.

    Of a created mirror Pod there remains to be checked whether its `owner_uid` is the node's.
    """
    if not node:
        return 'could not determine node from user "system:node:"'
    check = _RESTRICTED.get((resource.group, resource.plural))
    return check(node, subresource, new, old) if check is not None else ""


def owner_uid(pod: Object) -> str:
    """The uid that a created mirror Pod says its node has."""
    return str(pod["metadata"]["ownerReferences"][0].get("uid") or "")


def wrong_owner(node: str, said: str, uid: str) -> str:
    return f"node {node} UID mismatch: expected {said} got {uid}" if said != uid else ""


def token_binding(reference: Object) -> str:
    """A node asks for a token that is bound to *reference*, ``{}`` if to nothing."""
    if (reference.get("apiVersion"), reference.get("kind")) != ("v1", "Pod") or not reference.get("name"):
        return "node requested token not bound to a pod"
    return "" if reference.get("uid") else "node requested token with a pod binding without a uid"


def token(node: str, reference: Object, audiences: list[str], pod: Object) -> str:
    """A node asks for a token that is bound to *pod*, which *reference* means."""
    if reference["uid"] != meta.uid(pod):
        return (
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
            "The object might have been deleted and then recreated"
        )
    if pod["spec"].get("nodeName") != node:
        return "node requested token bound to a pod scheduled on a different node"
    return "node may only request 0 or 1 audiences" if len(audiences) > 1 else ""


def token_audience(audience: str, pod: Object) -> str:
    """A node asks for a token for *audience*; who may by RBAC, may also if *pod* has no volume with one."""
    if audience in references.token_audiences(pod):
        return ""
    return f"audience {json.dumps(audience)} not found in pod spec volume"


def _pod(node: str, subresource: str, new: Object | None, old: Object | None) -> str:
    quoted = json.dumps(node)
    own = old is not None and old["spec"].get("nodeName") == node
    if subresource == "eviction":
        return "" if own else f"node {node} can only evict pods with spec.nodeName set to itself"
    if subresource == "status":
        return _pod_status(node, new, old) if new is not None and old is not None else ""
    if subresource:
        shown = json.dumps(subresource)
        return f"unexpected pod subresource {shown}, only 'status' and 'eviction' are allowed"
    if new is None:
        return "" if own else f"node {quoted} can only delete pods with spec.nodeName set to itself"
    if old is None:
        return _mirror_pod(node, new)
    return f'unexpected operation "UPDATE", node {quoted} can only create and delete mirror pods'


def _pod_status(node: str, new: Object, old: Object) -> str:
    quoted = json.dumps(node)
    if old["spec"].get("nodeName") != node:
        return f"node {quoted} can only update pod status for pods with spec.nodeName set to itself"  # noqa: S608
    if meta.labels(new) != meta.labels(old):
        return f"node {quoted} cannot update labels through pod status"
    claims = [(obj.get("status") or {}).get("resourceClaimStatuses") or [] for obj in (new, old)]
    if claims[0] != claims[1]:
        return f"node {quoted} cannot update resource claim statues"
    return ""


def _mirror_pod(node: str, pod: Object) -> str:
    quoted = json.dumps(node)
    if MIRROR not in meta.annotations(pod):
        return f'pod does not have "{MIRROR}" annotation, node {quoted} can only create mirror pods'
    may = f"node {quoted} can only create pods with"
    if pod["spec"].get("nodeName") != node:
        return f"{may} spec.nodeName set to itself"
    owners = pod["metadata"].get("ownerReferences") or ()
    if len(owners) > 1:
        return f"{may} a single owner reference set to itself"
    owner = owners[0] if owners else {}
    if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
        return f"{may} an owner reference set to itself"
    if not owner.get("controller"):
        return f"{may} a controller owner reference set to itself"
    if owner.get("blockOwnerDeletion"):
        return f"node {quoted} must not set blockOwnerDeletion on an owner reference"
    for what, named in (
        ("a service account", pod["spec"].get("serviceAccountName")),
        ("secrets", references.secrets(pod)),
        ("configmaps", references.config_maps(pod)),
        ("clustertrustbundles", references.has_trust_bundles(pod)),
        ("serviceaccounttokens", references.token_audiences(pod)),
        ("persistentvolumeclaims", {name for name, _ in volumes.claim_names(pod)}),
        ("resourceclaims", pod["spec"].get("resourceClaims")),
    ):
        if named:
            return f"node {quoted} can not create pods that reference {what}"
    return ""


def _claim(node: str, subresource: str, new: Object | None, old: Object | None) -> str:
    if subresource != "status" or new is None or old is None:
        return "may only update PVC status"
    if _without_sizes(new) != _without_sizes(old):
        return (
            f"node {json.dumps(node)} is not allowed to update fields other than "
            "status.quantity and status.conditions"
        )
    return ""


def _without_sizes(claim: Object) -> Object:
    """A claim without what a node may say of it, when it has made a file system larger."""
    metadata = {k: v for k, v in claim["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    sizes = ("capacity", "conditions", "allocatedResources", "allocatedResourceStatuses")
    status = {k: v for k, v in (claim.get("status") or {}).items() if k not in sizes}
    return {**claim, "metadata": metadata, "status": status}


def _node(node: str, subresource: str, new: Object | None, old: Object | None) -> str:
    quoted = json.dumps(node)
    obj = new if new is not None else old
    assert obj is not None
    if meta.name(obj) != node:
        return f"node {quoted} is not allowed to modify node {json.dumps(meta.name(obj))}"
    if new is None:
        return ""
    if old is None:
        labels = forbidden_labels(meta.labels(new), {})
        if labels:
            return f"node {quoted} is not allowed to set the following labels: {', '.join(labels)}"
        return ""
    if ((new.get("spec") or {}).get("taints") or []) != ((old.get("spec") or {}).get("taints") or []):
        return f"node {quoted} is not allowed to modify taints"
    owners = [obj["metadata"].get("ownerReferences") or [] for obj in (new, old)]
    if owners[0] != owners[1]:
        return f"node {quoted} is not allowed to modify ownerReferences"
    labels = forbidden_labels(meta.labels(new), meta.labels(old))
    return f"is not allowed to modify labels: {', '.join(labels)}" if labels else ""


def forbidden_labels(new: dict[str, str], old: dict[str, str]) -> list[str]:
    """Labels that differ and that a node may not give itself: it would draw other nodes' Pods to it."""
    changed = {key for key, _ in new.items() ^ old.items()}
    return sorted(filter(_is_forbidden, changed))


def _is_forbidden(label: str) -> bool:
    namespace, slash, _ = label.partition("/")
    if not slash:
        return False
    if _within(namespace, _RESTRICTED_LABELS):
        return True
    if not _within(namespace, "kubernetes.io") and not _within(namespace, "k8s.io"):
        return False
    return label not in _KUBELET_LABELS and not any(
        _within(namespace, each) for each in _KUBELET_LABEL_NAMESPACES
    )


def _within(namespace: str, domain: str) -> bool:
    return namespace == domain or namespace.endswith(f".{domain}")


def _lease(node: str, subresource: str, new: Object | None, old: Object | None) -> str:
    obj = new if new is not None else old
    assert obj is not None
    if meta.namespace(obj) != LEASE_NAMESPACE:
        return NOT_THE_NAMESPACE
    return "" if meta.name(obj) == node else NOT_THE_LEASE


def _csi_node(node: str, subresource: str, new: Object | None, old: Object | None) -> str:
    obj = new if new is not None else old
    assert obj is not None
    return "" if meta.name(obj) == node else NOT_THE_CSI_NODE


def _resource_slice(node: str, subresource: str, new: Object | None, old: Object | None) -> str:
    if new is not None and old is not None:
        return ""
    obj = new if new is not None else old
    assert obj is not None
    if (obj.get("spec") or {}).get("nodeName") == node:
        return ""
    verb = "delete" if new is None else "create"
    return f"can only {verb} ResourceSlice with the same NodeName as the requesting node"


_RESTRICTED: dict[tuple[str, str], _Restrict] = {
    ("", "pods"): _pod,
    ("", "nodes"): _node,
    ("", "persistentvolumeclaims"): _claim,
    ("coordination.k8s.io", "leases"): _lease,
    ("storage.k8s.io", "csinodes"): _csi_node,
    ("resource.k8s.io", "resourceslices"): _resource_slice,
}
