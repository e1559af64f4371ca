"""How long after a Pod is ready, or a Service is made, every node has its rule.

bench/programming.py [--services N]: on a fresh local cluster of three nodes, p50 and p99 of

- Pods that flap: from the event that tells of readiness, or its loss, to the rule on all nodes, or its end;
- a Deployment at zero and back: from the event that tells of each Pod's readiness to its rule on all nodes;
- N Services made at once for one Pod: from the event that tells of the Service to its rule on all nodes.

The reference is the least that any such chain of components does: one write until a watcher has its event
(the EndpointSlice's), and one ``iptables-restore`` of one rule, both bare and in the same run. At last, what
the proxies themselves say, ``kubeproxy_network_programming_duration_seconds``: they know the beginning only
as Kubernetes writes it down, in whole seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import re
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import manifests  # noqa: E402
from buoy.api import meta, pods  # noqa: E402
from buoy.api.resource import CONFIG_MAPS, PODS, SERVICES  # noqa: E402
from buoy.client import Client, Informer  # noqa: E402
from buoy.proxy.iptables.render import endpoint_chain_name  # noqa: E402
from buoy.proxy.model import Destination, PortName, PortRules  # noqa: E402
from local_cluster import LocalCluster, Namespace  # noqa: E402

Object = dict[str, Any]

NODES = ("node-1", "node-2", "node-3")
NAMESPACE = "default"
REPLICAS = 10
FLAPS = 10
RETURNS = 3
GATE = "example.com/serving"
REFERENCES = 50
PATIENCE = 60.0

WATCHER = r"""
import re, select, socket, struct, sys, time
NEW_CHAIN, DELETE_CHAIN = 10 << 8 | 3, 10 << 8 | 5
listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
listening.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
listening.bind((0, 0))
listening.setsockopt(270, 1, 7)  # the transactions of nf_tables
print("listening", flush=True)
while listening in select.select([listening, sys.stdin], [], [])[0]:  # until the input ends
    data, now, lines = listening.recv(1 << 20), time.time(), []
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        found = re.search(rb"KUBE-SEP-[A-Z2-7]{16}", data[:length])
        if found and kind in (NEW_CHAIN, DELETE_CHAIN):
            lines.append(f"{now} {'+' if kind == NEW_CHAIN else '-'} {found[0].decode()}\n")
        data = data[length + 3 & ~3:]
    print("".join(lines), end="", flush=True)
"""
"""Runs on a node and writes a line for each endpoint's chain that comes or goes, when it is in force."""

RESTORE = r"""
import statistics, subprocess, sys, time
took = []
for number in range(int(sys.argv[1])):
    rule = f"*nat\n:BENCH - [0:0]\n-A BENCH -d 192.0.2.{number}/32 -j RETURN\nCOMMIT\n"
    begun = time.perf_counter()
    subprocess.run(["iptables-restore", "--noflush", "--wait"], input=rule, text=True, check=True)
    took.append(time.perf_counter() - begun)
subprocess.run("iptables -t nat -F BENCH; iptables -t nat -X BENCH", shell=True, check=True)
print(statistics.median(took))
"""


class Moments:
    """When what is watched came to be, or ceased: as this process, or a node's watcher, heard of it."""

    def __init__(self) -> None:
        self._last: dict[Any, tuple[bool, float]] = {}
        self._waiting: dict[Any, asyncio.Event] = {}

    def note(self, key: Any, state: bool, moment: float) -> None:
        self._last[key] = state, moment
        if key in self._waiting:
            self._waiting.pop(key).set()

    async def when(self, key: Any, state: bool, since: float = 0.0) -> float:
        """The moment at which *key* came to *state*, not before *since*; it is waited for."""
        async with asyncio.timeout(PATIENCE):
            while (last := self._last.get(key)) is None or last[0] is not state or last[1] < since:
                await self._waiting.setdefault(key, asyncio.Event()).wait()
        return last[1]

    async def everywhere(self, chain: str, state: bool, since: float = 0.0) -> float:
        """When the last node had an endpoint's rules, or was rid of them."""
        return max([await self.when((node, chain), state, since) for node in NODES])


