"""Every kind of record, and that changes one by one lead to where a fresh start would."""

from __future__ import annotations

import copy
from typing import Any

import dns.message
import dns.rcode
import dns.reversename
import pytest
from dns_world import CLUSTER, endpoint_slice, make_zone, put, service
from hypothesis import given
from hypothesis import strategies as st

from buoy.dns import wire
from buoy.dns.records import decode_service, decode_slice
from buoy.dns.wire import Answer
from buoy.dns.zone import Chase, Zone

SOA = "cluster.local. SOA"


def look_up(zone: Zone, name: str, kind: str) -> dns.message.Message:
    """The answer as an independent reader sees it."""
    query = wire.parse(dns.message.make_query(name, kind).to_wire())
    found = zone.lookup(query.name, query.type)
    assert isinstance(found, Answer), found
    return dns.message.from_wire(wire.render(query, found))


def shown(section: list[Any]) -> list[str]:
    return [
        f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)}"
        + ("" if rrset.rdtype == dns.rdatatype.SOA else f" {record}")
        for rrset in section
        for record in sorted(map(str, rrset))
    ]


def backwards(address: str) -> str:
    return dns.reversename.from_address(address).to_text()


ZONE = make_zone()
D = "default.svc.cluster.local."

POSITIVE = [
    # the schema, the zone itself
    ("dns-version.cluster.local", "TXT", ['dns-version.cluster.local. TXT "1.1.0"']),
    ("cluster.local", "NS", ["cluster.local. NS ns.dns.cluster.local."]),
    ("cluster.local", "SOA", [SOA]),
    ("ns.dns.cluster.local", "A", ["ns.dns.cluster.local. A 10.96.0.10"]),
    # a cluster IP of each family
    (f"web.{D}", "A", [f"web.{D} A 10.96.0.20"]),
    ("web.other.svc.cluster.local", "A", ["web.other.svc.cluster.local. A 10.96.0.23"]),
    (f"dual.{D}", "A", [f"dual.{D} A 10.96.0.21"]),
    (f"dual.{D}", "AAAA", [f"dual.{D} AAAA fd00:96::21"]),
    (f"six.{D}", "AAAA", [f"six.{D} AAAA fd00:96::22"]),
    # its named ports, and all ports under the Service's own name
    (f"_http._tcp.web.{D}", "SRV", [f"_http._tcp.web.{D} SRV 0 100 80 web.{D}"]),
    (f"_dns._udp.web.{D}", "SRV", [f"_dns._udp.web.{D} SRV 0 100 53 web.{D}"]),
    (f"web.{D}", "SRV", [f"web.{D} SRV 0 50 53 web.{D}", f"web.{D} SRV 0 50 80 web.{D}"]),
    # its addresses backwards
    ("20.0.96.10.in-addr.arpa", "PTR", [f"20.0.96.10.in-addr.arpa. PTR web.{D}"]),
    (backwards("fd00:96::21"), "PTR", [f"{backwards('fd00:96::21')} PTR dual.{D}"]),
    # endpoints behind a cluster IP have names, too
    (f"10-244-1-5.web.{D}", "A", [f"10-244-1-5.web.{D} A 10.244.1.5"]),
    (f"chosen.web.{D}", "A", [f"chosen.web.{D} A 10.244.1.6"]),
    ("6.1.244.10.in-addr.arpa", "PTR", [f"6.1.244.10.in-addr.arpa. PTR chosen.web.{D}"]),
    # headless: the ready endpoints
    (f"db.{D}", "A", [f"db.{D} A 10.244.1.10", f"db.{D} A 10.244.1.11"]),
    (f"db.{D}", "AAAA", [f"db.{D} AAAA fd00:244::12"]),
    (f"db-0.db.{D}", "A", [f"db-0.db.{D} A 10.244.1.10"]),
    (f"10-244-1-11.db.{D}", "A", [f"10-244-1-11.db.{D} A 10.244.1.11"]),
    (f"fd00-244--12.db.{D}", "AAAA", [f"fd00-244--12.db.{D} AAAA fd00:244::12"]),
    (
        f"_sql._tcp.db.{D}",
        "SRV",
        [
            f"_sql._tcp.db.{D} SRV 0 33 15432 10-244-1-11.db.{D}",
            f"_sql._tcp.db.{D} SRV 0 33 15432 db-0.db.{D}",
            f"_sql._tcp.db.{D} SRV 0 33 15432 fd00-244--12.db.{D}",
        ],
    ),
    ("10.1.244.10.in-addr.arpa", "PTR", [f"10.1.244.10.in-addr.arpa. PTR db-0.db.{D}"]),
    ("11.1.244.10.in-addr.arpa", "PTR", [f"11.1.244.10.in-addr.arpa. PTR 10-244-1-11.db.{D}"]),
    (backwards("fd00:244::12"), "PTR", [f"{backwards('fd00:244::12')} PTR fd00-244--12.db.{D}"]),
    # not ready, but published
    (f"early.{D}", "A", [f"early.{D} A 10.244.1.15"]),
    (f"early-0.early.{D}", "A", [f"early-0.early.{D} A 10.244.1.15"]),
    # aliases that stay in the cluster
    (f"in.{D}", "A", [f"in.{D} CNAME web.{D}", f"web.{D} A 10.96.0.20"]),
    (f"in.{D}", "CNAME", [f"in.{D} CNAME web.{D}"]),
    (f"out.{D}", "CNAME", [f"out.{D} CNAME www.example.com."]),
    # Pods by address
    ("10-244-9-9.bare.pod.cluster.local", "A", ["10-244-9-9.bare.pod.cluster.local. A 10.244.9.9"]),
    ("fd00-244--9.bare.pod.cluster.local", "AAAA", ["fd00-244--9.bare.pod.cluster.local. AAAA fd00:244::9"]),
    # whatever there is
    (f"web.{D}", "ANY", [f'web.{D} HINFO "RFC8482" ""']),
]

