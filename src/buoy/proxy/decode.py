"""From API objects to the few facts of them that matter here.

Source: the Service and EndpointSlice API (discovery.k8s.io/v1). Absent conditions mean ready, serving and not
terminating.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from buoy.api import meta
from buoy.api.meta import Object

from .model import Family

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"
ZONE_LABEL = "topology.kubernetes.io/zone"

_NO_STRINGS: frozenset[str] = frozenset()


class ServicePort(NamedTuple):
    name: str
    protocol: str
    port: int
    node_port: int


@dataclass(frozen=True, slots=True)
class Service:
    """A Service that has cluster IPs, with all addresses in canonical text and of both families."""

    key: str
    cluster_ips: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    internal_local: bool = False
    external_local: bool = False
    affinity_seconds: int = 0
    health_check_node_port: int = 0


class Endpoint(NamedTuple):
    address: str
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""
    zone_hints: frozenset[str] = _NO_STRINGS
    node_hints: frozenset[str] = _NO_STRINGS


class SlicePort(NamedTuple):
    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Slice:
    """An EndpointSlice. *service* is ``namespace/name``; *triggered* is the Unix time of the change that led
    to this version of it, 0 if unknown."""

    key: str
    service: str
    family: Family
    ports: tuple[SlicePort, ...]
    endpoints: tuple[Endpoint, ...]
    triggered: float = 0.0


@dataclass(frozen=True, slots=True)
class Node:
    """The node that this proxy serves."""

    name: str
    ips: tuple[str, ...] = ()
    pod_cidrs: tuple[str, ...] = ()
    zone: str = ""


def service(obj: Object) -> Service | None:
    """The facts of a Service, or None if it has no cluster IP (headless, ExternalName) or another proxy."""
    spec = obj["spec"]
    if PROXY_NAME_LABEL in meta.labels(obj) or spec.get("type") == "ExternalName":
        return None
    cluster_ips = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    if cluster_ips[0] in ("", "None"):
        return None
    kind = spec.get("type") or "ClusterIP"
    external_ips = _addresses(spec.get("externalIPs"))
    external_local = spec.get("externalTrafficPolicy") == "Local" and (
        kind in ("NodePort", "LoadBalancer") or bool(external_ips)
    )
    balanced = kind == "LoadBalancer"
    ingress = (obj.get("status", {}).get("loadBalancer") or {}).get("ingress") or () if balanced else ()
    return Service(
        key=meta.key(obj),
        cluster_ips=_addresses(cluster_ips),
        ports=tuple(
            ServicePort(
                sys.intern(port.get("name") or ""),
                sys.intern(port.get("protocol") or "TCP"),
                port["port"],
                port.get("nodePort") or 0,
            )
            for port in spec.get("ports") or ()
        ),
        external_ips=external_ips,
        load_balancer_ips=_addresses(
            entry["ip"] for entry in ingress if entry.get("ip") and entry.get("ipMode", "VIP") == "VIP"
        ),
        source_ranges=_ranges(spec.get("loadBalancerSourceRanges")) if balanced else (),
        internal_local=spec.get("internalTrafficPolicy") == "Local",
        external_local=external_local,
        affinity_seconds=_affinity(spec),
        health_check_node_port=(spec.get("healthCheckNodePort") or 0) if balanced and external_local else 0,
    )


def _affinity(spec: Object) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(client_ip.get("timeoutSeconds") or 10800)


def endpoint_slice(obj: Object) -> Slice | None:
    """The facts of an EndpointSlice, or None if it is of no Service or holds names rather than addresses."""
    name = meta.labels(obj).get(SERVICE_NAME_LABEL)
    if not name or obj["addressType"] not in (Family.IPV4, Family.IPV6):
        return None
    return Slice(
        key=meta.key(obj),
        service=f"{meta.namespace(obj)}/{name}",
        family=Family(obj["addressType"]),
        ports=tuple(
            SlicePort(
                sys.intern(port.get("name") or ""), sys.intern(port.get("protocol") or "TCP"), port["port"]
            )
            for port in obj.get("ports") or ()
            if port.get("port")
        ),
        endpoints=tuple(_endpoint(entry) for entry in obj.get("endpoints") or () if entry.get("addresses")),
        triggered=_triggered(obj),
    )


def _endpoint(entry: Object) -> Endpoint:
    conditions = entry.get("conditions") or {}
    hints = entry.get("hints") or {}
    return Endpoint(
        _address(entry["addresses"][0]),  # the API defines no meaning of further ones
        conditions.get("ready") is not False,
        conditions.get("serving") is not False,
        bool(conditions.get("terminating")),
        sys.intern(entry.get("nodeName") or ""),
        _names(hints.get("forZones")),
        _names(hints.get("forNodes")),
    )


def _triggered(obj: Object) -> float:
    text = meta.annotations(obj).get(TRIGGER_ANNOTATION)
    if not text:
        return 0.0
    try:
        return meta.parse_time(text).timestamp()
    except ValueError:
        return 0.0  # it is only for a metric, and anybody may write it


def node(obj: Object) -> Node:
    """The facts of a Node; *ips* are its internal addresses, else its external ones."""
    addresses = obj.get("status", {}).get("addresses") or ()
    by_type = {
        kind: _addresses(entry["address"] for entry in addresses if entry["type"] == kind)
        for kind in ("InternalIP", "ExternalIP")
    }
    spec = obj.get("spec", {})
    return Node(
        name=meta.name(obj),
        ips=by_type["InternalIP"] or by_type["ExternalIP"],
        pod_cidrs=_ranges(spec.get("podCIDRs") or filter(None, [spec.get("podCIDR")])),
        zone=meta.labels(obj).get(ZONE_LABEL, ""),
    )


def _names(hints: Iterable[Object] | None) -> frozenset[str]:
    return frozenset(sys.intern(hint["name"]) for hint in hints) if hints else _NO_STRINGS


def _address(text: str) -> str:
    if ":" in text:
        return str(ip_address(text))
    try:
        socket.inet_pton(socket.AF_INET, text)  # ten times as fast, and there are many
    except OSError:
        raise ValueError(f"{text!r} is no IP address") from None
    return text


def _addresses(texts: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(ip_address(text.strip())) for text in texts or () if text))


def _ranges(texts: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(ip_network(text.strip(), strict=False)) for text in texts or () if text))
