"""The thin half: makes and deletes Jobs as planned, and reports."""

from __future__ import annotations

import datetime
from typing import ClassVar

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import CRON_JOBS, JOBS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from ..context import Context
from ..informers import CONTROLLER
from ..namespace import is_namespace_terminating
from .plan import plan, reference


class CronJobController:
    name: ClassVar[str] = "cronjob-controller"
    resources: ClassVar[tuple[Resource, ...]] = (CRON_JOBS, JOBS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.options.concurrent_syncs
        self._events = context.recorder("cronjob-controller")
        self._queue = WorkQueue()
        self._cron_jobs = context.informers.of(CRON_JOBS)
        self._jobs = context.informers.owned(JOBS)
        self._cron_jobs.subscribe(self._on_cron_job)
        self._jobs.subscribe(self._on_job)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=self._workers, name=self.name)

    def _on_cron_job(self, old: Object | None, new: Object | None) -> None:
        self._queue.add(meta.key(new or old or {}))

    def _on_job(self, old: Object | None, new: Object | None) -> None:
        for job in (old, new):
            owner = meta.controller_of(job) if job is not None else None
            if job is not None and owner is not None and owner["kind"] == CRON_JOBS.kind:
                self._queue.add(f"{meta.namespace(job)}/{owner['name']}")

    async def reconcile(self, key: str) -> None:
        cron_job = self._cron_jobs.get(key)
        if cron_job is None:
            return
        owned = self._jobs.by_index(CONTROLLER, meta.uid(cron_job))
        owned += await self._not_shown(cron_job, set(map(meta.uid, owned)))
        todo = plan(cron_job, owned, datetime.datetime.now(datetime.UTC))
        for event in todo.events:
            self._events.event(cron_job, *event)
        for each in todo.delete:
            await self._delete(cron_job, each)
        status = todo.status
        if todo.create is not None:
            made = await self._create(cron_job, todo.create)
            if made is None:
                return
            status = {**status, "active": [*(status.get("active") or ()), reference(made)]}
        if status != (cron_job.get("status") or {}):
            await self._client.update(CRON_JOBS, {**cron_job, "status": status}, subresource="status")
        if todo.wait is not None:
            self._queue.add_after(key, todo.wait)

    async def _not_shown(self, cron_job: Object, shown: set[str]) -> list[Object]:
        """Active Jobs that are younger than what the cache shows."""
        found = []
        for each in (cron_job.get("status") or {}).get("active") or ():
            if each["uid"] not in shown:
                try:
                    job = await self._client.get(JOBS, each["name"], meta.namespace(cron_job))
                except StatusError as error:
                    if error.code != 404:
                        raise
                else:
                    found += [job] if meta.uid(job) == each["uid"] else []
        return found

    async def _create(self, cron_job: Object, job: Object) -> Object | None:
        """The Job; None if the namespace is about to go."""
        try:
            made = await self._client.create(JOBS, job)
        except StatusError as error:
            if is_namespace_terminating(error):
                return None
            if error.reason == "AlreadyExists":
                found = await self._client.get(JOBS, meta.name(job), meta.namespace(job))
                owner = meta.controller_of(found)
                if owner is not None and owner["uid"] == meta.uid(cron_job):
                    return found  # made just before this was killed, or the cache is behind
            self._events.event(cron_job, "Warning", "FailedCreate", f"Error creating job: {error}")
            raise
        self._events.event(cron_job, "Normal", "SuccessfulCreate", f"Created job {meta.name(made)}")
        return made

    async def _delete(self, cron_job: Object, job: Object) -> None:
        try:
            await self._client.delete(
                JOBS, meta.name(job), meta.namespace(job), uid=meta.uid(job), propagation="Background"
            )
        except StatusError as error:
            if error.code in (404, 409):
                return
            self._events.event(cron_job, "Warning", "FailedDelete", f"Deleted job: {error}")
            raise
        self._events.event(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {meta.name(job)}")
