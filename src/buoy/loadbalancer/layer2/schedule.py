"""When an address that was taken over is announced unasked: at once, soon again, then every 1.1 s for 5 s.

The second time is for a speaker that had the address before and was still answering when the first was sent.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

_AFTER = (0.0, 0.25, 1.1, 2.2, 3.3, 4.4)


class Schedule:
    """Announcements to come. Times are seconds of any steady clock."""

    def __init__(self) -> None:
        self._since: dict[Address, tuple[float, int]] = {}

    def start(self, address: Address, now: float) -> None:
        self._since[address] = (now, 0)

    def stop(self, address: Address) -> None:
        self._since.pop(address, None)

    def next(self) -> float:
        """When `due` will give something; infinity for never."""
        return min((since + _AFTER[done] for since, done in self._since.values()), default=float("inf"))

    def due(self, now: float) -> list[Address]:
        """What to announce now. It is given once."""
        found = [address for address, (since, done) in self._since.items() if since + _AFTER[done] <= now]
        for address in found:
            since, done = self._since.pop(address)
            left = next((index for index in range(done + 1, len(_AFTER)) if since + _AFTER[index] > now), 0)
            if left:
                self._since[address] = (since, left)
        return found
