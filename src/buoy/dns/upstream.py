"""Asking one other DNS server.

Every question goes from a socket, and so a port, of its own, with an id that nobody can guess (RFC 5452). If
the answer is truncated, it is asked again over TCP.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct

import dns.exception
import dns.flags
import dns.message
import dns.rdataclass
import dns.rdatatype

from . import wire
from .address import Address
from .cache import Question
from .wire import Answer, RRset

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_FAILURES = 2


class UpstreamError(OSError):
    """The server gave no answer that can be used."""


class Server:
    """One server, and whether it has been answering. Times are seconds of the event loop's clock."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._failures = 0
        self._until = 0.0

    def available(self, now: float) -> bool:
        """Whether it may be asked before any server that is not."""
        return now >= self._until

    def succeeded(self) -> None:
        self._failures = 0
        self._until = 0.0

    def failed(self, now: float) -> None:
        """It did not answer. From the second time on it is left alone for a while, each time longer."""
        self._failures += 1
        if self._failures >= _FAILURES:
            pause = _FIRST_PAUSE * 2 ** min(self._failures - _FAILURES, 10)
            self._until = now + min(pause, _LONGEST_PAUSE)

    async def ask(self, question: Question, timeout: float) -> Answer:
        """Its answer. Raises UpstreamError, TimeoutError after *timeout* seconds, and other OSErrors."""
        ident = secrets.randbits(16)
        message = wire.encode_query(
            ident,
            question.name,
            question.type,
            dnssec=question.dnssec,
            checking_disabled=question.checking_disabled,
        )
        async with asyncio.timeout(timeout):
            reply = await self._exchange(message)
            if reply.rcode() in (wire.FORMERR, wire.NOTIMP, wire.BADVERS) and not reply.answer:
                reply = await self._exchange(wire.without_edns(message))
        return decode(reply)

    async def _exchange(self, message: bytes) -> dns.message.Message:
        reply = await _over_udp(self.address, message)
        if reply.flags & dns.flags.TC:
            reply = await _over_tcp(self.address, message)
        return reply


def _accept(message: bytes, data: bytes) -> dns.message.Message | None:
    """*data* as an answer to *message*, None if it is none. Raises UpstreamError."""
    if not wire.answers(message, data):
        return None
    try:
        return dns.message.from_wire(data, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError) as error:
        raise UpstreamError(f"unreadable answer: {error}") from error


async def _over_udp(address: Address, message: bytes) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    sock = socket.socket(
        socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    )
    answered: asyncio.Future[dns.message.Message] = loop.create_future()

    def readable() -> None:
        try:
            reply = _accept(message, sock.recv(wire.LONGEST))
        except BlockingIOError:
            return
        except OSError as error:
            if not answered.done():
                answered.set_exception(error)
            return
        if reply is not None and not answered.done():
            answered.set_result(reply)

    try:
        sock.connect(address)
        sock.send(message)
        loop.add_reader(sock, readable)
        try:
            return await answered
        finally:
            loop.remove_reader(sock)
    finally:
        sock.close()


async def _over_tcp(address: Address, message: bytes) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(struct.pack("!H", len(message)) + message)
        await writer.drain()
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        reply = _accept(message, await reader.readexactly(length))
    except asyncio.IncompleteReadError as error:
        raise UpstreamError("connection closed in the middle of an answer") from error
    finally:
        writer.close()
    if reply is None:
        raise UpstreamError("the answer is to another question")
    return reply


def decode(reply: dns.message.Message) -> Answer:
    """What matters of a reply: its code and records, without EDNS. Raises UpstreamError."""
    try:
        answer, authority, additional = (
            tuple(
                RRset(
                    rrset.name.to_digestable(),
                    int(rrset.rdtype),
                    min(rrset.ttl, 0x7FFFFFFF),
                    tuple(record.to_wire() for record in rrset) or (b"",),
                )
                for rrset in section
                if rrset.rdclass == dns.rdataclass.IN and rrset.rdtype != dns.rdatatype.TSIG
            )
            for section in (reply.answer, reply.authority, reply.additional)
        )
    except (dns.exception.DNSException, ValueError) as error:
        raise UpstreamError(f"unreadable answer: {error}") from error
    authenticated = bool(reply.flags & dns.flags.AD)
    return Answer(int(reply.rcode()), answer, authority, additional, authenticated=authenticated)
