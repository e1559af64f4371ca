"""The thin half: packet sockets that hear questions for addresses and answer them.

One socket for ARP and one for IPv6 hear all interfaces of the network namespace, those to come included.
They need CAP_NET_RAW.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address

from . import arp, bpf, ndp
from .interfaces import Interface
from .schedule import Address

log = logging.getLogger(__name__)

_LARGEST_FRAME = 2048
_MOST_AT_ONCE = 64


class Responder:
    """Answers for addresses, each on all interfaces or on some.

    *requests*, *responses* and *gratuitous* count packets by address. Raises PermissionError if raw sockets
    are not allowed.
    """

    def __init__(self) -> None:
        self.requests: Counter[Address] = Counter()
        self.responses: Counter[Address] = Counter()
        self.gratuitous: Counter[Address] = Counter()
        self._interfaces: dict[str, Interface] = {}
        self._served: dict[Address, frozenset[str] | None] = {}
        self._groups = _Groups()
        self._arp = _packet_socket(arp.ETHERTYPE)
        self._ndp: socket.socket | None = None
        with contextlib.suppress(OSError):
            self._ndp = _packet_socket(ndp.ETHERTYPE)
        self._set_filters()

    @property
    def sockets(self) -> list[socket.socket]:
        """What to wait on, for `answer`."""
        return [sock for sock in (self._arp, self._ndp) if sock]

    @property
    def interfaces(self) -> Mapping[str, Interface]:
        return self._interfaces

    def interfaces_of(self, address: Address) -> list[str]:
        """The present interfaces on which *address* is answered for."""
        chosen = self._served.get(address, frozenset())
        return [name for name in self._interfaces if chosen is None or name in chosen]

    def use(self, interfaces: Iterable[Interface]) -> None:
        """These are the interfaces now."""
        self._interfaces = {interface.name: interface for interface in interfaces}
        self._set_groups()

    def serve(self, addresses: Mapping[Address, frozenset[str] | None]) -> None:
        """Answer for *addresses* and for no others, from this moment; None: on all interfaces."""
        self._served = dict(addresses)
        self._set_filters()
        self._set_groups()

    def announce(self, address: Address) -> None:
        """Tell everybody that *address* is here."""
        for name in self.interfaces_of(address):
            interface = self._interfaces[name]
            if isinstance(address, IPv4Address):
                frames = arp.gratuitous(interface.mac, address)
                sent = [self._send(self._arp, name, frame) for frame in frames]
            elif self._ndp:
                sent = [self._send(self._ndp, name, ndp.unsolicited(interface.mac, address))]
            else:
                continue
            self.gratuitous[address] += sum(sent)

    def answer(self, sock: socket.socket) -> None:
        """Answer what *sock* has heard."""
        for _ in range(_MOST_AT_ONCE):
            try:
                frame, (name, *_) = sock.recvfrom(_LARGEST_FRAME)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # one of the interfaces; the others go on
                    raise
                continue
            interface = self._interfaces.get(name)
            if interface:
                self._answer_one(sock, interface, frame)

    def close(self) -> None:
        self._groups.close()
        for sock in self.sockets:
            sock.close()

    def _answer_one(self, sock: socket.socket, interface: Interface, frame: bytes) -> None:
        question: arp.Request | ndp.Solicitation | None
        if sock is self._arp:
            question = arp.parse_request(frame)
        else:
            question = ndp.parse_solicitation(frame)
        if question is None or question.target not in self._served:
            return
        if frame[:6] != interface.mac and not frame[0] & 1:
            return  # meant for another machine, and only overheard
        if interface.name not in self.interfaces_of(question.target):
            return
        self.requests[question.target] += 1
        if isinstance(question, arp.Request):
            reply = arp.reply(interface.mac, question)
        else:
            reply = ndp.advertisement(interface.mac, question)
        self.responses[question.target] += self._send(sock, interface.name, reply)

    def _send(self, sock: socket.socket, interface: str, frame: bytes) -> bool:
        try:
            sock.sendto(frame, (interface, 0))
        except OSError as error:  # the interface went down or away, or its queue is full
            log.debug("%s: cannot send: %s", interface, error)
            return False
        return True

    def _set_filters(self) -> None:
        by_version: dict[int, list[bytes]] = {4: [], 6: []}
        for address in self._served:
            by_version[address.version].append(address.packed)
        bpf.attach(self._arp, bpf.arp_requests(by_version[4]))
        if self._ndp:
            bpf.attach(self._ndp, bpf.solicitations(by_version[6]))

    def _set_groups(self) -> None:
        self._groups.join(
            {
                (self._interfaces[name].index, ndp.solicited_node(address))
                for address in self._served
                if isinstance(address, IPv6Address)
                for name in self.interfaces_of(address)
            }
        )


class _Groups:
    """Multicast groups that this machine is in: its interfaces let their frames pass, and switches know."""

    def __init__(self) -> None:
        self._joined: dict[tuple[int, IPv6Address], socket.socket] = {}
        self._sockets: list[socket.socket] = []

    def join(self, wanted: set[tuple[int, IPv6Address]]) -> None:
        """Be in the groups *wanted*, each on the interface of an index, and in no others."""
        for group in self._joined.keys() - wanted:
            sock = self._joined.pop(group)
            with contextlib.suppress(OSError):  # the interface is gone
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, _request(group))
        for group in wanted - self._joined.keys():
            self._join(group)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()

    def _join(self, group: tuple[int, IPv6Address]) -> None:
        for sock in (*self._sockets, None):
            try:
                used = sock or socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
                if sock is None:
                    self._sockets.append(used)
                used.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, _request(group))
            except OSError as error:
                if error.errno == errno.ENOMEM or error.errno == errno.ENOBUFS:
                    continue  # a socket holds some hundred groups
                log.warning("cannot join %s on interface %d: %s", group[1], group[0], error)
                return
            self._joined[group] = used
            return


def _request(group: tuple[int, IPv6Address]) -> bytes:
    index, address = group
    return address.packed + struct.pack("@I", index)


def _packet_socket(ethertype: int) -> socket.socket:
    sock = socket.socket(
        socket.AF_PACKET,
        socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
        socket.htons(ethertype),
    )
    bpf.attach(sock, bpf.NOTHING)
    return sock
