"""What follows from configuration, Services, EndpointSlices and Nodes: who may announce what, and why not."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from buoy.api.selectors import from_labels
from buoy.loadbalancer import announcements
from buoy.loadbalancer.announcements import Endpoint, Node, Route, Service, plan, serving_nodes
from buoy.loadbalancer.model import (
    BgpAdvertisement,
    Config,
    Layer2Advertisement,
    Peer,
    Pool,
    Preference,
    Range,
)


def select(**labels):
    return from_labels(labels)


def ranges(first, last):
    return (Range(int(ip_address(first)), int(ip_address(last))),)


POOL = Pool(
    "first",
    ipv4=ranges("192.168.1.240", "192.168.1.250"),
    ipv6=ranges("fd00:192:168:1::f0", "fd00:192:168:1::ff"),
)
OTHER = Pool("second", ipv4=ranges("203.0.113.0", "203.0.113.255"))
FIRST, SECOND = frozenset({"first"}), frozenset({"second"})
NODES = [
    Node("a", {"zone": "east", "rack": "1"}, ("192.168.1.80",)),
    Node("b", {"zone": "west", "rack": "1"}, ("192.168.1.81",)),
    Node("c", {"zone": "west", "rack": "2"}, ("192.168.1.82",)),
]
V4, V4B, V6 = ip_address("192.168.1.240"), ip_address("192.168.1.241"), ip_address("fd00:192:168:1::f0")
WEB = Service("default/web", (V4,), labels={"app": "web"})
EVERYWHERE = frozenset("abc")
PLAIN = Config(pools=(POOL, OTHER), layer2=(Layer2Advertisement("plain", FIRST),))


def decide(config=PLAIN, services=(WEB,), serving=None, nodes=NODES, me="a"):
    return plan(me, config, nodes, services, {"default/web": EVERYWHERE} if serving is None else serving)


def with_layer2(*advertisements):
    return Config(pools=(POOL, OTHER), layer2=advertisements)


def test_every_node_may():
    contest = decide().contests[V4]
    assert contest == announcements.Contest("192.168.1.240", {"a": 0, "b": 0, "c": 0}, None, ("default/web",))


def test_both_addresses_of_a_service_are_decided_by_its_first():
    found = decide(services=[Service("default/web", (V6, V4))]).contests
    assert {address: contest.key for address, contest in found.items()} == {V4: str(V6), V6: str(V6)}


@pytest.mark.parametrize(
    ("config", "services", "serving", "nodes", "reason"),
    [
        (PLAIN, [Service("default/web", (ip_address("10.0.0.1"),))], None, NODES, "ipNotAllowed"),
        (
            PLAIN,
            [Service("default/web", (ip_address("203.0.113.1"),))],
            None,
            NODES,
            "noMatchingAdvertisement",
        ),
        (
            with_layer2(Layer2Advertisement("x", FIRST, service_selectors=(select(app="other"),))),
            [WEB],
            None,
            NODES,
            "noMatchingAdvertisement",
        ),
        (
            with_layer2(
                Layer2Advertisement("x", FIRST, service_selectors=(select(app="web"),)),
                Layer2Advertisement("y", FIRST),
            ),
            [replace(WEB, shares=True)],
            None,
            NODES,
            announcements.SHARED_AND_SELECTED,
        ),
        (PLAIN, [WEB], {}, NODES, "noEndpoints"),
        (
            PLAIN,
            [Service("default/web", (V4,), local=True)],
            {"default/web": frozenset("b")},
            NODES,
            "notOwner",
        ),
        (PLAIN, [WEB], None, [Node("a", available=False), *NODES[1:]], "notOwner"),
        (
            with_layer2(Layer2Advertisement("x", FIRST, node_selectors=(select(zone="west"),))),
            [WEB],
            None,
            NODES,
            "notOwner",
        ),
        (PLAIN, [Service("default/web", (V4,), protocol="bgp")], None, NODES, "noMatchingAdvertisement"),
    ],
)
def test_why_this_node_does_not_contend(config, services, serving, nodes, reason):
    found = decide(config, services, serving, nodes)
    assert found.reasons["default/web", "layer2"] == reason
    assert not any("a" in contest.scores for contest in found.contests.values())


def test_a_shared_address_is_announced_where_no_matching_advertisement_selects_services():
    """Nor does it matter to one that is not shared, or to BGP."""
    selecting = Layer2Advertisement("x", FIRST, service_selectors=(select(app="web"),))
    elsewhere = Layer2Advertisement("y", FIRST, service_selectors=(select(app="other"),))
    shared = replace(WEB, shares=True)
    assert decide(with_layer2(selecting)).contests
    assert decide(services=[shared]).contests
    assert decide(with_layer2(*PLAIN.layer2, elsewhere), [shared]).contests
    peer = Peer("router", 64512, 64513, address="192.168.1.200")
    bgp = BgpAdvertisement("x", FIRST, service_selectors=(select(app="web"),), peers=frozenset({"router"}))
    assert decide(Config(pools=(POOL,), bgp=(bgp,), peers=(peer,)), [shared]).peers_of


def test_a_local_policy_leaves_nodes_with_endpoints():
    local = Service("default/web", (V4,), local=True)
    found = decide(services=[local], serving={"default/web": frozenset("bc")})
    assert set(found.contests[V4].scores) == {"b", "c"}
    assert decide(services=[local], serving={"default/web": frozenset({""})}).contests[V4].scores == {}


def test_advertisements_add_up():
    """Nodes of any of them; each prefers among its own nodes only; interfaces are those for this node."""
    config = with_layer2(
        Layer2Advertisement(
            "east",
            FIRST,
            node_selectors=(select(zone="east"),),
            interfaces=("eth0",),
            preferred_nodes=(Preference(70, select(rack="1")), Preference(30, select(zone="east"))),
        ),
        Layer2Advertisement(
            "rack",
            FIRST,
            node_selectors=(select(rack="1"),),
            interfaces=("eth1",),
            preferred_nodes=(Preference(10, select(zone="west")),),
        ),
    )
    contest = decide(config).contests[V4]
    assert contest.scores == {"a": 100, "b": 10}
    assert contest.interfaces == {"eth0", "eth1"}
    assert decide(config, me="b").contests[V4].interfaces == {"eth1"}
    everywhere = Layer2Advertisement("all", FIRST)
    assert decide(with_layer2(*config.layer2, everywhere)).contests[V4].interfaces is None


def test_services_that_share_an_address_have_one_contest():
    mail = Service("default/mail", (V4,))
    found = decide(services=[WEB, mail], serving={"default/web": EVERYWHERE, "default/mail": EVERYWHERE})
    assert found.contests[V4].services == ("default/mail", "default/web")
    assert decide(services=[WEB, mail]).contests[V4].services == ("default/web",)


R1, R2 = Peer("r1", 64512, 64513, address="10.0.0.1"), Peer("r2", 64512, 64512, address="10.0.0.2")
BOTH = frozenset({"r1", "r2"})


def with_bgp(*advertisements, peers=(R1, R2)):
    return Config(pools=(POOL, OTHER), bgp=advertisements, peers=peers)


def test_every_node_announces_routes_to_its_peers():
    west = Peer("r3", 64512, 64513, address="10.0.0.3", node_selectors=(select(zone="west"),))
    config = with_bgp(
        BgpAdvertisement("plain", FIRST, peers=BOTH | {"r3"}, communities=("1:2",)), peers=(R1, R2, west)
    )
    for me in "abc":
        found = decide(config, me=me)
        names = ["r1", "r2", *(["r3"] if me != "a" else [])]
        assert [peer.name for peer in found.peers] == names
        assert found.routes == dict.fromkeys(names, (Route("192.168.1.240/32", 0, ("1:2",)),))
        assert found.peers_of == {"default/web": tuple(names)}


def test_routes_of_a_prefix_become_one():
    config = with_bgp(
        BgpAdvertisement("one", FIRST, peers=BOTH, aggregation_length=24, communities=("1:2",)),
        BgpAdvertisement("two", FIRST, peers=frozenset({"r2"}), aggregation_length=24, local_pref=200),
        BgpAdvertisement("three", FIRST, peers=frozenset({"r2"}), communities=("3:4",)),
    )
    services = [WEB, Service("default/mail", (V4B, V6))]
    found = decide(config, services, {"default/web": EVERYWHERE, "default/mail": EVERYWHERE}).routes
    assert found["r1"] == (Route("192.168.1.0/24", 0, ("1:2",)), Route("fd00:192:168:1::f0/128", 0, ("1:2",)))
    assert found["r2"] == (
        Route("192.168.1.0/24", 200, ("1:2",)),
        Route("192.168.1.240/32", 0, ("3:4",)),
        Route("192.168.1.241/32", 0, ("3:4",)),
        Route("fd00:192:168:1::f0/128", 200, ("1:2", "3:4")),
    )


@pytest.mark.parametrize(
    ("advertisement", "service", "serving", "reason"),
    [
        (BgpAdvertisement("x", SECOND, peers=BOTH), WEB, EVERYWHERE, "noMatchingAdvertisement"),
        (BgpAdvertisement("x", FIRST, (select(zone="west"),), peers=BOTH), WEB, EVERYWHERE, "notOwner"),
        (BgpAdvertisement("x", FIRST, peers=BOTH), WEB, frozenset(), "noEndpoints"),
        (
            BgpAdvertisement("x", FIRST, peers=BOTH),
            Service("default/web", (V4,), local=True),
            frozenset("b"),
            "noLocalEndpoints",
        ),
    ],
)
def test_why_this_node_announces_no_route(advertisement, service, serving, reason):
    found = decide(with_bgp(advertisement), [service], {"default/web": serving})
    assert found.reasons["default/web", "bgp"] == reason
    assert found.routes == {"r1": (), "r2": ()}
    assert found.peers_of == {}


def test_facts_of_a_service():
    obj = {
        "metadata": {"namespace": "default", "name": "web", "labels": {"app": "web"}},
        "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.168.1.240"}, {"ip": "FD00:192:168:1::F0"}]}},
    }
    expected = Service("default/web", (V4, V6), True, {"app": "web"})
    assert announcements.service(obj) == expected
    assert announcements.service({**obj, "spec": {"type": "ClusterIP"}}) is None
    assert announcements.service({**obj, "status": {}}) is None


def test_facts_of_a_node():
    obj = {
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "status": {
            "addresses": [
                {"type": "Hostname", "address": "a"},
                {"type": "InternalIP", "address": "192.168.1.80"},
                {"type": "InternalIP", "address": "fd00::1"},
            ],
            "conditions": [{"type": "NetworkUnavailable", "status": "False"}],
        },
    }
    assert announcements.node(obj) == Node("a", {"x": "y"}, ("192.168.1.80", "fd00::1"))
    obj["status"]["conditions"][0]["status"] = "True"
    assert not announcements.node(obj).available
    excluded = {"metadata": {"name": "a", "labels": {announcements.EXCLUDE_LABEL: ""}}}
    assert not announcements.node(excluded).available
    assert announcements.node(excluded, ignore_exclusion=True).available


def test_which_endpoints_serve():
    obj = {
        "metadata": {
            "namespace": "default",
            "name": "web-1",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "endpoints": [
            {"addresses": ["10.0.0.1"], "nodeName": "a", "conditions": {"ready": True}},
            {"addresses": ["10.0.0.2"], "nodeName": "b"},
            {"addresses": ["10.0.0.3"], "nodeName": "c", "conditions": {"ready": False}},
            {"addresses": ["10.0.0.4"], "nodeName": "d", "conditions": {"ready": False, "serving": True}},
            {"addresses": ["10.0.0.5"], "conditions": {"ready": True}},
        ],
    }
    key, found = announcements.endpoints(obj)
    assert key == "default/web"
    assert serving_nodes(found) == {"a", "b", "d", ""}
    assert serving_nodes([*found, Endpoint("10.0.0.1", "a", False)]) == {"b", "d", ""}
    assert announcements.endpoints({"metadata": {"namespace": "default", "name": "x"}}) is None
