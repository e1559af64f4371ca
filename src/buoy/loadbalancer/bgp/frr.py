"""FRR's configuration for peers and routes, and the commands from one configuration to the next.

What a peer gets is decided by a route map of its own, with one entry for each set of attributes. Entries are
named by what is in them, so they come and go but never change, and a session is touched only if its own
settings change.

Source: the FRR user guide, chapters BGP, BFD, Filtering, Route Maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address

from ..announcements import Route
from ..model import BfdProfile, Peer

_CONNECT_SECONDS = 5
"""How long FRR waits before it tries an unreachable peer again. Its own default is 120."""

_FAMILIES = {4: "ipv4 unicast", 6: "ipv6 unicast"}


@dataclass(frozen=True, slots=True)
class Neighbor:
    """*session* are its lines in the router, *families* those in each address family, by IP version."""

    session: tuple[str, ...]
    families: Mapping[int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Router:
    """FRR's BGP instance in one VRF. *networks* are prefixes by IP version."""

    asn: int
    router_id: str = ""
    neighbors: Mapping[str, Neighbor] = field(default_factory=dict)
    networks: Mapping[int, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that FRR is told. *routers* are by VRF, ``""`` for none; blocks are lines by their first line."""

    routers: Mapping[str, Router] = field(default_factory=dict)
    prefix_lists: frozenset[str] = frozenset()
    route_maps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bfd_profiles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def router_id(node: str, addresses: Iterable[str]) -> str:
    """What tells a node's routers from all others (RFC 6286): its IPv4 address; without one, of its name.

    Left alone FRR would take the highest address of the loopback interface, which may be that of cluster DNS
    and the same on every node.
    """
    made = IPv4Address(b"\x0a" + sha256(node.encode()).digest()[:3])
    return next((address for address in addresses if _version(address) == 4), str(made))


def configuration(
    peers: Iterable[Peer], routes: Mapping[str, tuple[Route, ...]], default_id: str = ""
) -> Configuration:
    """What FRR has to be told for *peers* and the *routes* of each, by name.

    *default_id* is the router ID where no peer names one. FRR has one AS number a VRF: of peers that know
    this node under different ones the first counts, and to the others it goes by theirs.
    """
    by_vrf: dict[str, list[Peer]] = {}
    for peer in peers:
        by_vrf.setdefault(peer.vrf, []).append(peer)
    prefix_lists: set[str] = set()
    route_maps: dict[str, tuple[str, ...]] = {}
    bfd_profiles = {}
    for peer in (peer for group in by_vrf.values() for peer in group):
        lists, entries = _policy(peer, routes.get(peer.name, ()))
        prefix_lists |= lists
        route_maps |= entries
        if peer.bfd:
            bfd_profiles[f"profile {peer.bfd.name}"] = tuple(_bfd_lines(peer.bfd))
    return Configuration(
        routers={vrf: _router(group, routes, default_id) for vrf, group in by_vrf.items()},
        prefix_lists=frozenset(prefix_lists),
        route_maps=route_maps,
        bfd_profiles=bfd_profiles,
    )


def _router(peers: list[Peer], routes: Mapping[str, tuple[Route, ...]], default_id: str) -> Router:
    asn = peers[0].my_asn
    networks: dict[int, set[str]] = {version: set() for version in _FAMILIES}
    for peer in peers:
        for route in routes.get(peer.name, ()):
            networks[_version(route.prefix)].add(route.prefix)
    return Router(
        asn,
        next((peer.router_id for peer in peers if peer.router_id), default_id),
        {peer.address or peer.interface: _neighbor(peer, asn) for peer in peers},
        {version: frozenset(prefixes) for version, prefixes in networks.items()},
    )


def _neighbor(peer: Peer, router_asn: int) -> Neighbor:
    name = peer.address or peer.interface
    remote = peer.dynamic_asn or peer.peer_asn
    lines = [f"{'' if peer.address else 'interface '}remote-as {remote}"]
    local_asn = peer.local_asn or peer.my_asn
    if local_asn != router_asn:
        lines.append(f"local-as {local_asn} no-prepend replace-as")
    if peer.address and peer.port != 179:
        lines.append(f"port {peer.port}")
    if peer.hold_time is not None:
        keepalive = peer.hold_time // 3 if peer.keepalive_time is None else peer.keepalive_time
        lines.append(f"timers {keepalive} {peer.hold_time}")
    lines.append(f"timers connect {peer.connect_time or _CONNECT_SECONDS}")
    if peer.password:
        lines.append(f"password {peer.password}")
    if peer.source_address:
        lines.append(f"update-source {peer.source_address}")
    if not peer.is_internal:
        if peer.ebgp_multihop:
            lines.append(f"ebgp-multihop {peer.multihop_ttl}" if peer.multihop_ttl else "ebgp-multihop")
        elif ":" in peer.address:
            lines.append("disable-connected-check")
    if peer.passive:
        lines.append("passive")
    if peer.graceful_restart:
        lines.append("graceful-restart")
    if peer.bfd:
        lines += ["bfd", f"bfd profile {peer.bfd.name}"]
    policy = ("activate", f"route-map {peer.name}-in in", f"route-map {peer.name}-out out")
    return Neighbor(
        tuple(f"neighbor {name} {line}" for line in lines),
        {version: tuple(f"neighbor {name} {line}" for line in policy) for version in _versions(peer)},
    )


def _versions(peer: Peer) -> tuple[int, ...]:
    """The families of the session: the peer's own, both if it asks for that or has no address."""
    if not peer.address or peer.dual_stack_address_family:
        return (4, 6)
    return (_version(peer.address),)


def _policy(peer: Peer, routes: Iterable[Route]) -> tuple[set[str], dict[str, tuple[str, ...]]]:
    """The prefix lists and route map entries that let *routes* out, with their attributes, and nothing in."""
    lists: set[str] = set()
    entries: dict[str, tuple[str, ...]] = {f"route-map {peer.name}-in deny 1": ()}
    taken: set[int] = set()
    for route in sorted(routes, key=lambda route: (route.local_pref, route.communities, route.prefix)):
        protocol = "ip" if _version(route.prefix) == 4 else "ipv6"
        digest = sha256(f"{protocol} {route.local_pref} {route.communities}".encode()).hexdigest()
        name = f"{peer.name}-{protocol}-{digest[:8]}"
        if f"match {protocol} address prefix-list {name}" not in {
            lines[0] for lines in entries.values() if lines
        }:
            number = int(digest[:4], 16) % 65000 + 1
            while number in taken:
                number += 1
            taken.add(number)
            entries[f"route-map {peer.name}-out permit {number}"] = (
                f"match {protocol} address prefix-list {name}",
                *_attributes(route),
            )
        lists.add(f"{protocol} prefix-list {name} permit {route.prefix}")
    entries[f"route-map {peer.name}-out deny 65535"] = ()
    return lists, entries


def _attributes(route: Route) -> Iterator[str]:
    if route.local_pref:
        yield f"set local-preference {route.local_pref}"
    large = [one.removeprefix("large:") for one in route.communities if one.startswith("large:")]
    plain = [one for one in route.communities if not one.startswith("large:")]
    if plain:
        yield f"set community {' '.join(plain)} additive"
    if large:
        yield f"set large-community {' '.join(large)} additive"


def _bfd_lines(profile: BfdProfile) -> Iterator[str]:
    for name, value in (
        ("receive-interval", profile.receive_interval),
        ("transmit-interval", profile.transmit_interval),
        ("detect-multiplier", profile.detect_multiplier),
        ("echo transmit-interval", profile.echo_interval),
        ("echo receive-interval", profile.echo_interval),
        ("minimum-ttl", profile.minimum_ttl),
    ):
        if value is not None:
            yield f"{name} {value}"
    if profile.echo_mode:
        yield "echo-mode"
    if profile.passive_mode:
        yield "passive-mode"


def commands(old: Configuration, new: Configuration) -> list[str]:
    """What to type at FRR to get from *old* to *new*. Policies come before what they serve, and go after."""
    lines = sorted(new.prefix_lists - old.prefix_lists)
    for header, body in new.route_maps.items():
        if old.route_maps.get(header) != body:
            if header in old.route_maps:
                lines.append(f"no {header}")
            lines += [header, *body, "exit"]
    lines += _bfd_commands(old.bfd_profiles, new.bfd_profiles)
    for vrf, router in old.routers.items():
        if vrf not in new.routers or new.routers[vrf].asn != router.asn:
            lines.append(f"no router bgp {router.asn}{_in_vrf(vrf)}")
    for vrf, router in new.routers.items():
        before = old.routers.get(vrf)
        known = before if before and before.asn == router.asn else None
        if router != known:
            lines += [f"router bgp {router.asn}{_in_vrf(vrf)}", *_router_commands(known, router), "exit"]
    lines += [f"no {header}" for header in old.route_maps if header not in new.route_maps]
    lines += [f"no {line}" for line in sorted(old.prefix_lists - new.prefix_lists)]
    gone = [header for header in old.bfd_profiles if header not in new.bfd_profiles]
    if gone:
        lines += ["bfd", *(f"no {header}" for header in gone), "exit"]
    return lines


def _bfd_commands(old: Mapping[str, tuple[str, ...]], new: Mapping[str, tuple[str, ...]]) -> list[str]:
    changed = [header for header in new if new[header] != old.get(header)]
    if not changed:
        return []
    lines = ["bfd"]
    for header in changed:
        dropped = [f"no {line}" for line in old.get(header, ()) if line not in new[header]]
        lines += [header, *dropped, *new[header], "exit"]
    return [*lines, "exit"]


def _router_commands(old: Router | None, new: Router) -> Iterator[str]:
    if old is None:
        yield "no bgp ebgp-requires-policy"
        yield "no bgp network import-check"
        yield "no bgp default ipv4-unicast"
        yield "bgp graceful-restart preserve-fw-state"
    before = old or Router(new.asn)
    if new.router_id != before.router_id:
        yield f"bgp router-id {new.router_id}" if new.router_id else "no bgp router-id"
    for name, neighbor in before.neighbors.items():
        if new.neighbors.get(name) != neighbor:
            yield f"no {neighbor.session[0]}"
    changed = {name: one for name, one in new.neighbors.items() if before.neighbors.get(name) != one}
    for name, neighbor in changed.items():
        remote, *settings = neighbor.session
        yield from (remote, f"neighbor {name} shutdown", *settings)  # it must not start with half of them
    for version, family in _FAMILIES.items():
        was, now = before.networks.get(version, frozenset()), new.networks.get(version, frozenset())
        lines = [line for neighbor in changed.values() for line in neighbor.families.get(version, ())]
        lines += [f"network {prefix}" for prefix in sorted(now - was)]
        lines += [f"no network {prefix}" for prefix in sorted(was - now)]
        if lines:
            yield f"address-family {family}"
            yield from lines
            yield "exit-address-family"
    for name in changed:
        yield f"no neighbor {name} shutdown"


def _in_vrf(vrf: str) -> str:
    return f" vrf {vrf}" if vrf else ""


def _version(address: str) -> int:
    return 6 if ":" in address else 4
