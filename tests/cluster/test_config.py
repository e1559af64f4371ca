from __future__ import annotations

import pytest

from buoy.cluster.config import ClusterConfig, ConfigError


def test_addresses_follow_from_the_lan() -> None:
    config = ClusterConfig(nodes=3)
    assert config.gateway == "192.168.1.1"
    assert config.control_plane == "192.168.1.10"
    assert config.outside == "192.168.1.200"
    assert [config.node_address(name) for name in config.node_names] == [
        "192.168.1.80",
        "192.168.1.81",
        "192.168.1.82",
    ]
    assert config.kubernetes_service == "10.96.0.1"
    assert config.cluster_dns == ("10.96.0.10",)


def test_a_small_lan_is_filled_from_its_first_address() -> None:
    config = ClusterConfig(nodes=3, lan="172.30.0.0/28")
    addresses = [config.gateway, config.control_plane, config.outside]
    addresses += [config.node_address(name) for name in config.node_names]
    assert addresses == [f"172.30.0.{number}" for number in range(1, 7)]


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
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_option(options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        ClusterConfig(**options)
    assert str(refusal.value).startswith(message)
