"""Nodes without machines: they register, keep their Lease, and say of Pods that they run.

What a kubelet tells the API, and nothing of what it does; so that controllers can be watched at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any

from buoy.api import meta, pods
from buoy.api.meta import Object
from buoy.api.resource import LEASES, NODES, PODS
from buoy.api.status import StatusError
from buoy.client import Client, Informer, WorkQueue

_addresses = itertools.count(1)


class HollowNode:
    """*ready* decides of each Pod whether it becomes ready; *lingering* Pods don't end when asked to.

    *exit_code* gives the code that a Pod has ended with, None as long as it runs.
    """

    def __init__(self, client: Client, name: str, **allocatable: str) -> None:
        self.client = client
        self.name = name
        self.allocatable = {"cpu": "4", "memory": "8Gi", "pods": "110", **allocatable}
        self.labels: dict[str, str] = {}
        self.ready = lambda pod: True
        self.lingering = lambda pod: False
        self.exit_code: Callable[[Object], int | None] = lambda pod: None
        self.lease_seconds = 0.2
        self._pods = Informer(client, PODS, field_selector=f"spec.nodeName={name}")
        self._queue = WorkQueue()
        self._pods.subscribe(self._on_pod)
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        await self.register()
        self._tasks = [
            asyncio.create_task(each)
            for each in (self._pods.run(), self._queue.run(self.reconcile), self.keep_lease())
        ]

    async def stop(self) -> None:
        """Power cut: nothing is said any more."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    async def register(self) -> None:
        labels = {"kubernetes.io/hostname": self.name, **self.labels}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": labels}}
        with contextlib.suppress(StatusError):
            await self.client.create(NODES, node)
        await self.report("True")

    async def report(self, ready: str) -> None:
        condition = {
            "type": "Ready",
            "status": ready,
            "reason": "KubeletReady",
            "message": "hollow",
            "lastHeartbeatTime": meta.now(),
            "lastTransitionTime": meta.now(),
        }
        pressures = [
            {**condition, "type": kind, "status": "False"}
            for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
        ]
        status = {
            "allocatable": self.allocatable,
            "capacity": self.allocatable,
            "conditions": [*pressures, condition],
        }
        await self.client.patch(NODES, self.name, "", {"status": status}, subresource="status")

    async def keep_lease(self) -> None:
        lease: Object = {"metadata": {"name": self.name, "namespace": "kube-node-lease"}}
        while True:
            spec = {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": meta.now_micro()}
            with contextlib.suppress(StatusError, OSError):
                try:
                    await self.client.patch(LEASES, self.name, "kube-node-lease", {"spec": spec})
                except StatusError as error:
                    if error.code != 404:
                        raise
                    await self.client.create(LEASES, {**lease, "spec": spec})
            await asyncio.sleep(self.lease_seconds)

    def again(self) -> None:
        """Ask `ready` and `lingering` again."""
        for pod in self._pods.items():
            self._queue.add(meta.key(pod))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add(meta.key(new))

    async def reconcile(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is None:
            return
        if meta.is_terminating(pod):
            if not self.lingering(pod):
                with contextlib.suppress(StatusError):
                    await self.client.delete(
                        PODS, meta.name(pod), meta.namespace(pod), uid=meta.uid(pod), grace_period=0
                    )
            return
        if pods.is_terminal(pod):
            return
        code = self.exit_code(pod)
        if code is not None:
            await self._say(pod, _ended(pod, code))
            return
        ready = bool(self.ready(pod))
        if pods.is_ready(pod) == ready and pods.phase(pod) == "Running":
            return
        address = (pod.get("status") or {}).get(
            "podIP"
        ) or f"10.244.{next(_addresses) // 250}.{next(_addresses) % 250 + 1}"
        conditions = [
            {"type": kind, "status": str(value), "lastTransitionTime": meta.now()}
            for kind, value in (("Initialized", True), ("ContainersReady", ready), ("Ready", ready))
        ]
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": meta.now(),
            "conditions": conditions,
        }
        await self._say(pod, status)

    async def _say(self, pod: Object, status: Object) -> None:
        """The Pod's new status; the Pod may be gone meanwhile."""
        patch = {"status": status}
        with contextlib.suppress(StatusError):
            await self.client.patch(
                PODS, meta.name(pod), meta.namespace(pod), patch, type="strategic", subresource="status"
            )


def _ended(pod: Object, code: int) -> Object:
    ended = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": meta.now()}
    return {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [
            {
                "name": each["name"],
                "image": each["image"],
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"terminated": ended},
            }
            for each in pod["spec"]["containers"]
        ],
    }
