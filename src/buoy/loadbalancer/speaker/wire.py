"""The process that is never late: ``python -m buoy.loadbalancer.speaker.wire NODE PORT KEY-FILE``.

It reads `Orders` from its standard input and writes `Report` to its standard output. It needs no API server:
what it was told last holds. When its input ends, it says goodbye to the other speakers and ends.
"""

from __future__ import annotations

import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from .. import election
from ..layer2.responder import Responder
from ..layer2.schedule import Address, Schedule
from ..liveness.detector import INTERVAL, MISSES, Detector
from ..liveness.transport import Transport
from . import orders
from .orders import Orders, Report, Traffic

log = logging.getLogger(__name__)

_SETTLING = (MISSES + 1) * INTERVAL
"""Seconds after which, at a start, whoever is there has been heard. No address is taken before."""

_COURTESY = 0.05
"""Seconds in which all that start together say that they are ready, before any of them takes an address."""

_RETURNING = 1.0
"""The same when the LAN is there again: others answer for what was here, and reach what we may not yet."""

_FAREWELLS = (0.02, 0.02, 0.02)
"""Seconds after each of so many goodbyes, in which addresses are still answered for."""

_NICE = -20

_REPORT_SECONDS = 1.0
"""How often packets are reported, if there were any."""


class Wire:
    """One node's part in all contests. *now* is of a steady clock.

    Raises PermissionError if raw sockets are not allowed.
    """

    def __init__(self, node: str, port: int, key: bytes, now: float) -> None:
        self._node = node
        self._detector = Detector(node, time.time_ns(), now)
        self.transport = Transport(self._detector, key, port)
        self.responder = Responder()
        self._schedule = Schedule()
        self._orders: Orders | None = None
        self._rankings: dict[Address, tuple[str, ...]] = {}
        self._settled_at: float | None = None
        self._claims_at = now
        self._heard = frozenset[str]()
        self._view = frozenset[str]()
        self._owned: dict[Address, frozenset[str] | None] = {}
        self._changed = True
        self._packets = 0
        self._report_at = now

    def obey(self, new: Orders, now: float) -> None:
        """Go by *new* from now on."""
        if self._orders is None:
            self._settle(now, _SETTLING)
        old, self._orders = self._orders or Orders(), new
        if (old.addresses, old.peers) != (new.addresses, new.peers):
            self.transport.use(new.addresses, new.peers)
        if (old.candidates, old.contests) != (new.candidates, new.contests):
            self._rankings = {
                ip_address(text): election.rank(new.candidates[contest.candidates], contest.key)
                for text, contest in new.contests.items()
            }
            self._changed = True
        if old.interfaces != new.interfaces:
            self.responder.use(new.interfaces)
            self.transport.interfaces = [interface.index for interface in new.interfaces]
            if not set(new.interfaces) <= set(old.interfaces):
                if new.peers and not self._detector.heard(now):
                    self._settle(now, _RETURNING)
                self._announce(self._owned, now)
            self._changed = True
        self._compete(now)

    def tick(self, now: float) -> None:
        """Do what time has brought. To be called when `due`, and after anything was received."""
        if now >= self.transport.due():
            self._detector.tick(now)
        if self._settled_at is not None and (now >= self._settled_at or self._hears_all(now)):
            self._settled_at = None
            if self._detector.heard(now) - self._detector.view(now):  # they are about to be ready, too
                self._claims_at = now + _COURTESY
            self._detector.ready = True
            self._heard = frozenset()
        heard = self._detector.heard(now)
        view = self._detector.view(now) if now >= self._claims_at else self._view
        changed = heard != self._heard or view != self._view
        if view != self._view:
            come = view - self._view
            self._view = view
            self._view_changed(come, now)
        self._heard = heard
        if changed:
            self.transport.tell_all(now)  # others may wait for our word
        self.transport.tick(now)
        for address in self._schedule.due(now):
            self.responder.announce(address)

    def due(self, now: float) -> float:
        """When to call `tick` next."""
        times = [self.transport.due(), self._detector.next_look(now), self._schedule.next()]
        if self._settled_at is not None:
            times.append(self._settled_at)
        if self._claims_at > now:
            times.append(self._claims_at)
        return min(times)

    def report(self, now: float) -> Report | None:
        """What there is to tell, None if nothing is new."""
        traffic = self.responder.requests, self.responder.responses, self.responder.gratuitous
        packets = sum(counter.total() for counter in traffic)
        if not self._changed and (now < self._report_at or packets == self._packets):
            return None
        self._changed, self._packets, self._report_at = False, packets, now + _REPORT_SECONDS
        owners = {
            address: election.winner(ranking, self._view) for address, ranking in self._rankings.items()
        }
        return Report(
            alive=tuple(sorted(self._view)),
            owners={str(address): owner for address, owner in owners.items() if owner},
            announced={str(address): tuple(self.responder.interfaces_of(address)) for address in self._owned},
            traffic={
                str(address): Traffic(*(counter[address] for counter in traffic))
                for address in set().union(*traffic)
            },
        )

    def leave(self, now: float) -> None:
        """Tell the others to take over. What is owned is answered for until `close`; no more `tick` then."""
        self._detector.ready = False
        self.transport.tell_all(now)

    def close(self) -> None:
        self.responder.close()
        self.transport.close()

    def _settle(self, now: float, seconds: float) -> None:
        """Take nothing before all others are heard, or that time has passed."""
        self._settled_at = now + seconds
        self._detector.ready = False
        self._view = self._detector.view(now)

    def _hears_all(self, now: float) -> bool:
        return self._orders is not None and self._detector.heard(now) >= self._orders.peers.keys()

    def _view_changed(self, come: frozenset[str], now: float) -> None:
        log.info("speakers that are there: %s", ", ".join(sorted(self._view)) or "none")
        kept = set(self._owned)
        self._compete(now)
        # Who was away may have answered for these addresses where we were not heard.
        kept &= self._owned.keys()
        self._announce((one for one in kept if not come.isdisjoint(self._rankings[one])), now)
        self._changed = True

    def _compete(self, now: float) -> None:
        contests = self._orders.contests if self._orders else {}
        owned = {}
        for address, ranking in self._rankings.items():
            if election.winner(ranking, self._view) == self._node:
                names = contests[str(address)].interfaces
                owned[address] = None if names is None else frozenset(names)
        if owned == self._owned:
            return
        old, self._owned = self._owned, owned
        self.responder.serve(owned)
        for address in old.keys() - owned.keys():
            self._schedule.stop(address)
            log.info("%s is not announced from here any more", address)
        for address in owned.keys() - old.keys():
            log.info("%s is announced from here", address)
        self._announce((address for address in owned if old.get(address, ...) != owned[address]), now)
        self._changed = True

    def _announce(self, addresses: Iterable[Address], now: float) -> None:
        for address in addresses:
            self._schedule.start(address, now)


