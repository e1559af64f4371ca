"""A live, decoded copy of one resource's objects, for the parts of the server that ask all the time."""

from __future__ import annotations

from collections.abc import Callable

from buoy.api.meta import Object
from buoy.api.resource import Resource

from .registry import Registry
from .watch import Change, Hub


class Mirror:
    """*objects* by ``namespace/name`` (or name). Shared objects: not to be changed."""

    def __init__(
        self, registry: Registry, hub: Hub, resource: Resource, changed: Callable[[], None] | None = None
    ) -> None:
        self.objects: dict[str, Object] = {}
        self._registry = registry
        self._served = registry.served[resource]
        self._changed = changed
        self._revision = 0
        hub.listen(self._served.prefix, self._apply)

    async def load(self) -> None:
        """Read what is there; to be called before the hub runs."""
        page = await self._registry.store.list(self._served.prefix)
        cut = len(self._served.prefix)
        self.objects = {record.key[cut:]: self._registry.decoded.get(record) for record in page.records}
        self._revision = page.revision

    def _apply(self, change: Change) -> None:
        if change.revision <= self._revision:
            return
        key = change.key[len(self._served.prefix) :]
        if change.type == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = change.obj
        if self._changed is not None:
            self._changed()
