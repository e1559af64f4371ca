"""DNS messages in bytes: reading questions and writing answers.

Names are in wire form, uncompressed and in lower case unless said otherwise; record data is in wire form with
uncompressed names. Sources: RFC 1035, RFC 2181 (truncation), RFC 6891 (EDNS), RFC 8914 (extended errors).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

A, NS, CNAME, SOA, PTR, HINFO, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 13, 16, 28, 33, 41
IXFR, AXFR, ANY = 251, 252, 255
IN, CHAOS = 1, 3

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
_OPCODE = 0x7800
_DO = 0x8000

PAYLOAD = 1232
"""The largest UDP message that is sent or announced: what passes everywhere without fragments."""
SMALLEST_PAYLOAD = 512
LONGEST = 65535
LONGEST_NAME = 255
LONGEST_LABEL = 63

_EXTENDED_ERROR = 15
NOT_READY, NO_UPSTREAM, NETWORK_ERROR, STALE = 14, 22, 23, 3
"""Codes of RFC 8914."""

_header = struct.Struct("!HHHHHH")
_record = struct.Struct("!HHIH")
_shorts = struct.Struct("!HH")
_short = struct.Struct("!H")


def encode_label(text: str) -> bytes:
    """One label. Raises ValueError if it is empty, too long or not ASCII."""
    label = text.lower().encode("ascii")
    if not 0 < len(label) <= LONGEST_LABEL:
        raise ValueError(f"{text!r} is not a label of a name")
    return bytes((len(label),)) + label


def encode_name(text: str) -> bytes:
    """A dotted name, with or without the last dot; ``""`` and ``"."`` are the root. Raises ValueError."""
    text = text.removesuffix(".")
    name = b"".join(encode_label(label) for label in text.split(".")) + b"\0" if text else b"\0"
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{text!r} is too long for a name")
    return name


def parent(name: bytes) -> bytes:
    """The name without its first label. The root has none."""
    return name[name[0] + 1 :]


def is_within(name: bytes, zone: bytes) -> bool:
    """Whether *name* is *zone* or below it."""
    if not name.endswith(zone):
        return False
    at, start = 0, len(name) - len(zone)
    while at < start:
        at += name[at] + 1
    return at == start


class Edns(NamedTuple):
    """What the client says of itself: *size* it can receive, *dnssec* wanted, *plain* if without options."""

    size: int
    version: int
    dnssec: bool
    plain: bool


class Query(NamedTuple):
    """A question. *question* is the section as asked, case and all; *name* is in lower case."""

    id: int
    flags: int
    question: bytes
    name: bytes
    type: int
    klass: int
    edns: Edns | None

    @property
    def limit(self) -> int:
        """How long a UDP answer may be."""
        if self.edns is None:
            return SMALLEST_PAYLOAD
        return min(max(self.edns.size, SMALLEST_PAYLOAD), PAYLOAD)


class FormatError(ValueError):
    """Not a question that can be answered. *reply* says so to the client; None if it deserves nothing."""

    def __init__(self, reply: bytes | None) -> None:
        super().__init__("not a question")
        self.reply = reply


def parse(data: bytes) -> Query:
    """Read a message from a client. Raises FormatError."""
    if len(data) < 12:
        raise FormatError(None)
    ident, flags, questions, answers, authorities, additionals = _header.unpack_from(data)
    if flags & QR:
        raise FormatError(None)
    if flags & _OPCODE:
        raise FormatError(_refusal(ident, flags, NOTIMP))
    if questions != 1:
        raise FormatError(_refusal(ident, flags, FORMERR))
    try:
        end = _end_of_name(data, 12, pointers=False)
        qtype, klass = _shorts.unpack_from(data, end)
        edns = None
        at = end + 4
        for index in range(answers + authorities + additionals):
            start = at
            at = _end_of_name(data, at, pointers=True)
            kind, size, extended, length = _record.unpack_from(data, at)
            at += 10 + length
            if at > len(data):
                raise IndexError
            if kind == OPT and index >= answers + authorities:
                if edns is not None or data[start]:
                    raise IndexError
                edns = Edns(size, extended >> 16 & 0xFF, bool(extended & _DO), not length)
    except (IndexError, struct.error):
        raise FormatError(_refusal(ident, flags, FORMERR)) from None
    question = data[12 : end + 4]
    return Query(ident, flags, question, question[:-4].lower(), qtype, klass, edns)


def _end_of_name(data: bytes, at: int, *, pointers: bool) -> int:
    start = at
    while length := data[at]:
        if length > LONGEST_LABEL:
            if pointers and length >= 0xC0:
                return at + 2
            raise IndexError
        at += length + 1
        if at - start >= LONGEST_NAME:
            raise IndexError
    return at + 1


def _refusal(ident: int, flags: int, rcode: int) -> bytes:
    return _header.pack(ident, QR | flags & (_OPCODE | RD) | RA | rcode, 0, 0, 0, 0)


class RRset(NamedTuple):
    """Records of one name and type. *ttl* is in seconds."""

    name: bytes
    type: int
    ttl: int
    data: tuple[bytes, ...]


class Answer(NamedTuple):
    """The answer to a question, as yet without the client's size limit and the case of its letters.

    *error* is an extended error: its code and a text.
    """

    rcode: int = NOERROR
    answer: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()
    additional: tuple[RRset, ...] = ()
    authoritative: bool = False
    authenticated: bool = False
    error: tuple[int, str] | None = None

    @property
    def choices(self) -> int:
        """In how many orders the addresses can be given by rotation."""
        return max((len(s.data) for s in self.answer if s.type in (A, AAAA)), default=1)


class _Writer:
    """A message in the making. Owner names are compressed by what stands before them."""

    def __init__(self, question: bytes, room: int) -> None:
        self.buffer = bytearray(12)
        self.buffer += question
        self._room = room
        self._offsets: dict[bytes, int] = {}
        self._know(question[:-4].lower(), 12)

    def write(self, rrset: RRset, data: Sequence[bytes], ttl: int) -> int:
        """Append as many of *data* as there is room for, and give their number."""
        name, kind, _, _ = rrset
        buffer = self.buffer
        owner = self._compressed(name)
        targets = _TARGET.get(kind)
        for count, piece in enumerate(data):
            start = len(buffer)
            if start + len(owner) + 10 + len(piece) > self._room:
                return count
            buffer += owner
            buffer += _record.pack(kind, IN, ttl, len(piece))
            buffer += piece
            if count == 0 and len(owner) > 2:
                self._know(name.lower(), start)
                owner = self._compressed(name)
            if targets is not None:
                self._know(piece[targets:].lower(), len(buffer) - len(piece) + targets)
        return len(data)

    def _know(self, name: bytes, offset: int) -> None:
        offsets = self._offsets
        while name[0] and offset < 0x4000 and name not in offsets:
            offsets[name] = offset
            length = name[0] + 1
            name, offset = name[length:], offset + length

    def _compressed(self, name: bytes) -> bytes:
        at = 0
        lower = name.lower()
        while name[at]:
            offset = self._offsets.get(lower[at:])
            if offset is not None:
                return name[:at] + _short.pack(0xC000 | offset)
            at += name[at] + 1
        return name


_TARGET = {SRV: 6, CNAME: 0}
"""Where in a record's data a name begins that later records are likely to belong to."""


