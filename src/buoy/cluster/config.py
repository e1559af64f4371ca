"""What a local cluster is asked to be, and the addresses that follow from it. Pure."""

from __future__ import annotations

import ipaddress
import itertools
import re
from dataclasses import dataclass
from typing import Literal

PROXY_MODES = ("iptables",)

API_PORT = 6443

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Version = Literal[4, 6]

_VERSIONS: dict[str, tuple[Version, ...]] = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}
IP_FAMILIES = tuple(_VERSIONS)

_RANGES: dict[str, tuple[str, dict[Version, str]]] = {
    "lan": ("--lan", {4: "192.168.1.0/24", 6: "fd00:192:168:1::/64"}),
    "pod_cidr": ("--pod-cidr", {4: "10.244.0.0/16", 6: "fd00:10:244::/56"}),
    "service_cidr": ("--service-cidr", {4: "10.96.0.0/12", 6: "fd00:10:96::/112"}),
}
"""The option of each field that names ranges, and what it is if nobody says otherwise."""

_NODE_MASK: dict[Version, int] = {4: 24, 6: 64}
"""The size of a node's Pod range, as node IPAM gives them out."""

_SMALLEST_SERVICE_RANGE = {4: 28, 6: 124}


class ConfigError(ValueError):
    """A wish that cannot be granted; the message says which option and why."""


@dataclass(frozen=True, slots=True)
class FamilyNetwork:
    """A cluster's ranges in one IP family, and who has which address of them.

    On a LAN of at least 256 addresses: gateway .1, control plane .10, nodes from .80, outside machine .200.
    On a smaller one they follow one another from the first address. In IPv6 the numbers are the same to the
    eye, ::1, ::10, ::80 and ::200, for which a LAN has to have 1024 addresses.
    """

    lan: Network
    pods: Network
    services: Network

    @property
    def version(self) -> Version:
        return self.lan.version

    def on_lan(self, address: str) -> str:
        """*address* with the length of the LAN's prefix, as ip-address(8) takes it."""
        return f"{address}/{self.lan.prefixlen}"

    @property
    def _wide(self) -> bool:
        return self.lan.num_addresses >= (256 if self.version == 4 else 1024)

    @property
    def room_for_nodes(self) -> int:
        return min(120, self.lan.num_addresses - 5)

    @property
    def gateway(self) -> str:
        return self._host(1, 1)

    @property
    def control_plane(self) -> str:
        return self._host(10, 2)

    @property
    def outside(self) -> str:
        return self._host(200, 3)

    def node(self, index: int) -> str:
        """The address of the node that has *index* nodes before it."""
        return self._host(80 + index, 4 + index)

    def _host(self, number: int, small: int) -> str:
        """Host *number*, or *small* on a small LAN."""
        if not self._wide:
            return str(self.lan[small])
        return str(self.lan[number if self.version == 4 else int(str(number), 16)])

    @property
    def kubernetes_service(self) -> str:
        """The Service range's first address, the ClusterIP of the ``kubernetes`` Service."""
        return str(self.services[1])

    @property
    def cluster_dns(self) -> str:
        """The tenth address of the Service range, where cluster DNS answers."""
        return str(self.services[10])


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """A local cluster. Addresses are fixed by the options alone, so every start gives the same ones.

    *lan*, *pod_cidr* and *service_cidr* are one range or, of a dual-stack cluster, two with a comma between
    them, that of the primary IP family first. Left empty, they become the defaults. *load_balancer* are
    addresses that the load balancer gives out from the start, CIDRs and ranges with commas between them;
    empty: it waits to be told; ``none``: there is none.
    """

    name: str = "buoy"
    nodes: int = 3
    ip_family: str = "ipv4"
    lan: str = ""
    pod_cidr: str = ""
    service_cidr: str = ""
    proxy_mode: str = "iptables"
    stand_in_images: bool = False
    uplink: bool = True
    load_balancer: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", self.name):
            raise ConfigError(
                f"--name {self.name!r}: a cluster name is up to 32 lower-case letters, digits and dashes"
            )
        for option, value, choices in (
            ("--proxy-mode", self.proxy_mode, PROXY_MODES),
            ("--ip-family", self.ip_family, IP_FAMILIES),
        ):
            if value not in choices:
                raise ConfigError(f"{option} {value!r}: choose one of {', '.join(choices)}")
        for field, networks in self._complete().items():
            object.__setattr__(self, field, ",".join(map(str, networks)))
        if self.nodes < 1:
            raise ConfigError("--nodes: a cluster has at least one node")
        for network in self.networks:
            _check(network, self.nodes)
        if self.load_balancer and self.has_load_balancer:
            _check_pool(self.load_balancer, self.networks)

    def _complete(self) -> dict[str, list[Network]]:
        """What each field of ranges is: as given, or the defaults in the order of what is given."""
        given = {
            field: _parse(option, getattr(self, field), self.ip_family)
            for field, (option, _) in _RANGES.items()
            if getattr(self, field)
        }
        orders = {tuple(network.version for network in networks) for networks in given.values()}
        if len(orders) > 1:
            options = " and ".join(_RANGES[field][0] for field in given)
            raise ConfigError(f"{options}: the primary IP family has to come first in each")
        order = orders.pop() if orders else _VERSIONS[self.ip_family]
        defaults = {
            field: [ipaddress.ip_network(ranges[version]) for version in order]
            for field, (_, ranges) in _RANGES.items()
        }
        return defaults | given

    @property
    def has_load_balancer(self) -> bool:
        return self.load_balancer != "none"

    @property
    def context(self) -> str:
        """The kubeconfig context: ``buoy``, or ``buoy-NAME``."""
        return "buoy" if self.name == "buoy" else f"buoy-{self.name}"

    @property
    def networks(self) -> tuple[FamilyNetwork, ...]:
        """One of each IP family that the cluster has, the primary one first."""
        ranges = (map(ipaddress.ip_network, getattr(self, field).split(",")) for field in _RANGES)
        return tuple(FamilyNetwork(*of_family) for of_family in zip(*ranges, strict=True))

    @property
    def primary(self) -> FamilyNetwork:
        return self.networks[0]

    @property
    def pod_cidrs(self) -> tuple[str, ...]:
        return tuple(self.pod_cidr.split(","))

    @property
    def service_cidrs(self) -> tuple[str, ...]:
        return tuple(self.service_cidr.split(","))

    @property
    def node_names(self) -> tuple[str, ...]:
        return tuple(f"node-{number}" for number in range(1, self.nodes + 1))

    def node_addresses(self, node: str) -> tuple[str, ...]:
        index = self.node_names.index(node)
        return tuple(network.node(index) for network in self.networks)

    @property
    def cluster_dns(self) -> tuple[str, ...]:
        """The tenth address of each Service range, where cluster DNS answers."""
        return tuple(network.cluster_dns for network in self.networks)


