"""PV protection: a volume that is being deleted stays as long as it is bound."""

from __future__ import annotations

from typing import ClassVar

from buoy.api import meta, volumes
from buoy.api.meta import Object
from buoy.api.resource import PERSISTENT_VOLUMES, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .context import Context
from .pvcprotection import without


class PVProtectionController:
    name: ClassVar[str] = "persistentvolume-protection-controller"
    resources: ClassVar[tuple[Resource, ...]] = (PERSISTENT_VOLUMES,)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = WorkQueue()
        self._volumes = context.informers.of(PERSISTENT_VOLUMES)
        self._volumes.subscribe(self._on_volume)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, name=self.name)

    def _on_volume(self, old: Object | None, new: Object | None) -> None:
        if new is not None and meta.is_terminating(new) and volumes.phase(new) != "Bound":
            self._queue.add(meta.key(new))

    async def reconcile(self, key: str) -> None:
        volume = self._volumes.get(key)
        if volume is None or not meta.is_terminating(volume) or volumes.phase(volume) == "Bound":
            return
        wanted = without(volume, volumes.VOLUME_PROTECTION)
        if wanted is None:
            return
        try:
            await self._client.update(PERSISTENT_VOLUMES, wanted)
        except StatusError as error:
            if error.code != 404:
                raise
