"""Who is there: the decision, free of sockets and clocks. Times are seconds of any steady clock.

Every speaker sends a small message to every other one at an interval. One is *heard* while its messages come
and say that it hears us too: a link that works in one direction is none, and both ends of it see that. One
that is not heard is still there if somebody who is heard hears it. So speakers that all reach each other,
at most by way of a third, see the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .message import Message, short_id

INTERVAL = 0.1
MISSES = 3.5
"""So many intervals without a message, and a speaker is gone."""

_MOST_MESSAGES = 1000
"""A second, from each speaker: in a large cluster the interval grows."""


@dataclass(slots=True)
class _Peer:
    incarnation: int = 0
    sequence: int = 0
    heard_at: float = float("-inf")
    heard_us_at: float = float("-inf")  # when it last said that it hears us
    interval: float = INTERVAL
    ready: bool = False
    hears: frozenset[bytes] = frozenset()

    @property
    def patience(self) -> float:
        return MISSES * self.interval

    @property
    def lost_at(self) -> float:
        return self.heard_us_at + self.patience


@dataclass(frozen=True, slots=True)
class _Sight:
    """Who is heard, who is there, and the short ids to tell others; so *until* then, if nothing is heard."""

    until: float = float("-inf")
    heard: frozenset[str] = frozenset()
    present: frozenset[str] = frozenset()
    told: frozenset[bytes] = frozenset()


class Detector:
    """What the speaker *name* knows of the others. *incarnation* must be higher than that of its last life.

    It is not *ready* at first: it counts as there when its owner says so.
    """

    def __init__(self, name: str, incarnation: int, now: float) -> None:
        self.name = name
        self.incarnation = incarnation
        self.ready = False
        self._sequence = 0
        self._peers: dict[str, _Peer] = {}
        self._ticked = now
        self._sight = _Sight()

    @property
    def interval(self) -> float:
        """Seconds between two messages to each peer."""
        return max(INTERVAL, len(self._peers) / _MOST_MESSAGES)

    @property
    def peers(self) -> Iterable[str]:
        return self._peers.keys()

    def set_peers(self, names: Iterable[str]) -> None:
        """The other speakers that may be there."""
        wanted = set(names) - {self.name}
        self._sight = _Sight()
        for name in self._peers.keys() - wanted:
            del self._peers[name]
        for name in wanted - self._peers.keys():
            self._peers[name] = _Peer()

    def message(self, peer: str, now: float) -> Message:
        """What to tell *peer* now."""
        self._sequence += 1
        other = self._peers[peer]
        return Message(
            sender=self.name,
            incarnation=self.incarnation,
            sequence=self._sequence,
            interval=self.interval,
            ready=self.ready,
            echo=other.incarnation,
            hears_you=now <= other.heard_at + other.patience,
            hears=self._look(now).told,
        )

    def receive(self, message: Message, now: float) -> bool:
        """Take note of *message*; whether its sender should be told something at once."""
        peer = self._peers.get(message.sender)
        if peer is None:
            return False
        if (message.incarnation, message.sequence) <= (peer.incarnation, peer.sequence):
            return message.incarnation < peer.incarnation  # its clock may have been set back
        if message.echo > self.incarnation:
            self.incarnation = message.echo + 1
        was_heard = now <= peer.lost_at
        before = (was_heard, peer.ready, peer.hears)
        peer.incarnation, peer.sequence = message.incarnation, message.sequence
        peer.heard_at = now
        peer.interval = max(message.interval, INTERVAL)
        hears_us = message.hears_you and message.echo == self.incarnation
        if hears_us:
            peer.heard_us_at = now
        peer.ready = message.ready
        peer.hears = message.hears
        if (now <= peer.lost_at, peer.ready, peer.hears) != before:
            self._sight = _Sight()
        return not hears_us or not was_heard

    def tick(self, now: float) -> None:
        """Time has passed. To be called once an interval, after what has arrived was received.

        If it comes late, this process or the machine stood still, maybe with the others': what was not heard
        meanwhile counts for nothing.
        """
        late = now - self._ticked - self.interval
        if late > INTERVAL:
            self._sight = _Sight()
            for peer in self._peers.values():
                if peer.lost_at >= self._ticked:
                    peer.heard_at = min(now, peer.heard_at + late)
                    peer.heard_us_at = min(now, peer.heard_us_at + late)
        self._ticked = now

    def view(self, now: float) -> frozenset[str]:
        """The speakers that are there and ready, this one included."""
        present = self._look(now).present
        return present | {self.name} if self.ready else present

    def heard(self, now: float) -> frozenset[str]:
        """The peers that are heard directly, ready or not."""
        return self._look(now).heard

    def next_look(self, now: float) -> float:
        """When to look again if nothing more is heard."""
        return self._look(now).until

    def _look(self, now: float) -> _Sight:
        """What there is to see, worked out anew after something new was heard, or was not in time."""
        if now > self._sight.until:
            heard = {name: peer for name, peer in self._peers.items() if now <= peer.lost_at}
            ready = [name for name, peer in heard.items() if peer.ready]
            hearsay = [
                name
                for name in self._peers.keys() - heard.keys()
                if any(short_id(name) in other.hears for other in heard.values())
            ]
            self._sight = _Sight(
                until=min((peer.lost_at for peer in heard.values()), default=float("inf")),
                heard=frozenset(heard),
                present=frozenset((*ready, *hearsay)),
                told=frozenset(map(short_id, ready)),
            )
        return self._sight
