"""What every rule backend must do, seen from a Pod, from a node and from outside: Kubernetes' own table.

The expected cells are said here in words of the Service API, not of the plan that is tested. A backend is
added to `programmed.BACKENDS`, and to nothing else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest
from programmed import BACKENDS, Programmed, settings_of

from buoy.network.plan import masquerade_rules
from buoy.proxy.decode import Endpoint, Service, ServicePort, Slice, SlicePort
from buoy.proxy.decode import Node as NodeFacts
from buoy.proxy.model import Family
from buoy.proxy.plan import desired
from topology import Answer, Answering, World, ask

pytestmark = pytest.mark.kernel

CLUSTER_IP = {Family.IPV4: "10.96.0.10", Family.IPV6: "fd00:10:96::a"}
EXTERNAL_IP = {Family.IPV4: "203.0.113.7", Family.IPV6: "fd00:203::7"}
BALANCER_IP = {Family.IPV4: "203.0.113.8", Family.IPV6: "fd00:203::8"}
PORT, NODE_PORT, TARGET = 80, 30080, 8080
GATEWAYS = {
    "node-1": {"10.244.1.1", "fd00:10:244:1::1"},
    "node-2": {"10.244.2.1", "fd00:10:244:2::1"},
}

HOME = {"pod": "node-1", "node": "node-1", "far pod": "node-2", "far node": "node-2", "outside": ""}
TARGETS = ("cluster", "node port", "far node port", "external", "balancer")
POLICIES = [(external, internal) for external in ("Cluster", "Local") for internal in ("Cluster", "Local")]

# Each Pod behind the Service and its state.
PLACEMENTS = {
    "here": {"here": "ready"},
    "there": {"there": "ready"},
    "here and there": {"here": "ready", "there": "ready"},
    "nowhere": {},
    "not ready": {"here": "not ready"},
    "terminating": {"here": "terminating"},
    "terminating here, ready there": {"here": "terminating", "there": "ready"},
    "the client itself": {"pod": "ready"},
}
PLACE = {"here": "node-1", "there": "node-2", "pod": "node-1"}


@dataclass(frozen=True)
class Cell:
    """What is to happen: ``refused``, ``silence``, or an answer of one of *names*, which sees the address of
    the ``client`` or of the node whose rules the packet met first (``node``)."""

    what: str
    names: frozenset[str] = frozenset()


def entry(viewpoint: str, target: str) -> str:
    """The node whose rules the packet meets first."""
    if target == "node port":
        return "node-1"
    if target == "far node port":
        return "node-2"
    return HOME[viewpoint] or "node-1"  # where the outside's routes lead


def expected(viewpoint: str, target: str, policies: tuple[str, str], endpoints: dict[str, str]) -> Cell:
    external, internal = policies
    node = entry(viewpoint, target)
    inside = HOME[viewpoint] == node

    def pick(names: list[str]) -> frozenset[str]:
        """The ready ones; while there are none, the terminating ones that still serve."""
        return frozenset(
            next(
                filter(
                    None,
                    (
                        [name for name in names if endpoints[name] == state]
                        for state in ("ready", "terminating")
                    ),
                ),
                [],
            )
        )

    anywhere = pick(list(endpoints))
    if not anywhere:
        return Cell("refused")
    # A node's own traffic to an external address goes as if it left and came back through a load balancer
    # that knows no policy.
    local = internal == "Local" if target == "cluster" else external == "Local" and not inside
    chosen = pick([name for name in endpoints if PLACE[name] == node]) if local else anywhere
    if not chosen:
        return Cell("silence")  # other nodes could serve it: a load balancer is to try those
    if inside and viewpoint.endswith("node"):
        return Cell("node", chosen)
    if inside and chosen == {viewpoint}:
        return Cell("node", chosen)  # or the answer would go by a shorter way than the question
    if target == "cluster":
        return Cell("client" if inside else "node", chosen)
    return Cell("node" if external == "Cluster" else "client", chosen)


@pytest.fixture(scope="module")
def world():
    with World(nodes=2) as world:
        here, there = world.nodes
        here.add_pod("here")
        there.add_pod("there")
        here.add_pod("pod")
        there.add_pod("far pod")
        for node in world.nodes:  # a Pod is seen by other machines under its node's address
            rules = masquerade_rules(node.pod_cidrs.values(), World.pod_cidrs)
            node.run("nft", "-f", "-", input=rules)
        for family, cidr in zip(Family, World.service_cidrs, strict=True):
            world.outside.ip(f"route add {cidr} via {here.addresses[family]}")
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


class Table:
    """A Service on both nodes, and who asks for it."""

    def __init__(self, world, backend, family, protocol, policies=("Cluster", "Cluster")):
        self.family, self.protocol = family, protocol
        here, there = world.nodes
        self.clients = {
            "pod": here.pods[1],
            "node": here,
            "far pod": there.pods[1],
            "far node": there,
            "outside": world.outside,
        }
        self.pods = {pod.name: pod for node in world.nodes for pod in node.pods}
        self.nodes = {node.name: node for node in world.nodes}
        self.addresses = {
            "cluster": (CLUSTER_IP[family], PORT),
            "node port": (here.addresses[family], NODE_PORT),
            "far node port": (there.addresses[family], NODE_PORT),
            "external": (EXTERNAL_IP[family], PORT),
            "balancer": (BALANCER_IP[family], PORT),
        }
        self.service = Service(
            "default/web",
            (CLUSTER_IP[family],),
            (ServicePort("web", protocol, PORT, NODE_PORT),),
            external_ips=(EXTERNAL_IP[family],),
            load_balancer_ips=(BALANCER_IP[family],),
            external_local=policies[0] == "Local",
            internal_local=policies[1] == "Local",
        )
        self._programmed = [
            Programmed(node, BACKENDS[backend](family), settings_of(node, family)) for node in world.nodes
        ]
        self._written = False

    async def write(self, endpoints, **changes):
        """Bring both nodes to the Service, changed so, with *endpoints*: Pods and their states."""
        service = replace(self.service, **changes)
        found = tuple(
            Endpoint(
                self.pods[name].addresses[self.family],
                ready=state == "ready",
                serving=state != "not ready",
                terminating=state == "terminating",
                node=PLACE[name],
            )
            for name, state in endpoints.items()
        )
        ports = (SlicePort("web", self.protocol, TARGET),)
        piece = Slice("default/web-1", service.key, self.family, ports, found)
        for one in self._programmed:
            facts = NodeFacts(one.node.name, (one.node.addresses[self.family],))
            ruleset = desired([service], [piece], facts, one.settings)
            await (one.apply if self._written else one.rebuild)(ruleset.ports.values())
        self._written = True

    async def wrong(self, questions):
        """What differs from *questions*: the expected `Cell` of each viewpoint and target."""
        answers = await asyncio.gather(
            *(
                self.clients[viewpoint].acall(look, *self.addresses[target], self.protocol, cell.what)
                for (viewpoint, target), cell in questions.items()
            )
        )
        return [
            f"{viewpoint} to {target}: {got}, not {cell}"
            for ((viewpoint, target), cell), answer in zip(questions.items(), answers, strict=True)
            if (got := self._read(answer, viewpoint, target)).what != cell.what or not got.names <= cell.names
        ]

    def _read(self, answer, viewpoint, target):
        if not isinstance(answer, Answer):
            return Cell(answer)
        node = entry(viewpoint, target)
        client = self.clients[viewpoint]
        if HOME[viewpoint] not in ("", node):
            client = self.nodes[HOME[viewpoint]]
        names = frozenset({answer.name})
        if answer.client in {*GATEWAYS[node], self.nodes[node].addresses[self.family]}:
            return Cell("node", names)
        if answer.client == client.addresses[self.family]:
            return Cell("client", names)
        return Cell(f"seen as {answer.client}", names)

    async def close(self):
        for one in self._programmed:
            await one.node.do(one.backend.remove())
            await one.close()


def look(address, port, protocol, want):
    try:
        return ask(address, port, protocol=protocol, timeout=0.3 if want == "silence" else 3)
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silence"


@pytest.fixture
async def table(world, servers, backend):
    made = []

    def make(*facts):
        made.append(Table(world, backend, *facts))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.mark.parametrize("policies", POLICIES, ids="/".join)
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("family", list(Family))
async def test_table(table, family, protocol, policies):
    one = table(family, protocol, policies)
    wrong = []
    for placement, endpoints in PLACEMENTS.items():
        await one.write(endpoints)
        viewpoints = ("pod",) if "pod" in endpoints else HOME
        questions = {
            (viewpoint, target): expected(viewpoint, target, policies, endpoints)
            for viewpoint in viewpoints
            for target in TARGETS
        }
        wrong += [f"endpoint {placement}: {text}" for text in await one.wrong(questions)]
    assert not wrong, "\n".join(wrong)


# Who is let in by ranges that hold nobody else; all others hear nothing.
RANGES = {
    "outside": {Family.IPV4: "192.168.1.200/32", Family.IPV6: "fd00:192:168:1::c8/128"},
    "pod": {Family.IPV4: "10.244.0.0/16", Family.IPV6: "fd00:10:244::/48"},
    "node": {Family.IPV4: "192.168.1.80/31", Family.IPV6: "fd00:192:168:1::/124"},
}


@pytest.mark.parametrize("policies", [("Cluster", "Cluster"), ("Local", "Local")], ids="/".join)
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("family", list(Family))
async def test_source_ranges_bind_the_load_balancers_address_alone(table, family, protocol, policies):
    one = table(family, protocol, policies)
    endpoints = PLACEMENTS["here and there"]
    wrong = []
    for chosen in (("outside",), ("pod",), ("node",), ("outside", "pod", "node")):
        await one.write(endpoints, source_ranges=tuple(RANGES[name][family] for name in chosen))
        questions = {
            (viewpoint, target): expected(viewpoint, target, policies, endpoints)
            for viewpoint in HOME
            for target in TARGETS
        }
        for viewpoint in HOME:
            if viewpoint.split()[-1] not in chosen:
                questions[viewpoint, "balancer"] = Cell("silence")
        wrong += [f"ranges of {', '.join(chosen)}: {text}" for text in await one.wrong(questions)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("family", list(Family))
async def test_affinity_holds_every_client_at_every_door(table, family, protocol):
    one = table(family, protocol)
    endpoints = {"here": "ready", "there": "ready", "pod": "ready"}
    await one.write(endpoints, affinity_seconds=60)
    for viewpoint in HOME:
        for target in TARGETS:
            address, client = one.addresses[target], one.clients[viewpoint]
            answers = {
                (await client.acall(ask, *address, protocol=protocol)).name  # a new flow each
                for _ in range(6)
            }
            assert len(answers) == 1, f"{viewpoint} to {target}"


@pytest.mark.parametrize("family", list(Family))
async def test_what_is_taken_away_is_no_longer_served(table, family):
    """An external IP or load balancer's address that the Service has lost leads nowhere."""
    one = table(family, "TCP")
    await one.write(PLACEMENTS["here"])
    await one.write(PLACEMENTS["here"], external_ips=(), load_balancer_ips=())
    questions = {("outside", target): Cell("silence") for target in ("external", "balancer")}
    questions["outside", "node port"] = Cell("node", frozenset({"here"}))
    assert not await one.wrong(questions)
