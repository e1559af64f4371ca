"""Custom resources through the server's entrance: definitions, their objects, and kubectl on both."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import pytest_asyncio

from .api_server import Running
from .crds import IP_ADDRESS_POOL, definition, pool

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


async def follow(server: Running, path: str, until: Any) -> list[dict[str, Any]]:
    """The events of a watch up to the first that *until* accepts, or to its end."""
    found = []
    async with asyncio.timeout(10), server.session().get(path) as response:
        assert response.status == 200
        async for line in response.content:
            event = json.loads(line)
            found.append(event)
            if until(event):
                break
    return found


def condition(obj: dict[str, Any], type: str) -> dict[str, Any]:
    found = [each for each in obj.get("status", {}).get("conditions", ()) if each["type"] == type]
    return found[0] if found else {}


async def define(server: Running, wanted: dict[str, Any]) -> dict[str, Any]:
    """Create the definition; as it is once its names have been judged."""
    made = await server.post(DEFINITIONS, wanted)
    assert made.status == 201, made.body
    name = wanted["metadata"]["name"]
    query = f"?watch=1&fieldSelector=metadata.name={name}&resourceVersion="
    start = int(made.json["metadata"]["resourceVersion"]) - 1
    events = await follow(
        server, f"{DEFINITIONS}{query}{start}", lambda event: condition(event["object"], "NamesAccepted")
    )
    found: dict[str, Any] = events[-1]["object"]
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pools(server: Running) -> str:
    await define(server, IP_ADDRESS_POOL)
    return "ipaddresspools.metallb.io"


def path(
    namespace: str, name: str = "", plural: str = "ipaddresspools", at: str = "metallb.io/v1beta1"
) -> str:
    return f"/apis/{at}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


async def test_a_definition_is_established(server: Running, pools: str) -> None:
    found = (await server.get(f"{DEFINITIONS}/{pools}")).json
    assert condition(found, "Established")["reason"] == "InitialNamesAccepted"
    assert condition(found, "NamesAccepted")["reason"] == "NoConflicts"
    assert found["status"]["acceptedNames"] == {
        "kind": "IPAddressPool",
        "listKind": "IPAddressPoolList",
        "plural": "ipaddresspools",
        "singular": "ipaddresspool",
        "shortNames": ["pools"],
        "categories": ["all"],
    }
    assert found["status"]["storedVersions"] == ["v1beta1"]
    assert found["metadata"]["generation"] == 1


async def test_objects_are_defaulted_pruned_and_validated(
    server: Running, pools: str, namespace: str
) -> None:
    made = await server.post(path(namespace), {**pool(surprise=1), "status": {"availableIPv4": 4}})
    assert made.status == 201
    assert made.json["spec"] == {
        "addresses": ["192.168.1.251/32"],
        "autoAssign": True,
        "avoidBuggyIPs": False,
    }
    assert "status" not in made.json
    assert made.headers["Warning"] == '299 - "unknown field \\"spec.surprise\\""'
    strict = await server.post(f"{path(namespace)}?fieldValidation=Strict", pool("b", surprise=1))
    assert (strict.status, strict.message) == (
        400,
        'IPAddressPool in version "v1beta1" cannot be handled as a IPAddressPool: '
        'strict decoding error: unknown field "spec.surprise"',
    )
    wrong = await server.post(path(namespace), pool("c", autoAssign="yes", addresses=None))
    assert (wrong.status, wrong.message) == (
        422,
        'IPAddressPool.metallb.io "c" is invalid: [spec.addresses: Required value, spec.autoAssign: '
        'Invalid value: "string": spec.autoAssign in body must be of type boolean: "string"]',
    )
    assert wrong.json["details"]["causes"][1]["reason"] == "FieldValueTypeInvalid"


async def test_status_and_generation(server: Running, pools: str, namespace: str) -> None:
    made = (await server.post(path(namespace), pool())).json
    assert made["metadata"]["generation"] == 1
    told = await server.patch(
        f"{path(namespace, 'pool')}/status",
        {"metadata": {"labels": {"a": "b"}}, "spec": {"autoAssign": False}, "status": {"availableIPv4": 1}},
    )
    assert told.json["status"] == {"availableIPv4": 1}
    assert told.json["spec"] == made["spec"]
    assert "labels" not in told.json["metadata"]
    changed = await server.patch(
        path(namespace, "pool"), {"spec": {"autoAssign": False}, "status": {"availableIPv4": 9}}
    )
    assert changed.json["status"] == {"availableIPv4": 1}
    assert changed.json["metadata"]["generation"] == 2
    labelled = await server.patch(path(namespace, "pool"), {"metadata": {"labels": {"a": "b"}}})
    assert labelled.json["metadata"]["generation"] == 2
    bad = await server.patch(f"{path(namespace, 'pool')}/status", {"status": {"availableIPv4": "x"}})
    assert (bad.status, bad.json["details"]["causes"][0]["field"]) == (422, "status.availableIPv4")


async def test_kubectl(server: Running, pools: str, namespace: str) -> None:
    applied = json.dumps(pool(autoAssign=False))
    for _ in range(2):
        told = await server.kubectl("apply", "-n", namespace, "-f", "-", stdin=applied)
    assert told == "ipaddresspool.metallb.io/pool unchanged\n"
    assert "configured" in await server.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(pool()))
    for word in ("pools", "ipaddresspool", "ipaddresspools.metallb.io", "all"):
        shown = await server.kubectl("get", word, "-n", namespace)
        assert "AUTO ASSIGN   AVOID BUGGY IPS   ADDRESSES" in shown
        assert '["192.168.1.251/32"]' in shown
    assert "FREE" in await server.kubectl("get", "pools", "-n", namespace, "-o", "wide")
    explained = await server.kubectl("explain", "pools.spec.addresses")
    assert "Ranges or CIDRs that the pool hands out." in explained
    told = await server.kubectl("label", "-n", namespace, "pools/pool", "a=b")
    assert "labeled" in told
    told = await server.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=applied, code=1)
    assert "conflict" in told
    refused = await server.kubectl(
        "patch", "-n", namespace, "pools/pool", "--type=strategic", "-p", "{}", code=1
    )
    assert "application/strategic-merge-patch+json is not supported" in refused
    wrong = json.dumps(pool(autoAsign=True))
    told = await server.kubectl("apply", "-n", namespace, "-f", "-", stdin=wrong, code=1)
    assert 'unknown field "spec.autoAsign"' in told


async def test_the_end_of_a_definition(server: Running, namespace: str) -> None:
    """Its objects go first, and their watchers see it; one with a finalizer holds it up."""
    await define(server, definition("Boat"))
    boats = path(namespace, plural="boats", at="example.com/v1")
    free = {"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": "free"}}
    held = {**free, "metadata": {"name": "held", "finalizers": ["example.com/anchor"]}}
    for boat in (free, held):
        assert (await server.post(boats, boat)).status == 201
    listed = (await server.get(boats)).json
    assert [each["metadata"]["name"] for each in listed["items"]] == ["free", "held"]
    start = listed["metadata"]["resourceVersion"]
    watching = asyncio.create_task(
        follow(server, f"{boats}?watch=1&resourceVersion={start}", lambda event: False)
    )
    deleted = await server.delete(f"{DEFINITIONS}/boats.example.com")
    assert deleted.json["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    waiting = await follow(
        server,
        f"{DEFINITIONS}?watch=1&fieldSelector=metadata.name=boats.example.com",
        lambda event: condition(event["object"], "Terminating")["reason"] == "InstanceDeletionInProgress",
    )
    assert waiting
    refused = await server.post(boats, {**free, "metadata": {"name": "late"}})
    assert refused.message == "create not allowed while custom resource definition is terminating"
    assert [each["metadata"]["name"] for each in (await server.get(boats)).json["items"]] == ["held"]
    await server.patch(f"{boats}/held", {"metadata": {"finalizers": None}})
    events = await watching
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("DELETED", "free"),
        ("MODIFIED", "held"),
        ("DELETED", "held"),
    ]
    assert (await server.get(boats)).status == 404
    assert (await server.get("/apis/example.com/v1")).status == 404
    assert (await server.get(f"{DEFINITIONS}/boats.example.com")).status == 404
