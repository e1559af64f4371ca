"""The proxy as it runs: from objects of an API server to packets, with health, metrics and events."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
import uvloop
import yaml

from apiserver.api_server import running, write_kubeconfig
from buoy.api import meta
from buoy.proxy import Options, run
from buoy.proxy.health import Health, ServiceHealth
from buoy.proxy.plan import HealthCheck
from client.small_api_server import SmallApiServer
from topology import ask

pytestmark = pytest.mark.kernel


class Cluster:
    """An API server and a proxy on one node."""

    def __init__(self, node, directory):
        self.node = node
        self._kubeconfig = directory / "kubeconfig"
        self._task = None

    async def start(self):
        async def serve():
            server = SmallApiServer()
            await server.start()
            return server

        self.server = await self.node.do(serve())
        config = {
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "x", "cluster": {"server": self.server.url}}],
            "users": [{"name": "x", "user": {"token": "t"}}],
        }
        self._kubeconfig.write_text(yaml.safe_dump(config))
        await self.put(
            "nodes",
            {
                "metadata": {"name": self.node.name},
                "spec": {"podCIDRs": list(self.node.pod_cidrs.values())},
                "status": {"addresses": [{"type": "InternalIP", "address": self.node.address}]},
            },
        )

    async def put(self, plural, obj):
        await self.node.do(self.server.put(plural, obj))

    async def remove(self, plural, key):
        await self.node.do(self.server.remove(plural, key))

    async def start_proxy(self, **options):
        options = Options(str(self._kubeconfig), self.node.name, **{"sync_period": 0.5, **options})
        self._task = asyncio.create_task(self.node.do(run(options)))

    async def stop_proxy(self):
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task.exception()

    async def stop(self):
        await self.stop_proxy()
        await self.node.do(self.server.stop())

    async def get(self, url):
        def get():
            try:
                with urllib.request.urlopen(url, timeout=1) as answer:
                    return answer.status, answer.read().decode(), dict(answer.headers)
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode(), dict(error.headers)
            except OSError:
                return 0, "", {}

        return await self.node.acall(get)


@pytest.fixture
async def cluster(world, tmp_path):
    cluster = Cluster(world.nodes[0], tmp_path)
    await cluster.start()
    yield cluster
    await cluster.stop()


def service(name="web", **spec):
    spec = {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.10",
        "clusterIPs": ["10.96.0.10"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
        **spec,
    }
    return {"metadata": {"namespace": "default", "name": name}, "spec": spec}


def piece(*pods, service="web", triggered=""):
    return {
        "metadata": {
            "namespace": "default",
            "name": f"{service}-abc",
            "labels": {"kubernetes.io/service-name": service},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": triggered},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": [{"addresses": [pod.address], "nodeName": "node-1"} for pod in pods],
    }


async def eventually(condition, seconds=10):
    """The first true value of an asynchronous condition."""
    async with asyncio.timeout(seconds):
        while not (value := await condition()):
            await asyncio.sleep(0.01)
    return value


def answered_by(host, *names, address="10.96.0.10", port=80):
    async def condition():
        try:
            found = {(await host.acall(ask, address, port, timeout=0.5)).name for _ in range(8 * len(names))}
        except OSError:
            return False
        return found == set(names)

    return condition


def refused(host, address="10.96.0.10", port=80):
    async def condition():
        try:
            await host.acall(ask, address, port, timeout=1.5)
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
        return False

    return condition


async def test_from_objects_to_packets(cluster, servers):
    node = cluster.node
    first, second = node.add_pod("first"), node.add_pod("second")
    for pod in (first, second):
        servers.listen(pod, pod.name, 8080)
    await cluster.put("services", service())
    await cluster.put("endpointslices", piece(first))
    await cluster.start_proxy()
    await eventually(answered_by(node, "first"))

    await cluster.put("endpointslices", piece(first, second, triggered=meta.now_micro()))
    await eventually(answered_by(node, "first", "second"))
    await cluster.put("endpointslices", piece())
    await eventually(refused(node))
    await cluster.put("endpointslices", piece(second))
    await eventually(answered_by(node, "second"))
    await cluster.remove("services", "default/web")

    async def gone():
        return "default/web" not in node.run("iptables-save")

    await eventually(gone)

    status, text, _ = await cluster.get("http://127.0.0.1:10249/metrics")
    assert status == 200
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    family = 'ip_family="IPv4"'
    assert float(values[f"kubeproxy_network_programming_duration_seconds_count{{{family}}}"]) == 1
    assert float(values[f"kubeproxy_network_programming_duration_seconds_sum{{{family}}}"]) < 5
    assert float(values[f"kubeproxy_sync_proxy_rules_duration_seconds_count{{{family}}}"]) >= 4
    assert float(values[f"kubeproxy_sync_full_proxy_rules_duration_seconds_count{{{family}}}"]) == 1
    bucket = re.compile(r"kubeproxy_network_programming_duration_seconds_bucket{.*le=\"(.+)\"}")
    bounds = {float(found[1]) for name in values if (found := bucket.match(name))}
    kubernetes = {0, 0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30), float("inf")}
    assert kubernetes <= bounds
    nat = float(values[f'kubeproxy_sync_proxy_rules_iptables_total{{{family},table="nat"}}'])
    assert nat == node.run("iptables-save", "-t", "nat").count("-A KUBE-")
    assert (await cluster.get("http://127.0.0.1:10249/proxyMode"))[1] == "iptables"


async def test_what_others_flush_comes_back_at_once(cluster, servers):
    node = cluster.node
    pod = node.add_pod("pod")
    servers.listen(pod, pod.name, 8080)
    await cluster.put("services", service())
    await cluster.put("endpointslices", piece(pod))
    await cluster.start_proxy(sync_period=30)
    await eventually(answered_by(node, "pod"))
    for hand in ("iptables -t nat -F", "nft flush ruleset", "iptables -t nat -D OUTPUT 1"):
        node.run(*hand.split())
        started = time.monotonic()
        await eventually(answered_by(node, "pod"))
        assert time.monotonic() - started < 5, hand


async def test_legacy_iptables_finds_out_by_looking(cluster, servers, monkeypatch, tmp_path):
    for suffix in ("", "-save", "-restore"):
        (tmp_path / f"iptables{suffix}").symlink_to(f"/usr/sbin/iptables-legacy{suffix}")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    node = cluster.node
    pod = node.add_pod("pod")
    servers.listen(pod, pod.name, 8080)
    await cluster.put("services", service())
    await cluster.put("endpointslices", piece(pod))
    await cluster.start_proxy(sync_period=0.2)
    await eventually(answered_by(node, "pod"))
    node.run("iptables", "-t", "nat", "-F")
    await eventually(answered_by(node, "pod"))


def alive(cluster, code):
    """``/livez`` answers with that code, and the answer is counted."""

    async def answered():
        status, body, _ = await cluster.get("http://127.0.0.1:10256/livez")
        if status != code:
            return False
        known = json.loads(body)
        assert known.keys() == {"lastUpdated", "currentTime"}
        assert code == 503 or not known["lastUpdated"].startswith("1970")
        metrics = (await cluster.get("http://127.0.0.1:10249/metrics"))[1]
        return f'kubeproxy_proxy_livez_total{{code="{code}"}}' in metrics

    return answered


async def test_nothing_is_removed_before_the_api_has_been_seen(cluster, servers):
    node = cluster.node
    pod = node.add_pod("pod")
    servers.listen(pod, pod.name, 8080)
    await cluster.put("services", service())
    await cluster.put("endpointslices", piece(pod))
    await cluster.start_proxy()
    await eventually(answered_by(node, "pod"))
    await cluster.stop_proxy()

    def rules():
        return node.run("iptables-save", "-t", "nat").splitlines()[1:-1]

    before = rules()
    cluster.server.hang, cluster.server.requests[:] = True, []
    await cluster.put("endpointslices", piece())
    await cluster.start_proxy()

    async def asked():
        return len(cluster.server.requests) >= 3

    await eventually(asked)
    deadline = time.monotonic() + 0.6
    while time.monotonic() < deadline:
        assert rules() == before
    await eventually(alive(cluster, 503))

    await node.do(cluster.server.stop())
    cluster.server.hang = False
    await node.do(cluster.server.start())
    await eventually(refused(node))


async def test_health(cluster, servers):
    node = cluster.node
    pod = node.add_pod("pod")
    checked = service(
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        healthCheckNodePort=31000,
        ports=[{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}],
    )
    await cluster.put("services", checked)
    await cluster.put("endpointslices", piece(pod))
    await cluster.start_proxy()

    async def check():
        status, body, headers = await cluster.get(f"http://{node.address}:31000/")
        return status and (status, json.loads(body), headers["X-Load-Balancing-Endpoint-Weight"])

    about = {"service": {"namespace": "default", "name": "web"}, "serviceProxyHealthy": True}
    assert await eventually(check) == (200, {**about, "localEndpoints": 1}, "1")
    await cluster.put("endpointslices", piece())

    async def no_longer():
        return await check() == (503, {**about, "localEndpoints": 0}, "0")

    await eventually(no_longer)
    await cluster.remove("services", "default/web")

    async def closed():
        return (await cluster.get(f"http://{node.address}:31000/"))[0] == 0

    await eventually(closed)

    status, body, _ = await cluster.get("http://127.0.0.1:10256/healthz")
    assert (status, json.loads(body)["nodeEligible"]) == (200, True)
    leaving = {
        "metadata": {"name": node.name},
        "spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]},
    }
    await cluster.put("nodes", leaving)

    async def ineligible():
        status, body, _ = await cluster.get("http://127.0.0.1:10256/healthz")
        return status == 503 and not json.loads(body)["nodeEligible"]

    await eventually(ineligible)
    assert (await cluster.get("http://127.0.0.1:10256/livez"))[0] == 200


async def test_a_proxy_that_lags_behind_sends_load_balancers_elsewhere():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    health = Health(["IPv4"], timeout=0.0)  # its first rules are overdue
    checks = ServiceHealth(health, lambda check, reason: pytest.fail(reason))
    await checks.update([HealthCheck("default/web", port, 1)], ["127.0.0.1"])

    def check():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return answer.status, json.load(answer)["serviceProxyHealthy"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["serviceProxyHealthy"]

    assert await asyncio.to_thread(check) == (503, False)
    health.updated("IPv4")
    assert await asyncio.to_thread(check) == (200, True)
    await checks.close()


@pytest.mark.parametrize("chosen", ["192.168.1.0/24", "primary"])
async def test_node_ports_at_chosen_addresses_only(cluster, servers, chosen):
    node = cluster.node
    pod = node.add_pod("pod")
    servers.listen(pod, pod.name, 8080)
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}]
    local = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}
    await cluster.put("services", service(type="LoadBalancer", ports=ports, **local))
    await cluster.put("endpointslices", piece(pod))
    addresses = [{"type": "InternalIP", "address": node.address}]
    about = {"metadata": {"name": node.name}, "spec": {}, "status": {"addresses": addresses}}
    await cluster.put("nodes", about)
    await cluster.start_proxy(node_port_addresses=(chosen,))

    async def served():
        try:
            return (await pod.acall(ask, node.address, 30080)).name == "pod"
        except ConnectionRefusedError:
            return False

    async def checked():
        return (await cluster.get(f"http://{node.address}:31000/"))[0] == 200

    await eventually(served)
    await eventually(checked)
    with pytest.raises(ConnectionRefusedError):
        await pod.acall(ask, "10.244.1.1", 30080)
    assert (await cluster.get("http://10.244.1.1:31000/"))[0] == 0


async def test_failure_is_told_and_retried(cluster, servers, monkeypatch, tmp_path):
    node = cluster.node
    pod = node.add_pod("pod")
    servers.listen(pod, pod.name, 8080)
    await cluster.put("services", service())
    await cluster.put("endpointslices", piece(pod))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        await cluster.start_proxy()

        async def told():
            return [
                event
                for event in cluster.server.objects.get("events", {}).values()
                if "apt-get install iptables" in event["message"]
            ]

        (event,) = await eventually(told)
        assert event["involvedObject"]["kind"] == "Node"
        assert event["type"] == "Warning"
        await eventually(alive(cluster, 503))
    await eventually(answered_by(node, "pod"))
    await eventually(alive(cluster, 200))


async def test_an_object_that_makes_no_sense_harms_no_other(cluster, servers):
    node = cluster.node
    pod = node.add_pod("pod")
    servers.listen(pod, pod.name, 8080)
    await cluster.put("services", service("odd", clusterIPs=["10.96.0.400"]))
    await cluster.put("endpointslices", piece(service="odd") | {"endpoints": [{"addresses": 7}]})
    await cluster.put("services", service())
    await cluster.put("endpointslices", piece(pod))
    await cluster.start_proxy()
    await eventually(answered_by(node, "pod"))
    await cluster.put("services", service("odd", ports=[{"name": "x"}]))
    await cluster.put("endpointslices", piece())
    await eventually(refused(node))


async def test_the_nodes_own_range_tells_who_is_local(cluster, servers):
    """Without a cluster CIDR the node's Pods keep their address; everybody else is masqueraded."""
    node = cluster.node
    client, pod = node.add_pod("client"), node.add_pod("pod")
    servers.listen(pod, pod.name, 8080)
    await cluster.put("services", service())
    await cluster.put("endpointslices", piece(pod))
    await cluster.start_proxy()
    await eventually(answered_by(client, "pod"))
    assert (await client.acall(ask, "10.96.0.10", 80)).client == client.address
    other = {
        "metadata": {"name": node.name},
        "spec": {"podCIDRs": ["10.244.9.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": node.address}]},
    }
    await cluster.put("nodes", other)

    async def masqueraded():
        return (await client.acall(ask, "10.96.0.10", 80)).client == "10.244.1.1"

    await eventually(masqueraded)


