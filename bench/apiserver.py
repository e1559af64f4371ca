"""The API server's speed: writes, lists, watch fan-out; each beside the same bytes from a bare TLS server.

Run it with ``python bench/apiserver.py``. Server, reference and clients share the machine, as they do in a
local cluster. The ratio is ours over the reference's, a server that answers the same bytes and does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import aiohttp
import msgspec
import uvloop
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from apiserver import api_server as testing

CLIENTS = 40
OBJECTS = 2000
SERVICES = 1000
WATCHERS = 50
ROUNDS = 100
LISTS = 40


def service(index: int) -> bytes:
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"service-{index}", "labels": {"app": f"app-{index}"}},
            "spec": {"selector": {"app": f"app-{index}"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }
    )


def config_map(index: int) -> bytes:
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"config-{index}"},
            "data": {"key": "value" * 20},
        }
    )


async def fan(count: int, act: Callable[[int], Awaitable[None]], clients: int = CLIENTS) -> float:
    """Seconds for *count* calls of *act* by *clients* at a time."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await act(number)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - began


def context(running: dict[str, str]) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=running["ca"])
    made.load_cert_chain(running["cert"], running["key"])
    return made


def session(running: dict[str, str], url: str) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=context(running), limit=0)
    return aiohttp.ClientSession(url, connector=connector, headers={"Content-Type": "application/json"})


async def writes(client: aiohttp.ClientSession, path: str, body: Callable[[int], bytes], count: int) -> float:
    """Creates per second."""

    async def create(number: int) -> None:
        async with client.post(path, data=body(number)) as response:
            await response.read()
            assert response.status == 201, await response.text()

    return count / await fan(count, create)


async def updates(client: aiohttp.ClientSession, count: int) -> float:
    patch = msgspec.json.encode({"data": {"key": "another"}})

    async def update(number: int) -> None:
        async with client.patch(
            f"/api/v1/namespaces/default/configmaps/config-{number}",
            data=patch,
            headers={"Content-Type": "application/merge-patch+json"},
        ) as response:
            await response.read()
            assert response.status == 200, await response.text()

    return count / await fan(count, update)


async def lists(client: aiohttp.ClientSession, path: str) -> tuple[float, bytes]:
    """Median milliseconds, and the body."""
    took = []
    body = b""
    for _ in range(LISTS):
        began = time.perf_counter()
        async with client.get(path, headers={"Accept-Encoding": "identity"}) as response:
            body = await response.read()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000, body


class RawWatcher(asyncio.Protocol):
    """Reads a watch with as little work as can be, so that the client does not measure itself."""

    def __init__(self, path: str, arrived: Callable[[], None]) -> None:
        self._path = path
        self._arrived = arrived
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        request = f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        cast(asyncio.Transport, transport).write(request.encode())

    def data_received(self, data: bytes) -> None:
        if self.started.done():
            self._arrived()
        else:
            self.started.set_result(None)


async def fan_out(running: dict[str, str], client: aiohttp.ClientSession, url: str) -> list[float]:
    """Milliseconds from before the request that changes an object until each watcher has the event."""
    loop = asyncio.get_running_loop()
    arrived: list[float] = []
    complete = asyncio.Event()

    def event() -> None:
        arrived.append(time.perf_counter())
        if len(arrived) == WATCHERS:
            complete.set()

    collection = "/api/v1/namespaces/default/configmaps"
    await (await client.post(collection, data=config_map(0).replace(b"config-0", b"fan"))).read()
    tls = context(running)
    port = int(url.rpartition(":")[2])
    path = f"{collection}?watch=1&fieldSelector=metadata.name=fan"
    transports = []
    latencies = []
    for _ in range(WATCHERS):
        transport, watcher = await loop.create_connection(
            lambda: RawWatcher(path, event), "127.0.0.1", port, ssl=tls, server_hostname="127.0.0.1"
        )
        transports.append(transport)
        await watcher.started
    await asyncio.sleep(0.2)
    for number in range(ROUNDS):
        arrived.clear()
        complete.clear()
        patch = msgspec.json.encode({"data": {"key": str(number)}})
        kind = {"Content-Type": "application/merge-patch+json"}
        began = time.perf_counter()
        await (await client.patch(f"{collection}/fan", data=patch, headers=kind)).read()
        await asyncio.wait_for(complete.wait(), 5)
        latencies += [(moment - began) * 1000 for moment in arrived]
        await asyncio.sleep(0.01)
    for transport in transports:
        transport.close()
    return latencies


