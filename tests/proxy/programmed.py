"""A proxy's kernel half on each node of a small world, told what to do by a test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from buoy.proxy import conntrack
from buoy.proxy.backend import Backend
from buoy.proxy.iptables import IptablesBackend
from buoy.proxy.model import Change, Destination, Family, PortName, PortRules, Ruleset, Settings
from topology import Answering, Host, Node, World

BACKENDS: dict[str, Callable[[Family], Backend]] = {"iptables": IptablesBackend}
"""Every rule backend, by the name of its mode. The tests of what all must do run for each."""

WEB = PortName("default/web", "http", "TCP")

POD_CIDRS = {Family.of(cidr): cidr for cidr in World.pod_cidrs}


def settings_of(node: Node, family: Family, **changes: object) -> Settings:
    return Settings(
        **{
            "family": family,
            "node_ips": (node.addresses[family],),
            "local_cidr": POD_CIDRS[family],
            **changes,
        }
    )


def rules(*destinations: Destination, name: PortName = WEB, **changes: object) -> PortRules:
    """A Service port at 10.96.0.10:80 whose endpoints are *destinations*."""
    found = tuple(sorted(destinations))
    serving = found if name.protocol == "UDP" else ()
    base = PortRules(name, "10.96.0.10", 80, cluster=found, usable=bool(found), serving=serving)
    return replace(base, **changes)


def pods(node: Node, servers: Answering, count: int, protocol: str = "TCP") -> list[Host]:
    """New Pods that answer on port 8080 with their names."""
    found = []
    for number in range(1, count + 1):
        pod = node.add_pod(f"pod-{number}")
        servers.listen(pod, pod.name, 8080, protocol=protocol)
        found.append(pod)
    return found


def to(pod: Host) -> Destination:
    return Destination(pod.address, 8080)


@dataclass
class Programmed:
    """One node's backend and what it was last told."""

    node: Node
    backend: Backend
    settings: Settings
    ports: dict[PortName, PortRules] = field(default_factory=dict)

    async def rebuild(self, rules: Iterable[PortRules]) -> None:
        self.ports = {one.name: one for one in rules}
        await self.node.do(self.backend.rebuild(Ruleset(self.settings, self.ports)))

    async def apply(self, rules: Iterable[PortRules]) -> None:
        """Go over to *rules* by difference, and clean up after."""
        new = {one.name: one for one in rules}
        changes = {
            name: Change(self.ports.get(name), new.get(name))
            for name in self.ports.keys() | new.keys()
            if self.ports.get(name) != new.get(name)
        }
        await self.node.do(self.backend.apply(changes))
        self.ports = new
        await self.node.acall(
            conntrack.forget, self.settings.family, conntrack.suspects(changes), self.settings.node_ips
        )

    async def close(self) -> None:
        async def close() -> None:
            self.backend.close()

        await self.node.do(close())


def assert_even(names: Iterable[str], expected: Iterable[str]) -> None:
    """A chi-square test (after Wilson and Hilferty) does not reject equal shares at p = 0.001."""
    count, expected = Counter(names), list(expected)
    assert set(count) <= set(expected)
    each = count.total() / len(expected)
    statistic = sum((count[name] - each) ** 2 / each for name in expected)
    degrees = len(expected) - 1
    limit = degrees * (1 - 2 / (9 * degrees) + 3.0902 * math.sqrt(2 / (9 * degrees))) ** 3
    assert statistic < limit, f"{statistic:.1f} of at most {limit:.1f}: {count}"
