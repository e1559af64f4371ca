"""The thin half: carries out the planned writes, one after the other, and stops at the first refused."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from buoy.api import meta, selectors
from buoy.api.meta import Object
from buoy.api.resource import DEPLOYMENTS, PODS, REPLICA_SETS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .. import ownership
from ..context import Context
from ..informers import CONTROLLER, ORPHANS
from ..namespace import is_namespace_terminating
from . import numbers, revisions
from . import status as report
from .plan import CreateReplicaSet, DeleteReplicaSet, SetRevision, UpdateReplicaSet, UpdateStatus, plan


class DeploymentController:
    name: ClassVar[str] = "deployment-controller"
    resources: ClassVar[tuple[Resource, ...]] = (DEPLOYMENTS, REPLICA_SETS, PODS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.options.concurrent_syncs
        self._events = context.recorder("deployment-controller")
        self._queue = WorkQueue()
        self._deployments = context.informers.of(DEPLOYMENTS)
        self._sets = context.informers.owned(REPLICA_SETS)
        self._pods = context.informers.owned(PODS)
        self._deployments.subscribe(self._on_deployment)
        self._sets.subscribe(self._on_set)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=self._workers, name=self.name)

    def _on_deployment(self, old: Object | None, new: Object | None) -> None:
        self._queue.add(meta.key(new or old or {}))

    def _on_set(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            owner = meta.controller_of(obj) if obj is not None else None
            if obj is not None and owner is not None and owner["kind"] == DEPLOYMENTS.kind:
                self._queue.add(f"{meta.namespace(obj)}/{owner['name']}")
        if new is not None and meta.controller_of(new) is None:
            for each in self._deployments.items():
                if meta.namespace(each) == meta.namespace(new) and selectors.from_object(
                    each["spec"].get("selector")
                ).matches(meta.labels(new)):
                    self._queue.add(meta.key(each))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        """A Recreate waits for the last old Pod to go; nothing else depends on single Pods."""
        owner = meta.controller_of(old) if old is not None and new is None else None
        if old is None or owner is None or owner["kind"] != REPLICA_SETS.kind:
            return
        replica_set = self._sets.get(f"{meta.namespace(old)}/{owner['name']}")
        owner = meta.controller_of(replica_set) if replica_set is not None else None
        if owner is None:
            return
        deployment = self._deployments.get(f"{meta.namespace(old)}/{owner['name']}")
        if deployment is not None and not numbers.is_rolling(deployment):
            self._queue.add(meta.key(deployment))

    async def reconcile(self, key: str) -> None:
        deployment = self._deployments.get(key)
        if deployment is None:
            return
        selector = selectors.from_object(deployment["spec"].get("selector"))
        if selector.empty:
            self._events.event(
                deployment,
                "Warning",
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            )
            return
        candidates = [
            *self._sets.by_index(CONTROLLER, meta.uid(deployment)),
            *self._sets.by_index(ORPHANS, meta.namespace(deployment)),
        ]
        found = ownership.claim(deployment, candidates, selector)
        replica_sets = await ownership.settle(self._client, DEPLOYMENTS, deployment, REPLICA_SETS, found)
        pods = {meta.uid(each): self._pods.by_index(CONTROLLER, meta.uid(each)) for each in replica_sets}
        todo = plan(deployment, replica_sets, pods, datetime.datetime.now(datetime.UTC))
        for action in todo.actions:
            match action:
                case CreateReplicaSet(obj, event):
                    if not await self._create(deployment, obj):
                        return
                    self._tell(deployment, event)
                case UpdateReplicaSet(obj, events):
                    await self._client.update(REPLICA_SETS, obj)
                    for event in events:
                        self._tell(deployment, event)
                case DeleteReplicaSet(obj):
                    await self._delete(obj)
                case SetRevision(revision):
                    deployment = await self._annotate(deployment, {revisions.REVISION: revision})
                case UpdateStatus(status):
                    await self._report(deployment, status)
        if todo.wait is not None:
            self._queue.add_after(key, todo.wait)

    def _tell(self, deployment: Object, message: str) -> None:
        if message:
            self._events.event(deployment, "Normal", "ScalingReplicaSet", message)

    async def _create(self, deployment: Object, obj: Object) -> bool:
        """False if the pass cannot go on: the cache is behind, the name is taken, or nothing may be made."""
        try:
            await self._client.create(REPLICA_SETS, obj)
        except StatusError as error:
            if error.reason == "AlreadyExists":
                await self._resolve_collision(deployment, obj)
                return False
            if is_namespace_terminating(error):
                return False
            message = f'Failed to create new replica set "{meta.name(obj)}": {error}'
            if report.deadline(deployment) is not None:
                failed = report.condition(
                    "Progressing", "False", report.CREATE_ERROR, message, datetime.datetime.now(datetime.UTC)
                )
                conditions = report.with_condition(report.conditions_of(deployment), failed)
                if conditions != report.conditions_of(deployment):
                    status = {**(deployment.get("status") or {}), "conditions": list(conditions)}
                    await self._report(deployment, status)
            self._events.event(deployment, "Warning", report.CREATE_ERROR, message)
            raise
        return True

    async def _resolve_collision(self, deployment: Object, obj: Object) -> None:
        """Either the cache has not shown our own ReplicaSet yet, or another template has the same hash."""
        existing = await self._client.get(REPLICA_SETS, meta.name(obj), meta.namespace(obj))
        owner = meta.controller_of(existing)
        if (
            owner is not None
            and owner["uid"] == meta.uid(deployment)
            and revisions.same_template(existing["spec"]["template"], deployment["spec"]["template"])
        ):
            return  # the cache's event for it brings us back here
        status: dict[str, Any] = deployment.get("status") or {}
        await self._report(
            deployment, {**status, "collisionCount": int(status.get("collisionCount") or 0) + 1}
        )

    async def _delete(self, replica_set: Object) -> None:
        try:
            await self._client.delete(
                REPLICA_SETS,
                meta.name(replica_set),
                meta.namespace(replica_set),
                uid=meta.uid(replica_set),
                resource_version=replica_set["metadata"]["resourceVersion"],
            )
        except StatusError as error:
            if error.code != 404:
                raise

    async def _annotate(self, deployment: Object, annotations: dict[str, str]) -> Object:
        patch: Object = {
            "metadata": {
                "resourceVersion": deployment["metadata"]["resourceVersion"],
                "annotations": annotations,
            }
        }
        return await self._client.patch(DEPLOYMENTS, meta.name(deployment), meta.namespace(deployment), patch)

    async def _report(self, deployment: Object, status: Object) -> None:
        await self._client.update(DEPLOYMENTS, {**deployment, "status": status}, subresource="status")
