"""What one Service and its EndpointSlices mean in DNS. Pure.

Sources: the Kubernetes DNS-Based Service Discovery specification 1.1.0; where that leaves a choice, CoreDNS.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from buoy.api import meta
from buoy.api.meta import Object

from . import wire
from .wire import AAAA, CNAME, SRV, A

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
_TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"

Records = dict[int, tuple[bytes, ...]]
"""The records of one name: data in wire form by type. Empty for a name that exists without any."""


class Form(Enum):
    """The ways in which a Service is found."""

    ADDRESS = "address"
    HEADLESS = "headless"
    EXTERNAL = "external"


class Port(NamedTuple):
    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Service:
    """*addresses* are the packed cluster IPs; *target* is the wire name that an ExternalName Service stands
    for, empty if it is no name that DNS could have."""

    namespace: str
    name: str
    form: Form
    addresses: tuple[bytes, ...] = ()
    ports: tuple[Port, ...] = ()
    target: bytes = b""
    publish_not_ready: bool = False


class Endpoint(NamedTuple):
    """*addresses* are packed."""

    addresses: tuple[bytes, ...]
    hostname: str = ""
    ready: bool = True


@dataclass(frozen=True, slots=True)
class Slice:
    """*service* is ``namespace/name``; *triggered* is the Unix time of the change that led to this, 0 if
    unknown."""

    service: str
    ports: tuple[Port, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    triggered: float = 0.0


def pack(text: str) -> bytes:
    """An IP address as 4 or 16 bytes, ``b""`` if it is none."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return b""


def unpack(packed: bytes) -> str:
    """The canonical text of a packed IP address."""
    return socket.inet_ntop(socket.AF_INET6 if len(packed) == 16 else socket.AF_INET, packed)


def decode_service(obj: Object) -> Service | None:
    """The facts of a Service; None while it has no address yet."""
    spec = obj["spec"]
    namespace, name = meta.namespace(obj), meta.name(obj)
    if spec.get("type") == "ExternalName":
        return Service(namespace, name, Form.EXTERNAL, target=_external(spec.get("externalName") or ""))
    ips = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    if ips[0] == "None":
        form = Form.HEADLESS
    elif ips[0]:
        form = Form.ADDRESS
    else:
        return None
    return Service(
        namespace,
        name,
        form,
        addresses=tuple(packed for ip in ips if (packed := pack(ip))),
        ports=_ports(spec.get("ports")),
        publish_not_ready=bool(spec.get("publishNotReadyAddresses")),
    )


def _external(text: str) -> bytes:
    if not text.strip(".") or pack(text):
        return b""  # digits only would be a name that looks like an address, which no server answers
    try:
        return wire.encode_name(text)
    except ValueError:
        return b""


def decode_slice(obj: Object) -> Slice | None:
    """The facts of an EndpointSlice, None if it belongs to no Service or has no IP addresses."""
    service = meta.labels(obj).get(SERVICE_NAME_LABEL)
    if not service or obj.get("addressType") not in ("IPv4", "IPv6"):
        return None
    triggered = meta.annotations(obj).get(_TRIGGER_ANNOTATION)
    return Slice(
        f"{meta.namespace(obj)}/{service}",
        _ports(obj.get("ports")),
        tuple(
            Endpoint(
                tuple(packed for ip in endpoint.get("addresses") or () if (packed := pack(ip))),
                endpoint.get("hostname") or "",
                (endpoint.get("conditions") or {}).get("ready") is not False,
            )
            for endpoint in obj.get("endpoints") or ()
        ),
        _seconds(triggered) if triggered else 0.0,
    )


def _seconds(text: str) -> float:
    try:
        return meta.parse_time(text).timestamp()
    except ValueError:
        return 0.0


def _ports(ports: Iterable[Object] | None) -> tuple[Port, ...]:
    return tuple(
        Port(sys.intern(port.get("name") or ""), sys.intern(port.get("protocol") or "TCP"), port["port"])
        for port in ports or ()
        if port.get("port")
    )


class Rank(int, Enum):
    """Which of the names of one address comes first: reverse lookups mostly take only that."""

    SERVICE = 0
    HOSTNAME = 1
    IDENTIFIER = 2


