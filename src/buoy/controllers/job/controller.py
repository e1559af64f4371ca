"""The thin half: creates and deletes Pods as planned, counts those that have ended, and reports."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from typing import ClassVar

from buoy.api import meta, pods, selectors
from buoy.api.meta import Object
from buoy.api.resource import JOBS, PODS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from ..context import Context
from ..expectations import TIMEOUT
from ..informers import CONTROLLER
from ..podcontrol import Done, PodControl
from . import status as statuses
from .plan import Plan, Verdict, completion, deadline_in, is_finished, is_suspended, plan, verdict
from .pod import FINALIZER, is_tracked, untracked
from .tally import Tally, tally

_MANAGER = "kubernetes.io/job-controller"
_LOOK_AGAIN = 0.1


class JobController:
    name: ClassVar[str] = "job-controller"
    resources: ClassVar[tuple[Resource, ...]] = (JOBS, PODS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.options.concurrent_syncs
        self._events = context.recorder("job-controller")
        self._queue = WorkQueue()
        self._orphans = WorkQueue()
        # Pods that have lost their finalizer, by uid, and the cache still shows them with it: they must not
        # be counted again.
        self._released: set[str] = set()
        # By key, the versions that were written last. An older one in the cache lacks what the Pods that were
        # counted have lost: new ones would be made for them.
        self._written: dict[str, int] = {}
        self._jobs = context.informers.of(JOBS)
        self._pods = context.informers.owned(PODS)
        self._control = PodControl(context.client, JOBS, self._pods, self._events)
        self._jobs.subscribe(self._on_job)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(self.reconcile, workers=self._workers, name=self.name))
            group.create_task(self._orphans.run(self.let_go, name=f"{self.name}: orphans"))

    def _on_job(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is None:
            self._written.pop(meta.key(old), None)
        if old is not None and (new is None or is_finished(new)):
            self._control.expectations.forget(meta.key(old))
            for each in self._pods.by_index(CONTROLLER, meta.uid(old)):
                self._check_orphan(each)
        self._queue.add(meta.key(new or old or {}))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if new is None or not is_tracked(new):
            self._released.discard(meta.uid(new or old or {}))
        for key in self._control.observe(old, new):
            self._queue.add(key)
        if new is None:
            return
        self._check_orphan(new)
        if meta.controller_of(new) is None:
            for each in self._jobs.items():
                if meta.namespace(each) == meta.namespace(new) and selectors.from_object(
                    each["spec"].get("selector")
                ).matches(meta.labels(new)):
                    self._queue.add(meta.key(each))

    def _check_orphan(self, pod: Object) -> None:
        if is_tracked(pod):
            self._orphans.add(meta.key(pod))

    async def let_go(self, key: str) -> None:
        """Take the finalizer from a Pod that no Job will count: it could never be deleted."""
        pod = self._pods.get(key)
        if pod is None or not is_tracked(pod):
            return
        owner = meta.controller_of(pod)
        if owner is not None:
            if owner["kind"] != JOBS.kind:
                return
            job = self._jobs.get(f"{meta.namespace(pod)}/{owner['name']}")
            if job is not None and meta.uid(job) == owner["uid"]:
                if not is_finished(job) or not _is_ours(job):
                    return
            elif await self._exists(owner, meta.namespace(pod)):
                return  # the cache will show the Job, which is younger than it
        elif any(
            meta.namespace(each) == meta.namespace(pod)
            and selectors.from_object(each["spec"].get("selector")).matches(meta.labels(pod))
            for each in self._jobs.items()
        ):
            return  # it is about to be adopted
        await self._release(pod)

    async def _exists(self, owner: Object, namespace: str) -> bool:
        try:
            found = await self._client.get(JOBS, owner["name"], namespace)
        except StatusError as error:
            if error.code == 404:
                return False
            raise
        return meta.uid(found) == str(owner["uid"])

    async def reconcile(self, key: str) -> None:
        job = self._jobs.get(key)
        if job is None:
            self._control.expectations.forget(key)
            return
        if not _is_ours(job) or is_finished(job) or _version(job) < self._written.get(key, 0):
            return
        if not await self._control.is_certain(job):
            self._queue.add_after(key, _LOOK_AGAIN)
            return
        settled = self._control.expectations.satisfied(key)
        if not settled:
            self._queue.add_after(key, TIMEOUT)
        owned = [
            untracked(each) if meta.uid(each) in self._released else each
            for each in await self._control.claim(job, pods.is_active, finalizer=FINALIZER)
        ]
        now = datetime.datetime.now(datetime.UTC)
        found = tally(job, owned)
        status = statuses.started(job, now)
        end = verdict({**job, "status": status}, owned, found, now)
        left = deadline_in({**job, "status": status}, now)
        if end is None and left is not None:
            self._queue.add_after(key, left)
        active, ready, terminating = len(found.active), found.ready, found.terminating
        refused: StatusError | None = None
        told = ""
        if end is not None:
            done = await self._control.delete(job, found.active)
            refused = done.refused
            active, ready, terminating = _without(done, active, ready, terminating)
            if active or not settled:
                end = None  # what still runs, or is not seen yet, cannot be counted as failed
        elif settled and not meta.is_terminating(job):
            todo = plan(job, owned, found, now)
            if todo.wait is not None:
                self._queue.add_after(key, todo.wait)
            if todo.create:
                made = await self._control.create(job, todo.create)
                active, refused = active + len(made.pods), made.refused
            elif todo.delete:
                done, owned = await self._withdraw(job, owned, todo)
                refused = done.refused
                active, ready, terminating = _without(done, active, ready, terminating)
            end = completion(job, found, active)
            if end is None:
                before = status
                status = statuses.suspended(status, is_suspended(job), now)
                if status is not before:
                    told = "Suspended" if is_suspended(job) else "Resumed"
        status = statuses.numbers(status, active, ready, terminating)
        await self._settle(job, status, owned, found, end, now)
        if told:
            self._events.event(job, "Normal", told, f"Job {told.lower()}")
        if refused is not None:
            raise refused

    async def _withdraw(self, job: Object, owned: Sequence[Object], todo: Plan) -> tuple[Done, list[Object]]:
        """Delete Pods that are not wanted any longer: that is no failure, so they are not to be counted."""
        doomed = {meta.uid(each) for each in todo.delete}
        await asyncio.gather(*(self._release(each) for each in todo.delete if is_tracked(each)))
        done = await self._control.delete(job, todo.delete)
        return done, [untracked(each) if meta.uid(each) in doomed else each for each in owned]

    async def _settle(
        self,
        job: Object,
        status: Object,
        owned: Sequence[Object],
        found: Tally,
        end: Verdict | None,
        now: datetime.datetime,
    ) -> None:
        noted = statuses.account(job, status, owned, found, end, now)
        job = await self._report(job, noted.status)
        tracked = {meta.uid(each) for each in owned if is_tracked(each)}
        results = await asyncio.gather(*map(self._release, noted.release), return_exceptions=True)
        tracked -= {
            meta.uid(each)
            for each, result in zip(noted.release, results, strict=True)
            if not isinstance(result, BaseException)
        }
        last = statuses.count(noted.status, tracked)
        if end is not None and not noted.more:
            last = statuses.finished(last, end, datetime.datetime.now(datetime.UTC))
        job = await self._report(job, last)
        if is_finished(job) and end is not None:
            if end.failed:
                self._events.event(job, "Warning", end.reason, end.message)
            else:
                self._events.event(job, "Normal", "Completed", "Job completed")
        elif noted.more:
            self._queue.add(meta.key(job))
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _report(self, job: Object, status: Object) -> Object:
        if status == (job.get("status") or {}):
            return job
        updated = await self._client.update(JOBS, {**job, "status": status}, subresource="status")
        self._written[meta.key(job)] = _version(updated)
        return updated

    async def _release(self, pod: Object) -> None:
        patch: Object = {
            "metadata": {"uid": meta.uid(pod), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}
        }
        try:
            await self._client.patch(PODS, meta.name(pod), meta.namespace(pod), patch, type="strategic")
        except StatusError as error:
            if error.code not in (404, 409):
                raise
            # It is gone, or another one of its name is there.
        else:
            current = self._pods.get(meta.key(pod))
            if current is not None and meta.uid(current) == meta.uid(pod) and is_tracked(current):
                self._released.add(meta.uid(pod))


def _is_ours(job: Object) -> bool:
    return bool((job["spec"].get("managedBy") or _MANAGER) == _MANAGER)


def _version(obj: Object) -> int:
    """Versions of one resource can be compared (KEP-5504)."""
    return int(obj["metadata"]["resourceVersion"])


def _without(done: Done, active: int, ready: int, terminating: int) -> tuple[int, int, int]:
    count = len(done.pods)
    return active - count, ready - sum(map(pods.is_ready, done.pods)), terminating + count
