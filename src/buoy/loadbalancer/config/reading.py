"""All forms of configuration together: a fault in one touches neither its last good state nor the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from buoy.api.meta import Object
from buoy.api.status import duplicate, invalid

from ..model import Config, Pool
from . import configmap, metallb, openelb
from .build import build
from .problems import SPEC, Problem, Problems
from .resources import FORMS, Form


@dataclass(frozen=True, slots=True)
class Sources:
    """The objects that a configuration is made of, as the API server has them; *secrets* by name."""

    pools: tuple[Object, ...] = ()
    l2_advertisements: tuple[Object, ...] = ()
    bgp_advertisements: tuple[Object, ...] = ()
    peers: tuple[Object, ...] = ()
    bfd_profiles: tuple[Object, ...] = ()
    communities: tuple[Object, ...] = ()
    config_map: Object | None = None
    eips: tuple[Object, ...] = ()
    bgp_confs: tuple[Object, ...] = ()
    bgp_peers: tuple[Object, ...] = ()
    secrets: Mapping[str, Object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of it: *config* is in force, *problems* are what has to be mended.

    *parts* are what each form adds to *config*, its last good state if it is at fault now. A form that has
    never been good, as long as that is known, has none: then *complete* is false, and an address in no pool
    says nothing about whether it is still wanted.
    """

    config: Config = field(default_factory=Config)
    problems: tuple[Problem, ...] = ()
    parts: Mapping[Form, Config] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return len(self.parts) == len(FORMS)


NOTHING = Reading()
"""Before anything has been read."""


def read(sources: Sources, before: Reading = NOTHING) -> Reading:
    """The configuration of *sources*, where *before* is what the last call gave."""
    parts: dict[Form, Config] = {}
    problems: list[Problem] = []
    for form in FORMS:
        faults = Problems()
        part = _part(form, sources, faults)
        _refuse_clashes(form, part, parts, faults)
        if not faults:
            parts[form] = part
        elif form in before.parts and not _clashes(before.parts[form], parts):
            parts[form] = before.parts[form]
        problems += faults
    return Reading(_union(parts), tuple(problems), parts)


def _part(form: Form, sources: Sources, problems: Problems) -> Config:
    match form:
        case "MetalLB":
            declared = metallb.declarations(
                pools=sources.pools,
                l2_advertisements=sources.l2_advertisements,
                bgp_advertisements=sources.bgp_advertisements,
                peers=sources.peers,
                bfd_profiles=sources.bfd_profiles,
                communities=sources.communities,
                problems=problems,
            )
            return build(declared, "IPAddressPool", sources.secrets, problems)
        case "ConfigMap":
            if sources.config_map is None:
                return Config()
            declared = configmap.declarations(sources.config_map, problems)
            return build(declared, "ConfigMap", sources.secrets, problems)
        case "OpenELB":
            return openelb.read(sources.eips, sources.bgp_confs, sources.bgp_peers, problems)


def _clashes(part: Config, others: Mapping[Form, Config]) -> bool:
    faults = Problems()
    _refuse_clashes("MetalLB", part, others, faults)
    return bool(faults)


_KINDS: dict[Form, str] = {"MetalLB": "IPAddressPool", "ConfigMap": "ConfigMap", "OpenELB": "Eip"}


def _refuse_clashes(form: Form, part: Config, others: Mapping[Form, Config], problems: Problems) -> None:
    """Two forms may not have the same address, or a pool of the same name."""
    theirs = [pool for other in others.values() for pool in other.pools]
    for pool in part.pools:
        in_file = form == "ConfigMap"
        name = "config" if in_file else pool.name
        for other in theirs:
            errors = []
            if other.name == pool.name:
                errors.append(duplicate("address-pools" if in_file else "metadata.name", pool.name))
            if _overlap(pool, other):
                place = "address-pools" if in_file else "spec.addresses"
                errors.append(invalid(place, pool.name, f"overlaps with {other.source} {other.name}"))
            problems.add(_KINDS[form], name, SPEC, errors)


def _overlap(one: Pool, other: Pool) -> bool:
    return any(
        mine.first <= its.last and its.first <= mine.last
        for version in (4, 6)
        for mine in one.ranges(version)
        for its in other.ranges(version)
    )


def _union(parts: Mapping[Form, Config]) -> Config:
    config = Config()
    for part in parts.values():
        joined = {
            each.name: tuple(sorted((*getattr(config, each.name), *getattr(part, each.name)), key=_name))
            for each in fields(Config)
            if each.name != "listen_port"
        }
        config = replace(config, **joined, listen_port=config.listen_port or part.listen_port)
    return config


def _name(part: object) -> str:
    return str(getattr(part, "name", ""))
