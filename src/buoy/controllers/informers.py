"""What all controllers of one process share: one cache a resource, one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import PODS, Resource
from buoy.api.volumes import claim_keys
from buoy.client import Client, Informer

CONTROLLER = "controller"
"""The index of objects by the uid of the controller that owns them."""

ORPHANS = "orphans"
"""The index, by namespace, of objects that no controller owns."""

CLAIMS = "claims"
"""The index of Pods by the keys of the PersistentVolumeClaims that they use."""


def _controller(obj: Object) -> Iterable[str]:
    owner = meta.controller_of(obj)
    return (owner["uid"],) if owner else ()


def _orphans(obj: Object) -> Iterable[str]:
    return () if meta.controller_of(obj) else (meta.namespace(obj),)


class Informers:
    """Hands out one `Informer` a resource. Those asked for before `run` run with it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._informers: dict[Resource, Informer] = {}
        self._owned: set[Resource] = set()
        self._by_claim = False
        self._others: list[Informer] = []

    def of(self, resource: Resource) -> Informer:
        if resource not in self._informers:
            self._informers[resource] = Informer(self._client, resource)
        return self._informers[resource]

    def owned(self, resource: Resource) -> Informer:
        """The same, with the indices `CONTROLLER` and `ORPHANS`."""
        informer = self.of(resource)
        if resource not in self._owned:
            self._owned.add(resource)
            informer.add_index(CONTROLLER, _controller)
            informer.add_index(ORPHANS, _orphans)
        return informer

    def with_claims(self) -> Informer:
        """That of Pods, with the index `CLAIMS`."""
        informer = self.of(PODS)
        if not self._by_claim:
            self._by_claim = True
            informer.add_index(CLAIMS, claim_keys)
        return informer

    def add(self, informer: Informer) -> None:
        """Have a cache of one controller's own run with the others."""
        self._others.append(informer)

    def existing(self, resource: Resource) -> Informer | None:
        """The informer of *resource* if some controller has asked for it."""
        return self._informers.get(resource)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for informer in (*self._informers.values(), *self._others):
                group.create_task(informer.run())

    async def synced(self) -> None:
        for informer in (*self._informers.values(), *self._others):
            await informer.synced()
