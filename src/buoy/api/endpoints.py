"""Endpoints and EndpointSlice: where a Service's packets can go."""

from __future__ import annotations

from collections.abc import Iterable

from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .models import core_v1, discovery_v1
from .resource import ENDPOINT_SLICES, ENDPOINTS

_SHOWN = 3


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


def _host_port(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _subsets(endpoints: Object) -> str:
    subsets = endpoints.get("subsets") or ()
    if not subsets:
        return "<none>"
    every: list[str] = []
    for subset in subsets:
        ips = [address.get("ip", "") for address in subset.get("addresses") or ()]
        if subset.get("ports"):
            every += [_host_port(ip, port.get("port", 0)) for port in subset["ports"] for ip in ips]
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
    default=default_endpoints,
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
)
