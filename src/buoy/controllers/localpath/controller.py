"""The thin half: makes and removes folders, and the volumes that stand for them."""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar

from buoy.api import meta, volumes
from buoy.api.meta import Object
from buoy.api.resource import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from ..context import Context
from . import plan
from .folders import Folders, NoSuchNode

log = logging.getLogger(__name__)


class LocalPathProvisioner:
    name: ClassVar[str] = "local-path-provisioner"
    resources: ClassVar[tuple[Resource, ...]] = (
        PERSISTENT_VOLUMES,
        PERSISTENT_VOLUME_CLAIMS,
        STORAGE_CLASSES,
    )

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.options.concurrent_syncs
        self._path = context.options.local_path
        self._folders = Folders(context.options.local_path_nodes)
        self._events = context.recorder(plan.PROVISIONER)
        self._claim_queue = WorkQueue()
        self._volume_queue = WorkQueue()
        self._claims = context.informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = context.informers.of(PERSISTENT_VOLUMES)
        self._classes = context.informers.of(STORAGE_CLASSES)
        self._claims.subscribe(self._on_claim)
        self._volumes.subscribe(self._on_volume)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for queue, reconcile, what in (
                (self._claim_queue, self.provision, "claims"),
                (self._volume_queue, self.reclaim, "volumes"),
            ):
                group.create_task(queue.run(reconcile, workers=self._workers, name=f"{self.name}: {what}"))

    def _on_claim(self, old: Object | None, new: Object | None) -> None:
        if new is not None and plan.is_asked(new):
            self._claim_queue.add(meta.key(new))

    def _on_volume(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (plan.is_deletable(new) or plan.is_let_go(new)):
            self._volume_queue.add(meta.key(new))

    async def provision(self, key: str) -> None:
        claim = self._claims.get(key)
        if claim is None or not plan.is_asked(claim) or self._volumes.get(plan.volume_name(claim)):
            return
        class_name = volumes.class_name(claim)
        storage_class = self._classes.get(class_name)
        if storage_class is None:
            return  # the binder has said so
        node = plan.selected_node(claim)
        failed = f'failed to provision volume with StorageClass "{class_name}": '
        if fault := plan.refusal(claim):
            self._events.event(claim, "Warning", "ProvisioningFailed", failed + fault)
            return
        message = f'External provisioner is provisioning volume for claim "{key}"'
        self._events.event(claim, "Normal", "Provisioning", message)
        try:
            await asyncio.to_thread(self._folders.make, node, plan.folder_name(claim))
        except NoSuchNode as error:
            self._events.event(claim, "Warning", "ProvisioningFailed", f"{failed}{error}")
            await self._reschedule(claim)
            return
        except OSError as error:
            self._events.event(claim, "Warning", "ProvisioningFailed", f"{failed}{error}")
            raise
        made = plan.volume_of(claim, storage_class, self._path)
        try:
            await self._client.create(PERSISTENT_VOLUMES, made)
        except StatusError as error:
            if error.reason == "AlreadyExists":
                return
            self._events.event(claim, "Warning", "ProvisioningFailed", f"{failed}{error}")
            raise
        message = f"Successfully provisioned volume {meta.name(made)}"
        self._events.event(claim, "Normal", "ProvisioningSucceeded", message)

    async def _reschedule(self, claim: Object) -> None:
        """Have the scheduler choose another node."""
        annotations = dict(meta.annotations(claim))
        annotations.pop(volumes.SELECTED_NODE, None)
        metadata = {**claim["metadata"], "annotations": annotations}
        await self._client.update(PERSISTENT_VOLUME_CLAIMS, {**claim, "metadata": metadata})

    async def reclaim(self, key: str) -> None:
        volume = self._volumes.get(key)
        if volume is None:
            return
        if plan.is_deletable(volume):
            await self._remove_folder(volume)
        elif not plan.is_let_go(volume):
            return
        finalizers = list(volume["metadata"].get("finalizers") or ())
        try:
            if plan.FINALIZER in finalizers:
                finalizers.remove(plan.FINALIZER)
                metadata = {**volume["metadata"], "finalizers": finalizers}
                await self._client.update(PERSISTENT_VOLUMES, {**volume, "metadata": metadata})
            if not meta.is_terminating(volume):
                await self._client.delete(PERSISTENT_VOLUMES, meta.name(volume), uid=meta.uid(volume))
        except StatusError as error:
            if error.code != 404:
                raise

    async def _remove_folder(self, volume: Object) -> None:
        folder = plan.folder_of(volume, self._path)
        if folder is None:
            log.warning("%s is not a folder below %s: left alone", meta.name(volume), self._path)
            return
        try:
            await asyncio.to_thread(self._folders.remove, *folder)
        except OSError as error:
            self._events.event(volume, "Warning", "VolumeFailedDelete", str(error))
            raise
