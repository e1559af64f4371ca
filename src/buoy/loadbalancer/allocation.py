"""Which Service has which addresses. Pure: it decides and remembers; others read and write the API.

The rules, and the reasons and words of the events, are those of MetalLB's controller; a refusal says besides
what would help. An address is free for others only once the API no longer shows it on the Service that had it
(`Allocator.confirm`), so that at no time two Services show it that must not share it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import Literal, NamedTuple

from .free import FreeAddresses
from .model import Address, Pool, selects
from .request import UNSHARED, Port, Request, Sharing, show, versions

_NAMES = 3
_POOLS = 4
_FAMILY = {4: "IPv4", 6: "IPv6"}


class Notice(NamedTuple):
    """An event to record on a Service."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class Outcome(NamedTuple):
    """What a Service is to show from now on: its addresses, the pool they are from, and what happened."""

    addresses: tuple[Address, ...] = ()
    pool: str = ""
    notices: tuple[Notice, ...] = ()


class Usage(NamedTuple):
    """How many different addresses of a pool are given, and how many are left, by family."""

    assigned_ipv4: int
    assigned_ipv6: int
    available_ipv4: int
    available_ipv6: int

    def assigned(self, version: int) -> int:
        return self.assigned_ipv6 if version == 6 else self.assigned_ipv4

    def available(self, version: int) -> int:
        return self.available_ipv6 if version == 6 else self.available_ipv4


@dataclass(slots=True)
class _Holding:
    pool: str
    addresses: tuple[Address, ...]


@dataclass(slots=True)
class _Use:
    """Who is on one address, and who still shows it but is not to any more.

    *pool* is empty if the address is of none.
    """

    pool: str
    sharing: Sharing = UNSHARED
    services: dict[str, frozenset[Port]] = field(default_factory=dict)
    ports: dict[Port, str] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)


class _PoolState:
    def __init__(self, pool: Pool, uses: Mapping[Address, _Use]) -> None:
        self.pool = pool
        self.free = {
            4: FreeAddresses(
                4, pool.ipv4, lambda number: IPv4Address(number) in uses, avoid_buggy=pool.avoid_buggy_ips
            ),
            6: FreeAddresses(6, pool.ipv6, lambda number: IPv6Address(number) in uses),
        }
        self.services: dict[str, None] = {}

    def has(self, addresses: Iterable[Address]) -> bool:
        return all(self.free[each.version].position(int(each)) for each in addresses)


