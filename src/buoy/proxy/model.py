"""What a node does for each Service: the decision, free of the API and of the kernel.

One `Ruleset` is for one address family; a dual-stack node has two. `plan.py` makes it, a backend
(`backend.py`) puts it into the kernel.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal, NamedTuple


class Family(enum.StrEnum):
    """An address family, by the name that the Service API gives it."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"

    @classmethod
    def of(cls, address: str) -> Family:
        """The family of an address or CIDR."""
        return cls.IPV6 if ":" in address else cls.IPV4

    @property
    def bits(self) -> int:
        """Length of a host prefix: 32 or 128."""
        return 128 if self is Family.IPV6 else 32


class PortName(NamedTuple):
    """One port of one Service. *service* is ``namespace/name``, *protocol* TCP, UDP or SCTP."""

    service: str
    port: str
    protocol: str

    def __str__(self) -> str:
        """As kube-proxy writes it: ``default/web:http``, or ``default/web`` for a port without a name."""
        return f"{self.service}:{self.port}" if self.port else self.service


class Destination(NamedTuple):
    """Where packets end: an endpoint's address and port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


Fate = Literal["balance", "reject", "drop"]
"""What becomes of a new connection. *drop* is for a Local policy whose endpoints are all elsewhere, so that a
load balancer tries another node; *reject* is for a Service with no endpoint anywhere."""


@dataclass(frozen=True, slots=True)
class PortRules:
    """What a node does for one Service port, in one family.

    *cluster* and *local* are the endpoints in use under either traffic policy, sorted; *usable* says whether
    any endpoint anywhere could serve; *serving* are the endpoints whose running UDP flows are left alone.
    *load_balancer_ips* are those whose packets arrive with that destination (ipMode VIP); *source_ranges*
    limit who may reach them. Zero for *node_port*, *affinity_seconds*: none.
    """

    name: PortName
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    internal_local: bool = False
    external_local: bool = False
    affinity_seconds: int = 0
    health_check_node_port: int = 0
    cluster: tuple[Destination, ...] = ()
    local: tuple[Destination, ...] = ()
    usable: bool = False
    serving: tuple[Destination, ...] = ()

    @property
    def externally_accessible(self) -> bool:
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)

    @property
    def uses_cluster(self) -> bool:
        """Whether *cluster* matters. A Local external policy needs it too, for the node's own traffic."""
        return not self.internal_local or self.externally_accessible

    @property
    def uses_local(self) -> bool:
        return self.internal_local or (self.external_local and self.externally_accessible)

    @property
    def internal_fate(self) -> Fate:
        """Of a connection to the cluster IP."""
        if not self.usable:
            return "reject"
        return "drop" if self.internal_local and not self.local else "balance"

    @property
    def external_fate(self) -> Fate:
        """Of a connection from outside to a node port, an external IP or a load balancer's address.

        With a Local policy the node's own traffic and that of its Pods is balanced over *cluster* even where
        this says drop.
        """
        if not self.usable:
            return "reject"
        return "drop" if self.external_local and not self.local else "balance"

    @property
    def firewalled(self) -> bool:
        return bool(self.source_ranges and self.load_balancer_ips)

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """All endpoints that this node may send packets to, each once, sorted."""
        if not self.uses_local:
            return self.cluster
        if not self.uses_cluster:
            return self.local
        return tuple(sorted({*self.cluster, *self.local}))


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for all Services on this node, in one family.

    *local_cidr* are the addresses of Pods (the cluster's or this node's): others that use a cluster IP are
    masqueraded; empty: nobody is. *node_port_addresses* are the node's addresses that serve node ports; None:
    all of them. *masquerade_bit* is the bit of the packet mark that asks for masquerading.
    """

    family: Family
    node_ips: tuple[str, ...] = ()
    local_cidr: str = ""
    masquerade_all: bool = False
    masquerade_bit: int = 14
    node_port_addresses: tuple[str, ...] | None = None
    localhost_node_ports: bool = True
    tcp_be_liberal: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.masquerade_bit <= 31:
            raise ValueError(f"masquerade bit {self.masquerade_bit}: must be within 0 and 31")
        if self.local_cidr and Family.of(str(ip_network(self.local_cidr))) is not self.family:
            raise ValueError(f"{self.local_cidr} is no {self.family} range")


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All that one node does for Services in one family."""

    settings: Settings
    ports: Mapping[PortName, PortRules]


class Change(NamedTuple):
    """What a Service port was and is to be; None: it is not there."""

    old: PortRules | None
    new: PortRules | None


Changes = Mapping[PortName, Change]
