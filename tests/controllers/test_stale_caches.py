"""A cache that shows nothing of what was just written must not make a controller write it again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from apiserver.api_server import running
from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    JOBS,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from buoy.client import Client, ConnectionFailed
from buoy.controllers.context import Context
from buoy.controllers.deployment import DeploymentController
from buoy.controllers.discovery import discover
from buoy.controllers.endpointslice import EndpointSliceController
from buoy.controllers.informers import Informers
from buoy.controllers.job import JobController
from buoy.controllers.nodeipam import NodeIPAMController, pod_cidrs
from buoy.controllers.options import Options
from buoy.controllers.replicaset import ReplicaSetController
from eventual import eventually

from .objects import template

OPTIONS = Options("", cluster_cidrs=("10.244.0.0/16",))


class Deaf(Client):
    """Its requests get there; the answers to creations are lost while *deaf*."""

    deaf = False

    async def create(self, resource: Resource, *arguments: Any, **more: Any) -> Object:
        answer = await super().create(resource, *arguments, **more)
        if self.deaf and resource in (PODS, ENDPOINT_SLICES):
            raise ConnectionFailed("no answer")
        return answer


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Deaf]:
    async with running(tmp_path) as server, Deaf.from_kubeconfig(server.kubeconfig) as client:
        await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
        yield client


@pytest.fixture
async def context(client: Client) -> Context:
    return Context(client, client, await discover(client), Informers(client), OPTIONS)


@contextlib.asynccontextmanager
async def following(context: Context, *resources: Resource) -> AsyncIterator[None]:
    """Only the caches of *resources* follow the server."""
    tasks = [asyncio.create_task(context.informers.of(each).run()) for each in resources]
    for each in resources:
        await context.informers.of(each).synced()
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def count(client: Client, resource: Resource) -> int:
    return len((await client.list(resource, "default")).items)


def replica_set(replicas: int) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
        },
    }


async def test_pods_are_created_once(client: Client, context: Context) -> None:
    await client.create(REPLICA_SETS, replica_set(3))
    controller = ReplicaSetController(context)
    async with following(context, REPLICA_SETS):
        await controller.reconcile("default/web")
        await controller.reconcile("default/web")
    assert await count(client, PODS) == 3


async def test_pods_whose_creation_was_not_answered_are_created_once(client: Deaf, context: Context) -> None:
    await client.create(REPLICA_SETS, replica_set(4))
    controller = ReplicaSetController(context)
    async with following(context, REPLICA_SETS):
        client.deaf = True
        with pytest.raises(ConnectionFailed):
            await controller.reconcile("default/web")
        made = await count(client, PODS)
        assert 0 < made < 4
        await controller.reconcile("default/web")
        assert await count(client, PODS) == made
        client.deaf = False
        async with following(context, PODS):
            await controller.reconcile("default/web")
    assert await count(client, PODS) == 4


async def test_pods_are_deleted_once(client: Client, context: Context) -> None:
    await client.create(REPLICA_SETS, replica_set(4))
    controller = ReplicaSetController(context)
    async with following(context, REPLICA_SETS):
        async with following(context, PODS):
            await controller.reconcile("default/web")
            while len(context.informers.of(PODS).items()) < 4:
                await asyncio.sleep(0.01)
        for replicas in (2, 2):
            patched = await client.patch(REPLICA_SETS, "web", "default", {"spec": {"replicas": replicas}})
            version = patched["metadata"]["resourceVersion"]
            while (
                context.informers.of(REPLICA_SETS).get("default/web")["metadata"]["resourceVersion"] < version
            ):
                await asyncio.sleep(0.01)
            with contextlib.suppress(Exception):
                await controller.reconcile("default/web")
    assert await count(client, PODS) == 2


async def test_one_replica_set_a_template(client: Client, context: Context) -> None:
    made = replica_set(2)
    await client.create(DEPLOYMENTS, made)
    controller = DeploymentController(context)
    async with following(context, DEPLOYMENTS):
        await controller.reconcile("default/web")
        with contextlib.suppress(Exception):
            await controller.reconcile("default/web")
    (found,) = (await client.list(REPLICA_SETS, "default")).items
    assert "collisionCount" not in (await client.get(DEPLOYMENTS, "web", "default"))["status"]
    assert meta.name(found).startswith("web-")


@pytest.mark.parametrize("deaf", [False, True])
async def test_slices_are_created_once(client: Deaf, context: Context, deaf: bool) -> None:
    await client.create(
        SERVICES,
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        },
    )
    controller = EndpointSliceController(context)
    async with following(context, SERVICES):
        client.deaf = deaf
        with contextlib.suppress(ConnectionFailed):
            await controller.reconcile("default/web")
        client.deaf = False
        with contextlib.suppress(ConnectionFailed):
            await controller.reconcile("default/web")
    found = await client.list(ENDPOINT_SLICES, "default", label_selector="kubernetes.io/service-name=web")
    assert len(found.items) == 1


async def test_no_range_is_given_twice(client: Client, context: Context) -> None:
    controller = NodeIPAMController(context)
    for name in ("one", "two"):
        await client.create(NODES, {"metadata": {"name": name}})
    async with following(context, NODES):
        pass
    for _ in range(2):
        for name in ("one", "two"):
            await controller.reconcile(name)
    ranges = [str(pod_cidrs(each)) for each in (await client.list(NODES)).items]
    assert len(set(ranges)) == 2


def job(completions: int) -> Object:
    made = template()
    made["spec"]["restartPolicy"] = "Never"
    spec = {"template": made, "completions": completions, "parallelism": 1}
    return {"metadata": {"name": "work", "namespace": "default"}, "spec": spec}


async def succeed(client: Client, context: Context) -> None:
    """The only Pod ends well, and the cache of Pods shows it."""
    (pod,) = (await client.list(PODS, "default")).items
    status = {"status": {"phase": "Succeeded"}}
    await client.patch(PODS, meta.name(pod), "default", status, subresource="status")

    def shown() -> bool:
        found = context.informers.of(PODS).get(meta.key(pod)) or {}
        return bool((found.get("status") or {}).get("phase") == "Succeeded")

    await eventually(shown)


async def until_shown(client: Client, context: Context) -> None:
    """The cache of Jobs has what the server has."""
    version = (await client.get(JOBS, "work", "default"))["metadata"]["resourceVersion"]

    def shown() -> bool:
        found = context.informers.of(JOBS).get("default/work")
        return found is not None and bool(found["metadata"]["resourceVersion"] == version)

    await eventually(shown)


async def succeeded(client: Client) -> int:
    return int((await client.get(JOBS, "work", "default"))["status"].get("succeeded") or 0)


async def test_an_end_that_the_cache_of_pods_still_shows_is_not_counted_again(
    client: Client, context: Context
) -> None:
    await client.create(JOBS, job(5))
    controller = JobController(context)
    async with following(context, JOBS):
        async with following(context, PODS):
            await controller.reconcile("default/work")
            await succeed(client, context)
        for _ in range(3):
            await controller.reconcile("default/work")
            await until_shown(client, context)
    assert await succeeded(client) == 1


async def test_a_pod_whose_count_the_cache_of_jobs_does_not_show_is_not_replaced(
    client: Client, context: Context
) -> None:
    await client.create(JOBS, job(1))
    controller = JobController(context)
    async with following(context, PODS):
        async with following(context, JOBS):
            await controller.reconcile("default/work")
            await succeed(client, context)
            await until_shown(client, context)
        await controller.reconcile("default/work")
        (pod,) = (await client.list(PODS, "default")).items
        assert not pod["metadata"].get("finalizers")

        def shown() -> bool:
            return not context.informers.of(PODS).get(meta.key(pod))["metadata"].get("finalizers")

        await eventually(shown)
        await controller.reconcile("default/work")
    assert await count(client, PODS) == 1
    assert await succeeded(client) == 1
