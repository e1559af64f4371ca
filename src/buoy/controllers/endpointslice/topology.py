"""Endpoints for each zone by its share of the CPUs: ``service.kubernetes.io/topology-mode: Auto``.

Follows KEP-2433 and k8s.io/endpointslice's ``topologycache``, messages included. Endpoints keep the zone they
were meant for as long as that overloads nobody, so that one more does not rewrite all slices.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from buoy.api import meta, pods, quantity
from buoy.api.meta import Object

from .desired import ZONE, EndpointKey, endpoint_key

ENABLED = "Topology Aware Hints has been enabled"
DISABLED = "Topology Aware Hints has been disabled"
_NO_ZONE = "One or more endpoints do not have a zone specified"
_NODES = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
_TOO_FEW = "Insufficient number of endpoints"
_OVERLOADED = (
    "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
)

_OVERLOAD = 0.2
"""How much more than its share an endpoint may have to serve."""

_CONTROL_PLANE = frozenset({"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"})


class NoHints(Exception):
    """Hints would overload some endpoint, or nothing is known to base them on; the text says which."""


@dataclass(frozen=True, slots=True)
class _Allocation:
    desired: float
    minimum: int
    maximum: int


def capacity(node: Object) -> tuple[str, float] | None:
    """A node's zone and CPUs, empty and 0 where unknown; None if it takes no part."""
    labels = meta.labels(node)
    if _CONTROL_PLANE & labels.keys() or not pods.is_ready(node):
        return None
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    return labels.get(ZONE, ""), float(quantity.parse(allocatable.get("cpu", "0")).value)


def zone_shares(nodes: Iterable[Object]) -> dict[str, float]:
    """Each zone's share of all CPUs; empty if that is unknown of any node, or there are no two zones."""
    cpus: defaultdict[str, float] = defaultdict(float)
    for zone, cpu in filter(None, map(capacity, nodes)):
        if not zone or not cpu:
            return {}
        cpus[zone] += cpu
    total = sum(cpus.values())
    return {zone: cpu / total for zone, cpu in cpus.items()} if len(cpus) > 1 else {}


def assign(
    endpoints: Iterable[Object], former: Mapping[EndpointKey, str], shares: Mapping[str, float]
) -> None:
    """Give each ready endpoint the hint of one zone, in place.

    *former* are the zones that they were meant for before. Raises NoHints, and gives none then.
    """
    ready = sorted((each for each in endpoints if each["conditions"]["ready"]), key=endpoint_key)
    allocations = _allocations(len(ready), shares)
    homes = [each.get("zone", "") for each in ready]
    if "" in homes:
        raise NoHints(_NO_ZONE)
    zones = [former.get(endpoint_key(each), home) for each, home in zip(ready, homes, strict=True)]
    if not _fits(Counter(zones), allocations):
        zones = _moved(homes, allocations)
    for each, zone in zip(ready, zones, strict=True):
        each["hints"] = {"forZones": [{"name": zone}]}


def _allocations(count: int, shares: Mapping[str, float]) -> dict[str, _Allocation]:
    if not shares:
        raise NoHints(_NODES)
    numbers = f"({count} endpoints, {len(shares)} zones)"
    if len(shares) > count:
        raise NoHints(f"{_TOO_FEW} {numbers}")
    desired = {zone: share * count for zone, share in shares.items()}
    minima = {zone: math.ceil(each / (1 + _OVERLOAD)) for zone, each in desired.items()}
    spare = count - sum(minima.values())
    if spare < 0:
        raise NoHints(f"{_OVERLOADED} {numbers}")
    return {
        zone: _Allocation(max(desired[zone], minimum), minimum, minimum + spare)
        for zone, minimum in minima.items()
    }


def _fits(counts: Mapping[str, int], allocations: Mapping[str, _Allocation]) -> bool:
    return counts.keys() <= allocations.keys() and all(
        each.minimum <= counts.get(zone, 0) <= each.maximum for zone, each in allocations.items()
    )


def _moved(homes: list[str], allocations: Mapping[str, _Allocation]) -> list[str]:
    """Every endpoint for its own zone, but for as many as zones with too many give to those with too few.

    A zone without nodes gives all. Kubernetes stops a little earlier, and may leave a zone short.
    """
    counts = Counter(homes)
    zones = dict.fromkeys(sorted(counts), _Allocation(0.0, 0, 0)) | dict(allocations)
    takers: dict[str, list[str]] = {}

    def surplus(zone: str) -> float:
        return counts[zone] - zones[zone].desired

    def is_short(zone: str) -> bool:
        return counts[zone] < zones[zone].minimum

    while givers := [zone for zone, each in zones.items() if counts[zone] > each.minimum]:
        giver = max(givers, key=surplus)
        taker = min(zones, key=lambda zone: (not is_short(zone), surplus(zone)))
        given, needed = surplus(giver), -surplus(taker)
        must = is_short(taker) or giver not in allocations
        if not must and (min(given, needed) < 0.5 or max(given, needed) < 1):
            break
        takers.setdefault(giver, []).append(taker)
        counts[giver] -= 1
        counts[taker] += 1
    return [takers[home].pop() if takers.get(home) else home for home in homes]
