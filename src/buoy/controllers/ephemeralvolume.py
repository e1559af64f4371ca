"""Generic ephemeral volumes: a claim for each, made with the Pod, owned by it and gone with it (KEP-1698)."""

from __future__ import annotations

from typing import ClassVar

from buoy.api import meta, pods, volumes
from buoy.api.meta import Object
from buoy.api.resource import PERSISTENT_VOLUME_CLAIMS, PODS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .context import Context
from .namespace import is_namespace_terminating


def claim_of(pod: Object, volume: Object) -> Object:
    """The claim of an ephemeral volume."""
    template = volume["ephemeral"]["volumeClaimTemplate"]
    metadata = template.get("metadata") or {}
    made: Object = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": volumes.ephemeral_claim_name(pod, volume),
            "namespace": meta.namespace(pod),
            "ownerReferences": [meta.owner_reference({"apiVersion": "v1", "kind": "Pod", **pod})],
        },
        "spec": template["spec"],
    }
    for field in ("labels", "annotations"):
        if metadata.get(field):
            made["metadata"][field] = metadata[field]
    return made


class EphemeralVolumeController:
    name: ClassVar[str] = "ephemeral-volume-controller"
    resources: ClassVar[tuple[Resource, ...]] = (PERSISTENT_VOLUME_CLAIMS, PODS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.options.concurrent_syncs
        self._events = context.recorder("ephemeral_volume")
        self._queue = WorkQueue()
        self._claims = context.informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._pods = context.informers.with_claims()
        self._claims.subscribe(self._on_claim)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=self._workers, name=self.name)

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if old is None and new is not None and any(own for _, own in volumes.claim_names(new)):
            self._queue.add(meta.key(new))

    def _on_claim(self, old: Object | None, new: Object | None) -> None:
        owner = meta.controller_of(old) if old is not None and new is None else None
        if old is not None and owner is not None and owner["kind"] == PODS.kind:
            self._queue.add(f"{meta.namespace(old)}/{owner['name']}")

    async def reconcile(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is None or meta.is_terminating(pod) or pods.is_terminal(pod):
            return
        for volume in pod["spec"].get("volumes") or ():
            if volume.get("ephemeral"):
                await self._keep(pod, volume)

    async def _keep(self, pod: Object, volume: Object) -> None:
        wanted = claim_of(pod, volume)
        found = self._claims.get(meta.key(wanted))
        try:
            if found is None:
                found = await self._client.create(PERSISTENT_VOLUME_CLAIMS, wanted)
        except StatusError as error:
            if is_namespace_terminating(error):
                return
            if error.reason == "AlreadyExists":
                raise  # the cache will show whose it is
            self._report(pod, volume, str(error))
            raise
        if fault := volumes.belongs_to(found, pod):
            self._report(pod, volume, fault)

    def _report(self, pod: Object, volume: Object, message: str) -> None:
        text = f"ephemeral volume {volume['name']}: {message}"
        self._events.event({"apiVersion": "v1", "kind": "Pod", **pod}, "Warning", "FailedBinding", text)
