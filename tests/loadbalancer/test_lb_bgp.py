"""Routes as an independent router, BIRD, gets them from FRR as we run it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import tempfile
from ipaddress import ip_address
from pathlib import Path

import pytest

from bird import Bird
from buoy.loadbalancer.announcements import Route
from buoy.loadbalancer.bgp import daemons
from buoy.loadbalancer.bgp.daemons import Daemons
from buoy.loadbalancer.bgp.frr import Configuration, commands, configuration, router_id
from buoy.loadbalancer.model import BfdProfile, Peer
from eventual import eventually
from topology import Answering, Namespace, World, ask

ROUTER = "192.168.1.200"
PEER = Peer("router", 64512, 64513, address=ROUTER, connect_time=1)
BFD = BfdProfile("fast", receive_interval=100, transmit_interval=100, detect_multiplier=3)
ONE, TWO = Route("203.0.113.1/32"), Route("203.0.113.2/32")


def test_the_first_configuration_and_the_last():
    peer = dataclasses.replace(
        PEER,
        port=1790,
        hold_time=9,
        password="secret",
        source_address="192.168.1.80",
        router_id="10.0.0.1",
        bfd=BFD,
        graceful_restart=True,
        ebgp_multihop=True,
    )
    route = Route("203.0.113.1/32", 200, ("64512:1", "large:64512:1:2"))
    wanted = configuration([peer], {"router": (route,)})
    name = next(iter(wanted.prefix_lists)).split()[2]
    number = next(header for header in wanted.route_maps if " permit " in header).split()[-1]
    assert commands(Configuration(), wanted) == [
        f"ip prefix-list {name} permit 203.0.113.1/32",
        "route-map router-in deny 1",
        "exit",
        f"route-map router-out permit {number}",
        f"match ip address prefix-list {name}",
        "set local-preference 200",
        "set community 64512:1 additive",
        "set large-community 64512:1:2 additive",
        "exit",
        "route-map router-out deny 65535",
        "exit",
        "bfd",
        "profile fast",
        "receive-interval 100",
        "transmit-interval 100",
        "detect-multiplier 3",
        "exit",
        "exit",
        "router bgp 64512",
        "no bgp ebgp-requires-policy",
        "no bgp network import-check",
        "no bgp default ipv4-unicast",
        "bgp graceful-restart preserve-fw-state",
        "bgp router-id 10.0.0.1",
        "neighbor 192.168.1.200 remote-as 64513",
        "neighbor 192.168.1.200 shutdown",
        "neighbor 192.168.1.200 port 1790",
        "neighbor 192.168.1.200 timers 3 9",
        "neighbor 192.168.1.200 timers connect 1",
        "neighbor 192.168.1.200 password secret",
        "neighbor 192.168.1.200 update-source 192.168.1.80",
        "neighbor 192.168.1.200 ebgp-multihop",
        "neighbor 192.168.1.200 graceful-restart",
        "neighbor 192.168.1.200 bfd",
        "neighbor 192.168.1.200 bfd profile fast",
        "address-family ipv4 unicast",
        "neighbor 192.168.1.200 activate",
        "neighbor 192.168.1.200 route-map router-in in",
        "neighbor 192.168.1.200 route-map router-out out",
        "network 203.0.113.1/32",
        "exit-address-family",
        "no neighbor 192.168.1.200 shutdown",
        "exit",
    ]
    assert commands(wanted, wanted) == []
    assert commands(wanted, Configuration())[0] == "no router bgp 64512"


def test_a_route_comes_and_goes_without_a_word_about_sessions():
    one = configuration([PEER], {"router": (ONE,)})
    both = configuration([PEER], {"router": (ONE, TWO)})
    name = next(iter(one.prefix_lists)).split()[2]
    around = ["router bgp 64512", "address-family ipv4 unicast"]
    after = ["exit-address-family", "exit"]
    listed = f"ip prefix-list {name} permit 203.0.113.2/32"
    assert commands(one, both) == [listed, *around, "network 203.0.113.2/32", *after]
    assert commands(both, one) == [*around, "no network 203.0.113.2/32", *after, f"no {listed}"]


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (dataclasses.replace(PEER, peer_asn=0, dynamic_asn="external"), "neighbor {} remote-as external"),
        (dataclasses.replace(PEER, local_asn=65000), "neighbor {} local-as 65000 no-prepend replace-as"),
        (dataclasses.replace(PEER, passive=True), "neighbor {} passive"),
        (dataclasses.replace(PEER, ebgp_multihop=True, multihop_ttl=3), "neighbor {} ebgp-multihop 3"),
        (dataclasses.replace(PEER, hold_time=30, keepalive_time=5), "neighbor {} timers 5 30"),
        (dataclasses.replace(PEER, vrf="red"), "router bgp 64512 vrf red"),
    ],
)
def test_settings_of_peers(peer, expected):
    assert expected.format(ROUTER) in commands(Configuration(), configuration([peer], {}))


def test_unnumbered_and_dual_stack():
    lines = commands(
        Configuration(), configuration([dataclasses.replace(PEER, address="", interface="eth0")], {})
    )
    assert "neighbor eth0 interface remote-as 64513" in lines
    assert lines.count("neighbor eth0 activate") == 2
    lines = commands(
        Configuration(), configuration([dataclasses.replace(PEER, dual_stack_address_family=True)], {})
    )
    assert lines.count(f"neighbor {ROUTER} activate") == 2


def test_every_node_has_a_router_id_of_its_own():
    assert router_id("node-1", ("fd00::1", "192.168.1.80", "10.0.0.1")) == "192.168.1.80"
    made = {router_id(f"node-{number}", ("fd00::1",)) for number in range(100)}
    assert len(made) == 100
    assert all(ip_address(one).version == 4 for one in made)
    named = dataclasses.replace(PEER, router_id="10.0.0.1")
    assert "bgp router-id 10.0.0.2" in commands(Configuration(), configuration([PEER], {}, "10.0.0.2"))
    assert "bgp router-id 10.0.0.1" in commands(Configuration(), configuration([named], {}, "10.0.0.2"))


def test_a_second_as_number_is_local_to_its_peer():
    other = dataclasses.replace(PEER, name="other", my_asn=64999, address="192.168.1.201")
    lines = commands(Configuration(), configuration([PEER, other], {}))
    assert [line for line in lines if line.startswith("router bgp")] == ["router bgp 64512"]
    assert "neighbor 192.168.1.201 local-as 64999 no-prepend replace-as" in lines


@pytest.fixture
def folder():
    """A folder that FRR's own user can reach, as it cannot pytest's."""
    with tempfile.TemporaryDirectory(prefix="buoy-bgp-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def world():
    with World(nodes=2) as world:
        yield world


class Speaking:
    """FRR on a node."""

    def __init__(self, node, folder):
        self.node = node
        self.folder = folder / node.name
        self.daemons = None

    async def __aenter__(self):
        async def start():
            self.daemons = Daemons(self.folder)
            return asyncio.create_task(self.daemons.run())

        self._task = await self.node.do(start())
        return self

    async def __aexit__(self, *_):
        async def stop():
            self._task.cancel()
            await asyncio.wait([self._task])

        await self.node.do(stop())

    async def announce(self, peers, routes, port=0):
        async def want():
            self.daemons.want(configuration(peers, routes), port)

        await self.node.do(want())

    async def sessions(self):
        return await self.node.do(self.daemons.sessions())


@contextlib.contextmanager
def behind(world):
    """A client behind the router, and nodes that answer for what they announce."""
    client = Namespace("client")
    try:
        client.ip(
            f"link add eth0 type veth peer name far netns {world.outside.path}",
            "link set eth0 up",
            "address add 198.51.100.2/24 dev eth0",
            "route add default via 198.51.100.1",
        )
        world.outside.ip("link set far up", "address add 198.51.100.1/24 dev far")
        world.outside.sysctl(ipv4__ip_forward=1, ipv4__fib_multipath_hash_policy=1)
        rule = f"iptables -t nat -A PREROUTING -d {ONE.prefix} -p tcp -j REDIRECT"
        for node in world.nodes:
            node.ip(f"route add 198.51.100.0/24 via {ROUTER}")
            node.run(*rule.split())
        yield client
    finally:
        client.close()


def neighbor(node, more="", family="IPv4"):
    families = {"IPv4": "ipv4", "IPv6": "ipv6"}
    return (
        f"local as 64513; neighbor {node.addresses[family]} as 64512; connect delay time 1;"
        f" connect retry time 1; error wait time 1,2; {more}"
        f" {families[family]} {{ import all; export all; }};"
    )


@pytest.mark.kernel
async def test_routes_are_announced_changed_and_withdrawn(world, folder):
    """Attributes and an aggregate arrive, over TCP MD5; the session outlives every change."""
    node = world.nodes[0]
    text = neighbor(node, 'password "of-both";')
    peer = dataclasses.replace(PEER, password="of-both", hold_time=9)
    with Bird(world.outside, ROUTER, folder, {"n1": text}) as bird:
        async with Speaking(node, folder) as speaking:
            await speaking.announce(
                [peer], {"router": (Route("203.0.113.1/32", 0, ("64512:7", "large:64512:1:2")),)}
            )
            await eventually(lambda: "203.0.113.1/32" in bird.routes())
            told = bird.attributes("203.0.113.1/32")
            assert "BGP.next_hop: 192.168.1.80" in told
            assert "BGP.community: (64512,7)" in told
            assert "BGP.large_community: (64512, 1, 2)" in told
            since = bird.since("n1")

            await speaking.announce([peer], {"router": (ONE, Route("198.51.100.0/24"))})
            await eventually(lambda: "198.51.100.0/24" in bird.routes())
            await eventually(lambda: "BGP.community" not in bird.attributes("203.0.113.1/32"))
            await speaking.announce([peer], {"router": ()})
            await eventually(lambda: not bird.routes())
            assert bird.since("n1") == since
            (session,) = await speaking.sessions()
            assert session.is_up
            assert session.counters["updates_total"] >= 3

            # a daemon that ends is started again and told all
            await speaking.announce([peer], {"router": (ONE,)})
            await eventually(lambda: "203.0.113.1/32" in bird.routes())
            os.kill(pid(speaking), signal.SIGKILL)
            await eventually(lambda: not bird.routes())
            await eventually(lambda: "203.0.113.1/32" in bird.routes())

            await speaking.announce([], {})
            await eventually(lambda: not bird.established("n1"))


@pytest.mark.kernel
async def test_both_nodes_and_both_families(world, folder):
    """Each node is a next hop of the same prefix; IPv6 goes over IPv6. A node that dies is missed by BFD."""
    blocks = {}
    for number, node in enumerate(world.nodes, start=1):
        blocks[f"n{number}"] = neighbor(
            node, "bfd { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; };"
        )
        blocks[f"six{number}"] = neighbor(node, family="IPv6")
    six = dataclasses.replace(PEER, name="router6", address=world.outside.addresses["IPv6"])
    peers = [dataclasses.replace(PEER, bfd=BFD), six]
    routes = {"router": (ONE,), "router6": (Route("fd00:203::1/128"),)}
    first, second = world.nodes
    with Bird(world.outside, ROUTER, folder, blocks) as bird:
        async with Speaking(first, folder) as one, Speaking(second, folder) as two:
            for speaking in (one, two):
                await speaking.announce(peers, routes)
            expected = {"203.0.113.1/32": {"n1", "n2"}, "fd00:203::1/128": {"six1", "six2"}}
            await eventually(lambda: bird.routes() == expected, within=60)
            await eventually(lambda: "nexthop via 192.168.1.81" in world.outside.run("ip", "route"))
            with behind(world) as client, Answering() as servers:
                for node in world.nodes:
                    servers.listen(node, node.name, 80)
                names = {client.call(ask, "203.0.113.1", 80).name for _ in range(40)}
                assert names == {"node-1", "node-2"}  # the router spreads flows over both
            await eventually(lambda: bird.ask("show", "bfd", "sessions").count(" Up ") == 2)
            world.cut(first)
            await eventually(lambda: bird.routes().get("203.0.113.1/32") == {"n2"})  # the hold time is 180 s
            bfd = await second.do(two.daemons.bfd_sessions())
            assert [(one.peer, one.is_up) for one in bfd] == [(ROUTER, True)]


@pytest.mark.kernel
async def test_routes_outlive_a_graceful_restart_under_another_as_number(world, folder):
    node = world.nodes[0]
    peer = dataclasses.replace(PEER, graceful_restart=True, local_asn=64999)
    text = neighbor(node).replace("as 64512", "as 64999")
    with Bird(world.outside, ROUTER, folder, {"n1": text}) as bird:
        async with Speaking(node, folder) as speaking:
            await speaking.announce([peer], {"router": (ONE,)})
            await eventually(lambda: "203.0.113.1/32" in bird.routes())
            assert "BGP.as_path: 64999\n" in bird.attributes("203.0.113.1/32")
            since = bird.since("n1")
            os.kill(pid(speaking), signal.SIGKILL)

            def is_back():
                assert "203.0.113.1/32" in bird.routes()
                return bird.established("n1") and bird.since("n1") != since

            await eventually(is_back)


@pytest.mark.kernel
async def test_what_a_killed_speaker_left_behind_is_ended_by_the_next(world, folder):
    async with Speaking(world.nodes[0], folder) as killed:
        await killed.announce([PEER], {})
        await eventually(lambda: (killed.folder / "bgpd.vty").exists())
        left = pid(killed)
        async with Speaking(world.nodes[0], folder) as other:
            await other.announce([PEER], {})
            await eventually(lambda: not is_running(left))
            killed.daemons.want(Configuration())
            await eventually(lambda: (other.folder / "bgpd.pid").exists() and is_running(pid(other)))


def pid(speaking):
    return int((speaking.folder / "bgpd.pid").read_text())


def is_running(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.kernel
async def test_what_frr_does_not_take_is_told(world, folder):
    async with Speaking(world.nodes[0], folder) as speaking:
        await speaking.announce([dataclasses.replace(PEER, source_address="nonsense here")], {})
        await eventually(lambda: "update-source nonsense here" in speaking.daemons.error)
        await speaking.announce([dataclasses.replace(PEER, password="not to be told")], {})
        await eventually(lambda: f"neighbor {ROUTER} password ..." in speaking.daemons.error)
        await speaking.announce([PEER], {})
        await eventually(lambda: not speaking.daemons.error)


async def test_without_frr_the_speaker_says_what_to_install(folder, monkeypatch, caplog):
    monkeypatch.setattr(daemons, "_FOLDERS", (str(folder),))
    speaking = Daemons(folder)
    speaking.want(configuration([PEER], {}))
    running = asyncio.create_task(speaking.run())
    expected = f"there is no zebra in {folder}: install frr for announcing by BGP"
    await eventually(lambda: speaking.error == expected)
    running.cancel()
    await asyncio.wait([running])
    assert expected in caplog.text
