"""The thin half: UDP sockets of this node's addresses, and one message to each peer at every interval."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping, Sequence

from . import message
from .detector import Detector
from .neighbours import Neighbours

log = logging.getLogger(__name__)

_LARGEST = 65536
_MOST_AT_ONCE = 1024
_MSG_CONFIRM = 0x800
_ASK_AGAIN = 0.3
"""Seconds between two questions for the hardware address of a peer that is not heard any more."""


class Transport:
    """Speaks for *detector*, with *key*, on UDP *port*."""

    def __init__(self, detector: Detector, key: bytes, port: int) -> None:
        self._detector = detector
        self._key = key
        self._port = port
        self._sockets: dict[str, socket.socket] = {}
        self._peers: dict[str, tuple[socket.socket, str]] = {}
        self._failed: set[str] = set()
        self._wanted: tuple[str, ...] = ()
        self._theirs: Mapping[str, Sequence[str]] = {}
        self._due = 0.0
        self._neighbours = Neighbours()
        self._ask_again: dict[str, float] = {}
        self.interfaces: Sequence[int] = ()
        """The indexes of those on which peers may be neighbours."""

    @property
    def sockets(self) -> list[socket.socket]:
        """What to wait on, for `receive`."""
        return list(self._sockets.values())

    def use(self, addresses: Iterable[str], peers: Mapping[str, Sequence[str]]) -> None:
        """Speak from this node's *addresses* to *peers*, by name with their addresses.

        An address that cannot be used yet is tried again at every interval.
        """
        self._wanted, self._theirs = tuple(addresses), peers
        for gone in self._sockets.keys() - set(self._wanted):
            self._sockets.pop(gone).close()
        self._detector.set_peers(peers)
        self._open()
        self._due = 0.0

    def receive(self, sock: socket.socket, now: float) -> None:
        """Give the detector what *sock* has; answer whom it wants answered."""
        for _ in range(_MOST_AT_ONCE):
            try:
                data = sock.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError as error:  # an ICMP error about something sent before
                log.debug("receiving: %s", error)
                continue
            heard = message.decode(data, self._key)
            if heard and self._detector.receive(heard, now):
                self.tell(heard.sender, now)

    def due(self) -> float:
        """When `tick` wants to be called."""
        return self._due

    def tick(self, now: float) -> None:
        """Tell everybody if it is time to."""
        if now >= self._due:
            self.tell_all(now)

    def tell_all(self, now: float) -> None:
        self._due = now + self._detector.interval
        if len(self._sockets) < len(self._wanted):
            self._open()
        for name in self._peers:
            self.tell(name, now)

    def tell(self, name: str, now: float) -> None:
        """Send *name* a message."""
        if name not in self._peers:
            return
        sock, address = self._peers[name]
        said = self._detector.message(name, now)
        data = message.encode(said, self._key)
        # Who is heard is at the hardware address that the kernel knows. One who was heard once may have come
        # back with another, and the kernel asks for one that does not answer only once a second.
        flags = _MSG_CONFIRM if said.hears_you else 0
        if said.echo and not said.hears_you and now >= self._ask_again.get(name, 0.0):
            self._ask_again[name] = now + _ASK_AGAIN
            for index in self.interfaces:
                self._neighbours.forget(address, index)
        try:
            sock.sendto(data, flags, (address, self._port))
        except OSError as error:
            if name not in self._failed:
                log.warning("%s at %s cannot be told that this node is there: %s", name, address, error)
            self._failed.add(name)
        else:
            self._failed.discard(name)

    def close(self) -> None:
        self._neighbours.close()
        for sock in self._sockets.values():
            sock.close()

    def _open(self) -> None:
        for address in self._wanted:
            if address not in self._sockets and (sock := self._bound(address)):
                self._sockets[address] = sock
        by_family = {sock.family: sock for sock in reversed(self._sockets.values())}
        self._peers = {}
        for name, theirs in self._theirs.items():
            reachable = ((by_family[_family(one)], one) for one in theirs if _family(one) in by_family)
            if found := next(reachable, None):
                self._peers[name] = found

    def _bound(self, address: str) -> socket.socket | None:
        sock = socket.socket(_family(address), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.bind((address, self._port))
        except OSError as error:
            sock.close()
            if address not in self._failed:
                log.error(
                    "cannot listen for other speakers at %s, UDP port %d: %s", address, self._port, error
                )
            self._failed.add(address)
            return None
        self._failed.discard(address)
        return sock


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