NO_DATA = [
    (f"web.{D}", "AAAA"),
    (f"web.{D}", "TXT"),
    (f"six.{D}", "A"),
    (f"early.{D}", "AAAA"),
    (f"digits.{D}", "A"),
    (f"chosen.web.{D}", "AAAA"),
    ("10-244-9-9.bare.pod.cluster.local", "AAAA"),
    ("fd00-244--9.bare.pod.cluster.local", "A"),
    ("cluster.local", "A"),
    ("dns-version.cluster.local", "A"),
    # names that exist only because there are names below them
    ("svc.cluster.local", "A"),
    ("pod.cluster.local", "A"),
    ("dns.cluster.local", "A"),
    ("default.svc.cluster.local", "A"),
    ("bare.svc.cluster.local", "A"),
    ("bare.pod.cluster.local", "A"),
    (f"_tcp.web.{D}", "SRV"),
]

NO_NAME = [
    f"nothing.{D}",
    f"empty.{D}",
    f"10-244-1-14.empty.{D}",
    f"10-244-1-13.db.{D}",
    f"_._tcp.db.{D}",
    f"_nothing._tcp.web.{D}",
    f"_http._udp.web.{D}",
    f"x.web.{D}",
    "web.nowhere.svc.cluster.local",
    "nowhere.svc.cluster.local",
    "10-244-9-9.nowhere.pod.cluster.local",
    "10-244-9-9.pod.cluster.local",
    "10-244-9-999.bare.pod.cluster.local",
    "10-244-9.bare.pod.cluster.local",
    "x.10-244-9-9.bare.pod.cluster.local",
    "nothing.cluster.local",
    "www.example.com.cluster.local",
]


@pytest.mark.parametrize(("name", "kind", "expected"), POSITIVE)
def test_what_there_is(name: str, kind: str, expected: list[str]) -> None:
    message = look_up(ZONE, name, kind)
    assert message.rcode() == dns.rcode.NOERROR
    assert message.flags & dns.flags.AA
    assert shown(message.answer) == expected
    assert {rrset.ttl for rrset in message.answer} == {5}
    assert not message.authority


@pytest.mark.parametrize(("name", "kind"), NO_DATA)
def test_names_without_records_of_the_type(name: str, kind: str) -> None:
    message = look_up(ZONE, name, kind)
    assert (message.rcode(), message.answer) == (dns.rcode.NOERROR, [])
    assert shown(message.authority) == [SOA]