def render(
    query: Query, answer: Answer, *, limit: int = LONGEST, age: int = 0, least_ttl: int = 0, turn: int = 0
) -> bytes:
    """The message that gives *answer* to *query* in at most *limit* bytes, marked as truncated if need be.

    TTLs are less by *age* seconds but at least *least_ttl*; addresses are rotated by *turn*.
    """
    rcode = answer.rcode
    opt = b"" if query.edns is None else _opt(query.edns, rcode, answer.error)
    writer = _Writer(query.question, limit - len(opt))
    flags = QR | RA | query.flags & (RD | CD) | rcode & 15
    if answer.authoritative:
        flags |= AA
    if answer.authenticated and (query.flags & AD or (query.edns is not None and query.edns.dnssec)):
        flags |= AD
    counts = [0, 0, 0]
    for section, sets in enumerate((answer.answer, answer.authority)):
        for rrset in sets:
            data = rrset.data
            if turn and rrset.type in (A, AAAA):
                first = turn % len(data)
                data = data[first:] + data[:first]
            written = writer.write(rrset, data, max(rrset.ttl - age, least_ttl))
            counts[section] += written
            if written < len(data):
                flags |= TC
                break
        if flags & TC:
            break
    if not flags & TC:
        for rrset in answer.additional:
            before = len(writer.buffer)
            written = writer.write(rrset, rrset.data, max(rrset.ttl - age, least_ttl))
            if written < len(rrset.data):  # a part of a set would be taken for the whole
                del writer.buffer[before:]
                break
            counts[2] += written
    if opt:
        writer.buffer += opt
        counts[2] += 1
    _header.pack_into(writer.buffer, 0, query.id, flags, 1, *counts)
    return bytes(writer.buffer)


