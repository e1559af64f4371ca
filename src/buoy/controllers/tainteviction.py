"""The taint-eviction controller: Pods leave nodes when they do not tolerate a NoExecute taint any longer."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import ClassVar

from buoy.api import meta, taints
from buoy.api.meta import Object
from buoy.api.resource import NODES, PODS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .context import Context
from .podgc import by_node, disrupted

_BY_NODE = "node"


def eviction_time(pod: Object, found: Sequence[Object], seen: datetime.datetime) -> datetime.datetime | None:
    """When the Pod has to leave a node with the NoExecute taints *found*, None for never.

    A taint that does not say since when it is there counts from *seen*.
    """
    leaves: datetime.datetime | None = None
    for taint in found:
        fitting = [each for each in taints.tolerations(pod) if taints.tolerates(each, taint)]
        seconds = min((_seconds(each) for each in fitting), default=0.0)
        if seconds != math.inf:
            since = meta.parse_time(taint["timeAdded"]) if taint.get("timeAdded") else seen
            # Without any toleration there is nothing to wait for, whatever the clocks say.
            moment = since + datetime.timedelta(seconds=seconds) if fitting and seconds else seen
            leaves = moment if leaves is None else min(leaves, moment)
    return leaves


def _seconds(toleration: Object) -> float:
    seconds = toleration.get("tolerationSeconds")
    return math.inf if seconds is None else max(0.0, float(seconds))


class TaintEvictionController:
    name: ClassVar[str] = "taint-eviction-controller"
    resources: ClassVar[tuple[Resource, ...]] = (NODES, PODS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._events = context.recorder("taint-eviction-controller")
        self._queue = WorkQueue()
        self._seen: dict[str, datetime.datetime] = {}
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._pods.add_index(_BY_NODE, by_node)
        self._nodes.subscribe(self._on_node)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=8, name=self.name)

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        before = taints.of(old, "NoExecute") if old is not None else []
        after = taints.of(new, "NoExecute") if new is not None else []
        if before != after:
            for pod in self._pods.by_index(_BY_NODE, meta.name(new or old or {})):
                self._queue.add(meta.key(pod))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._seen.pop(meta.key(old or {}), None)
            return
        node = self._nodes.get(new["spec"].get("nodeName") or "")
        if (old is None or by_node(old) != by_node(new)) and node and taints.of(node, "NoExecute"):
            self._queue.add(meta.key(new))

    async def reconcile(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is None or meta.is_terminating(pod):
            self._seen.pop(key, None)
            return
        node = self._nodes.get(pod["spec"].get("nodeName") or "")
        found = taints.of(node, "NoExecute") if node else []
        now = datetime.datetime.now(datetime.UTC)
        leaves = eviction_time(pod, found, self._seen.get(key, now)) if found else None
        if leaves is None:
            if self._seen.pop(key, None):
                self._tell(pod, f"Cancelling deletion of Pod {key}")
            return
        self._seen.setdefault(key, now)
        left = (leaves - now).total_seconds()
        if left > 0:
            self._queue.add_after(key, left)
            return
        await self._evict(pod)

    def _tell(self, pod: Object, message: str) -> None:
        self._events.event(pod, "Normal", "TaintManagerEviction", message)

    async def _evict(self, pod: Object) -> None:
        name, namespace = meta.name(pod), meta.namespace(pod)
        status = disrupted(
            pod,
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
            failed=False,
        )
        self._tell(pod, f"Marking for deletion Pod {meta.key(pod)}")
        try:
            if status is not None:
                patch: Object = {"metadata": {"uid": meta.uid(pod)}, "status": status}
                await self._client.patch(PODS, name, namespace, patch, type="strategic", subresource="status")
            await self._client.delete(PODS, name, namespace, uid=meta.uid(pod))
        except StatusError as error:
            if error.code not in (404, 409):
                raise
