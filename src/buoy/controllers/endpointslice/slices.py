"""Slices in the API: which are whose, and how planned ones get written. Shared by those who manage slices."""

from __future__ import annotations

from buoy.api import formats, meta
from buoy.api.meta import Object
from buoy.api.resource import ENDPOINT_SLICES
from buoy.api.status import StatusError
from buoy.client import Client, EventRecorder

from ..expectations import TIMEOUT, Expectations
from ..informers import Informers
from ..namespace import is_namespace_terminating
from .packing import Plan

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"

_LOOK_AGAIN = 0.1

_BY_SERVICE = "namespace/service/manager"


class SliceIndex:
    """The slices of each manager, by the Service they belong to."""

    def __init__(self, informers: Informers) -> None:
        self.informer = informers.of(ENDPOINT_SLICES)
        self.informer.add_index(_BY_SERVICE, _by_service)

    def of(self, key: str, manager: str) -> list[Object]:
        return self.informer.by_index(_BY_SERVICE, f"{key}/{manager}")


def service_key(obj: Object, manager: str) -> str | None:
    """The key of the Service that a slice belongs to, None if *manager* does not manage the slice."""
    labels = meta.labels(obj)
    name = labels.get(SERVICE_NAME)
    return f"{meta.namespace(obj)}/{name}" if name and labels.get(MANAGED_BY) == manager else None


def _by_service(obj: Object) -> tuple[str, ...]:
    labels = meta.labels(obj)
    if SERVICE_NAME not in labels or MANAGED_BY not in labels:
        return ()
    return (f"{meta.namespace(obj)}/{labels[SERVICE_NAME]}/{labels[MANAGED_BY]}",)


def generate_name(name: str) -> str:
    """``name-`` where that can begin the name of a slice, else the name alone."""
    return name if formats.dns_subdomain(f"{name}-x") else f"{name}-"


class SliceWriter:
    """Carries out a `Plan`, and knows which creations the cache has not shown yet."""

    def __init__(self, client: Client, events: EventRecorder, index: SliceIndex, manager: str) -> None:
        self._client = client
        self._events = events
        self._manager = manager
        self._index = index
        self._expectations = Expectations()
        index.informer.subscribe(self._on_slice)

    def _on_slice(self, old: Object | None, new: Object | None) -> None:
        if old is None and new is not None and (key := service_key(new, self._manager)):
            self._expectations.created(key)

    async def settled(self, key: str) -> float:
        """Seconds to wait before the cache can be believed, 0 if it can."""
        if self._expectations.in_doubt(key):
            namespace, name = meta.split_key(key)
            selector = f"{SERVICE_NAME}={name},{MANAGED_BY}={self._manager}"
            live = await self._client.list(ENDPOINT_SLICES, namespace, label_selector=selector)
            known = set(map(meta.uid, self._index.of(key, self._manager)))
            if not known.issuperset(map(meta.uid, live.items)):
                return _LOOK_AGAIN
            self._expectations.forget(key)
        return 0 if self._expectations.satisfied(key) else TIMEOUT

    def forget(self, key: str) -> None:
        self._expectations.forget(key)

    async def write(self, key: str, owner: Object, todo: Plan) -> None:
        """Raises what the first refused write raises; what is left then is planned anew."""
        try:
            for obj in todo.create:
                await self._create(key, obj)
            for obj in todo.update:
                await self._client.update(ENDPOINT_SLICES, obj)
            for obj in todo.delete:
                await self._delete(obj)
        except StatusError as error:
            if is_namespace_terminating(error):
                return
            if error.code != 409:
                self._events.event(
                    owner,
                    "Warning",
                    "FailedToUpdateEndpointSlices",
                    f"Error updating Endpoint Slices for Service {key}: {error}",
                )
            raise

    async def _create(self, key: str, obj: Object) -> None:
        self._expectations.expect_creations(key, 1)
        try:
            await self._client.create(ENDPOINT_SLICES, obj)
        except StatusError:
            self._expectations.created(key)
            raise
        except OSError:
            self._expectations.doubt(key)
            raise

    async def _delete(self, obj: Object) -> None:
        try:
            await self._client.delete(ENDPOINT_SLICES, meta.name(obj), meta.namespace(obj), uid=meta.uid(obj))
        except StatusError as error:
            if error.code != 404:
                raise
