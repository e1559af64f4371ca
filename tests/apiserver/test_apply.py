"""Server-side apply."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from .api_server import Reply, Running

pytestmark = pytest.mark.asyncio(loop_scope="module")


def deployment(image: str = "i", replicas: int | None = 3, **labels: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": labels} if labels else {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {"name": "web", "image": image, "resources": {"limits": {"cpu": "1000m"}}},
                    ]
                },
            },
        },
    }
    if replicas is not None:
        found["spec"]["replicas"] = replicas
    return found


async def apply(
    server: Running, namespace: str, body: dict[str, Any], manager: str = "one", query: str = ""
) -> Reply:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web?fieldManager={manager}{query}"
    return await server.patch(path, yaml.safe_dump(body).encode(), "apply-patch+yaml")


def managers(obj: dict[str, Any]) -> dict[str, Any]:
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", ())}


async def test_the_life_of_an_applied_object(server: Running, namespace: str) -> None:
    made = await apply(server, namespace, deployment())
    assert made.status == 201, made.body
    (entry,) = made.json["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("one", "Apply", "apps/v1")
    assert entry["fieldsV1"] == {
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:template": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"web"}': {
                            ".": {},
                            "f:image": {},
                            "f:name": {},
                            "f:resources": {"f:limits": {"f:cpu": {}}},
                        }
                    }
                },
            },
        }
    }
    again = await apply(server, namespace, deployment())
    assert (again.status, again.json) == (200, made.json)
    # What is not applied any more goes away; defaults come back.
    fewer = await apply(server, namespace, deployment(replicas=None, a="b"))
    assert fewer.json["spec"]["replicas"] == 1
    assert fewer.json["metadata"]["labels"] == {"a": "b"}
    none = await apply(server, namespace, deployment(replicas=None))
    assert "labels" not in none.json["metadata"]


async def test_conflicts(server: Running, namespace: str) -> None:
    await apply(server, namespace, deployment())
    same = await apply(server, namespace, deployment(), "two")
    assert same.status == 200, same.body
    assert set(managers(same.json)) == {"one", "two"}
    refused = await apply(server, namespace, deployment(replicas=5), "two")
    assert (refused.status, refused.json["reason"]) == (409, "Conflict")
    assert refused.message == 'Apply failed with 1 conflict: conflict with "one": .spec.replicas'
    assert refused.json["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".spec.replicas"}
    ]
    several = await apply(server, namespace, deployment("j", replicas=5), "two")
    assert several.message == (
        'Apply failed with 2 conflicts: conflicts with "one":\n- .spec.replicas\n'
        '- .spec.template.spec.containers[name="web"].image'
    )
    forced = await apply(server, namespace, deployment(replicas=5), "two", "&force=true")
    assert forced.json["spec"]["replicas"] == 5
    assert "f:replicas" not in managers(forced.json)["one"]["f:spec"]
    # One has lost it, so that leaving it out changes nothing.
    assert (await apply(server, namespace, deployment(replicas=None))).json["spec"]["replicas"] == 5
    # What both own stays until neither does.
    body = deployment()
    del body["spec"]["template"]["spec"]["containers"][0]["resources"]
    del body["spec"]["replicas"]
    still = await apply(server, namespace, body)
    assert still.json["spec"]["template"]["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "1"}}


async def test_other_writes_take_ownership(server: Running, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
    await apply(server, namespace, deployment())
    await server.patch(f"{path}/scale?fieldManager=scaler", {"spec": {"replicas": 7}})
    await server.patch(f"{path}/status", {"status": {"replicas": 7}})
    found = (await server.get(path)).json
    assert managers(found)["scaler"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in managers(found)["one"]["f:spec"]
    refused = await apply(server, namespace, deployment())
    assert refused.message.startswith(
        'Apply failed with 1 conflict: conflict with "scaler" with subresource "scale"'
    )
    assert refused.message.endswith(": .spec.replicas")
    kept = await apply(server, namespace, deployment(replicas=None))
    assert (kept.status, kept.json["spec"]["replicas"]) == (200, 7)
    patch = {"metadata": {"managedFields": [{}]}, "spec": {"paused": True}}
    await server.patch(f"{path}?fieldManager=p", patch)
    assert managers((await server.get(path)).json)["p"] == {"f:spec": {"f:paused": {}}}


async def test_the_first_apply_of_what_somebody_created(server: Running, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    await server.post(path, deployment())
    assert "managedFields" not in (await server.get(f"{path}/web")).json["metadata"]
    refused = await apply(server, namespace, deployment("j"))
    assert refused.message == (
        'Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: '
        '.spec.template.spec.containers[name="web"].image'
    )
    assert (await apply(server, namespace, deployment("i"))).status == 200
    forced = await apply(server, namespace, deployment("j"), query="&force=true")
    assert forced.json["spec"]["template"]["spec"]["containers"][0]["image"] == "j"


@pytest.mark.parametrize(
    ("change", "query", "status", "message"),
    [
        ({}, "?x=y", 422, "fieldManager: Required value: is required for apply patch"),
        ({"kind": "Job"}, "", 400, "kind Job does not match the URL's Deployment"),
        (
            {"metadata": {"name": "other"}},
            "",
            400,
            "the name of the object (other) does not match the name on the URL",
        ),
        ({"metadata": {"name": "web", "managedFields": [{}]}}, "", 400, "metadata.managedFields must be nil"),
        ({"spec": {"foo": 1}}, "", 400, 'strict decoding error: unknown field "spec.foo"'),
        ({"spec": {"replicas": "x"}}, "", 400, "json: cannot unmarshal string into Go struct field"),
    ],
)
async def test_refused(
    server: Running, namespace: str, change: dict[str, Any], query: str, status: int, message: str
) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web{query or '?fieldManager=one'}"
    body = json.dumps({**deployment(), **change}).encode()
    reply = await server.patch(path, body, "apply-patch+yaml")
    assert reply.status == status
    assert message in reply.message


async def test_dry_run(server: Running, namespace: str) -> None:
    assert (await apply(server, namespace, deployment(), query="&dryRun=All")).status == 201
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
    assert (await server.get(path)).status == 404


async def test_lists_with_two_keys_and_sets(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services/s"

    async def put(manager: str, ports: list[Any], finalizers: list[str]) -> Reply:
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "s", "finalizers": finalizers},
            "spec": {"ports": ports},
        }
        return await server.patch(
            f"{path}?fieldManager={manager}", json.dumps(body).encode(), "apply-patch+yaml"
        )

    dns = [{"name": "tcp", "port": 53, "protocol": "TCP"}, {"name": "udp", "port": 53, "protocol": "UDP"}]
    made = await put("one", dns, ["example.com/a"])
    assert made.status == 201, made.body
    more = await put("two", [{"name": "web", "port": 80}], ["example.com/b"])
    assert more.status == 200, more.body
    assert [port["name"] for port in more.json["spec"]["ports"]] == ["tcp", "udp", "web"]
    assert more.json["metadata"]["finalizers"] == ["example.com/a", "example.com/b"]
    fewer = await put("one", dns[:1], [])
    assert fewer.status == 200, fewer.body
    assert [port["name"] for port in fewer.json["spec"]["ports"]] == ["tcp", "web"]
    assert fewer.json["metadata"]["finalizers"] == ["example.com/b"]
    changed = await put("two", [{"name": "http", "port": 80, "protocol": "TCP"}], ["example.com/b"])
    assert [port["name"] for port in changed.json["spec"]["ports"]] == ["tcp", "http"]
    assert changed.json["spec"]["clusterIP"] == made.json["spec"]["clusterIP"]


async def test_kubectl_applies(server: Running, namespace: str) -> None:
    async def kubectl(body: dict[str, Any], *more: str, code: int = 0) -> str:
        arguments = ("apply", "--server-side", "-n", namespace, "-f", "-", *more)
        return await server.kubectl(*arguments, stdin=json.dumps(body), code=code)

    assert await kubectl(deployment()) == "deployment.apps/web serverside-applied\n"
    assert await kubectl(deployment("j")) == "deployment.apps/web serverside-applied\n"
    told = await kubectl(deployment("k"), "--field-manager=other", code=1)
    assert 'Apply failed with 1 conflict: conflict with "kubectl"' in told
    assert '.spec.template.spec.containers[name="web"].image' in told
    await kubectl(deployment("k"), "--field-manager=other", "--force-conflicts")
    # From client-side apply to server-side: kubectl moves the ownership itself.
    await server.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(_named(deployment(), "old")))
    assert "serverside-applied" in await kubectl(_named(deployment(), "old"))


def _named(body: dict[str, Any], name: str) -> dict[str, Any]:
    body["metadata"]["name"] = name
    return body
