"""The thin half: writes revisions and Pods as planned."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from buoy.api import meta, taints
from buoy.api.meta import Object
from buoy.api.resource import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .. import history
from ..context import Context
from ..expectations import TIMEOUT
from ..informers import CONTROLLER
from ..namespace import is_namespace_terminating
from ..podcontrol import PodControl
from .plan import HASH_LABEL, plan, pod_for, status

_BURST = 250


class DaemonSetController:
    name: ClassVar[str] = "daemonset-controller"
    resources: ClassVar[tuple[Resource, ...]] = (DAEMON_SETS, PODS, NODES, CONTROLLER_REVISIONS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.options.concurrent_syncs
        self._queue = WorkQueue()
        self._sets = context.informers.of(DAEMON_SETS)
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.owned(PODS)
        recorder = context.recorder("daemonset-controller")
        self._control = PodControl(context.client, DAEMON_SETS, self._pods, recorder)
        self._revisions = context.informers.owned(CONTROLLER_REVISIONS)
        self._sets.subscribe(self._on_set)
        self._nodes.subscribe(self._on_node)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=self._workers, name=self.name)

    def _on_set(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            self._control.expectations.forget(meta.key(old))
        self._queue.add(meta.key(new or old or {}))

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or _matters(old) != _matters(new):
            for each in self._sets.items():
                self._queue.add(meta.key(each))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        for key in self._control.observe(old, new):
            self._queue.add(key)

    async def reconcile(self, key: str) -> None:
        daemon_set = self._sets.get(key)
        if daemon_set is None:
            return
        revisions = self._revisions.by_index(CONTROLLER, meta.uid(daemon_set))
        if not await self._control.is_certain(daemon_set):
            self._queue.add_after(key, 0.1)
            return
        if not self._control.expectations.satisfied(key):
            self._queue.add_after(key, TIMEOUT)
            return
        owned = await self._control.claim(daemon_set)
        before = history.plan(daemon_set, revisions, HASH_LABEL)
        hashes = {meta.labels(each).get(HASH_LABEL, "") for each in owned}
        used = {meta.name(daemon_set) + "-" + each for each in hashes} | {meta.name(before.update)}
        limit = daemon_set["spec"].get("revisionHistoryLimit", 10)
        try:
            update = await history.write(self._client, before, history.superfluous(revisions, used, limit))
        except history.NameTaken:
            found = daemon_set.get("status") or {}
            await self._report(daemon_set, {**found, "collisionCount": found.get("collisionCount", 0) + 1})
            return
        except StatusError as error:
            if is_namespace_terminating(error):
                return
            raise
        short = meta.labels(update).get(HASH_LABEL, "")
        nodes = list(self._nodes.items())
        now = datetime.datetime.now(datetime.UTC)
        todo = plan(daemon_set, owned, nodes, short, now)
        deleted = await self._control.delete(daemon_set, todo.delete)
        bodies = [pod_for(daemon_set, each, short) for each in todo.create[:_BURST]]
        created = await self._control.create(daemon_set, bodies)
        await self._report(daemon_set, status(daemon_set, owned, nodes, short, now))
        if todo.wait is not None:
            self._queue.add_after(key, todo.wait)
        for refused in (deleted.refused, created.refused):
            if refused is not None:
                raise refused

    async def _report(self, daemon_set: Object, wanted: Object) -> None:
        if wanted != (daemon_set.get("status") or {}):
            await self._client.update(DAEMON_SETS, {**daemon_set, "status": wanted}, subresource="status")


def _matters(node: Object) -> tuple[Any, ...]:
    return meta.labels(node), taints.of(node)
