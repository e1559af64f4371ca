"""What a Service asks of the load balancer: its annotations and fields, read. Pure.

MetalLB's annotations are taken under both of its prefixes, the newer one first; OpenELB's for the Services
that ask for OpenELB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from buoy.api import formats, meta, selectors
from buoy.api.meta import Object

from .model import Address, Protocol

_PREFIXES = ("metallb.io/", "metallb.universe.tf/")
ALLOCATED_FROM = "metallb.io/ip-allocated-from-pool"
"""The annotation that says which pool the addresses are from."""
OLD_ALLOCATED_FROM = "metallb.universe.tf/ip-allocated-from-pool"

OPENELB = "lb.kubesphere.io/v1alpha1"
_EIP_NAME = "eip.openelb.kubesphere.io/v1alpha2"
_EIP_ADDRESS = "eip.openelb.kubesphere.io/v1alpha1"
_EIP_PROTOCOL = "protocol.openelb.kubesphere.io/v1alpha1"
_PROTOCOLS: dict[str, Protocol] = {"layer2": "layer2", "vip": "layer2", "bgp": "bgp"}


class Port(NamedTuple):
    """A port that a Service has for itself on its address."""

    protocol: str
    number: int

    def __str__(self) -> str:
        return f"{self.protocol}/{self.number}"


class Sharing(NamedTuple):
    """Services share an address if these are equal, *key* is not empty, and no port is wanted twice.

    *backend* is the Pod selector of a Service whose external traffic policy is Local: a node without its Pods
    does not announce the address, so all Services there must have the same.
    """

    key: str = ""
    backend: str = ""


UNSHARED = Sharing()


@dataclass(frozen=True, slots=True)
class Request:
    """What one Service, ``namespace/name``, asks for.

    *cluster_ips* tell the families it needs; *dual* is its family policy, empty for a single one. *addresses*
    and *pool* are those it asks for by name; *fault* says what cannot be understood of that. *joins*: it may
    be given an address that others have, without asking for that one.
    """

    service: str
    cluster_ips: tuple[Address, ...] = ()
    dual: str = ""
    ports: frozenset[Port] = frozenset()
    sharing: Sharing = UNSHARED
    addresses: tuple[Address, ...] = ()
    pool: str = ""
    protocol: Protocol = ""
    fault: str = ""
    openelb: bool = False
    joins: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return meta.split_key(self.service)[0]

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions that it needs addresses of: 4 and 6, its first one first."""
        return versions(self.cluster_ips)


def is_ours(service: Object, load_balancer_class: str) -> bool:
    """Whether *service* is of type LoadBalancer and of this load balancer's class, empty for none."""
    spec = service.get("spec") or {}
    return spec.get("type") == "LoadBalancer" and (spec.get("loadBalancerClass") or "") == load_balancer_class


def read(service: Object, namespace_labels: Mapping[str, str]) -> Request:
    """What *service*, as the API server has it, asks for."""
    spec = service["spec"]
    annotations = meta.annotations(service)
    openelb = annotations.get(OPENELB) == "openelb"
    cluster_ips = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    policy = spec.get("ipFamilyPolicy") or "SingleStack"
    wanted, fault = _addresses(spec, annotations, openelb)
    backend = (
        str(selectors.from_labels(spec.get("selector")))
        if spec.get("externalTrafficPolicy") == "Local"
        else ""
    )
    return Request(
        service=meta.key(service),
        cluster_ips=tuple(parsed for each in cluster_ips if (parsed := formats.ip_address(each))),
        dual=policy if policy != "SingleStack" else "",
        ports=frozenset(
            Port(port.get("protocol") or "TCP", port["port"]) for port in spec.get("ports") or ()
        ),
        # OpenELB has no key: whoever asks for an address by name shares it.
        sharing=Sharing(OPENELB if openelb else _metallb(annotations, "allow-shared-ip"), backend),
        addresses=wanted,
        pool=annotations.get(_EIP_NAME, "") if openelb else _metallb(annotations, "address-pool"),
        protocol=_PROTOCOLS.get(annotations.get(_EIP_PROTOCOL, ""), "") if openelb else "",
        fault=fault,
        openelb=openelb,
        joins=not openelb,
        labels=meta.labels(service),
        namespace_labels=namespace_labels,
    )


def current(service: Object) -> tuple[Address, ...]:
    """The addresses that *service* has, by its status."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return tuple(parsed for each in ingress if (parsed := formats.ip_address(each.get("ip") or "")))


def is_balanced(service: Object) -> bool:
    """Whether somebody has given *service* an address, or a host name."""
    return bool(((service.get("status") or {}).get("loadBalancer") or {}).get("ingress"))


def versions(addresses: Iterable[Address]) -> tuple[int, ...]:
    """The IP versions of *addresses*, in order, each once."""
    return tuple(dict.fromkeys(address.version for address in addresses))


def _metallb(annotations: Mapping[str, str], name: str) -> str:
    return next((annotations[prefix + name] for prefix in _PREFIXES if prefix + name in annotations), "")


def _addresses(
    spec: Object, annotations: Mapping[str, str], openelb: bool
) -> tuple[tuple[Address, ...], str]:
    """The addresses asked for, or what is wrong with them."""
    field_value = spec.get("loadBalancerIP") or ""
    name = _EIP_ADDRESS if openelb else f"{_PREFIXES[0]}loadBalancerIPs"
    annotation = annotations.get(name, "") if openelb else _metallb(annotations, "loadBalancerIPs")
    if annotation and field_value:
        return (), f"service can not have both {name} and svc.Spec.LoadBalancerIP"
    if field_value:
        address = formats.ip_address(field_value)
        return ((address,), "") if address else ((), f'invalid spec.loadBalancerIP "{field_value}"')
    found = [formats.ip_address(each.strip()) for each in annotation.split(",")] if annotation else []
    addresses = tuple(each for each in found if each)
    if len(addresses) < len(found):
        return (), f'invalid {name}: "{annotation}"'
    if len(addresses) > 2:
        return (), f"more than two addresses {show(addresses)}"
    if len(addresses) > len(versions(addresses)):
        return (), f"{show(addresses)} has the same family"
    return addresses, ""


def show(addresses: Iterable[Address]) -> str:
    """*addresses* as MetalLB's messages show them."""
    return "[" + " ".join(f'"{address}"' for address in addresses) + "]"
