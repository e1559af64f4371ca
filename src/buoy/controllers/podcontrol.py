"""Creating and deleting the Pods of an owner: not one too many, whatever the cache or the network does.

What ReplicaSets, DaemonSets and Jobs have in common. Pods get generated names, so a creation must not be
repeated before it is known what has become of the last one: see `expectations`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from buoy.api import meta, selectors
from buoy.api.meta import Object
from buoy.api.resource import PODS, Resource
from buoy.api.status import StatusError
from buoy.client import Client, EventRecorder, Informer

from . import ownership
from .expectations import Expectations
from .informers import CONTROLLER, ORPHANS
from .namespace import is_namespace_terminating


@dataclass(frozen=True, slots=True)
class Done:
    """*pods* were created or deleted; *refused* is the first refusal."""

    pods: tuple[Object, ...] = ()
    refused: StatusError | None = None


class PodControl:
    """*pods* is an informer with the indices `CONTROLLER` and `ORPHANS`; keys are those of owners."""

    def __init__(self, client: Client, resource: Resource, pods: Informer, events: EventRecorder) -> None:
        self._client = client
        self._resource = resource
        self._pods = pods
        self._events = events
        self.expectations = Expectations()

    def owner_key(self, pod: Object) -> str | None:
        """The key of the owner of this kind that controls *pod*."""
        owner = meta.controller_of(pod)
        if owner is None or owner["kind"] != self._resource.kind:
            return None
        return f"{meta.namespace(pod)}/{owner['name']}"

    def observe(self, old: Object | None, new: Object | None) -> Iterable[str]:
        """To be called for each change of a Pod; the keys of the owners that it concerns."""
        for obj in (old, new):
            key = self.owner_key(obj) if obj is not None else None
            if obj is None or key is None:
                continue
            if old is None:
                self.expectations.created(key)
            if new is None or meta.is_terminating(new):
                self.expectations.deleted(key, meta.uid(obj))
            yield key

    async def is_certain(self, owner: Object) -> bool:
        """Whether it is known how many Pods there are.

        After a creation without an answer: as soon as the cache has all that the server has.
        """
        key = meta.key(owner)
        if not self.expectations.in_doubt(key):
            return True
        selector = str(selectors.from_object(owner["spec"].get("selector")))
        live = await self._client.list(PODS, meta.namespace(owner), label_selector=selector)
        known = {meta.uid(each) for each in self._pods.by_index(CONTROLLER, meta.uid(owner))}
        for each in live.items:
            controller = meta.controller_of(each)
            if (
                controller is not None
                and controller["uid"] == meta.uid(owner)
                and meta.uid(each) not in known
            ):
                return False
        self.expectations.forget(key)
        return True

    async def claim(
        self, owner: Object, adoptable: Callable[[Object], bool] = lambda pod: True, *, finalizer: str = ""
    ) -> list[Object]:
        """The Pods that *owner* controls, once fitting orphans are taken on and strangers let go."""
        candidates = [
            *self._pods.by_index(CONTROLLER, meta.uid(owner)),
            *filter(adoptable, self._pods.by_index(ORPHANS, meta.namespace(owner))),
        ]
        found = ownership.claim(owner, candidates, selectors.from_object(owner["spec"].get("selector")))
        return await ownership.settle(self._client, self._resource, owner, PODS, found, finalizer)

    async def create(self, owner: Object, bodies: Sequence[Object]) -> Done:
        """Create *bodies* in order, until one is refused; a dying namespace refuses in silence."""
        key = meta.key(owner)
        self.expectations.expect_creations(key, len(bodies))
        waiting = iter(bodies)
        created: list[Object] = []

        async def create() -> None:
            try:
                made = await self._client.create(PODS, next(waiting))
            except StatusError as error:
                self.expectations.created(key)
                if is_namespace_terminating(error):
                    return
                self._events.event(owner, "Warning", "FailedCreate", f"Error creating: {error}")
                raise
            except OSError:
                self.expectations.doubt(key)
                raise
            created.append(made)
            self._events.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {meta.name(made)}")

        tried, refused = await slow_start(len(bodies), create)
        self.expectations.created(key, len(bodies) - tried)
        return Done(tuple(created), refused)

    async def delete(self, owner: Object, doomed: Sequence[Object]) -> Done:
        """Delete all of *doomed*; one that is gone already counts as deleted."""
        key = meta.key(owner)
        self.expectations.expect_deletions(key, map(meta.uid, doomed))

        async def delete(each: Object) -> StatusError | None:
            try:
                await self._client.delete(PODS, meta.name(each), meta.namespace(each), uid=meta.uid(each))
            except StatusError as error:
                self.expectations.deleted(key, meta.uid(each))
                if error.code in (404, 409):
                    return None  # gone, or another one by now: the cache will show it
                self._events.event(owner, "Warning", "FailedDelete", f"Error deleting: {error}")
                return error
            except OSError:
                self.expectations.deleted(key, meta.uid(each))
                raise
            self._events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(each)}")
            return None

        errors = await asyncio.gather(*map(delete, doomed))
        deleted = tuple(each for each, error in zip(doomed, errors, strict=True) if error is None)
        return Done(deleted, next(filter(None, errors), None))


async def slow_start(count: int, act: Callable[[], Awaitable[None]]) -> tuple[int, StatusError | None]:
    """Run *act* so many times, in batches of 1, 2, 4, …, and stop after the first batch that fails.

    Gives how many were tried and the first refusal: what is refused once is not tried a hundred times over.
    Other exceptions of *act* are raised, when its batch has ended.
    """
    tried, batch = 0, 1
    while tried < count:
        size = min(batch, count - tried)
        results = await asyncio.gather(*(act() for _ in range(size)), return_exceptions=True)
        tried += size
        failed = [result for result in results if isinstance(result, BaseException)]
        for error in failed:
            if not isinstance(error, StatusError):
                raise error
        if failed:
            assert isinstance(failed[0], StatusError)
            return tried, failed[0]
        batch *= 2
    return tried, None
