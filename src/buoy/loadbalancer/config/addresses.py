"""Addresses as pools write them: ``a.b.c.d/n``, ``first-last``, and OpenELB's single ones."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from ..model import Range


class Span(NamedTuple):
    """What an entry of a pool stands for. *widest* is the shortest prefix of the CIDRs that make it up."""

    version: int
    range: Range
    widest: int


def parse(text: str, *, single: bool = False) -> Span:
    """One entry of a pool, IPv4 or IPv6; with *single*, an address alone is one too.

    Raises ValueError, whose text says what is wrong with it.
    """
    first_text, dash, last_text = (part.strip() for part in text.partition("-"))
    if dash:
        try:
            first, last = ipaddress.ip_address(first_text), ipaddress.ip_address(last_text)
        except ValueError as error:
            raise ValueError(f"invalid IP range: {error}") from None
        if first.version != last.version:
            raise ValueError("invalid IP range: start and end are of different families")
        if int(first) > int(last):
            raise ValueError(f"invalid IP range: start IP {first} is after the end IP {last}")
        networks = ipaddress.summarize_address_range(first, last)
        return Span(first.version, Range(int(first), int(last)), min(each.prefixlen for each in networks))
    if "/" not in text and not single:
        raise ValueError(
            "must be a CIDR (192.168.1.0/24) or a range of addresses (192.168.1.10-192.168.1.20)"
        )
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"invalid CIDR: {error}") from None
    return Span(
        network.version,
        Range(int(network.network_address), int(network.broadcast_address)),
        network.prefixlen,
    )
