"""The server on loopback: UDP and TCP, with dnspython and dig as its clients."""

from __future__ import annotations

import asyncio
import errno
import random
import select
import socket
import struct
from typing import Any

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import pytest
from dns_world import (
    Asking,
    Upstream,
    answers,
    endpoint_slice,
    fresh_address,
    make_zone,
    put,
    service,
    serving,
)

from buoy.dns.address import Address
from buoy.dns.server import open_sockets
from eventual import eventually

WEB = "web.default.svc.cluster.local"
LARGE = "large.default.svc.cluster.local"


async def exchange(us: Asking, data: bytes, seconds: float = 0.3) -> bytes | None:
    """The answer to raw bytes over UDP, None if there is none in time."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(us.address)
        await loop.sock_sendall(sock, data)
        try:
            async with asyncio.timeout(seconds):
                return await loop.sock_recv(sock, 65535)
        except TimeoutError:
            return None


@pytest.mark.parametrize("tcp", [False, True])
async def test_the_case_of_the_question_is_kept(tcp: bool) -> None:
    async with serving() as us:
        for name in ("wEb.Default.SVC.cluster.LOCAL.", "WEB.default.svc.cluster.local.", f"{WEB}."):
            message = await us.ask(name, tcp=tcp)
            assert answers(message) == ["A 10.96.0.20"]
            assert message.question[0].name.to_text() == name
            assert message.answer[0].name.to_text() == name


@pytest.mark.parametrize("edns", [None, 512, 800, 1232, 4096, 0])
async def test_answers_too_large_for_udp(edns: int | None) -> None:
    settings: dict[str, Any] = {} if edns is None else {"use_edns": 0, "payload": edns}
    async with serving() as us:
        query = dns.message.make_query(LARGE, "A", **settings)
        data = await exchange(us, query.to_wire(), 5)
        assert data is not None
        assert len(data) <= min(max(edns or 512, 512), 1232)
        message = dns.message.from_wire(data)
        assert message.flags & dns.flags.TC
        assert len(message.answer[0]) > 20
        assert message.edns == (-1 if edns is None else 0)
        whole = await us.ask(LARGE, tcp=True, **settings)
        assert not whole.flags & dns.flags.TC
        assert len(whole.answer[0]) == 100


async def test_additional_records_never_make_an_answer_too_large() -> None:
    zone = make_zone()
    ports = [("p", "TCP", 1)]
    put(zone, service("many", clusterIPs=["None"]))
    put(zone, endpoint_slice("many-1", "many", *(f"10.244.3.{n}" for n in range(1, 7)), ports=ports))
    async with serving(zone) as us:
        message = await us.ask("_p._tcp.many.default.svc.cluster.local", "SRV")
        assert not message.flags & dns.flags.TC
        assert len(message.answer[0]) == 6
        assert len(message.additional) < 6
        message = await us.ask("_p._tcp.many.default.svc.cluster.local", "SRV", use_edns=0, payload=1232)
        assert len(message.additional) == 6


async def test_the_order_of_addresses_changes() -> None:
    async with serving() as us:
        for name in ("db.default.svc.cluster.local", LARGE):
            firsts = {str((await us.ask(name, tcp=True)).answer[0][0]) for _ in range(40)}
            assert len(firsts) > 1
            query = dns.message.make_query(name, "A")
            firsts = set()
            for _ in range(40):
                message = await dns.asyncquery.udp(query, us.address.host, port=us.address.port, timeout=5)
                firsts.add(str(message.answer[0][0]))
            assert len(firsts) > 1


async def test_what_is_ready_is_never_old() -> None:
    zone = make_zone()
    async with serving(zone) as us:
        for _ in range(3):
            assert await us.texts(WEB) == ["A 10.96.0.20"]
        assert us.resolver.ready
        put(zone, service("web", clusterIPs=["10.96.0.99"]))
        us.resolver.changed()
        assert await us.texts(WEB) == ["A 10.96.0.99"]


async def test_ids_are_those_of_the_question() -> None:
    async with serving() as us:
        for ident in (0, 1, 258, 65535):
            query = dns.message.make_query(WEB, "A", id=ident)
            for _ in range(2):
                data = await exchange(us, query.to_wire(), 5)
                assert data is not None
                assert data[:2] == struct.pack("!H", ident)


async def test_questions_that_are_not_for_us() -> None:
    async with serving() as us:
        chaos = await us.ask("version.bind", "TXT", rdclass=dns.rdataclass.CH)
        assert chaos.rcode() == dns.rcode.REFUSED
        assert (await us.ask("cluster.local", "AXFR", tcp=True)).rcode() == dns.rcode.REFUSED
        assert (await us.ask(WEB, "MAILB")).rcode() == dns.rcode.NOTIMP
        assert (await us.ask(WEB, use_edns=1)).rcode() == dns.rcode.BADVERS
        assert (await us.ask("www.example.com", "ANY")).answer[0][0].to_text() == '"RFC8482" ""'
        update = dns.message.make_query(WEB, "A")
        update.set_opcode(dns.opcode.NOTIFY)
        data = await exchange(us, update.to_wire(), 5)
        assert data is not None
        assert data[:2] == struct.pack("!H", update.id)
        assert data[3] & 15 == dns.rcode.NOTIMP
        assert (
            await exchange(us, dns.message.make_response(dns.message.make_query(WEB, "A")).to_wire()) is None
        )


async def test_cookies_do_no_harm() -> None:
    async with serving() as us:
        options = [dns.edns.GenericOption(10, random.randbytes(8)), dns.edns.ECSOption("192.0.2.0", 24)]
        message = await us.ask(WEB, use_edns=0, options=options)
        assert answers(message) == ["A 10.96.0.20"]
        assert not us.resolver.ready  # nobody will ask the very same again


async def test_nothing_is_said_before_all_is_known() -> None:
    async with Upstream({"www.example.com. A": (9, ["192.0.2.1"])}) as up, serving(None, up.address) as us:
        us.resolver.synced = False
        message = await us.ask(WEB, use_edns=0)
        assert message.rcode() == dns.rcode.SERVFAIL
        assert "EDE 14" in message.options[0].to_text()
        assert (await us.ask("nothing.cluster.local")).rcode() == dns.rcode.SERVFAIL
        assert await us.texts("www.example.com") == ["A 192.0.2.1"]
        us.resolver.synced = True
        us.resolver.changed()
        assert await us.texts(WEB) == ["A 10.96.0.20"]


# TCP.


async def connect(us: Asking) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*us.address)


def framed(query: dns.message.Message) -> bytes:
    data = query.to_wire()
    return struct.pack("!H", len(data)) + data


async def receive(reader: asyncio.StreamReader) -> dns.message.Message:
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    return dns.message.from_wire(await reader.readexactly(length))


async def test_many_questions_on_one_connection() -> None:
    """A slow one does not hold up the others; and the end of the questions is not that of the answers."""
    async with Upstream({"www.example.com. A": (9, ["192.0.2.1"])}) as up, serving(None, up.address) as us:
        held: list[dns.message.Message] = []
        up.script = held.append  # type: ignore[assignment]
        reader, writer = await connect(us)
        slow = dns.message.make_query("www.example.com", "A")
        quick = [dns.message.make_query(WEB, "A") for _ in range(100)]
        data = b"".join(map(framed, [slow, *quick]))
        for start in range(0, len(data), 1000):  # in pieces that respect no boundary
            writer.write(data[start : start + 1000])
            await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(10):
            for query in quick:
                assert (await receive(reader)).id == query.id
            up.script = None
            last = await receive(reader)
            assert (last.id, answers(last)) == (slow.id, ["A 192.0.2.1"])
            assert await reader.read() == b""
        writer.close()


async def test_connections_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("buoy.dns.server._IDLE_SECONDS", 0.2)
    async with serving() as us:
        for sent in (b"", b"\0", b"\0\x20abc", framed(dns.message.make_query(WEB, "A"))):
            reader, writer = await connect(us)
            writer.write(sent)
            async with asyncio.timeout(5):
                rest = await reader.read()
            assert bool(rest) == (len(sent) > 20)
            writer.close()
        for sent in (b"", b"\0\x20abc"):  # and if the client ends them
            _, writer = await connect(us)
            writer.write(sent)
            writer.close()
        await eventually(lambda: us.server.waiting == 0, within=5)
    assert not caplog.records


async def test_not_too_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buoy.dns.server._MOST_CONNECTIONS", 2)
    async with serving() as us:
        pairs = []
        for _ in range(2):
            reader, writer = await connect(us)
            writer.write(framed(dns.message.make_query(WEB, "A")))
            await receive(reader)
            pairs.append(writer)
        reader, writer = await connect(us)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        pairs[0].close()
        await eventually(lambda: us.server.waiting == 1, within=5)
        assert await us.texts(WEB, tcp=True) == ["A 10.96.0.20"]
        pairs[1].close()


# Sockets.


async def test_an_address_taken_is_an_error() -> None:
    async with serving() as us:
        with pytest.raises(OSError, match=f"cannot listen on {us.address}: Address already in use") as caught:
            open_sockets([us.address])
        assert caught.value.errno == errno.EADDRINUSE
        assert await us.texts(WEB) == ["A 10.96.0.20"]


async def test_questions_wait_for_the_server() -> None:
    """Whoever holds the sockets open loses none while the server that had them is replaced."""
    held = open_sockets([Address(fresh_address(), 0)])
    try:
        async with serving(sockets=tuple(sock.dup() for sock in held)) as us:
            assert await us.texts(WEB) == ["A 10.96.0.20"]
        waiting = [asyncio.create_task(us.texts(WEB, tcp=tcp)) for tcp in (False, True)]
        await eventually(lambda: all(select.select([sock], [], [], 0)[0] for sock in held), within=5)
        async with serving(sockets=tuple(sock.dup() for sock in held)):
            assert await asyncio.gather(*waiting) == [["A 10.96.0.20"]] * 2
    finally:
        for sock in held:
            sock.close()


async def test_ipv6() -> None:
    async with serving(listen=Address("::1", 0)) as us:
        assert await us.texts(WEB) == ["A 10.96.0.20"]
        assert await us.texts(WEB, tcp=True) == ["A 10.96.0.20"]


async def test_all_is_closed() -> None:
    async with serving() as us:
        address = us.address
        _, writer = await connect(us)
        writer.write(b"\0")
        await eventually(lambda: us.server.waiting, within=5)
    assert us.server.waiting == 0
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    writer.close()


async def test_random_bytes_never_do_harm() -> None:
    """Noise and damaged questions, over UDP and TCP: a well-formed answer, or none; the server goes on."""
    rng = random.Random(11)
    async with serving() as us:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect(us.address)
            got = 0
            for _ in range(2000):
                name = rng.choice([WEB, LARGE, "www.example.com", "x.svc.cluster.local"])
                data = bytearray(
                    dns.message.make_query(
                        name, rng.randrange(300), use_edns=rng.choice([0, False])
                    ).to_wire()
                )
                for _ in range(rng.randrange(6)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                if rng.random() < 0.2:
                    data = bytearray(rng.randbytes(rng.randrange(80)))
                await loop.sock_sendall(sock, data)
                if rng.random() < 0.05:
                    _, writer = await connect(us)
                    writer.write(struct.pack("!H", len(data)) + data)
                    writer.close()
                try:
                    async with asyncio.timeout(0.005):
                        reply = dns.message.from_wire(await loop.sock_recv(sock, 65535))
                except TimeoutError:
                    continue
                assert reply.flags & dns.flags.QR
                got += 1
        assert got > 500
        assert await us.texts(WEB) == ["A 10.96.0.20"]
        assert await us.texts(WEB, tcp=True) == ["A 10.96.0.20"]


# Another implementation as the client.


async def dig(us: Asking, *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "dig", f"@{us.address.host}", "-p", str(us.address.port), "+tries=1", "+time=5", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return " ".join(output.decode().split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([WEB], ["status: NOERROR", "flags: qr aa rd ra;", f"{WEB}. 5 IN A 10.96.0.20"]),
        (["+tcp", WEB], [f"{WEB}. 5 IN A 10.96.0.20"]),
        (["dual.default.svc.cluster.local", "AAAA"], ["IN AAAA fd00:96::21"]),
        (["_http._tcp.web.default.svc.cluster.local", "SRV"], ["SRV 0 100 80 web.", "ADDITIONAL: 2"]),
        (["-x", "10.96.0.20"], [f"20.0.96.10.in-addr.arpa. 5 IN PTR {WEB}."]),
        (["in.default.svc.cluster.local"], [f"CNAME {WEB}.", "A 10.96.0.20"]),
        (["dns-version.cluster.local", "TXT"], ['TXT "1.1.0"']),
        (["nothing.default.svc.cluster.local"], ["status: NXDOMAIN", "SOA ns.dns.cluster.local."]),
        ([WEB, "MX"], ["status: NOERROR", "ANSWER: 0", "SOA ns.dns.cluster.local."]),
        ([LARGE], ["ANSWER: 100"]),  # by way of TCP
        (["+noedns", "+ignore", LARGE], ["flags: qr aa tc rd ra;"]),
        (["+edns=5", "+noednsnegotiation", WEB], ["status: BADVERS"]),
        (["+dnssec", WEB], ["flags: do; udp: 1232", "10.96.0.20"]),
        (["CH", "version.bind", "TXT"], ["status: REFUSED"]),
        (["www.example.com"], ["status: SERVFAIL", "EDE: 22 (No Reachable Authority)"]),
    ],
)
async def test_dig(words: list[str], expected: list[str]) -> None:
    async with serving() as us:
        output = await dig(us, *words)
    for text in expected:
        assert text in output, output
    assert "WARNING" not in output.replace("WARNING: .local is reserved", "")
    assert "malformed" not in output.lower()


async def test_counts() -> None:
    async with serving() as us:
        for _ in range(3):
            await us.ask(WEB)
        await us.ask(WEB, tcp=True)
        await us.ask("nothing.cluster.local")
        await us.ask("www.example.com")
        await exchange(us, b"\0" * 12, 0.05)

        def count(*labels: str) -> float | None:
            names = ("proto", "source", "type", "rcode")
            sought = dict(zip(names, labels, strict=True))
            return us.metrics.registry.get_sample_value("buoy_dns_responses_total", sought)

        assert count("udp", "cluster", "A", "NOERROR") == 3
        assert count("tcp", "cluster", "A", "NOERROR") == 1
        assert count("udp", "cluster", "A", "NXDOMAIN") == 1
        assert count("udp", "forward", "A", "SERVFAIL") == 1
        assert count("udp", "none", "other", "FORMERR") == 1
