"""What the server says of itself: discovery, OpenAPI, health, metrics."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from buoy import KUBERNETES_VERSION
from buoy.api import KINDS
from buoy.apiserver import protobuf

from .api_server import Running

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


async def test_version(server: Running) -> None:
    version = (await server.get("/version")).json
    assert (version["major"], version["minor"], version["gitVersion"]) == ("1", "36", KUBERNETES_VERSION)


async def test_discovery_in_both_forms_agrees(server: Running) -> None:
    old: set[tuple[str, str, str, tuple[str, ...]]] = set()
    lists = [(await server.get("/api/v1")).json]
    for group in (await server.get("/apis")).json["groups"]:
        for version in group["versions"]:
            lists.append((await server.get(f"/apis/{version['groupVersion']}")).json)
        assert (await server.get(f"/apis/{group['name']}")).json["name"] == group["name"]
    for found in lists:
        for resource in found["resources"]:
            old.add((found["groupVersion"], resource["name"], resource["kind"], tuple(resource["verbs"])))
    new: set[tuple[str, str, str, tuple[str, ...]]] = set()
    for path in ("/api", "/apis"):
        reply = await server.get(path, Accept=AGGREGATED)
        assert "apidiscovery.k8s.io" in reply.headers["Content-Type"]
        for item in reply.json["items"]:
            group = item["metadata"].get("name", "")
            for version in item["versions"]:
                where = f"{group}/{version['version']}" if group else version["version"]
                for resource in version["resources"]:
                    name, kind = resource["resource"], resource["responseKind"]["kind"]
                    new.add((where, name, kind, tuple(resource["verbs"])))
                    for sub in resource.get("subresources", ()):
                        full = f"{name}/{sub['subresource']}"
                        new.add((where, full, sub["responseKind"]["kind"], tuple(sub["verbs"])))
    assert new == old
    assert {(r.api_version, r.plural, r.kind) for r in (kind.resource for kind in KINDS)} <= {
        e[:3] for e in old
    }
    assert ("v1", "pods/exec", "PodExecOptions", ("create", "get")) in old


async def test_every_kind_in_openapi(server: Running) -> None:
    paths = (await server.get("/openapi/v3")).json["paths"]
    swagger = (await server.get("/openapi/v2")).json
    for kind in KINDS:
        resource = kind.resource
        where = f"apis/{resource.api_version}" if resource.group else f"api/{resource.version}"
        document = (await server.get(paths[where]["serverRelativeURL"])).json
        gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        for definitions, references in (
            (document["components"]["schemas"], "#/components/schemas/"),
            (swagger["definitions"], "#/definitions/"),
        ):
            (schema,) = [
                each
                for each in definitions.values()
                if gvk in each.get("x-kubernetes-group-version-kind", ())
            ]
            assert {"apiVersion", "kind", "metadata"} <= set(schema["properties"])
            assert schema["description"]
            check_references(definitions, references)
        scope = "/namespaces/{namespace}" if resource.namespaced else ""
        path = f"/{where}{scope}/{resource.plural}/{{name}}"
        for paths_of in (document["paths"], swagger["paths"]):
            patch = paths_of[path]["patch"]
            assert patch["x-kubernetes-group-version-kind"] == gvk
            assert {"fieldValidation", "dryRun", "fieldManager"} <= {
                each["name"] for each in patch["parameters"]
            }


def check_references(value: Any, prefix: str, definitions: Any = None) -> None:
    definitions = value if definitions is None else definitions
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            assert value["$ref"].removeprefix(prefix) in definitions
        for each in value.values():
            check_references(each, prefix, definitions)
    elif isinstance(value, list):
        for each in value:
            check_references(each, prefix, definitions)


async def test_openapi_details(server: Running) -> None:
    document = (await server.get("/openapi/v3/api/v1")).json
    schemas = document["components"]["schemas"]
    ports = schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"]
    assert ports["x-kubernetes-patch-merge-key"] == "port"
    assert ports["x-kubernetes-patch-strategy"] == "merge"
    assert ports["x-kubernetes-list-map-keys"] == ["port", "protocol"]
    assert "The list of ports that are exposed by this service" in ports["description"]
    assert schemas["io.k8s.api.core.v1.ServicePort"]["required"] == ["port"]
    packed = await server.get("/openapi/v3/api/v1", Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    known = await server.get("/openapi/v3/api/v1", If_None_Match=packed.headers["ETag"])
    assert known.status == 304
    assert (await server.get("/openapi/v3/apis/zoo/v1")).status == 404


async def test_openapi_in_protobuf(server: Running) -> None:
    accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    reply = await server.get("/openapi/v2", Accept=accept)
    assert reply.headers["Content-Type"] == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    fields = {number: value for number, _, value in protobuf._fields(memoryview(reply.body))}
    assert bytes(fields[1]) == b"2.0"
    names = {
        bytes(next(value for number, _, value in protobuf._fields(named) if number == 1)).decode()
        for _, _, named in protobuf._fields(fields[9])
    }
    assert names == set((await server.get("/openapi/v2")).json["definitions"])


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
async def test_health(server: Running, path: str) -> None:
    assert (await server.get(path)).body == b"ok"
    verbose = (await server.get(f"{path}?verbose")).body.decode()
    assert "[+]ping ok\n" in verbose
    assert verbose.endswith(f"{path[1:]} check passed\n")
    assert (await server.get(f"{path}/ping")).body == b"ok"
    assert (await server.get(f"{path}/none")).status == 404


async def test_metrics(server: Running) -> None:
    await server.get("/api/v1/namespaces/default/configmaps/none")
    text = (await server.get("/metrics")).body.decode()
    wanted = 'apiserver_request_total{code="404",component="apiserver",group="",resource="configmaps"'
    assert wanted in text
    assert 'apiserver_request_duration_seconds_bucket{component="apiserver"' in text
    assert f'kubernetes_build_info{{git_version="{KUBERNETES_VERSION}"}} 1.0' in text


async def test_paths(server: Running) -> None:
    paths = (await server.get("/")).json["paths"]
    assert {"/api/v1", "/apis/apps/v1", "/readyz/ping", "/openapi/v3"} <= set(paths)
    for path in paths:
        if path not in ("/metrics",):
            assert (await server.get(path)).status == 200, path


async def test_handlers_that_break_still_answer(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from buoy.apiserver.rest import Rest

    async def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Rest, "_get", broken)
    reply = await server.get("/api/v1/namespaces/default/configmaps/x")
    assert (reply.status, reply.json["reason"]) == (500, "InternalError")
    assert reply.message == "Internal error occurred: ZeroDivisionError('a bug')"
    assert (await server.get("/version")).status == 200


async def test_requests_at_once(server: Running) -> None:
    replies = await asyncio.gather(*(server.get("/version") for _ in range(100)))
    assert {reply.status for reply in replies} == {200}
