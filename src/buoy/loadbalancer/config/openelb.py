"""OpenELB's custom resources into a configuration: Eip, BgpConf, BgpPeer.

Only the BgpConf named ``default`` counts. What a BgpPeer says that has no meaning for a speaker which only
announces is accepted, and without effect. Source: OpenELB's API, network.kubesphere.io/v1alpha2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, TypeVar

import msgspec

from buoy.api import formats, meta, selectors
from buoy.api.meta import Object
from buoy.api.status import FieldError, duplicate, forbidden_field, invalid, required

from ..model import BgpAdvertisement, Config, Layer2Advertisement, Peer, Pool
from . import specs
from .addresses import Span, parse
from .problems import SPEC, Problems, misshapen, overlong

DEFAULT = "eip.openelb.kubesphere.io/is-default-eip"
"""The annotation of the Eip for Services whose namespace has none of its own."""
RACK = "openelb.kubesphere.io/rack"
"""The node label that a BgpConf's ``asPerRack`` goes by."""

_CONF = "default"
_AS_NUMBERS = 2**32 - 1


class _Eip(msgspec.Struct, rename="camel"):
    address: str
    protocol: Literal["bgp", "layer2", "vip"] = "bgp"
    interface: str = ""
    disable: bool = False
    priority: int = 0
    namespaces: list[str] | None = None
    namespace_selector: dict[str, str] | None = None


class _Enabled(msgspec.Struct):
    enabled: bool = False


class _BgpConf(msgspec.Struct, rename="camel"):
    as_: int = msgspec.field(name="as")
    as_per_rack: dict[str, int] | None = None
    router_id: str = ""
    listen_port: int = 0
    graceful_restart: _Enabled | None = None


class _PeerConf(msgspec.Struct, rename="camel"):
    neighbor_address: str = ""
    peer_as: int = 0
    local_as: int = 0
    auth_password: str = ""
    neighbor_interface: str = ""
    vrf: str = ""
    admin_down: bool = False


class _Multihop(msgspec.Struct, rename="camel"):
    enabled: bool = False
    multihop_ttl: int = 0


class _TimersConfig(msgspec.Struct, rename="camel"):
    hold_time: str = ""
    keepalive_interval: str = ""
    connect_retry: str = ""


class _Timers(msgspec.Struct):
    config: _TimersConfig = msgspec.field(default_factory=_TimersConfig)


class _Transport(msgspec.Struct, rename="camel"):
    passive_mode: bool = False
    remote_port: int = 0
    local_address: str = ""


class _BgpPeer(msgspec.Struct, rename="camel"):
    conf: _PeerConf
    ebgp_multihop: _Multihop | None = None
    timers: _Timers | None = None
    transport: _Transport | None = None
    graceful_restart: _Enabled | None = None
    node_selector: specs.LabelSelector | None = None


def read(
    eips: Iterable[Object], bgp_confs: Iterable[Object], bgp_peers: Iterable[Object], problems: Problems
) -> Config:
    """The configuration; what is at fault is left out of it, and told to *problems*."""
    pools, layer2, routed = _pools(sorted(eips, key=meta.name), problems)
    conf = _conf(bgp_confs, problems)
    peers = _peers(sorted(bgp_peers, key=meta.name), conf, problems)
    names = frozenset(peer.name for peer in peers)
    bgp = [BgpAdvertisement(f"eip/{name}", frozenset({name}), peers=names) for name in routed]
    return Config(
        pools=tuple(pools),
        layer2=tuple(layer2),
        bgp=tuple(bgp) if names else (),
        peers=tuple(sorted(peers, key=lambda peer: peer.name)),
        listen_port=conf.listen_port if conf else 0,
    )


