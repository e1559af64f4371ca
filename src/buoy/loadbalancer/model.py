"""The configuration of the load balancer, whatever form it was written in: complete, checked, and plain.

Names and meanings are those of MetalLB's custom resources; what a field says there holds here, with
references resolved and defaults filled in. Nodes, Services and namespaces are selected by labels, so that
nothing here changes with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, NamedTuple

from buoy.api.selectors import Selector

Address = IPv4Address | IPv6Address

Selectors = tuple[Selector, ...]
"""Alternatives: one of them has to match."""

Source = Literal["IPAddressPool", "ConfigMap", "Eip"]
"""The form that a pool was written in. An Eip is for Services that ask for OpenELB, the rest for others."""

Protocol = Literal["", "layer2", "bgp"]


def selects(selectors: Selectors, labels: Mapping[str, str]) -> bool:
    """Whether any of *selectors* matches, or there are none."""
    return not selectors or any(selector.matches(labels) for selector in selectors)


class Range(NamedTuple):
    """Addresses of one family as numbers, both ends included."""

    first: int
    last: int

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.first <= number <= self.last

    @property
    def size(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Pool:
    """Addresses to give out.

    They are given out in the order of *ipv4* and *ipv6*, which is that of the configuration. A pool is
    *pinned* if it is for some Services only: those of *namespaces* or of namespaces that
    *namespace_selectors* match, and that *service_selectors* match; of the pinned pools that fit a Service,
    the one of the lowest *priority* comes first, 0 last. Of a *closed* pool nothing more is given. *protocol*
    is how it is announced, empty if its form leaves that to the advertisements.
    """

    name: str
    source: Source = "IPAddressPool"
    ipv4: tuple[Range, ...] = ()
    ipv6: tuple[Range, ...] = ()
    auto_assign: bool = True
    avoid_buggy_ips: bool = False
    pinned: bool = False
    priority: int = 0
    namespaces: frozenset[str] = frozenset()
    namespace_selectors: Selectors = ()
    service_selectors: Selectors = ()
    closed: bool = False
    protocol: Protocol = ""

    def ranges(self, version: int) -> tuple[Range, ...]:
        """Those of IP version 4 or 6."""
        return self.ipv6 if version == 6 else self.ipv4

    def __contains__(self, address: object) -> bool:
        """Whether *address* may be given out of this pool."""
        if not isinstance(address, IPv4Address | IPv6Address):
            return False
        if self.avoid_buggy_ips and is_buggy(address.version, int(address)):
            return False
        return any(int(address) in part for part in self.ranges(address.version))


def is_buggy(version: int, number: int) -> bool:
    """IPv4 addresses that end in .0 or .255, which old equipment takes for those of a network."""
    return version == 4 and number & 0xFF in (0, 0xFF)


class Preference(NamedTuple):
    """Nodes that *selector* matches are preferred by *weight*, 1 to 100; the weights of a node add up."""

    weight: int
    selector: Selector


@dataclass(frozen=True, slots=True)
class Layer2Advertisement:
    """One node that is allowed to answers ARP and NDP for the addresses of *pools*.

    No *node_selectors*: every node; no *interfaces*: all of a node's; no *service_selectors*: every Service.
    """

    name: str
    pools: frozenset[str]
    node_selectors: Selectors = ()
    interfaces: tuple[str, ...] = ()
    service_selectors: Selectors = ()
    preferred_nodes: tuple[Preference, ...] = ()


@dataclass(frozen=True, slots=True)
class BgpAdvertisement:
    """Nodes announce the addresses of *pools* to BGP peers.

    *peers* are the names of all that get it. *communities* are ``a:b`` or ``large:a:b:c``, aliases resolved,
    sorted. *local_pref* is for peers of the same AS, 0 for none.
    """

    name: str
    pools: frozenset[str]
    node_selectors: Selectors = ()
    service_selectors: Selectors = ()
    peers: frozenset[str] = frozenset()
    aggregation_length: int = 32
    aggregation_length_v6: int = 128
    local_pref: int = 0
    communities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BfdProfile:
    """Bidirectional Forwarding Detection (RFC 5880); intervals in ms, None: the speaker's default."""

    name: str
    receive_interval: int | None = None
    transmit_interval: int | None = None
    detect_multiplier: int | None = None
    echo_interval: int | None = None
    echo_mode: bool = False
    passive_mode: bool = False
    minimum_ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """A router that speakers connect to, from every node that *node_selectors* match.

    It has an *address* or is found on an *interface*; its AS is *peer_asn*, or whatever it says it is,
    within *dynamic_asn*. Times are whole seconds, None: the speaker's default. *password* is the TCP MD5
    key, read from its Secret if need be. *passive* peers (OpenELB's) connect to us. *multihop_ttl*: 0 for
    the speaker's default.
    """

    name: str
    my_asn: int
    peer_asn: int = 0
    dynamic_asn: Literal["", "internal", "external"] = ""
    local_asn: int = 0
    address: str = ""
    interface: str = ""
    port: int = 179
    source_address: str = ""
    hold_time: int | None = None
    keepalive_time: int | None = None
    connect_time: int | None = None
    router_id: str = ""
    node_selectors: Selectors = ()
    password: str = field(default="", repr=False)
    bfd: BfdProfile | None = None
    graceful_restart: bool = False
    ebgp_multihop: bool = False
    multihop_ttl: int = 0
    vrf: str = ""
    disable_mp: bool = False
    dual_stack_address_family: bool = False
    passive: bool = False

    @property
    def is_internal(self) -> bool:
        """iBGP: the peer's AS is ours."""
        return self.dynamic_asn == "internal" or self.peer_asn == self.my_asn


@dataclass(frozen=True, slots=True)
class Config:
    """All of it. Names are unique within each part, and each part is sorted by name.

    Pools do not overlap; whatever names a pool, a peer or a profile names one that is here. *listen_port*
    (OpenELB's) is where BGP peers may connect to, 0 for nowhere.
    """

    pools: tuple[Pool, ...] = ()
    layer2: tuple[Layer2Advertisement, ...] = ()
    bgp: tuple[BgpAdvertisement, ...] = ()
    peers: tuple[Peer, ...] = ()
    bfd_profiles: tuple[BfdProfile, ...] = ()
    listen_port: int = 0

    def pool(self, name: str) -> Pool | None:
        return next((pool for pool in self.pools if pool.name == name), None)

    def pool_of(self, addresses: Iterable[Address]) -> Pool | None:
        """The pool that has all of *addresses*."""
        wanted = list(addresses)
        return next((pool for pool in self.pools if all(each in pool for each in wanted)), None)
