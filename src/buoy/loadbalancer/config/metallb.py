"""MetalLB's custom resources into declarations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from buoy.api import meta
from buoy.api.meta import Object

from . import specs
from .problems import SPEC, Problems, misshapen
from .specs import Declarations, Declared

Spec = TypeVar("Spec")


def declarations(
    *,
    pools: Iterable[Object],
    l2_advertisements: Iterable[Object],
    bgp_advertisements: Iterable[Object],
    peers: Iterable[Object],
    bfd_profiles: Iterable[Object],
    communities: Iterable[Object],
    problems: Problems,
) -> Declarations:
    """What the objects declare; one of the wrong shape is left out and told to *problems*."""
    return Declarations(
        pools=_all("IPAddressPool", pools, specs.Pool, problems),
        l2_advertisements=_all("L2Advertisement", l2_advertisements, specs.L2Advertisement, problems),
        bgp_advertisements=_all("BGPAdvertisement", bgp_advertisements, specs.BGPAdvertisement, problems),
        peers=_all("BGPPeer", peers, specs.Peer, problems),
        bfd_profiles=_all("BFDProfile", bfd_profiles, specs.BFDProfile, problems),
        communities=_all("Community", communities, specs.Community, problems),
    )


def _all(kind: str, objects: Iterable[Object], spec: type[Spec], problems: Problems) -> list[Declared[Spec]]:
    found = []
    for obj in sorted(objects, key=meta.name):
        name = meta.name(obj)
        try:
            converted = msgspec.convert(obj.get("spec") or {}, spec)
        except msgspec.ValidationError as error:
            problems.add(kind, name, SPEC, [misshapen(error)])
        else:
            found.append(Declared(kind, name, name, converted, labels=dict(meta.labels(obj))))
    return found
