"""The thin half: watches the metadata of everything, and patches and deletes as judged."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable
from typing import ClassVar

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import CORE_EVENTS, CUSTOM_RESOURCE_DEFINITIONS, EVENTS, Resource
from buoy.api.status import StatusError
from buoy.client import Informer, WorkQueue

from ..context import Context
from ..discovery import discover
from .graph import FOREGROUND, ORPHAN, Graph, Item, Owner, Verdict, item_of, judge, owners_of

log = logging.getLogger(__name__)

_IGNORED = frozenset({CORE_EVENTS[:3], EVENTS[:3]})
_ABSENT = 500
_LOOK_AGAIN = 1.0
_UNKNOWN_KIND = 30.0


class GarbageCollector:
    """Follows every resource that can be deleted: those that are there, and what definitions add and take."""

    name: ClassVar[str] = "garbage-collector-controller"
    resources: ClassVar[tuple[Resource, ...]] = ()

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._metadata_client = context.metadata_client
        self._informers = context.informers
        self._discovery = context.discovery
        self._queue = WorkQueue()
        self._graph = Graph()
        self._absent: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._followed: dict[Resource, asyncio.Task[None] | None] = {}
        self._definitions_changed = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            await asyncio.gather(*(each.synced() for each in self._follow_discovered(group)))
            group.create_task(self._keep_up(group))
            await self._queue.run(self.reconcile, workers=20, name=self.name)

    # What there is

    def _follow_discovered(self, group: asyncio.TaskGroup) -> list[Informer]:
        """Follow what is served now, and nothing else; the caches that have just been started."""
        served = set(self._discovery.resources("list", "watch", "delete"))
        for resource in self._followed.keys() - served:
            task = self._followed.pop(resource)
            if task is not None:
                task.cancel()
            self._reconsider(self._graph.forget_all(resource))
        started = []
        for resource in served - self._followed.keys():
            if resource[:3] in _IGNORED:
                continue
            informer = self._informers.existing(resource)
            task = None
            if informer is None:
                informer = Informer(self._metadata_client, resource)
                task = group.create_task(informer.run())
                started.append(informer)
            self._followed[resource] = task
            self._follow(resource, informer)
        return started

    async def _keep_up(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._definitions_changed.wait()
            self._definitions_changed.clear()
            try:
                found = await discover(self._client)
            except (StatusError, OSError) as error:
                log.warning("discovery: %s", error)
            else:
                # A group that did not answer may have what is followed: it is asked again.
                if not found.failed:
                    self._discovery = found
                    self._follow_discovered(group)
                    continue
            asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._definitions_changed.set)

    def _follow(self, resource: Resource, informer: Informer) -> None:
        def changed(old: Object | None, new: Object | None) -> None:
            if new is not None:
                self._reconsider(self._graph.observe(item_of(resource, new)))
            else:
                self._reconsider(self._graph.forget(meta.uid(old or {})))
            if resource == CUSTOM_RESOURCE_DEFINITIONS:
                self._definitions_changed.set()

        informer.subscribe(changed)

    def _reconsider(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self._queue.add(uid)

    async def reconcile(self, key: str) -> None:
        item = self._graph.get(key)
        if item is None:
            return
        if item.orphaning:
            await self._orphan_dependents(item)
        elif item.foreground:
            await self._await_dependents(item)
        elif not item.terminating and item.owners:
            await self._judge(item)

    # Owners that are going

    async def _orphan_dependents(self, item: Item) -> None:
        dependents = self._graph.dependents(item.uid)
        await asyncio.gather(*(self._drop(each, frozenset({item.uid})) for each in dependents))
        await self._remove_finalizer(item, ORPHAN)

    async def _await_dependents(self, item: Item) -> None:
        if not self._graph.blocking(item.uid):
            await self._remove_finalizer(item, FOREGROUND)
            return
        for each in self._graph.dependents(item.uid):
            if not each.foreground:
                self._queue.add(each.uid)

    async def _remove_finalizer(self, item: Item, finalizer: str) -> None:
        live = await self._live(item)
        finalizers = (live["metadata"].get("finalizers") or []) if live is not None else []
        if live is None or finalizer not in finalizers:
            return
        await self._patch(item, live, {"finalizers": [each for each in finalizers if each != finalizer]})

    # Dependents

    async def _judge(self, item: Item) -> None:
        if judge(self._graph, item, item.owners, self._knows).verdict is Verdict.KEEP:
            return  # its owners are all there; when one goes, or its references change, it is judged again
        live = await self._live(item)
        finalizers = (live["metadata"].get("finalizers") or ()) if live is not None else ()
        if live is None or (meta.is_terminating(live) and FOREGROUND not in finalizers):
            return
        owners = owners_of(live)
        alive = {owner for owner in owners if await self._exists(item, owner)}
        verdict = judge(self._graph, item, owners, alive.__contains__)
        match verdict.verdict:
            case Verdict.DROP_REFERENCES:
                await self._drop(item, verdict.drop)
            case Verdict.DELETE_FOREGROUND:
                if verdict.unblock:
                    live = await self._unblock(item, live)
                await self._delete(item, live, "Foreground")
            case Verdict.DELETE:
                policy = "Orphan" if ORPHAN in finalizers else "Background"
                await self._delete(item, live, "Foreground" if FOREGROUND in finalizers else policy)

    def _knows(self, owner: Owner) -> bool:
        return owner.uid in self._graph

    async def _exists(self, item: Item, owner: Owner) -> bool:
        """Asked of the server where the graph does not know: caches of two kinds may be of different age."""
        if self._knows(owner):
            return True
        namespace = item.namespace
        if (namespace, owner.uid) in self._absent:
            return False
        resource = self._discovery.find(owner.api_version, owner.kind)
        if resource is None:
            log.info(
                "%s/%s: owner of unknown kind %s %s", namespace, item.name, owner.api_version, owner.kind
            )
            self._queue.add_after(item.uid, _UNKNOWN_KIND)
            return True
        try:
            live = await self._client.get(resource, owner.name, namespace if resource.namespaced else "")
        except StatusError as error:
            if error.code != 404:
                raise
            live = None
        if live is not None and meta.uid(live) == owner.uid:
            self._queue.add_after(item.uid, _LOOK_AGAIN)  # until it is in the graph
            return True
        self._absent[namespace, owner.uid] = None
        if len(self._absent) > _ABSENT:
            self._absent.popitem(last=False)
        return False

    async def _live(self, item: Item) -> Object | None:
        try:
            live = await self._client.get(item.resource, item.name, item.namespace)
        except StatusError as error:
            if error.code == 404:
                return None
            raise
        return live if meta.uid(live) == item.uid else None

    async def _drop(self, item: Item, uids: frozenset[str]) -> None:
        live = await self._live(item)
        if live is None:
            return
        references = live["metadata"].get("ownerReferences") or []
        kept = [each for each in references if each["uid"] not in uids]
        if kept != references:
            await self._patch(item, live, {"ownerReferences": kept})

    async def _unblock(self, item: Item, live: Object) -> Object:
        references = [
            {**each, "blockOwnerDeletion": False} for each in live["metadata"].get("ownerReferences") or ()
        ]
        return await self._patch(item, live, {"ownerReferences": references}) or live

    async def _patch(self, item: Item, live: Object, metadata: Object) -> Object | None:
        """A conflict is raised, and judged anew from what is then there; what is gone is None."""
        patch: Object = {
            "metadata": {
                "uid": item.uid,
                "resourceVersion": live["metadata"]["resourceVersion"],
                **metadata,
            }
        }
        try:
            return await self._client.patch(item.resource, item.name, item.namespace, patch)
        except StatusError as error:
            if error.code == 404:
                return None
            raise

    async def _delete(self, item: Item, live: Object, policy: str) -> None:
        try:
            await self._client.delete(
                item.resource,
                item.name,
                item.namespace,
                uid=item.uid,
                resource_version=live["metadata"]["resourceVersion"],
                propagation=policy,
            )
        except StatusError as error:
            if error.code != 404:
                raise
