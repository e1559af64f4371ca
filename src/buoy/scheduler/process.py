"""The scheduler's process: one line of Pods, decided one after the other, bound several at a time."""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid
from typing import Any

from buoy.api import meta, pods, taints
from buoy.api.meta import Object
from buoy.api.resource import NODES, PODS
from buoy.api.status import StatusError
from buoy.client import Client, EventRecorder, Informer, lead

from .binder import BindingFailed, VolumeBinder
from .decide import schedule, unfit
from .state import ClusterState, PodInfo
from .volumes import Choice, PodVolumes, Unfit
from .waiting import WaitingPods

log = logging.getLogger(__name__)

_BINDINGS = 32
_GATED = "Scheduling is blocked due to non-empty scheduling gates"


async def run(kubeconfig: str, scheduler_name: str, *, leader_elect: bool) -> None:
    async with Client.from_kubeconfig(kubeconfig, user_agent="buoy-scheduler") as client:

        async def work() -> None:
            await Scheduler(client, scheduler_name).run()

        if leader_elect:
            await lead(client, "kube-scheduler", f"{socket.gethostname()}_{uuid.uuid4()}", work)
        else:
            await work()


class Scheduler:
    def __init__(self, client: Client, name: str = "default-scheduler") -> None:
        self._client = client
        self._name = name
        self._events = EventRecorder(client, name)
        self._state = ClusterState()
        self._waiting = WaitingPods()
        self._slots = asyncio.Semaphore(_BINDINGS)
        self._binder = VolumeBinder(client, self._waiting.cluster_changed)
        self._volume_waits: dict[str, asyncio.Task[None]] = {}
        self._nodes = Informer(client, NODES)
        self._pods = Informer(client, PODS)
        self._nodes.subscribe(self._on_node)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for informer in (self._nodes, self._pods):
                group.create_task(informer.run())
            group.create_task(self._events.run())
            # Until all Pods are known, a node looks emptier than it is.
            await self._nodes.synced()
            await self._pods.synced()
            while True:
                key = await self._waiting.next()
                await self._decide(key, group)
                await asyncio.sleep(0)

    # What changes

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        self._state.set_node(meta.name(new or old or {}), new)
        if new is not None and (old is None or _matters(old) != _matters(new)):
            self._waiting.cluster_changed()

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                self._waiting.remove(meta.key(old))
                self._left(old)
            return
        key = meta.key(new)
        if new["spec"].get("nodeName"):
            self._waiting.remove(key)
            arrived = old is None or not old["spec"].get("nodeName")
            if pods.is_terminal(new):
                if old is None or not pods.is_terminal(old):
                    self._left(new)
                return
            if old is None or arrived or _counts_differently(old, new):
                self._state.set_pod(new)
                self._waiting.cluster_changed()  # somebody may want to be near it
            return
        if self._is_ours(new):
            if old is None or old["spec"] != new["spec"] or meta.labels(old) != meta.labels(new):
                self._waiting.add(key, int(new["spec"].get("priority") or 0))
        else:
            self._waiting.remove(key)

    def _left(self, pod: Object) -> None:
        wait = self._volume_waits.pop(meta.uid(pod), None)
        if wait is not None:
            wait.cancel()
        placed = self._state.is_placed(meta.uid(pod))
        self._state.remove_pod(meta.uid(pod))
        if placed:
            self._waiting.cluster_changed()

    def _is_ours(self, pod: Object) -> bool:
        return (
            pod["spec"].get("schedulerName", "default-scheduler") == self._name
            and not meta.is_terminating(pod)
            and not pods.is_terminal(pod)
        )

    # What is done about it

    async def _decide(self, key: str, group: asyncio.TaskGroup) -> None:
        pod = self._pods.get(key)
        if pod is None or pod["spec"].get("nodeName") or not self._is_ours(pod):
            self._waiting.remove(key)
            return
        if self._state.is_placed(meta.uid(pod)):
            return
        if pod["spec"].get("schedulingGates"):
            group.create_task(self._report(pod, "SchedulingGated", _GATED))
            return  # the change that takes the gates away brings it back
        info = PodInfo(pod)
        volumes: PodVolumes | None = None
        nodes = self._state.nodes()
        try:
            if info.claims:
                await self._binder.ready(group)
                nodes = self._state.nodes()  # they may have changed meanwhile
                volumes = self._binder.examine(pod, self._state.claim_users)
        except Unfit as error:
            decision = unfit(info, nodes, str(error))
        else:
            decision = schedule(info, nodes, volumes)
        if decision.node is None:
            self._waiting.unschedulable(key)
            self._events.event(pod, "Warning", "FailedScheduling", decision.message)
            group.create_task(self._report(pod, "Unschedulable", decision.message))
            return
        node = self._state.node(decision.node)
        choice = volumes.choose(node) if volumes is not None and node is not None else None
        self._state.assume(info, decision.node)
        if choice and node is not None:
            self._binder.promise(choice)
            task = group.create_task(self._bind_with_volumes(key, pod, node, choice))
            self._volume_waits[meta.uid(pod)] = task
            return
        await self._slots.acquire()
        group.create_task(self._bind(key, pod, decision.node))

    async def _bind_with_volumes(self, key: str, pod: Object, node: Object, choice: Choice) -> None:
        """The volumes first: that may take long, and others are not to wait for it."""
        try:
            await self._binder.bind(choice, node)
        except (BindingFailed, StatusError, OSError) as error:
            self._state.give_up(meta.uid(pod))
            if not (isinstance(error, StatusError) and error.code in (404, 409)):
                message = f'running PreBind plugin "VolumeBinding": binding volumes: {error}'
                log.warning("%s: %s", key, message)
                self._events.event(pod, "Warning", "FailedScheduling", message)
            self._waiting.failed(key)
            return
        finally:
            self._volume_waits.pop(meta.uid(pod), None)
            self._binder.release(choice)
        await self._slots.acquire()
        await self._bind(key, pod, meta.name(node))

    async def _bind(self, key: str, pod: Object, node: str) -> None:
        binding: Object = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta.name(pod), "namespace": meta.namespace(pod), "uid": meta.uid(pod)},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._client.create(PODS, binding, subresource="binding", name=meta.name(pod))
        except (StatusError, OSError) as error:
            # Had it been bound after all, the next attempt is refused, and the cache shows where it is.
            self._state.give_up(meta.uid(pod))
            if not (isinstance(error, StatusError) and error.code in (404, 409)):
                log.warning("binding %s to %s: %s", key, node, error)
                self._events.event(pod, "Warning", "FailedScheduling", f"binding rejected: {error}")
            self._waiting.failed(key)
        else:
            message = f"Successfully assigned {key} to {node}"
            self._events.event(pod, "Normal", "Scheduled", message)
        finally:
            self._slots.release()

    async def _report(self, pod: Object, reason: str, message: str) -> None:
        """The condition PodScheduled, if it does not say so already."""
        current = pods.condition(pod, "PodScheduled") or {}
        if current.get("status") == "False" and (current.get("reason"), current.get("message")) == (
            reason,
            message,
        ):
            return
        since = current.get("lastTransitionTime") if current.get("status") == "False" else None
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "observedGeneration": pod["metadata"].get("generation", 0),
            "lastTransitionTime": since or meta.now(),
            "reason": reason,
            "message": message,
        }
        # The version guards against a report that comes in after the Pod has been bound.
        guard = {"uid": meta.uid(pod), "resourceVersion": pod["metadata"]["resourceVersion"]}
        patch: Object = {"metadata": guard, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(
                PODS, meta.name(pod), meta.namespace(pod), patch, type="strategic", subresource="status"
            )
        except (StatusError, OSError) as error:
            if not (isinstance(error, StatusError) and error.code in (404, 409)):
                log.warning("%s: cannot report that it is unschedulable: %s", meta.key(pod), error)


def _matters(node: Object) -> tuple[Any, ...]:
    """What of a node decides where Pods can go: not its heartbeats."""
    return (
        meta.labels(node),
        taints.of(node),
        (node.get("spec") or {}).get("unschedulable"),
        (node.get("status") or {}).get("allocatable"),
    )


def _counts_differently(old: Object, new: Object) -> bool:
    return (
        old["spec"] != new["spec"]
        or meta.labels(old) != meta.labels(new)
        or meta.is_terminating(old) != meta.is_terminating(new)
    )