@dataclass(slots=True)
class Contribution:
    """All that one Service brings: *forward* names are its own alone, *reverse* names may be shared."""

    forward: dict[bytes, Records] = field(default_factory=dict)
    reverse: dict[bytes, tuple[tuple[Rank, bytes], ...]] = field(default_factory=dict)


def contribution(service: Service, slices: Iterable[Slice], services_zone: bytes) -> Contribution:
    """The records of *service*. *services_zone* is the wire name ``svc.<cluster domain>``.

    An endpoint is named by its hostname, else by its address with dashes. Names that would be too long for
    DNS are left out.
    """
    return _Naming(service, services_zone).of(slices)


class _Naming:
    def __init__(self, service: Service, services_zone: bytes) -> None:
        self._service = service
        self._name = wire.encode_label(service.name) + wire.encode_label(service.namespace) + services_zone
        self._forward: dict[bytes, dict[int, dict[bytes, None]]] = {}
        self._reverse: dict[bytes, dict[tuple[Rank, bytes], None]] = {}

    def of(self, slices: Iterable[Slice]) -> Contribution:
        service = self._service
        if service.form is Form.EXTERNAL:
            self._forward[self._name] = {}
            if service.target:
                self._add(self._name, CNAME, service.target)
        else:
            headless = service.form is Form.HEADLESS
            if not headless:
                self._cluster_address()
            for piece in slices:
                for endpoint in piece.endpoints:
                    if endpoint.ready or service.publish_not_ready:
                        self._endpoint(endpoint, piece.ports, headless)
            if headless:
                self._weigh()
        return Contribution(
            {
                name: {kind: tuple(data) for kind, data in by_type.items()}
                for name, by_type in self._forward.items()
            },
            {name: tuple(sorted(ranked)) for name, ranked in self._reverse.items()},
        )

    def _cluster_address(self) -> None:
        for address in self._service.addresses:
            self._add_address(self._name, address, Rank.SERVICE)
        ports = self._service.ports
        for port in ports:
            self._add(self._name, SRV, wire.srv(0, _weight(len(ports)), port.port, self._name))
            self._add_named_port(port, wire.srv(0, 100, port.port, self._name))

    def _endpoint(self, endpoint: Endpoint, ports: tuple[Port, ...], headless: bool) -> None:
        for address in endpoint.addresses:
            rank = Rank.HOSTNAME if endpoint.hostname else Rank.IDENTIFIER
            identifier = endpoint.hostname or unpack(address).replace(".", "-").replace(":", "-")
            name = wire.encode_label(identifier) + self._name
            # The name of an endpoint behind a cluster IP is an extension; it is no name for the address
            # itself, unless somebody chose it.
            self._add_address(name, address, rank if headless or endpoint.hostname else None)
            if headless:
                self._add(self._name, A if len(address) == 4 else AAAA, address)
                for port in ports:
                    record = wire.srv(0, 0, port.port, name)
                    self._add(self._name, SRV, record)
                    self._add_named_port(port, record)

    def _weigh(self) -> None:
        """Share the weight of 100 between the endpoints, now that their number is known."""
        for by_type in self._forward.values():
            if records := by_type.get(SRV):
                weight = _weight(len(records)).to_bytes(2, "big")
                by_type[SRV] = {record[:2] + weight + record[4:]: None for record in records}

    def _add_named_port(self, port: Port, record: bytes) -> None:
        if port.name:
            labels = wire.encode_label(f"_{port.name}") + wire.encode_label(f"_{port.protocol}")
            self._add(labels + self._name, SRV, record)

    def _add_address(self, name: bytes, address: bytes, rank: Rank | None) -> None:
        self._add(name, A if len(address) == 4 else AAAA, address)
        if rank is not None:
            self._reverse.setdefault(wire.reverse_name(address), {})[rank, name] = None

    def _add(self, name: bytes, kind: int, data: bytes) -> None:
        if len(name) <= wire.LONGEST_NAME:
            self._forward.setdefault(name, {}).setdefault(kind, {})[data] = None


def _weight(count: int) -> int:
    return max(1, 100 // count)
