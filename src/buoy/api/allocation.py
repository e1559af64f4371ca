"""Which addresses and ports are taken: cluster IPs and node ports, each used once.

Only the bookkeeping, in memory; the API server keeps it in step with the Services that it stores, and
rebuilds it from them when it starts. Nothing here waits, so callers on one event loop cannot get into each
other's way.

Free ones are picked at random from the upper, dynamic band, and from the lower band only once that is full:
the lower band is left to those who ask for a particular address (KEP-3070) or port (KEP-3668).
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable

_ATTEMPTS = 8


class AllocationError(Exception):
    """The base of this module's errors; the argument is Kubernetes' sentence."""


class AlreadyAllocated(AllocationError):
    """Somebody else has it."""


class NotInRange(AllocationError):
    """It does not belong to the range."""


class RangeFull(AllocationError):
    """Nothing is left."""

    def __init__(self) -> None:
        super().__init__("range is full")


class _Pool:
    """Offsets 0 to *size* - 1, of which those below *band* are left for explicit requests."""

    def __init__(self, size: int, band: int, rng: random.Random | None) -> None:
        self.size = size
        self.band = band
        self._used: set[int] = set()
        self._random = rng or random.Random()  # noqa: S311 - spreads, does not hide

    def __len__(self) -> int:
        return len(self._used)

    def __contains__(self, offset: int) -> bool:
        return offset in self._used

    def take(self, offset: int) -> bool:
        if offset in self._used:
            return False
        self._used.add(offset)
        return True

    def next(self) -> int:
        for low, high in ((self.band, self.size), (0, self.band)):
            offset = self._between(low, high)
            if offset is not None:
                self._used.add(offset)
                return offset
        raise RangeFull

    def _between(self, low: int, high: int) -> int | None:
        if low >= high:
            return None
        for _ in range(_ATTEMPTS):
            offset = self._random.randrange(low, high)
            if offset not in self._used:
                return offset
        # Crowded: walk once around from a random place.
        start = self._random.randrange(low, high)
        for offset in range(start, high):
            if offset not in self._used:
                return offset
        for offset in range(low, start):
            if offset not in self._used:
                return offset
        return None

    def release(self, offset: int) -> None:
        self._used.discard(offset)

    def clear(self) -> None:
        self._used.clear()


class IPRange:
    """Addresses of one CIDR, without the network's own and, for IPv4, the broadcast address."""

    def __init__(self, cidr: str, *, rng: random.Random | None = None) -> None:
        self.network = ipaddress.ip_network(cidr)
        self.family = "IPv4" if self.network.version == 4 else "IPv6"
        count = self.network.num_addresses
        size = count - (2 if self.network.version == 4 else 1)
        if size < 1:
            raise ValueError(f"the range {cidr} has no room for Services")
        band = min(max(16, count // 16), 256) if count > 16 else 0
        self._first = int(self.network.network_address) + 1
        self._pool = _Pool(size, band, rng)

    @property
    def used(self) -> int:
        return len(self._pool)

    @property
    def free(self) -> int:
        return self._pool.size - len(self._pool)

    def __contains__(self, address: str) -> bool:
        """Whether the address belongs to the range, taken or not."""
        try:
            self._offset(address)
        except NotInRange:
            return False
        return True

    def is_used(self, address: str) -> bool:
        return address in self and self._offset(address) in self._pool

    def allocate(self) -> str:
        """A free address, now taken. Raises RangeFull."""
        number = self._first + self._pool.next()
        kind = ipaddress.IPv4Address if self.network.version == 4 else ipaddress.IPv6Address
        return str(kind(number))

    def reserve(self, address: str) -> None:
        """Take this address. Raises NotInRange, AlreadyAllocated."""
        if not self._pool.take(self._offset(address)):
            raise AlreadyAllocated("provided IP is already allocated")

    def release(self, address: str) -> None:
        """Give it back; one that is not taken, or not of this range, is no fault."""
        if address in self:
            self._pool.release(self._offset(address))

    def rebuild(self, addresses: Iterable[str]) -> list[str]:
        """Forget everything, take these; returns those that were out of range or listed twice."""
        self._pool.clear()
        rejected = []
        for address in addresses:
            try:
                self.reserve(address)
            except AllocationError:
                rejected.append(address)
        return rejected

    def _offset(self, address: str) -> int:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            parsed = None
        if parsed is None or parsed not in self.network:
            raise NotInRange("the provided network does not match the current range")
        offset = int(parsed) - self._first
        if not 0 <= offset < self._pool.size:
            raise NotInRange(
                f"the provided IP ({address}) is not in the valid range. "
                f"The range of valid IPs is {self.network}"
            )
        return offset


class PortRange:
    """Node ports *first* to *last*, both included."""

    def __init__(self, first: int = 30000, last: int = 32767, *, rng: random.Random | None = None) -> None:
        if not 0 < first <= last < 65536:
            raise ValueError(f"no port range: {first}-{last}")
        self.first = first
        self.last = last
        size = last - first + 1
        band = min(max(16, size // 32), 128) if size > 16 else 0
        self._pool = _Pool(size, band, rng)

    @property
    def used(self) -> int:
        return len(self._pool)

    @property
    def free(self) -> int:
        return self._pool.size - len(self._pool)

    def __contains__(self, port: int) -> bool:
        """Whether the port belongs to the range, taken or not."""
        return self.first <= port <= self.last

    def is_used(self, port: int) -> bool:
        return port - self.first in self._pool

    def allocate(self) -> int:
        """A free port, now taken. Raises RangeFull."""
        return self.first + self._pool.next()

    def reserve(self, port: int) -> None:
        """Take this port. Raises NotInRange, AlreadyAllocated."""
        if port not in self:
            raise NotInRange(
                "provided port is not in the valid range. "
                f"The range of valid ports is {self.first}-{self.last}"
            )
        if not self._pool.take(port - self.first):
            raise AlreadyAllocated("provided port is already allocated")

    def release(self, port: int) -> None:
        """Give it back; one that is not taken, or not of this range, is no fault."""
        self._pool.release(port - self.first)

    def rebuild(self, ports: Iterable[int]) -> list[int]:
        """Forget everything, take these; returns those that were out of range or listed twice."""
        self._pool.clear()
        rejected = []
        for port in ports:
            try:
                self.reserve(port)
            except AllocationError:
                rejected.append(port)
        return rejected
