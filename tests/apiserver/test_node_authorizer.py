"""Verdicts of the Node authorizer and of NodeRestriction, from objects alone."""

from __future__ import annotations

from typing import Any

import pytest

from buoy.api.resource import LEASES, NODES, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES, Resource
from buoy.apiserver.attributes import Attributes
from buoy.apiserver.bootstrap import NODE_RULES
from buoy.apiserver.nodes import node_of, restriction
from buoy.apiserver.nodes.authorizer import decide
from buoy.apiserver.nodes.relations import Relations
from buoy.apiserver.registry import User

Object = dict[str, Any]

POD: Object = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
    "spec": {
        "nodeName": "n1",
        "serviceAccountName": "account",
        "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "m"}}]}],
        "volumes": [
            {"name": "v", "secret": {"secretName": "s"}},
            {"name": "w", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}},
        ],
    },
}
UNRELATED = "no relationship found between node 'n2' and this object"


def test_who_is_a_node() -> None:
    assert node_of(User("system:node:n1", ("system:nodes",))) == "n1"
    assert node_of(User("system:node:", ("system:nodes",))) == ""
    assert node_of(User("system:node:n1", ("system:authenticated",))) is None
    assert node_of(User("somebody", ("system:nodes",))) is None


@pytest.mark.parametrize(
    ("node", "wanted", "reason"),
    [
        ("", Attributes("get", "", "services", "", "ns", "x"), 'unknown node for user "system:node:"'),
        # what Pods name
        ("n1", Attributes("get", "", "secrets", "", "ns", "s"), None),
        ("n1", Attributes("list", "", "secrets", "", "ns", "s"), None),
        ("n1", Attributes("watch", "", "configmaps", "", "ns", "m"), None),
        ("n2", Attributes("get", "", "secrets", "", "ns", "s"), UNRELATED),
        ("n1", Attributes("list", "", "secrets", "", "ns"), "No Object name found"),
        (
            "n1",
            Attributes("list", "", "secrets", "", "", "s"),
            "can only read namespaced object of this type",
        ),
        ("n1", Attributes("update", "", "secrets", "", "ns", "s"), "can only read resources of this type"),
        ("n1", Attributes("get", "", "secrets", "x", "ns", "s"), "cannot read subresource"),
        ("n1", Attributes("get", "other", "secrets", "", "ns", "s"), ""),
        # volumes
        ("n1", Attributes("get", "", "persistentvolumeclaims", "", "ns", "c"), None),
        (
            "n1",
            Attributes("list", "", "persistentvolumeclaims", "", "ns", "c"),
            "can only get individual resources of this type",
        ),
        ("n1", Attributes("patch", "", "persistentvolumeclaims", "status", "ns", "c"), None),
        ("n2", Attributes("patch", "", "persistentvolumeclaims", "status", "ns", "c"), UNRELATED),
        (
            "n1",
            Attributes("get", "", "persistentvolumeclaims", "status", "ns", "c"),
            "can only get/update/patch this type",
        ),
        ("n1", Attributes("get", "", "persistentvolumes", "", "", "pv"), None),
        ("n2", Attributes("get", "", "persistentvolumes", "", "", "pv"), UNRELATED),
        ("n1", Attributes("get", "", "persistentvolumes", "status", "", "pv"), "cannot get subresource"),
        # service accounts
        ("n1", Attributes("create", "", "serviceaccounts", "token", "ns", "account"), None),
        ("n2", Attributes("create", "", "serviceaccounts", "token", "ns", "account"), UNRELATED),
        ("n1", Attributes("get", "", "serviceaccounts", "", "ns", "account"), None),
        (
            "n1",
            Attributes("list", "", "serviceaccounts", "", "ns"),
            "can only create tokens for individual service accounts",
        ),
        (
            "n1",
            Attributes("create", "", "serviceaccounts", "", "ns", "account"),
            "can only create token subresource of serviceaccount",
        ),
        # leases
        ("n1", Attributes("update", "coordination.k8s.io", "leases", "", "kube-node-lease", "n1"), None),
        ("n1", Attributes("create", "coordination.k8s.io", "leases", "", "kube-node-lease"), None),
        (
            "n1",
            Attributes("update", "coordination.k8s.io", "leases", "", "kube-node-lease", "n2"),
            "can only access node lease with the same name as the requesting node",
        ),
        (
            "n1",
            Attributes("update", "coordination.k8s.io", "leases", "", "kube-system", "n1"),
            'can only access leases in the "kube-node-lease" system namespace',
        ),
        (
            "n1",
            Attributes("list", "coordination.k8s.io", "leases", "", "kube-node-lease"),
            "can only get, create, update, patch, or delete a node lease",
        ),
        # nodes
        ("n1", Attributes("get", "", "nodes", "", "", "n1"), None),
        ("n1", Attributes("watch", "", "nodes", "", "", "n1"), None),
        ("n1", Attributes("list", "", "nodes"), "node 'n1' cannot read all nodes, only its own Node object"),
        (
            "n1",
            Attributes("get", "", "nodes", "", "", "n2"),
            "node 'n1' cannot read 'n2', only its own Node object",
        ),
        ("n1", Attributes("patch", "", "nodes", "status", "", "n1"), None),
        ("n1", Attributes("delete", "", "nodes", "", "", "n1"), ""),
        ("n1", Attributes("get", "", "nodes", "proxy", "", "n1"), ""),
        # Pods
        ("n1", Attributes("get", "", "pods", "", "ns", "p"), None),
        ("n2", Attributes("get", "", "pods", "", "ns", "p"), UNRELATED),
        ("n1", Attributes("list", "", "pods", fields=(("spec.nodeName", "n1"),)), None),
        (
            "n1",
            Attributes("watch", "", "pods", fields=(("spec.nodeName", "n2"),)),
            "can only list/watch pods with spec.nodeName field selector",
        ),
        ("n1", Attributes("list", "", "pods", "", "ns", "p", fields=(("metadata.name", "p"),)), None),
        ("n1", Attributes("create", "", "pods", "eviction", "ns", "p"), None),
        ("n1", Attributes("create", "", "pods", "exec", "ns", "p"), ""),
        ("n1", Attributes("update", "", "pods", "", "ns", "p"), ""),
        # the rest
        ("n1", Attributes("list", "", "services"), None),
        ("n1", Attributes("list", "apps", "deployments"), ""),
        ("n1", Attributes("get", path="/metrics"), ""),
        ("n1", Attributes("get", "resource.k8s.io", "resourceslices", "", "", "slice"), None),
        ("n2", Attributes("get", "resource.k8s.io", "resourceslices", "", "", "slice"), UNRELATED),
        (
            "n1",
            Attributes("list", "resource.k8s.io", "resourceslices", fields=(("spec.nodeName", "n1"),)),
            None,
        ),
        (
            "n1",
            Attributes("deletecollection", "resource.k8s.io", "resourceslices"),
            "can only list/watch/deletecollection resourceslices with nodeName field selector",
        ),
        ("n1", Attributes("get", "storage.k8s.io", "csinodes", "", "", "n1"), None),
        (
            "n1",
            Attributes("get", "storage.k8s.io", "csinodes", "", "", "n2"),
            "can only access CSINode with the same name as the requesting node",
        ),
    ],
)
def test_verdicts(node: str, wanted: Attributes, reason: str | None) -> None:
    relations = Relations()
    relations.put("pods", POD)
    claim = {"namespace": "ns", "name": "c"}
    relations.put("persistentvolumes", {"metadata": {"name": "pv"}, "spec": {"claimRef": claim}})
    relations.put("resourceslices", {"metadata": {"name": "slice"}, "spec": {"nodeName": "n1"}})
    verdict = decide(node, wanted, relations, NODE_RULES)
    assert verdict == ((True, "") if reason is None else (False, reason))