def _pools(
    eips: Iterable[Object], problems: Problems
) -> tuple[list[Pool], list[Layer2Advertisement], list[str]]:
    """The pools, how those on the LAN are announced, and the names of those that are routed to."""
    pools: list[Pool] = []
    layer2: list[Layer2Advertisement] = []
    routed: list[str] = []
    default = ""
    spans: list[tuple[str, Span]] = []
    for eip in eips:
        name = meta.name(eip)
        spec = _convert("Eip", eip, _Eip, problems)
        if spec is None:
            continue
        errors: list[FieldError] = []
        try:
            span = parse(spec.address, single=True)
        except ValueError as error:
            problems.add("Eip", name, SPEC, [invalid("spec.address", spec.address, str(error))])
            continue
        for other, taken in spans:
            if span.version == taken.version and _meet(span, taken):
                errors.append(invalid("spec.address", spec.address, f"overlaps with Eip {other}"))
        spans.append((name, span))
        if spec.protocol != "bgp" and not spec.interface:
            errors.append(required("spec.interface", f"protocol {spec.protocol} needs it"))
        if spec.priority < 0:
            errors.append(invalid("spec.priority", spec.priority, "must not be negative"))
        is_default = meta.annotations(eip).get(DEFAULT) == "true"
        if is_default and default:
            path = f"metadata.annotations[{DEFAULT}]"
            errors.append(forbidden_field(path, f"Eip {default} is the default already"))
        default = name if is_default else default
        pools.append(_pool(name, spec, span, is_default))
        if spec.protocol == "bgp":
            routed.append(name)
        else:
            interfaces = () if spec.interface.startswith("can_reach:") else (spec.interface,)
            layer2.append(Layer2Advertisement(f"eip/{name}", frozenset({name}), interfaces=interfaces))
        problems.add("Eip", name, SPEC, errors)
    return pools, layer2, routed


def _pool(name: str, spec: _Eip, span: Span, is_default: bool) -> Pool:
    labels = spec.namespace_selector
    pinned = bool(spec.namespaces or labels)
    return Pool(
        name,
        "Eip",
        ipv4=(span.range,) if span.version == 4 else (),
        ipv6=(span.range,) if span.version == 6 else (),
        auto_assign=pinned or is_default,
        pinned=pinned,
        priority=spec.priority,
        namespaces=frozenset(spec.namespaces or ()),
        namespace_selectors=(selectors.from_labels(labels),) if labels else (),
        closed=spec.disable,
        protocol="bgp" if spec.protocol == "bgp" else "layer2",
    )


def _meet(one: Span, other: Span) -> bool:
    return one.range.first <= other.range.last and other.range.first <= one.range.last


def _conf(bgp_confs: Iterable[Object], problems: Problems) -> _BgpConf | None:
    obj = next((each for each in bgp_confs if meta.name(each) == _CONF), None)
    spec = _convert("BgpConf", obj, _BgpConf, problems) if obj is not None else None
    if spec is None:
        return None
    errors = []
    for path, number in (
        ("spec.as", spec.as_),
        *((f"spec.asPerRack[{rack}]", number) for rack, number in (spec.as_per_rack or {}).items()),
    ):
        if not 1 <= number <= _AS_NUMBERS:
            errors.append(overlong(path, number, 1, _AS_NUMBERS))
    router_id = formats.ip_address(spec.router_id) if spec.router_id else None
    if spec.router_id and (router_id is None or router_id.version != 4):
        errors.append(invalid("spec.routerId", spec.router_id, "must be an IPv4 address"))
    if not 0 <= spec.listen_port <= 65535:
        errors.append(overlong("spec.listenPort", spec.listen_port, 0, 65535))
    problems.add("BgpConf", _CONF, SPEC, errors)
    return spec


def _peers(bgp_peers: Iterable[Object], conf: _BgpConf | None, problems: Problems) -> list[Peer]:
    found: list[Peer] = []
    seen: set[str] = set()
    for obj in bgp_peers:
        name = meta.name(obj)
        spec = _convert("BgpPeer", obj, _BgpPeer, problems)
        if spec is None or spec.conf.admin_down:
            continue
        errors = list(_peer_errors(spec))
        place = spec.conf.neighbor_address or spec.conf.neighbor_interface
        if place in seen:
            errors.append(duplicate("spec.conf.neighborAddress", place))
        seen.add(place)
        selector = selectors.EVERYTHING
        if spec.node_selector is not None:
            try:
                selector = selectors.from_object(specs.to_object(spec.node_selector))
            except selectors.SelectorError as error:
                shown = specs.to_object(spec.node_selector)
                errors.append(invalid("spec.nodeSelector", shown, str(error)))
        if not spec.conf.local_as and conf is None:
            errors.append(required("spec.conf.localAs", "there is no BgpConf default that says our AS"))
        if errors:
            problems.add("BgpPeer", name, SPEC, errors)
            continue
        found += _per_rack(_peer(name, spec, conf), selector, spec, conf)
    return found