@pytest.mark.parametrize("kind", ["A", "AAAA", "SRV", "ANY"])
@pytest.mark.parametrize("name", NO_NAME)
def test_names_that_do_not_exist(name: str, kind: str) -> None:
    message = look_up(ZONE, name, kind)
    assert message.rcode() == dns.rcode.NXDOMAIN
    assert shown(message.authority) == [SOA]


@pytest.mark.parametrize(
    "name",
    ["example.com", ".", "local", "1.1.168.192.in-addr.arpa", "5.1.244.10.in-addr.arpa", "notcluster.local"],
)
def test_names_of_others(name: str) -> None:
    assert ZONE.lookup(wire.encode_name(name), wire.A) is None
    assert not ZONE.covers(wire.encode_name(name))


def test_a_label_that_only_looks_like_the_zone_is_not_in_it() -> None:
    assert not ZONE.covers(b"\x0faaaaaaa\x07cluster\x05local\0")


def test_an_alias_out_of_the_cluster() -> None:
    found = ZONE.lookup(wire.encode_name(f"out.{D}"), wire.A)
    assert isinstance(found, Chase)
    assert found.target == wire.encode_name("www.example.com")
    assert [link.data for link in found.links] == [(found.target,)]


def test_an_alias_of_nothing() -> None:
    message = look_up(ZONE, f"astray.{D}", "A")
    assert message.rcode() == dns.rcode.NXDOMAIN
    assert shown(message.answer) == [f"astray.{D} CNAME nothing.{D}"]


def test_an_alias_of_itself_ends() -> None:
    found = ZONE.lookup(wire.encode_name(f"around.{D}"), wire.A)
    assert isinstance(found, Answer)
    (link,) = found.answer  # and not one for each time around
    assert link.type == wire.CNAME


def test_srv_records_come_with_addresses() -> None:
    message = look_up(ZONE, f"_sql._tcp.db.{D}", "SRV")
    assert sorted(shown(message.additional)) == [
        f"10-244-1-11.db.{D} A 10.244.1.11",
        f"db-0.db.{D} A 10.244.1.10",
        f"fd00-244--12.db.{D} AAAA fd00:244::12",
    ]


def test_the_first_name_of_an_address_is_the_chosen_one() -> None:
    zone = make_zone([])
    for name, hostname in (("a", ""), ("b", "chosen"), ("c", "")):
        put(zone, service(name, clusterIPs=["None"]))
        put(zone, endpoint_slice(f"{name}-1", name, ("10.244.1.1", hostname)))
    message = look_up(zone, "1.1.244.10.in-addr.arpa", "PTR")
    [rrset] = message.answer
    assert [str(one) for one in rrset] == [
        f"chosen.b.{D}",
        f"10-244-1-1.a.{D}",
        f"10-244-1-1.c.{D}",
    ]
    zone.set_service("default/b", None)
    [rrset] = look_up(zone, "1.1.244.10.in-addr.arpa", "PTR").answer
    assert len(rrset) == 2


def test_settings() -> None:
    zone = make_zone(ttl=30, pods=False)
    message = look_up(zone, f"web.{D}", "A")
    assert message.answer[0].ttl == 30
    negative = look_up(zone, "10-244-9-9.bare.pod.cluster.local", "A")
    assert negative.rcode() == dns.rcode.NXDOMAIN
    assert (negative.authority[0].ttl, negative.authority[0][0].minimum) == (30, 30)


def test_a_change_of_type_leaves_nothing() -> None:
    zone = make_zone([])
    put(zone, service("s", type="ExternalName", externalName="example.com"))
    assert isinstance(zone.lookup(wire.encode_name(f"s.{D}"), wire.A), Chase)
    put(zone, service("s", clusterIPs=["10.96.0.1"]))
    assert shown(look_up(zone, f"s.{D}", "A").answer) == [f"s.{D} A 10.96.0.1"]
    put(zone, service("s", clusterIPs=["None"]))
    assert look_up(zone, f"s.{D}", "A").rcode() == dns.rcode.NXDOMAIN
    assert zone.lookup(wire.encode_name("1.0.96.10.in-addr.arpa"), wire.PTR) is None


