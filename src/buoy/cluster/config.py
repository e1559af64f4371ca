"""What a local cluster is asked to be, and the addresses that follow from it. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

PROXY_MODES = ("iptables",)

API_PORT = 6443


class ConfigError(ValueError):
    """A wish that cannot be granted; the message says which option and why."""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """A local cluster. Addresses are fixed by the options alone, so every start gives the same ones.

    On a LAN of at least 256 addresses: gateway .1, control plane .10, nodes from .80, outside machine .200.
    On a smaller one they follow one another from the first address.
    """

    name: str = "buoy"
    nodes: int = 3
    lan: str = "192.168.1.0/24"
    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/12"
    proxy_mode: str = "iptables"
    stand_in_images: bool = False
    uplink: bool = True

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", self.name):
            raise ConfigError(
                f"--name {self.name!r}: a cluster name is up to 32 lower-case letters, digits and dashes"
            )
        if self.proxy_mode not in PROXY_MODES:
            raise ConfigError(f"--proxy-mode {self.proxy_mode!r}: choose one of {', '.join(PROXY_MODES)}")
        networks = {
            option: _network(option, text)
            for option, text in (
                ("--lan", self.lan),
                ("--pod-cidr", self.pod_cidr),
                ("--service-cidr", self.service_cidr),
            )
        }
        options = list(networks)
        for index, option in enumerate(options):
            for other in options[index + 1 :]:
                if networks[option].overlaps(networks[other]):
                    raise ConfigError(f"{option} {networks[option]} and {other} {networks[other]} overlap")
        if self.nodes < 1:
            raise ConfigError("--nodes: a cluster has at least one node")
        room = self._room_for_nodes()
        if self.nodes > room:
            raise ConfigError(f"--nodes {self.nodes}: --lan {self.lan} has room for {room}")
        pods = networks["--pod-cidr"]
        if pods.prefixlen > 24 or 2 ** (24 - pods.prefixlen) < self.nodes:
            raise ConfigError(
                f"--pod-cidr {pods}: too small for {self.nodes} nodes, each of which takes a /24"
            )
        if networks["--service-cidr"].prefixlen > 28:
            raise ConfigError(f"--service-cidr {self.service_cidr}: at least a /28 is needed")

    @property
    def context(self) -> str:
        """The kubeconfig context: ``buoy``, or ``buoy-NAME``."""
        return "buoy" if self.name == "buoy" else f"buoy-{self.name}"

    @property
    def network(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.lan)

    @property
    def _wide(self) -> bool:
        return self.network.prefixlen <= 24

    def _room_for_nodes(self) -> int:
        return 120 if self._wide else self.network.num_addresses - 5

    @property
    def gateway(self) -> str:
        return str(self.network[1])

    @property
    def control_plane(self) -> str:
        return str(self.network[10 if self._wide else 2])

    @property
    def outside(self) -> str:
        return str(self.network[200 if self._wide else 3])

    @property
    def node_names(self) -> tuple[str, ...]:
        return tuple(f"node-{number}" for number in range(1, self.nodes + 1))

    def node_address(self, node: str) -> str:
        first = 80 if self._wide else 4
        return str(self.network[first + self.node_names.index(node)])

    @property
    def kubernetes_service(self) -> str:
        """The ClusterIP of the ``kubernetes`` Service: the range's first address."""
        return str(ipaddress.IPv4Network(self.service_cidr)[1])

    @property
    def cluster_dns(self) -> tuple[str, ...]:
        """The tenth address of each Service range, where cluster DNS answers."""
        return (str(ipaddress.IPv4Network(self.service_cidr)[10]),)


def _network(option: str, text: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: {error}") from error
