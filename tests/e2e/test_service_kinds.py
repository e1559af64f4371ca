"""NodePort, LoadBalancer and external addresses on a whole cluster, asked from everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import manifests
import viewpoints
from local_cluster import LocalCluster, Namespace, Object, until
from viewpoints import both, whoami

pytestmark = pytest.mark.e2e

NODES = {"node-1": "192.168.1.80", "node-2": "192.168.1.81"}
OUTSIDE = "192.168.1.200"
PROVIDED = "203.0.113.9"  # addresses that only node-1 is asked for, by the outside's route
ROUTED = "203.0.113.7"
VIEWPOINTS = ("pod", "far-pod", "node-1", "node-2", "outside")


class World:
    """One Pod ``here`` on node-1 behind several Services, and clients everywhere."""

    def __init__(self, cluster: LocalCluster, namespace: Namespace) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.addresses = {"outside": OUTSIDE, **NODES}
        for pod in ("pod", "far-pod"):
            self.addresses[pod] = namespace.get("pod", pod)["status"]["podIP"]

    def spec(self, service: str) -> Object:
        spec: Object = self.namespace.get("service", service)["spec"]
        return spec

    def node_port(self, service: str) -> int:
        port: int = self.spec(service)["ports"][0]["nodePort"]
        return port

    def ask(self, viewpoint: str, *questions: str) -> list[str]:
        """What each question got, in the words of ask.py."""
        return viewpoints.ask(self.namespace, viewpoint, *questions)

    def seen(self, viewpoint: str, address: str) -> list[str]:
        """What TCP and UDP get at ``HOST:PORT``: whose address the server sees, a node's name or ``client``
        for the client's own; or ``refused``, or ``silence``."""
        return [
            self._owner(viewpoint, answer.split()[1]) if " " in answer else answer
            for answer in self.ask(viewpoint, f"tcp:{address}", f"udp:{address}")
        ]

    def _owner(self, viewpoint: str, source: str) -> str:
        for node, pod in (("node-1", "pod"), ("node-2", "far-pod")):
            gateway = self.addresses[pod].rpartition(".")[0] + ".1"
            if source in (NODES[node], gateway):
                return node
        return "client" if source == self.addresses[viewpoint] else source

    def settles(self, viewpoint: str, address: str, expected: str) -> None:
        until(
            lambda: self.seen(viewpoint, address) == [expected] * 2,
            what=f"{expected} for {viewpoint} at {address}",
        )


@pytest.fixture(scope="module")
def world(cluster: LocalCluster) -> Iterator[World]:
    sleeper = manifests.shell("exec sleep 9999")
    here = {"selector": {"app": "here"}}
    with cluster.namespace() as namespace:
        namespace.apply(
            whoami("here", "here", "node-1", 80),
            manifests.pod("pod", manifests.pod_spec(sleeper, nodeName="node-1")),
            manifests.pod("far-pod", manifests.pod_spec(sleeper, nodeName="node-2")),
            manifests.service("open", type="NodePort", ports=both(8080, 80), **here),
            manifests.service(
                "local", type="NodePort", externalTrafficPolicy="Local", ports=both(8080, 80), **here
            ),
            manifests.service(
                "balancer", type="LoadBalancer", externalTrafficPolicy="Local", ports=both(8080, 80), **here
            ),
            manifests.service("inside", internalTrafficPolicy="Local", ports=both(8080, 80), **here),
            manifests.service(
                "external", externalIPs=[NODES["node-1"], ROUTED], ports=both(8090, 80), **here
            ),
            manifests.service(
                "empty", type="NodePort", externalIPs=[NODES["node-2"], ROUTED], ports=both(8091, 80)
            ),
        )
        namespace.wait("condition=Ready", "pod/here", "pod/pod", "pod/far-pod")
        cluster.buoy("outside", "--", "ip", "route", "add", "203.0.113.0/24", "via", NODES["node-1"])
        world = World(cluster, namespace)
        address = f"{NODES['node-2']}:{world.node_port('open')}"
        world.settles("outside", address, "node-2")
        with viewpoints.refused_each_time(cluster, *NODES):
            yield world
        cluster.buoy("outside", "--", "ip", "route", "del", "203.0.113.0/24")


