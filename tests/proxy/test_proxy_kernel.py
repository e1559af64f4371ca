"""The iptables backend in a real kernel: shares, affinity, size, other hands, restarts, UDP flows."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import threading
from collections import Counter
from dataclasses import replace

import pytest
from programmed import assert_even, settings_of

from buoy.proxy.backend import BackendError
from buoy.proxy.iptables import IptablesBackend, batch
from buoy.proxy.model import Change, Destination, Family, PortName, PortRules, Ruleset
from topology import Answering, World, ask

pytestmark = pytest.mark.kernel

WEB = PortName("default/web", "http", "TCP")
DNS = PortName("default/dns", "dns", "UDP")
MANY = "10.245.0.0/16"


@pytest.fixture
def world():
    with World() as world:
        yield world


@pytest.fixture
def servers():
    with Answering() as servers:
        yield servers


def rules(*destinations, name=WEB, **changes):
    found = tuple(sorted(destinations))
    serving = found if name.protocol == "UDP" else ()
    base = PortRules(name, "10.96.0.10", 80, cluster=found, usable=bool(found), serving=serving)
    return replace(base, **changes)


def pods(node, servers, count, protocol="TCP"):
    found = []
    for number in range(1, count + 1):
        pod = node.add_pod(f"pod-{number}")
        servers.listen(pod, pod.name, 8080, protocol=protocol)
        found.append(pod)
    return found


def crowd(node, servers, count):
    """A Pod that answers on *count* addresses; the destinations."""
    pod = node.add_pod("crowd")
    pod.ip(f"route add local {MANY} dev lo")
    node.ip(f"route add {MANY} via {pod.address}")
    servers.listen(pod, "crowd", 8080)
    return [Destination(f"10.245.{number // 250}.{number % 250 + 1}", 8080) for number in range(count)]


def to(pod):
    return Destination(pod.address, 8080)


def many(count, address="10.96.0.10", port=80):
    return [ask(address, port) for _ in range(count)]


async def test_three_endpoints_get_equal_shares(world, servers, programmed):
    (node,) = world.nodes
    found = pods(node, servers, 3)
    await programmed(node, IptablesBackend, Family.IPV4).rebuild([rules(*map(to, found))])
    answers = await node.acall(many, 3000)
    assert_even([answer.name for answer in answers], [pod.name for pod in found])


async def test_a_hundred_endpoints_get_equal_shares(world, servers, programmed):
    (node,) = world.nodes
    found = crowd(node, servers, 100)
    await programmed(node, IptablesBackend, Family.IPV4).rebuild([rules(*found)])
    answers = await node.acall(many, 3000)
    assert_even([answer.server for answer in answers], [at.address for at in found])


async def test_a_thousand_endpoints(world, servers, programmed):
    (node,) = world.nodes
    found = crowd(node, servers, 1000)
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([rules(*found, affinity_seconds=0)])
    answers = await node.acall(many, 1000)
    assert len({answer.server for answer in answers}) > 500
    await one.apply([rules(*found[1:])])
    answers = await node.acall(many, 300)
    assert found[0].address not in {answer.server for answer in answers}


async def test_affinity_holds_a_client_to_its_endpoint(world, servers, programmed):
    (node,) = world.nodes
    found = pods(node, servers, 3)
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([rules(*map(to, found), node_port=30080, affinity_seconds=60)])
    for client, address, port in ((found[0], "10.96.0.10", 80), (world.outside, node.address, 30080)):
        answers = await client.acall(many, 50, address, port)
        assert len({answer.name for answer in answers}) == 1, client.name
    stuck_to = answers[0].name
    rest = [pod for pod in found if pod.name != stuck_to]
    await one.apply([rules(*map(to, rest), node_port=30080, affinity_seconds=60)])
    answers = await world.outside.acall(many, 50, node.address, 30080)
    assert len({answer.name for answer in answers} - {stuck_to}) == 1


async def test_source_ranges_let_in_only_those(world, servers, programmed):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1)
    one = programmed(node, IptablesBackend, Family.IPV4)
    limited = rules(
        to(pod), load_balancer_ips=("203.0.113.7",), source_ranges=("192.168.1.0/25",), node_port=30080
    )
    await one.rebuild([limited])
    with pytest.raises(TimeoutError):
        await world.outside.acall(ask, "203.0.113.7", 80, timeout=0.3)
    assert (await world.outside.acall(ask, node.address, 30080)).name == pod.name
    assert (await node.acall(ask, "203.0.113.7", 80)).name == pod.name
    await one.apply([replace(limited, source_ranges=("192.168.1.200/32",))])
    assert (await world.outside.acall(ask, "203.0.113.7", 80)).name == pod.name


async def test_node_ports_on_loopback(world, servers, programmed):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1)
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([rules(to(pod), node_port=30080)])
    assert (await node.acall(ask, "127.0.0.1", 30080)).name == pod.name


class Rich:
    """Rules that use everything there is."""

    def __init__(self, family):
        v6 = family is Family.IPV6

        def at(number, port=8080):
            return Destination(f"fd00:10:244:1::{number}" if v6 else f"10.244.1.{number}", port)

        def address(net, number):
            return (
                {"service": "fd00:10:96::", "lb": "fd00:203::"}[net] + str(number)
                if v6
                else ({"service": "10.96.0.", "lb": "203.0.113."}[net] + str(number))
            )

        def one(number, **changes):
            name = PortName(
                f"default/svc-{number}", "" if number % 2 else "p", ["TCP", "UDP", "SCTP"][number % 3]
            )
            base = PortRules(name, address("service", 10 + number), 80, cluster=(at(2), at(3)), usable=True)
            return replace(base, **changes)

        self.all = [
            one(0),
            one(1, cluster=(), usable=False, node_port=30081),
            one(2, node_port=30082, external_ips=(address("lb", 1),)),
            one(3, node_port=30083, external_local=True, local=(at(2),), health_check_node_port=31000),
            one(4, internal_local=True, local=(), cluster=()),
            one(5, affinity_seconds=60),
            one(
                6,
                node_port=30086,
                load_balancer_ips=(address("lb", 2),),
                source_ranges=(("fd00:192:168:1::/64", "::/0") if v6 else ("192.168.1.0/24", "0.0.0.0/0")),
            ),
            one(7, node_port=30087, external_local=True, internal_local=True, local=(at(3),)),
        ]
        self.at = at


def saved_script(node, one, command):
    saved = batch.parse(node.run(command).encode())
    return batch.for_saved(saved, Ruleset(one.settings, one.ports)).encode().decode()


@pytest.fixture(params=["nft", "legacy"])
def flavour(request, tmp_path, monkeypatch):
    """Both kinds of iptables, where they are installed side by side."""
    for program in ("iptables", "ip6tables"):
        for suffix in ("", "-save", "-restore"):
            (tmp_path / f"{program}{suffix}").symlink_to(f"/usr/sbin/{program}-{request.param}{suffix}")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    return request.param


@pytest.mark.parametrize("family", list(Family))
async def test_what_is_written_is_recognized_again(world, programmed, flavour, family):
    (node,) = world.nodes
    one = programmed(node, IptablesBackend, family)
    command = "ip6tables-save" if family is Family.IPV6 else "iptables-save"
    before = node.run(command)
    await one.rebuild(Rich(family).all)
    assert saved_script(node, one, command) == ""
    assert await node.do(one.backend.verify())
    await node.do(one.backend.remove())
    assert not await node.do(one.backend.verify())
    assert "KUBE" not in node.run(command)
    assert "KUBE" not in before


async def test_differences_end_as_a_rebuild_does(world, programmed, flavour):
    """A walk through random states, each step by difference; then nothing is left to do."""
    (node,) = world.nodes
    one = programmed(node, IptablesBackend, Family.IPV4)
    rich = Rich(Family.IPV4)
    dice = random.Random(7)
    await one.rebuild(rich.all)
    for _ in range(12):
        state = []
        for some in dice.sample(rich.all, dice.randrange(len(rich.all) + 1)):
            if some.usable and some.cluster and dice.random() < 0.5:
                some = replace(some, cluster=tuple(rich.at(n) for n in range(2, 2 + dice.randrange(1, 6))))
            state.append(some)
        await one.apply(state)
        assert saved_script(node, one, "iptables-save") == ""
    counts = Counter(one.backend.rule_counts())
    await one.rebuild(one.ports.values())
    assert +counts == +Counter(one.backend.rule_counts())


async def test_remove_leaves_what_others_made(world, programmed):
    (node,) = world.nodes
    node.run("iptables", "-N", "OTHERS")
    node.run("iptables", "-A", "FORWARD", "-j", "OTHERS")
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild(Rich(Family.IPV4).all)
    await node.do(one.backend.remove())
    assert node.run("iptables", "-S").splitlines()[3:] == ["-N OTHERS", "-A FORWARD -j OTHERS"]


async def test_a_refused_change_says_why_and_changes_nothing(world, servers, programmed):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1)
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([rules(to(pod))])
    ghost = rules(name=PortName("default/ghost", "", "TCP"), cluster_ip="10.96.0.99")
    changes = {ghost.name: Change(ghost, None)}
    with pytest.raises(BackendError, match=r"10\.96\.0\.99"):
        await node.do(one.backend.apply(changes))
    assert (await node.acall(ask, "10.96.0.10", 80)).name == pod.name
    with pytest.raises(RuntimeError):
        await node.do(one.backend.apply({}))
    await one.rebuild([rules(to(pod))])
    await node.do(one.backend.apply({}))


async def test_without_iptables_it_says_what_to_install(world, programmed, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="apt-get install iptables"):
        await programmed(world.nodes[0], IptablesBackend, Family.IPV4).rebuild([])


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


async def test_a_restart_interrupts_nothing_and_takes_away_what_is_old(world, servers, programmed):
    (node,) = world.nodes
    found = pods(node, servers, 3)
    first = programmed(node, IptablesBackend, Family.IPV4)
    old = rules(to(found[0]), name=PortName("default/old", "", "TCP"), cluster_ip="10.96.0.20")
    await first.rebuild([rules(*map(to, found[:2])), old])
    await first.close()
    with Load(node) as load:
        await load.at_least(100)
        for count in (2, 3, 1, 3, 3):
            again = programmed(node, IptablesBackend, Family.IPV4)
            await again.rebuild([rules(*map(to, found[:count]))])
            await load.at_least(100)
            await again.close()
    assert not load.failures
    assert "default/old" not in node.run("iptables-save")


async def test_changes_of_endpoints_interrupt_nothing(world, servers, programmed):
    (node,) = world.nodes
    found = pods(node, servers, 4)
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([rules(*map(to, found))])
    dice = random.Random(3)
    with Load(found[0]) as load:
        for _ in range(20):
            await one.apply([rules(*map(to, dice.sample(found, dice.randrange(1, 5))))])
            await load.at_least(20)
    assert not load.failures


@pytest.mark.parametrize(
    "hand",
    [
        "iptables -t nat -F",
        "iptables -F",
        "nft flush ruleset",
        "nft delete table ip nat",
        "iptables -t nat -D PREROUTING 1",
        "iptables -t nat -F KUBE-SERVICES",
        "iptables -t nat -F {service}",
        "iptables -t nat -I KUBE-SERVICES -j RETURN",
        "iptables -F KUBE-FORWARD",
    ],
)
async def test_another_hand_is_noticed(world, servers, programmed, hand):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1)
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([rules(to(pod))])
    service = node.run("iptables-save", "-t", "nat").partition("KUBE-SVC-")[2][:16]
    disturbed = asyncio.create_task(node.do(one.backend.disturbed()))
    node.run(*hand.format(service=f"KUBE-SVC-{service}").split())
    async with asyncio.timeout(5):
        await disturbed
    await one.rebuild(one.ports.values())
    assert saved_script(node, one, "iptables-save") == ""
    assert (await node.acall(ask, "10.96.0.10", 80)).name == pod.name


async def test_own_changes_and_those_to_others_rules_are_no_disturbance(world, servers, programmed):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1)
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([rules(to(pod))])
    disturbed = asyncio.create_task(node.do(one.backend.disturbed()))
    for command in ("-A PREROUTING -j ACCEPT", "-D PREROUTING -j ACCEPT", "-N OTHERS", "-A OTHERS -j RETURN"):
        node.run("iptables", "-t", "nat", *command.split())
    await one.apply([rules()])
    await one.apply([])
    await one.rebuild([rules(to(pod))])
    # What has been sent by then has been looked at: this one is the last in the queue.
    node.run("iptables", "-t", "nat", "-F", "KUBE-SERVICES")
    async with asyncio.timeout(5):
        await disturbed
    again = asyncio.create_task(node.do(one.backend.disturbed()))
    await one.rebuild([rules(to(pod))])
    done, _ = await asyncio.wait([again], timeout=0.3)
    assert not done
    again.cancel()


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
    world, servers, programmed, flows, form
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
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([dns(to(first), **everywhere)])
    flow = flows(client, address, port)
    await flow.settles("pod-1")
    await one.apply([dns(to(second), **everywhere)])
    await flow.settles("pod-2")


async def test_a_udp_flow_recovers_from_a_changed_port_and_from_having_nowhere_to_go(
    world, servers, programmed, flows
):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1, "UDP")
    servers.listen(pod, "new-port", 9090, protocol="UDP")
    one = programmed(node, IptablesBackend, Family.IPV4)
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


async def test_a_udp_flow_stays_while_its_endpoint_serves(world, servers, programmed, flows):
    (node,) = world.nodes
    found = pods(node, servers, 3, "UDP")
    one = programmed(node, IptablesBackend, Family.IPV4)
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


async def test_flows_to_the_same_port_elsewhere_are_left_alone(world, servers, programmed):
    """A Pod's flow through the node to an outside server whose port happens to be a node port's number."""
    (node,) = world.nodes
    first, second = pods(node, servers, 2, "UDP")
    servers.listen(world.outside, "outside", 30053, protocol="UDP")
    node.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([dns(to(first), node_port=30053)])
    flow = Flow(second, world.outside.address, 30053)
    assert await second.acall(flow.ask) == "outside"
    entry = node.run("conntrack", "-L", "-p", "udp", "-o", "id").split("id=")[1]
    await one.apply([dns(to(second), node_port=30053)])
    assert node.run("conntrack", "-L", "-p", "udp", "-o", "id").split("id=")[1] == entry
    flow.close()


async def test_many_udp_frontends_are_looked_through_at_once(world, servers, programmed, flows):
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

    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild(services(first))
    some = [flows(node, f"10.96.1.{number}", 80) for number in range(30)]
    assert {flow.ask() for flow in some} == {"pod-1"}
    await one.apply(services(second))
    assert {flow.ask() for flow in some} == {"pod-2"}


async def test_settings_reach_the_kernel(world, servers, programmed):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1)
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([rules(to(pod))])
    assert (await pod.acall(ask, "10.96.0.10", 80)).client == "10.244.1.1", "hairpin"
    other = node.add_pod("other")
    assert (await other.acall(ask, "10.96.0.10", 80)).client == other.address
    one.settings = settings_of(node, Family.IPV4, masquerade_all=True)
    await one.rebuild([rules(to(pod))])
    assert (await other.acall(ask, "10.96.0.10", 80)).client == "10.244.1.1"