class _Refused(Exception):
    """No address: *why*, in MetalLB's words, and more about it. A change in one of *pools* may help."""

    def __init__(self, why: str, more: str = "", pools: Iterable[str] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.more = more
        self.pools = tuple(pools)


class Allocator:
    """The addresses of all Services, Service by Service.

    After `configure`, first `adopt` what the Services have already, then `settle` each. Write what that says,
    then `confirm`. `woken` are those to settle again as something they wait for may have become free.
    """

    def __init__(self) -> None:
        self._pools: dict[str, _PoolState] = {}
        self._holdings: dict[str, _Holding] = {}
        self._leaving: dict[str, set[Address]] = {}
        self._uses: dict[Address, _Use] = {}
        self._shared: dict[Sharing, dict[Address, None]] = {}
        self._refusals: dict[str, _Refused] = {}
        self._waiting: dict[str, dict[str, None]] = {}
        self._woken: dict[str, None] = {}
        self._touched: dict[str, None] = {}
        self._all_known = True

    # The pools.

    def configure(self, pools: Iterable[Pool], *, complete: bool = True) -> None:
        """Give out of *pools* from now on. A Service whose addresses are in none of them holds none.

        If they are not *complete*, an address of no pool may be of one that is not known, and stays.
        """
        self._all_known = complete
        self._pools = {pool.name: _PoolState(pool, self._uses) for pool in pools}
        for address, use in self._uses.items():
            state = self._pool_of((address,))
            use.pool = state.pool.name if state else ""
            if state:
                state.free[address.version].take()
        for service, holding in list(self._holdings.items()):
            state = self._pool_of(holding.addresses)
            if state:
                holding.pool = state.pool.name
                state.services[service] = None
            else:
                self._leave(service)
        self._touched = dict.fromkeys(self._pools)

    def pools(self) -> list[str]:
        """The names of the pools."""
        return list(self._pools)

    def usage(self, pool: str) -> Usage:
        """Raises KeyError if there is no such pool."""
        ipv4, ipv6 = self._pools[pool].free[4], self._pools[pool].free[6]
        return Usage(ipv4.assigned, ipv6.assigned, ipv4.available, ipv6.available)

    def holders(self, pool: str) -> dict[Address, tuple[str, ...]]:
        """The Services on each address of *pool*. Raises KeyError if there is no such pool."""
        found: dict[Address, tuple[str, ...]] = {}
        for service in self._pools[pool].services:
            for address in self._holdings[service].addresses:
                found[address] = (*found.get(address, ()), service)
        return found

    # The Services.

    def held(self, service: str) -> tuple[Address, ...]:
        """The addresses of *service*."""
        holding = self._holdings.get(service)
        return holding.addresses if holding else ()

    def adopt(self, request: Request, current: Sequence[Address]) -> None:
        """Leave a Service the addresses that it shows, unless it has some already.

        If the rules do not allow it, they are kept from others until it shows them no more.
        """
        if not current or request.service in self._holdings:
            return
        self._leave(request.service, also=current)
        state = self._pool_of(current)
        if state and len(versions(current)) == len(current) and not self._objection(request, state, current):
            self._assign(request, state, tuple(current))

    def settle(self, request: Request, current: Sequence[Address]) -> Outcome | None:
        """Decide about one Service, which shows the addresses *current*; None: leave it as it is."""
        if not self._all_known and current and not self.held(request.service) and not self._pool_of(current):
            return None
        notices: list[Notice] = []
        try:
            if request.dual == "RequireDualStack" and len(request.versions) < 2:
                self._leave(request.service)
                raise _Refused(
                    "Service requires dual stack but not enough clusterips "
                    f"[{' '.join(map(str, request.cluster_ips))}]"
                )
            self._keep(request, self.held(request.service) or tuple(current), notices)
            self._complete(request, notices)
            if not self.held(request.service):
                addresses = self._allocate(request)
                notices.append(Notice("Normal", "IPAllocated", f"Assigned IP {show(addresses)}"))
        except _Refused as refusal:
            notices.extend(self._refuse(request, refusal))
        holding = self._holdings.get(request.service)
        if not holding:
            return Outcome((), "", tuple(notices))
        return Outcome(holding.addresses, holding.pool, tuple(notices))

    def release(self, service: str, current: Sequence[Address] = ()) -> None:
        """*service* is not to be served any more; what it has and shows is free once that is confirmed."""
        self._leave(service, also=current)
        self._stop_waiting(service)

    def confirm(self, service: str) -> None:
        """The API shows for *service* what was decided last, and nothing else."""
        for address in self._leaving.pop(service, ()):
            use = self._uses[address]
            use.leaving.discard(service)
            self._vacated(address, use)

    def forget(self, service: str) -> None:
        """*service* is gone."""
        self.release(service)
        self.confirm(service)

    def woken(self) -> list[str]:
        """The Services that are worth another try since this was last asked."""
        found, self._woken = list(self._woken), {}
        return found

    def touched(self) -> list[str]:
        """The pools of which something has been given or taken since this was last asked."""
        found, self._touched = list(self._touched), {}
        return found

    # Deciding.

    def _keep(self, request: Request, addresses: tuple[Address, ...], notices: list[Notice]) -> None:
        """Hold on to *addresses* as far as the Service and the configuration still allow it."""
        if not addresses:
            return
        if len(versions(addresses)) < len(addresses):
            self._leave(request.service)
            message = f"Failed to retrieve LBIPs IPFamily for {show(addresses)}: more than one of a family"
            notices.append(Notice("Warning", "nolbIPsIPFamily", message))
            return
        fitting = tuple(each for each in addresses if each.version in request.versions)
        state = self._pool_of(fitting)
        if not fitting:
            why = f"{show(addresses)} does not match the ipFamily of the service"
        elif not state:
            why = f"{show(fitting)} is not allowed in config"
        elif objection := self._objection(request, state, fitting):
            why = objection
        elif request.pool and state.pool.name != request.pool:
            why = "user requested a different pool than the one currently assigned"
        elif request.addresses and set(request.addresses) != set(fitting):
            why = "user requested a different IP than the one currently assigned"
        else:
            self._assign(request, state, fitting)
            if request.fault:
                raise _Refused(request.fault)
            return
        self._leave(request.service)
        message = (
            f'current IP for "{request.service}" not allowed by config, will attempt for new IP assignment'
        )
        notices.append(Notice("Normal", "ClearAssignment", f"{message}: {why}"))

    def _complete(self, request: Request, notices: list[Notice]) -> None:
        """Add the address of a family that a dual-stack Service lacks."""
        holding = self._holdings.get(request.service)
        if not holding or request.addresses or len(holding.addresses) == len(request.versions):
            return
        state = self._pools[holding.pool]
        have: dict[int, Address] = {each.version: each for each in holding.addresses}
        (missing,) = (each for each in request.versions if each not in have)
        extra = self._candidate(request, state, missing)
        if extra:
            have[missing] = extra
            self._assign(request, state, tuple(have[each] for each in request.versions))
            notices.append(Notice("Normal", "IPAllocated", f'Assigned additional IP "{extra}"'))
        elif request.dual == "RequireDualStack":
            self._leave(request.service)  # another pool may have both
        else:
            why = f"no available IPs in pool {state.pool.name} for {_FAMILY[missing].lower()} IPFamily"
            raise _Refused(why, _lack(state, missing), [state.pool.name])

    def _allocate(self, request: Request) -> tuple[Address, ...]:
        if request.fault:
            raise _Refused(request.fault)
        if not request.versions:
            raise _Refused("invalid ClusterIPs, can't determine family")
        if request.addresses:
            return self._allocate_requested(request)
        if request.pool:
            state = self._pools.get(request.pool)
            if not state:
                raise _Refused(f'unknown pool "{request.pool}"')
            if not fits(state.pool, request):
                raise _Refused(f"pool {request.pool} not compatible for ip assignment")
            chosen = self._choose(request, [state])
            if not chosen:
                raise _Refused(
                    f'no available IPs in pool "{request.pool}"', _lacks([state], request), [request.pool]
                )
            return chosen
        pinned, others = self._automatic(request)
        chosen = self._choose(request, pinned) or self._choose(request, others)
        if not chosen:
            considered = [*pinned, *others]
            more = _lacks(considered, request) if considered else self._nothing_fits(request)
            raise _Refused("no available IPs", more, [state.pool.name for state in considered])
        return chosen

    def _allocate_requested(self, request: Request) -> tuple[Address, ...]:
        shown = show(request.addresses)
        if set(versions(request.addresses)) != set(request.versions):
            raise _Refused(f"requested loadBalancer IP(s) {shown} does not match the ipFamily of the service")
        state = self._pool_of(request.addresses)
        if not state:
            raise _Refused(f"{shown} is not allowed in config")
        if request.pool and state.pool.name != request.pool:
            raise _Refused(
                f"requested loadBalancer IP(s) {shown} is not compatible with requested address pool "
                f"{request.pool}"
            )
        if state.pool.closed:
            raise _Refused(f'pool "{state.pool.name}" is disabled')
        if not fits(state.pool, request):
            raise _Refused(f"pool {state.pool.name} not compatible for ip assignment")
        for address in request.addresses:
            if obstacle := self._obstacle(request, address):
                raise _Refused(obstacle, pools=[state.pool.name])
        self._assign(request, state, request.addresses)
        return request.addresses

    def _automatic(self, request: Request) -> tuple[list[_PoolState], list[_PoolState]]:
        """The pools that are for this Service in particular, the first to try first, and those for all."""
        usable = [
            state for state in self._pools.values() if state.pool.auto_assign and fits(state.pool, request)
        ]
        pinned = [state for state in usable if state.pool.pinned]
        pinned.sort(key=lambda state: state.pool.priority or float("inf"))
        return pinned, [state for state in usable if not state.pool.pinned]

    def _choose(self, request: Request, states: Sequence[_PoolState]) -> tuple[Address, ...]:
        """Take addresses of the first pool that has all; with PreferDualStack, else of one that has any."""
        partial: dict[int, tuple[_PoolState, Address]] = {}
        for state in states:
            found = {version: self._candidate(request, state, version) for version in request.versions}
            addresses = tuple(address for address in found.values() if address)
            if len(addresses) == len(request.versions):
                self._assign(request, state, addresses)
                return addresses
            for address in addresses:
                partial.setdefault(address.version, (state, address))
        if request.dual == "PreferDualStack":
            for version in request.versions:
                if version in partial:
                    state, address = partial[version]
                    self._assign(request, state, (address,))
                    return (address,)
        return ()

    def _candidate(self, request: Request, state: _PoolState, version: int) -> Address | None:
        """The first address of the pool that the Service may have: a free one, or one to share."""
        if state.pool.closed:
            return None
        free = state.free[version]
        best = free.first()
        for address in self._joinable(request):
            position = free.position(int(address)) if address.version == version else None
            if position and (not best or position < best) and not self._obstacle(request, address):
                best = position
        if not best:
            return None
        return IPv6Address(best[1]) if version == 6 else IPv4Address(best[1])

    def _joinable(self, request: Request) -> Iterable[Address]:
        """The addresses whose Services have what *request* needs to have in common with them."""
        return self._shared.get(request.sharing, ()) if request.sharing.key and request.joins else ()

    def _objection(self, request: Request, state: _PoolState, addresses: Sequence[Address]) -> str:
        """Why the Service may not have *addresses* of this pool, empty if it may."""
        if not fits(state.pool, request):
            return f"pool {state.pool.name} not compatible for ip assignment"
        return next((why for each in addresses if (why := self._conflict(request, each))), "")

    def _obstacle(self, request: Request, address: Address) -> str:
        """Why *address* cannot be given to the Service now, empty for nothing."""
        use = self._uses.get(address)
        if use and (leaving := sorted(use.leaving - {request.service})):
            return f'"{address}" is still shown by {_names(leaving)}'
        return self._conflict(request, address)

    def _conflict(self, request: Request, address: Address) -> str:
        """What those who are on *address* have against one more, empty for nothing."""
        use = self._uses.get(address)
        if use is None or len(use.services) == (request.service in use.services):
            return ""  # nobody else
        if why := _unshareable(use.sharing, request.sharing):
            others = [each for each in use.services if each != request.service]
            return (
                f'can\'t change sharing key for "{request.service}", address also in use by '
                f"{_names(others)}: {why}"
            )
        for port in sorted(request.ports):
            if use.ports.get(port, request.service) != request.service:
                return f'port {port} is already in use on "{address}"'
        return ""

    # Refusing.

    def _refuse(self, request: Request, refusal: _Refused) -> list[Notice]:
        """What to say about *refusal*, nothing if it has been said; remember what the Service waits for."""
        service = request.service
        said = self._refusals.get(service)
        if not said or said.pools != refusal.pools:  # else it keeps its place among those who wait
            self._stop_waiting(service)
            for pool in refusal.pools:
                self._waiting.setdefault(pool, {})[service] = None
        self._refusals[service] = refusal
        if said and said.why == refusal.why:
            return []
        message = f"{refusal.why}: {refusal.more}" if refusal.more else refusal.why
        if self.held(service):
            if request.fault:
                return [
                    Notice("Warning", "LoadBalancerFailed", f"invalid requested loadbalancer IPs: {message}")
                ]
            message = f"cannot assign additional IP in PreferDualStack: {message}"
            return [Notice("Normal", "AdditionalAssignFailed", message)]
        return [Notice("Warning", "AllocationFailed", f'Failed to allocate IP for "{service}": {message}')]

    def _nothing_fits(self, request: Request) -> str:
        """Why no pool is even considered."""
        if not self._pools:
            return "no address pool is configured"
        reasons = [_unsuitable(state.pool, request) for state in self._pools.values()]
        return _joined(reasons)

    # Bookkeeping.

    def _pool_of(self, addresses: Sequence[Address]) -> _PoolState | None:
        return next((state for state in self._pools.values() if state.has(addresses)), None)

    def _assign(self, request: Request, state: _PoolState, addresses: tuple[Address, ...]) -> None:
        service = request.service
        self._leave(service, keep=addresses)
        for address in addresses:
            self._occupy(request, state, address)
        self._holdings[service] = _Holding(state.pool.name, addresses)
        state.services[service] = None
        if len(addresses) == len(request.versions):
            self._stop_waiting(service)

    def _occupy(self, request: Request, state: _PoolState, address: Address) -> None:
        service = request.service
        use = self._use(address, state)
        ports = use.services.get(service, frozenset())
        for port in ports:
            del use.ports[port]
        if ports - request.ports or (ports and use.sharing != request.sharing):
            self._wake(use.pool)  # others may fit now
        self._touched[state.pool.name] = None
        use.services[service] = request.ports
        use.ports.update(dict.fromkeys(request.ports, service))
        self._set_sharing(address, use, request.sharing)

    def _use(self, address: Address, state: _PoolState | None) -> _Use:
        use = self._uses.get(address)
        if use is None:
            use = self._uses[address] = _Use(state.pool.name if state else "")
            if state:
                state.free[address.version].take()
        return use

    def _leave(self, service: str, *, keep: Sequence[Address] = (), also: Sequence[Address] = ()) -> None:
        """*service* holds only *keep* from now on; the rest, and *also*, stays taken until confirmed."""
        leaving = self._leaving.setdefault(service, set())
        holding = self._holdings.pop(service, None)
        if holding:
            leaving.update(holding.addresses)
            if state := self._pools.get(holding.pool):
                state.services.pop(service, None)
        leaving.update(also)
        for address in leaving:
            use = self._use(address, self._pool_of((address,)))
            if address in keep:
                use.leaving.discard(service)
            elif service not in use.leaving:
                use.leaving.add(service)
                for port in use.services.pop(service, ()):
                    del use.ports[port]
        leaving.difference_update(keep)
        if not leaving:
            del self._leaving[service]

    def _vacated(self, address: Address, use: _Use) -> None:
        """Somebody has left."""
        if use.pool:
            self._touched[use.pool] = None
        if not use.services and not use.leaving:
            self._set_sharing(address, use, UNSHARED)
            del self._uses[address]
            if use.pool:
                self._pools[use.pool].free[address.version].give_back(int(address))
        self._wake(use.pool)

    def _set_sharing(self, address: Address, use: _Use, sharing: Sharing) -> None:
        if use.sharing == sharing:
            return
        if use.sharing.key:
            known = self._shared[use.sharing]
            del known[address]
            if not known:
                del self._shared[use.sharing]
        if sharing.key:
            self._shared.setdefault(sharing, {})[address] = None
        use.sharing = sharing

    def _stop_waiting(self, service: str) -> None:
        refusal = self._refusals.pop(service, None)
        for pool in refusal.pools if refusal else ():
            waiting = self._waiting.get(pool, {})
            waiting.pop(service, None)
            if not waiting:
                self._waiting.pop(pool, None)

    def _wake(self, pool: str) -> None:
        self._woken.update(self._waiting.get(pool, {}))


def fits(pool: Pool, request: Request) -> bool:
    """Whether the Service may have addresses of *pool* at all."""
    if (pool.source == "Eip") is not request.openelb:
        return False
    if request.protocol and pool.protocol != request.protocol:
        return False
    if (pool.namespaces or pool.namespace_selectors) and request.namespace not in pool.namespaces:
        labels = request.namespace_labels
        if not any(selector.matches(labels) for selector in pool.namespace_selectors):
            return False
    return selects(pool.service_selectors, request.labels)


def _unshareable(existing: Sharing, new: Sharing) -> str:
    if not existing.key:
        return "existing service does not allow sharing"
    if not new.key:
        return "new service does not allow sharing"
    if existing.key != new.key:
        return f'sharing key "{new.key}" does not match existing sharing key "{existing.key}"'
    if existing.backend != new.backend:
        return f'backend key "{new.backend}" does not match existing sharing key "{existing.backend}"'
    return ""


def _unsuitable(pool: Pool, request: Request) -> str:
    if (pool.source == "Eip") is not request.openelb:
        openelb = "without" if request.openelb else "with"
        return f'pool "{pool.name}" is for Services {openelb} OpenELB\'s annotation'
    if not fits(pool, request):
        return f'pool "{pool.name}" is for other namespaces or Services'
    return f'pool "{pool.name}" is not assigned automatically, only when it is asked for'


def _lack(state: _PoolState, version: int) -> str:
    """What is missing in a pool that has no address for a Service, and what would help."""
    name, family, free = state.pool.name, _FAMILY[version], state.free[version]
    if state.pool.closed:
        return f'pool "{name}" is disabled'
    if not free.capacity:
        return f'pool "{name}" has no {family} addresses'
    return (
        f'pool "{name}" is full, its {free.capacity} {family} addresses are in use by '
        f"{_names(state.services)}; to free one, delete a Service of these or add addresses to the pool"
    )


def _lacks(states: Sequence[_PoolState], request: Request) -> str:
    found = []
    for state in states:
        missing = [version for version in request.versions if not state.free[version].first()]
        found.append(_lack(state, (missing or request.versions)[0]))
    return _joined(found)


def _names(services: Collection[str]) -> str:
    more = len(services) - _NAMES
    return ",".join(islice(services, _NAMES)) + (f" and {more} more" if more > 0 else "")


def _joined(reasons: Sequence[str]) -> str:
    more = len(reasons) - _POOLS
    return "; ".join(reasons[:_POOLS]) + (f"; and {more} more pools" if more > 0 else "")
