"""Create, read, update, patch: what the server does to objects, and what it says."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import yaml

from .api_server import Running

pytestmark = pytest.mark.asyncio(loop_scope="module")


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str, replicas: Any = 1) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": "python:3.7"}]},
            },
        },
    }


async def test_create_completes_the_object(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    reply = await server.post(path, config_map("a", key="value"))
    assert reply.status == 201
    made = reply.json
    metadata = made["metadata"]
    assert metadata["namespace"] == namespace
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", metadata["uid"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["creationTimestamp"])
    assert int(metadata["resourceVersion"]) > 0
    assert made["data"] == {"key": "value"}
    assert (await server.get(f"{path}/a")).json == made


async def test_kind_and_version_come_from_the_url_if_the_body_has_none(
    server: Running, namespace: str
) -> None:
    reply = await server.post(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "bare"}})
    assert reply.status == 201
    assert (reply.json["kind"], reply.json["apiVersion"]) == ("ConfigMap", "v1")


async def test_generate_name(server: Running, namespace: str) -> None:
    body = {"metadata": {"generateName": "some-"}}
    replies = [await server.post(f"/api/v1/namespaces/{namespace}/configmaps", body) for _ in range(3)]
    names = {reply.json["metadata"]["name"] for reply in replies}
    assert len(names) == 3
    assert all(re.fullmatch("some-[bcdfghjklmnpqrstvwxz2456789]{5}", name) for name in names)


@pytest.mark.parametrize(
    ("path", "body", "code", "reason", "message"),
    [
        ("configmaps", config_map("twice"), 409, "AlreadyExists", 'configmaps "twice" already exists'),
        (
            "configmaps",
            {"metadata": {}},
            422,
            "Invalid",
            'ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required',
        ),
        (
            "configmaps",
            {**config_map("x"), "metadata": {"name": "x", "namespace": "elsewhere"}},
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "configmaps",
            {**config_map("x"), "apiVersion": "v2"},
            400,
            "BadRequest",
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
        (
            "configmaps",
            {**config_map("x"), "kind": "Secret"},
            400,
            "BadRequest",
            'Secret in version "v1" cannot be handled as a ConfigMap',
        ),
        (
            "configmaps",
            {**config_map("x"), "data": {"a": 1}},
            400,
            "BadRequest",
            'ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into '
            "Go "
            "struct field ConfigMap.data of type string",
        ),
        (
            "configmaps",
            {"metadata": {"name": "x", "resourceVersion": "5"}},
            400,
            "BadRequest",
            "resourceVersion should not be set on objects to be created",
        ),
        (
            "configmaps",
            b"[]",
            400,
            "BadRequest",
            "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type "
            'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; '
            'Kind string "json:\\"kind,omitempty\\"" }',
        ),
        (
            "configmaps",
            b'{"metadata":',
            400,
            "BadRequest",
            "couldn't get version/kind; json parse error: unexpected end of JSON input",
        ),
    ],
)
async def test_refused_creates(
    server: Running, namespace: str, path: str, body: Any, code: int, reason: str, message: str
) -> None:
    if code == 409:
        await server.post(f"/api/v1/namespaces/{namespace}/{path}", body)
    reply = await server.post(f"/api/v1/namespaces/{namespace}/{path}", body)
    status = reply.json
    assert (reply.status, status["reason"], status["message"]) == (code, reason, message)
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert status["code"] == code


@pytest.mark.parametrize(
    ("method", "path", "code", "reason", "message"),
    [
        ("GET", "/api/v1/namespaces/default/configmaps/none", 404, "NotFound", 'configmaps "none" not found'),
        (
            "GET",
            "/apis/apps/v1/namespaces/default/deployments/x",
            404,
            "NotFound",
            'deployments.apps "x" not found',
        ),
        ("GET", "/api/v1/unicorns", 404, "NotFound", "the server could not find the requested resource"),
        ("GET", "/apis/zoo/v1/unicorns", 404, "NotFound", "the server could not find the requested resource"),
        ("GET", "/nothing", 404, "NotFound", "the server could not find the requested resource"),
        ("GET", "/api/v1/pods/x", 404, "NotFound", "the server could not find the requested resource"),
        (
            "GET",
            "/api/v1/namespaces/a/nodes/x",
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        (
            "POST",
            "/api/v1/pods",
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        (
            "DELETE",
            "/api/v1/namespaces",
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
    ],
)
async def test_wrong_places(
    server: Running, method: str, path: str, code: int, reason: str, message: str
) -> None:
    reply = await server.request(method, path)
    assert (reply.status, reply.json["reason"], reply.message) == (code, reason, message)


async def test_content_types(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    text = yaml.safe_dump(config_map("yaml", when="2020-01-01")).encode()
    made = await server.post(path, text, Content_Type="application/yaml", Accept="application/yaml")
    assert made.status == 201
    assert made.headers["Content-Type"] == "application/yaml"
    assert yaml.safe_load(made.body)["data"] == {"when": "2020-01-01"}
    assert (await server.post(path, b"x", Content_Type="text/plain")).status == 415
    assert (await server.get(path, Accept="image/png")).status == 406
    assert (await server.get(path, Accept="image/png, */*;q=0.1")).status == 200
    assert (await server.request("HEAD", f"{path}/yaml")).body == b""


async def test_a_body_that_is_too_large(server: Running, namespace: str) -> None:
    body = config_map("large", data="x" * (3 << 20))
    reply = await server.post(f"/api/v1/namespaces/{namespace}/configmaps", body)
    assert (reply.status, reply.json["reason"]) == (413, "RequestEntityTooLarge")
    assert reply.message == "Request entity too large: limit is 3145728"


# Updates


async def test_update_keeps_what_is_the_servers(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = (await server.post(path, config_map("a", x="1"))).json
    changed = {**made, "data": {"x": "2"}}
    changed["metadata"] = {
        **made["metadata"],
        "creationTimestamp": None,
        "generation": 7,
        "labels": {"l": "v"},
    }
    new = (await server.put(f"{path}/a", changed)).json
    assert new["data"] == {"x": "2"}
    assert new["metadata"]["labels"] == {"l": "v"}
    for field in ("uid", "creationTimestamp"):
        assert new["metadata"][field] == made["metadata"][field]
    assert "generation" not in new["metadata"]
    assert int(new["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


async def test_an_update_that_changes_nothing_is_no_write(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = (await server.post(path, config_map("a", x="1", y="2"))).json
    assert (await server.put(f"{path}/a", config_map("a", y="2", x="1"))).json == made
    assert (await server.patch(f"{path}/a", {"data": {"x": "1"}})).json == made


async def test_optimistic_locking(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = (await server.post(path, config_map("a", x="1"))).json
    assert (await server.put(f"{path}/a", {**made, "data": {"x": "2"}})).status == 200
    reply = await server.put(f"{path}/a", {**made, "data": {"x": "3"}})
    assert (reply.status, reply.json["reason"]) == (409, "Conflict")
    assert reply.message == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your '
        "changes to the latest version and try again"
    )
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"x": "4"}}
    assert (await server.patch(f"{path}/a", stale)).status == 409
    other = {"metadata": {"name": "a", "uid": "someone-else"}}
    reply = await server.put(f"{path}/a", other)
    assert reply.status == 409
    assert "Precondition failed: UID in precondition: someone-else, UID in object meta: " in reply.message
    assert (await server.put(f"{path}/a", config_map("a", x="5"))).json["data"] == {"x": "5"}


async def test_a_name_that_is_not_the_urls(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await server.post(path, config_map("a"))
    reply = await server.put(f"{path}/a", config_map("b"))
    assert reply.status == 400
    assert reply.message == "the name of the object (b) does not match the name on the URL (a)"


async def test_concurrent_patches_all_count(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await server.post(path, config_map("a"))
    await asyncio.gather(*(server.patch(f"{path}/a", {"data": {f"k{n}": str(n)}}) for n in range(30)))
    assert (await server.get(f"{path}/a")).json["data"] == {f"k{n}": str(n) for n in range(30)}


async def test_generation_counts_changes_of_the_spec(server: Running, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    made = (await server.post(path, deployment("a"))).json
    assert made["metadata"]["generation"] == 1
    for patch, generation in (
        ({"metadata": {"labels": {"a": "b"}}}, 1),
        ({"spec": {"replicas": 3}}, 2),
        ({"status": {"replicas": 3}}, 2),
        ({"spec": {"replicas": 3}}, 2),
        ({"spec": {"paused": True}}, 3),
    ):
        new = (await server.patch(f"{path}/a", patch)).json
        assert new["metadata"]["generation"] == generation, patch
    assert new["status"].get("replicas") is None


async def test_status_is_apart(server: Running, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    made = (await server.post(path, {**deployment("a"), "status": {"replicas": 9}})).json
    assert made["status"].get("replicas") is None
    reply = await server.patch(f"{path}/a/status", {"spec": {"replicas": 7}, "status": {"replicas": 1}})
    assert (reply.json["spec"]["replicas"], reply.json["status"]["replicas"]) == (1, 1)
    assert reply.json["metadata"]["generation"] == 1
    made["status"] = {"replicas": 2, "observedGeneration": 1}
    del made["metadata"]["resourceVersion"]
    new = (await server.put(f"{path}/a/status", made)).json
    assert new["status"] == {"replicas": 2, "observedGeneration": 1}
    assert (await server.get(f"{path}/a/status")).json == new
    assert (await server.get(f"/api/v1/namespaces/{namespace}/configmaps/x/status")).status == 404


# Patches


async def test_json_patch(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await server.post(path, config_map("a", x="1"))
    patch = [{"op": "test", "path": "/data/x", "value": "1"}, {"op": "add", "path": "/data/y", "value": "2"}]
    assert (await server.patch(f"{path}/a", patch, "json-patch+json")).json["data"] == {"x": "1", "y": "2"}
    wrong = await server.patch(
        f"{path}/a", [{"op": "test", "path": "/data/x", "value": "5"}], "json-patch+json"
    )
    assert wrong.status == 422
    missing = await server.patch(f"{path}/a", [{"op": "remove", "path": "/data/z"}], "json-patch+json")
    assert missing.status == 422
    assert (await server.patch(f"{path}/a", {"not": "a list"}, "json-patch+json")).status == 400


async def test_merge_patch(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await server.post(path, config_map("a", x="1", y="2"))
    new = await server.patch(f"{path}/a", {"data": {"x": None, "z": "3"}})
    assert new.json["data"] == {"y": "2", "z": "3"}
    assert (await server.patch(f"{path}/a", [1])).status == 400
    assert (await server.patch(f"{path}/none", {"data": {}})).status == 404


async def test_strategic_patch_knows_the_key(server: Running, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    await server.post(path, deployment("a"))
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "python:3.8"}]}}}}
    new = await server.patch(f"{path}/a", patch, "strategic-merge-patch+json")
    (container,) = new.json["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "python:3.8"
    assert container["terminationMessagePath"] == "/dev/termination-log"
    merged = await server.patch(f"{path}/a", patch)
    (container,) = merged.json["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "python:3.8"


async def test_a_patch_type_that_is_not_known(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await server.post(path, config_map("a"))
    reply = await server.patch(f"{path}/a", {}, "json")
    assert (reply.status, reply.json["reason"]) == (415, "UnsupportedMediaType")
    assert "application/strategic-merge-patch+json" in reply.message


async def test_a_patch_that_makes_nonsense(server: Running, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    await server.post(path, deployment("a"))
    reply = await server.patch(f"{path}/a", {"spec": {"replicas": "3"}})
    assert (reply.status, reply.json["reason"]) == (422, "Invalid")
    assert reply.message.startswith(' "" is invalid: patch: Invalid value: ')
    assert reply.message.endswith(
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    )
    reply = await server.patch(f"{path}/a", {"spec": {"replicas": -1}})
    assert reply.message == (
        'Deployment.apps "a" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0'
    )
    assert reply.json["details"]["causes"] == [
        {
            "reason": "FieldValueInvalid",
            "message": "Invalid value: -1: must be greater than or equal to 0",
            "field": "spec.replicas",
        }
    ]


# Field validation, dry runs


async def test_field_validation(server: Running, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    body = deployment("a")
    body["spec"]["foo"] = 1
    body["spec"]["template"]["spec"]["containers"][0]["bar"] = 2
    strict = await server.post(f"{path}?fieldValidation=Strict", body)
    assert strict.status == 400
    assert strict.message == (
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field '
        '"spec.template.spec.containers[0].bar", unknown field "spec.foo"'
    ) or strict.message == (
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field '
        '"spec.foo", unknown field "spec.template.spec.containers[0].bar"'
    )
    assert (await server.get(f"{path}/a")).status == 404
    warned = await server.post(f"{path}?fieldValidation=Warn", body)
    assert warned.status == 201
    assert set(warned.headers.getall("Warning")) == {
        '299 - "unknown field \\"spec.foo\\""',
        '299 - "unknown field \\"spec.template.spec.containers[0].bar\\""',
    }
    assert "foo" not in warned.json["spec"]
    ignored = await server.put(f"{path}/a?fieldValidation=Ignore", body)
    assert ignored.status == 200
    assert "Warning" not in ignored.headers
    patched = await server.patch(f"{path}/a?fieldValidation=Strict", {"spec": {"foo": 1}})
    assert patched.status == 422
    assert patched.message.endswith('strict decoding error: unknown field "spec.foo"')


async def test_duplicate_fields(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = b'{"metadata":{"name":"a"},"data":{"x":"1","y":"\\":","x":"2"},"data":{"x":"3"}}'
    strict = await server.post(f"{path}?fieldValidation=Strict", body)
    assert strict.status == 400
    assert 'duplicate field "data"' in strict.message
    warned = await server.post(path, body)
    assert warned.status == 201
    assert '299 - "duplicate field \\"data\\""' in warned.headers.getall("Warning")
    assert warned.json["data"] == {"x": "3"}


async def test_dry_run_does_all_but_write(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = await server.post(f"{path}?dryRun=All", config_map("dry"))
    assert made.status == 201
    assert made.json["metadata"]["uid"]
    assert (await server.get(f"{path}/dry")).status == 404
    kept = (await server.post(path, config_map("kept", x="1"))).json
    assert (await server.post(f"{path}?dryRun=All", config_map("kept"))).status == 409
    assert (await server.patch(f"{path}/kept?dryRun=All", {"data": {"x": "2"}})).json["data"] == {"x": "2"}
    assert (await server.delete(f"{path}/kept?dryRun=All")).status == 200
    assert (await server.delete(f"{path}/kept", {"dryRun": ["All"]})).status == 200
    assert (await server.get(f"{path}/kept")).json == kept
    assert (await server.post(f"{path}?dryRun=Some", config_map("x"))).status == 422


# Events in both groups


async def test_one_event_seen_through_two_groups(server: Running, namespace: str) -> None:
    event = {
        "metadata": {"name": "e", "namespace": namespace},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": namespace},
        "reason": "Started",
        "message": "it runs",
        "type": "Normal",
        "source": {"component": "kubelet", "host": "node-1"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
    }
    assert (await server.post(f"/api/v1/namespaces/{namespace}/events", event)).status == 201
    other = (await server.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/e")).json
    assert (other["apiVersion"], other["note"], other["regarding"]["name"]) == (
        "events.k8s.io/v1",
        "it runs",
        "p",
    )
    listed = (await server.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")).json
    assert (listed["kind"], listed["items"]) == ("EventList", [other])
    field = f"/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name=p,reason=Started"
    assert len((await server.get(field)).json["items"]) == 1
    changed = await server.patch(f"/api/v1/namespaces/{namespace}/events/e", {"message": "still", "count": 2})
    assert changed.status == 200, changed.body
    again = (await server.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/e")).json
    assert (again["note"], again["deprecatedCount"]) == ("still", 2)
    series = {"series": {"count": 3, "lastObservedTime": "2026-01-01T00:00:00.000001Z"}}
    updated = await server.patch(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/e", series)
    assert updated.status == 200, updated.body
    assert (await server.get(f"/api/v1/namespaces/{namespace}/events/e")).json["series"]["count"] == 3


# Scale


async def test_scale(server: Running, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    await server.post(path, deployment("a", 2))
    scale = (await server.get(f"{path}/a/scale")).json
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 0, "selector": "app=a"})
    scale["spec"]["replicas"] = 4
    assert (await server.put(f"{path}/a/scale", scale)).json["spec"] == {"replicas": 4}
    assert (await server.put(f"{path}/a/scale", scale)).status == 409
    assert (await server.patch(f"{path}/a/scale", {"spec": {"replicas": 5}})).json["spec"] == {"replicas": 5}
    found = (await server.get(f"{path}/a")).json
    assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (5, 3)
    wrong = await server.patch(f"{path}/a/scale", {"spec": {"replicas": -1}})
    assert wrong.status == 422
    assert wrong.message == (
        'Scale.autoscaling "a" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal '
        "to 0"
    )
