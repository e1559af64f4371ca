"""Hears of changes to the nf_tables ruleset, and tells other hands from our own.

Source: linux/netfilter/nf_tables.h. The kernel reports each transaction to the group NFNLGRP_NFTABLES with
the netlink port of its sender, which for iptables is its process id.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Container
from typing import Literal

from .. import netlink
from ..model import Family
from . import render

_GROUP_NFTABLES = 7
_SUBSYSTEM = 10 << 8
_NEW_CHAIN, _DELETE_CHAIN = _SUBSYSTEM | 3, _SUBSYSTEM | 5
_NEW_RULE, _DELETE_RULE = _SUBSYSTEM | 6, _SUBSYSTEM | 8
_DELETE_TABLE = _SUBSYSTEM | 2
_FIRST_NAME, _RULE_CHAIN, _CHAIN_NAME = 1, 2, 3
_BUFFER = 4 << 20

_OWN_TABLES = ("nat", "filter", "mangle")
_OWN_CHAINS = frozenset(
    {
        *(place.chain for place in render.SHARED_PLACES),
        render.POSTROUTING,
        render.MARK_MASQ,
        render.FORWARD,
        render.CANARY,
    }
)
_BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})

Touched = Literal["", "perhaps", "ours"]
"""What somebody did: nothing to us; something to chains that we share, or unknown; something to ours."""


def judge(message: netlink.Message, family: Family) -> Touched:
    """What one message from another process means for the rules of *family*."""
    if message.type not in (_NEW_RULE, _DELETE_RULE, _NEW_CHAIN, _DELETE_CHAIN, _DELETE_TABLE):
        return ""
    number, attributes = netlink.netfilter_body(message.body)
    if number != (socket.AF_INET6 if family is Family.IPV6 else socket.AF_INET):
        return ""
    if netlink.text(attributes[_FIRST_NAME]) not in _OWN_TABLES:
        return ""
    if message.type == _DELETE_TABLE:
        return "ours"
    is_rule = message.type in (_NEW_RULE, _DELETE_RULE)
    chain = netlink.text(attributes.get(_RULE_CHAIN if is_rule else _CHAIN_NAME, memoryview(b"")))
    if chain in _OWN_CHAINS or chain.startswith(render.OWN_PREFIXES):
        return "ours"
    if message.type == _DELETE_RULE and (chain in _BUILT_IN or chain == render.MARTIANS):
        return "perhaps"
    return ""


class Monitor:
    """Changes made by processes that are not in *own*, from now on."""

    def __init__(self, family: Family, own: Container[int]) -> None:
        self._family = family
        self._own = own
        self._touched: Touched = ""
        self._event = asyncio.Event()
        self._socket = netlink.open_netfilter(buffer=_BUFFER)
        self._socket.setsockopt(netlink.SOL_NETLINK, netlink.NETLINK_ADD_MEMBERSHIP, _GROUP_NFTABLES)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._read)

    async def touched(self) -> Touched:
        """Wait until somebody touched the rules; it may be before this was called."""
        await self._event.wait()
        self._event.clear()
        touched, self._touched = self._touched, ""
        return touched

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _read(self) -> None:
        for _ in range(64):  # then the loop's other work gets its turn
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._note("perhaps")  # more than the buffer holds: some were lost
                continue
            self._judge(data)

    def _judge(self, data: bytes) -> None:
        for message in netlink.messages(data):
            if message.sender in self._own:
                return  # a datagram reports one transaction
            self._note(judge(message, self._family))

    def _note(self, touched: Touched) -> None:
        if touched and self._touched != "ours":
            self._touched = touched
            self._event.set()
