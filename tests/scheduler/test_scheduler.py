"""The scheduler at work on a real API server; nodes and Pods are objects only."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from apiserver.api_server import Running, running, write_kubeconfig
from buoy import scheduler
from buoy.api import meta, pods
from buoy.api.meta import Object
from buoy.api.resource import CORE_EVENTS, NODES, PODS, SERVICE_ACCOUNTS
from buoy.client import Client
from eventual import eventually


class World:
    def __init__(self, server: Running, client: Client) -> None:
        self.client = client
        self._options = scheduler.Options(str(write_kubeconfig(server, "system:kube-scheduler")))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(scheduler.run(self._options))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def node(self, name: str, **allocatable: str) -> None:
        await self.client.create(NODES, {"metadata": {"name": name}})
        found = {"cpu": "4", "memory": "8Gi", "pods": "110", **allocatable}
        await self.client.patch(NODES, name, "", {"status": {"allocatable": found}}, subresource="status")
        # A node that registers is tainted until it is known to be ready.
        await self.client.patch(NODES, name, "", {"spec": {"taints": None}})

    async def pod(self, name: str, cpu: str = "", **spec: Any) -> Object:
        container: Object = {"name": "c", "image": "i"}
        if cpu:
            container["resources"] = {"requests": {"cpu": cpu}}
        obj = {
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": [container], **spec},
        }
        return await self.client.create(PODS, obj)

    async def places(self) -> dict[str, str]:
        found = (await self.client.list(PODS, "default")).items
        return {meta.name(each): each["spec"].get("nodeName", "") for each in found}

    async def bound(self, name: str, within: float = 10) -> str:
        async def place() -> str:
            return (await self.places())[name]

        return str(await eventually(place, within=within))

    async def condition(self, name: str) -> Object:
        return pods.condition(await self.client.get(PODS, name, "default"), "PodScheduled") or {}

    async def refused(self, name: str, *, message: str = "") -> Object:
        async def said() -> Object | None:
            found = await self.condition(name)
            return found if found.get("status") == "False" and message in found.get("message", "") else None

        return dict(await eventually(said))

    async def events(self, reason: str) -> list[str]:
        found = (await self.client.list(CORE_EVENTS, "default")).items
        return [each["message"] for each in found if each["reason"] == reason]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as server, Client.from_kubeconfig(server.kubeconfig) as client:
        await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
        world = World(server, client)
        world.start()
        try:
            yield world
        finally:
            await world.stop()


async def test_a_pod_is_bound(world: World) -> None:
    await world.node("node-1")
    await world.pod("p")
    assert await world.bound("p") == "node-1"
    assert (await world.condition("p"))["status"] == "True"
    await eventually(lambda: world.events("Scheduled"))
    assert await world.events("Scheduled") == ["Successfully assigned default/p to node-1"]


async def test_what_fits_nowhere_says_why_and_waits(world: World) -> None:
    await world.node("small", cpu="1")
    await world.pod("p", cpu="2")
    message = (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: "
        "0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )
    condition = await world.refused("p", message="Insufficient cpu")
    assert (condition["reason"], condition["message"]) == ("Unschedulable", message)
    await eventually(lambda: world.events("FailedScheduling"))
    assert message in await world.events("FailedScheduling")
    await world.node("large")
    assert await world.bound("p") == "large"


async def test_room_that_becomes_free_is_used(world: World) -> None:
    await world.node("node-1", cpu="2")
    await world.pod("first", cpu="2")
    await world.bound("first")
    await world.pod("second", cpu="2")
    condition = await world.refused("second", message="Insufficient cpu")
    assert condition["message"].endswith("1 No preemption victims found for incoming pod.")
    await world.client.delete(PODS, "first", "default", grace_period=0)
    assert await world.bound("second") == "node-1"


async def test_a_cordon_and_its_end(world: World) -> None:
    await world.node("node-1")
    await world.client.patch(NODES, "node-1", "", {"spec": {"unschedulable": True}})
    await world.pod("p")
    await world.refused("p", message="node(s) were unschedulable")
    await world.client.patch(NODES, "node-1", "", {"spec": {"unschedulable": None}})
    await world.bound("p")


async def test_gates_hold_a_pod_back(world: World) -> None:
    await world.node("node-1")
    await world.pod("p", schedulingGates=[{"name": "example.com/wait"}])
    condition = await world.refused("p")
    assert condition["reason"] == "SchedulingGated"
    await world.pod("other")
    await world.bound("other")
    assert (await world.places())["p"] == ""
    await world.client.patch(PODS, "p", "default", {"spec": {"schedulingGates": None}})
    await world.bound("p")


async def test_pods_of_another_scheduler_are_left_to_it(world: World) -> None:
    await world.node("node-1")
    await world.pod("theirs", schedulerName="another")
    await world.pod("ours")
    await world.bound("ours")
    assert (await world.places())["theirs"] == ""


async def test_a_scheduler_that_dies_at_any_moment_overcommits_nothing(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.node(name, cpu="4")
    names = [f"p{number:02}" for number in range(60)]
    making = asyncio.gather(*(world.pod(name, cpu="250m") for name in names))
    for step in range(5):
        await asyncio.sleep(0.01 * step)  # the moment is the point, not the wait
        await world.stop()
        world.start()
    await making

    async def full() -> bool:
        return sum(bool(node) for node in (await world.places()).values()) >= 48

    await eventually(full)
    left = [name for name, node in (await world.places()).items() if not node]
    for name in left:
        await world.refused(name, message="3 Insufficient cpu")
    assert Counter((await world.places()).values()) == {"a": 16, "b": 16, "c": 16, "": 12}
