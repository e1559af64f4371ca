"""What every rule backend must do, seen from a Pod, from a node and from outside: Kubernetes' own table.

A backend is added to BACKENDS, and to nothing else.
"""

from __future__ import annotations

import asyncio

import pytest
from programmed import Programmed, settings_of

from buoy.proxy.decode import Endpoint, Service, ServicePort, Slice, SlicePort
from buoy.proxy.decode import Node as NodeFacts
from buoy.proxy.iptables import IptablesBackend
from buoy.proxy.model import Family
from buoy.proxy.plan import desired
from topology import Answer, Answering, World, ask

pytestmark = pytest.mark.kernel

BACKENDS = {"iptables": IptablesBackend}

CLUSTER_IP = {Family.IPV4: "10.96.0.10", Family.IPV6: "fd00:10:96::a"}
EXTERNAL_IP = {Family.IPV4: "203.0.113.7", Family.IPV6: "fd00:203::7"}
BALANCER_IP = {Family.IPV4: "203.0.113.8", Family.IPV6: "fd00:203::8"}
PORT, NODE_PORT, TARGET = 80, 30080, 8080

VIEWPOINTS = ("pod", "node", "outside")
TARGETS = ("cluster", "node port", "external", "balancer")
PLACEMENTS = ("here", "there", "nowhere", "terminating", "self")


def expected(viewpoint, target, policy, placement):
    """``refused``, ``silence``, or whose address the endpoint sees: the ``client``'s or a ``node``'s."""
    if placement == "nowhere":
        return "refused"
    if placement == "self":
        return "node"  # or the answer would go by a shorter way than the question
    if viewpoint == "node":
        return "node"
    if target == "cluster":
        return "client"
    if policy == "Cluster":
        return "node"
    if viewpoint == "outside" and placement == "there":
        return "silence"
    return "client"


@pytest.fixture(scope="module")
def world():
    with World(nodes=2) as world:
        for node in world.nodes:
            node.add_pod(f"endpoint-{node.number}")
        world.nodes[0].add_pod("client")
        yield world


@pytest.fixture(scope="module")
def servers(world):
    with Answering() as servers:
        for node in world.nodes:
            for pod in node.pods:
                for family in Family:
                    for protocol in ("TCP", "UDP"):
                        servers.listen(pod, pod.name, TARGET, protocol=protocol, family=family)
        yield servers


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("backend", BACKENDS)
async def test_table(world, servers, backend, family, protocol, policy):
    here, there = world.nodes
    client = here.pods[1]
    pods = {"here": here.pods[0], "terminating": here.pods[0], "there": there.pods[0], "self": client}
    service = Service(
        "default/web",
        (CLUSTER_IP[family],),
        (ServicePort("web", protocol, PORT, NODE_PORT),),
        external_ips=(EXTERNAL_IP[family],),
        load_balancer_ips=(BALANCER_IP[family],),
        external_local=policy == "Local",
    )
    clients = {"pod": client, "node": here, "outside": world.outside}
    addresses = {
        "cluster": (CLUSTER_IP[family], PORT),
        "node port": (here.addresses[family], NODE_PORT),
        "external": (EXTERNAL_IP[family], PORT),
        "balancer": (BALANCER_IP[family], PORT),
    }
    own = {*(here.addresses[name] for name in Family), "10.244.1.1", "fd00:10:244:1::1"}
    nodes = [Programmed(node, BACKENDS[backend](family), settings_of(node, family)) for node in world.nodes]
    wrong = []
    try:
        for index, placement in enumerate(PLACEMENTS):
            endpoints = ()
            if placement in pods:
                pod = pods[placement]
                endpoints = (
                    Endpoint(
                        pod.addresses[family],
                        ready=placement != "terminating",
                        terminating=placement == "terminating",
                        node="node-2" if placement == "there" else "node-1",
                    ),
                )
            piece = Slice(
                "default/web-1", "default/web", family, (SlicePort("web", protocol, TARGET),), endpoints
            )
            for one in nodes:
                facts = NodeFacts(one.node.name, (one.node.addresses[family],))
                ruleset = desired([service], [piece], facts, one.settings)
                await (one.apply if index else one.rebuild)(ruleset.ports.values())
            questions = [
                (viewpoint, target)
                for viewpoint in (VIEWPOINTS if placement != "self" else ("pod",))
                for target in TARGETS
                if (viewpoint, target) != ("outside", "cluster")  # not routed there
            ]
            answers = await asyncio.gather(
                *(
                    clients[viewpoint].acall(
                        look, *addresses[target], protocol, expected(viewpoint, target, policy, placement)
                    )
                    for viewpoint, target in questions
                )
            )
            for (viewpoint, target), got in zip(questions, answers, strict=True):
                want = expected(viewpoint, target, policy, placement)
                if isinstance(got, Answer):
                    assert got.name == pods[placement].name
                    # The node's own address may be both.
                    sources = {"client": {clients[viewpoint].addresses[family]}, "node": own}
                    got = want if got.client in sources.get(want, ()) else f"seen as {got.client}"
                if got != want:
                    wrong.append(f"{viewpoint} to {target}, endpoint {placement}: {got}, not {want}")
    finally:
        for one in nodes:
            await one.node.do(one.backend.remove())
            await one.close()
    assert not wrong, "\n".join(wrong)


def look(address, port, protocol, want):
    try:
        return ask(address, port, protocol=protocol, timeout=0.3 if want == "silence" else 3)
    except (ConnectionRefusedError, PermissionError):  # the latter for UDP on the node itself
        return "refused"
    except TimeoutError:
        return "silence"