class _Loop:
    """Waits for packets, orders and time."""

    def __init__(self, wire: Wire, source: int, sink: int) -> None:
        self._wire = wire
        self._source = source
        self._sink = sink
        self._received = b""
        self._unsent = b""
        self._selector = selectors.EpollSelector()
        for descriptor in (source, sink):
            os.set_blocking(descriptor, False)
        self._selector.register(source, selectors.EVENT_READ, self._obey)
        for sock in wire.responder.sockets:
            self._selector.register(sock, selectors.EVENT_READ, wire.responder.answer)
        self._listening: list[socket.socket] = []
        self._leaving = False

    def leave(self) -> None:
        self._leaving = True

    def run(self) -> None:
        """Go on until there is nobody to give orders."""
        while not self._leaving:
            self._turn()
        self._selector.unregister(self._source)
        for seconds in _FAREWELLS:
            now = time.monotonic()
            self._wire.leave(now)
            self._listen(now + seconds)

    def _turn(self) -> None:
        self._follow_sockets()
        now = time.monotonic()
        self._wait(min(self._wire.due(now) - now, _REPORT_SECONDS))
        now = time.monotonic()
        self._wire.tick(now)
        if not self._unsent and (report := self._wire.report(now)):
            self._unsent = orders.encode(report) + b"\n"
            self._send()

    def _wait(self, seconds: float) -> None:
        for key, _ in self._selector.select(max(0.0, seconds)):
            key.data(key.fileobj)

    def _listen(self, until: float) -> None:
        while (seconds := until - time.monotonic()) > 0:
            self._wait(seconds)

    def _follow_sockets(self) -> None:
        current = self._wire.transport.sockets
        if current != self._listening:
            for sock in set(self._listening) - set(current):
                self._selector.unregister(sock)
            for sock in set(current) - set(self._listening):
                self._selector.register(sock, selectors.EVENT_READ, self._hear)
            self._listening = current

    def _hear(self, sock: socket.socket) -> None:
        self._wire.transport.receive(sock, time.monotonic())

    def _obey(self, source: int) -> None:
        data = os.read(source, 1 << 20)
        if not data:
            self._leaving = True
            return
        *lines, self._received = (self._received + data).split(b"\n")
        if lines:
            self._wire.obey(orders.decode_orders(lines[-1]), time.monotonic())

    def _send(self, _: object = None) -> None:
        was_waiting = self._sink in self._selector.get_map()
        try:
            self._unsent = self._unsent[os.write(self._sink, self._unsent) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._unsent = b""
            self._leaving = True
        if self._unsent and not was_waiting:
            self._selector.register(self._sink, selectors.EVENT_WRITE, self._send)
        elif was_waiting and not self._unsent:
            self._selector.unregister(self._sink)


def _be_prompt() -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        return
    except PermissionError:
        pass  # without CAP_SYS_NICE, or in a control group that has no share of real time
    try:
        os.nice(_NICE)
    except PermissionError:
        log.info("no priority without CAP_SYS_NICE; a loaded machine may be taken for a dead one")


def main() -> None:
    """Run for the node that the command line names."""
    node, port, key_file = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    key = Path(key_file).read_bytes()
    _be_prompt()
    try:
        wire = Wire(node, int(port), key, time.monotonic())
    except PermissionError as error:
        sys.exit(f"answering ARP and neighbour discovery needs raw sockets, so CAP_NET_RAW: {error}")
    loop = _Loop(wire, sys.stdin.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the speaker, whose end we see
    signal.signal(signal.SIGTERM, lambda *_: loop.leave())
    gc.freeze()
    try:
        loop.run()
    finally:
        wire.close()


if __name__ == "__main__":
    main()
