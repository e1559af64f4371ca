"""The thin half: writes revisions, Pods and their claims as planned."""

from __future__ import annotations

import datetime
from typing import ClassVar

from buoy.api import meta, pods, selectors
from buoy.api.meta import Object
from buoy.api.resource import (
    CONTROLLER_REVISIONS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    STATEFUL_SETS,
    Resource,
)
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .. import history, ownership
from ..context import Context
from ..informers import CONTROLLER, ORPHANS
from ..namespace import is_namespace_terminating
from . import retention
from .plan import REVISION_LABEL, claims, ordinal, plan, status

_HASH_LABEL = "controller.kubernetes.io/hash"


class StatefulSetController:
    name: ClassVar[str] = "statefulset-controller"
    resources: ClassVar[tuple[Resource, ...]] = (
        STATEFUL_SETS,
        PODS,
        CONTROLLER_REVISIONS,
        PERSISTENT_VOLUME_CLAIMS,
    )

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.options.concurrent_syncs
        self._events = context.recorder("statefulset-controller")
        self._queue = WorkQueue()
        self._sets = context.informers.of(STATEFUL_SETS)
        self._pods = context.informers.owned(PODS)
        self._revisions = context.informers.owned(CONTROLLER_REVISIONS)
        self._claims = context.informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._sets.subscribe(self._on_set)
        self._pods.subscribe(self._on_pod)
        self._revisions.subscribe(self._on_revision)
        self._claims.subscribe(self._on_claim)

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

    def _on_claim(self, old: Object | None, new: Object | None) -> None:
        """One that goes may be what a Pod has to wait for, or is missing now."""
        if old is None or new is not None:
            return
        for each in self._sets.items():
            prefixes = tuple(
                f"{template['metadata']['name']}-{meta.name(each)}-"
                for template in each["spec"].get("volumeClaimTemplates") or ()
            )
            if meta.namespace(each) == meta.namespace(old) and meta.name(old).startswith(prefixes):
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
        if not meta.is_terminating(stateful_set):
            for obj in owned:
                await self._keep_claims(stateful_set, obj)
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
        wanted = claims(stateful_set, obj)
        found = [claim for each in wanted if (claim := self._claims.get(meta.key(each))) is not None]
        if any(retention.is_stale(each, meta.name(obj)) for each in found):
            return  # until it is gone
        try:
            await self._create_claims(stateful_set, obj, wanted)
            if going := [each for each in found if meta.is_terminating(each)]:
                fault = ", ".join(f"pvc {meta.name(each)} is being deleted" for each in going)
                self._events.event(stateful_set, "Warning", "FailedCreate", f"{what} failed error: {fault}")
                return
            await self._client.create(PODS, obj)
        except StatusError as error:
            if is_namespace_terminating(error):
                return
            if error.reason == "AlreadyExists":
                raise  # either the cache is behind, or the name is somebody else's: look again
            self._events.event(stateful_set, "Warning", "FailedCreate", f"{what} failed error: {error}")
            raise
        self._events.event(stateful_set, "Normal", "SuccessfulCreate", f"{what} successful")

    async def _create_claims(self, stateful_set: Object, pod: Object, wanted: list[Object]) -> None:
        for claim in wanted:
            if self._claims.get(meta.key(claim)) is not None:
                continue
            owner = retention.owner_of(stateful_set, pod)
            if owner is not None:
                claim["metadata"]["ownerReferences"] = [meta.owner_reference(owner)]
            place = f"Pod {meta.name(pod)} in StatefulSet {meta.name(stateful_set)}"
            what = f"create Claim {meta.name(claim)}"
            try:
                await self._client.create(PERSISTENT_VOLUME_CLAIMS, claim)
            except StatusError as error:
                if error.reason == "AlreadyExists":
                    continue
                if not is_namespace_terminating(error):
                    message = f"{what} for {place} failed error: {error}"
                    self._events.event(stateful_set, "Warning", "FailedCreate", message)
                raise
            self._events.event(stateful_set, "Normal", "SuccessfulCreate", f"{what} {place} success")

    async def _keep_claims(self, stateful_set: Object, pod: Object) -> None:
        """The claims of a Pod that is there: none is missing while it waits, each has the right owner."""
        wanted = claims(stateful_set, pod)
        if pods.phase(pod) == "Pending" and not meta.is_terminating(pod):
            await self._create_claims(stateful_set, pod, wanted)
        for each in wanted:
            claim = self._claims.get(meta.key(each))
            if claim is None:
                continue
            references = retention.owners(stateful_set, pod, claim)
            if references == (claim["metadata"].get("ownerReferences") or []):
                continue
            if retention.conflicts(stateful_set, pod, claim):
                message = (
                    f"PersistentVolumeClaim {meta.name(claim)} has a conflicting OwnerReference that acts as "
                    "a manging controller, the retention policy is ignored for this claim"
                )
                self._events.event(stateful_set, "Warning", "ConflictingController", message)
            metadata = {**claim["metadata"], "ownerReferences": references}
            await self._client.update(PERSISTENT_VOLUME_CLAIMS, {**claim, "metadata": metadata})

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