def test_what_is_no_service_of_dns() -> None:
    assert decode_service(service("pending")) is None
    assert decode_slice({**endpoint_slice("x", "s"), "addressType": "FQDN"}) is None
    orphan = endpoint_slice("x", "s", "10.0.0.1")
    orphan["metadata"]["labels"] = {}
    assert decode_slice(orphan) is None


def test_names_too_long_for_dns_are_left_out() -> None:
    zone = Zone("a" * 58)
    key = f"{'n' * 63}/{'s' * 63}"
    zone.set_service(key, decode_service(service("s" * 63, namespace="n" * 63, clusterIPs=["None"])))
    piece = endpoint_slice("x", "s" * 63, ("10.0.0.1", "h" * 63), namespace="n" * 63, ports=[("p", "TCP", 1)])
    zone.set_slice("n/x", decode_slice(piece))
    assert look_up(zone, f"{'s' * 63}.{'n' * 63}.svc.{'a' * 58}", "A").answer
    assert all(len(name) <= 255 for name in zone.records)


# Change by change.

services = st.builds(
    lambda name, spec: service(name, **spec),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(
        [
            {"clusterIPs": ["10.96.0.1"], "ports": [("http", "TCP", 80)]},
            {"clusterIPs": ["10.96.0.2", "fd00::2"], "ports": [("http", "TCP", 81), ("", "UDP", 5)]},
            {"clusterIPs": ["None"], "ports": [("http", "TCP", 80)]},
            {"clusterIPs": ["None"], "publishNotReadyAddresses": True},
            {"type": "ExternalName", "externalName": "example.com"},
            {"type": "ExternalName", "externalName": "a.default.svc.cluster.local"},
            {},
        ]
    ),
)
slices = st.builds(
    lambda name, of, addresses, ready, ports: endpoint_slice(name, of, *addresses, ready=ready, ports=ports),
    st.sampled_from(["x", "y", "z"]),
    st.sampled_from(["a", "b", "c", "unknown"]),
    st.lists(
        st.tuples(
            st.sampled_from(["10.244.0.1", "10.244.0.2", "10.96.0.1"]), st.sampled_from(["", "h", "i"])
        ),
        max_size=3,
    ),
    st.booleans(),
    st.sampled_from([[], [("http", "TCP", 8080)], [("http", "TCP", 8080), ("other", "UDP", 1)]]),
)
removals = st.tuples(
    st.sampled_from(["Service", "EndpointSlice"]), st.sampled_from(["a", "b", "c", "x", "y"])
)


@given(st.lists(st.one_of(services, slices, removals), max_size=25))
def test_changes_one_by_one_lead_to_where_a_fresh_start_would(steps: list[Any]) -> None:
    zone = make_zone([])
    state: dict[tuple[str, str], Any] = {}
    for step in steps:
        before = copy.deepcopy(dict(zone.records))
        if isinstance(step, tuple):
            state.pop(step, None)
            key = f"default/{step[1]}"
            changed = zone.set_service(key, None) if step[0] == "Service" else zone.set_slice(key, None)
        else:
            state[step["kind"], step["metadata"]["name"]] = step
            changed = put(zone, step)
        assert changed == (before != zone.records)
    fresh = make_zone(list(state.values()))
    assert zone.records == fresh.records
    for name in zone.records:
        while zone.covers(name):
            assert not isinstance(zone.lookup(name, wire.TXT), Answer) or _exists(zone, name)
            assert _exists(zone, name) == _exists(fresh, name)
            name = wire.parent(name)
    for obj in state.values():  # and all of it can be taken away again
        key = f"default/{obj['metadata']['name']}"
        if obj["kind"] == "Service":
            zone.set_service(key, None)
        else:
            zone.set_slice(key, None)
    assert zone.records == make_zone([]).records
    assert zone._below == make_zone([])._below


def _exists(zone: Zone, name: bytes) -> bool:
    found = zone.lookup(name, wire.ANY)
    return isinstance(found, Answer) and found.rcode == wire.NOERROR


def test_a_changed_slice_costs_its_own_service_only() -> None:
    zone = make_zone(CLUSTER)
    before = dict(zone.records)
    put(zone, endpoint_slice("db-1", "db", "10.244.1.99", ports=[("sql", "TCP", 1)]))
    untouched = wire.encode_name(f"large.{D}")
    assert zone.records[untouched] is before[untouched]
