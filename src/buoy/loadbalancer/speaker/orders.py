"""What the two processes of a speaker tell each other: one JSON text a line, always the whole state."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from ..layer2.interfaces import Interface


@dataclass(frozen=True, slots=True)
class Contest:
    """An address to win. *candidates* is an index of `Orders.candidates`, *key* what the election hashes.

    *interfaces* are those to answer on if this node wins, None for all.
    """

    key: str
    candidates: int
    interfaces: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Orders:
    """*addresses* are this node's own, *peers* the other nodes' by name; *contests* are by address.

    *candidates* are sets of nodes with their preferences.
    """

    addresses: tuple[str, ...] = ()
    peers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    interfaces: tuple[Interface, ...] = ()
    candidates: tuple[dict[str, int], ...] = ()
    contests: dict[str, Contest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Packets so far, of one address."""

    requests: int = 0
    responses: int = 0
    gratuitous: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """*alive* are the nodes whose speakers are there, *owners* who answers for each address, if anybody.

    *announced* are the interfaces on which this node answers, by address.
    """

    alive: tuple[str, ...] = ()
    owners: dict[str, str] = field(default_factory=dict)
    announced: dict[str, tuple[str, ...]] = field(default_factory=dict)
    traffic: dict[str, Traffic] = field(default_factory=dict)


encode = msgspec.json.Encoder().encode
decode_orders = msgspec.json.Decoder(Orders).decode
decode_report = msgspec.json.Decoder(Report).decode
