"""The thin half: writes bindings and phases as planned."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from buoy.api import meta, pods, volumes
from buoy.api.meta import Object
from buoy.api.resource import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from ..context import Context
from ..informers import CLAIMS
from .plan import Event, Surroundings, bound_claim, claim_status, plan_claim, plan_volume, unbound

_CLASS = "class"
_RESERVED = "reserved"
_UNBOUND = "unbound"
_SOON = 5.0
"""Seconds after which a Pod that has no node yet is worth an event on the claim that waits for it."""


class PersistentVolumeController:
    name: ClassVar[str] = "persistentvolume-binder-controller"
    resources: ClassVar[tuple[Resource, ...]] = (
        PERSISTENT_VOLUMES,
        PERSISTENT_VOLUME_CLAIMS,
        STORAGE_CLASSES,
        PODS,
    )

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._events = context.recorder("persistentvolume-controller")
        self._claim_queue = WorkQueue()
        self._volume_queue = WorkQueue()
        self._claims = context.informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = context.informers.of(PERSISTENT_VOLUMES)
        self._classes = context.informers.of(STORAGE_CLASSES)
        self._pods = context.informers.with_claims()
        self._claims.add_index(_UNBOUND, _unbound_of_class)
        self._volumes.add_index(_CLASS, lambda volume: (volumes.class_name(volume),))
        self._volumes.add_index(_RESERVED, _reserved_for)
        self._claims.subscribe(self._on_claim)
        self._volumes.subscribe(self._on_volume)
        self._classes.subscribe(self._on_class)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claim_queue.run(self.reconcile_claim, name=f"{self.name}: claims"))
            group.create_task(self._volume_queue.run(self.reconcile_volume, name=f"{self.name}: volumes"))

    def _on_claim(self, old: Object | None, new: Object | None) -> None:
        claim = new or old or {}
        if old is None or new is None or _says(old) != _says(new):
            self._claim_queue.add(meta.key(claim))
        if new is None or old is None or volumes.spec(old) != volumes.spec(new):
            for volume in self._volumes.by_index(_RESERVED, meta.key(claim)):
                self._volume_queue.add(meta.key(volume))

    def _on_volume(self, old: Object | None, new: Object | None) -> None:
        volume = new or old or {}
        self._volume_queue.add(meta.key(volume))
        for each in (old, new):
            for key in _reserved_for(each) if each is not None else ():
                self._claim_queue.add(key)
        if new is not None and not volumes.spec(new).get("claimRef"):
            self._wake(volumes.class_name(new))
        for claim in self._claims.by_index(_UNBOUND, "") if old is None else ():
            if volumes.spec(claim).get("volumeName") == meta.name(volume):
                self._claim_queue.add(meta.key(claim))

    def _on_class(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (old is None or _matters(old) != _matters(new)):
            self._wake(meta.name(new))
            if volumes.is_default(new):
                self._wake("")

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if old is None and new is not None and not new["spec"].get("nodeName"):
            for key in volumes.claim_keys(new):
                claim = self._claims.get(key)
                if claim is not None and not volumes.spec(claim).get("volumeName"):
                    self._claim_queue.add_after(key, _SOON)

    def _wake(self, class_name: str) -> None:
        for claim in self._claims.by_index(_UNBOUND, class_name):
            self._claim_queue.add(meta.key(claim))

    # Claims

    async def reconcile_claim(self, key: str) -> None:
        claim = self._claims.get(key)
        if claim is None:
            return
        plan = plan_claim(claim, self._around(claim))
        name = volumes.spec(claim).get("volumeName") or ""
        missing = name and self._volumes.get(name) is None
        # Data may depend on it, and the caches of two kinds are not in step.
        if plan.phase == "Lost" and missing and await self._uid(PERSISTENT_VOLUMES, name):
            return  # the cache will show it
        if plan.event is not None:
            self._events.event(claim, *plan.event)
        if plan.bind is not None:
            await self._bind(claim, plan.bind)
        elif plan.assign:
            spec = {**claim["spec"], "storageClassName": plan.assign}
            await self._client.update(PERSISTENT_VOLUME_CLAIMS, {**claim, "spec": spec})
        elif plan.provision:
            await self._ask(claim, plan.provision)
        elif volumes.phase(claim) != plan.phase:
            status = claim_status(claim, plan.phase)
            await self._client.update(
                PERSISTENT_VOLUME_CLAIMS, {**claim, "status": status}, subresource="status"
            )

    def _around(self, claim: Object) -> Surroundings:
        name = volumes.class_name(claim)
        candidates = {
            meta.name(each): each
            for each in (
                *self._volumes.by_index(_CLASS, name),
                *self._volumes.by_index(_RESERVED, meta.key(claim)),
            )
        }
        users = [
            meta.name(pod)
            for pod in self._pods.by_index(CLAIMS, meta.key(claim))
            if not pods.is_terminal(pod) and not pod["spec"].get("nodeName")
        ]
        return Surroundings(
            self._volumes.get,
            candidates.values(),
            self._classes.get(name) if name else None,
            volumes.default_class(self._classes.items()),
            users,
        )

    async def _bind(self, claim: Object, volume: Object) -> None:
        """Both sides, the volume's first: at whatever line this ends, the next attempt goes on from there."""
        if (wanted := volumes.bound_volume(volume, claim)) is not None:
            volume = await self._client.update(PERSISTENT_VOLUMES, wanted)
        await self._set_phase(volume, "Bound")
        if (named := bound_claim(claim, volume)) is not None:
            claim = await self._client.update(PERSISTENT_VOLUME_CLAIMS, named)
        status = claim_status(claim, "Bound", volume)
        if status != (claim.get("status") or {}):
            await self._client.update(
                PERSISTENT_VOLUME_CLAIMS, {**claim, "status": status}, subresource="status"
            )

    async def _ask(self, claim: Object, provisioner: str) -> None:
        """Tell the provisioner, who follows claims with its name on them."""
        annotations = meta.annotations(claim)
        if annotations.get(volumes.STORAGE_PROVISIONER) == provisioner:
            return
        names = (volumes.STORAGE_PROVISIONER, volumes.BETA_STORAGE_PROVISIONER)
        metadata = {**claim["metadata"], "annotations": annotations | dict.fromkeys(names, provisioner)}
        await self._client.update(PERSISTENT_VOLUME_CLAIMS, {**claim, "metadata": metadata})
        message = (
            "Waiting for a volume to be created either by the external provisioner "
            f"'{provisioner}' or manually by the system administrator. If volume creation is delayed, please "
            "verify that the provisioner is running and correctly registered."
        )
        self._events.event(claim, "Normal", "ExternalProvisioning", message)

    # Volumes

    async def reconcile_volume(self, key: str) -> None:
        volume = self._volumes.get(key)
        if volume is None:
            return
        claim: Object | None = None
        for reserved in _reserved_for(volume):
            claim = self._claims.get(reserved)
        plan = plan_volume(volume, claim)
        reference = volumes.spec(volume).get("claimRef") or {}
        gone = claim is None or meta.uid(claim) != reference.get("uid")
        if gone and plan.phase in ("Released", "Failed") and plan.phase != volumes.phase(volume):
            uid = await self._uid(PERSISTENT_VOLUME_CLAIMS, reference["name"], reference["namespace"])
            if uid == reference["uid"]:
                return  # the cache will show it
        if plan.wake:
            self._claim_queue.add(f"{reference['namespace']}/{reference['name']}")
        if plan.unbind:
            volume = await self._client.update(PERSISTENT_VOLUMES, unbound(volume))
        if plan.phase:
            await self._set_phase(volume, plan.phase, plan.message, plan.event)
        elif plan.event is not None:
            self._events.event(volume, *plan.event)

    async def _set_phase(
        self, volume: Object, phase: str, message: str = "", event: Event | None = None
    ) -> None:
        if volumes.phase(volume) == phase:
            return
        status: Object = {"phase": phase, "lastPhaseTransitionTime": meta.now()}
        if message:
            status["message"] = message
        await self._client.update(PERSISTENT_VOLUMES, {**volume, "status": status}, subresource="status")
        if event is not None:
            self._events.event(volume, *event)

    async def _uid(self, resource: Resource, name: str, namespace: str = "") -> str:
        """Of the object as the server has it, empty if it has none."""
        try:
            return meta.uid(await self._client.get(resource, name, namespace))
        except StatusError as error:
            if error.code != 404:
                raise
            return ""


def _says(claim: Object) -> tuple[object, ...]:
    """What of a claim decides what becomes of it."""
    return claim.get("spec"), meta.annotations(claim), volumes.phase(claim)


def _matters(storage_class: Object) -> tuple[object, ...]:
    return storage_class.get("provisioner"), volumes.is_default(storage_class)


def _unbound_of_class(claim: Object) -> tuple[str, ...]:
    """By class, ``""`` for those that have none or ask for a volume by name."""
    if volumes.is_fully_bound(claim):
        return ()
    return ("",) if volumes.spec(claim).get("volumeName") else (volumes.class_name(claim),)


def _reserved_for(volume: Object) -> tuple[str, ...]:
    reference = volumes.spec(volume).get("claimRef") or {}
    return (f"{reference.get('namespace', '')}/{reference.get('name', '')}",) if reference else ()
