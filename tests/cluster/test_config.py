from __future__ import annotations

from pathlib import Path

import pytest

from buoy.cluster import state
from buoy.cluster.config import ClusterConfig, ConfigError, FamilyNetwork


def test_addresses_follow_from_the_ranges() -> None:
    config = ClusterConfig(nodes=3)
    (network,) = config.networks
    assert network == config.primary
    assert network.gateway == "192.168.1.1"
    assert network.control_plane == "192.168.1.10"
    assert network.outside == "192.168.1.200"
    assert [config.node_addresses(name) for name in config.node_names] == [
        ("192.168.1.80",),
        ("192.168.1.81",),
        ("192.168.1.82",),
    ]
    assert network.kubernetes_service == "10.96.0.1"
    assert config.cluster_dns == ("10.96.0.10",)
    assert network.on_lan(network.gateway) == "192.168.1.1/24"


def test_addresses_of_both_families_look_alike() -> None:
    config = ClusterConfig(ip_family="dual", nodes=30)
    second = config.networks[1]
    assert second.gateway == "fd00:192:168:1::1"
    assert second.control_plane == "fd00:192:168:1::10"
    assert second.outside == "fd00:192:168:1::200"
    assert config.node_addresses("node-1") == ("192.168.1.80", "fd00:192:168:1::80")
    assert config.node_addresses("node-21") == ("192.168.1.100", "fd00:192:168:1::100")
    assert second.kubernetes_service == "fd00:10:96::1"
    assert config.cluster_dns == ("10.96.0.10", "fd00:10:96::a")
    assert config.pod_cidrs == ("10.244.0.0/16", "fd00:10:244::/56")
    assert config.service_cidrs == ("10.96.0.0/12", "fd00:10:96::/112")


@pytest.mark.parametrize("lan", ["172.30.0.0/28", "fd00::/118", "fd00::/119", "fd00::/125"])
def test_no_two_machines_share_an_address(lan: str) -> None:
    room = ClusterConfig(nodes=1, lan=lan, ip_family="ipv6" if ":" in lan else "ipv4").primary.room_for_nodes
    config = ClusterConfig(nodes=room, lan=lan, ip_family="ipv6" if ":" in lan else "ipv4")
    network = config.primary
    addresses = {network.gateway, network.control_plane, network.outside}
    addresses.update(*map(config.node_addresses, config.node_names))
    assert len(addresses) == room + 3


def test_a_small_lan_is_filled_from_its_first_address() -> None:
    config = ClusterConfig(nodes=3, lan="172.30.0.0/28")
    network = config.primary
    addresses = [network.gateway, network.control_plane, network.outside]
    addresses += [address for name in config.node_names for address in config.node_addresses(name)]
    assert addresses == [f"172.30.0.{number}" for number in range(1, 7)]


def _versions(networks: tuple[FamilyNetwork, ...]) -> list[int]:
    return [network.version for network in networks]


@pytest.mark.parametrize(
    ("options", "versions"),
    [
        ({}, [4]),
        ({"ip_family": "ipv6"}, [6]),
        ({"ip_family": "dual"}, [4, 6]),
        ({"ip_family": "dual", "service_cidr": "fd00:1::/112,10.0.0.0/16"}, [6, 4]),
        (
            {"ip_family": "dual", "lan": "172.30.0.0/24,FD00::/64", "pod_cidr": "10.0.0.0/16,fd01::/48"},
            [4, 6],
        ),
    ],
)
def test_the_first_range_is_that_of_the_primary_family(options: dict, versions: list[int]) -> None:
    config = ClusterConfig(**options)
    assert _versions(config.networks) == versions
    assert ClusterConfig(**options | {"lan": config.lan}) == config, "a default that is spelled out"


def test_a_cluster_of_an_earlier_release_is_loaded(tmp_path: Path) -> None:
    folder = state.StateFolder(tmp_path)
    folder.state_file.write_text(
        '{"config": {"name": "buoy", "nodes": 2, "lan": "192.168.1.0/24", "pod_cidr": "10.244.0.0/16",'
        ' "service_cidr": "10.96.0.0/12", "proxy_mode": "iptables", "stand_in_images": false,'
        ' "uplink": true}, "pid": 1, "started": 2, "api_port": 6443}'
    )
    running = state.load(folder)
    assert running
    assert running.config == ClusterConfig(nodes=2)
    dual = state.Running(ClusterConfig(ip_family="dual"), 1, 2, 6443)
    state.save(folder, dual)
    assert state.load(folder) == dual


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Upper"}, "--name 'Upper': a cluster name is up to 32"),
        ({"nodes": 0}, "--nodes: a cluster has at least one node"),
        ({"nodes": 121}, "--nodes 121: --lan 192.168.1.0/24 has room for 120"),
        ({"nodes": 4, "lan": "10.0.0.0/29"}, "--nodes 4: --lan 10.0.0.0/29 has room for 3"),
        ({"lan": "192.168.1.7/24"}, "--lan '192.168.1.7/24': 192.168.1.7/24 has host bits set"),
        ({"lan": "lan"}, "--lan 'lan': "),
        ({"lan": "10.96.0.0/24"}, "--lan 10.96.0.0/24 and --service-cidr 10.96.0.0/12 overlap"),
        ({"pod_cidr": "10.244.0.0/23", "nodes": 3}, "--pod-cidr 10.244.0.0/23: too small for 3 nodes"),
        ({"service_cidr": "10.96.0.0/29"}, "--service-cidr 10.96.0.0/29: at least a /28 is needed"),
        ({"proxy_mode": "ipvs"}, "--proxy-mode 'ipvs': choose one of iptables"),
        ({"ip_family": "ipv5"}, "--ip-family 'ipv5': choose one of ipv4, ipv6, dual"),
        ({"lan": "fd00::/64"}, "--lan fd00::/64: --ip-family ipv4 takes one IPv4 range"),
        (
            {"ip_family": "ipv6", "pod_cidr": "10.0.0.0/16"},
            "--pod-cidr 10.0.0.0/16: --ip-family ipv6 takes one IPv6 range",
        ),
        (
            {"ip_family": "dual", "service_cidr": "fd00::/112"},
            "--service-cidr fd00::/112: --ip-family dual takes one IPv4 range and one IPv6 range",
        ),
        (
            {"ip_family": "dual", "service_cidr": "fd00::/112,fd01::/112"},
            "--service-cidr fd00::/112,fd01::/112: --ip-family dual takes one IPv4",
        ),
        (
            {"ip_family": "dual", "lan": "10.0.0.0/24,fd00::/64", "pod_cidr": "fd01::/56,10.1.0.0/16"},
            "--lan and --pod-cidr: the primary IP family has to come first in each",
        ),
        (
            {"ip_family": "ipv6", "lan": "fd00:10:96::/64"},
            "--lan fd00:10:96::/64 and --service-cidr fd00:10:96::/112 overlap",
        ),
        (
            {"ip_family": "dual", "pod_cidr": "10.244.0.0/16,fd01::/63", "nodes": 3},
            "--pod-cidr fd01::/63: too small for 3 nodes, each of which takes a /64",
        ),
        (
            {"ip_family": "ipv6", "service_cidr": "fd00::/125"},
            "--service-cidr fd00::/125: at least a /124 is needed",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_option(options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        ClusterConfig(**options)
    assert str(refusal.value).startswith(message)
