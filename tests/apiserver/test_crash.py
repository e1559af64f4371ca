"""kill -9 in the middle of writes: what was acknowledged is there, and no address is used twice."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec

from buoy.apiserver import Options, run

from .api_server import Authority, Running, _pem

ROUNDS = 3
WRITES_BEFORE = 60


def serve(options: Options) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(run(options))


@contextlib.contextmanager
def process(options: Options) -> Iterator[Any]:
    child = multiprocessing.get_context("fork").Process(target=serve, args=(options,), daemon=True)
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()


async def test_kill_in_the_middle_of_writes(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    (tmp_path / "accounts.key").write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))
    # Who holds the socket open loses no connection attempt while nobody serves it.
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    options = Options(
        (listening,),
        "192.168.1.10",
        6443,
        str(tmp_path / "store"),
        certificate,
        key,
        str(authority.certificate),
        str(tmp_path / "accounts.key"),
        certificate,
        key,
        str(authority.certificate),
        service_cidrs=("10.96.0.0/22",),
    )
    server = Running(tmp_path, listening.getsockname()[1], authority, options)
    path = "/api/v1/namespaces/default/services"
    acknowledged: dict[str, str] = {}
    killed = asyncio.Event()

    async def write(worker: int, child: Any) -> None:
        for number in range(1000):
            name = f"s{worker}-{child.pid}-{number}"
            body = {"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
            try:
                reply = await server.post(path, body)
            except aiohttp.ClientError:
                return
            assert reply.status == 201, reply.body
            acknowledged[name] = reply.json["spec"]["clusterIP"]
            if len(acknowledged) % WRITES_BEFORE == 0:
                killed.set()
                os.kill(child.pid, signal.SIGKILL)

    async def check() -> None:
        items = (await server.get(path)).json["items"]
        addresses = {item["metadata"]["name"]: item["spec"]["clusterIP"] for item in items}
        assert acknowledged.items() <= addresses.items()
        assert len(set(addresses.values())) == len(addresses)
        ports = [port["nodePort"] for item in items for port in item["spec"]["ports"] if "nodePort" in port]
        assert len(set(ports)) == len(ports) == len(addresses) - 1

    try:
        for _ in range(ROUNDS):
            with process(options) as child:
                async with asyncio.timeout(30):
                    await asyncio.gather(*(write(worker, child) for worker in range(10)))
            assert killed.is_set()
            await server.close()
            server._sessions.clear()
        with process(options):
            async with asyncio.timeout(30):
                await check()
        assert len(acknowledged) >= ROUNDS * WRITES_BEFORE
    finally:
        await server.close()
        listening.close()
