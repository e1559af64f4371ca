"""Addresses on the LAN of a whole cluster: who answers for them, as arping, ip and tcpdump see it, and when
that changes."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from ipaddress import ip_address

import pytest

import balancer
from balancer import (
    CLIENT,
    EXCLUDE_LABEL,
    NODES,
    PORT,
    VICTIM,
    Site,
    cut,
    on,
    process_of,
    ranking,
    stopped,
    won_by,
)
from lan import Asking, lost
from local_cluster import LocalCluster, until
from neighbours import Capture, arping, neighbour
from viewpoints import both

pytestmark = pytest.mark.e2e

POOL = [f"192.168.1.{last}" for last in range(240, 250)]


@pytest.fixture(scope="module")
def site(cluster: LocalCluster) -> Iterator[Site]:
    with balancer.site(cluster, f"{POOL[0]}-{POOL[-1]}") as site:
        site.advertise()
        yield site


@pytest.fixture(autouse=True)
def no_services_left(site: Site) -> Iterator[None]:
    yield
    site.withdraw_all()


def test_one_node_answers_and_all_name_the_same(site: Site) -> None:
    site.serve("web")
    address = site.address_of("web")
    winner = ranking(address)[0]
    site.moves_to(address, winner)
    assert site.announcers(address) == {winner}
    mac = site.mac_of(winner)
    until(lambda: site.ask(address)[0].startswith("who-"))
    assert neighbour(site.machine, address) == mac
    outside = ("outside", "--")
    site.cluster.buoy(*outside, "curl", "-s", "--max-time", "5", f"http://{address}:{PORT}")
    known = json.loads(site.cluster.buoy(*outside, "ip", "-json", "neigh", "show", address).stdout)
    assert [each["lladdr"] for each in known] == [mac]
    described = site.namespace.kubectl("describe", "service", "web").stdout
    assert f'announcing from node "{winner}" with protocol "layer2"' in described
    assert f'Assigned IP ["{address}"]' in described
    shown = f"{site.namespace.name}/web +{re.escape(address)} +{winner} \\(layer2\\)\n"
    until(lambda: re.search(shown, site.cluster.buoy("status").stdout))
    line = site.namespace.kubectl("get", "service", "web", "--no-headers").stdout.split()
    assert line[3] == address


def test_the_rule_of_the_election_for_every_address(site: Site) -> None:
    for number, address in enumerate(POOL):
        site.serve(f"web-{number}", address, ports=[{"port": PORT, "targetPort": 80}])
    winners = {address: ranking(address)[0] for address in POOL}
    assert set(winners.values()) == set(NODES), "each node has some of them"
    until(lambda: {address: site.announcer(address) for address in POOL} == winners)


def test_who_may_announce(site: Site) -> None:
    site.serve("web")
    address = site.address_of("web")
    first, second, third = ranking(address)
    moves_to = site.moves_to
    moves_to(address, first)
    site.advertise(nodeSelectors=on(second, third))
    moves_to(address, second)
    preferred = [{"weight": 10, "preference": each} for each in on(third)]
    site.advertise(nodeSelectors=on(second, third), preferredNodeSelectors=preferred)
    moves_to(address, third)
    try:
        site.cluster.kubectl("label", "node", third, f"{EXCLUDE_LABEL}=")
        moves_to(address, second)
    finally:
        site.cluster.kubectl("label", "node", third, f"{EXCLUDE_LABEL}-")
    moves_to(address, third)
    # Interfaces have no part in the election: on one that is not there, nobody is asked.
    site.advertise(interfaces=["eth9"])
    moves_to(address, "")
    site.serve("other")
    until(lambda: site.events("other", "announceFailed"))
    site.advertise(interfaces=["eth0"])
    moves_to(address, first)
    site.advertise(serviceSelectors=[{"matchLabels": {"announce": "yes"}}])
    moves_to(address, "")
    site.namespace.kubectl("label", "service", "web", "announce=yes")
    moves_to(address, first)
    site.advertise()


def test_a_local_policy_is_announced_where_an_endpoint_is_and_keeps_the_client(site: Site) -> None:
    node = ranking(POOL[0])[2]
    policy = {"externalTrafficPolicy": "Local"}
    site.serve("web", POOL[0], **policy, selector={f"who-{node[-1]}": "here"})
    site.moves_to(POOL[0], node)
    until(lambda: site.ask(POOL[0]) == [f"who-{node[-1]} {CLIENT} 80"])
    site.serve("web", POOL[0], **policy)
    winner = ranking(POOL[0])[0]
    site.moves_to(POOL[0], winner)
    until(lambda: site.ask(POOL[0]) == [f"who-{winner[-1]} {CLIENT} 80"])
    assert set(site.ask(*[POOL[0]] * 20)) == {f"who-{winner[-1]} {CLIENT} 80"}


def test_nobody_announces_what_has_no_endpoint(site: Site) -> None:
    site.serve("web", POOL[1], selector={"app": "nobody"})
    assert site.address_of("web") == POOL[1]
    site.serve("other", POOL[2])
    site.moves_to(POOL[2], ranking(POOL[2])[0])  # so the speakers have seen both
    assert site.announcers(POOL[1]) == set()
    site.serve("web", POOL[1])
    site.moves_to(POOL[1], ranking(POOL[1])[0])
    site.serve("web", POOL[1], selector={"app": "nobody"})
    site.moves_to(POOL[1], "")


def test_two_services_share_an_address(site: Site) -> None:
    shared = {"metallb.io/allow-shared-ip": "key"}
    tcp, udp = both(PORT, 80)
    site.serve("tcp", POOL[3], annotations=shared, ports=[tcp])
    site.serve("udp", POOL[3], annotations=shared, ports=[udp])
    site.serve("third", POOL[3], ports=[{**tcp, "port": 9090}])
    assert [site.address_of(name) for name in ("tcp", "udp")] == [POOL[3]] * 2
    site.moves_to(POOL[3], ranking(POOL[3])[0])
    for protocol in ("tcp", "udp"):
        until(lambda protocol=protocol: site.ask(POOL[3], protocol=protocol)[0].startswith("who-"))  # type: ignore[misc]
    until(lambda: site.events("third", "AllocationFailed"))
    assert "<pending>" in site.namespace.kubectl("get", "service", "third").stdout
    # One of them goes: the other one still has it.
    site.namespace.kubectl("delete", "service", "tcp")
    site.serve("third", POOL[3], annotations=shared, ports=[{**tcp, "port": 9090}])
    assert until(lambda: site.address_of("third")) == POOL[3]
    until(lambda: site.ask(POOL[3], port=9090)[0].startswith("who-"))
    assert site.ask(POOL[3], protocol="udp")[0].startswith("who-")
    assert site.announcers(POOL[3]) == {ranking(POOL[3])[0]}


def test_a_service_of_another_class_is_left_alone_and_a_deleted_one_withdrawn(site: Site) -> None:
    site.serve("foreign", loadBalancerClass="example.com/other")
    site.serve("web", POOL[4])
    site.moves_to(POOL[4], ranking(POOL[4])[0])
    status = site.namespace.get("service", "foreign")["status"]
    assert status == {"loadBalancer": {}}
    with Capture(site.machine, f"arp and host {POOL[4]} and arp[7] = 2") as seen:
        site.namespace.kubectl("delete", "service", "web")
        site.moves_to(POOL[4], "")
        before = len(seen.lines)
        assert arping(site.machine, POOL[4], count=9) == []
        assert len(seen.lines) == before


VICTIMS = won_by(VICTIM, POOL)
SUCCESSOR = ranking(VICTIMS)[1]


@pytest.fixture
def harmless(site: Site) -> str:
    """VICTIM announces an address whose endpoint is on another node."""
    site.serve("web", VICTIMS, selector={"who-1": "here"})
    site.moves_to(VICTIMS, VICTIM)
    until(lambda: site.ask(VICTIMS)[0].startswith("who-1 "))
    return VICTIMS


@contextmanager
def stopped_without_api_server(site: Site) -> Iterator[None]:
    """What is checked meanwhile, nobody can have heard of but from the other speakers."""
    with ExitStack() as stack:
        stack.callback(site.cluster.buoy, "node start", VICTIM)
        with balancer.silent(process_of(site.cluster, "apiserver")):
            site.cluster.buoy("node stop", VICTIM)
            yield


@contextmanager
def partitioned(site: Site) -> Iterator[None]:
    """Its cable is in another switch: the node does not see that anything is wrong, and goes on."""
    site.cluster.in_world("ip", "link", "add", "other", "type", "bridge")
    site.cluster.in_world("ip", "link", "set", "other", "up")
    site.cluster.in_world("ip", "link", "set", VICTIM, "master", "other")
    try:
        yield
    finally:
        site.cluster.in_world("ip", "link", "set", VICTIM, "master", "lan0")
        site.cluster.in_world("ip", "link", "del", "other")


@pytest.mark.parametrize("fault", [cut, stopped, stopped_without_api_server])
def test_an_address_leaves_a_lost_node_and_comes_back(
    site: Site, harmless: str, fault: Callable[[Site], AbstractContextManager[None]]
) -> None:
    """A client that asks on sees it by itself: its ARP cache is told."""
    mac = site.mac_of(SUCCESSOR)
    with Asking(site.machine, harmless, PORT) as asking:
        asking.is_answered_again()
        with Capture(site.machine, f"arp and host {harmless} and ether src {mac}") as told, fault(site):
            asking.is_answered_again()
            assert neighbour(site.machine, harmless) == mac
            assert site.announcers(harmless) == {SUCCESSOR}
        assert any(f"who-has {harmless} (ff:ff:ff:ff:ff:ff) tell {harmless}" in line for line in told.lines)
        site.moves_to(harmless, VICTIM)
        asking.is_answered_again()
    until(lambda: balancer.all_ready(site.cluster), within=60)


def test_two_nodes_do_not_answer_for_long_when_a_partition_heals(site: Site, harmless: str) -> None:
    """Asked all the time, none but the winner answers when it has done so for a second."""
    macs = {name: site.mac_of(name) for name in (VICTIM, SUCCESSOR)}
    with Capture(site.machine, f"arp[6:2] = 2 and arp[14:4] = {int(ip_address(harmless))}") as replies:
        with partitioned(site):
            until(lambda: site.announcer(harmless) == SUCCESSOR)
            replies.lines.clear()

        def answered(node: str) -> list[float]:
            return [float(line.split()[0]) for line in replies.lines if macs[node] in line]

        until(lambda: arping(site.machine, harmless) and answered(VICTIM), every=0)
        first = answered(VICTIM)[0]
        until(lambda: arping(site.machine, harmless) and answered(VICTIM)[-1] > first + 2, every=0)
    assert [moment - first for moment in answered(SUCCESSOR) if moment > first + 1] == []


def test_a_speaker_that_is_killed(site: Site, harmless: str) -> None:
    """Its address moves or not, as it is back soon; all is as before, and the address is asked for again."""
    with Asking(site.machine, harmless, PORT) as asking:
        asking.is_answered_again()
        site.cluster.buoy("kill", "speaker", "--node", VICTIM)
        asking.is_answered_again()
        site.moves_to(harmless, VICTIM)
        asking.is_answered_again()


@pytest.mark.parametrize("way", ["label", "end of the speaker"])
def test_no_request_is_lost_when_a_node_is_drained(site: Site, harmless: str, way: str) -> None:
    with Asking(site.machine, harmless, PORT) as asking:
        asking.is_answered_again()
        if way == "label":
            site.cluster.kubectl("label", "node", VICTIM, f"{EXCLUDE_LABEL}=")
            try:
                site.moves_to(harmless, SUCCESSOR)
                asking.is_answered_again()
            finally:
                site.cluster.kubectl("label", "node", VICTIM, f"{EXCLUDE_LABEL}-")
        else:
            os.kill(process_of(site.cluster, "speaker", VICTIM), signal.SIGTERM)
            until(lambda: site.announcer(harmless) == SUCCESSOR, every=0)
        site.moves_to(harmless, VICTIM)
        asking.is_answered_again()
    assert lost(asking.requests, 0, math.inf) == 0