def _opt(edns: Edns, rcode: int, error: tuple[int, str] | None) -> bytes:
    options = b""
    if error is not None:
        text = error[1].encode()
        options = struct.pack("!HHH", _EXTENDED_ERROR, len(text) + 2, error[0]) + text
    flags = rcode >> 4 << 24 | (_DO if edns.dnssec else 0)
    return b"\0" + _record.pack(OPT, PAYLOAD, flags, len(options)) + options


def encode_query(ident: int, name: bytes, qtype: int, *, dnssec: bool, checking_disabled: bool) -> bytes:
    """A question to another server, with EDNS and the wish for recursion."""
    flags = RD | AD | (CD if checking_disabled else 0)
    return b"".join(
        (
            _header.pack(ident, flags, 1, 0, 0, 1),
            name,
            _shorts.pack(qtype, IN),
            b"\0",
            _record.pack(OPT, PAYLOAD, _DO if dnssec else 0, 0),
        )
    )


def answers(query: bytes, reply: bytes) -> bool:
    """Whether *reply* is one to *query*, as `encode_query` wrote it, by its id and question."""
    if len(reply) < 12 or reply[:2] != query[:2] or not reply[2] & 0x80:
        return False
    if reply[4:6] == b"\0\0":
        return bool(reply[3] & 15)  # a server that could not even read the question
    end = _end_of_name(query, 12, pointers=False)
    return reply[12:end].lower() == query[12:end] and reply[end : end + 4] == query[end : end + 4]


def without_edns(query: bytes) -> bytes:
    """The same question as `encode_query` wrote it, for a server that does not know EDNS."""
    return query[:10] + b"\0\0" + query[12:-11]


def soa(primary: bytes, mailbox: bytes, serial: int, negative_ttl: int) -> bytes:
    """The data of a SOA record."""
    return primary + mailbox + struct.pack("!IIIII", serial & 0xFFFFFFFF, 7200, 1800, 86400, negative_ttl)


def srv(priority: int, weight: int, port: int, target: bytes) -> bytes:
    """The data of an SRV record."""
    return struct.pack("!HHH", priority, weight, port) + target


def text(*strings: str) -> bytes:
    """The data of a TXT or HINFO record: strings of at most 255 bytes."""
    return b"".join(bytes((len(one.encode()),)) + one.encode() for one in strings)


def reverse_name(packed: bytes) -> bytes:
    """The name under which an IPv4 or IPv6 address is looked up backwards."""
    if len(packed) == 4:
        return b"".join([_OCTETS[byte] for byte in reversed(packed)]) + _IN_ADDR
    return encode_name(".".join(reversed(packed.hex())) + ".ip6.arpa")


_OCTETS = [encode_label(str(number)) for number in range(256)]
_IN_ADDR = encode_name("in-addr.arpa")
