"""Where cluster DNS is found: one address, which every node has for itself, and the Service that shows it.

The address is local to the node that asks, and packets to it take no part in connection tracking: no rule of
a proxy, no host port and no external IP comes between a client and its own node's server, and none is needed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from ..api.meta import Object
from ..api.resource import ENDPOINT_SLICES, SERVICES
from ..client import Client
from .seeding import create

METRICS_PORT = 9153

_NAMESPACE = "kube-system"
_NAME = "kube-dns"
_NOT_FOR_PROXIES = {"service.kubernetes.io/service-proxy-name": "buoy-dns"}
_PORTS = [
    {"name": "dns", "port": 53, "protocol": "UDP"},
    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    {"name": "metrics", "port": METRICS_PORT, "protocol": "TCP"},
]


def install(addresses: Iterable[str]) -> None:
    """In a node's network namespace: give it *addresses*. Blocks."""
    addresses = tuple(addresses)
    commands = "".join(f"addr add {address} dev lo\n" for address in addresses)
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)
    subprocess.run(["nft", "-f", "-"], input=rules(addresses), text=True, check=True)


def rules(addresses: Iterable[str]) -> str:
    """An nftables script: packets to and from *addresses* are not tracked, so nothing translates them."""
    untracked = " ".join(
        f"{'ip6' if ':' in address else 'ip'} {end} {address} notrack;"
        for address in addresses
        for end in ("saddr", "daddr")
    )
    return f"""
table inet buoy-dns {{
  chain prerouting {{ type filter hook prerouting priority raw; {untracked} }}
  chain output {{ type filter hook output priority raw; {untracked} }}
}}
"""


async def reserve(client: Client, addresses: tuple[str, ...]) -> None:
    """Make the Service of cluster DNS unless it is there. Raises StatusError and ConnectionFailed."""
    wanted = [(SERVICES, service(addresses))]
    wanted += [(ENDPOINT_SLICES, endpoint_slice(address)) for address in addresses]
    for resource, obj in wanted:
        await create(client, resource, obj)


def service(addresses: tuple[str, ...]) -> Object:
    """The Service: as in other clusters, but labelled so that proxies leave it to the servers themselves."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": _NAME,
            "namespace": _NAMESPACE,
            "labels": {"k8s-app": _NAME, "kubernetes.io/cluster-service": "true", **_NOT_FOR_PROXIES},
            "annotations": {"prometheus.io/port": str(METRICS_PORT), "prometheus.io/scrape": "true"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": addresses[0],
            "clusterIPs": list(addresses),
            "ipFamilyPolicy": "SingleStack" if len(addresses) == 1 else "RequireDualStack",
            "ports": _PORTS,
        },
    }


def endpoint_slice(address: str) -> Object:
    """Its endpoint of one family: whoever connects to it reaches the server of the own node."""
    family = "IPv6" if ":" in address else "IPv4"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{_NAME}-{family.lower()}",
            "namespace": _NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": _NAME,
                "endpointslice.kubernetes.io/managed-by": "buoy",
                **_NOT_FOR_PROXIES,
            },
        },
        "addressType": family,
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": _PORTS,
    }
