"""What every rule backend must do in a real kernel: shares, affinity, restarts, changes, UDP flows."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import threading
from dataclasses import replace

import pytest
from programmed import BACKENDS, assert_even, pods, rules, to

from buoy.proxy.model import Destination, Family, PortName
from topology import ask

pytestmark = pytest.mark.kernel

DNS = PortName("default/dns", "dns", "UDP")
MANY = "10.245.0.0/16"


@pytest.fixture
def program(programmed, backend):
    """Make a `Programmed` with each backend in turn."""
    return lambda node, **changes: programmed(node, BACKENDS[backend], Family.IPV4, **changes)


def crowd(node, servers, count):
    """A Pod that answers on *count* addresses; the destinations."""
    pod = node.add_pod("crowd")
    pod.ip(f"route add local {MANY} dev lo")
    node.ip(f"route add {MANY} via {pod.address}")
    servers.listen(pod, "crowd", 8080)
    return [Destination(f"10.245.{number // 250}.{number % 250 + 1}", 8080) for number in range(count)]


def many(count, address="10.96.0.10", port=80):
    return [ask(address, port) for _ in range(count)]


async def test_three_endpoints_get_equal_shares(world, servers, program):
    (node,) = world.nodes
    found = pods(node, servers, 3)
    await program(node).rebuild([rules(*map(to, found))])
    answers = await node.acall(many, 3000)
    assert_even([answer.name for answer in answers], [pod.name for pod in found])


async def test_a_hundred_endpoints_get_equal_shares(world, servers, program):
    (node,) = world.nodes
    found = crowd(node, servers, 100)
    await program(node).rebuild([rules(*found)])
    answers = await node.acall(many, 3000)
    assert_even([answer.server for answer in answers], [at.address for at in found])


async def test_a_thousand_endpoints(world, servers, program):
    (node,) = world.nodes
    found = crowd(node, servers, 1000)
    one = program(node)
    await one.rebuild([rules(*found, affinity_seconds=0)])
    answers = await node.acall(many, 1000)
    assert len({answer.server for answer in answers}) > 500
    await one.apply([rules(*found[1:])])
    answers = await node.acall(many, 300)
    assert found[0].address not in {answer.server for answer in answers}


async def test_affinity_holds_a_client_to_its_endpoint(world, servers, program):
    (node,) = world.nodes
    found = pods(node, servers, 3)
    one = program(node)
    await one.rebuild([rules(*map(to, found), node_port=30080, affinity_seconds=60)])
    for client, address, port in ((found[0], "10.96.0.10", 80), (world.outside, node.address, 30080)):
        answers = await client.acall(many, 50, address, port)
        assert len({answer.name for answer in answers}) == 1, client.name
    stuck_to = answers[0].name
    rest = [pod for pod in found if pod.name != stuck_to]
    await one.apply([rules(*map(to, rest), node_port=30080, affinity_seconds=60)])
    answers = await world.outside.acall(many, 50, node.address, 30080)
    assert len({answer.name for answer in answers} - {stuck_to}) == 1


async def test_node_ports_on_loopback(world, servers, program):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1)
    one = program(node)
    await one.rebuild([rules(to(pod), node_port=30080)])
    assert (await node.acall(ask, "127.0.0.1", 30080)).name == pod.name


async def test_nobody_else_reaches_what_listens_on_loopback(world, servers, program):
    """CVE-2020-8558: node ports on loopback take a kernel setting that lets such packets in."""
    (node,) = world.nodes
    servers.listen(node, "private", 8081)
    intruder = world.add_host("intruder", "192.168.1.201", "fd00:192:168:1::c9")
    intruder.sysctl(ipv4__conf__all__route_localnet=1)
    intruder.ip(
        "route del table local local 127.0.0.0/8 dev lo",
        f"route add 127.8.8.8 via {node.address}",
    )
    assert (await intruder.acall(ask, "127.8.8.8", 8081)).name == "private"
    await program(node).rebuild([])
    with pytest.raises(TimeoutError):
        await intruder.acall(ask, "127.8.8.8", 8081, timeout=0.5)
    assert (await node.acall(ask, "127.8.8.8", 8081)).name == "private"


class Load:
    """Connections without end from a thread in a namespace; what failed."""

    def __init__(self, host, address="10.96.0.10", port=80):
        self.done, self.failures, self._stop = 0, [], threading.Event()
        self._thread = threading.Thread(target=host.call, args=(self._run, address, port))

    def _run(self, address, port):
        while not self._stop.is_set():
            try:
                ask(address, port, timeout=0.5)
            except OSError as error:
                self.failures.append(error)
            self.done += 1

    async def at_least(self, more):
        goal = self.done + more
        async with asyncio.timeout(10):
            while self.done < goal:
                await asyncio.sleep(0.001)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


async def test_a_restart_interrupts_nothing_and_takes_away_what_is_old(world, servers, program):
    (node,) = world.nodes
    found = pods(node, servers, 3)
    first = program(node)
    old = rules(to(found[0]), name=PortName("default/old", "", "TCP"), cluster_ip="10.96.0.20")
    await first.rebuild([rules(*map(to, found[:2])), old])
    await first.close()
    with Load(node) as load:
        await load.at_least(100)
        for count in (2, 3, 1, 3, 3):
            again = program(node)
            await again.rebuild([rules(*map(to, found[:count]))])
            await load.at_least(100)
            await again.close()
    assert not load.failures
    with pytest.raises(OSError, match=r"timed out|refused"):
        await node.acall(ask, "10.96.0.20", 80, timeout=0.3)


async def test_changes_of_endpoints_interrupt_nothing(world, servers, program):
    (node,) = world.nodes
    found = pods(node, servers, 4)
    one = program(node)
    await one.rebuild([rules(*map(to, found))])
    dice = random.Random(3)
    with Load(found[0]) as load:
        for _ in range(20):
            await one.apply([rules(*map(to, dice.sample(found, dice.randrange(1, 5))))])
            await load.at_least(20)
    assert not load.failures


# UDP: a client that keeps its port.


class Flow:
    """A UDP client that always sends from the same port."""

    def __init__(self, host, address, port):
        def connect():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.settimeout(0.5)
            sock.connect((address, port))
            return sock

        self._host, self._socket = host, host.call(connect)

    def ask(self):
        """Who answers, or the name of what happens instead."""
        try:
            self._socket.send(b"?")
            return self._socket.recv(100).decode().split()[0]
        except TimeoutError:
            return "silence"
        except OSError as error:
            return errno.errorcode[error.errno]

    async def settles(self, name):
        """It comes to be answered by *name* in a while."""
        async with asyncio.timeout(5):
            while await self._host.acall(self.ask) != name:
                pass

    def close(self):
        self._socket.close()


def dns(*destinations, **changes):
    return rules(*destinations, name=DNS, **changes)


@pytest.fixture
def flows(world, request):
    made = []

    def make(host, address, port):
        made.append(Flow(host, address, port))
        return made[-1]

    yield make
    for flow in made:
        flow.close()


@pytest.mark.parametrize("form", ["cluster", "node port", "external", "balancer"])
async def test_a_udp_flow_goes_over_to_the_endpoint_that_replaced_its_own(
    world, servers, program, flows, form
):
    (node,) = world.nodes
    first, second = pods(node, servers, 2, "UDP")
    everywhere = {
        "node_port": 30053,
        "external_ips": ("203.0.113.7",),
        "load_balancer_ips": ("203.0.113.8",),
    }
    client, address, port = {
        "cluster": (node, "10.96.0.10", 80),
        "node port": (world.outside, node.address, 30053),
        "external": (world.outside, "203.0.113.7", 80),
        "balancer": (world.outside, "203.0.113.8", 80),
    }[form]
    one = program(node)
    await one.rebuild([dns(to(first), **everywhere)])
    flow = flows(client, address, port)
    await flow.settles("pod-1")
    await one.apply([dns(to(second), **everywhere)])
    await flow.settles("pod-2")


async def test_a_udp_flow_recovers_from_a_changed_port_and_from_having_nowhere_to_go(
    world, servers, program, flows
):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1, "UDP")
    servers.listen(pod, "new-port", 9090, protocol="UDP")
    one = program(node)
    await one.rebuild([])
    flow = flows(world.outside, node.address, 30053)
    await flow.settles("ECONNREFUSED")  # nobody listens, but conntrack has an entry
    await one.apply([dns(node_port=30053)])
    await one.apply([dns(to(pod), node_port=30053)])
    await flow.settles("pod-1")
    await one.apply([dns(Destination(pod.address, 9090), node_port=30053)])
    await flow.settles("new-port")
    await one.apply([dns(node_port=30053)])
    await flow.settles("ECONNREFUSED")
    await one.apply([dns(to(pod), node_port=30053)])
    await flow.settles("pod-1")


async def test_a_udp_flow_stays_while_its_endpoint_serves(world, servers, program, flows):
    (node,) = world.nodes
    found = pods(node, servers, 3, "UDP")
    one = program(node)
    await one.rebuild([dns(to(found[0]))])
    clients = [flows(node, "10.96.0.10", 80) for _ in range(5)]
    for flow in clients:
        await flow.settles("pod-1")
    await one.apply([dns(*map(to, found))])
    leaving = dns(*map(to, found[1:]), serving=tuple(map(to, found)))
    await one.apply([leaving])
    assert {flow.ask() for flow in clients} == {"pod-1"}
    await one.apply([dns(*map(to, found[1:]))])
    assert {flow.ask() for flow in clients} <= {"pod-2", "pod-3"}


async def test_flows_to_the_same_port_elsewhere_are_left_alone(world, servers, program):
    """A Pod's flow through the node to an outside server whose port happens to be a node port's number."""
    (node,) = world.nodes
    first, second = pods(node, servers, 2, "UDP")
    servers.listen(world.outside, "outside", 30053, protocol="UDP")
    node.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")
    one = program(node)
    await one.rebuild([dns(to(first), node_port=30053)])
    flow = Flow(second, world.outside.address, 30053)
    assert await second.acall(flow.ask) == "outside"
    entry = node.run("conntrack", "-L", "-p", "udp", "-o", "id").split("id=")[1]
    await one.apply([dns(to(second), node_port=30053)])
    assert node.run("conntrack", "-L", "-p", "udp", "-o", "id").split("id=")[1] == entry
    flow.close()


async def test_many_udp_frontends_are_looked_through_at_once(world, servers, program, flows):
    (node,) = world.nodes
    first, second = pods(node, servers, 2, "UDP")

    def services(pod):
        return [
            replace(
                dns(to(pod)),
                cluster_ip=f"10.96.1.{number}",
                name=PortName(f"default/dns-{number}", "", "UDP"),
            )
            for number in range(30)
        ]

    one = program(node)
    await one.rebuild(services(first))
    some = [flows(node, f"10.96.1.{number}", 80) for number in range(30)]
    assert {flow.ask() for flow in some} == {"pod-1"}
    await one.apply(services(second))
    assert {flow.ask() for flow in some} == {"pod-2"}


async def test_settings_reach_the_kernel(world, servers, program):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1)
    one = program(node)
    await one.rebuild([rules(to(pod))])
    assert (await pod.acall(ask, "10.96.0.10", 80)).client == "10.244.1.1", "hairpin"
    other = node.add_pod("other")
    assert (await other.acall(ask, "10.96.0.10", 80)).client == other.address
    one.settings = replace(one.settings, masquerade_all=True)
    await one.rebuild([rules(to(pod))])
    assert (await other.acall(ask, "10.96.0.10", 80)).client == "10.244.1.1"
