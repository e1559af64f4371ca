"""Endpoints and EndpointSlice: where a Service's packets can go.

Validation after k8s.io/kubernetes' ``pkg/apis/core/validation`` and ``pkg/apis/discovery/validation``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from . import formats
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .metadata import faults, immutable, validate_labels, validating
from .models import core_v1, discovery_v1
from .resource import ENDPOINT_SLICES, ENDPOINTS
from .status import FieldError, duplicate, invalid, not_supported, required, too_many

MAX_ENDPOINTS = 1000
_ADDRESSES = 100
_PORTS = 20000
_HINTS = 8
_TOPOLOGY = 16
_SHOWN = 3
_ADDRESS_TYPES = frozenset({"IPv4", "IPv6", "FQDN"})
_PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})


def default_endpoints(endpoints: Object) -> None:
    for subset in endpoints.get("subsets") or ():
        for port in subset.get("ports") or ():
            if not port.get("protocol"):
                port["protocol"] = "TCP"


def default_slice(endpoint_slice: Object) -> None:
    for port in endpoint_slice.get("ports") or ():
        if port.get("name") is None:
            port["name"] = ""
        if port.get("protocol") is None:
            port["protocol"] = "TCP"


def _validate_endpoints(endpoints: Object, old: Object | None) -> list[FieldError]:
    errors: list[FieldError] = []
    known = _known_addresses(old)
    for index, subset in enumerate(endpoints.get("subsets") or ()):
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for field in ("addresses", "notReadyAddresses"):
            for position, address in enumerate(subset.get(field) or ()):
                errors += _validate_address(address, known, f"{path}.{field}[{position}]")
        ports = subset.get("ports") or ()
        for position, port in enumerate(ports):
            errors += _validate_port(port, len(ports) > 1, f"{path}.ports[{position}]")
    return errors


def _known_addresses(endpoints: Object | None) -> frozenset[str]:
    """What is stored already, and so beyond dispute."""
    return frozenset(
        str(address.get("ip"))
        for subset in (endpoints or {}).get("subsets") or ()
        for field in ("addresses", "notReadyAddresses")
        for address in subset.get(field) or ()
    )


def _validate_address(address: Object, known: frozenset[str], path: str) -> list[FieldError]:
    ip, errors = address.get("ip") or "", []
    if ip not in known:
        errors += faults(f"{path}.ip", ip, formats.ip(ip))
    host, node = address.get("hostname"), address.get("nodeName")
    if host:
        errors += faults(f"{path}.hostname", host, formats.dns_label(host))
    if node is not None:
        errors += faults(f"{path}.nodeName", node, formats.dns_subdomain(node))
    return errors + faults(f"{path}.ip", ip, formats.ordinary_ip(ip))


def _validate_port(port: Object, name_required: bool, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    name = port.get("name")
    if name:
        errors += faults(f"{path}.name", name, formats.dns_label(name))
    elif name_required:
        errors.append(required(f"{path}.name"))
    number = port.get("port") or 0
    errors += [invalid(f"{path}.port", number, fault) for fault in formats.port_number(number)]
    return errors + _validate_protocols(port, path)


def _validate_protocols(port: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    protocol, application = port.get("protocol"), port.get("appProtocol")
    if not protocol:
        errors.append(required(f"{path}.protocol"))
    elif protocol not in _PROTOCOLS:
        errors.append(not_supported(f"{path}.protocol", protocol, _PROTOCOLS))
    if application is not None:
        errors += faults(f"{path}.appProtocol", application, formats.label_key(application))
    return errors


def _validate_slice(endpoint_slice: Object, old: Object | None) -> list[FieldError]:
    errors: list[FieldError] = []
    kind = endpoint_slice.get("addressType") or ""
    if not kind:
        errors.append(required("addressType"))
    elif kind not in _ADDRESS_TYPES:
        errors.append(not_supported("addressType", kind, _ADDRESS_TYPES))
    errors += _validate_slice_endpoints(endpoint_slice.get("endpoints") or (), kind, old)
    errors += _validate_slice_ports(endpoint_slice.get("ports") or ())
    if old is not None:
        errors += immutable("addressType", kind, old.get("addressType") or "")
    return errors


def _validate_slice_endpoints(endpoints: Sequence[Object], kind: str, old: Object | None) -> list[FieldError]:
    if len(endpoints) > MAX_ENDPOINTS:
        return [too_many("endpoints", len(endpoints), MAX_ENDPOINTS)]
    known = frozenset(
        address
        for endpoint in (old or {}).get("endpoints") or ()
        for address in endpoint.get("addresses") or ()
    )
    errors: list[FieldError] = []
    for index, endpoint in enumerate(endpoints):
        path = f"endpoints[{index}]"
        addresses = endpoint.get("addresses") or ()
        if not addresses:
            errors.append(required(f"{path}.addresses", "must contain at least 1 address"))
        elif len(addresses) > _ADDRESSES:
            errors.append(too_many(f"{path}.addresses", len(addresses), _ADDRESSES))
        for position, address in enumerate(addresses):
            if found := _address_faults(address, kind, address in known):
                errors += faults(f"{path}.addresses[{position}]", address, found)
            elif kind in ("IPv4", "IPv6") and (":" in address) is not (kind == "IPv6"):
                errors.append(invalid(f"{path}.addresses", address, f"must be an {kind} address"))
        errors += _validate_endpoint(endpoint, path)
    return errors


def _address_faults(address: str, kind: str, known: bool) -> formats.Faults:
    if kind in ("IPv4", "IPv6"):
        strict = () if known else formats.ip(address)
        return strict or formats.ordinary_ip(address)
    return formats.domain_name(address) if kind == "FQDN" else ()


def _validate_endpoint(endpoint: Object, path: str) -> list[FieldError]:
    """All but the addresses."""
    errors: list[FieldError] = []
    node, host = endpoint.get("nodeName"), endpoint.get("hostname")
    topology, hints = endpoint.get("deprecatedTopology"), endpoint.get("hints")
    if node is not None:
        errors += faults(f"{path}.nodeName", node, formats.dns_subdomain(node))
    if topology:
        if len(topology) > _TOPOLOGY:
            errors.append(too_many(f"{path}.deprecatedTopology", len(topology), _TOPOLOGY))
        errors += validate_labels(topology, f"{path}.deprecatedTopology")
    if host is not None:
        errors += faults(f"{path}.hostname", host, formats.dns_label(host))
    if hints:
        for field, check in (("forZones", formats.label_key), ("forNodes", formats.dns_subdomain)):
            errors += _validate_hints(hints.get(field) or (), check, f"{path}.hints.{field}")
    return errors


def _validate_hints(hints: Sequence[Object], check: formats.Check, path: str) -> list[FieldError]:
    if len(hints) > _HINTS:
        return [too_many(path, len(hints), _HINTS)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, hint in enumerate(hints):
        name = hint.get("name") or ""
        if name in seen:
            errors.append(duplicate(f"{path}[{index}].name", name))
        seen.add(name)
        errors += faults(f"{path}[{index}].name", name, check(name))
    return errors


def _validate_slice_ports(ports: Sequence[Object]) -> list[FieldError]:
    if len(ports) > _PORTS:
        return [too_many("ports", len(ports), _PORTS)]
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        path, name = f"ports[{index}]", port.get("name") or ""
        if name:
            errors += faults(f"{path}.name", name, formats.dns_label(name))
        if name in names:
            errors.append(duplicate(f"{path}.name", name))
        names.add(name)
        if (number := port.get("port")) is not None:
            errors += [invalid(f"{path}.port", number, fault) for fault in formats.port_number(number)]
        errors += _validate_protocols(port, path)
    return errors


def _subsets(endpoints: Object) -> str:
    subsets = endpoints.get("subsets") or ()
    if not subsets:
        return "<none>"
    every: list[str] = []
    for subset in subsets:
        ips = [address.get("ip", "") for address in subset.get("addresses") or ()]
        if subset.get("ports"):
            every += [formats.host_port(ip, port.get("port", 0)) for port in subset["ports"] for ip in ips]
        else:
            every += ips
    return _first(every)


def _first(every: list[str]) -> str:
    shown = ",".join(every[:_SHOWN])
    return f"{shown} + {len(every) - _SHOWN} more..." if len(every) > _SHOWN else shown


def _slice_ports(endpoint_slice: Object) -> str:
    ports: Iterable[Object] = endpoint_slice.get("ports") or ()
    shown = []
    for port in ports:
        number = port.get("port")
        shown.append(str(number) if number is not None else port.get("name", "*"))
    return _first(shown) or "<unset>"


def _slice_addresses(endpoint_slice: Object) -> str:
    every = [
        address
        for endpoint in endpoint_slice.get("endpoints") or ()
        for address in endpoint.get("addresses") or ()
    ]
    return _first(every) or "<unset>"


ENDPOINTS_KIND = Kind(
    resource=ENDPOINTS,
    model=core_v1.Endpoints,
    singular="endpoints",
    short_names=("ep",),
    columns=(NAME_COLUMN, Column("Endpoints", _subsets), AGE_COLUMN),
    deprecated="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    default=default_endpoints,
    validate=validating(formats.dns_subdomain, _validate_endpoints),
)

ENDPOINT_SLICE = Kind(
    resource=ENDPOINT_SLICES,
    model=discovery_v1.EndpointSlice,
    singular="endpointslice",
    columns=(
        NAME_COLUMN,
        Column("AddressType", lambda endpoint_slice: endpoint_slice.get("addressType", "")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_addresses),
        AGE_COLUMN,
    ),
    has_generation=True,
    default=default_slice,
    validate=validating(formats.dns_subdomain, _validate_slice),
)
