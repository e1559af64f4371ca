"""Just enough of netlink to hear of firewall changes and to clean conntrack.

Sources: linux/netlink.h, linux/netfilter/nfnetlink.h. Integers in headers are in the machine's byte order,
those in netfilter's attributes in the network's.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

NETLINK_NETFILTER = 12
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1

NLM_F_REQUEST = 0x01
NLM_F_ACK = 0x04
NLM_F_DUMP = 0x300
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_GENERIC = struct.Struct("=BBH")


class Message(NamedTuple):
    """A netlink message. *sender* is the port, mostly the process, that asked for what it reports."""

    type: int
    flags: int
    sender: int
    body: memoryview


def open_netfilter(*, buffer: int = 0) -> socket.socket:
    """A netfilter netlink socket in this network namespace; *buffer* bytes of unread messages are kept."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    try:
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.bind((0, 0))
    except OSError:
        sock.close()
        raise
    return sock


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram."""
    view = memoryview(data)
    while len(view) >= _HEADER.size:
        length, kind, flags, _, sender = _HEADER.unpack_from(view)
        if length < _HEADER.size:
            return
        yield Message(kind, flags, sender, view[_HEADER.size : length])
        view = view[(length + 3) & ~3 :]


def netfilter_body(body: memoryview) -> tuple[int, dict[int, memoryview]]:
    """Address family and attributes of a netfilter message."""
    return body[0], attributes(body[_GENERIC.size :])


def attributes(view: memoryview) -> dict[int, memoryview]:
    found = {}
    while len(view) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(view)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _NLA_TYPE_MASK] = view[_ATTRIBUTE.size : length]
        view = view[(length + 3) & ~3 :]
    return found


def text(value: memoryview) -> str:
    return bytes(value).rstrip(b"\0").decode(errors="replace")


def attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def netfilter_message(kind: int, flags: int, family: int, *parts: bytes) -> bytes:
    body = _GENERIC.pack(family, 0, 0) + b"".join(parts)
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def error_number(message: Message) -> int:
    """The errno that an NLMSG_ERROR carries; 0 is an acknowledgement."""
    (code,) = struct.unpack_from("=i", message.body)
    return -int(code)
