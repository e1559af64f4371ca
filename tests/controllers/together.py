"""The controllers and the scheduler on a real API server, with hollow nodes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from apiserver.api_server import Running, write_kubeconfig
from buoy import controllers, scheduler
from buoy.api.meta import Object
from buoy.api.resource import CORE_EVENTS, DEPLOYMENTS, PODS
from buoy.api.status import StatusError
from buoy.client import Client
from eventual import eventually

from .hollow import HollowNode
from .objects import template


class Cluster:
    def __init__(self, server: Running, client: Client) -> None:
        self.server = server
        self.client = client
        self.options = controllers.Options(
            str(write_kubeconfig(server, "system:kube-controller-manager")),
            cluster_cidrs=("10.244.0.0/16",),
            service_cidrs=("10.96.0.0/12",),
            root_ca_file=str(server.authority.certificate),
            node_monitor_grace_period=1.5,
            node_eviction_rate=100.0,
            pod_gc_quarantine=0.3,
        )
        self._controllers: asyncio.Task[None] | None = None
        self._scheduler: asyncio.Task[None] | None = None
        self.nodes: list[HollowNode] = []

    def start_controllers(self) -> None:
        self._controllers = asyncio.create_task(controllers.run(self.options))

    async def stop_controllers(self) -> None:
        await end(self._controllers)

    def start_scheduler(self) -> None:
        options = scheduler.Options(str(write_kubeconfig(self.server, "system:kube-scheduler")))
        self._scheduler = asyncio.create_task(scheduler.run(options))

    async def add_node(self, name: str, **allocatable: str) -> HollowNode:
        node = HollowNode(self.client, name, **allocatable)
        await node.start()
        self.nodes.append(node)
        return node

    async def stop(self) -> None:
        for node in self.nodes:
            await node.stop()
        await end(self._scheduler)
        await end(self._controllers)

    async def deploy(self, replicas: int = 3, **spec: Any) -> Object:
        return await self.client.create(
            DEPLOYMENTS,
            {
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": {"app": "web"}},
                    "template": template(),
                    **spec,
                },
            },
        )

    async def deployed(self, wanted: Callable[[Object], Any]) -> Object:
        found: Object = {}

        async def there() -> bool:
            nonlocal found
            found = await self.client.get(DEPLOYMENTS, "web", "default")
            return bool(wanted(found.get("status") or {}))

        try:
            await eventually(there, within=60)
        except AssertionError:
            raise AssertionError(f"the Deployment never got there: {found}") from None
        return found

    async def pods(self, **labels: str) -> list[Object]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return (await self.client.list(PODS, "default", label_selector=selector)).items

    async def events(self, reason: str) -> list[str]:
        found = await self.client.list(CORE_EVENTS, "default")
        return [each["message"] for each in found.items if each["reason"] == reason]

    async def gone(self, call: Callable[[], Awaitable[Object]], within: float = 60) -> None:
        async def missing() -> bool:
            try:
                await call()
            except StatusError as error:
                return error.code == 404
            return False

        await eventually(missing, within=within)


async def end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
