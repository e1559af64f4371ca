"""What the API server says to a user about a Service that it accepts all the same. Pure.

After k8s.io/kubernetes' ``pkg/api/service/warnings.go``, 1.36.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from .meta import Object

TOPOLOGY_HINTS_ANNOTATION = "service.kubernetes.io/topology-aware-hints"
TOPOLOGY_MODE_ANNOTATION = "service.kubernetes.io/topology-mode"


def service_warnings(service: Object) -> Iterator[str]:
    """One text a warning, of a Service with all its defaults."""
    spec = service.get("spec") or {}
    kind, external_ips = spec.get("type"), spec.get("externalIPs") or ()
    headless = kind == "ClusterIP" and spec.get("clusterIP") == "None"
    old, new = TOPOLOGY_HINTS_ANNOTATION, TOPOLOGY_MODE_ANNOTATION
    if old in (service["metadata"].get("annotations") or {}):
        yield f"annotation {old} is deprecated, please use {new} instead"
    if not headless:
        for index, address in enumerate(spec.get("clusterIPs") or ()):
            yield from _canonical(f"spec.clusterIPs[{index}]", address)
    else:
        if spec.get("loadBalancerIP"):
            yield "spec.loadBalancerIP is ignored for headless services"
        if external_ips:
            yield "spec.externalIPs is ignored for headless services"
        if spec.get("sessionAffinity") != "None":
            yield "spec.SessionAffinity is ignored for headless services"
    for index, address in enumerate(external_ips):
        yield from _canonical(f"spec.externalIPs[{index}]", address)
    if external_ips and not headless and kind != "ExternalName":
        yield "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
    if spec.get("loadBalancerIP"):
        yield from _canonical("spec.loadBalancerIP", spec["loadBalancerIP"])
    if kind == "ExternalName" and external_ips:
        yield 'spec.externalIPs is ignored when spec.type is "ExternalName"'
    if kind != "ExternalName" and spec.get("externalName"):
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'
    if spec.get("trafficDistribution") == "PreferClose":
        yield 'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'


def _canonical(path: str, address: str) -> Iterator[str]:
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return  # IPv4 has one way to be written, and validation has refused what is no address
    if str(parsed) != address:
        yield f'{path}: IPv6 address "{address}" should be in RFC 5952 canonical format ("{parsed}")'
