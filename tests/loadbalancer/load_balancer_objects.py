"""Services, pools and requests in few words."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from buoy.loadbalancer.model import Address, Pool, Range
from buoy.loadbalancer.request import Port, Request, Sharing, read

Object = dict[str, Any]


def pool(name: str, *addresses: str, **more: Any) -> Pool:
    """A pool of CIDRs and ranges."""
    ranges: dict[int, list[Range]] = {4: [], 6: []}
    for text in addresses:
        first, dash, last = text.partition("-")
        if dash:
            low, high = ip_address(first), ip_address(last)
        else:
            network = ip_network(text)
            low, high = network[0], network[-1]
        ranges[low.version].append(Range(int(low), int(high)))
    return Pool(name, ipv4=tuple(ranges[4]), ipv6=tuple(ranges[6]), **more)


def ips(*texts: str) -> tuple[Address, ...]:
    return tuple(ip_address(text) for text in texts)


def request(name: str, *ports: int, key: str = "", backend: str = "", **more: Any) -> Request:
    """A request of ``default/NAME``, for IPv4 unless *cluster_ips* say otherwise, for port 80 by default."""
    more.setdefault("cluster_ips", ips("10.96.0.1"))
    return Request(
        service=name if "/" in name else f"default/{name}",
        ports=frozenset(Port("TCP", port) for port in ports or (80,)),
        sharing=Sharing(key, backend),
        **more,
    )


IPV6 = ips("fd00::1")
DUAL = ips("10.96.0.1", "fd00::1")


def service(name: str, *, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    """A Service of type LoadBalancer in ``default``, as the API server has it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations or {}},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.1",
            "clusterIPs": ["10.96.0.1"],
            "ipFamilies": ["IPv4"],
            "ports": [{"port": 80, "protocol": "TCP"}],
            "selector": {"app": name},
            **spec,
        },
        "status": {"loadBalancer": {}},
    }


def asked(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> Request:
    """What such a Service asks for."""
    return read(service(name, annotations=annotations, **spec), {})
