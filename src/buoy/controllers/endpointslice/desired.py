"""From a Service and its Pods to endpoints, grouped by what can stand in one EndpointSlice.

Conditions, hints and port lookup follow k8s.io/endpointslice; KEP-1672 (terminating endpoints), KEP-4444 and
KEP-3015 (``trafficDistribution``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from buoy.api import meta, pods
from buoy.api.meta import Object
from buoy.api.service_warnings import TOPOLOGY_HINTS_ANNOTATION, TOPOLOGY_MODE_ANNOTATION

ZONE = "topology.kubernetes.io/zone"
HEADLESS = "service.kubernetes.io/headless"

PortKey = tuple[tuple[str, str, int | None, str | None], ...]
"""Ports in an order that is always the same: (name, protocol, port, appProtocol)."""

EndpointKey = tuple[tuple[str, ...], str, str, str]
"""What makes two endpoints the same: addresses, host name, name and uid of what is behind them."""

_CLOSE = frozenset({"PreferClose", "PreferSameZone", "PreferSameNode"})


@dataclass(frozen=True, slots=True)
class Group:
    """Endpoints of one address type with the same ports."""

    address_type: str
    ports: list[Object]
    endpoints: dict[EndpointKey, Object]


def port_key(ports: Iterable[Object]) -> PortKey:
    return tuple(
        sorted(
            (
                (
                    each.get("name") or "",
                    each.get("protocol") or "TCP",
                    each.get("port"),
                    each.get("appProtocol"),
                )
                for each in ports
            ),
            key=repr,
        )
    )


def endpoint_key(endpoint: Object) -> EndpointKey:
    target = endpoint.get("targetRef") or {}
    return (
        tuple(endpoint.get("addresses") or ()),
        endpoint.get("hostname") or "",
        target.get("name") or "",
        target.get("uid") or "",
    )


def is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def publishes_not_ready(service: Object) -> bool:
    return bool(service["spec"].get("publishNotReadyAddresses"))


def wants_shares(service: Object) -> bool:
    """Its endpoints are for zones by the zones' shares of CPUs, whatever ``trafficDistribution`` says."""
    notes = meta.annotations(service)
    return notes.get(TOPOLOGY_HINTS_ANNOTATION, notes.get(TOPOLOGY_MODE_ANNOTATION)) in ("Auto", "auto")


def families(service: Object) -> list[str]:
    """The IP families of a Service, ``IPv4`` and ``IPv6``, the first one first."""
    spec = service["spec"]
    if spec.get("ipFamilies"):
        return list(spec["ipFamilies"])
    address = spec.get("clusterIP") or ""
    return ["IPv6"] if ":" in address else ["IPv4"]


def has_endpoint(pod: Object, *, terminating: bool) -> bool:
    """Whether a Pod belongs among the endpoints at all: it has an address and has not ended."""
    if pods.is_terminal(pod) or not pods.ips(pod):
        return False
    return terminating or not meta.is_terminating(pod)


def ports_of(service: Object, pod: Object) -> list[Object]:
    """A Service's ports as they are on this Pod; one that the Pod has no number for is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        target = port.get("targetPort", port["port"])
        number = pods.named_port(pod, target, protocol)
        if not number:
            continue
        made: Object = {"name": port.get("name") or "", "protocol": protocol, "port": number}
        if port.get("appProtocol"):
            made["appProtocol"] = port["appProtocol"]
        found.append(made)
    return found


def hostname(service: Object, pod: Object) -> str:
    """The name that the Pod has under the Service's, empty if it has none."""
    spec = pod["spec"]
    same = spec.get("subdomain") == meta.name(service) and meta.namespace(pod) == meta.namespace(service)
    return str(spec.get("hostname") or "") if same else ""


def target_ref(pod: Object) -> Object:
    return {
        "kind": "Pod",
        "namespace": meta.namespace(pod),
        "name": meta.name(pod),
        "uid": meta.uid(pod),
    }


def endpoint(service: Object, pod: Object, addresses: list[str], zone: str) -> Object:
    serving = pods.is_ready(pod)
    terminating = meta.is_terminating(pod)
    ready = publishes_not_ready(service) or (serving and not terminating)
    made: Object = {
        "addresses": addresses,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": target_ref(pod),
    }
    node = pod["spec"].get("nodeName")
    if node:
        made["nodeName"] = node
    if zone:
        made["zone"] = zone
    name = hostname(service, pod)
    if name:
        made["hostname"] = name
    distribution = service["spec"].get("trafficDistribution")
    if ready and distribution in _CLOSE and not wants_shares(service):
        hints: Object = {}
        if zone:
            hints["forZones"] = [{"name": zone}]
        if node and distribution == "PreferSameNode":
            hints["forNodes"] = [{"name": node}]
        if hints:
            made["hints"] = hints
    return made


def desired(service: Object, found: Iterable[Object], zone_of: Callable[[str], str | None]) -> list[Group]:
    """The groups of a Service whose Pods are *found*; each of its families has at least an empty one.

    *zone_of* gives a node's zone (empty if it has none) by its name, None if there is no such node: its Pods
    are left out, unless the Service publishes what isn't ready.
    """
    groups: dict[tuple[str, PortKey], Group] = {}
    wanted = families(service)
    for pod in found:
        if not has_endpoint(pod, terminating=True):
            continue
        node = pod["spec"].get("nodeName") or ""
        zone = zone_of(node) if node else ""
        if zone is None:
            if not publishes_not_ready(service):
                continue
            zone = ""
        ports = ports_of(service, pod)
        key = port_key(ports)
        for family in wanted:
            addresses = [ip for ip in pods.ips(pod) if family_of(ip) == family]
            if addresses:
                group = groups.setdefault((family, key), Group(family, ports, {}))
                made = endpoint(service, pod, addresses, zone)
                group.endpoints[endpoint_key(made)] = made
    for family in wanted:
        if not any(group.address_type == family for group in groups.values()):
            groups[family, ()] = Group(family, [], {})
    return list(groups.values())


def family_of(ip: str) -> str:
    """``IPv4`` or ``IPv6``, of what is known to be an address."""
    return "IPv6" if ":" in ip else "IPv4"
