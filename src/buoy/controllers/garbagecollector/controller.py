"""The thin half: watches the metadata of everything, and patches and deletes as judged."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import ClassVar

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import CORE_EVENTS, EVENTS, Resource
from buoy.api.status import StatusError
from buoy.client import Informer, WorkQueue

from ..context import Context
from .graph import FOREGROUND, ORPHAN, Graph, Item, Owner, Verdict, item_of, judge, owners_of

log = logging.getLogger(__name__)

_IGNORED = frozenset({CORE_EVENTS[:3], EVENTS[:3]})
_ABSENT = 500
_LOOK_AGAIN = 1.0
_UNKNOWN_KIND = 30.0


class GarbageCollector:
    name: ClassVar[str] = "garbage-collector-controller"
    resources: ClassVar[tuple[Resource, ...]] = ()

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._discovery = context.discovery
        self._queue = WorkQueue()
        self._graph = Graph()
        self._absent: OrderedDict[tuple[str, str], None] = OrderedDict()
        for resource in context.discovery.resources("list", "watch", "delete"):
            if resource[:3] in _IGNORED:
                continue
            informer = context.informers.existing(resource)
            if informer is None:
                informer = Informer(context.metadata_client, resource)
                context.informers.add(informer)
            self._follow(resource, informer)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=20, name=self.name)

    def _follow(self, resource: Resource, informer: Informer) -> None:
        def changed(old: Object | None, new: Object | None) -> None:
            if new is not None:
                todo = self._graph.observe(item_of(resource, new))
            else:
                todo = self._graph.forget(meta.uid(old or {}))
            for uid in todo:
                self._queue.add(uid)

        informer.subscribe(changed)

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

    async def _exists(self, item: Item, owner: Owner) -> bool:
        """Asked of the server where the graph does not know: caches of two kinds may be of different age."""
        if owner.uid in self._graph:
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