def test_one_number_for_both_protocols(world: World) -> None:
    assert len({port["nodePort"] for port in world.spec("open")["ports"]}) == 1


@pytest.mark.parametrize("viewpoint", VIEWPOINTS)
def test_node_ports(world: World, viewpoint: str) -> None:
    """The endpoint is on node-1. Each node answers for it, under its own address; with a Local policy only
    node-1 answers others than itself and its Pods, and they keep theirs."""
    home = {"pod": "node-1", "far-pod": "node-2"}.get(viewpoint, viewpoint)
    for node, address in NODES.items():
        assert world.seen(viewpoint, f"{address}:{world.node_port('open')}") == [node] * 2
        keeps = viewpoint == "outside" or (viewpoint.endswith("pod") and home == node)
        kept = "client" if keeps else home
        local = world.seen(viewpoint, f"{address}:{world.node_port('local')}")
        assert local == (["silence"] * 2 if node == "node-2" != home else [kept] * 2)


def test_internal_traffic_stays_on_its_node(world: World) -> None:
    address = f"{world.spec('inside')['clusterIP']}:8080"
    assert world.seen("pod", address) == ["client"] * 2
    assert world.seen("node-1", address) == ["node-1"] * 2
    for viewpoint in ("far-pod", "node-2"):
        assert world.seen(viewpoint, address) == ["silence"] * 2


def test_external_ips(world: World) -> None:
    """A node's own address and one that the LAN routes to a node."""
    for address in (NODES["node-1"], ROUTED):
        assert world.seen("outside", f"{address}:8090") == ["node-1"] * 2
        assert world.seen("pod", f"{address}:8090") == ["node-1"] * 2
        assert world.seen("far-pod", f"{address}:8090") == ["node-2"] * 2
        assert world.seen("node-2", f"{address}:8090") == ["node-2"] * 2
    columns = world.namespace.kubectl("get", "service", "external").stdout.splitlines()[1].split()
    assert columns[3] == f"{NODES['node-1']},{ROUTED}"
    # Another port of the node's own address is the node's.
    assert world.seen("outside", f"{NODES['node-1']}:8099") == ["refused"] * 2


@pytest.mark.parametrize("viewpoint", VIEWPOINTS)
def test_without_endpoints_everything_is_refused(world: World, viewpoint: str) -> None:
    port = world.node_port("empty")
    doors = [
        f"{NODES['node-2']}:8091",
        f"{ROUTED}:8091",
        *(f"{address}:{port}" for address in NODES.values()),
    ]
    if viewpoint != "outside":
        doors.append(f"{world.spec('empty')['clusterIP']}:8091")
    for door in doors:
        assert world.seen(viewpoint, door) == ["refused"] * 2, door


def ingress(world: World, **entry: str) -> None:
    status = {"status": {"loadBalancer": {"ingress": [entry] if entry else []}}}
    world.namespace.kubectl(
        "patch", "service", "balancer", "--subresource=status", "--type=merge", "-p", json.dumps(status)
    )


def test_a_load_balancers_address_works_as_soon_as_it_is_written(world: World) -> None:
    def shown() -> str:
        return world.namespace.kubectl("get", "service", "balancer").stdout.splitlines()[1].split()[3]

    def not_served() -> bool:
        return {"refused", "silence"} >= set(world.seen("outside", address))

    address = f"{PROVIDED}:8080"
    assert shown() == "<pending>"
    assert not_served()
    ingress(world, ip=PROVIDED)
    assert shown() == PROVIDED
    world.settles("outside", address, "client")
    # In the cluster it is as near as the Service itself; node-2 does not ask where it would lead.
    world.settles("pod", address, "client")
    world.settles("far-pod", address, "client")
    # A load balancer that is a proxy gets the packets itself, and its address those of nobody else.
    ingress(world, ip=PROVIDED, ipMode="Proxy")
    until(not_served)
    ingress(world, hostname="lb.example.com")
    assert shown() == "lb.example.com"
    ingress(world, ip=PROVIDED)
    patch = {"spec": {"loadBalancerSourceRanges": [f"{NODES['node-1']}/32"]}}
    world.namespace.kubectl("patch", "service", "balancer", "-p", json.dumps(patch))
    world.settles("outside", address, "silence")
    patch["spec"]["loadBalancerSourceRanges"].append(f"{OUTSIDE}/32")
    world.namespace.kubectl("patch", "service", "balancer", "-p", json.dumps(patch))
    world.settles("outside", address, "client")


