"""Keeps the relations of nodes in step with the store, and answers from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import Resource

from ..attributes import Attributes, Verdict
from ..registry import Registry
from ..watch import Change, Hub
from .authorizer import decide
from .relations import Relations


class Nodes:
    """What is decided of nodes. A change of the store counts before any watcher has been told of it."""

    def __init__(self, registry: Registry, hub: Hub, rules: Sequence[Object]) -> None:
        self._registry = registry
        self._rules = rules
        self._relations = Relations()
        self._revisions: dict[str, int] = {}
        self._resources = [
            resource
            for resource in registry.served
            if resource.plural in Relations.RESOURCES and not registry.served[resource].kind.custom
        ]
        for resource in self._resources:
            hub.listen(registry.served[resource].prefix, partial(self._changed, resource))

    async def load(self) -> None:
        """Read what is there; to be called before the hub runs."""
        for resource in self._resources:
            page = await self._registry.store.list(self._registry.served[resource].prefix)
            for record in page.records:
                self._relations.put(resource.plural, self._registry.decoded.get(record))
            self._revisions[resource.plural] = page.revision

    def _changed(self, resource: Resource, change: Change) -> None:
        if change.revision <= self._revisions.get(resource.plural, 0):
            return
        obj = change.obj
        if change.type == "DELETED":
            self._relations.remove(resource.plural, meta.namespace(obj), meta.name(obj))
        else:
            self._relations.put(resource.plural, obj)

    def decide(self, node: str, wanted: Attributes) -> Verdict:
        return decide(node, wanted, self._relations, self._rules)
