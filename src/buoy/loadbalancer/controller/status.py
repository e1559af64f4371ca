"""What the objects of the configuration, and Services, are to show. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from buoy.api import meta
from buoy.api.meta import Object

from ..allocation import Outcome, Usage
from ..model import Address, Pool
from ..request import ALLOCATED_FROM, OLD_ALLOCATED_FROM

_INT64 = 2**63 - 1


def service_patch(service: Object, outcome: Outcome) -> Object | None:
    """The merge patch that has *service* show *outcome*, None if it does already."""
    ingress = [{"ip": str(address), "ipMode": "VIP"} for address in outcome.addresses]
    shown = (service.get("status") or {}).get("loadBalancer", {}).get("ingress") or []
    annotations = meta.annotations(service)
    changes = {
        name: value
        for name, value in ((ALLOCATED_FROM, outcome.pool or None), (OLD_ALLOCATED_FROM, None))
        if annotations.get(name) != value
    }
    same = [{"ip": each.get("ip"), "ipMode": each.get("ipMode") or "VIP"} for each in shown] == ingress
    if same and not changes:
        return None
    metadata: Object = {"resourceVersion": service["metadata"]["resourceVersion"]}
    if changes:
        metadata["annotations"] = changes
    patch: Object = {"metadata": metadata}
    if not same:
        patch["status"] = {"loadBalancer": {"ingress": ingress or None}}
    return patch


def pool_status(usage: Usage) -> Object:
    """Of an IPAddressPool."""
    return {
        "assignedIPv4": usage.assigned_ipv4,
        "assignedIPv6": usage.assigned_ipv6,
        "availableIPv4": min(usage.available_ipv4, _INT64),
        "availableIPv6": min(usage.available_ipv6, _INT64),
    }


def eip_status(
    pool: Pool, usage: Usage, holders: Mapping[Address, Sequence[str]], before: Mapping[str, object]
) -> Object:
    """Of an Eip that is in force, as a merge patch of the status *before*."""
    used: dict[str, str | None] = dict.fromkeys(_texts(before.get("used")))
    used |= {str(address): ";".join(services) for address, services in holders.items()}
    is_v4 = bool(pool.ipv4)
    ranges = pool.ranges(4 if is_v4 else 6)
    kind = IPv4Address if is_v4 else IPv6Address
    assigned = usage.assigned_ipv4 + usage.assigned_ipv6
    available = usage.available_ipv4 + usage.available_ipv6
    return {
        "occupied": not available,
        "usage": assigned,
        "poolSize": min(assigned + available, _INT64),
        "used": used,
        "firstIP": str(kind(ranges[0].first)),
        "lastIP": str(kind(ranges[-1].last)),
        "ready": True,
        "v4": is_v4,
    }


def _texts(used: object) -> Iterable[str]:
    return used if isinstance(used, Mapping) else ()


def differs(patch: Mapping[str, object], current: object) -> bool:
    """Whether the merge patch *patch* would change *current*."""
    if not isinstance(current, Mapping):
        return True
    return any(
        differs(value, current.get(name)) if isinstance(value, Mapping) else current.get(name) != value
        for name, value in patch.items()
    )
