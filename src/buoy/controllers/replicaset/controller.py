"""The thin half: creates and deletes Pods as planned, and reports."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import ClassVar

from buoy.api import meta, pods, selectors
from buoy.api.meta import Object
from buoy.api.resource import PODS, REPLICA_SETS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from ..context import Context
from ..expectations import TIMEOUT
from ..informers import CONTROLLER
from ..podcontrol import PodControl
from .plan import Failure, Plan, conditions, plan, pod, status

_LOOK_AGAIN = 0.1


class ReplicaSetController:
    name: ClassVar[str] = "replicaset-controller"
    resources: ClassVar[tuple[Resource, ...]] = (REPLICA_SETS, PODS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.options.concurrent_syncs
        self._queue = WorkQueue()
        self._sets = context.informers.owned(REPLICA_SETS)
        self._pods = context.informers.owned(PODS)
        recorder = context.recorder("replicaset-controller")
        self._control = PodControl(context.client, REPLICA_SETS, self._pods, recorder)
        self._sets.subscribe(self._on_set)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=self._workers, name=self.name)

    def _on_set(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is None:
            self._control.expectations.forget(meta.key(old))
        self._queue.add(meta.key(new or old or {}))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        for key in self._control.observe(old, new):
            self._queue.add(key)
        if new is not None and meta.controller_of(new) is None:
            for each in self._sets.items():
                if meta.namespace(each) == meta.namespace(new) and selectors.from_object(
                    each["spec"].get("selector")
                ).matches(meta.labels(new)):
                    self._queue.add(meta.key(each))

    async def reconcile(self, key: str) -> None:
        replica_set = self._sets.get(key)
        if replica_set is None:
            self._control.expectations.forget(key)
            return
        if not await self._control.is_certain(replica_set):
            self._queue.add_after(key, _LOOK_AGAIN)
            return
        settled = self._control.expectations.satisfied(key)
        own = await self._control.claim(replica_set, pods.is_active)
        active = [each for each in own if pods.is_active(each)]
        terminating = sum(meta.is_terminating(each) and not pods.is_terminal(each) for each in own)
        now = datetime.datetime.now(datetime.UTC)
        error: StatusError | None = None
        if settled:
            todo = plan(replica_set, active, self._related(replica_set, own), now)
            error = await self._carry_out(replica_set, todo)
            reason = "FailedCreate" if todo.create else "FailedDelete"
            found = conditions(replica_set, Failure(reason, str(error)) if error else None, now)
        else:
            self._queue.add_after(key, TIMEOUT)
            found = (replica_set.get("status") or {}).get("conditions") or []
        wanted, wait = status(replica_set, active, terminating, found, now)
        if wanted != (replica_set.get("status") or {}):
            await self._client.update(REPLICA_SETS, {**replica_set, "status": wanted}, subresource="status")
        if wait is not None:
            self._queue.add_after(key, wait)
        if error is not None:
            raise error

    def _related(self, replica_set: Object, own: Sequence[Object]) -> list[Object]:
        owner = meta.controller_of(replica_set)
        if owner is None:
            return list(own)
        return [
            pod
            for sibling in self._sets.by_index(CONTROLLER, owner["uid"])
            for pod in self._pods.by_index(CONTROLLER, meta.uid(sibling))
        ]

    async def _carry_out(self, replica_set: Object, todo: Plan) -> StatusError | None:
        if todo.create:
            body = pod(replica_set, replica_set["spec"]["template"])
            return (await self._control.create(replica_set, [body] * todo.create)).refused
        return (await self._control.delete(replica_set, todo.delete)).refused
