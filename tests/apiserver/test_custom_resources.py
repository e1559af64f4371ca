"""Custom resources through the server's entrance: definitions, their objects, and kubectl on both."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest
import pytest_asyncio

from .api_server import Running, running
from .crds import DEFINITIONS, IP_ADDRESS_POOL, definition, pool

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


async def test_a_name_that_is_taken(server: Running) -> None:
    """The later definition waits, and is served when the earlier one has gone."""
    first, second = definition("Sloop", group="a.example.com"), definition("Ketch", group="a.example.com")
    first["spec"]["names"]["shortNames"] = second["spec"]["names"]["shortNames"] = ["sail"]
    await define(server, first)
    refused = await define(server, second)
    accepted = condition(refused, "NamesAccepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "ShortNamesConflict")
    ketches = "/apis/a.example.com/v1/ketchs"
    assert (await server.get(ketches)).status == 404
    await server.delete(f"{DEFINITIONS}/sloops.a.example.com")
    await follow(
        server,
        f"{DEFINITIONS}?watch=1&fieldSelector=metadata.name=ketchs.a.example.com",
        lambda event: condition(event["object"], "Established")["status"] == "True",
    )
    assert (await server.get(ketches)).status == 200


async def test_built_in_names_are_taken(server: Running) -> None:
    wanted = definition("Role", group="rbac.authorization.k8s.io")
    wanted["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, a test"}
    found = await define(server, wanted)
    assert condition(found, "Established")["status"] == "False"
    roles = await server.get("/apis/rbac.authorization.k8s.io/v1/roles")
    assert roles.json["kind"] == "RoleList"
    await server.delete(f"{DEFINITIONS}/roles.rbac.authorization.k8s.io")


def versions() -> dict[str, Any]:
    wanted = definition("Cutter")
    old = wanted["spec"]["versions"][0]
    old.update({"deprecated": True})
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {"size": {"type": "integer"}, "rig": {"type": "string", "default": "gaff"}},
            }
        },
    }
    new = {**old, "name": "v2", "storage": False, "schema": {"openAPIV3Schema": schema}, "deprecated": False}
    wanted["spec"]["versions"] = [old, new]
    return wanted


async def test_versions(server: Running, namespace: str) -> None:
    await define(server, versions())
    group = (await server.get("/apis/example.com")).json
    assert [each["version"] for each in group["versions"]] == ["v2", "v1"]
    old, new = (path(namespace, plural="cutters", at=f"example.com/{each}") for each in ("v1", "v2"))
    made = await server.post(old, {"metadata": {"name": "a"}, "spec": {"size": 3, "extra": 1}})
    assert made.headers["Warning"] == '299 - "example.com/v1 Cutter is deprecated; use example.com/v2 Cutter"'
    shown = (await server.get(f"{new}/a")).json
    assert shown["apiVersion"] == "example.com/v2"
    assert shown["spec"] == {"size": 3, "rig": "gaff"}
    watched = await follow(server, f"{new}?watch=1", lambda event: True)
    assert watched[0]["object"] == shown
    changed = await server.patch(f"{new}/a", {"spec": {"size": 4}})
    assert changed.json["spec"] == {"size": 4, "rig": "gaff"}
    assert (await server.get(f"{old}/a")).json["spec"] == {"size": 4, "rig": "gaff"}

    # Storage moves on; what lies there in the old version is still read, and rewritten by the next update.
    found = (await server.get(f"{DEFINITIONS}/cutters.example.com")).json
    for version in found["spec"]["versions"]:
        version["storage"] = version["name"] == "v2"
    told = (await server.put(f"{DEFINITIONS}/cutters.example.com", found)).json
    assert told["status"]["storedVersions"] == ["v1", "v2"]
    before = (await server.get(f"{new}/a")).json
    assert before["spec"] == {"size": 4, "rig": "gaff"}
    again = (await server.put(f"{new}/a", before)).json
    assert again["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    assert again["metadata"]["generation"] == before["metadata"]["generation"]
    same = (await server.put(f"{new}/a", again)).json
    assert same["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]


async def test_a_changed_schema_ends_watches_and_holds_for_what_is_there(
    server: Running, namespace: str
) -> None:
    spec: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
    made = await define(server, definition("Barge", spec))
    barges = path(namespace, plural="barges", at="example.com/v1")
    await server.post(barges, {"metadata": {"name": "a"}, "spec": {"a": "x"}})
    begun = asyncio.Event()
    watching = asyncio.create_task(follow(server, f"{barges}?watch=1", lambda event: begun.set()))
    await begun.wait()
    spec["properties"] = {"a": {"type": "string", "maxLength": 0}, "b": {"type": "integer", "default": 1}}
    made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = spec
    await server.put(f"{DEFINITIONS}/barges.example.com", made)
    assert [event["type"] for event in await watching] == ["ADDED"]
    assert (await server.get(f"{barges}/a")).json["spec"] == {"a": "x", "b": 1}
    # Its fault is older than the rule: others of its fields can be changed.
    assert (await server.patch(f"{barges}/a", {"spec": {"b": 2}})).status == 200
    assert (await server.patch(f"{barges}/a", {"spec": {"a": "xx"}})).status == 422


async def test_columns(server: Running, namespace: str) -> None:
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Since", "type": "date", "jsonPath": ".spec.since"},
    ]
    await define(server, definition("Raft", additionalPrinterColumns=columns))
    rafts = path(namespace, plural="rafts", at="example.com/v1")
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    await server.post(
        rafts,
        {"metadata": {"name": "a"}, "spec": {"size": 3, "since": "2020-01-01T00:00:00Z"}, "status": ready},
    )
    await server.post(rafts, {"metadata": {"name": "b"}, "spec": {"size": "big", "since": "long ago"}})
    shown = (await server.kubectl("get", "rafts", "-n", namespace)).splitlines()
    assert [line.split() for line in shown[:1]] == [["NAME", "SIZE", "READY", "SINCE"]]
    assert shown[1].split()[:3] == ["a", "3", "True"]
    assert shown[1].split()[3].endswith("d")
    assert shown[2].split() == ["b", "<invalid>"]


async def test_scale(server: Running, namespace: str) -> None:
    scale = {
        "specReplicasPath": ".spec.crew.size",
        "statusReplicasPath": ".status.aboard",
        "labelSelectorPath": ".status.selector",
    }
    await define(server, definition("Ferry", subresources={"status": {}, "scale": scale}))
    ferries = path(namespace, plural="ferrys", at="example.com/v1")
    await server.post(ferries, {"metadata": {"name": "a"}, "spec": {"crew": {"size": 2}}})
    await server.patch(f"{ferries}/a/status", {"status": {"aboard": 1, "selector": "on=ferry"}})
    found = (await server.get(f"{ferries}/a/scale")).json
    assert (found["kind"], found["spec"], found["status"]) == (
        "Scale",
        {"replicas": 2},
        {"replicas": 1, "selector": "on=ferry"},
    )
    await server.post(ferries, {"metadata": {"name": "empty"}})
    missing = await server.get(f"{ferries}/empty/scale")
    assert (missing.status, missing.message) == (
        500,
        'Internal error occurred: the spec replicas field ".spec.crew.size" does not exist',
    )
    await server.kubectl("scale", "-n", namespace, "ferry/a", "--replicas=5")
    after = (await server.get(f"{ferries}/a")).json
    assert (after["spec"]["crew"]["size"], after["metadata"]["generation"]) == (5, 2)


async def test_fields_by_which_to_select(server: Running, namespace: str) -> None:
    spec = {"type": "object", "properties": {"colour": {"type": "string"}}}
    fields = [{"jsonPath": ".spec.colour"}]
    await define(server, definition("Flag", spec, selectableFields=fields))
    flags = path(namespace, plural="flags", at="example.com/v1")
    for name, colour in (("a", "red"), ("b", "blue")):
        await server.post(flags, {"metadata": {"name": name}, "spec": {"colour": colour}})
    found = (await server.get(f"{flags}?fieldSelector=spec.colour=red")).json
    assert [each["metadata"]["name"] for each in found["items"]] == ["a"]
    assert (await server.get(f"{flags}?fieldSelector=spec.size=3")).status == 400


def harbour() -> dict[str, Any]:
    berths = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["number", "side"],
        "items": {
            "type": "object",
            "required": ["number"],
            "properties": {
                "number": {"type": "integer"},
                "side": {"type": "string", "default": "port"},
                "boat": {"type": "string"},
            },
        },
    }
    colours = {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}
    plain = {"type": "array", "items": {"type": "string"}}
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    spec = {
        "type": "object",
        "properties": {"berths": berths, "colours": colours, "plain": plain, "free": free},
    }
    return definition("Harbour", spec)


async def test_server_side_apply_by_the_schema(server: Running, namespace: str) -> None:
    await define(server, harbour())
    where = path(namespace, "a", "harbours", "example.com/v1")

    async def apply(manager: str, **spec: Any) -> Any:
        body = {"apiVersion": "example.com/v1", "kind": "Harbour", "metadata": {"name": "a"}, "spec": spec}
        return await server.patch(f"{where}?fieldManager={manager}", body, "apply-patch+yaml")

    first = await apply(
        "one", berths=[{"number": 1, "boat": "tug"}], colours=["red"], plain=["x"], free={"a": {"b": 1}}
    )
    assert first.status == 201
    (entry,) = first.json["metadata"]["managedFields"]
    assert entry["fieldsV1"]["f:spec"] == {
        "f:berths": {
            'k:{"number":1,"side":"port"}': {".": {}, "f:boat": {}, "f:number": {}},
        },
        "f:colours": {'v:"red"': {}},
        "f:plain": {},
        "f:free": {"f:a": {"f:b": {}}},
    }
    second = await apply("two", berths=[{"number": 2}], colours=["blue"], free={"a": {"c": 2}})
    assert second.status == 200
    assert second.json["spec"] == {
        "berths": [{"number": 1, "boat": "tug", "side": "port"}, {"number": 2, "side": "port"}],
        "colours": ["red", "blue"],
        "plain": ["x"],
        "free": {"a": {"b": 1, "c": 2}},
    }
    clash = await apply("two", plain=["y"])
    assert (clash.status, clash.json["details"]["causes"][0]["field"]) == (409, ".spec.plain")
    last = await apply("one", colours=["red"], plain=["x"])
    assert last.json["spec"] == {
        "berths": [{"number": 2, "side": "port"}],
        "colours": ["red", "blue"],
        "plain": ["x"],
        "free": {"a": {"c": 2}},
    }
    wrong = await apply("one", berths="none")
    assert wrong.status == 422


async def test_rules(server: Running, namespace: str) -> None:
    rules = [
        {"rule": "self.low <= self.high", "message": "low must not be above high"},
        {"rule": "self.low == oldSelf.low", "message": "low is fixed", "fieldPath": ".low"},
    ]
    number = {"type": "integer"}
    spec = {
        "type": "object",
        "properties": {"low": number, "high": number},
        "x-kubernetes-validations": rules,
    }
    await define(server, definition("Tide", spec))
    tides = path(namespace, plural="tides", at="example.com/v1")
    refused = await server.post(tides, {"metadata": {"name": "a"}, "spec": {"low": 2, "high": 1}})
    assert refused.message == (
        'Tide.example.com "a" is invalid: spec: Invalid value: "object": low must not be above high'
    )
    assert (
        await server.post(tides, {"metadata": {"name": "a"}, "spec": {"low": 1, "high": 2}})
    ).status == 201
    refused = await server.patch(f"{tides}/a", {"spec": {"low": 0}})
    assert refused.message.endswith('spec.low: Invalid value: "object": low is fixed')
    assert (await server.patch(f"{tides}/a", {"spec": {"high": 3}})).status == 200


async def test_what_is_never_offered(server: Running, pools: str, namespace: str) -> None:
    patched = await server.patch(path(namespace, "x"), {}, "strategic-merge-patch+json")
    assert patched.status == 415
    sent = await server.post(path(namespace), b"k8s\0", Content_Type="application/vnd.kubernetes.protobuf")
    assert sent.status == 415
    hook = definition("Hook")
    hook["spec"]["conversion"] = {"strategy": "Webhook"}
    refused = await server.post(DEFINITIONS, hook)
    assert (refused.status, "not supported by this server" in refused.message) == (422, True)


async def test_who_may(server: Running, pools: str, namespace: str) -> None:
    """Roles name custom resources as they name any other."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rule = {"apiGroups": ["metallb.io"], "resources": ["ipaddresspools"], "verbs": ["list"]}
    await server.post(f"{rbac}/roles", {"metadata": {"name": "pools"}, "rules": [rule]})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "pools"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "sailor"}
    binding = {"metadata": {"name": "pools"}, "roleRef": reference, "subjects": [subject]}
    await server.post(f"{rbac}/rolebindings", binding)
    assert (await server.get(path(namespace), user="sailor")).status == 200
    refused = await server.post(path(namespace), pool(), user="sailor")
    assert (refused.status, "ipaddresspools" in refused.message) == (403, True)


