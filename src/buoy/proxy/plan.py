"""From Services, EndpointSlices and the node to a `Ruleset`, all at once or change by change.

Sources: the Service API's traffic policies; KEP-1669 (terminating endpoints), KEP-2433 and KEP-4444 (topology
hints, traffic distribution).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from .decode import Endpoint, Node, Service, Slice
from .model import Change, Destination, Family, PortName, PortRules, Ruleset, Settings


class HealthCheck(NamedTuple):
    """What a Service's health-check node port answers: *endpoints* are the ready ones on this node."""

    service: str
    port: int
    endpoints: int


def desired(services: Iterable[Service], slices: Iterable[Slice], node: Node, settings: Settings) -> Ruleset:
    """The whole decision from scratch."""
    by_service: dict[str, list[Slice]] = {}
    for piece in slices:
        by_service.setdefault(piece.service, []).append(piece)
    ports = {
        rules.name: rules
        for service in services
        for rules in service_rules(service, by_service.get(service.key, ()), node, settings.family)
    }
    return Ruleset(settings, ports)


def service_rules(
    service: Service, slices: Iterable[Slice], node: Node, family: Family
) -> tuple[PortRules, ...]:
    """The decision for one Service: nothing if it has no cluster IP of *family*."""
    cluster_ip = next(_of(family, service.cluster_ips), "")
    if not cluster_ip:
        return ()
    slices = [piece for piece in slices if piece.family is family]
    external_ips = tuple(_of(family, service.external_ips))
    load_balancer_ips = tuple(_of(family, service.load_balancer_ips))
    source_ranges = tuple(_of(family, service.source_ranges))
    found = []
    for name, protocol, port, node_port in service.ports:
        bare = PortRules(
            name=PortName(service.key, name, protocol),
            cluster_ip=cluster_ip,
            port=port,
            node_port=node_port,
            external_ips=external_ips,
            load_balancer_ips=load_balancer_ips,
            source_ranges=source_ranges,
            internal_local=service.internal_local,
            external_local=service.external_local,
            affinity_seconds=service.affinity_seconds,
            health_check_node_port=service.health_check_node_port,
        )
        found.append(_with_endpoints(bare, _endpoints(slices, name, protocol), node))
    return tuple(found)


def health_check(service: Service, slices: Iterable[Slice], node: Node) -> HealthCheck | None:
    """The health check of a Service that asks for one; an endpoint counts once, whatever its families."""
    if not service.health_check_node_port:
        return None
    ready = {
        endpoint.address
        for piece in slices
        for endpoint in piece.endpoints
        if endpoint.ready and endpoint.node == node.name
    }
    return HealthCheck(service.key, service.health_check_node_port, len(ready))


def _of(family: Family, addresses: Iterable[str]) -> Iterator[str]:
    return (address for address in addresses if Family.of(address) is family)


def _endpoints(slices: Iterable[Slice], name: str, protocol: str) -> dict[Destination, Endpoint]:
    """The endpoints of one port.

    One that is in two slices at once, on its way from one to the other, is taken from where it looks best.
    """
    found: dict[Destination, Endpoint] = {}
    for piece in slices:
        for port in piece.ports:
            if port.name != name or port.protocol != protocol:
                continue
            for endpoint in piece.endpoints:
                destination = Destination(endpoint.address, port.port)
                other = found.get(destination)
                if other is None or _standing(endpoint) > _standing(other):
                    found[destination] = endpoint
    return found


def _standing(endpoint: Endpoint) -> tuple[bool, bool, bool]:
    return endpoint.ready, endpoint.serving, not endpoint.terminating


def _with_endpoints(bare: PortRules, endpoints: Mapping[Destination, Endpoint], node: Node) -> PortRules:
    if not endpoints:
        return bare
    ready = {at: endpoint for at, endpoint in endpoints.items() if endpoint.ready}
    leaving = {
        at: endpoint
        for at, endpoint in endpoints.items()
        if not endpoint.ready and endpoint.serving and endpoint.terminating
    }
    cluster: Iterable[Destination] = ()
    local: Iterable[Destination] = ()
    usable = bool(ready or leaving)
    if bare.uses_cluster:
        cluster = _near(ready, node) if ready else leaving
    if bare.uses_local:
        local = _on(node, ready) or _on(node, leaving)
    serving: Iterable[Destination] = ()
    if bare.name.protocol == "UDP":
        serving = (at for at, endpoint in endpoints.items() if endpoint.ready or endpoint.serving)
    return replace(
        bare,
        cluster=tuple(sorted(cluster)),
        local=tuple(sorted(local)),
        usable=usable,
        serving=tuple(sorted(serving)),
    )


