"""How long answers are kept."""

from __future__ import annotations

import pytest

from buoy.dns.cache import Cache, Question, lifetime
from buoy.dns.wire import CNAME, NXDOMAIN, SERVFAIL, SOA, A, Answer, RRset, encode_name, soa

NAME = encode_name("www.example.com")
Q = Question(NAME, A)


def positive(*ttls: int) -> Answer:
    return Answer(answer=tuple(RRset(NAME, A, ttl, (b"abcd",)) for ttl in ttls))


def negative(rcode: int, ttl: int, minimum: int, *links: int) -> Answer:
    authority = RRset(b"\0", SOA, ttl, (soa(b"\0", b"\0", 1, minimum),))
    return Answer(rcode, tuple(RRset(NAME, CNAME, link, (NAME,)) for link in links), (authority,))


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (positive(30), 30),
        (positive(30, 20), 20),
        (positive(100_000), 3600),
        (positive(0), 0),
        (negative(NXDOMAIN, 60, 20), 20),
        (negative(NXDOMAIN, 10, 20), 10),
        (negative(0, 1000, 2000), 300),
        (negative(0, 60, 20, 7), 7),
        (Answer(NXDOMAIN), 0),
        (Answer(), 0),
        (Answer(SERVFAIL), 1),
    ],
)
def test_how_long(answer: Answer, seconds: int) -> None:
    assert lifetime(answer, 3600, 300) == seconds
    cache = Cache(10)
    cache.put(Q, answer, 1000)
    if seconds:
        hit = cache.get(Q, 1000 + seconds - 0.5)
        assert hit is not None
        assert (hit.answer, hit.age) == (answer, seconds - 1)
    assert cache.get(Q, 1000 + seconds) is None


def test_when_the_ttl_changes() -> None:
    cache = Cache(10)
    cache.put(Q, positive(3), 100.5)
    for now, age, until in ((100.5, 0, 101.5), (101.4, 0, 101.5), (101.5, 1, 102.5), (103.0, 2, 103.5)):
        hit = cache.get(Q, now)
        assert hit is not None
        assert (hit.age, hit.next) == (age, until)


def test_the_least_recently_asked_for_goes_first() -> None:
    cache = Cache(2)
    a, b, c = (Question(encode_name(name), A) for name in "abc")
    cache.put(a, positive(10), 0)
    cache.put(b, positive(10), 0)
    assert cache.get(a, 1)
    cache.put(c, positive(10), 1)
    assert (bool(cache.get(a, 2)), cache.get(b, 2), bool(cache.get(c, 2))) == (True, None, True)
    assert len(cache) == 2
    cache.put(c, positive(20), 2)
    assert len(cache) == 2


def test_no_cache() -> None:
    cache = Cache(0)
    cache.put(Q, positive(10), 0)
    assert cache.get(Q, 0) is None


def test_other_questions_are_others() -> None:
    cache = Cache(10)
    cache.put(Q, positive(10), 0)
    for other in (Q._replace(type=CNAME), Q._replace(dnssec=True), Q._replace(checking_disabled=True)):
        assert cache.get(other, 0) is None


def test_stale_answers() -> None:
    cache = Cache(10, stale=100)
    cache.put(Q, positive(10), 0)
    assert cache.get(Q, 10) is None
    hit = cache.stale(Q, 50)
    assert hit is not None
    assert (hit.answer.answer, hit.least_ttl) == (positive(10).answer, 30)
    assert hit.answer.error == (3, "")
    assert cache.get(Q, 54) == hit  # for a while nobody is asked
    assert cache.get(Q, 55) is None
    assert cache.stale(Q, 110) is None
    assert cache.get(Q, 110) is None
    assert len(cache) == 0


def test_failures_are_never_stale_answers() -> None:
    cache = Cache(10, stale=100)
    cache.put(Q, Answer(SERVFAIL), 0)
    assert cache.stale(Q, 2) is None


def test_popular_answers_are_renewed_in_time() -> None:
    cache = Cache(10)
    cache.put(Q, positive(100), 0)
    hits = [cache.get(Q, now) for now in (1, 91, 92)]
    assert [hit.expiring for hit in hits if hit] == [False, False, True]
    cache.put(Q, positive(100), 92)
    hit = cache.get(Q, 93)
    assert hit
    assert not hit.expiring
