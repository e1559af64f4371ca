"""Cluster IPs and node ports: never used twice, given back, found again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from eventual import eventually

from .api_server import Running, running

pytestmark = pytest.mark.asyncio(loop_scope="module")


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}, **spec}}


async def test_defaults(server: Running, namespace: str) -> None:
    made = (await server.post(f"/api/v1/namespaces/{namespace}/services", service("s"))).json
    spec = made["spec"]
    address = spec["clusterIP"]
    assert spec == {
        "type": "ClusterIP",
        "clusterIP": address,
        "clusterIPs": [address],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
        "selector": {"a": "b"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    }
    assert made["status"] == {"loadBalancer": {}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"clusterIP": "10.96.0.1"},
            'spec.clusterIPs: Invalid value: ["10.96.0.1"]: failed to allocate IP 10.96.0.1: provided IP is '
            "already allocated",
        ),
        (
            {"clusterIP": "192.168.9.9"},
            'spec.clusterIPs: Invalid value: ["192.168.9.9"]: failed to allocate IP 192.168.9.9: ',
        ),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range "
            "of "
            "valid ports is 30000-32767",
        ),
        (
            {"type": "loadBalancer"},
            'spec.type: Unsupported value: "loadBalancer": supported values: "ClusterIP", "ExternalName", '
            '"LoadBalancer", "NodePort"',
        ),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}, "spec.ports[1]: Duplicate value"),
        ({"ports": []}, "spec.ports: Required value"),
    ],
)
async def test_refused(server: Running, namespace: str, spec: Any, message: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    reply = await server.post(path, service("s", **spec))
    assert (reply.status, reply.json["reason"]) == (422, "Invalid")
    assert f'Service "s" is invalid: {message}' in reply.message.replace("[spec", "spec")


async def test_what_is_refused_later_takes_nothing(server: Running, namespace: str) -> None:
    """Validation comes after allocation: its refusal, and a dry run, give back what was taken."""
    path = f"/api/v1/namespaces/{namespace}/services"
    wanted = {"clusterIP": "10.96.0.77", "type": "NodePort", "ports": [{"port": 80, "nodePort": 30077}]}
    bad = service("s", **wanted, sessionAffinity="Sometimes")
    assert (await server.post(path, bad)).status == 422
    assert (await server.post(f"{path}?dryRun=All", service("s", **wanted))).status == 201
    assert (await server.post(path, service("s", **wanted))).status == 201
    assert (await server.post(path, service("s", **wanted))).status in (409, 422)
    assert (await server.get(f"{path}/s")).json["spec"]["clusterIP"] == "10.96.0.77"


async def test_given_back_on_deletion(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    wanted = {"clusterIP": "10.96.0.78", "type": "NodePort", "ports": [{"port": 80, "nodePort": 30078}]}
    for name in ("a", "b"):
        assert (await server.post(path, service(name, **wanted))).status == 201
        assert (await server.delete(f"{path}/{name}")).status == 200


async def test_type_changes(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    await server.post(path, service("s"))
    wanted = {"spec": {"type": "NodePort"}}
    port = (await server.patch(f"{path}/s", wanted)).json["spec"]["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767
    balancer = (await server.patch(f"{path}/s", {"spec": {"type": "LoadBalancer"}})).json
    assert balancer["spec"]["ports"][0]["nodePort"] == port
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "192.168.1.240"}]}}}
    assert (await server.patch(f"{path}/s/status", ingress)).status == 200
    plain = (await server.patch(f"{path}/s", {"spec": {"type": "ClusterIP"}})).json
    assert "nodePort" not in plain["spec"]["ports"][0]
    assert plain["status"] == {"loadBalancer": {}}
    taken = service("t", type="NodePort", ports=[{"port": 80, "nodePort": port}])
    assert (await server.post(path, taken)).status == 201


async def test_external_name_has_no_address(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    made = await server.post(path, service("s", clusterIP="10.96.0.79"))
    assert made.status == 201
    external = {
        "spec": {
            "type": "ExternalName",
            "externalName": "www.example.com",
            "clusterIP": "",
            "clusterIPs": None,
        }
    }
    changed = await server.patch(f"{path}/s", external)
    assert changed.status == 200, changed.body
    assert "clusterIP" not in changed.json["spec"] or not changed.json["spec"]["clusterIP"]
    assert (await server.post(path, service("t", clusterIP="10.96.0.79"))).status == 201


async def test_nothing_is_given_twice(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    replies = await asyncio.gather(
        *(server.post(path, service(f"s{number}", type="NodePort")) for number in range(100))
    )
    specs = [reply.json["spec"] for reply in replies]
    assert len({spec["clusterIP"] for spec in specs}) == 100
    assert len({spec["ports"][0]["nodePort"] for spec in specs}) == 100


async def test_one_address_wanted_by_many(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    replies = await asyncio.gather(
        *(server.post(path, service(f"s{number}", clusterIP="10.96.0.80")) for number in range(20))
    )
    assert sorted(reply.status for reply in replies) == [201] + [422] * 19


async def test_found_again_after_a_restart(tmp_path: Path) -> None:
    path = "/api/v1/namespaces/default/services"
    async with running(tmp_path, service_cidrs=("10.96.0.0/28",)) as first:
        made = [(await first.post(path, service(f"s{number}", type="NodePort"))).json for number in range(13)]
        authority = first.authority
    async with running(tmp_path, service_cidrs=("10.96.0.0/28",), authority=authority) as second:
        listed = (await second.get(path)).json["items"]
        assert {item["metadata"]["name"] for item in listed} == {"kubernetes", *(f"s{n}" for n in range(13))}
        full = await second.post(path, service("more"))
        assert full.status == 500
        assert full.message == "Internal error occurred: failed to allocate a serviceIP: range is full"
        port = made[0]["spec"]["ports"][0]["nodePort"]
        headless = service("more", type="NodePort", ports=[{"port": 80, "nodePort": port}])
        await second.delete(f"{path}/s1")
        reply = await second.post(path, headless)
        assert "provided port is already allocated" in reply.message
        again = await second.post(path, service("more"))
        assert again.json["spec"]["clusterIP"] == made[1]["spec"]["clusterIP"]


async def test_the_kubernetes_service(server: Running) -> None:
    found = (await server.get("/api/v1/namespaces/default/services/kubernetes")).json
    assert found["spec"]["clusterIP"] == "10.96.0.1"
    assert found["spec"]["ports"] == [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]
    endpoints = (await server.get("/api/v1/namespaces/default/endpoints/kubernetes")).json
    assert endpoints["subsets"] == [
        {"addresses": [{"ip": "192.168.1.10"}], "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}
    ]
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    found = (await server.get(path)).json
    assert found["endpoints"] == [{"addresses": ["192.168.1.10"], "conditions": {"ready": True}}]
    assert found["metadata"]["labels"] == {"kubernetes.io/service-name": "kubernetes"}


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/default/services/kubernetes",
        "/api/v1/namespaces/default/endpoints/kubernetes",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
    ],
)
async def test_the_way_to_the_api_server_comes_back(server: Running, path: str) -> None:
    before = (await server.get(path)).json
    assert (await server.delete(path)).status == 200

    async def another() -> Any:
        reply = await server.get(path)
        return reply.status == 200 and reply.json["metadata"]["uid"] != before["metadata"]["uid"] and reply

    found = (await eventually(another)).json
    assert {**found, "metadata": None} == {**before, "metadata": None}


async def test_the_api_servers_endpoints_are_put_right(server: Running) -> None:
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    wrong = (await server.get(path)).json
    right = list(wrong["endpoints"])
    wrong["endpoints"] = [{"addresses": ["192.0.2.1"]}]
    assert (await server.put(path, wrong)).status == 200

    async def repaired() -> bool:
        return bool((await server.get(path)).json["endpoints"] == right)

    await eventually(repaired)


async def test_warnings(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"

    async def told(name: str, **spec: Any) -> list[str]:
        answer = await server.post(path, service(name, **spec))
        assert answer.status == 201, answer.message
        texts = answer.headers.getall("Warning", [])
        return [text.removeprefix("299 - ").replace('\\"', "'").strip('"') for text in texts]

    deprecated = "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
    assert await told("plain") == []
    assert await told("external", externalIPs=["192.168.1.80"]) == [deprecated]
    assert await told("six", externalIPs=["fd00::0:1"]) == [
        "spec.externalIPs[0]: IPv6 address 'fd00::0:1' should be in RFC 5952 canonical format ('fd00::1')",
        deprecated,
    ]
    assert await told(
        "headless", clusterIP="None", externalIPs=["192.168.1.80"], sessionAffinity="ClientIP"
    ) == [
        "spec.externalIPs is ignored for headless services",
        "spec.SessionAffinity is ignored for headless services",
    ]
    assert await told("name", type="ExternalName", externalName="a.b", externalIPs=["192.168.1.80"]) == [
        "spec.externalIPs is ignored when spec.type is 'ExternalName'"
    ]
    assert await told("close", trafficDistribution="PreferClose") == [
        "spec.trafficDistribution: 'PreferClose' is deprecated; use 'PreferSameZone'"
    ]
    changed = await server.patch(f"{path}/plain", {"spec": {"externalIPs": ["192.168.1.81"]}})
    assert changed.headers.getall("Warning") == [f'299 - "{deprecated}"']


async def test_every_answer_about_endpoints_tells_that_they_are_deprecated(
    server: Running, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/endpoints"
    told = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    for answer in (
        await server.get(f"{path}/e"),
        await server.post(path, {"metadata": {"name": "e"}}),
        await server.get(path),
        await server.delete(f"{path}/e"),
    ):
        assert answer.headers.getall("Warning") == [told]
