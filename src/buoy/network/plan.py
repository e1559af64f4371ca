"""What a node's network should be, from the Node objects. Pure."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass

from ..api import meta
from ..api.meta import Object

CNI_NAME = "buoy"
NFT_TABLE = "buoy-network"

_NO_DUPLICATES: Object = {
    "type": "tuning",
    "sysctl": {"net.ipv6.conf.default.accept_dad": "0"},
    "prevResult": {"cniVersion": "1.0.0"},  # without one, the plugin does not want to be the first
}
"""Nobody else has a Pod's address: to look for duplicates would keep each Pod back for more than a second."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route. No *via*: what no Pod of *destination* takes is unreachable."""

    destination: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """*pod_cidrs* are this node's; *routes* lead to every other node's Pods over the LAN (host-gw)."""

    pod_cidrs: tuple[str, ...]
    routes: frozenset[Route]


def pod_cidrs(node: Object) -> tuple[str, ...]:
    spec = node.get("spec") or {}
    single = (spec["podCIDR"],) if spec.get("podCIDR") else ()
    return tuple(spec.get("podCIDRs") or single)


def internal_addresses(node: Object) -> tuple[str, ...]:
    addresses = (node.get("status") or {}).get("addresses") or ()
    return tuple(entry["address"] for entry in addresses if entry["type"] == "InternalIP")


def plan(nodes: Iterable[Object], node_name: str, cluster_cidrs: Iterable[str]) -> Plan:
    """The network of *node_name*. A node without a Pod range or address yet takes no part.

    What no node has of *cluster_cidrs* ends here: no other machine on the LAN could tell a Pod that there is
    nobody, for want of a route to it.
    """
    own: tuple[str, ...] = ()
    routes = {Route(cidr) for cidr in cluster_cidrs}
    for node in nodes:
        ranges = pod_cidrs(node)
        if meta.name(node) == node_name:
            own = ranges
            routes.update(Route(cidr) for cidr in ranges)
            continue
        for cidr in ranges:
            family = ipaddress.ip_network(cidr).version
            for address in internal_addresses(node):
                if ipaddress.ip_address(address).version == family:
                    routes.add(Route(cidr, address))
                    break
    return Plan(own, frozenset(routes))


def cni_configuration(ranges: Iterable[str]) -> bytes:
    """The CNI network (spec 1.0.0): a veth a Pod, an address of each range, host ports by portmap."""
    cidrs = list(ranges)
    default_routes = [{"dst": "::/0" if _is_ipv6(cidr) else "0.0.0.0/0"} for cidr in cidrs]
    document = {
        "cniVersion": "1.0.0",
        "name": CNI_NAME,
        "plugins": [
            *([_NO_DUPLICATES] if any(map(_is_ipv6, cidrs)) else ()),
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": cidr}] for cidr in cidrs],
                    "routes": default_routes,
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        ],
    }
    return json.dumps(document, indent=1).encode()


def _is_ipv6(cidr: str) -> bool:
    return ipaddress.ip_network(cidr).version == 6


def masquerade_rules(own: Iterable[str], cluster_cidrs: Iterable[str]) -> str:
    """An nftables script: Pod packets that leave the Pod network take the node's address.

    Between Pods nothing is translated. The table is replaced as a whole, in one transaction.
    """
    lines = []
    for family, version in (("ip", 4), ("ip6", 6)):
        sources = [cidr for cidr in own if ipaddress.ip_network(cidr).version == version]
        cluster = [cidr for cidr in cluster_cidrs if ipaddress.ip_network(cidr).version == version]
        if not sources:
            continue
        lines += [
            f"table {family} {NFT_TABLE}",
            f"delete table {family} {NFT_TABLE}",
            f"table {family} {NFT_TABLE} {{",
            "  chain postrouting {",
            "    type nat hook postrouting priority srcnat + 10; policy accept;",
            *(
                f"    {family} saddr {source} {family} daddr != {{ {', '.join(cluster) or source} }} "
                "fib daddr type != local masquerade"
                for source in sources
            ),
            "  }",
            "}",
        ]
    return "\n".join(lines) + "\n"
