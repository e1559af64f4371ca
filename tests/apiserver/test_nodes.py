"""What a node's credential is good for, at a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from .api_server import Reply, Running

pytestmark = pytest.mark.asyncio(loop_scope="module")

REVIEWS = "/apis/authorization.k8s.io/v1"
IMAGE = {"name": "c", "image": "i"}


def as_node(server: Running, node: str) -> str:
    """The user of a node, who has a certificate from now on."""
    user = f"system:node:{node}"
    server.session(user, "system:nodes")
    return user


async def make_pod(server: Running, namespace: str, name: str, node: str = "", **spec: Any) -> Any:
    pod = {"metadata": {"name": name}, "spec": {"containers": [IMAGE], **spec}}
    if node:
        pod["spec"]["nodeName"] = node
    reply = await server.post(f"/api/v1/namespaces/{namespace}/pods", pod)
    assert reply.status == 201, reply.body
    return reply.json


def mounted(secret: str) -> dict[str, Any]:
    return {"volumes": [{"name": "v", "secret": {"secretName": secret}}]}


async def refused(reply: Reply, reason: str) -> None:
    assert reply.status == 403, reply.body
    assert reply.message.endswith(reason), reply.message


async def test_secrets_follow_the_pods(server: Running, namespace: str) -> None:
    user = as_node(server, "n1")
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    for name in ("used", "unused"):
        await server.post(secrets, {"metadata": {"name": name}})
    reply = await server.get(f"{secrets}/used", user=user)
    assert reply.message == (
        f'secrets "used" is forbidden: User "{user}" cannot get resource "secrets" in API group "" in the '
        f"namespace \"{namespace}\": no relationship found between node 'n1' and this object"
    )
    await make_pod(server, namespace, "p", "n1", **mounted("used"))
    assert (await server.get(f"{secrets}/used", user=user)).status == 200
    assert (await server.get(f"{secrets}?fieldSelector=metadata.name%3Dused", user=user)).status == 200
    unrelated = "no relationship found between node 'n1' and this object"
    await refused(await server.get(f"{secrets}/unused", user=user), unrelated)
    await refused(await server.get(f"{secrets}?fieldSelector=metadata.name%3Dunused", user=user), unrelated)
    await refused(await server.get(secrets, user=user), "No Object name found")
    await refused(await server.get("/api/v1/secrets", user=user), "only read namespaced object of this type")
    await refused(await server.delete(f"{secrets}/used", user=user), "can only read resources of this type")
    # However a selector is put, what is asked for is what is looked for.
    for both in ("used,metadata.name%3Dunused", "unused,metadata.name%3Dused", "a,metadata.name%3Dunused"):
        reply = await server.get(f"{secrets}?fieldSelector=metadata.name%3D{both}", user=user)
        assert reply.status == 403 or not reply.json.get("items")
    await server.delete(f"/api/v1/namespaces/{namespace}/pods/p?gracePeriodSeconds=0")
    await refused(await server.get(f"{secrets}/used", user=user), unrelated)


async def test_a_binding_counts_at_once(server: Running, namespace: str) -> None:
    """Whoever has heard of a Pod on its node may ask for what the Pod needs."""
    user = as_node(server, "n1")
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    await server.post(secrets, {"metadata": {"name": "s"}})
    for number in range(20):
        name = f"p{number}"
        await make_pod(server, namespace, name, **mounted("s"))
        binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}}
        await server.post(f"/api/v1/namespaces/{namespace}/pods/{name}/binding", binding)
        assert (await server.get(f"{secrets}/s", user=user)).status == 200
        await server.delete(f"/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0")


async def test_a_watch_of_the_own_pods(server: Running, namespace: str) -> None:
    user = as_node(server, "n1")
    mine, others = "spec.nodeName%3Dn1", "spec.nodeName%3Dn2"
    reason = "can only list/watch pods with spec.nodeName field selector"
    await refused(await server.get("/api/v1/pods", user=user), reason)
    await refused(await server.get(f"/api/v1/pods?watch=1&fieldSelector={others}", user=user), reason)
    await make_pod(server, namespace, "other", "n2")
    await make_pod(server, namespace, "own", "n1")
    listed = (await server.get(f"/api/v1/pods?fieldSelector={mine}", user=user)).json["items"]
    assert {pod["spec"]["nodeName"] for pod in listed} == {"n1"}
    path = f"/api/v1/namespaces/{namespace}/pods?watch=1&fieldSelector={mine}"
    async with server.session(user).get(path) as response, asyncio.timeout(10):
        assert response.status == 200
        line = await response.content.readline()
        assert b'"name":"own"' in line
    assert (await server.get(f"/api/v1/namespaces/{namespace}/pods/own", user=user)).status == 200
    reply = await server.get(f"/api/v1/namespaces/{namespace}/pods/other", user=user)
    await refused(reply, "no relationship found between node 'n1' and this object")


async def test_its_own_node_and_lease(server: Running) -> None:
    user = as_node(server, "own-node")
    nodes = "/api/v1/nodes"
    labels = {"kubernetes.io/hostname": "own-node"}
    assert (await server.get(f"{nodes}/own-node", user=user)).status == 404  # allowed, but not there yet
    bad = {"metadata": {"name": "own-node", "labels": {"node-restriction.kubernetes.io/pci": "yes"}}}
    reply = await server.post(nodes, bad, user=user)
    await refused(
        reply,
        'nodes "own-node" is forbidden: node "own-node" is not allowed to set the following labels: '
        "node-restriction.kubernetes.io/pci",
    )
    own = {"metadata": {"name": "own-node", "labels": labels}}
    assert (await server.post(nodes, own, user=user)).status == 201
    await server.post(nodes, {"metadata": {"name": "another-node"}})
    reply = await server.post(nodes, {"metadata": {"name": "invented"}}, user=user)
    await refused(reply, 'node "own-node" is not allowed to modify node "invented"')
    for path in (f"{nodes}/another-node", f"{nodes}/another-node/status"):
        reply = await server.patch(path, {"metadata": {"labels": {"a": "b"}}}, user=user)
        await refused(reply, 'node "own-node" is not allowed to modify node "another-node"')
    for path in (f"{nodes}/own-node", f"{nodes}/own-node/status"):
        reply = await server.patch(path, {"metadata": {"labels": {"a": "b"}}}, user=user)
        assert reply.status == 200
        restricted = {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}
        reply = await server.patch(path, restricted, user=user)
        await refused(reply, "is not allowed to modify labels: node-role.kubernetes.io/control-plane")
    taints = {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}
    await server.patch(f"{nodes}/own-node", taints)
    reply = await server.patch(f"{nodes}/own-node", {"spec": {"taints": None}}, user=user)
    await refused(reply, 'node "own-node" is not allowed to modify taints')
    await refused(
        await server.get(f"{nodes}/another-node", user=user),
        "node 'own-node' cannot read 'another-node', only its own Node object",
    )
    assert (await server.delete(f"{nodes}/own-node", user=user)).status == 403
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    assert (await server.post(leases, {"metadata": {"name": "own-node"}}, user=user)).status == 201
    reply = await server.post(leases, {"metadata": {"name": "another-node"}}, user=user)
    await refused(reply, "can only access node lease with the same name as the requesting node")


async def test_writes_of_pods(server: Running, namespace: str) -> None:
    user = as_node(server, "pod-node")
    pods = f"/api/v1/namespaces/{namespace}/pods"
    own = (await server.post("/api/v1/nodes", {"metadata": {"name": "pod-node"}}, user=user)).json["metadata"]
    await make_pod(server, namespace, "own", "pod-node")
    await make_pod(server, namespace, "other", "n2")
    running = {"status": {"phase": "Running"}}
    assert (await server.patch(f"{pods}/own/status", running, user=user)).status == 200
    await refused(
        await server.patch(f"{pods}/other/status", running, user=user),
        'node "pod-node" can only update pod status for pods with spec.nodeName set to itself',
    )
    relabelled = {"metadata": {"labels": {"app": "bank"}}}
    reply = await server.patch(f"{pods}/own/status", relabelled, user=user)
    await refused(reply, 'node "pod-node" cannot update labels through pod status')
    await refused(
        await server.post(f"{pods}/other/eviction", {"metadata": {"name": "other"}}, user=user),
        "node pod-node can only evict pods with spec.nodeName set to itself",
    )
    await refused(
        await server.delete(f"{pods}/other", user=user),
        'node "pod-node" can only delete pods with spec.nodeName set to itself',
    )
    assert (await server.delete(f"{pods}/own?gracePeriodSeconds=0", user=user)).status == 200
    mirror: dict[str, Any] = {
        "metadata": {
            "name": "static-pod-node",
            "annotations": {"kubernetes.io/config.mirror": "x"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "pod-node", "uid": "x", "controller": True}
            ],
        },
        "spec": {"containers": [IMAGE], "nodeName": "pod-node"},
    }
    reply = await server.post(pods, mirror, user=user)
    await refused(reply, f"node pod-node UID mismatch: expected x got {own['uid']}")
    mirror["metadata"]["ownerReferences"][0]["uid"] = own["uid"]
    mirror["spec"]["volumes"] = mounted("any")["volumes"]
    await refused(
        await server.post(pods, mirror, user=user),
        'node "pod-node" can not create pods that reference secrets',
    )
    del mirror["spec"]["volumes"]
    assert (await server.post(pods, mirror, user=user)).status == 201


async def test_tokens_of_its_pods(server: Running, namespace: str) -> None:
    user = as_node(server, "n1")
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    unrelated = "no relationship found between node 'n1' and this object"
    await refused(await server.post(path, {"spec": {}}, user=user), unrelated)
    own = await make_pod(server, namespace, "own", "n1")
    other = await make_pod(server, namespace, "other", "n2")

    def bound(pod: Any, **more: Any) -> Any:
        metadata = pod["metadata"]
        reference = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        return {"spec": {"boundObjectRef": {**reference, **more.pop("reference", {})}, **more}}

    assert (await server.post(path, bound(own), user=user)).status == 201
    for asked, reason in (
        ({"spec": {}}, "node requested token not bound to a pod"),
        (bound(own, reference={"uid": ""}), "node requested token with a pod binding without a uid"),
        (bound(other), "node requested token bound to a pod scheduled on a different node"),
        (bound(own, audiences=["vault"]), 'audience "vault" not found in pod spec volume'),
    ):
        await refused(await server.post(path, asked, user=user), reason)
    reply = await server.post(path, bound(own, reference={"name": "gone"}), user=user)
    assert (reply.status, reply.message) == (404, 'pods "gone" not found')
    # An administrator can let nodes ask for tokens of an audience that no volume names.
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rule = {"apiGroups": [""], "resources": ["vault"], "verbs": ["request-serviceaccounts-token-audience"]}
    await server.post(f"{rbac}/roles", {"metadata": {"name": "vault"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "vault"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "vault"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:nodes"}],
    }
    await server.post(f"{rbac}/rolebindings", binding)
    assert (await server.post(path, bound(own, audiences=["vault"]), user=user)).status == 201


async def test_reviews_say_the_same(server: Running, namespace: str) -> None:
    user = as_node(server, "n1")
    await server.post(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "s"}})
    await make_pod(server, namespace, "p", "n1", **mounted("s"))
    wanted = {"verb": "get", "resource": "secrets", "namespace": namespace, "name": "s"}
    own = f"{REVIEWS}/selfsubjectaccessreviews"

    async def status(path: str, attributes: Any, asker: str = "admin", **spec: Any) -> Any:
        reply = await server.post(path, {"spec": {"resourceAttributes": attributes, **spec}}, user=asker)
        assert reply.status == 201, reply.body
        return reply.json["status"]

    assert await status(own, wanted, user) == {"allowed": True}
    refusal = {"allowed": False, "reason": "no relationship found between node 'n1' and this object"}
    assert await status(own, {**wanted, "name": "x"}, user) == refusal
    others = f"{REVIEWS}/subjectaccessreviews"
    node: dict[str, Any] = {"user": user, "groups": ["system:nodes"]}
    assert await status(others, wanted, **node) == {"allowed": True}
    assert await status(others, {**wanted, "name": "x"}, **node) == refusal
    assert await status(others, wanted, user=user) == {"allowed": False}  # without the group it is no node
    pods = {"verb": "list", "resource": "pods"}
    for selector in (
        {"rawSelector": "spec.nodeName=n1"},
        {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]},
    ):
        assert await status(own, {**pods, "fieldSelector": selector}, user) == {"allowed": True}
    for selector in ({}, {"rawSelector": "spec.nodeName!=n1"}, {"rawSelector": "spec.nodeName=n2"}):
        assert not (await status(own, {**pods, "fieldSelector": selector}, user))["allowed"]
    rules = await server.post(
        f"{REVIEWS}/selfsubjectrulesreviews", {"spec": {"namespace": namespace}}, user=user
    )
    assert rules.json["status"]["incomplete"] is True
    assert rules.json["status"]["evaluationError"] == (
        "node authorizer does not support user rule resolution"
    )


async def test_impersonating_a_node(server: Running, namespace: str) -> None:
    """`kubectl auth can-i --as system:node:n1 --as-group system:nodes`, for an administrator."""
    path = f"/api/v1/namespaces/{namespace}/secrets/s"
    async with server.session().get(
        path,
        headers=[("Impersonate-User", "system:node:n1"), ("Impersonate-Group", "system:nodes")],
    ) as response:
        assert isinstance(response, aiohttp.ClientResponse)
        assert "no relationship found between node 'n1'" in (await response.json())["message"]


async def test_relations_outlive_the_server(tmp_path: Any) -> None:
    from .api_server import running

    async with running(tmp_path) as server:
        await server.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        await server.post("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
        await make_pod(server, "default", "p", "n1", **mounted("s"))
        authority = server.authority
    async with running(tmp_path, authority=authority) as server:
        path = "/api/v1/namespaces/default/secrets/s"
        assert (await server.get(path, user=as_node(server, "n1"))).status == 200
        assert (await server.get(path, user=as_node(server, "n2"))).status == 403
