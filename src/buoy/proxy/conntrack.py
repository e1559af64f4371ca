"""Forgets UDP flows that lead where nobody serves any more.

A UDP flow has no end that the kernel could see: while a client goes on sending from one port, its packets go
to the endpoint that was chosen first. So when a Service's endpoints change, the entries are removed that lead
to none of those that now serve, and the next packet is balanced anew.

Source: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections.abc import Container, Iterator, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from . import netlink
from .model import Changes, Destination, Family, PortRules

log = logging.getLogger(__name__)

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_TUPLE_ORIGINAL, _TUPLE_REPLY, _ID, _FILTER = 1, 2, 12, 25
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_PROTOCOL_NUMBER, _PROTOCOL_SOURCE_PORT, _PROTOCOL_PORT = 1, 2, 3
_FILTER_ORIGINAL_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_FLAG_DESTINATION, _FLAG_PROTOCOL, _FLAG_PORT = 1 << 1, 1 << 3, 1 << 5
_IP_SOURCE = {Family.IPV4: 1, Family.IPV6: 3}
_IP_DESTINATION = {Family.IPV4: 2, Family.IPV6: 4}
_NUMBERS = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}

_MOST_FILTERED = 8
_RECEIVE = 1 << 18


class Frontend(NamedTuple):
    """Where clients send to: *address* is "" for a node port, on whatever address."""

    address: str
    port: int


Serving = Mapping[Frontend, frozenset[Destination]]
"""For each frontend the endpoints that flows may lead to; flows to others are stale."""


def suspects(changes: Changes) -> Serving:
    """The frontends that may have stale flows once *changes* have been made."""
    gone: dict[Frontend, frozenset[Destination]] = {}
    found: dict[Frontend, frozenset[Destination]] = {}
    for name, (old, new) in changes.items():
        if name.protocol != "UDP":
            continue
        before = set(_frontends(old)) if old else set()
        after = set(_frontends(new)) if new else set()
        gone.update((frontend, frozenset()) for frontend in before - after)
        if new is not None:
            kept = old is not None and old.serving and set(old.serving) <= set(new.serving)
            serving = frozenset(new.serving)
            found.update((frontend, serving) for frontend in (after - before if kept else after))
    return gone | found  # an address may have gone over from one Service to another


def _frontends(rules: PortRules) -> Iterator[Frontend]:
    for address in (rules.cluster_ip, *rules.external_ips, *rules.load_balancer_ips):
        yield Frontend(address, rules.port)
    if rules.node_port:
        yield Frontend("", rules.node_port)


class _Entry(NamedTuple):
    original: memoryview
    identity: memoryview | None
    frontend: Frontend
    backend: Destination


def forget(family: Family, wanted: Serving, node_ips: Container[str]) -> int:
    """Remove the stale entries; how many there were. Blocks, so not for the event loop. Raises OSError.

    The kernel picks the entries of one frontend itself (since 5.8); for many frontends, all UDP entries are
    looked through once.
    """
    if not wanted:
        return 0
    removed = 0
    with netlink.open_netfilter() as sock:
        picks = [None] if len(wanted) > _MOST_FILTERED else wanted
        entries = [entry for pick in picks for entry in _dump(sock, family, pick)]
        for entry in entries:
            if _is_stale(entry, wanted, node_ips):
                removed += _delete(sock, family, entry)
    if removed:
        log.info("removed %d UDP conntrack entries that led to endpoints no longer serving", removed)
    return removed


def _is_stale(entry: _Entry, wanted: Serving, node_ips: Container[str]) -> bool:
    serving = wanted.get(entry.frontend)
    if serving is None:
        address, port = entry.frontend
        if entry.backend.address == address and address not in node_ips:
            return False  # on its way through to another machine, where the port means something else
        serving = wanted.get(Frontend("", port))
    return serving is not None and entry.backend not in serving


def _dump(sock: socket.socket, family: Family, pick: Frontend | None) -> Iterator[_Entry]:
    flags = _FLAG_PROTOCOL
    address = b""
    protocol = [netlink.attribute(_PROTOCOL_NUMBER, bytes([socket.IPPROTO_UDP]))]
    if pick is not None:
        flags |= _FLAG_PORT
        protocol.append(netlink.attribute(_PROTOCOL_PORT, struct.pack("!H", pick.port)))
        if pick.address:
            flags |= _FLAG_DESTINATION
            address = netlink.attribute(_IP_DESTINATION[family], ip_address(pick.address).packed)
    sock.send(
        netlink.netfilter_message(
            _GET,
            netlink.NLM_F_DUMP,
            _NUMBERS[family],
            netlink.nested(
                _TUPLE_ORIGINAL,
                netlink.nested(_TUPLE_IP, address),
                netlink.nested(_TUPLE_PROTOCOL, *protocol),
            ),
            netlink.nested(
                _FILTER,
                netlink.attribute(_FILTER_ORIGINAL_FLAGS, struct.pack("=I", flags)),
                netlink.attribute(_FILTER_REPLY_FLAGS, struct.pack("=I", 0)),
            ),
        )
    )
    while True:
        for message in netlink.messages(sock.recv(_RECEIVE)):
            if message.type == netlink.NLMSG_DONE:
                return
            if message.type == netlink.NLMSG_ERROR:
                code = netlink.error_number(message)
                raise OSError(code, f"conntrack: {os.strerror(code)}")
            entry = _entry(message.body, family)
            if entry is not None:
                yield entry


def _entry(body: memoryview, family: Family) -> _Entry | None:
    """The entry that a message describes, if it is of UDP: an old kernel filters nothing."""
    _, found = netlink.netfilter_body(body)
    original = netlink.attributes(found[_TUPLE_ORIGINAL])
    reply = netlink.attributes(found[_TUPLE_REPLY])
    protocol = netlink.attributes(original[_TUPLE_PROTOCOL])
    if protocol[_PROTOCOL_NUMBER][0] != socket.IPPROTO_UDP:
        return None
    to = netlink.attributes(original[_TUPLE_IP])[_IP_DESTINATION[family]]
    back = netlink.attributes(reply[_TUPLE_IP])[_IP_SOURCE[family]]
    source_port = netlink.attributes(reply[_TUPLE_PROTOCOL])[_PROTOCOL_SOURCE_PORT]
    return _Entry(
        found[_TUPLE_ORIGINAL],
        found.get(_ID),
        Frontend(str(ip_address(bytes(to))), int.from_bytes(protocol[_PROTOCOL_PORT], "big")),
        Destination(str(ip_address(bytes(back))), int.from_bytes(source_port, "big")),
    )


def _delete(sock: socket.socket, family: Family, entry: _Entry) -> int:
    parts = [netlink.attribute(_TUPLE_ORIGINAL | netlink.NLA_F_NESTED, bytes(entry.original))]
    if entry.identity is not None:  # so that a new flow that looks the same is left alone
        parts.append(netlink.attribute(_ID, bytes(entry.identity)))
    sock.send(netlink.netfilter_message(_DELETE, netlink.NLM_F_ACK, _NUMBERS[family], *parts))
    for message in netlink.messages(sock.recv(_RECEIVE)):
        code = netlink.error_number(message)
        if code not in (0, errno.ENOENT):
            raise OSError(code, f"conntrack: {os.strerror(code)}")
        return int(code == 0)
    return 0
