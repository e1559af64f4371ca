"""Declarations into a configuration: checked, references resolved, defaults filled in.

The rules are those of MetalLB's ``internal/config``; each fault names the field that it is in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple, TypeVar

from buoy.api import formats, selectors
from buoy.api.meta import Object
from buoy.api.status import FieldError, duplicate, forbidden_field, invalid, not_found_field, required
from buoy.api.status import not_supported as unsupported

from .. import model
from ..model import BfdProfile, BgpAdvertisement, Config, Layer2Advertisement, Peer, Pool, Preference, Source
from . import specs
from .addresses import Span, parse
from .problems import Problems, overlong
from .secrets import SecretError, password_of
from .specs import Declarations, Declared

Spec = TypeVar("Spec")

_AS_NUMBERS = 2**32 - 1
_DYNAMIC: dict[str, Literal["internal", "external"]] = {"internal": "internal", "external": "external"}


class _Placed(NamedTuple):
    """An entry of a pool, and where it stands."""

    span: Span
    text: str
    pool: Declared[specs.Pool]
    position: int


def build(
    declared: Declarations, source: Source, secrets: Mapping[str, Object], problems: Problems
) -> Config:
    """The configuration; what is at fault is left out of it, and told to *problems*.

    *secrets* are those of the load balancer's namespace, by name.
    """
    builder = _Builder(declared, source, secrets, problems)
    pools = builder.pools()
    profiles = builder.bfd_profiles()
    communities = builder.communities()
    peers = builder.peers(profiles)
    layer2 = builder.layer2(pools)
    bgp = builder.bgp(pools, peers, communities)
    return Config(
        pools=_sorted(pools),
        layer2=_sorted(layer2),
        bgp=_sorted(bgp),
        peers=_sorted(peers),
        bfd_profiles=_sorted(profiles),
    )


_Named = TypeVar("_Named", Pool, Layer2Advertisement, BgpAdvertisement, Peer, BfdProfile)


def _sorted(parts: Mapping[str, _Named]) -> tuple[_Named, ...]:
    return tuple(parts[name] for name in sorted(parts))


class _Builder:
    def __init__(
        self,
        declared: Declarations,
        source: Source,
        secrets: Mapping[str, Object],
        problems: Problems,
    ) -> None:
        self._declared = declared
        self._source: Source = source
        self._secrets = secrets
        self._problems = problems
        self._widest: dict[str, list[Span]] = {}

    def _tell(self, declared: Declared[Spec], errors: Iterable[FieldError]) -> None:
        self._problems.add(declared.kind, declared.object_name, declared.path, errors)

    def _unique(self, all_of_them: Iterable[Declared[Spec]]) -> Iterator[Declared[Spec]]:
        seen: set[str] = set()
        for declared in all_of_them:
            if declared.name in seen:
                self._tell(declared, [duplicate("spec.name", declared.name)])
            else:
                seen.add(declared.name)
                yield declared

    # Pools.

    def pools(self) -> dict[str, Pool]:
        found: dict[str, Pool] = {}
        placed: list[_Placed] = []
        for declared in self._unique(self._declared.pools):
            errors: list[FieldError] = []
            spans = []
            for index, text in enumerate(declared.spec.addresses):
                try:
                    span = parse(text)
                except ValueError as error:
                    errors.append(invalid(f"spec.addresses[{index}]", text, str(error)))
                else:
                    spans.append(span)
                    placed.append(_Placed(span, text, declared, index))
            if not declared.spec.addresses:
                errors.append(required("spec.addresses", "pool has no prefixes defined"))
            found[declared.name] = self._pool(declared, spans, errors)
            self._widest[declared.name] = spans
            self._tell(declared, errors)
        self._find_overlaps(placed)
        return found

    def _pool(self, declared: Declared[specs.Pool], spans: list[Span], errors: list[FieldError]) -> Pool:
        spec = declared.spec
        pool = Pool(
            declared.name,
            self._source,
            ipv4=tuple(span.range for span in spans if span.version == 4),
            ipv6=tuple(span.range for span in spans if span.version == 6),
            auto_assign=spec.auto_assign is not False,
            avoid_buggy_ips=spec.avoid_buggy_ips,
        )
        allocation = spec.service_allocation
        if allocation is None:
            return pool
        path = "spec.serviceAllocation"
        if allocation.priority < 0:
            errors.append(invalid(f"{path}.priority", allocation.priority, "must not be negative"))
        return replace(
            pool,
            pinned=True,
            priority=allocation.priority,
            namespaces=frozenset(allocation.namespaces or ()),
            namespace_selectors=_selectors(
                allocation.namespace_selectors, f"{path}.namespaceSelectors", errors
            ),
            service_selectors=_selectors(allocation.service_selectors, f"{path}.serviceSelectors", errors),
        )

    def _find_overlaps(self, placed: list[_Placed]) -> None:
        """An entry that shares an address with another is a fault of the one that is declared later."""
        for version in (4, 6):
            of_version = (each for each in placed if each.span.version == version)
            widest: _Placed | None = None
            for each in sorted(of_version, key=lambda one: (one.span.range, placed.index(one))):
                if widest is not None and each.span.range.first <= widest.span.range.last:
                    first, second = sorted((widest, each), key=placed.index)
                    message = f"overlaps with {first.text} of pool {first.pool.name}"
                    error = invalid(f"spec.addresses[{second.position}]", second.text, message)
                    self._tell(second.pool, [error])
                if widest is None or each.span.range.last > widest.span.range.last:
                    widest = each

    def _chosen(
        self,
        pools: Mapping[str, Pool],
        names: Iterable[str] | None,
        chosen: specs.Selectors,
        errors: list[FieldError],
    ) -> frozenset[str]:
        """The pools that an advertisement is for: those it names or selects, else all of its form."""
        if not names and not chosen:
            return frozenset(pools)
        wanted = _selectors(chosen, "spec.ipAddressPoolSelectors", errors)
        selected = {
            declared.name
            for declared in self._declared.pools
            if wanted and model.selects(wanted, declared.labels)
        }
        return frozenset((selected | set(names or ())) & set(pools))

    # BFD profiles and communities.

    def bfd_profiles(self) -> dict[str, BfdProfile]:
        found: dict[str, BfdProfile] = {}
        for declared in self._unique(self._declared.bfd_profiles):
            spec = declared.spec
            limits = (
                ("receiveInterval", spec.receive_interval, 10, 60000),
                ("transmitInterval", spec.transmit_interval, 10, 60000),
                ("detectMultiplier", spec.detect_multiplier, 2, 255),
                ("echoInterval", spec.echo_interval, 10, 60000),
                ("minimumTtl", spec.minimum_ttl, 1, 254),
            )
            self._tell(
                declared,
                [
                    overlong(f"spec.{name}", value, low, high)
                    for name, value, low, high in limits
                    if value is not None and not low <= value <= high
                ],
            )
            found[declared.name] = BfdProfile(
                declared.name,
                receive_interval=spec.receive_interval,
                transmit_interval=spec.transmit_interval,
                detect_multiplier=spec.detect_multiplier,
                echo_interval=spec.echo_interval,
                echo_mode=bool(spec.echo_mode),
                passive_mode=bool(spec.passive_mode),
                minimum_ttl=spec.minimum_ttl,
            )
        return found

    def communities(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for declared in self._declared.communities:
            errors = []
            for index, alias in enumerate(declared.spec.communities or ()):
                path = f"spec.communities[{index}]"
                if declared.path.in_file:
                    path = f"spec[{alias.name}]"
                elif alias.name in found:
                    errors.append(duplicate(f"{path}.name", alias.name))
                if not is_community(alias.value):
                    errors.append(
                        invalid(path if declared.path.in_file else f"{path}.value", alias.value, _COMMUNITY)
                    )
                found.setdefault(alias.name, alias.value)
            self._tell(declared, errors)
        return found

    # Peers.

    def peers(self, profiles: Mapping[str, BfdProfile]) -> dict[str, Peer]:
        found: dict[str, Peer] = {}
        for declared in self._unique(self._declared.peers):
            errors: list[FieldError] = []
            peer = self._peer(declared, profiles, errors)
            for other in found.values():
                if other.vrf != peer.vrf or not _may_share_a_node(other, peer):
                    continue
                if other.my_asn != peer.my_asn:
                    message = f"a node has one AS number, and peer {other.name} says {other.my_asn}"
                    errors.append(invalid("spec.myASN", peer.my_asn, message))
                if other.router_id != peer.router_id:
                    shown = other.router_id or "nothing"
                    message = f"a node has one router ID, and peer {other.name} says {shown}"
                    errors.append(invalid("spec.routerID", peer.router_id, message))
                if (other.address, other.interface, other.port) == (peer.address, peer.interface, peer.port):
                    field = "peerAddress" if peer.address else "interface"
                    errors.append(duplicate(f"spec.{field}", peer.address or peer.interface))
            found[declared.name] = peer
            self._tell(declared, errors)
        return found

    def _peer(
        self, declared: Declared[specs.Peer], profiles: Mapping[str, BfdProfile], errors: list[FieldError]
    ) -> Peer:
        spec = declared.spec
        hold, keepalive, connect = _timers(spec, errors)
        errors += _peer_errors(spec)
        bfd = profiles.get(spec.bfd_profile)
        if spec.bfd_profile and bfd is None:
            errors.append(not_found_field("spec.bfdProfile", spec.bfd_profile))
        password = spec.password
        reference = spec.password_secret
        if reference is not None and reference.name:
            if spec.password:
                errors.append(forbidden_field("spec.passwordSecret", "may not be set together with password"))
            try:
                password = password_of(self._secrets, reference.name)
            except SecretError as error:
                errors.append(invalid("spec.passwordSecret.name", reference.name, str(error)))
        if re.search(r"\s", password):  # FRR would read it as two words
            name = "spec.password" if spec.password else "spec.passwordSecret"
            errors.append(forbidden_field(name, "a password may not have white space"))
        return Peer(
            name=declared.name,
            my_asn=spec.my_asn,
            peer_asn=spec.peer_asn,
            dynamic_asn=_DYNAMIC.get(spec.dynamic_asn, ""),
            local_asn=spec.local_asn,
            address=spec.peer_address,
            interface=spec.interface,
            port=spec.peer_port or 179,
            source_address=spec.source_address,
            hold_time=hold,
            keepalive_time=keepalive,
            connect_time=connect,
            router_id=spec.router_id,
            node_selectors=_selectors(spec.node_selectors, "spec.nodeSelectors", errors),
            password=password,
            bfd=bfd,
            graceful_restart=spec.enable_graceful_restart,
            ebgp_multihop=spec.ebgp_multi_hop,
            vrf=spec.vrf,
            disable_mp=spec.disable_mp,
            dual_stack_address_family=spec.dual_stack_address_family,
        )

    # Advertisements.

    def layer2(self, pools: Mapping[str, Pool]) -> dict[str, Layer2Advertisement]:
        found: dict[str, Layer2Advertisement] = {}
        for declared in self._declared.l2_advertisements:
            spec, errors = declared.spec, list[FieldError]()
            preferences = []
            for index, preferred in enumerate(spec.preferred_node_selectors or ()):
                path = f"spec.preferredNodeSelectors[{index}]"
                if not 1 <= preferred.weight <= 100:
                    errors.append(overlong(f"{path}.weight", preferred.weight, 1, 100))
                selector = _selector(preferred.preference, f"{path}.preference", errors)
                preferences.append(Preference(preferred.weight, selector))
            interfaces = spec.interfaces or []
            for index, name in enumerate(interfaces):
                if name in interfaces[:index]:
                    errors.append(duplicate(f"spec.interfaces[{index}]", name))
            found[declared.name] = Layer2Advertisement(
                declared.name,
                self._chosen(pools, spec.ip_address_pools, spec.ip_address_pool_selectors, errors),
                node_selectors=_selectors(spec.node_selectors, "spec.nodeSelectors", errors),
                interfaces=tuple(interfaces),
                service_selectors=_selectors(spec.service_selectors, "spec.serviceSelectors", errors),
                preferred_nodes=tuple(preferences),
            )
            self._tell(declared, errors)
        return found

    def bgp(
        self, pools: Mapping[str, Pool], peers: Mapping[str, Peer], aliases: Mapping[str, str]
    ) -> dict[str, BgpAdvertisement]:
        found: dict[str, BgpAdvertisement] = {}
        for declared in self._declared.bgp_advertisements:
            spec, errors = declared.spec, list[FieldError]()
            chosen = self._chosen(pools, spec.ip_address_pools, spec.ip_address_pool_selectors, errors)
            communities = []
            for index, name in enumerate(spec.communities or ()):
                value = aliases.get(name, name)
                if not is_community(value):
                    errors.append(invalid(f"spec.communities[{index}]", name, _UNKNOWN_COMMUNITY))
                communities.append(value)
            for name, length, longest in (
                ("aggregationLength", spec.aggregation_length, 32),
                ("aggregationLengthV6", spec.aggregation_length_v6, 128),
            ):
                if not 1 <= length <= longest:
                    errors.append(overlong(f"spec.{name}", length, 1, longest))
            if not 0 <= spec.local_pref <= _AS_NUMBERS:
                errors.append(overlong("spec.localPref", spec.local_pref, 0, _AS_NUMBERS))
            errors += self._aggregates_beyond_pools(spec, chosen)
            if spec.service_selectors and (spec.aggregation_length, spec.aggregation_length_v6) != (32, 128):
                errors.append(
                    forbidden_field(
                        "spec.serviceSelectors", "may not be set together with an aggregation length"
                    )
                )
            advertisement = BgpAdvertisement(
                declared.name,
                chosen,
                node_selectors=_selectors(spec.node_selectors, "spec.nodeSelectors", errors),
                service_selectors=_selectors(spec.service_selectors, "spec.serviceSelectors", errors),
                peers=frozenset(spec.peers or peers) & frozenset(peers),
                aggregation_length=spec.aggregation_length,
                aggregation_length_v6=spec.aggregation_length_v6,
                local_pref=spec.local_pref,
                communities=tuple(sorted(set(communities))),
            )
            for other in found.values():
                if advertisement.local_pref != other.local_pref and _same_routes(advertisement, other, pools):
                    message = f"advertisement {other.name} gives the same prefix {other.local_pref}"
                    errors.append(invalid("spec.localPref", advertisement.local_pref, message))
            errors += _echo_without_ipv6(advertisement, pools, peers)
            found[declared.name] = advertisement
            self._tell(declared, errors)
        return found

    def _aggregates_beyond_pools(
        self, spec: specs.BGPAdvertisement, chosen: frozenset[str]
    ) -> Iterator[FieldError]:
        lengths = {4: spec.aggregation_length, 6: spec.aggregation_length_v6}
        names = {4: "spec.aggregationLength", 6: "spec.aggregationLengthV6"}
        told = set()
        for pool in sorted(chosen):
            for span in self._widest[pool]:
                if lengths[span.version] < span.widest and span.version not in told:
                    told.add(span.version)
                    message = (
                        f"prefix {span.widest} in pool {pool} is more specific than the aggregation length"
                    )
                    yield invalid(names[span.version], lengths[span.version], message)


def _selector(selector: specs.LabelSelector, path: str, errors: list[FieldError]) -> selectors.Selector:
    try:
        return selectors.from_object(specs.to_object(selector))
    except selectors.SelectorError as error:
        errors.append(invalid(path, specs.to_object(selector), str(error)))
        return selectors.NOTHING


def _selectors(chosen: specs.Selectors, path: str, errors: list[FieldError]) -> model.Selectors:
    return tuple(_selector(each, f"{path}[{index}]", errors) for index, each in enumerate(chosen or ()))


_COMMUNITY = "must be a:b, two numbers up to 65535, or large:a:b:c, three up to 4294967295"
_UNKNOWN_COMMUNITY = f"no community has this alias, and as a value it {_COMMUNITY}"


def is_community(text: str) -> bool:
    """A BGP community (RFC 1997), or with ``large:`` a large one (RFC 8092)."""
    large = text.startswith("large:")
    parts = text.removeprefix("large:").split(":")
    if len(parts) != (3 if large else 2):
        return False
    limit = 2**32 if large else 2**16
    return all(re.fullmatch(r"[0-9]{1,10}", part) and int(part) < limit for part in parts)


_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """A duration as Go writes it: ``90s``, ``1m30s``. Raises ValueError."""
    if text == "0":
        return 0.0
    total, end = 0.0, 0
    for match in _DURATION.finditer(text):
        if match.start() != end:
            break
        total += float(match[1]) * _UNITS[match[2]]
        end = match.end()
    if not text or end != len(text):
        raise ValueError("must be a duration such as 90s or 1m30s")
    return total


def _timers(spec: specs.Peer, errors: list[FieldError]) -> tuple[int | None, int | None, int | None]:
    """Hold, keepalive and connect time in seconds."""

    def read(name: str, text: str | None) -> float | None:
        if text is None:
            return None
        try:
            return seconds(text)
        except ValueError as error:
            errors.append(invalid(f"spec.{name}", text, str(error)))
            return None

    hold, keepalive = read("holdTime", spec.hold_time), read("keepaliveTime", spec.keepalive_time)
    connect = read("connectTime", spec.connect_time)
    if hold is not None and 0 < hold < 3:
        errors.append(invalid("spec.holdTime", spec.hold_time, "must be 0 or at least 3s"))
    if hold is not None and hold > 65535:
        errors.append(invalid("spec.holdTime", spec.hold_time, "must not be over 65535s"))
    if keepalive is not None and hold is None:
        errors.append(required("spec.holdTime", "keepaliveTime needs it"))
    if keepalive is not None and hold is not None and hold and keepalive >= hold:
        errors.append(invalid("spec.keepaliveTime", spec.keepalive_time, "must be less than holdTime"))
    if connect is not None and (connect != int(connect) or not 1 <= connect <= 65535):
        errors.append(
            invalid("spec.connectTime", spec.connect_time, "must be 1s to 65535s, in whole seconds")
        )
    if keepalive is None and hold is not None:
        keepalive = hold / 3
    whole = [None if each is None else int(each) for each in (hold, keepalive, connect)]
    return whole[0], whole[1], whole[2]


def _peer_errors(spec: specs.Peer) -> Iterator[FieldError]:
    """Faults that lie within one peer."""
    if not spec.my_asn:
        yield required("spec.myASN", "missing local ASN")
    for name, number in (
        ("myASN", spec.my_asn),
        ("peerASN", spec.peer_asn),
        ("localASN", spec.local_asn),
    ):
        if not 0 <= number <= _AS_NUMBERS:
            yield overlong(f"spec.{name}", number, 0, _AS_NUMBERS)
    if spec.dynamic_asn not in ("", "internal", "external"):
        yield unsupported("spec.dynamicASN", spec.dynamic_asn, ("internal", "external"))
    if spec.peer_asn and spec.dynamic_asn:
        yield forbidden_field("spec.dynamicASN", "may not be set together with peerASN")
    if not spec.peer_asn and not spec.dynamic_asn:
        yield required("spec.peerASN", "missing peer ASN, and no dynamicASN")
    if spec.peer_address and spec.interface:
        yield forbidden_field("spec.interface", "may not be set together with peerAddress")
    if not spec.peer_address and not spec.interface:
        yield required("spec.peerAddress", "missing peer address, and no interface")
    for name, text in (("peerAddress", spec.peer_address), ("sourceAddress", spec.source_address)):
        if text and formats.ip_address(text) is None:
            yield invalid(f"spec.{name}", text, "must be a valid IP address")
    router_id = formats.ip_address(spec.router_id) if spec.router_id else None
    if spec.router_id and (router_id is None or router_id.version != 4):
        yield invalid("spec.routerID", spec.router_id, "must be an IPv4 address")
    if not 0 <= spec.peer_port <= 16384:
        yield overlong("spec.peerPort", spec.peer_port, 0, 16384)
    internal = spec.dynamic_asn == "internal" or (spec.peer_asn and spec.peer_asn == spec.my_asn)
    if spec.ebgp_multi_hop and internal:
        yield forbidden_field("spec.ebgpMultiHop", "only for eBGP: the peer's AS is ours")
    if spec.local_asn and spec.local_asn == spec.my_asn:
        yield invalid("spec.localASN", spec.local_asn, "must differ from myASN")


def _may_share_a_node(one: Peer, other: Peer) -> bool:
    """Peers of different node selectors are taken to be for different nodes."""
    return not one.node_selectors or not other.node_selectors or one.node_selectors == other.node_selectors


def _same_routes(one: BgpAdvertisement, other: BgpAdvertisement, pools: Mapping[str, Pool]) -> bool:
    """Whether a node would announce one prefix by both, to one peer."""
    if not one.peers & other.peers or one.service_selectors != other.service_selectors:
        return False
    if one.node_selectors and other.node_selectors and one.node_selectors != other.node_selectors:
        return False
    same = {4: one.aggregation_length == other.aggregation_length}
    same[6] = one.aggregation_length_v6 == other.aggregation_length_v6
    return any(
        same[version] and pools[name].ranges(version)
        for name in one.pools & other.pools
        for version in (4, 6)
    )


def _echo_without_ipv6(
    advertisement: BgpAdvertisement, pools: Mapping[str, Pool], peers: Mapping[str, Peer]
) -> Iterator[FieldError]:
    six = sorted(name for name in advertisement.pools if pools[name].ipv6)
    for name in sorted(advertisement.peers) if six else ():
        profile = peers[name].bfd
        if profile is not None and profile.echo_mode:
            message = f"BFD profile {profile.name} of peer {name} has echo mode, which IPv6 has not"
            yield invalid("spec.ipAddressPools", six, message)
