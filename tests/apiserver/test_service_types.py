"""Changes of a Service's type, in all directions: what they need, what they take and what they give back."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from .api_server import Running

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPECS: dict[str, dict[str, Any]] = {
    "ClusterIP": {"type": "ClusterIP"},
    "headless": {"type": "ClusterIP", "clusterIP": "None"},
    "NodePort": {"type": "NodePort"},
    "LoadBalancer": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
    "ExternalName": {"type": "ExternalName", "externalName": "www.example.com"},
}
FIXED = "may not change once set"
# The address of a Service is for life, and so is having none; only ExternalName gives it up.
REFUSED = {
    ("ClusterIP", "headless"): FIXED,
    ("NodePort", "headless"): FIXED,
    ("LoadBalancer", "headless"): FIXED,
    ("headless", "NodePort"): "may not be set to 'None' for NodePort services",
    ("headless", "LoadBalancer"): "may not be set to 'None' for LoadBalancer services",
}
BALANCER_FIELDS = {"allocateLoadBalancerNodePorts", "healthCheckNodePort"}


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}, **spec}}


def holds(spec: dict[str, Any]) -> tuple[str, int, int]:
    """The cluster IP, the node port and the health check's node port."""
    return (
        spec.get("clusterIP", ""),
        spec["ports"][0].get("nodePort", 0),
        spec.get("healthCheckNodePort", 0),
    )


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(SPECS, 2)))
async def test_from_each_type_to_each(server: Running, namespace: str, before: str, after: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    made = await server.post(path, service(**SPECS[before]))
    assert made.status == 201, made.body
    old = holds(made.json["spec"])
    changed = await server.patch(f"{path}/s", {"spec": SPECS[after]})

    if (before, after) in REFUSED:
        assert changed.status == 422
        assert REFUSED[before, after] in changed.message
        assert (await server.get(f"{path}/s")).json == made.json
        return
    if (before, after) == ("headless", "ClusterIP"):
        assert holds(changed.json["spec"]) == old  # "ClusterIP" is what it was; None is an address that stays
        return
    assert changed.status == 200, changed.body
    spec = changed.json["spec"]
    address, port, check = holds(spec)

    if after == "ExternalName":
        assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & spec.keys()
    elif before == "ExternalName":
        assert (address == "None") is (after == "headless")
        assert spec["clusterIPs"] == [address]
        assert spec["ipFamilies"] == ["IPv4"]
    else:
        assert address == old[0]
    assert bool(port) is (after in ("NodePort", "LoadBalancer"))
    if port and old[1]:
        assert port == old[1], "a node port stays with the Service"
    assert bool(check) is (after == "LoadBalancer")
    assert BALANCER_FIELDS & spec.keys() == (BALANCER_FIELDS if after == "LoadBalancer" else set())
    assert ("externalTrafficPolicy" in spec) is (after in ("NodePort", "LoadBalancer"))

    # What was given up is free, and what is held is not.
    kept = {address, port, check}
    for number, (field, value) in enumerate(zip(("clusterIP", "port", "check"), old, strict=True)):
        if value in (0, "", "None"):
            continue
        wanted = {"clusterIP": value} if field == "clusterIP" else node_port(value)
        other = service(**wanted)
        other["metadata"]["name"] = f"other-{number}"
        reply = await server.post(path, other)
        assert reply.status == (422 if value in kept else 201), (field, reply.body)


def node_port(number: int) -> dict[str, Any]:
    return {"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]}


@pytest.mark.parametrize(
    ("before", "patch", "fault"),
    [
        (
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]},
            {"type": "ClusterIP"},
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]},
            {"type": "ClusterIP", "loadBalancerSourceRanges": None},
            "",
        ),
        ({"type": "LoadBalancer", "loadBalancerClass": "example.com/a"}, {"type": "NodePort"}, ""),
        (
            {"type": "LoadBalancer"},
            {"type": "NodePort", "loadBalancerClass": "example.com/a"},
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        ({"type": "LoadBalancer"}, {"loadBalancerClass": "example.com/a"}, FIXED),
        (
            {"type": "NodePort"},
            {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 30999}]},
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            {"type": "NodePort", "externalTrafficPolicy": "Local"},
            {"type": "ClusterIP", "externalTrafficPolicy": "Cluster"},
            "may only be set for externally-accessible services",
        ),
        (
            {"type": "NodePort", "externalIPs": ["192.168.1.80"], "externalTrafficPolicy": "Local"},
            {"type": "ClusterIP"},
            "",
        ),
        (
            {"type": "ExternalName", "externalName": "a.example", "ports": None},
            {"type": "ClusterIP"},
            "spec.ports: Required value",
        ),
        ({"clusterIP": "None"}, {"clusterIP": "10.96.0.9"}, FIXED),
        ({}, {"type": "ExternalName"}, "spec.externalName: Required value"),
        (
            {},
            {"type": "ExternalName", "externalName": "a.example", "clusterIP": "10.96.0.9"},
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
        ),
    ],
)
async def test_what_a_change_needs(
    server: Running, namespace: str, before: dict[str, Any], patch: dict[str, Any], fault: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    made = await server.post(path, service(**before))
    assert made.status == 201, made.body
    changed = await server.patch(f"{path}/s", {"spec": patch})
    assert changed.status == (422 if fault else 200), changed.body
    if fault:
        assert fault in changed.message


async def test_the_health_checks_port_comes_and_goes_with_the_policy(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    await server.post(path, service(type="LoadBalancer", allocateLoadBalancerNodePorts=False))

    async def patch(**spec: Any) -> dict[str, Any]:
        reply = await server.patch(f"{path}/s", {"spec": spec})
        assert reply.status == 200, reply.body
        found: dict[str, Any] = reply.json["spec"]
        return found

    assert "nodePort" not in (await patch(externalTrafficPolicy="Local"))["ports"][0]
    port = (await patch(sessionAffinity="ClientIP"))["healthCheckNodePort"]
    assert "healthCheckNodePort" not in await patch(externalTrafficPolicy="Cluster")
    again = await patch(externalTrafficPolicy="Local", healthCheckNodePort=port)
    assert again["healthCheckNodePort"] == port


async def test_a_load_balancer_that_nobody_provides_stays_pending(server: Running, namespace: str) -> None:
    await server.post(f"/api/v1/namespaces/{namespace}/services", service(type="LoadBalancer"))
    (_, row) = (await server.kubectl("get", "services", "-n", namespace)).splitlines()
    assert row.split()[1:4:2] == ["LoadBalancer", "<pending>"]


async def test_one_node_port_for_both_protocols(server: Running, namespace: str) -> None:
    ports = [
        {"name": "udp", "port": 53, "protocol": "UDP"},
        {"name": "tcp", "port": 53, "protocol": "TCP"},
        {"name": "sctp", "port": 9000, "protocol": "SCTP"},
    ]
    path = f"/api/v1/namespaces/{namespace}/services"
    found = (await server.post(path, service(type="NodePort", ports=ports))).json["spec"]["ports"]
    assert found[0]["nodePort"] == found[1]["nodePort"] != found[2]["nodePort"]
    less = [dict(port) for port in found[1:]]
    kept = (await server.patch(f"{path}/s", {"spec": {"ports": less}})).json["spec"]["ports"]
    assert kept == less, "the other protocol goes on holding it"
    taken = service(**node_port(found[0]["nodePort"]))
    taken["metadata"]["name"] = "t"
    assert (await server.post(path, taken)).status == 422


@pytest.mark.parametrize(
    ("ingress", "fault"),
    [
        ({"ip": "192.168.1.240"}, ""),
        ({"ip": "192.168.1.240", "ipMode": "Proxy"}, ""),
        ({"hostname": "lb.example.com"}, ""),
        ({"ip": "192.168.1.240", "ipMode": "Tunnel"}, 'ipMode: Unsupported value: "Tunnel"'),
        ({"hostname": "lb.example.com", "ipMode": "VIP"}, "may not be specified when `ip` is not set"),
        ({"ip": "192.168.1"}, "ip: Invalid value"),
        ({"hostname": "192.168.1.240"}, "must be a DNS name, not an IP address"),
    ],
)
async def test_status(server: Running, namespace: str, ingress: dict[str, str], fault: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    await server.post(path, service(type="LoadBalancer"))
    status = {"status": {"loadBalancer": {"ingress": [ingress]}}}
    reply = await server.patch(f"{path}/s/status", status)
    assert reply.status == (422 if fault else 200), reply.body
    if fault:
        assert fault in reply.message
        return
    mode = {"ipMode": "VIP"} if "ip" in ingress else {}
    assert reply.json["status"]["loadBalancer"]["ingress"] == [mode | ingress]
    gone = await server.patch(f"{path}/s", {"spec": {"type": "NodePort"}})
    assert gone.json["status"] == {"loadBalancer": {}}
    refused = await server.patch(f"{path}/s/status", status)
    assert "may only be used when `spec.type` is 'LoadBalancer'" in refused.message
