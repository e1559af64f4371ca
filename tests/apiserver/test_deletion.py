"""Deleting: grace, finalizers, propagation, preconditions, namespaces."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from .api_server import Running

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def make_pod(server: Running, namespace: str, name: str, **spec: Any) -> str:
    path = f"/api/v1/namespaces/{namespace}/pods"
    pod = {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 30, **spec},
    }
    reply = await server.post(path, pod)
    assert reply.status == 201, reply.body
    return f"{path}/{name}"


async def bind(server: Running, path: str, node: str = "node-1") -> Any:
    name = path.rpartition("/")[2]
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name},
        "target": {"kind": "Node", "name": node},
    }
    return await server.post(f"{path}/binding", binding)


def seconds_between(start: str, end: str) -> float:
    return (datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(start)).total_seconds()


async def test_binding(server: Running, namespace: str) -> None:
    path = await make_pod(server, namespace, "p")
    reply = await bind(server, path)
    assert (reply.status, reply.json["status"]) == (201, "Success")
    pod = (await server.get(path)).json
    assert pod["spec"]["nodeName"] == "node-1"
    (condition,) = pod["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("PodScheduled", "True")
    again = await bind(server, path, "node-2")
    assert (again.status, again.message) == (
        409,
        'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "node-1"',
    )
    assert (await bind(server, f"/api/v1/namespaces/{namespace}/pods/none")).status == 404


async def test_a_pod_on_a_node_gets_its_time(server: Running, namespace: str) -> None:
    path = await make_pod(server, namespace, "p")
    await bind(server, path)
    marked = await server.delete(path)
    assert marked.status == 200
    metadata = marked.json["metadata"]
    assert metadata["deletionGracePeriodSeconds"] == 30
    assert 28 <= seconds_between(metadata["creationTimestamp"], metadata["deletionTimestamp"]) <= 33
    assert (await server.delete(path)).json["metadata"] == metadata
    longer = await server.delete(path, {"gracePeriodSeconds": 60})
    assert longer.json["metadata"]["deletionGracePeriodSeconds"] == 30
    shorter = (await server.delete(path, {"gracePeriodSeconds": 5})).json["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5
    assert seconds_between(shorter["deletionTimestamp"], metadata["deletionTimestamp"]) == 25
    assert (await server.delete(path, {"gracePeriodSeconds": 0})).status == 200
    assert (await server.get(path)).status == 404


@pytest.mark.parametrize("why", ["not scheduled", "finished", "by force"])
async def test_a_pod_without_need_of_time_goes_at_once(server: Running, namespace: str, why: str) -> None:
    path = await make_pod(server, namespace, "p")
    options = None
    if why != "not scheduled":
        await bind(server, path)
    if why == "finished":
        await server.patch(f"{path}/status", {"status": {"phase": "Succeeded"}})
    if why == "by force":
        options = {"gracePeriodSeconds": 0}
    reply = await server.delete(path, options)
    assert (reply.status, reply.json["kind"]) == (200, "Pod")
    assert (await server.get(path)).status == 404


async def test_finalizers_hold_an_object(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await server.post(path, {"metadata": {"name": "a", "finalizers": ["example.com/one", "example.com/two"]}})
    reply = await server.delete(f"{path}/a")
    assert (reply.status, reply.json["kind"]) == (200, "ConfigMap")
    first = reply.json["metadata"]["deletionTimestamp"]
    assert first
    assert (await server.delete(f"{path}/a")).json["metadata"]["deletionTimestamp"] == first
    more = await server.patch(
        f"{path}/a", {"metadata": {"finalizers": ["example.com/one", "example.com/new"]}}
    )
    assert more.status == 422
    assert "no new finalizers can be added if the object is being deleted" in more.message
    kept = await server.patch(
        f"{path}/a", {"metadata": {"finalizers": ["example.com/two"], "deletionTimestamp": None}}
    )
    assert kept.json["metadata"]["deletionTimestamp"] == first
    assert (await server.get(f"{path}/a")).status == 200
    assert (await server.patch(f"{path}/a", {"metadata": {"finalizers": None}})).status == 200
    assert (await server.get(f"{path}/a")).status == 404


async def test_a_pod_with_grace_and_finalizer_needs_both(server: Running, namespace: str) -> None:
    path = await make_pod(server, namespace, "p")
    await server.patch(path, {"metadata": {"finalizers": ["example.com/one"]}})
    await bind(server, path)
    await server.delete(path)
    await server.patch(path, {"metadata": {"finalizers": None}})
    assert (await server.get(path)).status == 200
    await server.patch(path, {"metadata": {"finalizers": ["example.com/one"]}})
    await server.delete(path, {"gracePeriodSeconds": 0})
    assert (await server.get(path)).status == 404


@pytest.mark.parametrize(
    ("options", "finalizers"),
    [
        ({"propagationPolicy": "Foreground"}, ["foregroundDeletion"]),
        ({"propagationPolicy": "Orphan"}, ["orphan"]),
        ({"orphanDependents": True}, ["orphan"]),
        ({"propagationPolicy": "Background"}, None),
        ({}, None),
    ],
)
async def test_propagation(server: Running, namespace: str, options: Any, finalizers: Any) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await server.post(path, {"metadata": {"name": "a"}})
    reply = await server.delete(f"{path}/a", options)
    assert reply.status == 200
    if finalizers is None:
        assert (reply.json["kind"], reply.json["status"]) == ("Status", "Success")
        assert reply.json["details"]["name"] == "a"
        assert reply.json["details"]["uid"]
        assert (await server.get(f"{path}/a")).status == 404
    else:
        assert reply.json["metadata"]["finalizers"] == finalizers
        assert reply.json["metadata"]["deletionTimestamp"]


@pytest.mark.parametrize(
    "options",
    [{"propagationPolicy": "Sideways"}, {"propagationPolicy": "Orphan", "orphanDependents": True}],
)
async def test_propagation_that_is_not(server: Running, namespace: str, options: Any) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await server.post(path, {"metadata": {"name": "a"}})
    assert (await server.delete(f"{path}/a", options)).status == 422


async def test_preconditions(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = (await server.post(path, {"metadata": {"name": "a"}})).json["metadata"]
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        reply = await server.delete(f"{path}/a", {"preconditions": wrong})
        assert (reply.status, reply.json["reason"]) == (409, "Conflict")
        assert "Precondition failed" in reply.message
    right = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
    assert (await server.delete(f"{path}/a", {"preconditions": right})).status == 200


async def test_deleting_a_collection(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        await server.post(path, {"metadata": {"name": name, "labels": {"l": label}}})
    reply = await server.delete(f"{path}?labelSelector=l=x")
    assert [item["metadata"]["name"] for item in reply.json["items"]] == ["a", "b"]
    assert [item["metadata"]["name"] for item in (await server.get(path)).json["items"]] == ["c"]


async def test_eviction(server: Running, namespace: str) -> None:
    path = await make_pod(server, namespace, "p")
    await bind(server, path)
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "p", "namespace": namespace},
        "deleteOptions": {"gracePeriodSeconds": 7},
    }
    reply = await server.post(f"{path}/eviction", eviction)
    assert (reply.status, reply.json["status"]) == (201, "Success")
    assert (await server.get(path)).json["metadata"]["deletionGracePeriodSeconds"] == 7


# Namespaces


async def test_the_life_of_a_namespace(server: Running) -> None:
    made = (await server.post("/api/v1/namespaces", {"metadata": {"name": "short"}})).json
    assert made["spec"] == {"finalizers": ["kubernetes"]}
    assert made["status"] == {"phase": "Active"}
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "short"}
    marked = (await server.delete("/api/v1/namespaces/short")).json
    assert marked["status"]["phase"] == "Terminating"
    reply = await server.post("/api/v1/namespaces/short/configmaps", {"metadata": {"name": "late"}})
    assert (reply.status, reply.message) == (
        403,
        'configmaps "late" is forbidden: unable to create new content in namespace short because it is being '
        "terminated",
    )
    assert reply.json["details"]["causes"] == [
        {
            "reason": "NamespaceTerminating",
            "message": "namespace short is being terminated",
            "field": "metadata.namespace",
        }
    ]
    marked["spec"] = {}
    assert (await server.put("/api/v1/namespaces/short", marked)).json["spec"] == {
        "finalizers": ["kubernetes"]
    }
    del marked["metadata"]["resourceVersion"]
    assert (await server.put("/api/v1/namespaces/short/finalize", marked)).status == 200
    assert (await server.get("/api/v1/namespaces/short")).status == 404


async def test_a_namespace_that_is_not_there(server: Running) -> None:
    reply = await server.post("/api/v1/namespaces/nowhere/configmaps", {"metadata": {"name": "a"}})
    assert (reply.status, reply.message) == (404, 'namespaces "nowhere" not found')


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public", "kube-node-lease"])
async def test_namespaces_that_stay(server: Running, name: str) -> None:
    reply = await server.delete(f"/api/v1/namespaces/{name}")
    assert (reply.status, reply.message) == (
        403,
        f'namespaces "{name}" is forbidden: this namespace may not be deleted',
    )