def _on(node: Node, endpoints: Mapping[Destination, Endpoint]) -> list[Destination]:
    return [at for at, endpoint in endpoints.items() if endpoint.node == node.name]


def _near(ready: Mapping[Destination, Endpoint], node: Node) -> Iterable[Destination]:
    """The ready endpoints that are hinted for this node, else for its zone, else all.

    Hints count only if every ready endpoint has them and at least one is for here.
    """
    if all(endpoint.node_hints for endpoint in ready.values()):
        chosen = [at for at, endpoint in ready.items() if node.name in endpoint.node_hints]
        if chosen:
            return chosen
    if node.zone and all(endpoint.zone_hints for endpoint in ready.values()):
        chosen = [at for at, endpoint in ready.items() if node.zone in endpoint.zone_hints]
        if chosen:
            return chosen
    return ready


class Planner:
    """Keeps a `Ruleset` current, one family; only what changed is decided anew.

    `current` is what the changes handed out so far add up to.
    """

    def __init__(self, family: Family, node: Node) -> None:
        self._family = family
        self._node = node
        self._services: dict[str, Service] = {}
        self._slices: dict[str, dict[str, Slice]] = {}
        self._owner: dict[str, str] = {}
        self._dirty: set[str] = set()
        self._ports: dict[PortName, PortRules] = {}
        self._names: dict[str, tuple[PortName, ...]] = {}
        self._health: dict[str, HealthCheck] = {}

    @property
    def health_checks(self) -> Mapping[str, HealthCheck]:
        """The health checks that go with `current`, by Service."""
        return MappingProxyType(self._health)

    @property
    def current(self) -> Mapping[PortName, PortRules]:
        return MappingProxyType(self._ports)

    def set_service(self, key: str, service: Service | None) -> bool:
        """Take in a Service, or its absence. Whether that is news."""
        if self._services.get(key) == service:
            return False
        if service is None:
            del self._services[key]
        else:
            self._services[key] = service
        self._dirty.add(key)
        return True

    def set_slice(self, key: str, piece: Slice | None) -> bool:
        """Take in an EndpointSlice, or its absence. Whether that is news.

        A slice may go over from one Service to another.
        """
        if piece is not None and piece.family is not self._family:
            piece = None
        owner = self._owner.get(key)
        if owner is None and piece is None:
            return False
        if owner is not None and (piece is None or piece.service != owner):
            del self._owner[key]
            pieces = self._slices[owner]
            del pieces[key]
            if not pieces:
                del self._slices[owner]
            self._dirty.add(owner)
        if piece is not None:
            self._owner[key] = piece.service
            self._slices.setdefault(piece.service, {})[key] = piece
            self._dirty.add(piece.service)
        return True

    def set_node(self, node: Node) -> bool:
        """Take in the node. Whether that is news: if its name or zone changed, everything is decided anew."""
        old, self._node = self._node, node
        if (node.name, node.zone) == (old.name, old.zone):
            return False
        self._dirty.update(self._services)
        return True

    def changes(self) -> dict[PortName, Change]:
        """What differs from the last call; from then on it is `current`."""
        found: dict[PortName, Change] = {}
        for key in self._dirty:
            service = self._services.get(key)
            rules: tuple[PortRules, ...] = ()
            check = None
            if service is not None:
                pieces = self._slices.get(key, {}).values()
                rules = service_rules(service, pieces, self._node, self._family)
                check = health_check(service, pieces, self._node)
            if check is not None:
                self._health[key] = check
            else:
                self._health.pop(key, None)
            new = {one.name: one for one in rules}
            for name in self._names.get(key, ()):
                if name not in new:
                    found[name] = Change(self._ports.pop(name), None)
            for name, one in new.items():
                old = self._ports.get(name)
                if old != one:
                    self._ports[name] = one
                    found[name] = Change(old, one)
            if new:
                self._names[key] = tuple(new)
            else:
                self._names.pop(key, None)
        self._dirty.clear()
        return found
