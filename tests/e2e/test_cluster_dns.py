"""Cluster DNS as Pods, host-network Pods and nodes use it."""

from __future__ import annotations

import pytest

from local_cluster import LocalCluster, until

pytestmark = pytest.mark.e2e

ADDRESS = "10.96.0.10"
NODES = ("node-1", "node-2", "node-3")


def dig(cluster: LocalCluster, node: str, *question: str) -> list[str]:
    """The answers that a node gets, one a line; none if nobody answers."""
    command = ("dig", f"@{ADDRESS}", "+short", "+tries=1", "+timeout=2", *question)
    return cluster.on_node(node, *command, check=False).stdout.splitlines()


def test_every_node_has_its_own_server(cluster: LocalCluster) -> None:
    for node in NODES:
        for transport in ("+notcp", "+tcp"):
            assert dig(cluster, node, "kubernetes.default.svc.cluster.local", transport) == ["10.96.0.1"]


def test_its_service_is_where_people_look_for_it(cluster: LocalCluster) -> None:
    shown = cluster.kubectl("get", "service", "--namespace", "kube-system", "kube-dns").stdout.split("\n")[1]
    assert shown.split()[:5] == ["kube-dns", "ClusterIP", ADDRESS, "<none>", "53/UDP,53/TCP,9153/TCP"]
    described = cluster.kubectl("describe", "service", "--namespace", "kube-system", "kube-dns").stdout
    assert f"Endpoints:                {ADDRESS}:53\n" in described
    assert dig(cluster, "node-1", "-x", ADDRESS) == ["kube-dns.kube-system.svc.cluster.local."]
    metrics = cluster.on_node("node-3", "curl", "-s", f"{ADDRESS}:9153/metrics").stdout
    assert "buoy_dns_zone_names" in metrics


def test_a_killed_server_comes_back(cluster: LocalCluster) -> None:
    cluster.buoy("kill", "dns", "--node", "node-2")
    until(lambda: dig(cluster, "node-2", "kubernetes.default.svc.cluster.local") == ["10.96.0.1"], within=10)
    assert "serving cluster.local at 10.96.0.10:53" in cluster.buoy("logs", "dns", "--node", "node-2").stdout
