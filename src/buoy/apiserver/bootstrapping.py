"""Putting into the store what every cluster has; done at each start, changing only what is not right.

The way to the API server comes back whenever somebody has taken it away, as with Kubernetes'
``kubernetesservice`` controller.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import ENDPOINT_SLICES, ENDPOINTS, NAMESPACES, SERVICES, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from . import Options
from .authentication import MASTERS
from .bootstrap import SYSTEM_NAMESPACES, kubernetes_endpoints, kubernetes_service, policy
from .registry import Registry, User, Write
from .watch import Change, Hub

SELF = User("system:apiserver", (MASTERS,))


class _Essential(NamedTuple):
    """A part of the Service ``kubernetes``, without which no Pod finds the API server.

    *update*: it must have this content and no other.
    """

    resource: Resource
    wanted: Object
    update: bool = False


def _essentials(options: Options) -> Iterator[_Essential]:
    yield _Essential(SERVICES, kubernetes_service(options.service_cidrs, options.advertise_port))
    endpoints, endpoint_slice = kubernetes_endpoints(options.advertise_address, options.advertise_port)
    yield _Essential(ENDPOINTS, endpoints, update=True)
    yield _Essential(ENDPOINT_SLICES, endpoint_slice, update=True)


async def bootstrap(registry: Registry, options: Options) -> None:
    """Raises StatusError if the store's content stands against it."""
    for name in SYSTEM_NAMESPACES:
        await _ensure(registry, NAMESPACES, {"metadata": {"name": name}})
    for resource, obj in policy():
        if resource in registry.served:
            await _ensure(registry, resource, obj, update=True)
    for essential in _essentials(options):
        await _ensure(registry, *essential)


class Keeper:
    """Makes the essential objects anew, or puts them right, when they have been deleted or changed."""

    def __init__(self, registry: Registry, hub: Hub, options: Options) -> None:
        self._registry = registry
        self._queue = WorkQueue()
        self._essentials: dict[str, _Essential] = {}
        prefixes = set()
        for essential in _essentials(options):
            served, wanted = registry.served[essential.resource], essential.wanted
            self._essentials[served.key(meta.namespace(wanted), meta.name(wanted))] = essential
            prefixes.add(served.prefix)
        for prefix in prefixes:
            hub.listen(prefix, self._changed)

    def _changed(self, change: Change) -> None:
        essential = self._essentials.get(change.key)
        if essential is not None and (change.type == "DELETED" or essential.update):
            self._queue.add(change.key)

    async def _put_right(self, key: str) -> None:
        await _ensure(self._registry, *self._essentials[key])

    async def run(self) -> None:
        """Work for ever."""
        await self._queue.run(self._put_right, name="essential objects")


async def _ensure(registry: Registry, resource: Resource, wanted: Object, update: bool = False) -> None:
    """Create the object if it is missing; with *update*, bring its content to what is wanted."""
    served = registry.served[resource]
    namespace, name = meta.namespace(wanted), meta.name(wanted)
    found = await registry.find(resource, namespace, name)
    write = Write(SELF)
    if found is None:
        await registry.create(served, namespace, wanted, write)
        return
    if not update or _has_opted_out(found):
        return

    def bring(old: Object) -> Object:
        return {**old, **{field: value for field, value in wanted.items() if field != "metadata"}}

    try:
        await registry.change(served, namespace, name, bring, write)
    except StatusError as error:
        if error.code != 422:
            raise
        # What cannot be changed, such as a binding's role, was made by somebody for a reason.


def _has_opted_out(obj: Object) -> bool:
    return meta.annotations(obj).get("rbac.authorization.kubernetes.io/autoupdate") == "false"
