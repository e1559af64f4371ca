"""Messages in bytes, with dnspython as the judge."""

from __future__ import annotations

import random
import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.dns import wire
from buoy.dns.wire import AAAA, CNAME, PTR, SRV, A, Answer, RRset

labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63)
names = (
    st.lists(st.one_of(st.sampled_from(["svc", "cluster", "local", "a"]), labels), max_size=6)
    .map(lambda parts: ".".join([*parts, "local"]))
    .filter(lambda name: len(name) < 253)
    .map(wire.encode_name)
)
rrsets = st.one_of(
    st.builds(
        RRset,
        names,
        st.just(A),
        st.integers(0, 3600),
        st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=60, unique=True).map(tuple),
    ),
    st.builds(
        RRset,
        names,
        st.just(AAAA),
        st.integers(0, 3600),
        st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=4, unique=True).map(tuple),
    ),
    st.builds(
        RRset, names, st.sampled_from([CNAME, PTR]), st.integers(0, 3600), names.map(lambda name: (name,))
    ),
    st.builds(
        RRset,
        names,
        st.just(SRV),
        st.integers(0, 3600),
        st.lists(names.map(lambda name: wire.srv(0, 1, 2, name)), min_size=1, max_size=20, unique=True).map(
            tuple
        ),
    ),
)
sections = st.lists(rrsets, max_size=4, unique_by=lambda rrset: (rrset.name, rrset.type)).map(tuple)


def read(section: list[dns.rrset.RRset]) -> set[tuple[bytes, int, int, bytes]]:
    return {
        (rrset.name.to_digestable(), int(rrset.rdtype), rrset.ttl, record.to_digestable())
        for rrset in section
        for record in rrset
    }


def flat(section: tuple[RRset, ...]) -> set[tuple[bytes, int, int, bytes]]:
    return {(rrset.name, rrset.type, rrset.ttl, data) for rrset in section for data in rrset.data}


@given(
    names,
    st.integers(1, 100),
    st.randoms(use_true_random=False),
    st.tuples(st.sampled_from([0, 2, 3]), sections, sections, sections, st.booleans()).map(
        lambda parts: Answer(*parts)
    ),
    st.one_of(st.none(), st.integers(0, 65535)),
    st.booleans(),
    st.integers(0, 70),
)
def test_an_answer_is_read_as_it_was_meant(
    name: bytes, kind: int, rng: random.Random, answer: Answer, payload: int | None, udp: bool, turn: int
) -> None:
    asked = bytes(rng.choice((byte, ord(chr(byte).upper()))) if byte > 63 else byte for byte in name)
    settings = {} if payload is None else {"use_edns": 0, "payload": payload}
    data = dns.message.make_query(dns.name.from_wire(asked, 0)[0], kind, **settings).to_wire()
    query = wire.parse(data)
    assert query.name == name
    limit = query.limit if udp else wire.LONGEST
    assert 512 <= query.limit <= 1232
    reply = wire.render(query, answer, limit=limit, turn=turn)
    assert len(reply) <= limit
    message = dns.message.from_wire(reply)
    assert dns.message.from_wire(data).is_response(message)
    assert reply[12 : 12 + len(asked)] == asked  # case and all
    assert message.rcode() == answer.rcode
    assert bool(message.flags & dns.flags.AA) == answer.authoritative
    assert message.edns == (-1 if payload is None else 0)
    given_answer, given_authority = read(message.answer), read(message.authority)
    if message.flags & dns.flags.TC:
        assert (given_answer, given_authority) != (flat(answer.answer), flat(answer.authority))
        assert given_answer <= flat(answer.answer)
        assert given_authority <= flat(answer.authority)
        assert given_answer or not answer.answer or len(name) > 200
    else:
        assert (given_answer, given_authority) == (flat(answer.answer), flat(answer.authority))
    assert read(message.additional) <= flat(answer.additional)


@given(st.integers(1, 40), st.integers(0, 100))
def test_addresses_are_rotated(count: int, turn: int) -> None:
    data = tuple(bytes((10, 0, 0, number)) for number in range(count))
    query = wire.parse(dns.message.make_query("a.", "A").to_wire())
    message = dns.message.from_wire(
        wire.render(query, Answer(answer=(RRset(b"\1a\0", A, 1, data),)), turn=turn), one_rr_per_rrset=True
    )
    given_order = [rrset[0].to_wire() for rrset in message.answer]
    first = turn % count
    assert given_order == [*data[first:], *data[:first]]