def test_the_health_checks_port_tells_who_has_endpoints(world: World) -> None:
    port = world.spec("balancer")["healthCheckNodePort"]

    def health(node: str) -> tuple[int, str, Object]:
        words = ("curl", "-si", "--max-time", "5", f"{NODES[node]}:{port}/healthz")
        head, _, body = world.cluster.buoy("outside", "--", *words).stdout.partition("\n\n")
        lines = head.splitlines()
        weight = next(
            line.split()[1] for line in lines if line.startswith("X-Load-Balancing-Endpoint-Weight:")
        )
        return int(lines[0].split()[1]), weight, json.loads(body)

    def body(count: int) -> Object:
        service = {"namespace": world.namespace.name, "name": "balancer"}
        return {"service": service, "localEndpoints": count, "serviceProxyHealthy": True}

    assert health("node-1") == (200, "1", body(1))
    assert health("node-2") == (503, "0", body(0))


def test_a_named_port_may_differ_from_pod_to_pod(world: World) -> None:
    world.namespace.apply(
        whoami("old", "named", "node-1", 80),
        whoami("new", "named", "node-2", 8081),
        manifests.service("named", ports=both(8080, "web")[:1]),
    )
    world.namespace.until_endpoints("named", 2)
    address = f"{world.spec('named')['clusterIP']}:8080"

    def answering() -> set[tuple[str, str]]:
        answers = [answer.split() for answer in world.ask("node-1", *[f"tcp:{address}"] * 30)]
        return {(answer[0], answer[-1]) for answer in answers}

    until(lambda: answering() == {("old", "80"), ("new", "8081")})
    # Near endpoints are preferred, where the Service says so ...
    world.namespace.kubectl(
        "patch", "service", "named", "-p", '{"spec": {"trafficDistribution": "PreferSameNode"}}'
    )
    until(lambda: answering() == {("old", "80")})
    # ... and one endpoint for each client, from wherever it comes.
    patch = {"spec": {"trafficDistribution": None, "sessionAffinity": "ClientIP", "type": "NodePort"}}
    world.namespace.kubectl("patch", "service", "named", "-p", json.dumps(patch))
    door = f"tcp:{NODES['node-2']}:{world.node_port('named')}"
    until(lambda: "refused" not in world.ask("outside", door))
    for _ in range(2):
        assert len(set(world.ask("outside", *[door] * 30))) == 1


def test_a_udp_flow_outlives_what_it_led_to(world: World) -> None:
    """One socket: refused at first, then answered by the first endpoint, by another port of it, by another
    Pod."""
    namespace = world.namespace
    namespace.apply(manifests.service("flow", ports=both(5300, 5353)[1:]))
    client = manifests.PROGRAMS / "udp_client.py"
    address = world.spec("flow")["clusterIP"]
    process = world.cluster.start_on_node("node-2", "/usr/bin/python3", client, address, "5300")
    assert process.stdin
    assert process.stdout

    def answer() -> list[str]:
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        words = process.stdout.readline().split()  # type: ignore[union-attr]
        return words[::2]

    try:
        assert answer() == ["none"]
        namespace.apply(whoami("first", "flow", "node-1", 5353, 5454))
        until(lambda: answer() == ["first", "5353"])
        patch = {"spec": {"ports": [*both(5300, 5454)[1:]]}}
        namespace.kubectl("patch", "service", "flow", "-p", json.dumps(patch))
        until(lambda: answer() == ["first", "5454"])
        namespace.apply(whoami("second", "flow", "node-2", 5454))
        namespace.kubectl("delete", "pod", "first", "--wait=false")
        until(lambda: answer() == ["second", "5454"])
    finally:
        process.communicate(timeout=10)
