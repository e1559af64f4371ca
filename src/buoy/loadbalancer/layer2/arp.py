"""ARP frames on Ethernet for IPv4 (RFC 826, RFC 5227)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import NamedTuple

ETHERTYPE = 0x0806
BROADCAST = b"\xff" * 6

_REQUEST = 1
_REPLY = 2
_FRAME = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_ETHERNET_TO_IPV4 = (ETHERTYPE, 1, 0x0800, 6, 4)


class Request(NamedTuple):
    """Somebody asks who has *target*. The sender's address is 0.0.0.0 in a probe."""

    sender_mac: bytes
    sender: IPv4Address
    target: IPv4Address


def parse_request(frame: bytes) -> Request | None:
    """The request in an Ethernet frame; None if it is anything else, or only announces its own sender."""
    if len(frame) < _FRAME.size:
        return None
    _, _, *kind, operation, sender_mac, sender, _, target = _FRAME.unpack_from(frame)
    if tuple(kind) != _ETHERNET_TO_IPV4 or operation != _REQUEST or sender == target:
        return None
    return Request(sender_mac, IPv4Address(sender), IPv4Address(target))


def reply(mac: bytes, request: Request) -> bytes:
    """The frame that says *mac* has what was asked for."""
    return _frame(_REPLY, request.sender_mac, mac, request.target, request.sender_mac, request.sender)


def gratuitous(mac: bytes, address: IPv4Address) -> tuple[bytes, bytes]:
    """The frames that tell everybody *mac* has *address*. Some listen to requests only, some to replies.

    Linux takes a reply for an announcement, which counts at once, only if its target is its own sender.
    """
    return (
        _frame(_REQUEST, BROADCAST, mac, address, BROADCAST, address),
        _frame(_REPLY, BROADCAST, mac, address, mac, address),
    )


def _frame(
    operation: int,
    to: bytes,
    mac: bytes,
    sender: IPv4Address,
    target_mac: bytes,
    target: IPv4Address,
) -> bytes:
    return _FRAME.pack(to, mac, *_ETHERNET_TO_IPV4, operation, mac, sender.packed, target_mac, target.packed)
