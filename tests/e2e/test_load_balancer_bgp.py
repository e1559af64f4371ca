"""Routes of a whole cluster, as BIRD has them on a router with a client behind it, and when they change."""

from __future__ import annotations

import base64
import math
import os
import signal
from collections.abc import Iterator

import pytest

import balancer
import router
from balancer import (
    EXCLUDE_LABEL,
    NAMESPACE,
    NODES,
    PORT,
    VICTIM,
    Site,
    cut,
    on,
    process_of,
    resource,
    stopped,
)
from bird import Bird
from lan import Asking, LanMachine, lost
from local_cluster import LocalCluster, Object, until
from router import CLIENT, ROUTER, Routed, session

pytestmark = pytest.mark.e2e

ADDRESS, OTHER = "203.0.113.65", "203.0.113.66"
PREFIX = f"{ADDRESS}/32"
PASSWORD = "of-both"
INNER = "192.168.1.221"
NEIGHBOURS = {f"n{node[-1]}" for node in NODES}
BFD = "bfd { min rx interval 500 ms; min tx interval 500 ms; multiplier 5; };"
"""BIRD waits for it, and goes by it only once the other side has spoken."""


@pytest.fixture(scope="module")
def site(cluster: LocalCluster) -> Iterator[Site]:
    """All nodes have a session with the router, with a password; node-1 has one more, in its AS."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "router", "namespace": NAMESPACE},
        "type": "kubernetes.io/basic-auth",
        "data": {"password": base64.b64encode(PASSWORD.encode()).decode()},
    }
    inner = resource(
        "BGPPeer",
        "inner",
        peerAddress=INNER,
        peerASN=64512,
        myASN=64512,
        connectTime="1s",
        nodeSelectors=on("node-1"),
        enableGracefulRestart=True,
    )
    with balancer.site(cluster, "203.0.113.64/28") as site:
        site.apply(secret, outer(), inner)
        site.advertise("BGPAdvertisement")
        yield site


def outer(**more: object) -> Object:
    """The router as a peer of all nodes."""
    return resource(
        "BGPPeer",
        "router",
        peerAddress=ROUTER,
        peerASN=64513,
        myASN=64512,
        connectTime="1s",
        passwordSecret={"name": "router", "namespace": NAMESPACE},
        **more,
    )


@pytest.fixture(scope="module")
def routed(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routed]:
    sessions = {
        f"n{node[-1]}": session(address, f'password "{PASSWORD}"; {BFD}') for node, address in NODES.items()
    }
    with router.routed(site.cluster, tmp_path_factory.mktemp("bird"), sessions) as made:
        until(lambda: all(map(made.bird.established, sessions)), within=90, what="all sessions")
        yield made


@pytest.fixture(scope="module")
def inner(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bird]:
    """Another router, in the nodes' own AS, which only node-1 knows."""
    text = (
        f"local as 64512; neighbor {NODES['node-1']} as 64512; direct; ipv4 {{ import all; export none; }};"
    )
    with (
        LanMachine(site.cluster, "inner", INNER) as machine,
        Bird(machine, INNER, tmp_path_factory.mktemp("bird"), {"n1": text}) as bird,
    ):
        until(lambda: bird.established("n1"), within=90, what="the session with the inner router")
        yield bird


@pytest.fixture(autouse=True)
def no_services_left(site: Site) -> Iterator[None]:
    yield
    site.withdraw_all()


def announced_by(bird: Bird, *names: str, prefix: str = PREFIX, within: float = 60) -> None:
    until(
        lambda: bird.routes().get(prefix, set()) == set(names),
        within=within,
        what=f"{prefix} by {', '.join(names) or 'nobody'}",
    )


def is_answer(line: str) -> bool:
    return line.startswith("who-")


def test_every_node_announces_and_the_router_spreads_connections(site: Site, routed: Routed) -> None:
    site.serve("web", ADDRESS, externalTrafficPolicy="Local")
    announced_by(routed.bird, *NEIGHBOURS)
    until(lambda: routed.router.run("ip", "route", "show", ADDRESS).count("nexthop") == 3)
    expected = {f"who-{node[-1]} {CLIENT} 80" for node in NODES}
    until(lambda: set(balancer.ask(routed.client, *[ADDRESS] * 60)) == expected)
    events = site.events("web", "nodeAssigned")
    assert sorted(events) == [f'announcing from node "{node}" with protocol "bgp"' for node in NODES]
    shown = f"{ADDRESS:<17}{', '.join(NODES)} (bgp)"
    until(lambda: shown in site.cluster.buoy("status").stdout)
    metrics = site.cluster.on_node("node-1", "curl", "-s", "127.0.0.1:7472/metrics").stdout
    assert f'metallb_bgp_session_up{{peer="{ROUTER}",vrf="default"}} 1.0' in metrics


def test_endpoints_decide_who_announces(site: Site, routed: Routed) -> None:
    here = {"who-2": "here"}
    site.serve("web", ADDRESS, selector=here)
    announced_by(routed.bird, *NEIGHBOURS)
    until(lambda: balancer.ask(routed.client, ADDRESS)[0].startswith("who-2 "))
    site.serve("web", ADDRESS, selector=here, externalTrafficPolicy="Local")
    announced_by(routed.bird, "n2")
    until(lambda: balancer.ask(routed.client, *[ADDRESS] * 9) == [f"who-2 {CLIENT} 80"] * 9)
    site.serve("web", ADDRESS, selector={"app": "nobody"})
    announced_by(routed.bird)
    site.serve("web", ADDRESS, selector=here)
    announced_by(routed.bird, *NEIGHBOURS)


