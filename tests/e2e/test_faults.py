"""kill -9 of any component at random moments, under load: traffic goes on, and all converges."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Iterator

import pytest

import load
import manifests
from buoy.api.resource import CONFIG_MAPS
from buoy.api.status import StatusError
from buoy.client import Client, ConnectionFailed
from local_cluster import LocalCluster, Namespace, until

pytestmark = pytest.mark.e2e

SEED = 20260723
NODES = ("node-1", "node-2", "node-3")
SERVERS = 3


@pytest.fixture
def web(namespace: Namespace) -> Namespace:
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    spec = manifests.pod_spec(manifests.server_container(linger=3, readinessProbe=probe), grace=15)
    namespace.apply(manifests.deployment("web", SERVERS, spec), manifests.service("web"))
    namespace.rolled_out("deployment/web")
    namespace.until_endpoints("web", SERVERS)
    return namespace


class Writer(threading.Thread):
    """Creates ConfigMaps, one after the other, and remembers those the server acknowledged."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__()
        self.namespace = namespace
        self.acknowledged: set[str] = set()
        self.refused = 0
        self._stop_asked = threading.Event()

    def run(self) -> None:
        asyncio.run(self._write())

    async def _write(self) -> None:
        number = 0
        async with Client.from_kubeconfig(str(self.namespace.cluster.kubeconfig)) as client:
            while not self._stop_asked.is_set():
                number += 1
                name = f"write-{number}"
                metadata = {"name": name, "namespace": self.namespace.name}
                body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
                try:
                    await client.create(CONFIG_MAPS, body)
                except (ConnectionFailed, StatusError):
                    self.refused += 1
                    await asyncio.sleep(0.02)
                else:
                    self.acknowledged.add(name)

    def finish(self) -> None:
        self._stop_asked.set()
        self.join(30)
        assert not self.is_alive()


def moments(count: int, shortest: float, longest: float, generator: random.Random) -> Iterator[None]:
    """Random pauses, and after each the moment for something to happen."""
    for _ in range(count):
        time.sleep(generator.uniform(shortest, longest))
        yield


def test_every_component_killed_at_random(cluster: LocalCluster, web: Namespace) -> None:
    generator = random.Random(SEED)
    victims = [("apiserver", "")] * 4 + [("controllers", ""), ("scheduler", "")]
    victims += [(name, node) for name in ("kubelet", "proxy", "containerd") for node in NODES]
    generator.shuffle(victims)
    before = {pod["metadata"]["name"]: container_ids(pod) for pod in web.list("pods", "app=web")}
    address = web.get("service", "web")["spec"]["clusterIP"]
    writer = Writer(web)
    writer.start()
    try:
        with (
            load.from_pod(web, address, 8080) as inside,
            load.from_node(cluster, "node-1", address, 8080) as outside,
        ):
            for (component, node), _ in zip(victims, moments(len(victims), 0.2, 1.5, generator), strict=True):
                # One that has just been killed may not be back yet: then it is already down.
                cluster.buoy("kill", component, *(["--node", node] if node else []), check=False)
            until(lambda: web.kubectl("get", "--raw", "/readyz", check=False).stdout == "ok", within=30)
            web.kubectl("rollout", "restart", "deployment/web")
            web.rolled_out("deployment/web", timeout=90)
            web.until_endpoints("web", SERVERS)
    finally:
        writer.finish()
    for result in (inside, outside):
        result.assert_flawless(at_least=500)
    assert writer.acknowledged
    assert writer.refused, "the API server was never away: nothing was tested"
    present = {item["metadata"]["name"] for item in web.list("configmaps")}
    assert writer.acknowledged <= present

    def renewed() -> bool:
        after = {pod["metadata"]["name"] for pod in web.list("pods", "app=web")}
        return len(after) == SERVERS and not after & set(before)

    until(renewed, what="all old Pods are gone", every=0.3)
    until(lambda: all_ready(cluster), within=30, what="all nodes Ready")


def test_killed_agents_leave_pods_running(cluster: LocalCluster, web: Namespace) -> None:
    before = {pod["metadata"]["name"]: container_ids(pod) for pod in web.list("pods", "app=web")}
    for node in NODES:
        for component in ("kubelet", "containerd", "proxy"):
            cluster.buoy("kill", component, "--node", node)
    # A label that has to come to the containers' status again: the kubelet is back and has seen them.
    web.kubectl("scale", "deployment/web", f"--replicas={SERVERS + 3}")
    web.rolled_out("deployment/web")
    after = {pod["metadata"]["name"]: pod for pod in web.list("pods", "app=web")}
    for name, identities in before.items():
        assert container_ids(after[name]) == identities
        assert [status["restartCount"] for status in after[name]["status"]["containerStatuses"]] == [0]
    assert web.exec(next(iter(before)), "hostname").stdout.strip() in before


