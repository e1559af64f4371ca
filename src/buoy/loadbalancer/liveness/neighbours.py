"""Has the kernel ask anew at which hardware address a neighbour is (rtnetlink(7), RTM_DELNEIGH)."""

from __future__ import annotations

import contextlib
import socket
import struct

_DELETE_NEIGHBOUR = 29
_DESTINATION = 1
_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")


class Neighbours:
    """The kernel's neighbour cache. Without CAP_NET_ADMIN it is left alone."""

    def __init__(self) -> None:
        self._netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )

    def forget(self, address: str, interface: int) -> None:
        """Know no hardware address for *address* on the interface of this index: what is sent next asks."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = socket.inet_pton(family, address)
        body = _NEIGHBOUR.pack(family, interface, 0, 0, 0)
        body += struct.pack("=HH", 4 + len(packed), _DESTINATION) + packed
        header = _HEADER.pack(_HEADER.size + len(body), _DELETE_NEIGHBOUR, _REQUEST, 0, 0)
        with contextlib.suppress(OSError):  # there is none, or it may not be touched: it is asked for later
            self._netlink.send(header + body)
        with contextlib.suppress(OSError):
            while True:
                self._netlink.recv(4096)

    def close(self) -> None:
        self._netlink.close()
