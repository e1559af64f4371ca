"""Names of others, asked of a server on loopback."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from dns_world import Upstream, answers, make_zone, serving

from buoy.dns.address import Address
from buoy.dns.cache import Cache

RECORDS = {
    "www.example.com. A": (60, ["192.0.2.1", "192.0.2.2"]),
    "alias.example.com. CNAME": (60, ["www.example.com."]),
    "mail.example.com. MX": (60, ["10 www.example.com."]),
    "brief.example.com. A": (0, ["192.0.2.3"]),
    "short.example.com. A": (1, ["192.0.2.4"]),
    "large.example.com. A": (60, [f"198.51.100.{number}" for number in range(1, 101)]),
}
WWW = ["A 192.0.2.1", "A 192.0.2.2"]
OUT = "out.default.svc.cluster.local"


def error_of(message: dns.message.Message) -> str:
    return "".join(option.to_text() for option in message.options)


async def test_answers_are_passed_on_and_kept() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:
        for _ in range(5):
            message = await us.ask("WWW.example.com")
            assert answers(message) == WWW
            assert message.question[0].name.to_text() == "WWW.example.com."
            assert not message.flags & dns.flags.AA
            assert message.flags & dns.flags.RA
        assert up.asked == {"www.example.com. A": 1}
        assert await us.texts("alias.example.com") == ["CNAME www.example.com.", *WWW]
        assert await us.texts("mail.example.com", "MX") == ["MX 10 www.example.com."]
        assert await us.texts("www.example.com", tcp=True) == WWW


async def test_names_that_are_not_there_are_remembered() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:
        for _ in range(3):
            message = await us.ask("nothing.example.com")
            assert message.rcode() == dns.rcode.NXDOMAIN
            assert message.authority[0].ttl == 120
            message = await us.ask("www.example.com", "AAAA")
            assert (message.rcode(), message.answer) == (dns.rcode.NOERROR, [])
        assert up.asked == {"nothing.example.com. A": 1, "www.example.com. AAAA": 1}


async def test_ttls_count_down() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:
        ttls = set()
        async with asyncio.timeout(5):
            while len(ttls) < 2:
                ttls.add((await us.ask("www.example.com")).answer[0].ttl)
                await asyncio.sleep(0.05)
        assert ttls == {60, 59}
        assert up.asked.total() == 1
        assert await us.texts("brief.example.com") == await us.texts("brief.example.com")
        assert up.asked["brief.example.com. A"] == 2


async def test_answers_expire() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:
        async with asyncio.timeout(5):
            while up.asked["short.example.com. A"] < 2:
                assert await us.texts("short.example.com") == ["A 192.0.2.4"]
                await asyncio.sleep(0.05)


async def test_the_order_of_addresses_changes() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:
        firsts = {str((await us.ask("www.example.com")).answer[0][0]) for _ in range(30)}
        assert firsts == {"192.0.2.1", "192.0.2.2"}


async def test_the_same_question_is_asked_once() -> None:
    async with Upstream(RECORDS) as up:
        waiting: list[dns.message.Message] = []

        def hold(query: dns.message.Message) -> None:
            waiting.append(query)

        up.script = hold
        async with serving(None, up.address) as us:
            asking = [asyncio.create_task(us.texts("www.example.com")) for _ in range(20)]
            async with asyncio.timeout(5):
                while len(asking) > us.server.waiting or not waiting:
                    await asyncio.sleep(0.01)
            up.script = None  # the next try is answered
            assert all(found == WWW for found in await asyncio.gather(*asking))
        assert up.asked.total() == 2


async def test_nobody_can_guess_ports_and_ids() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:
        await asyncio.gather(*(us.ask(f"n{number}.example.com") for number in range(50)))
        assert len(up.sources) > 40
        assert len(up.idents) > 40


async def test_only_the_right_answer_counts() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:

        def forge(query: dns.message.Message) -> bytes | dns.message.Message:
            forged = dns.message.make_response(query)
            forged.answer.append(dns.rrset.from_text("www.example.com.", 60, "IN", "A", "203.0.113.66"))
            for wrong in (
                b"",
                b"garbage",
                query.to_wire(),
                bytes(2) + forged.to_wire()[2:] if query.id else b"",
                forged.to_wire().replace(b"\3www\7example", b"\3wwx\7example"),
                forged.to_wire().replace(b"\3com\0\0\1", b"\3com\0\0\x1c", 1),
            ):
                up._socket.sendto(wrong, ("127.0.0.1", max(up.sources)))
            up.sources.clear()
            return up.reply(query)

        up.script = forge
        assert await us.texts("www.example.com") == WWW


async def test_large_answers_come_over_tcp() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:

        def truncate(query: dns.message.Message) -> dns.message.Message:
            reply = dns.message.make_response(query)
            reply.flags |= dns.flags.TC
            return reply

        up.script = truncate
        message = await us.ask("large.example.com", use_edns=0, payload=1232)
        assert message.flags & dns.flags.TC
        assert 0 < len(message.answer[0]) < 100  # of use to those who cannot do TCP
        message = await us.ask("large.example.com", tcp=True)
        assert not message.flags & dns.flags.TC
        assert len(message.answer[0]) == 100
        assert up.over_tcp == {"large.example.com. A": 1}


async def test_a_lost_question_is_asked_again() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:
        tries = count()
        up.script = lambda query: None if next(tries) == 0 else up.reply(query)
        assert await us.texts("www.example.com") == WWW


async def test_another_server_takes_over() -> None:
    async with Upstream(RECORDS) as silent, Upstream(RECORDS) as failing, Upstream(RECORDS) as up:
        silent.script = lambda query: None
        failing.script = lambda query: dns.message.make_response(query).to_wire()[:3] + b"\x82" + bytes(8)
        async with serving(None, silent.address, failing.address, up.address) as us:
            assert await us.texts("www.example.com") == WWW
            assert await us.texts("alias.example.com") == ["CNAME www.example.com.", *WWW]
            before = silent.asked.total()
            for number in range(20):  # by now the silent one is known to be so
                await us.ask(f"n{number}.example.com")
            assert silent.asked.total() == before == 2


async def test_nothing_there_is_an_immediate_failure() -> None:
    async with Upstream() as gone:
        address = gone.address
    async with serving(None, address) as us:
        message = await asyncio.wait_for(us.ask("www.example.com", use_edns=0), 1)
        assert message.rcode() == dns.rcode.SERVFAIL
        assert "EDE 23" in error_of(message)


async def test_nobody_to_ask() -> None:
    async with serving() as us:
        message = await us.ask("www.example.com", use_edns=0)
        assert message.rcode() == dns.rcode.SERVFAIL
        assert "EDE 22" in error_of(message)
        message = await us.ask("9.9.244.10.in-addr.arpa", "PTR")
        assert message.rcode() == dns.rcode.NXDOMAIN
        assert message.authority[0].name.to_text() == "10.in-addr.arpa."
        assert (await us.ask("1.1.0.8.in-addr.arpa", "PTR")).rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP])
async def test_a_server_that_knows_no_edns(rcode: dns.rcode.Rcode) -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:

        def refuse(query: dns.message.Message) -> dns.message.Message:
            if query.edns < 0:
                return up.reply(query)
            reply = dns.message.make_response(query)
            reply.use_edns(False)
            reply.set_rcode(rcode)
            return reply

        up.script = refuse
        assert await us.texts("www.example.com") == WWW


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_failures_are_passed_on_but_not_for_long(rcode: dns.rcode.Rcode) -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:

        def fail(query: dns.message.Message) -> dns.message.Message:
            reply = dns.message.make_response(query)
            reply.set_rcode(rcode)
            return reply

        up.script = fail
        for _ in range(5):
            assert (await us.ask("www.example.com")).rcode() == dns.rcode.SERVFAIL
        assert up.asked.total() < 5
        up.script = None
        async with asyncio.timeout(5):
            while await us.texts("www.example.com") != WWW:
                await asyncio.sleep(0.05)


async def test_stale_is_better_than_nothing() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:
        assert await us.texts("short.example.com") == ["A 192.0.2.4"]
        up.script = lambda query: dns.message.make_response(query).to_wire()[:3] + b"\x82" + bytes(8)
        async with asyncio.timeout(5):
            while (message := await us.ask("short.example.com", use_edns=0)).answer[0].ttl != 30:
                await asyncio.sleep(0.05)
        assert answers(message) == ["A 192.0.2.4"]
        assert "EDE 3" in error_of(message)


async def test_stub_domains() -> None:
    corp = {"www.corp.example. A": (60, ["203.0.113.1"]), "www.lab.corp.example. A": (60, ["203.0.113.9"])}
    async with Upstream(RECORDS) as up, Upstream(corp) as stub, Upstream(corp) as lab:
        stubs = {"corp.example": [stub.address], "lab.corp.example": [lab.address]}
        async with serving(None, up.address, stubs=stubs) as us:
            assert await us.texts("www.corp.example") == ["A 203.0.113.1"]
            assert await us.texts("www.Lab.corp.example") == ["A 203.0.113.9"]
            assert await us.texts("www.example.com") == WWW
            assert (await us.ask("wwwcorp.example")).rcode() == dns.rcode.NXDOMAIN
        assert [one.asked.total() for one in (stub, lab, up)] == [1, 1, 2]


async def test_an_external_name_is_followed() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:
        for _ in range(3):
            message = await us.ask(OUT)
            assert answers(message) == ["CNAME www.example.com.", *WWW]
            assert message.answer[0].ttl == 5
        async with asyncio.timeout(5):
            while (message := await us.ask(OUT)).answer[1].ttl == 60:
                await asyncio.sleep(0.05)
        assert [rrset.ttl for rrset in message.answer] == [5, 59]
        assert await us.texts(OUT, tcp=True) == ["CNAME www.example.com.", *WWW]
        assert await us.texts(OUT, "CNAME") == ["CNAME www.example.com."]
        message = await us.ask(OUT, "AAAA")
        assert (message.rcode(), answers(message)) == (dns.rcode.NOERROR, ["CNAME www.example.com."])
        assert up.asked == {"www.example.com. A": 1, "www.example.com. AAAA": 1}


async def test_an_external_name_of_nothing() -> None:
    async with Upstream() as up, serving(None, up.address) as us:
        message = await us.ask(OUT)
        assert (message.rcode(), answers(message)) == (dns.rcode.NXDOMAIN, ["CNAME www.example.com."])


async def test_an_external_name_while_nobody_can_be_asked() -> None:
    async with serving() as us:
        message = await us.ask(OUT)
        assert (message.rcode(), answers(message)) == (dns.rcode.NOERROR, ["CNAME www.example.com."])
    async with Upstream() as gone:
        address = gone.address
    async with serving(None, address) as us:
        message = await us.ask(OUT)
        assert (message.rcode(), answers(message)) == (dns.rcode.SERVFAIL, ["CNAME www.example.com."])


async def test_hosts_come_before_servers() -> None:
    hosts = "192.0.2.77 www.example.com other.example.com\nfd00::77 six.example.com"
    async with Upstream(RECORDS) as up, serving(None, up.address, hosts=hosts) as us:
        assert await us.texts("www.example.com") == ["A 192.0.2.77"]
        assert await us.texts("Other.example.com") == ["A 192.0.2.77"]
        assert await us.texts("six.example.com", "AAAA") == ["AAAA fd00::77"]
        assert await us.texts("77.2.0.192.in-addr.arpa", "PTR") == ["PTR www.example.com."]
        message = await us.ask("www.example.com", "AAAA")
        assert (message.rcode(), message.answer) == (dns.rcode.NOERROR, [])
        assert await us.texts(OUT) == ["CNAME www.example.com.", "A 192.0.2.77"]
        assert not up.asked
        assert (await us.ask("nothing.example.com")).rcode() == dns.rcode.NXDOMAIN
        assert up.asked.total() == 1


async def test_a_loop_ends() -> None:
    """Two servers that ask each other."""
    async with serving() as us, serving(None, us.address) as other:
        from buoy.dns.forward import Forwarder

        us.resolver.forwarder = Forwarder([other.address], {}, Cache(10), us.metrics)
        async with asyncio.timeout(8):
            message = await us.ask("www.example.com")
        assert message.rcode() == dns.rcode.SERVFAIL
        sent = other.metrics.registry.get_sample_value(
            "buoy_dns_forward_request_duration_seconds_count", {"to": str(us.address), "rcode": "none"}
        )
        assert sent is not None
        assert sent < 10


async def test_dnssec_and_flags_reach_the_server() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:
        seen: list[tuple[Any, ...]] = []

        def look(query: dns.message.Message) -> dns.message.Message:
            seen.append((bool(query.ednsflags & dns.flags.DO), bool(query.flags & dns.flags.CD)))
            reply = up.reply(query)
            reply.flags |= dns.flags.AD
            return reply

        up.script = look
        message = await us.ask("www.example.com", want_dnssec=True)
        assert message.flags & dns.flags.AD
        assert message.ednsflags & dns.flags.DO
        message = await us.ask("www.example.com", flags=dns.flags.RD | dns.flags.CD)
        assert not message.flags & dns.flags.AD
        assert message.flags & dns.flags.CD
        await us.ask("www.example.com")
        assert seen == [(True, False), (False, True), (False, False)]


async def test_answers_that_cannot_be_read() -> None:
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:
        up.script = lambda query: up.reply(query).to_wire()[:-3]
        assert (await us.ask("www.example.com")).rcode() == dns.rcode.SERVFAIL


async def test_whatever_a_server_sends_we_go_on() -> None:
    """Damaged answers to many questions; each of ours gets one that can be read."""
    import random

    rng = random.Random(7)
    async with Upstream(RECORDS) as up, serving(None, up.address) as us:

        def damage(query: dns.message.Message) -> bytes:
            name = query.question[0].name
            reply = dns.message.make_response(query)
            for kind, text in (
                ("SRV", "0 1 2 a.example."),
                ("TXT", '"x" "y"'),
                ("HTTPS", "1 . alpn=h2"),
                ("MX", "1 a."),
            ):
                reply.answer.append(dns.rrset.from_text(name, 5, "IN", kind, text))
            data = bytearray(reply.to_wire())
            for _ in range(rng.randrange(4)):
                data[rng.randrange(12 + len(name.to_wire()) + 4, len(data))] = rng.randrange(256)
            return bytes(data)

        up.script = damage
        replies = await asyncio.gather(*(us.ask(f"n{number}.example.com", tcp=True) for number in range(200)))
        rcodes = {reply.rcode() for reply in replies}
        assert dns.rcode.NOERROR in rcodes
        assert rcodes <= {dns.rcode.NOERROR, dns.rcode.SERVFAIL}


async def test_a_popular_name_is_renewed_before_it_expires() -> None:
    records = {"hot.example.com. A": (10, ["192.0.2.9"])}
    async with Upstream(records) as up, serving(make_zone(), up.address, cache=Cache(10, ttl=10)) as us:
        await us.ask("hot.example.com")
        cache = us.resolver.forwarder._cache
        [entry] = cache._entries.values()
        entry.stored -= 9.5
        entry.expires -= 9.5
        entry.hits = 5
        us.resolver.changed()
        assert await us.texts("hot.example.com") == ["A 192.0.2.9"]
        async with asyncio.timeout(5):
            while up.asked.total() < 2:
                await asyncio.sleep(0.01)


async def test_too_many_questions_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buoy.dns.forward._MOST_AT_ONCE", 3)
    async with Upstream(RECORDS) as up:
        up.script = lambda query: None
        async with serving(None, up.address) as us:
            asking = [asyncio.create_task(us.ask(f"n{number}.example.com")) for number in range(5)]
            done, _ = await asyncio.wait(asking, timeout=1, return_when=asyncio.ALL_COMPLETED)
            assert [task.result().rcode() for task in done] == [dns.rcode.SERVFAIL] * 2
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


def test_addresses_are_text() -> None:
    assert str(Address("fd00::1", 54)) == "[fd00::1]:54"