def _per_rack(
    peer: Peer, selector: selectors.Selector, spec: _BgpPeer, conf: _BgpConf | None
) -> Iterable[Peer]:
    """The peer as each rack sees it: a rack with an AS of its own speaks for that."""
    racks = {} if spec.conf.local_as or conf is None else conf.as_per_rack or {}
    for rack, number in sorted(racks.items()):
        here = selectors.Requirement(RACK, "=", (rack,))
        narrowed = selectors.Selector((*selector.requirements, here))
        yield replace(peer, name=f"{peer.name}/{rack}", my_asn=number, node_selectors=(narrowed,))
    if not racks:
        yield replace(peer, node_selectors=() if selector.empty else (selector,))
        return
    elsewhere = selectors.Requirement(RACK, "notin", tuple(sorted(racks)))
    yield replace(peer, node_selectors=(selectors.Selector((*selector.requirements, elsewhere)),))


def _peer(name: str, spec: _BgpPeer, conf: _BgpConf | None) -> Peer:
    timers = spec.timers.config if spec.timers else _TimersConfig()
    transport = spec.transport or _Transport()
    multihop = spec.ebgp_multihop or _Multihop()
    hold = _whole_seconds(timers.hold_time)
    restart = spec.graceful_restart or (conf.graceful_restart if conf else None)
    return Peer(
        name=f"openelb/{name}",
        my_asn=spec.conf.local_as or (conf.as_ if conf else 0),
        peer_asn=spec.conf.peer_as,
        dynamic_asn="" if spec.conf.peer_as else "external",
        address=spec.conf.neighbor_address,
        interface=spec.conf.neighbor_interface,
        port=transport.remote_port or 179,
        source_address=transport.local_address,
        hold_time=hold,
        keepalive_time=_whole_seconds(timers.keepalive_interval) or (hold // 3 if hold else None),
        connect_time=_whole_seconds(timers.connect_retry),
        router_id=conf.router_id if conf else "",
        password=spec.conf.auth_password,
        graceful_restart=bool(restart and restart.enabled),
        ebgp_multihop=multihop.enabled,
        multihop_ttl=multihop.multihop_ttl if multihop.enabled else 0,
        vrf=spec.conf.vrf,
        passive=transport.passive_mode,
    )


def _peer_errors(spec: _BgpPeer) -> Iterable[FieldError]:
    conf = spec.conf
    if not conf.neighbor_address and not conf.neighbor_interface:
        yield required("spec.conf.neighborAddress")
    if conf.neighbor_address and formats.ip_address(conf.neighbor_address) is None:
        yield invalid("spec.conf.neighborAddress", conf.neighbor_address, "must be a valid IP address")
    for path, number in (("spec.conf.peerAs", conf.peer_as), ("spec.conf.localAs", conf.local_as)):
        if not 0 <= number <= _AS_NUMBERS:
            yield overlong(path, number, 0, _AS_NUMBERS)
    timers = spec.timers.config if spec.timers else _TimersConfig()
    for name, text in (
        ("holdTime", timers.hold_time),
        ("keepaliveInterval", timers.keepalive_interval),
        ("connectRetry", timers.connect_retry),
    ):
        if text and not text.isdecimal():
            yield invalid(f"spec.timers.config.{name}", text, "must be a whole number of seconds")
    hold = timers.hold_time
    if hold.isdecimal() and 0 < int(hold) < 3:
        yield invalid("spec.timers.config.holdTime", hold, "must be 0 or at least 3")
    transport = spec.transport or _Transport()
    if not 0 <= transport.remote_port <= 65535:
        yield overlong("spec.transport.remotePort", transport.remote_port, 0, 65535)


def _whole_seconds(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


_Spec = TypeVar("_Spec")


def _convert(kind: str, obj: Object, spec: type[_Spec], problems: Problems) -> _Spec | None:
    try:
        return msgspec.convert(obj.get("spec") or {}, spec)
    except msgspec.ValidationError as error:
        problems.add(kind, meta.name(obj), SPEC, [misshapen(error)])
        return None
