"""Reverse names of addresses that mean something only where they are used (RFC 6303).

Where there is no other server to ask, they do not exist; without this, each look-up of a Pod's address would
be a failure of the server.
"""

from __future__ import annotations

from . import wire
from .wire import NXDOMAIN, SOA, Answer, RRset

_ZONES = frozenset(
    wire.encode_name(f"{labels}.arpa")
    for labels in (
        "0.in-addr",
        "10.in-addr",
        "127.in-addr",
        "254.169.in-addr",
        *(f"{number}.100.in-addr" for number in range(64, 128)),  # RFC 7793
        *(f"{number}.172.in-addr" for number in range(16, 32)),
        "168.192.in-addr",
        "d.f.ip6",
        *(f"{nibble}.e.f.ip6" for nibble in "89ab"),
    )
)
_TTL = 300


def lookup(name: bytes) -> Answer | None:
    """That *name* does not exist, if it is one of these."""
    if not name.endswith(b"\4arpa\0"):
        return None
    zone = name
    while zone[0]:
        if zone in _ZONES:
            soa = RRset(zone, SOA, _TTL, (wire.soa(zone, wire.encode_name("nobody.invalid"), 1, _TTL),))
            return Answer(NXDOMAIN, authority=(soa,), authoritative=True)
        zone = wire.parent(zone)
    return None