async def test_kernel_parameters(cluster):
    node = cluster.node
    node.sysctl(ipv4__ip_forward=0, ipv4__conf__all__route_localnet=0)
    await cluster.start_proxy()

    async def is_set():
        return node.run("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv4.conf.all.route_localnet") == "1\n1\n"

    await eventually(is_set)


async def test_on_uvloop(cluster, servers):
    """The loop that components run on in production."""
    node = cluster.node
    pod = node.add_pod("pod")
    servers.listen(pod, pod.name, 8080)
    await cluster.put("services", service())
    await cluster.put("endpointslices", piece(pod))
    options = Options(str(cluster._kubeconfig), node.name)
    stop = threading.Event()

    async def until_told():
        task = asyncio.create_task(run(options))
        await asyncio.to_thread(stop.wait)
        task.cancel()

    thread = threading.Thread(target=node.call, args=(uvloop.run, until_told()))
    thread.start()
    try:
        await eventually(answered_by(node, "pod"))
        node.run("iptables", "-t", "nat", "-F")
        await eventually(answered_by(node, "pod"))
    finally:
        stop.set()
        thread.join()


async def test_with_the_real_api_server_as_the_user_that_proxies_are(world, servers, tmp_path):
    """Its selectors are understood, and its rights suffice."""
    node = world.nodes[0]
    pod = node.add_pod("pod")
    servers.listen(pod, pod.name, 8080)

    async def scenario():
        async with running(tmp_path) as server:
            web = service(ports=[{"name": "http", "port": 80, "targetPort": 8080}])
            assert (await server.post("/api/v1/namespaces/default/services", web)).status == 201
            headless = service("headless", clusterIP="None", clusterIPs=["None"])
            assert (await server.post("/api/v1/namespaces/default/services", headless)).status == 201
            path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
            kind = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}
            ready = piece(pod)
            del ready["metadata"]["annotations"]
            made = await server.post(path, kind | ready)
            assert made.status == 201, made.body
            kubeconfig = write_kubeconfig(server, "system:kube-proxy")
            proxy = asyncio.create_task(run(Options(str(kubeconfig), node.name)))
            try:
                async with asyncio.timeout(10):
                    while True:
                        try:
                            return await asyncio.to_thread(ask, "10.96.0.10", 80, timeout=0.5)
                        except OSError:
                            await asyncio.sleep(0.01)
            finally:
                proxy.cancel()
                await asyncio.wait([proxy])

    assert (await node.do(scenario())).name == "pod"


def test_options_that_cannot_be():
    with pytest.raises(ValueError, match="unknown proxy mode 'ipvs'"):
        Options("", "node-1", mode="ipvs")
    with pytest.raises(ValueError, match="greater than 0"):
        Options("", "node-1", sync_period=0)
