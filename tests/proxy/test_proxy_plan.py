"""Which endpoints a node uses for a Service port, and what becomes of connections."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buoy.proxy.decode import Endpoint, Node, Service, ServicePort, Slice, SlicePort
from buoy.proxy.model import Change, Destination, Family, PortName, Settings
from buoy.proxy.plan import HealthCheck, Planner, desired

HERE = Node("node-1", ("192.168.1.80",), zone="a")
HTTP = ServicePort("http", "TCP", 80, 0)
SETTINGS = Settings(Family.IPV4)


def service(**changes):
    return Service(**{"key": "default/web", "cluster_ips": ("10.96.0.10",), "ports": (HTTP,), **changes})


def piece(*endpoints, name="web-1", service="default/web", family=Family.IPV4, ports=None, triggered=0.0):
    ports = ports or (SlicePort("http", "TCP", 8080),)
    return Slice(f"default/{name}", service, family, ports, endpoints, triggered)


def one(service, *slices, node=HERE):
    (rules,) = desired([service], slices, node, SETTINGS).ports.values()
    return rules


def at(*numbers):
    return tuple(Destination(f"10.244.0.{number}", 8080) for number in numbers)


READY_HERE = Endpoint("10.244.0.1", node="node-1")
READY_THERE = Endpoint("10.244.0.2", node="node-2")
LEAVING_HERE = Endpoint("10.244.0.3", ready=False, terminating=True, node="node-1")
LEAVING_THERE = Endpoint("10.244.0.4", ready=False, terminating=True, node="node-2")
GONE = Endpoint("10.244.0.5", ready=False, serving=False, terminating=True, node="node-1")
UNREADY = Endpoint("10.244.0.6", ready=False, serving=False, node="node-1")
SERVING_UNREADY = Endpoint("10.244.0.7", ready=False, serving=True, node="node-1")

NODE_PORT = {"ports": (HTTP._replace(node_port=30080),)}


@pytest.mark.parametrize(
    ("endpoints", "cluster"),
    [
        ((), ()),
        ((READY_THERE, READY_HERE), at(1, 2)),
        ((READY_HERE, LEAVING_HERE, GONE, UNREADY), at(1)),
        ((LEAVING_HERE, LEAVING_THERE, GONE, UNREADY), at(3, 4)),
        ((GONE, UNREADY, SERVING_UNREADY), ()),
    ],
    ids=["none", "ready, sorted", "ready before leaving", "leaving if nothing else", "nothing"],
)
def test_cluster_policy(endpoints, cluster):
    rules = one(service(), piece(*endpoints))
    assert (rules.cluster, rules.local) == (cluster, ())
    fate = "balance" if cluster else "reject"
    assert (rules.usable, rules.internal_fate, rules.external_fate) == (bool(cluster), fate, fate)


@pytest.mark.parametrize(
    ("endpoints", "local", "internal", "external"),
    [
        ((READY_HERE, READY_THERE), at(1), "balance", "balance"),
        ((READY_THERE,), (), "drop", "drop"),
        ((LEAVING_HERE, READY_THERE), at(3), "balance", "balance"),
        ((LEAVING_THERE,), (), "drop", "drop"),
        ((GONE, UNREADY), (), "reject", "reject"),
    ],
    ids=["ready here", "elsewhere", "leaving here", "leaving elsewhere", "nothing"],
)
def test_local_policy(endpoints, local, internal, external):
    rules = one(service(internal_local=True), piece(*endpoints))
    assert (rules.cluster, rules.local, rules.internal_fate) == ((), local, internal)
    rules = one(service(external_local=True, **NODE_PORT), piece(*endpoints))
    assert (rules.local, rules.external_fate) == (local, external)
    assert rules.internal_fate == ("balance" if rules.usable else "reject")


def test_local_external_policy_needs_cluster_endpoints_for_the_nodes_own_traffic():
    rules = one(service(external_local=True, **NODE_PORT), piece(READY_HERE, READY_THERE, LEAVING_HERE))
    assert (rules.cluster, rules.local, rules.destinations) == (at(1, 2), at(1), at(1, 2))
    rules = one(service(external_local=True, **NODE_PORT), piece(READY_THERE, LEAVING_HERE))
    assert rules.destinations == at(2, 3)


@pytest.mark.parametrize(
    ("hints", "node", "expected"),
    [
        ([("a", ""), ("b", "")], HERE, at(0)),
        ([("a", ""), ("", "")], HERE, at(0, 1)),
        ([("b", ""), ("b", "")], HERE, at(0, 1)),
        ([("a", ""), ("b", "")], Node("node-1"), at(0, 1)),
        ([("a", "node-1"), ("a", "node-2")], HERE, at(0)),
        ([("a", "node-3"), ("a", "node-2")], HERE, at(0, 1)),
        ([("a", "node-1"), ("a", "")], HERE, at(0, 1)),
    ],
    ids=[
        "same zone",
        "one without a hint",
        "none for this zone",
        "node without a zone",
        "same node",
        "none for this node: zone",
        "one without a node hint",
    ],
)
def test_topology_hints(hints, node, expected):
    endpoints = [
        Endpoint(
            f"10.244.0.{number}",
            zone_hints=frozenset(filter(None, [zone])),
            node_hints=frozenset(filter(None, [name])),
        )
        for number, (zone, name) in enumerate(hints)
    ]
    assert one(service(), piece(*endpoints), node=node).cluster == expected


def test_named_ports_differ_by_slice():
    ports = (HTTP, ServicePort("dns", "UDP", 53, 0), ServicePort("dns", "TCP", 53, 0))
    old = piece(READY_HERE, name="old", ports=(SlicePort("http", "TCP", 8080), SlicePort("dns", "UDP", 53)))
    new = piece(READY_THERE, name="new", ports=(SlicePort("http", "TCP", 9090),))
    found = desired([service(ports=ports)], [old, new], HERE, SETTINGS).ports
    http, udp, tcp = found.values()
    assert http.cluster == (Destination("10.244.0.1", 8080), Destination("10.244.0.2", 9090))
    assert udp.cluster == (Destination("10.244.0.1", 53),)
    assert tcp.cluster == ()


def test_an_endpoint_in_two_slices_counts_once_and_from_its_better_side():
    rules = one(service(), piece(UNREADY._replace(address="10.244.0.1")), piece(READY_HERE, name="web-2"))
    assert rules.cluster == at(1)


def test_families_do_not_mix():
    both = service(
        cluster_ips=("10.96.0.10", "fd00::a"),
        external_ips=("192.0.2.7", "2001:db8::7"),
        source_ranges=("10.0.0.0/8", "2001:db8::/32"),
    )
    slices = [piece(READY_HERE), piece(Endpoint("fd00:1::1"), name="six", family=Family.IPV6)]
    (six,) = desired([both], slices, HERE, Settings(Family.IPV6)).ports.values()
    assert (six.cluster_ip, six.external_ips, six.source_ranges) == (
        "fd00::a",
        ("2001:db8::7",),
        ("2001:db8::/32",),
    )
    assert six.cluster == (Destination("fd00:1::1", 8080),)
    assert desired([service()], slices, HERE, Settings(Family.IPV6)).ports == {}


def test_udp_remembers_who_still_serves():
    dns = service(ports=(ServicePort("dns", "UDP", 53, 0),))
    ports = (SlicePort("dns", "UDP", 53),)
    rules = one(dns, piece(READY_HERE, LEAVING_HERE, GONE, ports=ports))
    assert [at.address for at in rules.serving] == ["10.244.0.1", "10.244.0.3"]


def test_health_checks():
    planner = Planner(Family.IPV4, HERE)
    checked = service(external_local=True, health_check_node_port=31000, **NODE_PORT)
    planner.set_service("default/web", checked)
    planner.set_slice("default/web-1", piece(READY_HERE, READY_THERE, LEAVING_HERE))
    planner.changes()
    assert planner.health_checks == {"default/web": HealthCheck("default/web", 31000, 1)}
    planner.set_service("default/web", None)
    planner.changes()
    assert planner.health_checks == {}


def test_only_what_changed_is_decided_anew():
    planner = Planner(Family.IPV4, HERE)
    for number in range(50):
        key = f"default/svc-{number}"
        planner.set_service(key, service(key=key, cluster_ips=(f"10.96.1.{number}",)))
        planner.set_slice(f"default/s-{number}", piece(READY_HERE, name=f"s-{number}", service=key))
    assert len(planner.changes()) == 50
    assert planner.changes() == {}
    planner.set_slice(
        "default/s-7", piece(READY_HERE, READY_THERE, name="s-7", service="default/svc-7", triggered=5.0)
    )
    name = PortName("default/svc-7", "http", "TCP")
    ((changed, change),) = planner.changes().items()
    assert (changed, change.old.cluster, change.new.cluster) == (name, at(1), at(1, 2))
    assert planner.set_slice(
        "default/s-7", piece(READY_HERE, READY_THERE, UNREADY, name="s-7", service="default/svc-7")
    )
    assert planner.changes() == {}, "an endpoint that is not used changes nothing"
    planner.set_service("default/svc-7", None)
    assert planner.changes() == {name: Change(change.new, None)}


# Whatever happens, in whatever order: the sum of the changes is the decision from scratch.

addresses = st.integers(1, 5).map(lambda number: f"10.244.0.{number}")
endpoints = st.builds(
    Endpoint,
    addresses,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["node-1", "node-2"]),
    st.sampled_from([frozenset(), frozenset("a"), frozenset("b")]),
    st.sampled_from([frozenset(), frozenset({"node-1"})]),
)
services = st.builds(
    Service,
    key=st.just(""),
    cluster_ips=st.sampled_from([("10.96.0.1",), ("10.96.0.2", "fd00::2"), ("fd00::3",)]),
    ports=st.lists(
        st.builds(
            ServicePort,
            st.sampled_from(["http", "dns"]),
            st.sampled_from(["TCP", "UDP"]),
            st.integers(80, 82),
            st.sampled_from([0, 30080]),
        ),
        max_size=2,
        unique_by=lambda port: port[:2],
    ).map(tuple),
    internal_local=st.booleans(),
    external_local=st.booleans(),
    affinity_seconds=st.sampled_from([0, 10]),
    health_check_node_port=st.sampled_from([0, 31000]),
)
slices = st.builds(
    Slice,
    key=st.just(""),
    service=st.sampled_from(["ns/a", "ns/b"]),
    family=st.sampled_from(list(Family)),
    ports=st.lists(
        st.builds(
            SlicePort, st.sampled_from(["http", "dns"]), st.sampled_from(["TCP", "UDP"]), st.integers(80, 81)
        ),
        max_size=2,
    ).map(tuple),
    endpoints=st.lists(endpoints, max_size=4).map(tuple),
)
steps = st.one_of(
    st.tuples(st.just("service"), st.sampled_from(["ns/a", "ns/b", "ns/c"]), st.none() | services),
    st.tuples(st.just("slice"), st.sampled_from(["ns/1", "ns/2", "ns/3"]), st.none() | slices),
    st.tuples(
        st.just("node"), st.just(""), st.sampled_from([HERE, Node("node-1"), Node("node-2", zone="b")])
    ),
    st.tuples(st.just("look"), st.just(""), st.none()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=25))
def test_changes_add_up_to_the_decision_from_scratch(script):
    planner, node = Planner(Family.IPV4, HERE), HERE
    known_services, known_slices, mirror = {}, {}, {}

    def look():
        for name, (old, new) in planner.changes().items():
            assert mirror.get(name) == old
            assert old != new
            if new is None:
                del mirror[name]
            else:
                mirror[name] = new

    for what, key, value in script:
        if what == "service":
            value = value and Service(key, *[getattr(value, name) for name in Service.__slots__[1:]])
            known_services[key] = value
            planner.set_service(key, value)
        elif what == "slice":
            value = value and Slice(key, *[getattr(value, name) for name in Slice.__slots__[1:]])
            known_slices[key] = value
            planner.set_slice(key, value)
        elif what == "node":
            node = value
            planner.set_node(value)
        else:
            look()
    look()
    scratch = desired(
        filter(None, known_services.values()), filter(None, known_slices.values()), node, SETTINGS
    )
    assert mirror == dict(scratch.ports) == dict(planner.current)


def test_order_of_slices_does_not_matter():
    pieces = [piece(Endpoint(f"10.244.0.{n}", ready=n % 2 == 0), name=f"s{n}") for n in range(6)]
    expected = one(service(), *pieces)
    random.Random(1).shuffle(pieces)
    assert one(service(), *pieces) == expected
