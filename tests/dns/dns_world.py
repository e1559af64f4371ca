"""A cluster's objects, an upstream server that does as it is told, and our server between them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from buoy.dns.address import Address
from buoy.dns.cache import Cache
from buoy.dns.config import parse_hosts
from buoy.dns.forward import Forwarder
from buoy.dns.metrics import Metrics
from buoy.dns.records import decode_service, decode_slice, pack
from buoy.dns.resolver import Resolver
from buoy.dns.server import Server, open_sockets
from buoy.dns.wire import encode_name
from buoy.dns.zone import Zone

Object = dict[str, Any]


def service(name: str, *, namespace: str = "default", **spec: Any) -> Object:
    """A Service; *ports* as ``[("http", "TCP", 80)]``."""
    ports = [{"name": one[0], "protocol": one[1], "port": one[2]} for one in spec.pop("ports", ())]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {**spec, "ports": ports},
    }


def endpoint_slice(
    name: str,
    of: str,
    *addresses: str | tuple[str, str],
    namespace: str = "default",
    ports: Any = (),
    ready: bool | None = True,
) -> Object:
    """An EndpointSlice of Service *of*; an address may come with a hostname."""
    pairs = [one if isinstance(one, tuple) else (one, "") for one in addresses]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "labels": {"kubernetes.io/service-name": of},
        },
        "addressType": "IPv6" if pairs and ":" in pairs[0][0] else "IPv4",
        "ports": [{"name": one[0], "protocol": one[1], "port": one[2]} for one in ports],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {} if ready is None else {"ready": ready},
                **({"hostname": hostname} if hostname else {}),
            }
            for address, hostname in pairs
        ],
    }


HTTP = [("http", "TCP", 80)]

CLUSTER: list[Object] = [
    service("web", clusterIPs=["10.96.0.20"], ports=[("http", "TCP", 80), ("dns", "UDP", 53)]),
    endpoint_slice("web-1", "web", "10.244.1.5", ("10.244.1.6", "chosen"), ports=[("http", "TCP", 8080)]),
    service("dual", clusterIPs=["10.96.0.21", "fd00:96::21"], ports=[("", "TCP", 80)]),
    service("six", clusterIPs=["fd00:96::22"], ports=HTTP),
    service("db", clusterIPs=["None"], ports=[("sql", "TCP", 5432), ("", "TCP", 99)]),
    endpoint_slice(
        "db-1",
        "db",
        ("10.244.1.10", "db-0"),
        "10.244.1.11",
        ports=[("sql", "TCP", 15432), ("", "TCP", 99)],
    ),
    endpoint_slice("db-2", "db", "fd00:244::12", ports=[("sql", "TCP", 15432)], ready=None),
    endpoint_slice("db-3", "db", "10.244.1.13", ports=[("sql", "TCP", 15432)], ready=False),
    service("empty", clusterIPs=["None"], ports=HTTP),
    endpoint_slice("empty-1", "empty", "10.244.1.14", ports=HTTP, ready=False),
    service("early", clusterIPs=["None"], publishNotReadyAddresses=True),
    endpoint_slice("early-1", "early", ("10.244.1.15", "early-0"), ready=False),
    service("large", clusterIPs=["None"]),
    endpoint_slice("large-1", "large", *(f"10.244.2.{number}" for number in range(1, 101))),
    service("out", type="ExternalName", externalName="www.example.com"),
    service("in", type="ExternalName", externalName="web.default.svc.cluster.local."),
    service("digits", type="ExternalName", externalName="192.0.2.1"),
    service("around", type="ExternalName", externalName="around.default.svc.cluster.local"),
    service("astray", type="ExternalName", externalName="nothing.default.svc.cluster.local"),
    service("web", namespace="other", clusterIPs=["10.96.0.23"], ports=HTTP),
]


def make_zone(objects: list[Object] | None = None, **settings: Any) -> Zone:
    """The zone of *objects* with Namespaces default, other and bare."""
    settings.setdefault("servers", [pack("10.96.0.10")])
    zone = Zone("cluster.local", **settings)
    for namespace in ("default", "other", "bare"):
        zone.set_namespace(namespace, True)
    for obj in CLUSTER if objects is None else objects:
        put(zone, obj)
    return zone


def put(zone: Zone, obj: Object) -> bool:
    key = f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
    if obj["kind"] == "Service":
        return zone.set_service(key, decode_service(obj))
    return zone.set_slice(key, decode_slice(obj))


Script = Callable[[dns.message.Message], dns.message.Message | bytes | None]


def fresh_address() -> str:
    """An address of loopback that nobody else uses, so that a port free for UDP is free for TCP."""
    return f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"


class Upstream:
    """A DNS server on loopback with some *records*, by ``name type``: ``ttl`` and data.

    *script* may give another reply, raw bytes, or None for silence, to a query over UDP.
    """

    def __init__(self, records: dict[str, tuple[int, list[str]]] | None = None) -> None:
        self.records = records or {}
        self.script: Script | None = None
        self.asked: Counter[str] = Counter()
        self.over_tcp: Counter[str] = Counter()
        self.sources: set[int] = set()
        self.idents: set[int] = set()
        self.address = Address(fresh_address(), 0)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Upstream:
        self._socket.bind(self.address)
        self.address = Address(*self._socket.getsockname())
        self._server = await asyncio.start_server(self._connected, *self.address)
        asyncio.get_running_loop().add_reader(self._socket, self._readable)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        assert self._server
        self._server.close()

    def reply(self, query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        name = question.name.to_text().lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        while alias := self.records.get(f"{name} CNAME"):
            reply.answer.append(dns.rrset.from_text(name, alias[0], "IN", "CNAME", *alias[1]))
            name = alias[1][0]
        if found := self.records.get(f"{name} {kind}"):
            reply.answer.append(dns.rrset.from_text(name, found[0], "IN", kind, *found[1]))
        else:
            soa = "ns.example.com. admin.example.com. 1 7200 1800 86400 60"
            reply.authority.append(dns.rrset.from_text("example.com.", 120, "IN", "SOA", soa))
            if not any(known.startswith(f"{name} ") for known in self.records):
                reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply

    def _note(self, data: bytes, counter: Counter[str]) -> dns.message.Message:
        query = dns.message.from_wire(data)
        question = query.question[0]
        counter[f"{question.name} {dns.rdatatype.to_text(question.rdtype)}"] += 1
        self.idents.add(query.id)
        return query

    def _readable(self) -> None:
        data, peer = self._socket.recvfrom(4096)
        self.sources.add(peer[1])
        query = self._note(data, self.asked)
        reply = self.script(query) if self.script else self.reply(query)
        if reply is not None:
            self._socket.sendto(reply if isinstance(reply, bytes) else reply.to_wire(), peer)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            reply = self.reply(self._note(await reader.readexactly(length), self.over_tcp)).to_wire(
                max_size=65535
            )
            writer.write(struct.pack("!H", len(reply)) + reply)
            await writer.drain()
        writer.close()


class Asking:
    """Our server, and how to ask it."""

    def __init__(self, resolver: Resolver, server: Server, metrics: Metrics) -> None:
        self.resolver = resolver
        self.server = server
        self.metrics = metrics
        self.address: Address = server.bound[0]

    async def ask(
        self, name: str, kind: str = "A", *, tcp: bool = False, **settings: Any
    ) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **settings)
        exchange = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await exchange(query, self.address.host, port=self.address.port, timeout=10)

    async def texts(self, name: str, kind: str = "A", **settings: Any) -> list[str]:
        """The answer section's records, as text in order of their names and data."""
        return answers(await self.ask(name, kind, **settings))


def answers(message: dns.message.Message) -> list[str]:
    return [
        f"{dns.rdatatype.to_text(rrset.rdtype)} {one}" for rrset in message.answer for one in sorted(rrset)
    ]


@contextlib.asynccontextmanager
async def serving(
    zone: Zone | None = None,
    *upstreams: Address,
    stubs: dict[str, list[Address]] | None = None,
    hosts: str = "",
    cache: Cache | None = None,
    listen: Address | None = None,
    sockets: tuple[socket.socket, ...] = (),
) -> AsyncIterator[Asking]:
    """Our server on a free port of loopback, with the cluster's zone if none is given."""
    metrics = Metrics()
    forwarder = Forwarder(
        upstreams,
        {encode_name(domain): servers for domain, servers in (stubs or {}).items()},
        cache or Cache(1000, stale=3600),
        metrics,
    )
    resolver = Resolver(zone or make_zone(), parse_hosts(hosts), forwarder, metrics)
    resolver.synced = True
    sockets = sockets or open_sockets([listen or Address(fresh_address(), 0)])
    async with Server(resolver, sockets, metrics) as server:
        await server.start()
        yield Asking(resolver, server, metrics)
    forwarder.close()
