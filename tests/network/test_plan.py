from __future__ import annotations

import json
from collections.abc import Sequence

from buoy.network.plan import Route, cni_configuration, masquerade_rules, plan

CLUSTER = ["10.244.0.0/16", "fd00:10:244::/56"]


def _node(name: str, addresses: Sequence[str] = (), cidrs: Sequence[str] = ()) -> dict:
    node: dict = {"metadata": {"name": name}, "spec": {}, "status": {}}
    if cidrs:
        node["spec"] = {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)}
    if addresses:
        node["status"]["addresses"] = [
            {"type": "Hostname", "address": name},
            *({"type": "InternalIP", "address": address} for address in addresses),
        ]
    return node


def test_each_other_node_is_a_route_and_the_own_range_ends_here() -> None:
    nodes = [
        _node("a", ["192.168.1.80"], ["10.244.0.0/24"]),
        _node("b", ["192.168.1.81"], ["10.244.1.0/24"]),
        _node("c", ["192.168.1.82"], ["10.244.2.0/24"]),
    ]
    wanted = plan(nodes, "b", CLUSTER[:1])
    assert wanted.pod_cidrs == ("10.244.1.0/24",)
    assert wanted.routes == {
        Route("10.244.0.0/16"),
        Route("10.244.0.0/24", "192.168.1.80"),
        Route("10.244.1.0/24"),
        Route("10.244.2.0/24", "192.168.1.82"),
    }


def test_each_range_is_reached_by_the_address_of_its_family() -> None:
    nodes = [
        _node("a", ["fd00::80", "192.168.1.80"], ["10.244.0.0/24", "fd00:10:244::/64"]),
        _node("b", ["192.168.1.81", "fd00::81"], ["10.244.1.0/24", "fd00:10:244:1::/64"]),
    ]
    wanted = plan(nodes, "b", CLUSTER)
    assert wanted.pod_cidrs == ("10.244.1.0/24", "fd00:10:244:1::/64")
    assert wanted.routes == {
        Route("10.244.0.0/16"),
        Route("10.244.0.0/24", "192.168.1.80"),
        Route("10.244.1.0/24"),
        Route("fd00:10:244::/56"),
        Route("fd00:10:244::/64", "fd00::80"),
        Route("fd00:10:244:1::/64"),
    }


def test_a_node_that_is_not_complete_takes_no_part() -> None:
    nodes = [_node("a", ["192.168.1.80"]), _node("b", cidrs=["10.244.1.0/24"]), _node("c")]
    wanted = plan(nodes, "c", CLUSTER)
    assert wanted.pod_cidrs == ()
    assert wanted.routes == set(map(Route, CLUSTER))


def test_an_address_of_the_other_family_is_no_way_to_a_range() -> None:
    assert plan([_node("a", ["fd00::1"], ["10.244.0.0/24"])], "b", ()).routes == frozenset()


def test_the_cni_configuration_gives_addresses_of_the_range_and_host_ports() -> None:
    document = json.loads(cni_configuration(["10.244.1.0/24"]))
    ptp, portmap = document["plugins"]
    assert ptp["type"] == "ptp"
    assert ptp["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]
    assert ptp["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}]
    assert portmap["capabilities"] == {"portMappings": True}


def test_pods_get_an_address_of_each_range_and_use_it_at_once() -> None:
    document = json.loads(cni_configuration(["fd00:10:244:1::/64", "10.244.1.0/24"]))
    tuning, ptp, portmap = document["plugins"]
    assert tuning["sysctl"] == {"net.ipv6.conf.default.accept_dad": "0"}
    assert ptp["ipam"]["ranges"] == [[{"subnet": "fd00:10:244:1::/64"}], [{"subnet": "10.244.1.0/24"}]]
    assert ptp["ipam"]["routes"] == [{"dst": "::/0"}, {"dst": "0.0.0.0/0"}]
    assert portmap["type"] == "portmap"


def test_only_packets_that_leave_the_pod_network_are_masqueraded() -> None:
    rules = masquerade_rules(["10.244.1.0/24"], ["10.244.0.0/16"])
    assert "ip saddr 10.244.1.0/24 ip daddr != { 10.244.0.0/16 } fib daddr type != local masquerade" in rules
    assert "ip6" not in rules
    both = masquerade_rules(["10.244.1.0/24", "fd00:10:244:1::/64"], CLUSTER)
    assert rules.strip() in both
    assert "ip6 saddr fd00:10:244:1::/64 ip6 daddr != { fd00:10:244::/56 } fib daddr type != local" in both