def bare(pipe: Any, running: dict[str, str], listed: int) -> None:
    """The reference: aiohttp over the same TLS, answering ready bytes; no storage, no checks."""

    async def main() -> None:
        answers: dict[str, bytes] = {"POST": config_map(0), "PATCH": config_map(0), "GET": b"x" * listed}

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            await request.read()
            status = 201 if request.method == "POST" else 200
            return web.Response(body=answers[request.method], status=status, content_type="application/json")

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(running["server cert"], running["server key"])
        tls.load_verify_locations(running["ca"])
        tls.verify_mode = ssl.CERT_OPTIONAL
        listener = await asyncio.get_running_loop().create_server(
            web.Server(handle), "127.0.0.1", 0, ssl=tls, backlog=1024
        )
        pipe.send(listener.sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    uvloop.run(main())


def serve(pipe: Any, folder: str) -> None:
    async def main() -> None:
        async with testing.running(Path(folder)) as running:
            certificate, key = running.authority.issue("bench", "system:masters")
            pipe.send(
                {
                    "url": running.url,
                    "ca": str(running.authority.certificate),
                    "cert": certificate,
                    "key": key,
                    "server cert": running.options.tls_cert,
                    "server key": running.options.tls_key,
                }
            )
            await asyncio.Event().wait()

    uvloop.run(main())


@contextlib.asynccontextmanager
async def process(target: Callable[..., None], *arguments: Any) -> AsyncIterator[Any]:
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=target, args=(theirs, *arguments), daemon=True)
    child.start()
    try:
        yield await asyncio.to_thread(ours.recv)
    finally:
        child.terminate()
        await asyncio.to_thread(child.join)


def show(what: str, ours: float, reference: float | None, unit: str, aim: str) -> None:
    ratio = f"{ours / reference:8.2f}" if reference else "       –"
    shown = f"{reference:10.1f}" if reference else "         –"
    print(f"{what:52} {ours:10.1f} {shown} {ratio}  {unit:4} {aim}")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with process(serve, folder) as running, session(running, running["url"]) as client:
            created = await writes(client, "/api/v1/namespaces/default/configmaps", config_map, OBJECTS)
            updated = await updates(client, OBJECTS)
            services = await writes(client, "/api/v1/namespaces/default/services", service, SERVICES)
            listed, body = await lists(client, "/api/v1/namespaces/default/services?limit=0")
            seen = await fan_out(running, client, running["url"])
            async with process(bare, running, len(body)) as port:
                url = f"https://127.0.0.1:{port}"
                async with session({**running}, url) as plain:
                    bare_created = await writes(plain, "/", config_map, OBJECTS)
                    bare_listed, _ = await lists(plain, "/")
    seen.sort()
    print(f"{'':52} {'buoy':>10} {'reference':>10} {'ratio':>8}")
    show(f"ConfigMaps created, {CLIENTS} clients", created, bare_created, "/s", "aim 1140, upstream 570")
    show(f"ConfigMaps patched, {CLIENTS} clients", updated, bare_created, "/s", "aim 1140, upstream 570")
    show(f"Services created, {CLIENTS} clients", services, bare_created, "/s", "aim 1140, upstream 570")
    show(
        f"LIST of {SERVICES} Services ({len(body) >> 10} KiB)",
        listed,
        bare_listed,
        "ms",
        "aim 5, upstream 17",
    )
    show(f"one change to {WATCHERS} watchers, p50", seen[len(seen) // 2], None, "ms", "aim 3, upstream 6")
    show(
        f"one change to {WATCHERS} watchers, p99",
        seen[len(seen) * 99 // 100],
        None,
        "ms",
        "aim 6.5, upstream 13",
    )


if __name__ == "__main__":
    uvloop.run(main())