# NodeRestriction


def node(name: str = "n1", labels: Object | None = None, **more: Any) -> Object:
    spec = {"taints": more["taints"]} if "taints" in more else {}
    owners = {"ownerReferences": more["owners"]} if "owners" in more else {}
    return {"metadata": {"name": name, "labels": labels or {}, **owners}, "spec": spec}


def mirror(owner: Object | None = None, **spec: Any) -> Object:
    reference = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u", "controller": True}
    return {
        "metadata": {
            "name": "m",
            "namespace": "ns",
            "annotations": {"kubernetes.io/config.mirror": "x"},
            "ownerReferences": [reference if owner is None else owner],
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}], **spec},
    }


def other(obj: Object, **metadata: Any) -> Object:
    return {**obj, "metadata": {**obj["metadata"], **metadata}}


OTHERS = {**POD, "spec": {**POD["spec"], "nodeName": "n2"}}
LEASE = {"metadata": {"name": "n1", "namespace": "kube-node-lease"}}
CLAIMS = PERSISTENT_VOLUME_CLAIMS
CLAIM: Object = {"metadata": {"name": "c", "namespace": "ns"}, "spec": {}, "status": {"phase": "Bound"}}
ONLY_MIRRORS = 'node "n1" can only create and delete mirror pods'


@pytest.mark.parametrize(
    ("resource", "subresource", "new", "old", "reason"),
    [
        (SERVICES, "", {}, None, ""),  # the authorizer's affair
        # its Node
        (NODES, "", node(), None, ""),
        (NODES, "", node("n2"), None, 'node "n1" is not allowed to modify node "n2"'),
        (NODES, "status", node("n2"), node("n2"), 'node "n1" is not allowed to modify node "n2"'),
        (NODES, "", node(labels={"kubernetes.io/hostname": "n1", "mine": "x", "a.b/c": ""}), None, ""),
        (
            NODES,
            "",
            node(labels={"topology.kubernetes.io/zone": "z", "x.kubelet.kubernetes.io/y": ""}),
            None,
            "",
        ),
        (
            NODES,
            "",
            node(labels={"node-restriction.kubernetes.io/a": "", "node-role.kubernetes.io/master": ""}),
            None,
            'node "n1" is not allowed to set the following labels: '
            "node-restriction.kubernetes.io/a, node-role.kubernetes.io/master",
        ),
        (
            NODES,
            "status",
            node(labels={"x.node-restriction.kubernetes.io/a": "new"}),
            node(labels={"x.node-restriction.kubernetes.io/a": "old"}),
            "is not allowed to modify labels: x.node-restriction.kubernetes.io/a",
        ),
        (
            NODES,
            "",
            node(),
            node(labels={"foo.k8s.io/a": ""}),
            "is not allowed to modify labels: foo.k8s.io/a",
        ),
        (
            NODES,
            "",
            node(labels={"new": ""}),
            node(labels={"node-role.kubernetes.io/x": ""}),
            "is not allowed to modify labels: node-role.kubernetes.io/x",
        ),
        (NODES, "", node(), node(taints=[{"key": "a"}]), 'node "n1" is not allowed to modify taints'),
        (NODES, "", node(taints=[]), node(), ""),
        (
            NODES,
            "",
            node(owners=[{"name": "x"}]),
            node(),
            'node "n1" is not allowed to modify ownerReferences',
        ),
        # Pods
        (PODS, "", None, POD, ""),
        (PODS, "", None, OTHERS, 'node "n1" can only delete pods with spec.nodeName set to itself'),
        (PODS, "", POD, POD, f'unexpected operation "UPDATE", {ONLY_MIRRORS}'),
        (PODS, "status", POD, POD, ""),
        (
            PODS,
            "status",
            OTHERS,
            OTHERS,
            'node "n1" can only update pod status for pods with spec.nodeName set to itself',
        ),
        (
            PODS,
            "status",
            other(POD, labels={"app": "x"}),
            POD,
            'node "n1" cannot update labels through pod status',
        ),
        (
            PODS,
            "status",
            {**POD, "status": {"resourceClaimStatuses": [{"name": "a"}]}},
            POD,
            'node "n1" cannot update resource claim statues',
        ),
        (PODS, "eviction", None, POD, ""),
        (PODS, "eviction", None, OTHERS, "node n1 can only evict pods with spec.nodeName set to itself"),
        (
            PODS,
            "ephemeralcontainers",
            POD,
            POD,
            "unexpected pod subresource \"ephemeralcontainers\", only 'status' and 'eviction' are allowed",
        ),
        # mirror Pods
        (PODS, "", mirror(), None, ""),
        (
            PODS,
            "",
            other(mirror(), annotations={}),
            None,
            'pod does not have "kubernetes.io/config.mirror" annotation, '
            'node "n1" can only create mirror pods',
        ),
        (
            PODS,
            "",
            mirror(nodeName="n2"),
            None,
            'node "n1" can only create pods with spec.nodeName set to itself',
        ),
        (
            PODS,
            "",
            mirror({"apiVersion": "v1", "kind": "Node", "name": "n2", "controller": True}),
            None,
            'node "n1" can only create pods with an owner reference set to itself',
        ),
        (
            PODS,
            "",
            other(mirror(), ownerReferences=[]),
            None,
            'node "n1" can only create pods with an owner reference set to itself',
        ),
        (
            PODS,
            "",
            other(mirror(), ownerReferences=[{}, {}]),
            None,
            'node "n1" can only create pods with a single owner reference set to itself',
        ),
        (
            PODS,
            "",
            mirror({"apiVersion": "v1", "kind": "Node", "name": "n1"}),
            None,
            'node "n1" can only create pods with a controller owner reference set to itself',
        ),
        (
            PODS,
            "",
            mirror(serviceAccountName="a"),
            None,
            'node "n1" can not create pods that reference a service account',
        ),
        (
            PODS,
            "",
            mirror(volumes=[{"name": "v", "secret": {"secretName": "s"}}]),
            None,
            'node "n1" can not create pods that reference secrets',
        ),
        (
            PODS,
            "",
            mirror(containers=[{"name": "c", "envFrom": [{"configMapRef": {"name": "m"}}]}]),
            None,
            'node "n1" can not create pods that reference configmaps',
        ),
        (
            PODS,
            "",
            mirror(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]),
            None,
            'node "n1" can not create pods that reference persistentvolumeclaims',
        ),
        # its Lease
        (LEASES, "", LEASE, None, ""),
        (
            LEASES,
            "",
            other(LEASE, name="n2"),
            None,
            "can only access node lease with the same name as the requesting node",
        ),
        (
            LEASES,
            "",
            None,
            other(LEASE, namespace="ns"),
            'can only access leases in the "kube-node-lease" system namespace',
        ),
        # claims
        (
            CLAIMS,
            "status",
            {**CLAIM, "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}},
            CLAIM,
            "",
        ),
        (
            CLAIMS,
            "status",
            {**CLAIM, "status": {"phase": "Lost"}},
            CLAIM,
            'node "n1" is not allowed to update fields other than status.quantity and status.conditions',
        ),
        (CLAIMS, "", CLAIM, CLAIM, "may only update PVC status"),
    ],
)
def test_restrictions(
    resource: Resource, subresource: str, new: Object | None, old: Object | None, reason: str
) -> None:
    assert restriction.restrict("n1", resource, subresource, new, old) == reason


def test_a_node_without_a_name_writes_nothing() -> None:
    reason = 'could not determine node from user "system:node:"'
    assert restriction.restrict("", SERVICES, "", {}, None) == reason


def test_bindings_of_tokens() -> None:
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
    assert restriction.token_binding(reference) == ""
    for wrong in ({}, {**reference, "kind": "Node"}, {**reference, "name": ""}):
        assert restriction.token_binding(wrong) == "node requested token not bound to a pod"
    reason = "node requested token with a pod binding without a uid"
    assert restriction.token_binding({**reference, "uid": ""}) == reason
    assert restriction.token("n1", reference, ["vault"], POD) == ""
    assert "does not match the UID" in restriction.token("n1", {**reference, "uid": "x"}, [], POD)
    reason = "node requested token bound to a pod scheduled on a different node"
    assert restriction.token("n2", reference, [], POD) == reason
    assert restriction.token("n1", reference, ["a", "b"], POD) == "node may only request 0 or 1 audiences"
    assert restriction.token_audience("vault", POD) == ""
    assert restriction.token_audience("bank", POD) == 'audience "bank" not found in pod spec volume'
    assert restriction.token_audience("", POD) == 'audience "" not found in pod spec volume'
