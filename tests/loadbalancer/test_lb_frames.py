"""ARP and neighbour discovery, byte by byte, and the kernel's filters for them."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buoy.loadbalancer.layer2 import arp, bpf, ndp
from buoy.loadbalancer.layer2.interfaces import Interface, usable
from buoy.loadbalancer.layer2.schedule import Schedule

OURS = bytes.fromhex("02aabbccddee")
THEIRS = bytes.fromhex("020102030405")

ARP_REQUEST = bytes.fromhex(
    "ffffffffffff 020102030405 0806"
    "0001 0800 06 04 0001"
    "020102030405 c0a801c8"  # 192.168.1.200
    "000000000000 c0a801fb"  # 192.168.1.251
)
SOLICITATION = bytes.fromhex(
    "3333ff0000fb 020102030405 86dd"
    "60000000 0020 3a ff"
    "fd0001920168000100000000000000c8"  # fd00:192:168:1::c8
    "ff0200000000000000000001ff0000fb"
    "87 00 6ee0 00000000"
    "fd0001920168000100000000000000fb"
    "01 01 020102030405"
)
DAD = bytes.fromhex(
    "3333ff0000fb 020102030405 86dd"
    "60000000 0018 3a ff"
    "00000000000000000000000000000000"
    "ff0200000000000000000001ff0000fb"
    "87 00 78b6 00000000"
    "fd0001920168000100000000000000fb"
)


def test_arp_request():
    request = arp.parse_request(ARP_REQUEST)
    assert request == (THEIRS, IPv4Address("192.168.1.200"), IPv4Address("192.168.1.251"))
    assert arp.reply(OURS, request) == bytes.fromhex(
        "020102030405 02aabbccddee 08060001 0800 06 04 000202aabbccddee c0a801fb020102030405 c0a801c8"
    )


@pytest.mark.parametrize(
    ("offset", "value"),
    [(12, b"\x08\x00"), (14, b"\0\6"), (16, b"\x86\xdd"), (18, b"\x08"), (19, b"\x10"), (21, b"\x02")],
)
def test_other_arp_is_not_a_request(offset, value):
    frame = ARP_REQUEST[:offset] + value + ARP_REQUEST[offset + len(value) :]
    assert arp.parse_request(frame) is None


def test_an_announcement_is_not_a_question():
    request, _ = arp.gratuitous(THEIRS, IPv4Address("192.168.1.251"))
    assert arp.parse_request(request) is None


def test_gratuitous_arp():
    start = "ffffffffffff 02aabbccddee 0806 0001 0800 06 04"
    assert arp.gratuitous(OURS, IPv4Address("192.168.1.251")) == (
        bytes.fromhex(f"{start} 0001 02aabbccddee c0a801fb ffffffffffff c0a801fb"),
        bytes.fromhex(f"{start} 0002 02aabbccddee c0a801fb 02aabbccddee c0a801fb"),
    )


def test_solicitation_and_answer():
    solicitation = ndp.parse_solicitation(SOLICITATION)
    assert solicitation == (
        THEIRS,
        IPv6Address("fd00:192:168:1::c8"),
        IPv6Address("fd00:192:168:1::fb"),
    )
    assert ndp.advertisement(OURS, solicitation) == bytes.fromhex(
        "020102030405 02aabbccddee 86dd"
        "60000000 0020 3a ff"
        "fd0001920168000100000000000000fb"
        "fd0001920168000100000000000000c8"
        "88 00 768c 60000000"  # solicited, override
        "fd0001920168000100000000000000fb"
        "02 01 02aabbccddee"
    )


def test_one_without_an_address_is_told_with_all_nodes():
    solicitation = ndp.parse_solicitation(DAD)
    assert solicitation == (THEIRS, IPv6Address("::"), IPv6Address("fd00:192:168:1::fb"))
    expected = bytes.fromhex(
        "333300000001 02aabbccddee 86dd"
        "60000000 0020 3a ff"
        "fd0001920168000100000000000000fb"
        "ff020000000000000000000000000001"
        "88 00 b84c 20000000"  # override
        "fd0001920168000100000000000000fb"
        "02 01 02aabbccddee"
    )
    assert ndp.advertisement(OURS, solicitation) == expected
    assert ndp.unsolicited(OURS, IPv6Address("fd00:192:168:1::fb")) == expected


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (12, b"\x08\x00"),  # not IPv6
        (14, b"\x40"),  # version 4
        (18, b"\x00\x10"),  # too short for a target
        (18, b"\x00\x40"),  # longer than the frame
        (20, b"\x11"),  # UDP
        (21, b"\xfe"),  # came through a router
        (54, b"\x88"),  # an advertisement
        (56, b"\x00\x00"),  # wrong checksum
        (79, b"\x00"),  # an option without a length
    ],
)
def test_other_ipv6_is_not_a_solicitation(offset, value):
    frame = SOLICITATION[:offset] + value + SOLICITATION[offset + len(value) :]
    assert ndp.parse_solicitation(frame) is None


@settings(deadline=None)
@given(st.binary(max_size=120))
def test_no_frame_upsets_the_readers(tail):
    for frame in (tail, ARP_REQUEST[:20] + tail, SOLICITATION[:54] + tail):
        arp.parse_request(frame)
        ndp.parse_solicitation(frame)


def test_multicast_names():
    group = ndp.solicited_node(IPv6Address("fd00:192:168:1::12:34fb"))
    assert group == IPv6Address("ff02::1:ff12:34fb")
    assert ndp.multicast_mac(group) == bytes.fromhex("3333ff1234fb")


def passes(program, frame, *, outgoing=False):
    """What the kernel does with *frame*; an interpreter of the few instructions in use."""
    value, at = 0, 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        match code:
            case 0x20 | 0x28 | 0x30 if operand >= 0xFFFFF000:
                value = 4 if outgoing else 1
            case 0x20 | 0x28 | 0x30:
                size = {0x20: 4, 0x28: 2, 0x30: 1}[code]
                if operand + size > len(frame):
                    return False
                value = int.from_bytes(frame[operand : operand + size])
            case 0x15:
                at += if_true if value == operand else if_false
            case 0x06:
                return bool(operand)
            case _:
                raise AssertionError(hex(code))


def test_filters():
    ours, other = IPv4Address("192.168.1.251").packed, IPv4Address("192.168.1.252").packed
    assert passes(bpf.arp_requests([other, ours]), ARP_REQUEST)
    assert not passes(bpf.arp_requests([other]), ARP_REQUEST)
    assert not passes(bpf.arp_requests([]), ARP_REQUEST)
    assert not passes(bpf.arp_requests([ours]), ARP_REQUEST, outgoing=True)
    reply = arp.reply(OURS, arp.parse_request(ARP_REQUEST))
    assert not passes(bpf.arp_requests([ours]), reply)

    ours, other = IPv6Address("fd00:192:168:1::fb").packed, IPv6Address("fd00:192:168:1::fc").packed
    assert passes(bpf.solicitations([ours]), SOLICITATION)
    assert not passes(bpf.solicitations([other]), SOLICITATION)
    assert not passes(bpf.solicitations([ours]), SOLICITATION[:54] + b"\x88" + SOLICITATION[55:])
    assert not passes(bpf.solicitations([ours]), SOLICITATION[:20] + b"\x06" + SOLICITATION[21:])
    assert not passes(bpf.solicitations([ours]), SOLICITATION[:60])


def test_more_addresses_than_a_filter_holds_are_all_let_through():
    many = [struct.pack("!I", 0x0A000000 + number) for number in range(5000)]
    for addresses in (many[:2000], many):
        program = bpf.arp_requests(addresses)
        assert len(program) <= 4096
        assert passes(program, ARP_REQUEST[:38] + addresses[1999])


LINKS = [
    {
        "ifname": name,
        "ifindex": index,
        "link_type": kind,
        "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP", *flags],
        "address": "02:aa:bb:cc:dd:ee",
        **more,
    }
    for index, (name, kind, flags, more) in enumerate(
        [
            ("lo", "loopback", ["LOOPBACK"], {}),
            ("eth0", "ether", [], {}),
            ("eth1", "ether", ["NOARP"], {}),
            ("eth2", "ether", [], {"master": "br0"}),
            ("br0", "ether", [], {}),
            ("docker0", "ether", [], {}),
            ("vethabc", "ether", [], {}),
            ("vpn-eth", "none", [], {}),
        ],
        start=1,
    )
]


def test_interfaces():
    assert usable(LINKS) == (Interface("eth0", 2, OURS), Interface("br0", 5, OURS))
    down = [{**link, "flags": ["BROADCAST", "MULTICAST", "UP"]} for link in LINKS]
    assert usable(down) == ()
    assert [one.name for one in usable(LINKS, ["0$"])] == ["vethabc"]


def test_taken_over_addresses_are_announced_for_five_seconds():
    schedule = Schedule()
    address = IPv4Address("192.168.1.251")
    schedule.start(address, 100.0)
    times = []
    while (now := schedule.next()) != float("inf"):
        assert schedule.due(now) == [address]
        assert schedule.due(now) == []
        times.append(round(now - 100, 2))
    assert times == [0.0, 0.25, 1.1, 2.2, 3.3, 4.4]


def test_announcements_that_are_late_are_made_once():
    schedule = Schedule()
    address = IPv4Address("192.168.1.251")
    schedule.start(address, 100.0)
    assert schedule.due(103.0) == [address]
    assert schedule.next() == pytest.approx(103.3)
    schedule.stop(address)
    assert schedule.due(110.0) == []
