"""kube-proxy: Services and EndpointSlices become packet rules of this node's kernel.

`plan` decides, purely; a `backend` brings the kernel there; `run` ties them to the API.
"""

from __future__ import annotations

from dataclasses import dataclass

MODES = ("iptables",)


@dataclass(frozen=True, slots=True)
class Options:
    """How to run the proxy of one node, in the network namespace of the caller.

    *node_ips* are read from the Node if not given. *cluster_cidrs* are the addresses of all Pods, at most one
    a family; without, those of this node's Pods (``spec.podCIDRs``) count as local. *families* are those to
    serve. *node_port_addresses* are ranges of this machine's addresses that serve node ports, or ``primary``
    for the node's own; none: all. *min_sync_period* and *sync_period* (how often somebody else's hand in the
    rules is looked for) are seconds. Binds are ``host:port``, empty for none.

    Raises ValueError for values that cannot be.
    """

    kubeconfig: str
    node_name: str
    node_ips: tuple[str, ...] = ()
    mode: str = "iptables"
    families: tuple[str, ...] = ("IPv4",)
    cluster_cidrs: tuple[str, ...] = ()
    masquerade_all: bool = False
    masquerade_bit: int = 14
    node_port_addresses: tuple[str, ...] = ()
    localhost_node_ports: bool = True
    tcp_be_liberal: bool = False
    min_sync_period: float = 0.0
    sync_period: float = 30.0
    metrics_bind: str = "127.0.0.1:10249"
    healthz_bind: str = "0.0.0.0:10256"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"unknown proxy mode {self.mode!r}: must be one of {', '.join(MODES)}")
        if self.sync_period <= 0 or self.min_sync_period < 0:
            raise ValueError("the sync period must be greater than 0, the least one not less than 0")


async def run(options: Options) -> None:
    """Serve for ever."""
    from .process import run as run_proxy

    await run_proxy(options)


__all__ = ["MODES", "Options", "run"]