def test_writes_through_kubectl_survive_the_api_server(cluster: LocalCluster, web: Namespace) -> None:
    acknowledged = []
    for number in range(12):
        if number % 4 == 2:
            cluster.buoy("kill", "apiserver", check=False)
        name = f"by-kubectl-{number}"
        if web.kubectl("create", "configmap", name, check=False).returncode == 0:
            acknowledged.append(name)
    until(lambda: web.kubectl("get", "--raw", "/readyz", check=False).stdout == "ok", within=30)
    present = {item["metadata"]["name"] for item in web.list("configmaps")}
    assert acknowledged
    assert set(acknowledged) <= present


def test_a_node_whose_agent_is_silent_is_taken_out_and_comes_back(
    cluster: LocalCluster, web: Namespace
) -> None:
    """No heartbeat for 40 s: NotReady, tainted, its Pods out of the endpoints; its kernel serves on."""
    (victim,) = [pod for pod in web.list("pods", "app=web") if pod["spec"]["nodeName"] == "node-3"][:1]
    kubelet = component_process(cluster, "kubelet", "node-3")
    address = web.get("service", "web")["spec"]["clusterIP"]
    with load.from_node(cluster, "node-1", address, 8080) as result:
        os.kill(kubelet, signal.SIGSTOP)
        try:
            web.until_endpoints("web", SERVERS - 1, within=75)
            assert ready_status(cluster, "node-3") == "Unknown"
            taints = cluster.kubectl("get", "node", "node-3", "-o", "jsonpath={.spec.taints[*].key}").stdout
            until(
                lambda: (
                    "node.kubernetes.io/unreachable"
                    in cluster.kubectl("get", "node", "node-3", "-o", "jsonpath={.spec.taints[*].key}").stdout
                ),
                what=f"the taint; there are {taints}",
            )
            line = cluster.kubectl("get", "node", "node-3", "--no-headers").stdout
            assert line.split()[1] == "NotReady"
        finally:
            os.kill(kubelet, signal.SIGCONT)
        until(lambda: all_ready(cluster), within=30, what="all nodes Ready")
        web.until_endpoints("web", SERVERS)
        until(lambda: not cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[*].spec.taints}").stdout)
    result.assert_flawless(at_least=1000)
    again = web.get("pod", victim["metadata"]["name"])
    assert container_ids(again) == container_ids(victim), "the Pod ran on all the time"


def test_a_power_cut_of_a_node(cluster: LocalCluster, web: Namespace) -> None:
    """The node's first process is killed: all on it ends. It is started again, and its Pods run anew."""
    before = web.list("pods", "app=web")
    assert any(pod["spec"]["nodeName"] == "node-2" for pod in before)
    restarts = {pod["metadata"]["name"]: pod["spec"]["nodeName"] == "node-2" for pod in before}
    os.kill(node_process(cluster, "node-2"), signal.SIGKILL)

    def recovered() -> bool:
        pods = {pod["metadata"]["name"]: pod for pod in web.list("pods", "app=web")}
        return all(
            name in pods
            and pods[name]["status"]["containerStatuses"][0]["ready"]
            and (pods[name]["status"]["containerStatuses"][0]["restartCount"] > 0) == restarted
            for name, restarted in restarts.items()
        )

    until(
        recovered,
        within=60,
        what="the Pods of the lost node run again, the others were left alone",
        every=0.3,
    )
    until(lambda: all_ready(cluster), within=30, what="all nodes Ready")
    web.until_endpoints("web", SERVERS)
    address = web.get("service", "web")["spec"]["clusterIP"]
    reached = load.measure(cluster, "node-2", address, 8080, count=300)
    reached.assert_flawless(at_least=300)
    assert set(reached.answers) == set(restarts)


def container_ids(pod: manifests.Object) -> list[str]:
    return [status["containerID"] for status in pod["status"]["containerStatuses"]]


def ready_status(cluster: LocalCluster, node: str) -> str:
    template = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return cluster.kubectl("get", "node", node, "-o", template).stdout


def all_ready(cluster: LocalCluster) -> bool:
    return all(ready_status(cluster, node) == "True" for node in NODES)


def component_process(cluster: LocalCluster, component: str, node: str) -> int:
    """The host's number of a component, as ``buoy status`` shows it."""
    for line in cluster.buoy("status").stdout.splitlines():
        if line.split()[:2] == [component, node]:
            return int(line.split()[2])
    raise AssertionError(f"{component} does not run on {node}")


def node_process(cluster: LocalCluster, node: str) -> int:
    """The host's number of a node's first process: the parent of its kubelet."""
    kubelet = component_process(cluster, "kubelet", node)
    with open(f"/proc/{kubelet}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])
