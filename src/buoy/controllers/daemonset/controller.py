"""The thin half: writes revisions and Pods as planned."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from typing import Any, ClassVar

from buoy.api import meta, selectors, taints
from buoy.api.meta import Object
from buoy.api.resource import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .. import history, ownership
from ..context import Context
from ..expectations import TIMEOUT, Expectations
from ..informers import CONTROLLER, ORPHANS
from ..namespace import is_namespace_terminating
from ..replicaset.controller import slow_start
from .plan import HASH_LABEL, plan, pod_for, status

_BURST = 250


class DaemonSetController:
    name: ClassVar[str] = "daemonset-controller"
    resources: ClassVar[tuple[Resource, ...]] = (DAEMON_SETS, PODS, NODES, CONTROLLER_REVISIONS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.options.concurrent_syncs
        self._events = context.recorder("daemonset-controller")
        self._queue = WorkQueue()
        self._expectations = Expectations()
        self._sets = context.informers.of(DAEMON_SETS)
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.owned(PODS)
        self._revisions = context.informers.owned(CONTROLLER_REVISIONS)
        self._sets.subscribe(self._on_set)
        self._nodes.subscribe(self._on_node)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=self._workers, name=self.name)

    def _on_set(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            self._expectations.forget(meta.key(old))
        self._queue.add(meta.key(new or old or {}))

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or _matters(old) != _matters(new):
            for each in self._sets.items():
                self._queue.add(meta.key(each))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            owner = meta.controller_of(obj) if obj is not None else None
            if obj is None or owner is None or owner["kind"] != DAEMON_SETS.kind:
                continue
            key = f"{meta.namespace(obj)}/{owner['name']}"
            if old is None:
                self._expectations.created(key)
            if new is None or meta.is_terminating(new):
                self._expectations.deleted(key, meta.uid(obj))
            self._queue.add(key)

    async def reconcile(self, key: str) -> None:
        daemon_set = self._sets.get(key)
        if daemon_set is None:
            return
        revisions = self._revisions.by_index(CONTROLLER, meta.uid(daemon_set))
        if self._expectations.in_doubt(key) and not await self._is_certain(daemon_set):
            self._queue.add_after(key, 0.1)
            return
        if not self._expectations.satisfied(key):
            self._queue.add_after(key, TIMEOUT)
            return
        owned = await self._claim(daemon_set)
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
        self._expectations.expect_deletions(key, map(meta.uid, todo.delete))
        await asyncio.gather(*(self._delete(key, daemon_set, each) for each in todo.delete))
        refused = await self._create(key, daemon_set, todo.create[:_BURST], short)
        await self._report(daemon_set, status(daemon_set, owned, nodes, short, now))
        if todo.wait is not None:
            self._queue.add_after(key, todo.wait)
        if refused is not None:
            raise refused

    async def _is_certain(self, daemon_set: Object) -> bool:
        """After a creation without an answer: whether the cache has all that the server has."""
        selector = str(selectors.from_object(daemon_set["spec"].get("selector")))
        live = await self._client.list(PODS, meta.namespace(daemon_set), label_selector=selector)
        known = {meta.uid(each) for each in self._pods.by_index(CONTROLLER, meta.uid(daemon_set))}
        for each in live.items:
            owner = meta.controller_of(each)
            if owner is not None and owner["uid"] == meta.uid(daemon_set) and meta.uid(each) not in known:
                return False
        self._expectations.forget(meta.key(daemon_set))
        return True

    async def _claim(self, daemon_set: Object) -> list[Object]:
        candidates = [
            *self._pods.by_index(CONTROLLER, meta.uid(daemon_set)),
            *self._pods.by_index(ORPHANS, meta.namespace(daemon_set)),
        ]
        selector = selectors.from_object(daemon_set["spec"].get("selector"))
        found = ownership.claim(daemon_set, candidates, selector)
        return await ownership.settle(self._client, DAEMON_SETS, daemon_set, PODS, found)

    async def _create(
        self, key: str, daemon_set: Object, nodes: Sequence[str], short: str
    ) -> StatusError | None:
        self._expectations.expect_creations(key, len(nodes))
        waiting = iter(nodes)

        async def create() -> None:
            try:
                made = await self._client.create(PODS, pod_for(daemon_set, next(waiting), short))
            except StatusError as error:
                self._expectations.created(key)
                if is_namespace_terminating(error):
                    return
                self._events.event(daemon_set, "Warning", "FailedCreate", f"Error creating: {error}")
                raise
            except OSError:
                self._expectations.doubt(key)
                raise
            self._events.event(daemon_set, "Normal", "SuccessfulCreate", f"Created pod: {meta.name(made)}")

        done, error = await slow_start(len(nodes), create)
        self._expectations.created(key, len(nodes) - done)
        return error

    async def _delete(self, key: str, daemon_set: Object, obj: Object) -> None:
        try:
            await self._client.delete(PODS, meta.name(obj), meta.namespace(obj), uid=meta.uid(obj))
        except (StatusError, OSError) as error:
            self._expectations.deleted(key, meta.uid(obj))
            if isinstance(error, StatusError) and error.code in (404, 409):
                return
            self._events.event(daemon_set, "Warning", "FailedDelete", f"Error deleting: {error}")
            raise
        self._events.event(daemon_set, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(obj)}")

    async def _report(self, daemon_set: Object, wanted: Object) -> None:
        if wanted != (daemon_set.get("status") or {}):
            await self._client.update(DAEMON_SETS, {**daemon_set, "status": wanted}, subresource="status")


def _matters(node: Object) -> tuple[Any, ...]:
    return meta.labels(node), taints.of(node)
