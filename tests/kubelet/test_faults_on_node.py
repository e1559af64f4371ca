"""What holds when a part of the node is killed: Pods go on, and all converges."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import time
from pathlib import Path

import pytest
from kubelet_cluster import LOOP, Cluster, condition, container, phase, status_of, waiting
from kubelet_world import NODE, World
from test_pods_on_node import traces

from buoy.api import meta
from buoy.api.resource import CONFIG_MAPS, LEASES, NODES, PODS
from eventual import eventually

pytestmark = pytest.mark.kernel


async def test_a_killed_kubelet_finds_its_pods_again(world: World, cluster: Cluster) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
    await cluster.run("probed", container("touch /tmp/ready; " + LOOP, readinessProbe=probe))
    await cluster.run("crashed", container("exit 1"))
    before = await cluster.ready("probed")
    await cluster.until("crashed", lambda pod: waiting(pod) == "CrashLoopBackOff")
    unready: list[str] = []

    async def watch() -> None:
        async for _, pod in cluster.client.watch(
            PODS, cluster.namespace, field_selector="metadata.name=probed"
        ):
            if condition(pod, "Ready") != "True":
                unready.append(str(pod["status"]))

    watching = asyncio.create_task(watch())
    world.kill("kubelet")
    world.start_kubelet()
    # The new one tends its Pods: the crashed container is started again at once, having lost its back-off.
    after = await cluster.until("crashed", lambda pod: status_of(pod)["restartCount"] == 2)
    assert meta.uid(after)
    after = await cluster.pod("probed")
    watching.cancel()
    assert status_of(after)["containerID"] == status_of(before)["containerID"]
    assert status_of(after)["restartCount"] == 0
    assert not unready


async def test_a_kubelet_told_to_end_leaves_pods_running(world: World, cluster: Cluster) -> None:
    await cluster.run("stays")
    before = await cluster.running("stays")
    world.kill("kubelet", signal.SIGTERM)
    assert meta.uid(before) in world.run("ctr", "-n", "k8s.io", "tasks", "list") or traces(
        cluster, meta.uid(before)
    )
    world.start_kubelet()
    await cluster.delete("stays")
    await cluster.gone("stays")


async def test_what_happened_while_the_kubelet_was_away(world: World, cluster: Cluster) -> None:
    await cluster.create(CONFIG_MAPS, "settings", data={"key": "old"})
    mounts = [{"name": "settings", "mountPath": "/settings"}]
    volumes = [{"name": "settings", "configMap": {"name": "settings"}}]
    await cluster.run("updated", container(volumeMounts=mounts), volumes=volumes)
    forced = await cluster.run("forced")
    await cluster.run("deleted")
    await cluster.run(
        "ended",
        container(
            "until test -e /run/end; do sleep 0.05; done", volumeMounts=[{"name": "run", "mountPath": "/run"}]
        ),
        volumes=[{"name": "run", "hostPath": {"path": "/run"}}],
        restartPolicy="Never",
    )
    for name in ("updated", "forced", "deleted", "ended"):
        await cluster.running(name)
    world.kill("kubelet")
    await cluster.delete("forced", grace=0)
    await cluster.delete("deleted")
    Path(world.inside("/run/end")).touch()
    await cluster.run("new")
    await cluster.client.patch(CONFIG_MAPS, "settings", cluster.namespace, {"data": {"key": "new"}})
    world.start_kubelet()
    await cluster.gone("deleted")
    await cluster.running("new")
    assert phase(await cluster.finished("ended")) == "Succeeded"
    await eventually(lambda: not traces(cluster, meta.uid(forced)), what="the orphan is cleaned up")
    updated = await cluster.pod("updated")
    assert status_of(updated)["restartCount"] == 0

    async def sees_new() -> bool:
        return await cluster.execute("updated", "cat /settings/key") == "new"

    await eventually(sees_new, what="the changed ConfigMap arrives")


async def test_a_killed_containerd_comes_back_and_pods_go_on(world: World, cluster: Cluster) -> None:
    await cluster.run("survivor")
    before = await cluster.running("survivor")
    world.kill("containerd")
    world.start_containerd()
    await cluster.run("after", container("exit 0"), restartPolicy="Never")
    assert phase(await cluster.finished("after")) == "Succeeded"
    after = await cluster.pod("survivor")
    assert status_of(after) == status_of(before)
    assert await cluster.execute("survivor", "echo alive") == "alive\n"
    node = await cluster.client.get(NODES, NODE)
    assert condition(node, "Ready") == "True"
    # Its events are heard again: an end is noticed at once, not by the next relist.
    await cluster.execute("survivor", "kill -9 -1; kill 1")
    await cluster.until("survivor", lambda pod: status_of(pod)["restartCount"] == 1, within=8)


async def test_a_container_that_ends_while_containerd_is_down_is_noticed(
    world: World, cluster: Cluster
) -> None:
    mounts = [{"name": "run", "mountPath": "/run"}]
    await cluster.run(
        "quiet",
        container("until test -e /run/quiet; do sleep 0.05; done", volumeMounts=mounts),
        volumes=[{"name": "run", "hostPath": {"path": "/run"}}],
        restartPolicy="Never",
    )
    await cluster.running("quiet")
    world.kill("containerd")
    Path(world.inside("/run/quiet")).touch()
    world.start_containerd()
    assert phase(await cluster.finished("quiet")) == "Succeeded"


async def test_an_api_server_that_is_killed(world: World, cluster: Cluster) -> None:
    await cluster.run("crasher", container("sleep 0.3; exit 1"))
    await cluster.run("steady")
    await cluster.until("crasher", lambda pod: status_of(pod)["restartCount"] == 1)
    before = await cluster.running("steady")
    world.kill("apiserver")
    world.start_api_server()

    async def renewed() -> bool:
        lease = await cluster.client.get(LEASES, NODE, "kube-node-lease")
        return bool(lease["spec"]["renewTime"])

    await cluster.until("crasher", lambda pod: waiting(pod) == "CrashLoopBackOff")
    assert await renewed()
    await cluster.run("later")
    await cluster.running("later")
    assert status_of(await cluster.pod("steady")) == status_of(before)


async def test_the_network_decides_whether_the_node_is_ready(world: World, cluster: Cluster) -> None:
    async def readiness() -> tuple[str, str]:
        node = await cluster.client.get(NODES, NODE)
        found = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
        return found["status"], found["message"]

    world.kill("kubelet")
    world.write_cni(there=False)
    world.kill("containerd")
    world.start_containerd()
    world.wait_for_containerd()
    world.start_kubelet()

    async def not_ready() -> bool:
        return (await readiness())[0] == "False"

    await eventually(not_ready, what="NotReady without a network")
    _, message = await readiness()
    assert message.startswith(
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady"
    )
    world.write_cni()

    async def ready() -> bool:
        return await readiness() == ("True", "kubelet is posting ready status")

    await eventually(ready, within=3, what="Ready with a network")


async def test_random_kills_leave_nothing_behind(world: World, cluster: Cluster) -> None:
    chance = random.Random(7)
    uids: list[str] = []
    end = time.monotonic() + 6

    async def churn(number: int) -> None:
        for count in itertools.count():
            if time.monotonic() > end:
                return
            name = f"p{number}-{count}"
            script = "sleep 0.2; exit 1" if chance.random() < 0.3 else LOOP
            uids.append(
                meta.uid(await cluster.run(name, container(script), automountServiceAccountToken=True))
            )
            await asyncio.sleep(chance.random())
            await cluster.delete(name)

    async def kill() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(0.2 + chance.random() / 2)
            victims = chance.choice([["kubelet"], ["containerd"], ["kubelet", "containerd"]])
            for name in victims:
                await asyncio.to_thread(world.kill, name)
            if "containerd" in victims:
                world.start_containerd()
            if "kubelet" in victims:
                await asyncio.to_thread(world.start_kubelet)

    await asyncio.gather(churn(1), churn(2), kill())

    async def all_gone() -> bool:
        return not (await cluster.client.list(PODS, cluster.namespace)).items

    await eventually(all_gone, what="all Pods are gone from the API")
    assert len(uids) > 5

    def clean() -> bool:
        return not any(traces(cluster, uid) for uid in uids)

    await eventually(clean, within=40, what="nothing is left of any of them")