async def test_documents(server: Running, pools: str) -> None:
    index = (await server.get("/openapi/v3")).json["paths"]
    url = index["apis/metallb.io/v1beta1"]["serverRelativeURL"]
    document = (await server.get(url)).json
    schema = document["components"]["schemas"]["io.metallb.v1beta1.IPAddressPool"]
    assert schema["properties"]["spec"]["required"] == ["addresses"]
    assert schema["properties"]["metadata"]["allOf"] == [
        {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    ]
    core = index["api/v1"]["serverRelativeURL"]
    await define(server, definition("Yacht"))
    after = (await server.get("/openapi/v3")).json["paths"]
    assert after["api/v1"]["serverRelativeURL"] == core, "what is cached of others stays good"
    swagger = (await server.get("/openapi/v2")).json
    assert "com.example.v1.Yacht" in swagger["definitions"]
    old = await server.get("/openapi/v2", Accept="application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
    assert b"com.example.v1.Yacht" in old.body
    aggregated = await server.get(
        "/apis", Accept="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    )
    (group,) = (each for each in aggregated.json["items"] if each["metadata"]["name"] == "metallb.io")
    (resource,) = group["versions"][0]["resources"]
    assert (resource["shortNames"], resource["categories"]) == (["pools"], ["all"])
    assert [each["subresource"] for each in resource["subresources"]] == ["status"]


async def test_after_a_restart(tmp_path: Any) -> None:
    """Definitions and objects are there at once, watches go on, and nothing was written."""
    async with running(tmp_path) as server:
        await define(server, IP_ADDRESS_POOL)
        made = await server.post(path("default"), pool())
    authority = server.authority
    async with running(tmp_path, authority=authority) as again:
        found = await again.get(path("default", "pool"))
        assert found.json == made.json
        version = made.json["metadata"]["resourceVersion"]
        events = asyncio.create_task(
            follow(again, f"{path('default')}?watch=1&resourceVersion={version}", lambda event: True)
        )
        changed = await again.patch(path("default", "pool"), {"spec": {"autoAssign": False}})
        assert [each["object"] for each in await events] == [changed.json]
        definition_after = (await again.get(f"{DEFINITIONS}/ipaddresspools.metallb.io")).json
        assert int(definition_after["metadata"]["resourceVersion"]) < int(version)


async def test_the_libraries_for_schemas_wait_for_the_first_definition() -> None:
    """Starting a cluster does not pay for what it may never need."""
    program = (
        "import sys, buoy.apiserver.server; from buoy.api import KINDS; [kind.struct for kind in KINDS]; "
        "print({'celpy', 're2', 'lark'} & set(sys.modules))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output == b"set()\n"
