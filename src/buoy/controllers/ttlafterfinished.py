"""The TTL-after-finished controller: Jobs go some time after they have ended, and their Pods with them."""

from __future__ import annotations

import datetime
from typing import ClassVar

from buoy.api import meta, pods
from buoy.api.meta import Object
from buoy.api.resource import JOBS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .context import Context


def expires(job: Object) -> datetime.datetime | None:
    """When ``ttlSecondsAfterFinished`` are over, None for a Job that has not ended or may stay."""
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    if seconds is None or meta.is_terminating(job):
        return None
    for kind in ("Complete", "Failed"):
        if pods.is_true(job, kind):
            ended = meta.parse_time((pods.condition(job, kind) or {})["lastTransitionTime"])
            return ended + datetime.timedelta(seconds=seconds)
    return None


class TTLAfterFinishedController:
    name: ClassVar[str] = "ttl-after-finished-controller"
    resources: ClassVar[tuple[Resource, ...]] = (JOBS,)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = WorkQueue()
        self._jobs = context.informers.of(JOBS)
        self._jobs.subscribe(self._on_job)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, name=self.name)

    def _on_job(self, old: Object | None, new: Object | None) -> None:
        if new is not None and expires(new) is not None:
            self._queue.add(meta.key(new))

    async def reconcile(self, key: str) -> None:
        job = self._jobs.get(key)
        moment = expires(job) if job is not None else None
        if job is None or moment is None:
            return
        left = (moment - datetime.datetime.now(datetime.UTC)).total_seconds()
        if left > 0:
            self._queue.add_after(key, left)
            return
        try:
            # Of this version only: somebody may just have given it more time.
            await self._client.delete(
                JOBS,
                meta.name(job),
                meta.namespace(job),
                uid=meta.uid(job),
                resource_version=job["metadata"]["resourceVersion"],
                propagation="Foreground",
            )
        except StatusError as error:
            if error.code not in (404, 409):
                raise
