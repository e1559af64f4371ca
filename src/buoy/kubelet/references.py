"""ConfigMaps, Secrets and Services that Pods of this node refer to, watched as long as a Pod does."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ..api import meta
from ..api.meta import Object
from ..api.resource import CONFIG_MAPS, SECRETS, SERVICES, Resource
from ..api.status import StatusError
from ..client import Client, Informer
from . import pod as pods

_Key = tuple[Resource, str, str]  # resource, namespace, name ("" for all of the namespace)


@dataclass(slots=True)
class _Watched:
    informer: Informer
    task: asyncio.Task[None]
    users: set[str] = field(default_factory=set)


class References:
    """A watch for each object that Pods name, and for the Services of each namespace with Pods.

    *changed* is called with the uid of each Pod that may be concerned by a change of a ConfigMap or Secret.
    """

    def __init__(self, client: Client, changed: Callable[[str], None]) -> None:
        self._client = client
        self._changed = changed
        self._watched: dict[_Key, _Watched] = {}

    def use(self, pod: Object) -> None:
        """Follow everything that *pod* refers to."""
        uid, namespace = meta.uid(pod), meta.namespace(pod)
        config_maps, secrets = pods.config_names(pod)
        wanted: set[_Key] = {(CONFIG_MAPS, namespace, name) for name in config_maps}
        wanted |= {(SECRETS, namespace, name) for name in secrets}
        links = pod["spec"].get("enableServiceLinks") is not False
        if links:
            wanted.add((SERVICES, namespace, ""))
        if not links or namespace != "default":
            wanted.add((SERVICES, "default", "kubernetes"))
        for key in wanted:
            if key not in self._watched:
                self._watched[key] = self._watch(*key)
            self._watched[key].users.add(uid)

    def release(self, uid: str) -> None:
        """Follow nothing any longer for that Pod alone."""
        for key, watched in list(self._watched.items()):
            watched.users.discard(uid)
            if not watched.users:
                watched.task.cancel()
                del self._watched[key]

    def close(self) -> None:
        for watched in self._watched.values():
            watched.task.cancel()
        self._watched.clear()

    def _watch(self, resource: Resource, namespace: str, name: str) -> _Watched:
        selector = f"metadata.name={name}" if name else ""
        informer = Informer(self._client, resource, namespace=namespace, field_selector=selector)
        watched = _Watched(informer, asyncio.create_task(informer.run()))
        if resource is not SERVICES:

            def tell(old: Object | None, new: Object | None) -> None:
                for uid in tuple(watched.users):
                    self._changed(uid)

            informer.subscribe(tell)
        return watched

    async def services(self, namespace: str) -> list[Object]:
        """The Services that a Pod of *namespace* may be told of."""
        found: list[Object] = []
        for key in ((SERVICES, namespace, ""), (SERVICES, "default", "kubernetes")):
            watched = self._watched.get(key)
            if watched is not None:
                await watched.informer.synced()
                found += watched.informer.items()
        return found

    async def config_maps(self, namespace: str, names: Iterable[str]) -> dict[str, Object]:
        """Those of the ConfigMaps that exist, by name."""
        return await self._all(CONFIG_MAPS, namespace, names)

    async def secrets(self, namespace: str, names: Iterable[str]) -> dict[str, Object]:
        return await self._all(SECRETS, namespace, names)

    async def _all(self, resource: Resource, namespace: str, names: Iterable[str]) -> dict[str, Object]:
        wanted = sorted(names)
        found = await asyncio.gather(*(self._get(resource, namespace, name) for name in wanted))
        return {name: obj for name, obj in zip(wanted, found, strict=True) if obj is not None}

    async def _get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """From the watch; asked for if the watch does not have it (yet). StatusError, ConnectionFailed."""
        watched = self._watched.get((resource, namespace, name))
        known = watched.informer.get(f"{namespace}/{name}") if watched else None
        if known is not None:
            return known
        try:
            return await self._client.get(resource, name, namespace)
        except StatusError as error:
            if error.code == 404:
                return None
            raise


def decoded(secrets: Mapping[str, Object]) -> dict[str, dict[str, bytes]]:
    """The Secrets' data. What is not base64 (which the API server does not let in) is left out."""
    found: dict[str, dict[str, bytes]] = {}
    for name, secret in secrets.items():
        data: dict[str, bytes] = {}
        for key, text in (secret.get("data") or {}).items():
            try:
                data[key] = base64.b64decode(text, validate=True)
            except binascii.Error:
                continue
        found[name] = data
    return found
