"""The proxy's speed: connections through the last of many Services, loading them, one change among them.

Run it with ``python bench/proxy.py [MODE]`` as root; it takes a minute and needs only network namespaces of
its own. Each Service has 10 endpoints. The same connections are made directly to the Pod, before and after,
while the proxy has no Service; the share of those is what counts, for the rates are a Python client's.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.synchronize
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from buoy.proxy.backend import Backend
from buoy.proxy.iptables import IptablesBackend
from buoy.proxy.model import Change, Destination, Family, PortName, PortRules, Ruleset, Settings
from topology import Namespace, Node, World

BACKENDS: dict[str, Callable[[Family], Backend]] = {"iptables": IptablesBackend}
SIZES = (1, 1000, 5000)
ENDPOINTS = 10
ROUNDS = 4
SECONDS = 0.5
CHANGES = 5
PORT = 8080
ENDPOINT_RANGE = "10.245.0.0/16"


def destination(number: int) -> Destination:
    return Destination(f"10.245.{number // 250}.{number % 250 + 1}", PORT)


def service(number: int) -> PortRules:
    """The rules of one Service."""
    return PortRules(
        PortName(f"default/service-{number}", "http", "TCP"),
        f"10.{96 + number // 65536}.{number // 256 % 256}.{number % 256}",
        80,
        cluster=tuple(sorted(destination(number * ENDPOINTS + index) for index in range(ENDPOINTS))),
        usable=True,
    )


def serve(pod: Namespace, ready: multiprocessing.synchronize.Event) -> None:
    """Accept connections on all addresses of *pod*, in a process of its own."""

    def run() -> None:
        with socket.create_server(("", PORT), backlog=4096) as listener:
            ready.set()
            while True:
                listener.accept()[0].close()

    # Threads do not come along into a forked process, so neither does the namespace's pool.
    from topology import _enter

    _enter(pod.fd)
    run()


def connections(address: str, port: int, seconds: float) -> float:
    """Connections per second, one after the other."""
    count, deadline = 0, time.perf_counter() + seconds
    reset = struct.pack("ii", 1, 0)
    while time.perf_counter() < deadline:
        with socket.socket() as sock:
            sock.connect((address, port))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        count += 1
    return count / seconds


async def timed(node: Node, backend: Backend, changes: dict[PortName, Change]) -> float:
    started = time.perf_counter()
    await node.do(backend.apply(changes))
    return time.perf_counter() - started


async def measure(node: Node, backend: Backend, settings: Settings, size: int) -> str:
    services = [service(number) for number in range(size)]
    last = services[0]  # new rules are put before old ones

    async def rates(address: str, port: int) -> list[float]:
        return [await node.acall(connections, address, port, SECONDS) for _ in range(ROUNDS)]

    await node.do(backend.rebuild(Ruleset(settings, {})))
    direct = await rates(last.cluster[0].address, PORT)
    started = time.perf_counter()
    await node.do(backend.rebuild(Ruleset(settings, {one.name: one for one in services})))
    load = time.perf_counter() - started

    balanced = await rates(last.cluster_ip, last.port)

    endpoint, whole = [], []
    fewer = replace(last, cluster=last.cluster[1:])
    extra = service(size)
    for _ in range(CHANGES):
        endpoint.append(await timed(node, backend, {last.name: Change(last, fewer)}))
        endpoint.append(await timed(node, backend, {last.name: Change(fewer, last)}))
        whole.append(await timed(node, backend, {extra.name: Change(None, extra)}))
        whole.append(await timed(node, backend, {extra.name: Change(extra, None)}))

    started = time.perf_counter()
    await node.do(backend.rebuild(Ruleset(settings, {one.name: one for one in services})))
    adopt = time.perf_counter() - started
    await node.do(backend.rebuild(Ruleset(settings, {})))
    direct += await rates(last.cluster[0].address, PORT)
    share = statistics.median(balanced) / statistics.median(direct)
    return (
        f"{size:8}  {share:5.2f} ({statistics.median(balanced):5.0f} of {statistics.median(direct):5.0f}/s)"
        f"  {load:7.2f} s  {adopt:8.2f} s"
        f"  {1000 * statistics.median(endpoint):8.1f} ms  {1000 * statistics.median(whole):8.1f} ms"
    )


async def main(mode: str) -> None:
    with World() as world:
        (node,) = world.nodes
        pod = node.add_pod("pod")
        pod.ip(f"route add local {ENDPOINT_RANGE} dev lo")
        node.ip(f"route add {ENDPOINT_RANGE} via {pod.address}")
        ready = multiprocessing.Event()
        server = multiprocessing.get_context("fork").Process(target=serve, args=(pod, ready), daemon=True)
        server.start()
        ready.wait()
        settings = Settings(Family.IPV4, (node.address,), "10.244.0.0/15")
        print(f"mode {mode}, {ENDPOINTS} endpoints a Service")
        print("services  connections to the last       load   adoption   an endpoint    a Service")
        try:
            for size in SIZES:
                backend = BACKENDS[mode](Family.IPV4)
                print(await measure(node, backend, settings, size), flush=True)
                await node.do(close(backend))
        finally:
            server.terminate()
            server.join()


async def close(backend: Backend) -> None:
    backend.close()


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or ["iptables"])))
