"""The load balancer's controller: addresses a second, beside a scan of the pool in the same run.

Run it with ``python bench/loadbalancer_allocation.py``. The reference decides as MetalLB's controller does:
it goes through the pool from its first address and takes the first that nobody has.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from ipaddress import IPv4Address, ip_network

from buoy.loadbalancer.allocation import Allocator
from buoy.loadbalancer.model import Pool, Range
from buoy.loadbalancer.request import Port, Request

SERVICES = 10_000
PORTS = frozenset({Port("TCP", 80)})
CLUSTER_IP = (IPv4Address("10.96.0.1"),)


def pool(cidr: str) -> Pool:
    network = ip_network(cidr)
    return Pool("default", ipv4=(Range(int(network[0]), int(network[-1])),))


class Scan:
    """The reference: no more than a dictionary of who has which address."""

    def __init__(self, cidr: str) -> None:
        self.network = ip_network(cidr)
        self.used: dict[IPv4Address, str] = {}
        self.held: dict[str, IPv4Address] = {}

    def give(self, name: str) -> None:
        first = int(self.network[0])
        for offset in range(self.network.num_addresses):
            address = IPv4Address(first + offset)
            if address not in self.used:
                self.used[address] = name
                self.held[name] = address
                return

    def forget(self, name: str) -> None:
        del self.used[self.held.pop(name)]


class Ours:
    def __init__(self, cidr: str) -> None:
        self.allocator = Allocator()
        self.allocator.configure([pool(cidr)])

    def give(self, name: str) -> None:
        assert self.allocator.settle(Request(name, CLUSTER_IP, ports=PORTS), ())
        self.allocator.confirm(name)

    def forget(self, name: str) -> None:
        self.allocator.forget(name)


def rate(act: Callable[[str], None], names: list[str]) -> float:
    started = time.perf_counter()
    for name in names:
        act(name)
    return len(names) / (time.perf_counter() - started)


def churn(balancer: Ours | Scan, names: list[str]) -> Callable[[str], None]:
    """Delete a Service, and make it again."""

    def act(name: str) -> None:
        balancer.forget(name)
        balancer.give(name)

    return act


def main() -> None:
    names = [f"default/s{number}" for number in range(SERVICES)]
    few = random.Random(1).sample(names, 300)
    print(f"{SERVICES} Services, decisions a second")
    print(f"{'':34}{'a scan':>12}{'Buoy':>12}{'ratio':>9}")
    scan, ours = Scan("10.0.0.0/16"), Ours("10.0.0.0/16")
    # The scan of an empty pool is quick; it is the whole fill that counts.
    row("fill a /16", rate(scan.give, names[: SERVICES // 4]), rate(ours.give, names), "the scan: 2,500 only")
    for name in names[SERVICES // 4 :]:
        scan.used[IPv4Address(int(scan.network[0]) + len(scan.used))] = name
        scan.held[name] = next(reversed(scan.used))
    row("delete one, make one, in a /16", rate(churn(scan, few), few), rate(churn(ours, names), names))
    huge = Ours("10.0.0.0/8")
    rate(huge.give, names)
    one = rate(churn(ours, names), names)
    print(f"\nthe same in a /8, against the /16: {rate(churn(huge, names), names) / one:.2f}")
    full = Ours("10.0.0.0/16")
    rate(full.give, [f"default/t{number}" for number in range(2**16)])
    print(f"a refusal by a full /16, against a decision: {rate(full.give, names) / one:.2f}")


def row(what: str, reference: float, ours: float, note: str = "") -> None:
    print(f"{what:34}{reference:12,.0f}{ours:12,.0f}{ours / reference:9.1f}  {note}")


if __name__ == "__main__":
    main()
