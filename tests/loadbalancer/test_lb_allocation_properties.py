"""Whatever happens in whatever order: no address twice, none lost, nobody left waiting."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from load_balancer_objects import DUAL, IPV6, ips, pool, request

from buoy.loadbalancer.allocation import Allocator, fits
from buoy.loadbalancer.model import Address, Pool
from buoy.loadbalancer.request import Request

NAMES = [f"{namespace}/{name}" for namespace in ("a", "b") for name in "12345"]
ADDRESSES = [*(f"10.0.0.{number}" for number in range(8)), *(f"fc00::{number}" for number in range(4))]
BLOCKS = ["10.0.0.0/31", "10.0.0.2/31", "10.0.0.4-10.0.0.6", "fc00::/127", "fc00::2/127", "10.0.0.7/32"]


@st.composite
def requests(draw: st.DrawFn, name: str) -> Request:
    cluster_ips, dual = draw(
        st.sampled_from(
            [
                (ips("10.96.0.1"), ""),
                (ips("10.96.0.1"), ""),
                (ips("10.96.0.1"), ""),
                (IPV6, ""),
                (DUAL, "PreferDualStack"),
                (DUAL[::-1], "PreferDualStack"),
                (DUAL, "RequireDualStack"),
            ]
        )
    )
    more: dict[str, Any] = {}
    match draw(st.integers(0, 9)):
        case 0:
            more["addresses"] = ips(draw(st.sampled_from(ADDRESSES)))
        case 1:
            more["pool"] = draw(st.sampled_from(["p0", "p1", "p2"]))
        case 2:
            more["fault"] = "nonsense"
    return request(
        name,
        *draw(st.sampled_from([(80,), (443,), (53,), (80, 443)])),
        key=draw(st.sampled_from(["", "k", "k", "l"])),
        backend=draw(st.sampled_from(["", "", "", "app=x"])),
        cluster_ips=cluster_ips,
        dual=dual,
        **more,
    )


@st.composite
def configurations(draw: st.DrawFn) -> list[Pool]:
    parts = draw(st.lists(st.sampled_from(BLOCKS), unique=True, min_size=draw(st.sampled_from([0, 2, 4]))))
    cuts = sorted(draw(st.lists(st.integers(0, len(parts)), min_size=2, max_size=2)))
    pools = []
    for index, piece in enumerate((parts[: cuts[0]], parts[cuts[0] : cuts[1]], parts[cuts[1] :])):
        if piece:
            pinned = draw(st.booleans())
            pools.append(
                pool(
                    f"p{index}",
                    *piece,
                    auto_assign=draw(st.sampled_from([True, True, True, False])),
                    avoid_buggy_ips=draw(st.booleans()),
                    closed=draw(st.sampled_from([False, False, False, True])),
                    pinned=pinned,
                    priority=draw(st.integers(0, 2)),
                    namespaces=frozenset(draw(st.sampled_from(["", "a"])) if pinned else ""),
                )
            )
    return pools


@dataclass
class Stored:
    """A Service in the API: what it asks for, what it shows, and what it asked for when that was decided."""

    wanted: Request
    shown: tuple[Address, ...] = ()
    decided: Request | None = None


class Allocations(RuleBasedStateMachine):
    """The API's Services, and an allocator whose controller may be slow or end at any line."""

    def __init__(self) -> None:
        super().__init__()
        self.api: dict[str, Stored] = {}
        self.pools: list[Pool] = []
        self.dirty: dict[str, None] = {}
        self.allocator = Allocator()

    @initialize(pools=configurations())
    def begin(self, pools: list[Pool]) -> None:
        self.configure(pools)

    # What happens in the cluster.

    @rule(data=st.data(), names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=5))
    def change(self, data: st.DataObject, names: list[str]) -> None:
        for name in names:
            self.api.setdefault(name, Stored(request(name))).wanted = data.draw(requests(name))
            self.dirty[name] = None

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        self.api.pop(name, None)
        self.dirty.pop(name, None)
        self.allocator.forget(name)

    @rule(name=st.sampled_from(NAMES))
    def stop_being_a_load_balancer(self, name: str) -> None:
        if name in self.api:
            self.allocator.release(name, self.api[name].shown)
            self.api[name].shown = ()
            self.allocator.confirm(name)
            del self.api[name]
            self.dirty.pop(name, None)

    @rule(pools=configurations())
    def configure(self, pools: list[Pool]) -> None:
        self.pools = pools
        self.allocator.configure(pools)
        self.adopt()

    # What the controller does.

    def adopt(self) -> None:
        for name, stored in self.api.items():
            self.allocator.adopt(stored.wanted, stored.shown)
            self.dirty[name] = None

    @rule()
    def crash(self) -> None:
        self.allocator = Allocator()
        self.allocator.configure(self.pools)
        self.adopt()

    @rule(fates=st.lists(st.sampled_from(["done", "done", "write failed", "answer lost"]), min_size=1))
    def work(self, fates: list[str]) -> None:
        for name, fate in zip(list(self.dirty), fates, strict=False):
            self.settle(name, fate)

    def settle(self, name: str, fate: str = "done") -> None:
        stored = self.api[name]
        outcome = self.allocator.settle(stored.wanted, stored.shown)
        assert outcome
        assert outcome.addresses == self.allocator.held(name)
        if fate == "write failed":
            self.dirty[name] = None
            return
        for address in set(outcome.addresses) - set(stored.shown):
            self.given(name, address)
        stored.shown, stored.decided = outcome.addresses, stored.wanted
        if fate == "answer lost":
            self.dirty[name] = None
            return
        self.allocator.confirm(name)
        self.dirty.pop(name, None)

    def given(self, name: str, address: Address) -> None:
        """*address* is new on *name*: it must fit, and be shared with all others that show it."""
        wanted = self.api[name].wanted
        found = next(each for each in self.pools if address in each)
        assert fits(found, wanted)
        for other, stored in self.api.items():
            if other != name and address in stored.shown:
                assert wanted.sharing.key
                if stored.wanted == stored.decided:  # else it has been changed, and is to be decided about
                    assert stored.wanted.sharing == wanted.sharing
                    assert not stored.wanted.ports & wanted.ports

    @rule()
    def quiesce(self) -> None:
        """The controller gets through its queue; then everything has to be right."""
        tries = 0
        while self.dirty or (woken := self.allocator.woken()):
            for name in [*self.dirty, *self.allocator.woken()] if self.dirty else woken:
                if name in self.api:
                    self.settle(name)
            tries += 1
            assert tries < 100, "the controller goes round in circles"
        self.check_nothing_is_lost()
        self.check_sharing()
        self.check_nobody_waits_for_nothing()

    # What has to hold.

    @invariant()
    def counts_are_right(self) -> None:
        for each in self.pools:
            usage = self.allocator.usage(each.name)
            assert min(usage) >= 0

    def check_nothing_is_lost(self) -> None:
        shown = {name: stored.shown for name, stored in self.api.items() if stored.shown}
        assert shown == {name: self.allocator.held(name) for name in self.api if self.allocator.held(name)}
        everywhere = {address for addresses in shown.values() for address in addresses}
        for each in self.pools:
            usage = self.allocator.usage(each.name)
            inside = {address for address in everywhere if address in each}
            assert usage.assigned_ipv4 == sum(address.version == 4 for address in inside)
            assert usage.assigned_ipv6 == sum(address.version == 6 for address in inside)
            assert usage.assigned_ipv4 + usage.available_ipv4 == len(self.usable(each, 4))
            assert set(self.allocator.holders(each.name)) == inside
        assert all(any(address in each for each in self.pools) for address in everywhere)

    def check_sharing(self) -> None:
        for one, two in combinations(self.api.values(), 2):
            if set(one.shown) & set(two.shown):
                assert one.wanted.sharing.key
                assert one.wanted.sharing == two.wanted.sharing
                assert not one.wanted.ports & two.wanted.ports

    def check_nobody_waits_for_nothing(self) -> None:
        """A Service without an address really can have none: every address of every pool is tried."""
        for stored in self.api.values():
            wanted = stored.wanted
            if stored.shown or wanted.fault or wanted.addresses or len(wanted.versions) > 1:
                continue
            for each in self.pools:
                usable = wanted.pool == each.name if wanted.pool else each.auto_assign
                if usable and not each.closed and fits(each, wanted):
                    for address in self.usable(each, wanted.versions[0]):
                        assert not self.may_have(wanted, address), f"{address} would do for {wanted}"

    def may_have(self, wanted: Request, address: Address) -> bool:
        return all(
            wanted.sharing.key
            and stored.wanted.sharing == wanted.sharing
            and not stored.wanted.ports & wanted.ports
            for stored in self.api.values()
            if address in stored.shown
        )

    def usable(self, each: Pool, version: int) -> list[Address]:
        return [address for address in ips(*ADDRESSES) if address.version == version and address in each]


TestAllocations = Allocations.TestCase
TestAllocations.settings = settings(
    max_examples=220,
    stateful_step_count=60,  # more than 10,000 steps in all
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
