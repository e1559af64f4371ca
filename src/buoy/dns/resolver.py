"""From a message of a client to the message that answers it."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

from . import private, wire
from .cache import Hit, Question
from .forward import Forwarder
from .metrics import Metrics, Tally
from .records import Records
from .wire import ANY, AXFR, BADVERS, HINFO, IN, IXFR, NOTIMP, OPT, REFUSED, SERVFAIL, Answer, Query, RRset
from .zone import Chase, Zone

_READY = 5000
_ORDERS = 8
_ANY_CLASS = 255
_META_TYPES = range(128, 256)
_FOREVER = float("inf")


class Outcome(NamedTuple):
    """An answer, how it is to be rendered, and where it came from."""

    hit: Hit
    source: str


class Pending(NamedTuple):
    """Somebody has to be asked; *chase* is what led there."""

    question: Question
    chase: Chase | None


@dataclass(slots=True)
class Ready:
    """Messages to give, one after the other, to a message that is known byte by byte; all without their id.

    Good *until* a time of the steady clock, while *generation* is the resolver's. *tally* is where to count.
    """

    generation: int
    until: float
    replies: Iterator[bytes]
    tally: Tally
    query: Query
    outcome: Outcome


class Resolver:
    """Answers questions: about the cluster out of *zone*, about *hosts*, about all else through *forwarder*.

    Nothing is said about the cluster before *synced*. All three may be replaced at any time; call `changed`
    then, and whenever the zone has changed.
    """

    def __init__(
        self, zone: Zone, hosts: Mapping[bytes, Records], forwarder: Forwarder, metrics: Metrics
    ) -> None:
        self.zone = zone
        self.hosts = hosts
        self.forwarder = forwarder
        self.synced = False
        self.ready: OrderedDict[bytes, Ready] = OrderedDict()
        self.generation = 0
        self._metrics = metrics

    def changed(self) -> None:
        """What was made ready may no longer hold: look again before it is used."""
        self.generation += 1

    def still_holds(self, ready: Ready) -> bool:
        """Look again; if nothing else would be said now, *ready* may be used as before."""
        if self._outcome(ready.query) != ready.outcome:
            return False
        ready.generation = self.generation
        return True

    def respond(self, data: bytes, *, udp: bool) -> bytes | Coroutine[None, None, bytes] | None:
        """The answer to message *data*, perhaps after asking others; None if it deserves none."""
        try:
            query = wire.parse(data)
        except wire.FormatError as error:
            if error.reply is not None:
                self._metrics.tally("udp" if udp else "tcp", "none", 0, error.reply[3] & 15).count += 1
            return error.reply
        outcome = self._outcome(query)
        if isinstance(outcome, Outcome):
            return self._finish(data, query, outcome, udp, keep=udp and _is_common(data, query))
        return self._later(data, query, outcome, udp)

    async def _later(self, data: bytes, query: Query, pending: Pending, udp: bool) -> bytes:
        hit = await self.forwarder.ask(pending.question)
        # Not to be kept: while it was asked for, what led to it may have changed.
        return self._finish(data, query, _linked(pending.chase, Outcome(hit, "forward")), udp, keep=False)

    def _outcome(self, query: Query) -> Outcome | Pending:
        if query.edns is not None and query.edns.version:
            return _plain(Answer(BADVERS))
        if query.klass not in (IN, _ANY_CLASS) or query.type in (AXFR, IXFR):
            return _plain(Answer(REFUSED))
        if (query.type in _META_TYPES and query.type != ANY) or query.type == OPT:
            return _plain(Answer(NOTIMP))
        if not self.synced and self.zone.covers(query.name):
            not_ready = (wire.NOT_READY, "the cluster's Services are not known yet")
            return _plain(Answer(SERVFAIL, error=not_ready), "cluster")
        found = self.zone.lookup(query.name, query.type)
        if isinstance(found, Answer):
            return _plain(found, "cluster")
        if found is None:
            return self._elsewhere(query, query.name)
        return self._elsewhere(query, found.target, found)

    def _elsewhere(self, query: Query, name: bytes, chase: Chase | None = None) -> Outcome | Pending:
        """What others say of *name*, to which *chase* may have led."""
        local = self._hosts(name, query.type)
        if local is not None:
            return _linked(chase, _plain(local, "hosts"))
        if query.type == ANY:
            return _plain(Answer(answer=(RRset(name, HINFO, 3600, (wire.text("RFC8482", ""),)),)), "forward")
        if not self.forwarder.servers(name):
            if chase is not None:
                return _linked(chase, _plain(Answer(), "forward"))
            nowhere = Answer(SERVFAIL, error=(wire.NO_UPSTREAM, "no upstream server is configured"))
            return _plain(private.lookup(name) or nowhere, "forward")
        dnssec = query.edns is not None and query.edns.dnssec
        question = Question(name, query.type, dnssec, bool(query.flags & wire.CD))
        hit = self.forwarder.cached(question)
        if hit is None:
            return Pending(question, chase)
        return _linked(chase, Outcome(hit, "forward"))

    def _hosts(self, name: bytes, kind: int) -> Answer | None:
        records = self.hosts.get(name)
        if records is None:
            return None
        data = records.get(kind)
        return Answer(answer=(RRset(name, kind, self.zone.ttl, data),) if data else (), authoritative=True)

    def _finish(self, data: bytes, query: Query, outcome: Outcome, udp: bool, *, keep: bool) -> bytes:
        hit, source = outcome
        answer = hit.answer
        limit = query.limit if udp else wire.LONGEST
        tally = self._metrics.tally("udp" if udp else "tcp", source, query.type, answer.rcode)
        tally.count += 1
        choices = answer.choices

        def render(turn: int) -> bytes:
            return wire.render(query, answer, limit=limit, age=hit.age, least_ttl=hit.least_ttl, turn=turn)

        if not keep or hit.next <= time.monotonic():
            return render(random.randrange(choices))  # noqa: S311
        turns = list(range(choices)) if choices <= _ORDERS else random.sample(range(choices), _ORDERS)
        random.shuffle(turns)
        replies = [render(turn) for turn in turns]
        if len(self.ready) >= _READY:
            self.ready.popitem(last=False)
        self.ready[data[2:]] = Ready(
            self.generation, hit.next, cycle([reply[2:] for reply in replies]), tally, query, outcome
        )
        return replies[-1]


def _is_common(data: bytes, query: Query) -> bool:
    """Whether the same message may well come again: without cookies, paddings and the like."""
    if query.edns is None:
        return len(data) == 12 + len(query.question)
    return query.edns.plain and len(data) == 12 + len(query.question) + 11


def _plain(answer: Answer, source: str = "none") -> Outcome:
    return Outcome(Hit(answer, 0, 0, False, _FOREVER), source)


def _linked(chase: Chase | None, end: Outcome) -> Outcome:
    """The links of *chase* and what is at its end. The TTL of the links does not shrink with time."""
    if chase is None:
        return end
    hit = end.hit
    answer = hit.answer
    links = tuple(link._replace(ttl=link.ttl + hit.age) for link in chase.links)
    whole = answer._replace(
        answer=(*links, *answer.answer), additional=(), authoritative=True, authenticated=False
    )
    return Outcome(hit._replace(answer=whole), "cluster")
