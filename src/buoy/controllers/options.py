"""The settings of the controllers, by the names that kube-controller-manager's flags have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """Times are in seconds, rates in nodes a second.

    *controllers* is a list as in ``--controllers``: ``*`` is all, ``name`` one, ``-name`` all but that one.
    *root_ca_file*, in PEM, is what Pods get to verify the API server with; without it none is published.
    *local_path_nodes* is a folder that has one of each node, whose ``volumes`` the node sees as *local_path*;
    without it nobody provisions local folders.
    """

    kubeconfig: str
    cluster_cidrs: tuple[str, ...] = ()
    service_cidrs: tuple[str, ...] = ()
    node_cidr_mask_size_ipv4: int = 24
    node_cidr_mask_size_ipv6: int = 64
    root_ca_file: str = ""
    local_path_nodes: str = ""
    local_path: str = "/var/lib/local-path-provisioner"
    controllers: tuple[str, ...] = ("*",)
    leader_elect: bool = False
    concurrent_syncs: int = 5
    max_endpoints_per_slice: int = 100
    mirroring_max_endpoints_per_subset: int = 1000
    node_monitor_grace_period: float = 50.0
    node_startup_grace_period: float = 60.0
    node_eviction_rate: float = 0.1
    secondary_node_eviction_rate: float = 0.01
    large_cluster_size_threshold: int = 50
    unhealthy_zone_threshold: float = 0.55
    pod_gc_quarantine: float = 40.0

    def enabled(self, controller: str) -> bool:
        if f"-{controller}" in self.controllers:
            return False
        return controller in self.controllers or "*" in self.controllers
