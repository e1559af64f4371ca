"""The thin half: writes revisions, Pods and their claims as planned."""

from __future__ import annotations

import datetime
from typing import ClassVar

from buoy.api import meta, selectors
from buoy.api.meta import Object
from buoy.api.resource import CONTROLLER_REVISIONS, PODS, STATEFUL_SETS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .. import history, ownership
from ..context import Context
from ..informers import CONTROLLER, ORPHANS
from ..namespace import is_namespace_terminating
from .plan import REVISION_LABEL, claims, ordinal, plan, status

_HASH_LABEL = "controller.kubernetes.io/hash"
_CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")


class StatefulSetController:
    name: ClassVar[str] = "statefulset-controller"
    resources: ClassVar[tuple[Resource, ...]] = (STATEFUL_SETS, PODS, CONTROLLER_REVISIONS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.options.concurrent_syncs
        self._events = context.recorder("statefulset-controller")
        self._queue = WorkQueue()
        self._sets = context.informers.of(STATEFUL_SETS)
        self._pods = context.informers.owned(PODS)
        self._revisions = context.informers.owned(CONTROLLER_REVISIONS)
        self._sets.subscribe(self._on_set)
        self._pods.subscribe(self._on_pod)
        self._revisions.subscribe(self._on_revision)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=self._workers, name=self.name)

    def _on_set(self, old: Object | None, new: Object | None) -> None:
        self._queue.add(meta.key(new or old or {}))

    def _on_revision(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            owner = meta.controller_of(obj) if obj is not None else None
            if obj is not None and owner is not None and owner["kind"] == STATEFUL_SETS.kind:
                self._queue.add(f"{meta.namespace(obj)}/{owner['name']}")

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        self._on_revision(old, new)
        if new is not None and meta.controller_of(new) is None:
            for each in self._sets.items():
                if meta.namespace(each) == meta.namespace(new) and ordinal(each, new) is not None:
                    self._queue.add(meta.key(each))

    async def reconcile(self, key: str) -> None:
        stateful_set = self._sets.get(key)
        if stateful_set is None:
            return
        owned = await self._claim(stateful_set)
        revisions = self._revisions.by_index(CONTROLLER, meta.uid(stateful_set))
        before = history.plan(stateful_set, revisions, _HASH_LABEL)
        used = {meta.name(before.update), (stateful_set.get("status") or {}).get("currentRevision", "")}
        used |= {meta.labels(each).get(REVISION_LABEL, "") for each in owned}
        limit = stateful_set["spec"].get("revisionHistoryLimit", 10)
        obsolete = history.superfluous(revisions, used, limit)
        try:
            update = await history.write(self._client, before, obsolete)
        except history.NameTaken:
            found = stateful_set.get("status") or {}
            await self._report(stateful_set, {**found, "collisionCount": found.get("collisionCount", 0) + 1})
            return
        except StatusError as error:
            if is_namespace_terminating(error):
                return
            raise
        name = (stateful_set.get("status") or {}).get("currentRevision")
        current = next((each for each in revisions if meta.name(each) == name), update)
        now = datetime.datetime.now(datetime.UTC)
        todo = plan(stateful_set, owned, current, update, now)
        for obj in todo.create:
            await self._create(stateful_set, obj)
        for obj in todo.delete:
            await self._delete(stateful_set, obj)
        await self._report(stateful_set, status(stateful_set, owned, current, update, now))
        if todo.wait is not None:
            self._queue.add_after(key, todo.wait)

    async def _claim(self, stateful_set: Object) -> list[Object]:
        candidates = [
            *self._pods.by_index(CONTROLLER, meta.uid(stateful_set)),
            *(
                each
                for each in self._pods.by_index(ORPHANS, meta.namespace(stateful_set))
                if ordinal(stateful_set, each) is not None
            ),
        ]
        selector = selectors.from_object(stateful_set["spec"].get("selector"))
        found = ownership.claim(stateful_set, candidates, selector)
        return await ownership.settle(self._client, STATEFUL_SETS, stateful_set, PODS, found)

    async def _create(self, stateful_set: Object, obj: Object) -> None:
        what = f"create Pod {meta.name(obj)} in StatefulSet {meta.name(stateful_set)}"
        try:
            for each in claims(stateful_set, obj):
                await self._create_claim(each)
            await self._client.create(PODS, obj)
        except StatusError as error:
            if is_namespace_terminating(error):
                return
            if error.reason == "AlreadyExists":
                raise  # either the cache is behind, or the name is somebody else's: look again
            self._events.event(stateful_set, "Warning", "FailedCreate", f"{what} failed error: {error}")
            raise
        self._events.event(stateful_set, "Normal", "SuccessfulCreate", f"{what} successful")

    async def _create_claim(self, claim: Object) -> None:
        try:
            await self._client.create(_CLAIMS, claim)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise

    async def _delete(self, stateful_set: Object, obj: Object) -> None:
        what = f"delete Pod {meta.name(obj)} in StatefulSet {meta.name(stateful_set)}"
        try:
            await self._client.delete(PODS, meta.name(obj), meta.namespace(obj), uid=meta.uid(obj))
        except StatusError as error:
            if error.code in (404, 409):
                return
            self._events.event(stateful_set, "Warning", "FailedDelete", f"{what} failed error: {error}")
            raise
        self._events.event(stateful_set, "Normal", "SuccessfulDelete", f"{what} successful")

    async def _report(self, stateful_set: Object, wanted: Object) -> None:
        if wanted != (stateful_set.get("status") or {}):
            await self._client.update(STATEFUL_SETS, {**stateful_set, "status": wanted}, subresource="status")