def _parse(option: str, text: str, ip_family: str) -> list[Network]:
    try:
        networks = [ipaddress.ip_network(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: {error}") from error
    versions = _VERSIONS[ip_family]
    if sorted(network.version for network in networks) != list(versions):
        wanted = " and ".join(f"one IPv{version} range" for version in versions)
        raise ConfigError(f"{option} {text}: --ip-family {ip_family} takes {wanted}")
    return networks


def _check(network: FamilyNetwork, nodes: int) -> None:
    """Raises ConfigError for ranges that do not fit one another, or the number of nodes."""
    lan, pods, services = network.lan, network.pods, network.services
    named = list(zip((option for option, _ in _RANGES.values()), (lan, pods, services), strict=True))
    for (option, one), (other_option, other) in itertools.combinations(named, 2):
        if one.overlaps(other):
            raise ConfigError(f"{option} {one} and {other_option} {other} overlap")
    if nodes > network.room_for_nodes:
        raise ConfigError(f"--nodes {nodes}: --lan {lan} has room for {network.room_for_nodes}")
    mask = _NODE_MASK[network.version]
    if pods.prefixlen > mask or 2 ** (mask - pods.prefixlen) < nodes:
        raise ConfigError(f"--pod-cidr {pods}: too small for {nodes} nodes, each of which takes a /{mask}")
    smallest = _SMALLEST_SERVICE_RANGE[network.version]
    if services.prefixlen > smallest:
        raise ConfigError(f"--service-cidr {services}: at least a /{smallest} is needed")


def _check_pool(pool: str, networks: tuple[FamilyNetwork, ...]) -> None:
    from ..loadbalancer.config.addresses import parse

    for part in pool.split(","):
        try:
            span = parse(part.strip())
        except ValueError as error:
            raise ConfigError(f"--load-balancer {part.strip()!r}: {error}") from error
        if all(span.version != network.version for network in networks):
            raise ConfigError(f"--load-balancer {part.strip()!r}: the cluster has no IPv{span.version}")
