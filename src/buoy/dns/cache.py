"""Answers of other servers, kept for as long as they say. No input or output.

Sources: RFC 2308 (negative answers), RFC 8767 (stale answers), RFC 9520 (failures).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from .wire import NOERROR, NXDOMAIN, SOA, STALE, Answer

_FAILURE_SECONDS = 1
_STALE_TTL = 30
_STALE_SECONDS = 5
_WHOLE_AGE = 1 << 31


class Question(NamedTuple):
    """What makes two questions to others the same; the name in lower case."""

    name: bytes
    type: int
    dnssec: bool = False
    checking_disabled: bool = False


@dataclass(slots=True)
class Entry:
    """*answer* as received at *stored*, good until *expires*; times are seconds of a steady clock.

    Until *stale_until* it is given out although it has expired, as nobody could be asked.
    """

    answer: Answer
    stored: float
    expires: float
    stale_until: float = 0.0
    hits: int = 0


class Hit(NamedTuple):
    """An answer out of the cache, whose TTLs are less by *age* but at least *least_ttl* seconds.

    *expiring* says that now is the time to ask again; *next* is when the TTLs change.
    """

    answer: Answer
    age: int
    least_ttl: int
    expiring: bool
    next: float


def lifetime(answer: Answer, most: int, most_negative: int) -> int:
    """For how many seconds *answer* may be kept."""
    if answer.rcode not in (NOERROR, NXDOMAIN):
        return _FAILURE_SECONDS
    ttls = [rrset.ttl for rrset in answer.answer]
    for rrset in answer.authority:
        if rrset.type == SOA:  # nothing of that name and type, though perhaps an alias on the way
            return min(most_negative, rrset.ttl, int.from_bytes(rrset.data[0][-4:], "big"), *ttls)
    return min(most, *ttls) if ttls and answer.rcode == NOERROR else 0


class Cache:
    """At most *size* answers; the least recently asked for go first."""

    def __init__(self, size: int, *, ttl: int = 3600, negative_ttl: int = 300, stale: int = 0) -> None:
        self._size = size
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self._stale = stale
        self._entries: OrderedDict[Question, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, question: Question, now: float) -> Hit | None:
        """The answer, if it is still good."""
        entry = self._entries.get(question)
        if entry is None:
            return None
        if now >= entry.expires:
            if now < entry.stale_until:
                return _stale(entry)
            if now >= entry.expires + self._stale:
                del self._entries[question]
            return None
        self._entries.move_to_end(question)
        entry.hits += 1
        age = int(now - entry.stored)
        whole = entry.expires - entry.stored
        expiring = entry.hits >= 3 and whole >= 10 and now - entry.stored > 0.9 * whole
        return Hit(entry.answer, age, 0, expiring, min(entry.stored + age + 1, entry.expires))

    def stale(self, question: Question, now: float) -> Hit | None:
        """An answer that is no longer good, but better than none; for some seconds `get` gives it, too."""
        entry = self._entries.get(question)
        if (
            entry is None
            or now >= entry.expires + self._stale
            or entry.answer.rcode not in (NOERROR, NXDOMAIN)
        ):
            return None
        self._entries.move_to_end(question)
        entry.stale_until = now + _STALE_SECONDS
        return _stale(entry)

    def put(self, question: Question, answer: Answer, now: float) -> None:
        """Keep *answer*, if it may be kept. A failure never takes the place of an answer."""
        seconds = lifetime(answer, self._ttl, self._negative_ttl)
        if seconds <= 0 or not self._size:
            return
        self._entries[question] = Entry(answer, now, now + seconds)
        self._entries.move_to_end(question)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


def _stale(entry: Entry) -> Hit:
    return Hit(entry.answer._replace(error=(STALE, "")), _WHOLE_AGE, _STALE_TTL, False, entry.stale_until)
