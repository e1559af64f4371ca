"""Cluster DNS of one node: Services and EndpointSlices become a zone; all other names are asked upstream.

`records` and `zone` decide what the cluster's names mean, purely; `resolver` turns a question into an answer;
`upstream`, `cache` and `forward` ask others; `server` moves the packets; `process` ties them to the API.

Source: the Kubernetes DNS-Based Service Discovery specification, version 1.1.0.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from .address import Address, parse_address

_LONGEST_DOMAIN = 58  # leaves room for three labels of 63 characters and ``svc``


@dataclass(frozen=True, slots=True)
class Options:
    """How to run the DNS server of one node, in the network namespace of the caller.

    *listen* are ``ip`` or ``ip:port`` (``[ip]:port`` for IPv6; port 53 by default), each served over UDP and
    TCP; an address need not exist yet. *resolv_conf* names the upstream servers, unless the ConfigMap
    *config_map* (``namespace/name``) does. *http_bind*, each ``ip:port``, is where ``/health``, ``/ready``
    and ``/metrics`` are. *node_name* is what events say.

    Raises ValueError for values that cannot be.
    """

    kubeconfig: str
    node_name: str = ""
    cluster_domain: str = "cluster.local"
    listen: tuple[str, ...] = ("10.96.0.10:53",)
    resolv_conf: str = "/etc/resolv.conf"
    config_map: str = "kube-system/buoy-dns"
    http_bind: tuple[str, ...] = ("127.0.0.1:9153",)

    def __post_init__(self) -> None:
        if not self.listen:
            raise ValueError("the DNS server needs an address to listen on")
        if not 0 < len(self.cluster_domain.strip(".")) <= _LONGEST_DOMAIN:
            raise ValueError(f"the cluster domain must have 1 to {_LONGEST_DOMAIN} characters")
        for text in (*self.listen, *self.http_bind):
            parse_address(text)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """*listen*, parsed."""
        return tuple(parse_address(text) for text in self.listen)


async def run(options: Options, sockets: tuple[socket.socket, ...] = ()) -> None:
    """Serve for ever. Raises OSError if an address is taken.

    Who holds *sockets*, of `open_sockets`, open loses no question over a restart: it waits in them.
    """
    from .process import run as run_server

    await run_server(options, sockets)


def open_sockets(options: Options) -> tuple[socket.socket, ...]:
    """The sockets of all addresses to listen on. Raises OSError if one is taken."""
    from .server import open_sockets

    return open_sockets(options.addresses)


__all__ = ["Address", "Options", "open_sockets", "run"]
