"""The node agent: runs the Pods that are bound to its node, through a CRI runtime, and says how they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

# gRPC reads this once, when it is first imported. Whoever forks beside a kubelet does so to run another
# program; gRPC's own care for forks would stop its threads each time.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a kubelet. *kubeconfig* is all it knows of the control plane.

    *cgroup_root* is the cgroup below which those of Pods are made, ``""`` for the hierarchy's root. With
    *tls_cert* and *tls_key* unset there is no server, so no logs and no exec. *containerd_namespace* is where
    the runtime keeps the containers whose events are followed.
    """

    kubeconfig: str
    node_name: str
    node_ips: tuple[str, ...]
    runtime_endpoint: str = "/run/containerd/containerd.sock"
    root_dir: str = "/var/lib/kubelet"
    pod_logs_dir: str = "/var/log/pods"
    cluster_dns: tuple[str, ...] = ("10.96.0.10",)
    cluster_domain: str = "cluster.local"
    resolv_conf: str = "/etc/resolv.conf"
    tls_cert: str = ""
    tls_key: str = ""
    client_ca: str = ""
    port: int = 10250
    cgroup_root: str = ""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    max_pods: int = 110
    containerd_namespace: str = "k8s.io"
    lease_duration_seconds: int = 40
    container_log_max_size: int = 10 * 1024 * 1024
    container_log_max_files: int = 5


async def run(options: Options) -> None:
    """Be the node's agent until cancelled. Pods go on running afterwards; the next agent finds them."""
    from .agent import Kubelet

    await Kubelet(options).run()
