"""What there is to announce, and from where: the decision, free of the API, the wire and of who is alive.

From the configuration, Services with their EndpointSlices, and Nodes follow the contests of layer 2, of which
one node each will win, and the routes of BGP, which every node announces that may. The rules, and the reasons
given for not announcing, are those of MetalLB's speaker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from buoy.api import formats, meta
from buoy.api.meta import Object

from .model import (
    Address,
    BgpAdvertisement,
    Config,
    Layer2Advertisement,
    Peer,
    Pool,
    Protocol,
    selects,
)

EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"

LAYER2 = "layer2"
BGP = "bgp"

SHARED_AND_SELECTED = "sharedIPWithServiceSelectors"
"""Services of one address might be selected by different advertisements, which name different nodes."""


@dataclass(frozen=True, slots=True)
class Service:
    """A Service of type LoadBalancer that has *addresses*; *local* is its external traffic policy.

    *protocol*: announced by that one only, empty for whatever advertisements say. *shares*: it lets other
    Services have its addresses.
    """

    key: str
    addresses: tuple[Address, ...]
    local: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    protocol: Protocol = ""
    shares: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """*available*: its network works, and nobody has excluded it from load balancing."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    available: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    address: str
    node: str
    serving: bool = True


@dataclass(frozen=True, slots=True)
class Contest:
    """An address that one of the nodes in *scores* answers for. *key* is what the election hashes.

    *interfaces* are those of the deciding node to answer on, None for all. *services* use the address.
    """

    key: str
    scores: Mapping[str, int]
    interfaces: frozenset[str] | None
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """A prefix as one peer gets it. *communities* are ``a:b`` or ``large:a:b:c``, sorted."""

    prefix: str
    local_pref: int = 0
    communities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it, as one node sees it.

    *routes* are by the name of each peer that this node talks to, sorted; *peers_of* says which of them each
    Service is announced to. *reasons* say why a Service, by key and protocol, is not announced from here.
    """

    contests: Mapping[Address, Contest] = field(default_factory=dict)
    peers: tuple[Peer, ...] = ()
    routes: Mapping[str, tuple[Route, ...]] = field(default_factory=dict)
    peers_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reasons: Mapping[tuple[str, str], str] = field(default_factory=dict)


def service(obj: Object, protocol: Protocol = "", *, shares: bool = False) -> Service | None:
    """The facts of a Service; None if there is nothing to announce."""
    spec = obj["spec"]
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    addresses = tuple(parsed for each in ingress if (parsed := formats.ip_address(each.get("ip") or "")))
    if spec.get("type") != "LoadBalancer" or not addresses:
        return None
    return Service(
        key=meta.key(obj),
        addresses=addresses,
        local=spec.get("externalTrafficPolicy") == "Local",
        labels=meta.labels(obj),
        protocol=protocol,
        shares=shares,
    )


def endpoints(obj: Object) -> tuple[str, tuple[Endpoint, ...]] | None:
    """The Service of an EndpointSlice and its endpoints; None if it is of no Service.

    An endpoint serves if it is ready, or still does so while it ends.
    """
    name = meta.labels(obj).get(SERVICE_NAME_LABEL)
    if not name:
        return None
    found = []
    for entry in obj.get("endpoints") or ():
        conditions = entry.get("conditions") or {}
        serving = conditions.get("ready") is not False or bool(conditions.get("serving"))
        found += [
            Endpoint(address, entry.get("nodeName") or "", serving)
            for address in entry.get("addresses") or ()
        ]
    return f"{meta.namespace(obj)}/{name}", tuple(found)


def node(obj: Object, *, ignore_exclusion: bool = False) -> Node:
    """The facts of a Node."""
    status = obj.get("status") or {}
    unavailable = any(
        condition["type"] == "NetworkUnavailable" and condition["status"] == "True"
        for condition in status.get("conditions") or ()
    )
    labels = meta.labels(obj)
    excluded = EXCLUDE_LABEL in labels and not ignore_exclusion
    return Node(
        name=meta.name(obj),
        labels=labels,
        addresses=tuple(
            entry["address"] for entry in status.get("addresses") or () if entry["type"] == "InternalIP"
        ),
        available=not unavailable and not excluded,
    )


def serving_nodes(endpoints: Iterable[Endpoint]) -> frozenset[str]:
    """The nodes with an endpoint that serves, "" for one that is on no node.

    One of whose ports some are not ready counts as not serving.
    """
    serving: dict[str, bool] = {}
    nodes: dict[str, str] = {}
    for endpoint in endpoints:
        serving[endpoint.address] = serving.get(endpoint.address, True) and endpoint.serving
        nodes[endpoint.address] = endpoint.node
    return frozenset(nodes[address] for address, does in serving.items() if does)


def plan(
    me: str,
    config: Config,
    nodes: Iterable[Node],
    services: Iterable[Service],
    serving: Mapping[str, frozenset[str]],
) -> Plan:
    """What node *me* has to do. *serving* are the nodes with endpoints of each Service, by key."""
    return _Planner(me, config, nodes).plan(services, serving)


class _Planner:
    def __init__(self, me: str, config: Config, nodes: Iterable[Node]) -> None:
        self._config = config
        self._nodes = {one.name: one for one in nodes}
        self._me = self._nodes.get(me) or Node(me, available=False)
        self._peers = tuple(peer for peer in config.peers if selects(peer.node_selectors, self._me.labels))
        self._candidates: dict[tuple[str, ...], dict[str, int]] = {}
        self._contests: dict[Address, Contest] = {}
        self._routes: dict[str, dict[str, Route]] = {peer.name: {} for peer in self._peers}
        self._peers_of: dict[str, set[str]] = {}
        self._reasons: dict[tuple[str, str], str] = {}

    def plan(self, services: Iterable[Service], serving: Mapping[str, frozenset[str]]) -> Plan:
        for one in sorted(services, key=lambda one: one.key):
            pool = self._config.pool_of(one.addresses)
            if pool is None:
                self._reasons[one.key, LAYER2] = self._reasons[one.key, BGP] = "ipNotAllowed"
                continue
            nodes = serving.get(one.key, frozenset())
            protocol = one.protocol or pool.protocol
            for name, announce in ((LAYER2, self._layer2), (BGP, self._bgp)):
                reason = announce(one, pool, nodes) if protocol in ("", name) else "noMatchingAdvertisement"
                if reason:
                    self._reasons[one.key, name] = reason
        return Plan(
            contests=self._contests,
            peers=self._peers,
            routes={
                name: tuple(sorted(routes.values(), key=_order)) for name, routes in self._routes.items()
            },
            peers_of={key: tuple(sorted(names)) for key, names in self._peers_of.items()},
            reasons=self._reasons,
        )

    def _layer2(self, service: Service, pool: Pool, serving: frozenset[str]) -> str:
        advertisements = [
            one
            for one in self._config.layer2
            if pool.name in one.pools and selects(one.service_selectors, service.labels)
        ]
        if not advertisements:
            return "noMatchingAdvertisement"
        if service.shares and any(one.service_selectors for one in advertisements):
            return SHARED_AND_SELECTED
        if not serving:
            return "noEndpoints"
        scores: Mapping[str, int] = self._scores(advertisements)
        if service.local:
            scores = {name: score for name, score in scores.items() if name in serving}
        for address in service.addresses:
            self._contend(address, service, scores, self._interfaces(advertisements))
        return "" if self._me.name in scores else "notOwner"

    def _scores(self, advertisements: list[Layer2Advertisement]) -> dict[str, int]:
        names = tuple(one.name for one in advertisements)
        if names not in self._candidates:
            scores: dict[str, int] = {}
            for node in self._nodes.values():
                if not node.available:
                    continue
                for one in advertisements:
                    if selects(one.node_selectors, node.labels):
                        preferred = sum(
                            each.weight for each in one.preferred_nodes if each.selector.matches(node.labels)
                        )
                        scores[node.name] = scores.get(node.name, 0) + preferred
            self._candidates[names] = scores
        return self._candidates[names]

    def _interfaces(self, advertisements: list[Layer2Advertisement]) -> frozenset[str] | None:
        """Those that any of *advertisements* names for this node, None if one is for all."""
        here = [one for one in advertisements if selects(one.node_selectors, self._me.labels)]
        if any(not one.interfaces for one in here):
            return None
        return frozenset(name for one in here for name in one.interfaces)

    def _contend(
        self,
        address: Address,
        service: Service,
        scores: Mapping[str, int],
        interfaces: frozenset[str] | None,
    ) -> None:
        """Services that share an address have one contest: the first of them by name sets its terms."""
        shared = self._contests.get(address)
        if shared is None:
            key = str(service.addresses[0])
            self._contests[address] = Contest(key, scores, interfaces, (service.key,))
            return
        union = None if shared.interfaces is None or interfaces is None else shared.interfaces | interfaces
        scores = shared.scores if shared.scores is scores else {**scores, **shared.scores}
        self._contests[address] = Contest(shared.key, scores, union, (*shared.services, service.key))

    def _bgp(self, service: Service, pool: Pool, serving: frozenset[str]) -> str:
        advertisements = [
            one
            for one in self._config.bgp
            if pool.name in one.pools and selects(one.service_selectors, service.labels)
        ]
        if not advertisements:
            return "noMatchingAdvertisement"
        here = [one for one in advertisements if selects(one.node_selectors, self._me.labels)]
        if not here or not self._me.available:
            return "notOwner"
        if service.local and self._me.name not in serving:
            return "noLocalEndpoints"
        if not serving:
            return "noEndpoints"
        for advertisement in here:
            for peer in self._peers:
                if peer.name in advertisement.peers:
                    self._peers_of.setdefault(service.key, set()).add(peer.name)
                    for address in service.addresses:
                        self._add_route(peer, advertisement, address)
        return ""

    def _add_route(self, peer: Peer, advertisement: BgpAdvertisement, address: Address) -> None:
        length = (
            advertisement.aggregation_length if address.version == 4 else advertisement.aggregation_length_v6
        )
        prefix = str(ip_network((address, length), strict=False))
        routes = self._routes[peer.name]
        known = routes.get(prefix, Route(prefix))
        routes[prefix] = Route(
            prefix,
            max(known.local_pref, advertisement.local_pref),
            tuple(sorted({*known.communities, *advertisement.communities})),
        )


def _order(route: Route) -> tuple[int, str]:
    return (":" in route.prefix, route.prefix)
