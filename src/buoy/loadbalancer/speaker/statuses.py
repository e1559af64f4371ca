"""ServiceL2Status and ServiceBGPStatus objects: who announces what, told where their kinds are defined."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import CUSTOM_RESOURCE_DEFINITIONS, Resource
from buoy.api.status import StatusError
from buoy.client import Client, Informer, WorkQueue

from ..config.resources import SERVICE_L2_STATUSES

log = logging.getLogger(__name__)

NODE_LABEL = "metallb.io/node"
NAME_LABEL = "metallb.io/service-name"
NAMESPACE_LABEL = "metallb.io/service-namespace"


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do about the objects of one Service."""

    create: Object | None = None
    update: Object | None = None
    delete: tuple[Object, ...] = field(default=())


def changes(
    node: str,
    service: str,
    wanted: Object | None,
    existing: Iterable[Object],
    alive: frozenset[str],
    *,
    exclusive: bool,
) -> Changes:
    """From the *existing* objects of *service*, ``namespace/name``, to *wanted*, the status of this *node*'s.

    What nodes that are not *alive* have left behind is deleted. *exclusive*: one node alone announces, so the
    one that does deletes those of all others.
    """
    mine: list[Object] = []
    gone: list[Object] = []
    for obj in existing:
        other = meta.labels(obj).get(NODE_LABEL, "")
        if other == node:
            mine.append(obj)
        elif (alive and other not in alive) or (exclusive and wanted is not None):
            gone.append(obj)
    if wanted is None:
        return Changes(delete=(*mine, *gone))
    gone += mine[1:]
    namespace, name = meta.split_key(service)
    status = {"node": node, "serviceName": name, "serviceNamespace": namespace, **wanted}
    if not mine:
        labels = {NODE_LABEL: node, NAME_LABEL: name, NAMESPACE_LABEL: namespace}
        return Changes(create={"metadata": {"labels": labels}, "status": status}, delete=tuple(gone))
    if mine[0].get("status") != status:
        return Changes(update={**mine[0], "status": status}, delete=tuple(gone))
    return Changes(delete=tuple(gone))


class Statuses:
    """The objects of one kind, kept for this node. They wait for their kind to be defined."""

    def __init__(self, client: Client, resource: Resource, namespace: str, node: str) -> None:
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._node = node
        self._exclusive = resource == SERVICE_L2_STATUSES
        self._prefix = "l2-" if self._exclusive else "bgp-"
        self._wanted: Mapping[str, Object] = {}
        self._alive = frozenset[str]()
        self._queue = WorkQueue()
        self._definition = Informer(
            client,
            CUSTOM_RESOURCE_DEFINITIONS,
            field_selector=f"metadata.name={resource.plural}.{resource.group}",
        )
        self._defined = asyncio.Event()
        self._objects = Informer(client, resource, namespace=namespace)
        self._objects.add_index("service", lambda obj: [_service(obj)])

    def want(self, statuses: Mapping[str, Object], alive: Iterable[str]) -> None:
        """*statuses* of this node by Service, of kind-specific fields only; the nodes that are *alive*."""
        if frozenset(alive) != self._alive:
            self._alive = frozenset(alive)
            for obj in self._objects.items():
                self._queue.add(_service(obj))
        for key in self._wanted.keys() | statuses.keys():
            if self._wanted.get(key) != statuses.get(key):
                self._queue.add(key)
        self._wanted = statuses

    async def run(self) -> None:
        """Go on for ever."""
        self._definition.subscribe(self._definition_changed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._definition.run())
            await self._defined.wait()
            self._objects.subscribe(self._object_changed)
            tasks.create_task(self._objects.run())
            await self._objects.synced()
            for key in self._wanted:
                self._queue.add(key)
            await self._queue.run(self._reconcile, name=self._resource.plural)

    def _definition_changed(self, _: Object | None, new: Object | None) -> None:
        conditions = ((new or {}).get("status") or {}).get("conditions") or ()
        if any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
            self._defined.set()

    def _object_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old or {}
        key = _service(obj)
        if key in self._wanted or meta.labels(obj).get(NODE_LABEL) == self._node:
            self._queue.add(key)

    async def _reconcile(self, key: str) -> None:
        todo = changes(
            self._node,
            key,
            self._wanted.get(key),
            self._objects.by_index("service", key),
            self._alive,
            exclusive=self._exclusive,
        )
        for obj in todo.delete:
            with contextlib.suppress(StatusError):
                await self._client.delete(
                    self._resource, meta.name(obj), meta.namespace(obj), uid=meta.uid(obj)
                )
        if todo.create:
            kind = {"apiVersion": self._resource.api_version, "kind": self._resource.kind}
            metadata = {
                **todo.create["metadata"],
                "generateName": self._prefix,
                "namespace": self._namespace,
            }
            created = await self._client.create(self._resource, {**kind, **todo.create, "metadata": metadata})
            await self._write_status({**created, "status": todo.create["status"]})
        elif todo.update:
            await self._write_status(todo.update)

    async def _write_status(self, obj: Object) -> None:
        await self._client.patch(
            self._resource,
            meta.name(obj),
            meta.namespace(obj),
            {"status": obj["status"]},
            subresource="status",
        )


def _service(obj: Object) -> str:
    labels = meta.labels(obj)
    return f"{labels.get(NAMESPACE_LABEL, '')}/{labels.get(NAME_LABEL, '')}"
