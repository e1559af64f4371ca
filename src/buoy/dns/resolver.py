"""From a message of a client to the message that answers it."""

from __future__ import annotations

import random
import time
from collections.abc import Coroutine, Iterator, Mapping
from itertools import cycle
from typing import NamedTuple

from . import private, wire
from .cache import Hit, Question
from .forward import Forwarder
from .metrics import Metrics, Tally
from .records import Records
from .wire import ANY, AXFR, BADVERS, HINFO, IN, IXFR, NOTIMP, OPT, REFUSED, SERVFAIL, Answer, Query, RRset
from .zone import Chase, Zone

_READY = 20_000
_ORDERS = 8
_ANY_CLASS = 255
_META_TYPES = range(128, 256)
_FOREVER = float("inf")


class Ready(NamedTuple):
    """Messages to give, one after the other, to a message that is known byte by byte; all without their id.

    Good *until* a time of the steady clock. *tally* is where to count.
    """

    until: float
    replies: Iterator[bytes]
    tally: Tally


class Outcome(NamedTuple):
    """An answer, how it is to be rendered, and where it came from."""

    hit: Hit
    source: str


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
        self.ready: dict[bytes, Ready] = {}
        self._metrics = metrics

    def changed(self) -> None:
        """Forget the messages that were made ready: what they say may no longer hold."""
        self.ready.clear()

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
            return self._finish(data, query, outcome, udp)
        return self._later(data, query, outcome, udp)

    async def _later(
        self, data: bytes, query: Query, outcome: Coroutine[None, None, Outcome], udp: bool
    ) -> bytes:
        return self._finish(data, query, await outcome, udp)

    def _outcome(self, query: Query) -> Outcome | Coroutine[None, None, Outcome]:
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
        onward = self._elsewhere(query, found.target, chased=True)
        if isinstance(onward, Outcome):
            return Outcome(_linked(found, onward.hit), "cluster")
        return _chase(found, onward)

    def _elsewhere(
        self, query: Query, name: bytes, *, chased: bool = False
    ) -> Outcome | Coroutine[None, None, Outcome]:
        """What others say of *name*; *chased* if only an alias led there."""
        local = self._hosts(name, query.type)
        if local is not None:
            return _plain(local, "hosts")
        if query.type == ANY:
            return _plain(Answer(answer=(RRset(name, HINFO, 3600, (wire.text("RFC8482", ""),)),)), "forward")
        if not self.forwarder.servers(name):
            if chased:
                return _plain(Answer(), "forward")
            nowhere = Answer(SERVFAIL, error=(wire.NO_UPSTREAM, "no upstream server is configured"))
            return _plain(private.lookup(name) or nowhere, "forward")
        question = Question(
            name, query.type, query.edns is not None and query.edns.dnssec, bool(query.flags & wire.CD)
        )
        hit = self.forwarder.cached(question)
        if hit is not None:
            return Outcome(hit, "forward")
        return self._ask(question)

    async def _ask(self, question: Question) -> Outcome:
        return Outcome(await self.forwarder.ask(question), "forward")

    def _hosts(self, name: bytes, kind: int) -> Answer | None:
        records = self.hosts.get(name)
        if records is None:
            return None
        data = records.get(kind)
        return Answer(answer=(RRset(name, kind, self.zone.ttl, data),) if data else (), authoritative=True)

    def _finish(self, data: bytes, query: Query, outcome: Outcome, udp: bool) -> bytes:
        hit, source = outcome
        answer = hit.answer
        limit = query.limit if udp else wire.LONGEST
        tally = self._metrics.tally("udp" if udp else "tcp", source, query.type, answer.rcode)
        tally.count += 1
        choices = answer.choices

        def render(turn: int) -> bytes:
            return wire.render(query, answer, limit=limit, age=hit.age, least_ttl=hit.least_ttl, turn=turn)

        if not udp or hit.next <= time.monotonic() or not _is_common(data, query):
            return render(random.randrange(choices))  # noqa: S311
        turns = list(range(choices)) if choices <= _ORDERS else random.sample(range(choices), _ORDERS)
        random.shuffle(turns)
        replies = [render(turn) for turn in turns]
        if len(self.ready) >= _READY:
            self.ready.clear()
        self.ready[data[2:]] = Ready(hit.next, cycle([reply[2:] for reply in replies]), tally)
        return replies[-1]


def _is_common(data: bytes, query: Query) -> bool:
    """Whether the same message may well come again: without cookies, paddings and the like."""
    if query.edns is None:
        return len(data) == 12 + len(query.question)
    return query.edns.plain and len(data) == 12 + len(query.question) + 11


def _plain(answer: Answer, source: str = "none") -> Outcome:
    return Outcome(Hit(answer, 0, 0, False, _FOREVER), source)


async def _chase(chase: Chase, onward: Coroutine[None, None, Outcome]) -> Outcome:
    return Outcome(_linked(chase, (await onward).hit), "cluster")


def _linked(chase: Chase, hit: Hit) -> Hit:
    """The links of the alias, then what is at its end; the TTL of the links does not shrink."""
    answer = hit.answer
    links = tuple(link._replace(ttl=link.ttl + hit.age) for link in chase.links)
    return hit._replace(
        answer=answer._replace(
            answer=(*links, *answer.answer), additional=(), authoritative=True, authenticated=False
        )
    )