def test_ages() -> None:
    query = wire.parse(dns.message.make_query("a.", "A").to_wire())
    answer = Answer(answer=(RRset(b"\1a\0", A, 100, (b"abcd",)), RRset(b"\1b\0", A, 3, (b"abcd",))))
    message = dns.message.from_wire(wire.render(query, answer, age=7, least_ttl=1))
    assert [rrset.ttl for rrset in message.answer] == [93, 1]


def test_extended_errors_and_codes() -> None:
    query = wire.parse(dns.message.make_query("a.", "A", want_dnssec=True).to_wire())
    message = dns.message.from_wire(wire.render(query, Answer(16, error=(14, "not yet"))))
    assert message.rcode() == dns.rcode.BADVERS
    assert message.flags & dns.flags.RA
    assert message.ednsflags & dns.flags.DO
    assert message.payload == 1232
    [option] = message.options
    assert (option.otype, option.code, option.text) == (dns.edns.EDE, 14, "not yet")


def question(name: bytes = b"\1a\0", kind: int = 1, klass: int = 1) -> bytes:
    return name + struct.pack("!HH", kind, klass)


def header(flags: int = 0x100, counts: tuple[int, int, int, int] = (1, 0, 0, 0)) -> bytes:
    return struct.pack("!HHHHHH", 7, flags, *counts)


OPT = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (b"", None),
        (b"\0" * 11, None),
        (header(0x8100) + question(), None),  # an answer
        (header(0x2800) + question(), "NOTIMP"),  # an update
        (header(counts=(0, 0, 0, 0)), "FORMERR"),
        (header(counts=(2, 0, 0, 0)) + question() + question(), "FORMERR"),
        (header() + b"\1a", "FORMERR"),
        (header() + b"\1a\0\0\1", "FORMERR"),
        (header() + question(b"\xc0\x0c"), "FORMERR"),  # a name that points at itself
        (header() + question(b"\x40" + b"a" * 64 + b"\0"), "FORMERR"),
        (
            header()
            + question(
                b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\0"
            ),
            "FORMERR",
        ),
        (header(counts=(1, 0, 0, 1)) + question(), "FORMERR"),
        (header(counts=(1, 0, 0, 1)) + question() + OPT[:-1], "FORMERR"),
        (header(counts=(1, 0, 0, 1)) + question() + OPT[:-1] + b"\5abc", "FORMERR"),
        (header(counts=(1, 0, 0, 2)) + question() + OPT + OPT, "FORMERR"),
        (header(counts=(1, 0, 0, 1)) + question() + b"\1a" + OPT, "FORMERR"),
    ],
)
def test_messages_that_are_no_questions(data: bytes, rcode: str | None) -> None:
    with pytest.raises(wire.FormatError) as caught:
        wire.parse(data)
    reply = caught.value.reply
    if rcode is None:
        assert reply is None
    else:
        assert reply is not None
        message = dns.message.from_wire(reply)
        assert message.id == 7
        assert dns.rcode.to_text(message.rcode()) == rcode


def test_what_edns_says() -> None:
    query = wire.parse(
        dns.message.make_query("a.", "A", use_edns=0, payload=4096, want_dnssec=True).to_wire()
    )
    assert query.edns == wire.Edns(4096, 0, True, True)
    assert query.limit == 1232
    query = wire.parse(dns.message.make_query("a.", "A", use_edns=3, payload=100).to_wire())
    assert query.edns == wire.Edns(100, 3, False, True)
    assert query.limit == 512
    option = dns.edns.GenericOption(10, b"cookies!")
    query = wire.parse(dns.message.make_query("a.", "A", use_edns=0, options=[option]).to_wire())
    assert query.edns is not None
    assert not query.edns.plain


valid = st.builds(
    lambda name, kind, edns: dns.message.make_query(
        dns.name.from_wire(name, 0)[0], kind, use_edns=edns
    ).to_wire(),
    names,
    st.integers(0, 65535),
    st.booleans(),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(0, 5))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=8))


@given(st.one_of(st.binary(max_size=600), damaged()))
def test_random_bytes_never_do_harm(data: bytes) -> None:
    try:
        query = wire.parse(data)
    except wire.FormatError as error:
        reply = error.reply
    else:
        reply = wire.render(query, Answer(answer=(RRset(query.name, A, 5, (b"abcd",)),)), limit=query.limit)
    if reply is not None:
        message = dns.message.from_wire(reply)
        assert message.id == int.from_bytes(data[:2], "big")
        assert message.flags & dns.flags.QR


@pytest.mark.parametrize("text", ["", "."])
def test_the_root(text: str) -> None:
    assert wire.encode_name(text) == b"\0"


@pytest.mark.parametrize("text", ["a..b", ".a", "a" * 64, ".".join(["a" * 63] * 4), "é"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError):
        wire.encode_name(text)
