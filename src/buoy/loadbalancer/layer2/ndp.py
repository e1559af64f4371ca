"""Neighbour solicitations and advertisements of IPv6 in Ethernet frames (RFC 4861, RFC 2464)."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import NamedTuple

ETHERTYPE = 0x86DD
ALL_NODES = IPv6Address("ff02::1")

_ICMPV6 = 58
_SOLICITATION = 135
_ADVERTISEMENT = 136
_SOLICITED = 0x40000000
_OVERRIDE = 0x20000000
_SOURCE_LINK_LAYER = 1
_TARGET_LINK_LAYER = 2
_HOP_LIMIT = 255

_ETHERNET = struct.Struct("!6s6sH")
_IPV6 = struct.Struct("!IHBB16s16s")
_MESSAGE = struct.Struct("!BBHI16s")
_UNSPECIFIED = IPv6Address("::")
_SOLICITED_NODE = int(IPv6Address("ff02::1:ff00:0"))


class Solicitation(NamedTuple):
    """Somebody at *source* and *source_mac* asks who has *target*.

    *source* is unspecified if it only wants to know whether it may take the address itself.
    """

    source_mac: bytes
    source: IPv6Address
    target: IPv6Address


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The multicast group in which *address* is asked for."""
    return IPv6Address(_SOLICITED_NODE | (int(address) & 0xFFFFFF))


def multicast_mac(group: IPv6Address) -> bytes:
    return b"\x33\x33" + group.packed[12:]


def parse_solicitation(frame: bytes) -> Solicitation | None:
    """The valid solicitation (RFC 4861, 7.1.1) in an Ethernet frame; None if it is anything else."""
    start = _ETHERNET.size + _IPV6.size
    if len(frame) < start + _MESSAGE.size:
        return None
    _, ethernet_source, ethertype = _ETHERNET.unpack_from(frame)
    version, length, following, hop_limit, source, destination = _IPV6.unpack_from(frame, _ETHERNET.size)
    if ethertype != ETHERTYPE or version >> 28 != 6 or following != _ICMPV6 or hop_limit != _HOP_LIMIT:
        return None
    message = frame[start : start + length]
    if len(message) != length or length < _MESSAGE.size or _checksum(source, destination, message):
        return None
    kind, code, _, _, packed = _MESSAGE.unpack_from(message)
    target = IPv6Address(packed)
    if kind != _SOLICITATION or code or target.is_multicast:
        return None
    options = _options(message[_MESSAGE.size :])
    if options is None:
        return None
    mac = options.get(_SOURCE_LINK_LAYER)
    asker = IPv6Address(source)
    if asker == _UNSPECIFIED and (mac is not None or IPv6Address(destination) != solicited_node(target)):
        return None
    return Solicitation(mac[:6] if mac else ethernet_source, asker, target)


def advertisement(mac: bytes, solicitation: Solicitation) -> bytes:
    """The answer: the frame that says *mac* has what was asked for.

    It comes from the address itself, as from any machine that has it. One who has no address yet is told with
    everybody else.
    """
    if solicitation.source == _UNSPECIFIED:
        return unsolicited(mac, solicitation.target)
    return _frame(
        mac, solicitation.source_mac, solicitation.target, solicitation.source, _SOLICITED | _OVERRIDE
    )


def unsolicited(mac: bytes, address: IPv6Address) -> bytes:
    """The frame that tells all nodes *mac* has *address* now."""
    return _frame(mac, multicast_mac(ALL_NODES), address, ALL_NODES, _OVERRIDE)


def _frame(mac: bytes, to: bytes, address: IPv6Address, destination: IPv6Address, flags: int) -> bytes:
    option = bytes((_TARGET_LINK_LAYER, 1)) + mac
    message = bytearray(_MESSAGE.pack(_ADVERTISEMENT, 0, 0, flags, address.packed) + option)
    struct.pack_into("!H", message, 2, _checksum(address.packed, destination.packed, message))
    header = _IPV6.pack(6 << 28, len(message), _ICMPV6, _HOP_LIMIT, address.packed, destination.packed)
    return _ETHERNET.pack(to, mac, ETHERTYPE) + header + message


def _options(data: bytes) -> dict[int, bytes] | None:
    """Options by type; None if one has no length or reaches over the end."""
    found = {}
    while data:
        if len(data) < 2 or not data[1] or len(data) < 8 * data[1]:
            return None
        found[data[0]] = data[2 : 8 * data[1]]
        data = data[8 * data[1] :]
    return found


def _checksum(source: bytes, destination: bytes, message: bytes | bytearray) -> int:
    """RFC 4443, 2.3. Zero for a message whose checksum is right."""
    data = source + destination + struct.pack("!II", len(message), _ICMPV6) + message
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) & 1:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
