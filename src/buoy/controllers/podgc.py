"""The pod garbage collector: Pods whose node is no more."""

from __future__ import annotations

from typing import ClassVar

from buoy.api import meta, pods
from buoy.api.meta import Object
from buoy.api.resource import NODES, PODS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .context import Context

_BY_NODE = "node"


def by_node(pod: Object) -> tuple[str, ...]:
    """Index keys: the node that a Pod is bound to."""
    node = pod["spec"].get("nodeName")
    return (node,) if node else ()


def disrupted(pod: Object, reason: str, message: str, *, failed: bool) -> Object | None:
    """The status patch that says why a Pod is being taken away, None if it says so already."""
    status = pod.get("status") or {}
    current = pods.condition(pod, "DisruptionTarget")
    said = current is not None and current.get("status") == "True" and current.get("reason") == reason
    ended = pods.is_terminal(pod) or not failed
    if said and ended:
        return None
    conditions = [each for each in status.get("conditions") or () if each["type"] != "DisruptionTarget"]
    conditions.append(
        {
            "type": "DisruptionTarget",
            "status": "True",
            "observedGeneration": pod["metadata"].get("generation", 0),
            "lastTransitionTime": meta.now(),
            "reason": reason,
            "message": message,
        }
    )
    patch: Object = {"conditions": conditions}
    if not ended:
        patch["phase"] = "Failed"
    return patch


class PodGC:
    name: ClassVar[str] = "pod-garbage-collector-controller"
    resources: ClassVar[tuple[Resource, ...]] = (PODS, NODES)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._quarantine = context.options.pod_gc_quarantine
        self._queue = WorkQueue()
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._pods.add_index(_BY_NODE, by_node)
        self._missing: set[str] = set()
        self._nodes.subscribe(self._on_node)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        for pod in self._pods.items():
            self._check(pod)
        await self._queue.run(self.reconcile, name=self.name)

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            self._miss(meta.name(old))
        elif new is not None:
            self._missing.discard(meta.name(new))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if new is not None and self._nodes.has_synced:
            self._check(new)

    def _check(self, pod: Object) -> None:
        node = pod["spec"].get("nodeName")
        if node and self._nodes.get(node) is None:
            self._miss(node)

    def _miss(self, node: str) -> None:
        """A node that is gone may come back under the same name a moment later: wait."""
        if node not in self._missing:
            self._missing.add(node)
            self._queue.add_after(node, self._quarantine)
        elif len(self._pods.by_index(_BY_NODE, node)):
            self._queue.add_after(node, self._quarantine)

    async def reconcile(self, key: str) -> None:
        if self._nodes.get(key) is not None:
            self._missing.discard(key)
            return
        try:
            await self._client.get(NODES, key)
            return  # the cache will show it
        except StatusError as error:
            if error.code != 404:
                raise
        for pod in self._pods.by_index(_BY_NODE, key):
            await self._remove(pod)
        self._missing.discard(key)

    async def _remove(self, pod: Object) -> None:
        name, namespace = meta.name(pod), meta.namespace(pod)
        status = disrupted(pod, "DeletionByPodGC", "PodGC: node no longer exists", failed=True)
        try:
            if status is not None:
                patch: Object = {"metadata": {"uid": meta.uid(pod)}, "status": status}
                await self._client.patch(PODS, name, namespace, patch, type="strategic", subresource="status")
            await self._client.delete(PODS, name, namespace, uid=meta.uid(pod), grace_period=0)
        except StatusError as error:
            if error.code not in (404, 409):
                raise