async def watch_node(cluster: LocalCluster, node: str, moments: Moments, listening: asyncio.Event) -> None:
    process = await asyncio.create_subprocess_exec(
        *cluster.words("node exec", node, "--", "/usr/bin/python3", "-c", WATCHER),
        env=cluster.environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    try:
        async for line in process.stdout:
            if line == b"listening\n":
                listening.set()
                continue
            moment, sign, chain = line.decode().split()
            moments.note((node, chain), sign == "+", float(moment))
    finally:
        process.stdin.close()
        await process.wait()


class Bench:
    def __init__(self, cluster: LocalCluster, client: Client) -> None:
        self._cluster, self._client = cluster, client
        self._moments = Moments()
        self._services = Informer(client, SERVICES, namespace=NAMESPACE)
        self._pods = Informer(client, PODS, namespace=NAMESPACE)
        self._config_maps = Informer(client, CONFIG_MAPS, namespace=NAMESPACE)
        self._services.subscribe(self._on_service)
        self._pods.subscribe(self._on_pod)
        self._config_maps.subscribe(lambda old, new: self._moments.note("write", True, time.time()))

    def _on_service(self, old: Object | None, new: Object | None) -> None:
        if old is None and new is not None:
            self._moments.note(meta.name(new), True, time.time())

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        was, is_now = _ready(old), _ready(new)
        if was is not is_now:
            now, pod = time.time(), new or old or {}
            self._moments.note(meta.name(pod), is_now, now)
            app = meta.labels(pod)["app"]
            self._moments.note((app, len(self._ready_pods(app))), True, now)

    def _ready_pods(self, app: str) -> list[Object]:
        return [pod for pod in self._pods.items() if meta.labels(pod).get("app") == app and _ready(pod)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything is watched, in the API and on the nodes."""
        tasks = []
        try:
            for informer in (self._services, self._pods, self._config_maps):
                tasks.append(asyncio.create_task(informer.run()))
                await informer.synced()
            for node in NODES:
                listening = asyncio.Event()
                watch = watch_node(self._cluster, node, self._moments, listening)
                tasks.append(asyncio.create_task(watch))
                await listening.wait()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _apply(self, *objects: Object) -> None:
        await asyncio.to_thread(_namespace(self._cluster).apply, *objects)

    async def reference(self) -> float:
        """Seconds for a write until its event, and for one rule."""
        await self._client.create(CONFIG_MAPS, {"metadata": {"name": "bench", "namespace": NAMESPACE}})
        took = []
        for number in range(REFERENCES):
            begun = time.time()
            await self._client.patch(CONFIG_MAPS, "bench", NAMESPACE, {"data": {"n": str(number)}})
            took.append(await self._moments.when("write", True, begun) - begun)
        command = ("/usr/bin/python3", "-c", RESTORE, str(REFERENCES))
        restored = await asyncio.to_thread(self._cluster.on_node, "node-1", *command)
        event, rule = statistics.median(took), float(restored.stdout)
        print(f"reference: a write until its event {1000 * event:.1f} ms, one rule {1000 * rule:.1f} ms")
        return event + rule

    async def services_at_once(self, count: int) -> list[float]:
        await self._apply(manifests.deployment("target", 1, manifests.pod_spec(manifests.server_container())))
        await self._moments.when(("target", 1), True)
        address = pods.ips(self._ready_pods("target")[0])[0]

        async def one(number: int) -> float:
            service = manifests.service(f"service-{number}", selector={"app": "target"})
            await self._client.create(SERVICES, service, NAMESPACE)
            known = await self._moments.when(f"service-{number}", True)
            return await self._moments.everywhere(_chain(f"service-{number}", address), True) - known

        return list(await asyncio.gather(*map(one, range(count))))

    async def flapping(self) -> tuple[list[float], list[float]]:
        """Seconds until the rules come, and until they go."""
        gated = manifests.pod_spec(manifests.server_container(), readinessGates=[{"conditionType": GATE}])
        names = [f"flapping-{number}" for number in range(REPLICAS)]
        await self._apply(
            manifests.service("flapping"),
            *(manifests.pod(name, gated, labels={"app": "flapping"}) for name in names),
        )
        came: list[float] = []
        went: list[float] = []

        async def flap(name: str) -> None:
            for flap in range(FLAPS + 1):
                for ready in (True, False):
                    begun = time.time()
                    condition = {"type": GATE, "status": str(ready)}
                    patch = {"status": {"conditions": [condition]}}
                    await self._client.patch(
                        PODS, name, NAMESPACE, patch, type="strategic", subresource="status"
                    )
                    known = await self._moments.when(name, ready, begun)
                    (address,) = pods.ips(self._pods.get(f"{NAMESPACE}/{name}") or {})
                    end = await self._moments.everywhere(_chain("flapping", address), ready, begun)
                    if flap:  # the first one waits for the container, with all that goes on at its start
                        (came if ready else went).append(end - known)

        await asyncio.gather(*map(flap, names))
        return came, went

    async def zero_and_back(self) -> list[float]:
        spec = manifests.pod_spec(manifests.server_container())
        await self._apply(manifests.service("returning"), manifests.deployment("returning", REPLICAS, spec))
        await self._moments.when(("returning", REPLICAS), True)
        found = []
        for _ in range(RETURNS):
            for replicas in (0, REPLICAS):
                begun = time.time()
                await asyncio.to_thread(
                    self._cluster.kubectl, "scale", "deployment/returning", f"--replicas={replicas}"
                )
                await self._moments.when(("returning", replicas), True, begun)
            for pod in self._ready_pods("returning"):
                known = await self._moments.when(meta.name(pod), True, begun)
                chain = _chain("returning", pods.ips(pod)[0])
                found.append(await self._moments.everywhere(chain, True, begun) - known)
        return found

    async def said(self) -> tuple[float, float]:
        """p50 and p99 by the proxies' own histograms: upper bounds of buckets, in seconds."""
        counts: defaultdict[float, float] = defaultdict(float)
        for node in NODES:
            url = "http://127.0.0.1:10249/metrics"
            text = (await asyncio.to_thread(self._cluster.on_node, node, "curl", "-s", url)).stdout
            pattern = r'^kubeproxy_network_programming_duration_seconds_bucket{.*le="(.+?)".*} (.+)$'
            for bound, count in re.findall(pattern, text, re.MULTILINE):
                counts[float(bound)] += float(count)
        return _bound(counts, 0.5), _bound(counts, 0.99)


def _bound(counts: Mapping[float, float], share: float) -> float:
    return next(bound for bound in sorted(counts) if counts[bound] >= share * counts[math.inf])


def _ready(pod: Object | None) -> bool:
    return pod is not None and pods.is_ready(pod) and not meta.is_terminating(pod)


def _namespace(cluster: LocalCluster) -> Namespace:
    return Namespace(cluster, NAMESPACE)


def _chain(service: str, address: str) -> str:
    rules = PortRules(PortName(f"{NAMESPACE}/{service}", "", "TCP"), "", 8080)
    return endpoint_chain_name(rules, Destination(address, 80))


def show(label: str, seconds: Sequence[float], least: float) -> None:
    middle, high = statistics.median(seconds), statistics.quantiles(seconds, n=100)[-1]
    print(
        f"{label:44} n {len(seconds):4}  p50 {1000 * middle:7.1f} ms  p99 {1000 * high:7.1f} ms"
        f"  {middle / least:6.1f} and {high / least:6.1f} x the reference"
    )


async def measure(cluster: LocalCluster, services: int) -> None:
    async with Client.from_kubeconfig(str(cluster.kubeconfig)) as client:
        bench = Bench(cluster, client)
        async with bench.running():
            least = await bench.reference()
            came, went = await bench.flapping()
            show("flapping, ready to the rule on every node", came, least)
            show("flapping, not ready to its end everywhere", went, least)
            show("back from zero, ready to the rule", await bench.zero_and_back(), least)
            show(f"{services} Services at once", await bench.services_at_once(services), least)
            p50, p99 = await bench.said()
            print(f"as the proxies say, from whole seconds: p50 up to {p50} s, p99 up to {p99} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="How long until every node has a rule.")
    parser.add_argument("--services", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="buoy-bench-") as name:
        cluster = LocalCluster("bench", Path(name), nodes=len(NODES))
        try:
            cluster.up()
            asyncio.run(measure(cluster, options.services))
        finally:
            cluster.down()


if __name__ == "__main__":
    main()
