"""The thin half: creates and deletes Pods as planned, and reports."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from buoy.api import meta, pods, selectors
from buoy.api.meta import Object
from buoy.api.resource import PODS, REPLICA_SETS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .. import ownership
from ..context import Context
from ..expectations import TIMEOUT, Expectations
from ..informers import CONTROLLER, ORPHANS
from ..namespace import is_namespace_terminating
from .plan import Failure, Plan, conditions, plan, pod, status

_LOOK_AGAIN = 0.1


class ReplicaSetController:
    name: ClassVar[str] = "replicaset-controller"
    resources: ClassVar[tuple[Resource, ...]] = (REPLICA_SETS, PODS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.options.concurrent_syncs
        self._events = context.recorder("replicaset-controller")
        self._queue = WorkQueue()
        self._expectations = Expectations()
        self._sets = context.informers.owned(REPLICA_SETS)
        self._pods = context.informers.owned(PODS)
        self._sets.subscribe(self._on_set)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=self._workers, name=self.name)

    def _on_set(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is None:
            self._expectations.forget(meta.key(old))
        self._queue.add(meta.key(new or old or {}))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            if (owner := self._owner(obj)) is not None and obj is not None:
                key = f"{meta.namespace(obj)}/{owner['name']}"
                if old is None:
                    self._expectations.created(key)
                if new is None or meta.is_terminating(new):
                    self._expectations.deleted(key, meta.uid(obj))
                self._queue.add(key)
        if new is not None and meta.controller_of(new) is None:
            for each in self._sets.items():
                if meta.namespace(each) == meta.namespace(new) and selectors.from_object(
                    each["spec"].get("selector")
                ).matches(meta.labels(new)):
                    self._queue.add(meta.key(each))

    def _owner(self, obj: Object | None) -> Object | None:
        owner = meta.controller_of(obj) if obj is not None else None
        return owner if owner is not None and owner["kind"] == REPLICA_SETS.kind else None

    async def reconcile(self, key: str) -> None:
        replica_set = self._sets.get(key)
        if replica_set is None:
            self._expectations.forget(key)
            return
        if self._expectations.in_doubt(key) and not await self._is_certain(replica_set):
            self._queue.add_after(key, _LOOK_AGAIN)
            return
        settled = self._expectations.satisfied(key)
        own = await self._claim(replica_set)
        active = [each for each in own if pods.is_active(each)]
        terminating = sum(meta.is_terminating(each) and not pods.is_terminal(each) for each in own)
        now = datetime.datetime.now(datetime.UTC)
        error: StatusError | None = None
        if settled:
            todo = plan(replica_set, active, self._related(replica_set, own), now)
            error = await self._carry_out(key, replica_set, todo)
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

    async def _is_certain(self, replica_set: Object) -> bool:
        """After a creation without an answer: whether the cache has all that the server has.

        Before that nobody knows how many there are.
        """
        selector = str(selectors.from_object(replica_set["spec"].get("selector")))
        live = await self._client.list(PODS, meta.namespace(replica_set), label_selector=selector)
        known = {meta.uid(each) for each in self._pods.by_index(CONTROLLER, meta.uid(replica_set))}
        for each in live.items:
            owner = meta.controller_of(each)
            if owner is not None and owner["uid"] == meta.uid(replica_set) and meta.uid(each) not in known:
                return False
        self._expectations.forget(meta.key(replica_set))
        return True

    async def _claim(self, replica_set: Object) -> list[Object]:
        candidates = [
            *self._pods.by_index(CONTROLLER, meta.uid(replica_set)),
            *(
                each
                for each in self._pods.by_index(ORPHANS, meta.namespace(replica_set))
                if pods.is_active(each)
            ),
        ]
        selector = selectors.from_object(replica_set["spec"].get("selector"))
        found = ownership.claim(replica_set, candidates, selector)
        return await ownership.settle(self._client, REPLICA_SETS, replica_set, PODS, found)

    def _related(self, replica_set: Object, own: Sequence[Object]) -> list[Object]:
        owner = meta.controller_of(replica_set)
        if owner is None:
            return list(own)
        return [
            pod
            for sibling in self._sets.by_index(CONTROLLER, owner["uid"])
            for pod in self._pods.by_index(CONTROLLER, meta.uid(sibling))
        ]

    async def _carry_out(self, key: str, replica_set: Object, todo: Plan) -> StatusError | None:
        if todo.create:
            return await self._create(key, replica_set, todo.create)
        if todo.delete:
            return await self._delete(key, replica_set, todo.delete)
        return None

    async def _create(self, key: str, replica_set: Object, count: int) -> StatusError | None:
        body = pod(replica_set, replica_set["spec"]["template"])
        self._expectations.expect_creations(key, count)

        async def create() -> None:
            try:
                made = await self._client.create(PODS, body)
            except StatusError as error:
                self._expectations.created(key)
                if is_namespace_terminating(error):
                    return
                self._events.event(replica_set, "Warning", "FailedCreate", f"Error creating: {error}")
                raise
            except OSError:
                self._expectations.doubt(key)
                raise
            self._events.event(replica_set, "Normal", "SuccessfulCreate", f"Created pod: {meta.name(made)}")

        done, error = await slow_start(count, create)
        if done < count:
            self._expectations.created(key, count - done)
        return error

    async def _delete(self, key: str, replica_set: Object, doomed: Sequence[Object]) -> StatusError | None:
        self._expectations.expect_deletions(key, map(meta.uid, doomed))

        async def delete(each: Object) -> StatusError | None:
            try:
                await self._client.delete(PODS, meta.name(each), meta.namespace(each), uid=meta.uid(each))
            except StatusError as error:
                self._expectations.deleted(key, meta.uid(each))
                if error.code in (404, 409):
                    return None  # gone, or another one by now: the cache will show it
                self._events.event(replica_set, "Warning", "FailedDelete", f"Error deleting: {error}")
                return error
            except OSError:
                self._expectations.deleted(key, meta.uid(each))
                raise
            self._events.event(replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(each)}")
            return None

        errors = await asyncio.gather(*map(delete, doomed))
        return next(filter(None, errors), None)


async def slow_start(count: int, act: Callable[[], Awaitable[None]]) -> tuple[int, StatusError | None]:
    """Run *act* so many times, in batches of 1, 2, 4, …, and stop after the first batch that fails.

    Gives how many were tried and the first refusal: what is refused once is not tried a hundred times over.
    Other exceptions of *act* are raised, when its batch has ended.
    """
    tried, batch = 0, 1
    while tried < count:
        size = min(batch, count - tried)
        results = await asyncio.gather(*(act() for _ in range(size)), return_exceptions=True)
        tried += size
        failed = [result for result in results if isinstance(result, BaseException)]
        for error in failed:
            if not isinstance(error, StatusError):
                raise error
        if failed:
            assert isinstance(failed[0], StatusError)
            return tried, failed[0]
        batch *= 2
    return tried, None
