"""What a configuration may say: the specs of MetalLB's custom resources, by their fields and defaults.

Source: MetalLB's API reference, metallb.io/v1beta1 and v1beta2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from .problems import SPEC, Path


class Expression(msgspec.Struct):
    key: str
    operator: str
    values: list[str] | None = None


class LabelSelector(msgspec.Struct, rename="camel", omit_defaults=True):
    match_labels: dict[str, str] | None = None
    match_expressions: list[Expression] | None = None


Selectors = list[LabelSelector] | None


class ServiceAllocation(msgspec.Struct, rename="camel"):
    priority: int = 0
    namespaces: list[str] | None = None
    namespace_selectors: Selectors = None
    service_selectors: Selectors = None


class Pool(msgspec.Struct, rename="camel"):
    addresses: list[str]
    auto_assign: bool | None = None
    avoid_buggy_ips: bool = msgspec.field(default=False, name="avoidBuggyIPs")
    service_allocation: ServiceAllocation | None = None


class PreferredNode(msgspec.Struct, rename="camel"):
    weight: int
    preference: LabelSelector


class L2Advertisement(msgspec.Struct, rename="camel"):
    ip_address_pools: list[str] | None = None
    ip_address_pool_selectors: Selectors = None
    node_selectors: Selectors = None
    interfaces: list[str] | None = None
    service_selectors: Selectors = None
    preferred_node_selectors: list[PreferredNode] | None = None


class BGPAdvertisement(msgspec.Struct, rename="camel"):
    aggregation_length: int = 32
    aggregation_length_v6: int = 128
    local_pref: int = 0
    communities: list[str] | None = None
    ip_address_pools: list[str] | None = None
    ip_address_pool_selectors: Selectors = None
    node_selectors: Selectors = None
    service_selectors: Selectors = None
    peers: list[str] | None = None


class SecretReference(msgspec.Struct):
    name: str = ""
    namespace: str = ""


class Peer(msgspec.Struct, rename="camel"):
    my_asn: int = msgspec.field(default=0, name="myASN")
    peer_asn: int = msgspec.field(default=0, name="peerASN")
    dynamic_asn: str = msgspec.field(default="", name="dynamicASN")
    local_asn: int = msgspec.field(default=0, name="localASN")
    peer_address: str = ""
    interface: str = ""
    peer_port: int = 179
    source_address: str = ""
    hold_time: str | None = None
    keepalive_time: str | None = None
    connect_time: str | None = None
    router_id: str = msgspec.field(default="", name="routerID")
    node_selectors: Selectors = None
    password: str = ""
    password_secret: SecretReference | None = None
    bfd_profile: str = ""
    enable_graceful_restart: bool = False
    ebgp_multi_hop: bool = False
    vrf: str = ""
    disable_mp: bool = msgspec.field(default=False, name="disableMP")
    dual_stack_address_family: bool = False


class BFDProfile(msgspec.Struct, rename="camel"):
    receive_interval: int | None = None
    transmit_interval: int | None = None
    detect_multiplier: int | None = None
    echo_interval: int | None = None
    echo_mode: bool | None = None
    passive_mode: bool | None = None
    minimum_ttl: int | None = None


class CommunityAlias(msgspec.Struct):
    name: str
    value: str


class Community(msgspec.Struct):
    communities: list[CommunityAlias] | None = None


Spec = TypeVar("Spec")


@dataclass(frozen=True, slots=True)
class Declared(Generic[Spec]):
    """A spec with where it stands: its object, and its place there. *labels* are what selectors look at."""

    kind: str
    object_name: str
    name: str
    spec: Spec
    path: Path = SPEC
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Declarations:
    """All that one form declares, before it is checked."""

    pools: list[Declared[Pool]] = field(default_factory=list)
    l2_advertisements: list[Declared[L2Advertisement]] = field(default_factory=list)
    bgp_advertisements: list[Declared[BGPAdvertisement]] = field(default_factory=list)
    peers: list[Declared[Peer]] = field(default_factory=list)
    bfd_profiles: list[Declared[BFDProfile]] = field(default_factory=list)
    communities: list[Declared[Community]] = field(default_factory=list)


def to_object(selector: LabelSelector) -> dict[str, Any]:
    """The ``LabelSelector`` as the API writes it."""
    found: dict[str, Any] = msgspec.to_builtins(selector)
    return found
