"""The thin half of the scheduler's volumes: binding, and caches that start with the first Pod with claims."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from buoy.api import meta, volumes
from buoy.api.meta import Object
from buoy.api.resource import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from buoy.client import Client, Informer

from .volumes import Choice, PodVolumes, VolumeWorld, wants_node

BIND_TIMEOUT = 600.0
"""Seconds until a Pod whose volumes do not come is scheduled anew, as in Kubernetes."""

_CLASS = "class"


class BindingFailed(Exception):
    """The volumes did not come; the Pod has to be scheduled anew."""


class VolumeBinder:
    """*changed* is called whenever a Pod that found no place for its volumes may find one now."""

    def __init__(self, client: Client, changed: Callable[[], None]) -> None:
        self._client = client
        self._changed = changed
        self._claims = Informer(client, PERSISTENT_VOLUME_CLAIMS)
        self._volumes = Informer(client, PERSISTENT_VOLUMES)
        self._classes = Informer(client, STORAGE_CLASSES)
        self._volumes.add_index(_CLASS, lambda volume: (volumes.class_name(volume),))
        self._promised: set[str] = set()
        self._waiters: set[asyncio.Event] = set()
        self._started = False
        for informer in (self._claims, self._volumes, self._classes):
            informer.subscribe(self._on_change)

    async def ready(self, group: asyncio.TaskGroup) -> None:
        """Wait until all is known; the caches run in *group* from the first call on."""
        informers = (self._claims, self._volumes, self._classes)
        if not self._started:
            self._started = True
            for informer in informers:
                group.create_task(informer.run())
        for informer in informers:
            await informer.synced()

    def examine(self, pod: Object, users: Callable[[str], Sequence[str]]) -> PodVolumes:
        """Raises Unfit."""
        world = VolumeWorld(
            self._claims.get,
            self._volumes.get,
            lambda name: self._volumes.by_index(_CLASS, name),
            self._classes.get,
            self._promised,
        )
        return PodVolumes.of(pod, world, users)

    def _on_change(self, old: Object | None, new: Object | None) -> None:
        for waiter in self._waiters:
            waiter.set()
        if new is not None and (old is None or _says(old) != _says(new)):
            self._changed()

    def promise(self, choice: Choice) -> None:
        """Keep the volumes of *choice* for it, until `bind` is through with them."""
        self._promised.update(meta.name(volume) for volume, _ in choice.bind)

    def release(self, choice: Choice) -> None:
        self._promised.difference_update(meta.name(volume) for volume, _ in choice.bind)

    async def bind(self, choice: Choice, node: Object) -> None:
        """Have every claim of *choice* bound on *node*. Raises BindingFailed, StatusError and OSError."""
        versions: dict[str, tuple[str, int]] = {}
        for volume, claim in choice.bind:
            versions[meta.key(claim)] = meta.uid(claim), 0
            if (bound := volumes.bound_volume(volume, claim)) is not None:
                await self._client.update(PERSISTENT_VOLUMES, bound)
        for claim in choice.provision:
            if (wanted := wants_node(claim, meta.name(node))) is not None:
                claim = await self._client.update(PERSISTENT_VOLUME_CLAIMS, wanted)
            versions[meta.key(claim)] = meta.uid(claim), int(claim["metadata"]["resourceVersion"])
        provisioned = {meta.key(claim) for claim in choice.provision}
        changed = asyncio.Event()
        self._waiters.add(changed)
        try:
            async with asyncio.timeout(BIND_TIMEOUT):
                while [
                    key
                    for key, (uid, version) in versions.items()
                    if not self._is_bound(key, uid, version, key in provisioned, node)
                ]:
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            raise BindingFailed("context deadline exceeded") from None
        finally:
            self._waiters.discard(changed)

    def _is_bound(self, key: str, uid: str, version: int, provisioned: bool, node: Object) -> bool:
        claim = self._claims.get(key)
        name = meta.split_key(key)[1]
        if claim is None or meta.uid(claim) != uid:
            raise BindingFailed(f'persistentvolumeclaim "{name}" not found')
        if int(claim["metadata"]["resourceVersion"]) < version:
            return False  # the cache does not have what was written here
        if not volumes.is_fully_bound(claim):
            if provisioned and volumes.SELECTED_NODE not in meta.annotations(claim):
                raise BindingFailed(f'provisioning failed for PVC "{name}"')
            return False
        volume = self._volumes.get(volumes.spec(claim)["volumeName"])
        if volume is None or not volumes.is_claim_of(volume, claim):
            return False
        if not volumes.reachable(volume, node):
            raise BindingFailed(
                f'pv "{meta.name(volume)}" node affinity doesn\'t match node "{meta.name(node)}": '
                "no matching NodeSelectorTerms"
            )
        return True


def _says(obj: Object) -> Iterable[object]:
    """What decides whether a Pod can have it."""
    spec = obj.get("spec", {key: value for key, value in obj.items() if key != "metadata"})
    return spec, meta.annotations(obj), volumes.phase(obj), meta.labels(obj)