def test_what_advertisements_say_of_routes(site: Site, routed: Routed, inner: Bird) -> None:
    """Communities, local preference, an aggregate of two Services; which nodes tell whom."""
    site.serve("web", ADDRESS)
    site.serve("other", OTHER)
    site.apply(resource("Community", "names", communities=[{"name": "blue", "value": "64512:7"}]))
    site.advertise(
        "BGPAdvertisement",
        peers=["router"],
        nodeSelectors=on("node-1", "node-2"),
        aggregationLength=28,
        communities=["blue", "large:64512:1:2"],
    )
    site.advertise("BGPAdvertisement", "preferred", peers=["inner"], localPref=300)
    try:
        announced_by(routed.bird, "n1", "n2", prefix="203.0.113.64/28")
        for address in (ADDRESS, OTHER):
            announced_by(inner, "n1", prefix=f"{address}/32")
        assert "BGP.local_pref: 300" in inner.attributes(PREFIX)
        attributes = routed.bird.attributes("203.0.113.64/28")
        assert "BGP.community: (64512,7)" in attributes
        assert "BGP.large_community: (64512, 1, 2)" in attributes
        until(lambda: all(map(is_answer, balancer.ask(routed.client, ADDRESS, OTHER))))
        site.namespace.kubectl("delete", "service", "other")
        announced_by(inner, prefix=f"{OTHER}/32")
        announced_by(routed.bird, "n1", "n2", prefix="203.0.113.64/28")
    finally:
        site.remove("BGPAdvertisement", "preferred")
        site.advertise("BGPAdvertisement", peers=[], nodeSelectors=[], aggregationLength=32, communities=[])
        site.remove("Community", "names")
    announced_by(routed.bird, *NEIGHBOURS)


@pytest.fixture
def watched(site: Site, routed: Routed) -> Iterator[None]:
    """The sessions with the router have BFD. Not for other tests: a busy machine may be late for it."""
    site.apply(
        resource("BFDProfile", "quick", receiveInterval=500, transmitInterval=500, detectMultiplier=5),
        outer(bfdProfile="quick"),
    )
    bird = routed.bird
    until(lambda: bird.ask("show", "bfd", "sessions").count(" Up ") == len(NODES), within=60, what="BFD")
    yield
    site.apply(outer(bfdProfile=""))
    until(lambda: not bird.ask("show", "bfd", "sessions").count(" Up "), within=60, what="an end of BFD")


@pytest.mark.usefixtures("watched")
def test_a_lost_node_is_missed_by_bfd(site: Site, routed: Routed) -> None:
    """Well before the hold time of minutes. The endpoint is on another node, and a client asks on."""
    site.serve("web", ADDRESS, selector={"who-1": "here"})
    for fault in (cut, stopped):
        announced_by(routed.bird, *NEIGHBOURS)
        with Asking(routed.client, ADDRESS, PORT) as asking:
            asking.is_answered_again()
            with fault(site):
                announced_by(routed.bird, *NEIGHBOURS - {"n3"})
                asking.is_answered_again()
            announced_by(routed.bird, *NEIGHBOURS)
            asking.is_answered_again()
        until(lambda: balancer.all_ready(site.cluster), within=60)


@pytest.mark.parametrize("way", ["label", "end of the speaker"])
def test_a_drained_node_withdraws_and_nothing_is_lost(site: Site, routed: Routed, way: str) -> None:
    site.serve("web", ADDRESS, selector={"who-1": "here"})
    announced_by(routed.bird, *NEIGHBOURS)
    with Asking(routed.client, ADDRESS, PORT) as asking:
        asking.is_answered_again()
        if way == "label":
            site.cluster.kubectl("label", "node", VICTIM, f"{EXCLUDE_LABEL}=")
            try:
                announced_by(routed.bird, *NEIGHBOURS - {"n3"})
                asking.is_answered_again()
            finally:
                site.cluster.kubectl("label", "node", VICTIM, f"{EXCLUDE_LABEL}-")
        else:
            os.kill(process_of(site.cluster, "speaker", VICTIM), signal.SIGTERM)
            announced_by(routed.bird, *NEIGHBOURS - {"n3"})
        announced_by(routed.bird, *NEIGHBOURS)
        asking.is_answered_again()
    assert lost(asking.requests, 0, math.inf) == 0


def test_routes_outlive_a_killed_speaker_where_the_peer_knows_graceful_restart(
    site: Site, inner: Bird
) -> None:
    """The session ends and begins anew; meanwhile the router goes by what it was told before."""
    site.serve("web", ADDRESS, selector={"who-1": "here"})
    announced_by(inner, "n1")
    before = inner.since("n1")
    site.cluster.buoy("kill", "speaker", "--node", "node-1")

    def has_begun_anew() -> bool:
        assert inner.routes() == {PREFIX: {"n1"}}
        return inner.since("n1") != before and inner.established("n1")

    until(has_begun_anew, within=60)
    announced_by(inner, "n1")
