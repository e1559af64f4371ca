"""Keeps what is served in step with the CustomResourceDefinitions in the store.

Kubernetes' controllers in k8s.io/apiextensions-apiserver in one: naming, establishing, finalizer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from buoy.api import meta
from buoy.api.custom.kinds import kinds_of
from buoy.api.custom.naming import accept, deleting
from buoy.api.custom.reading import FINALIZER, holds
from buoy.api.kind import Kind
from buoy.api.meta import Object
from buoy.api.resource import CUSTOM_RESOURCE_DEFINITIONS
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .authentication import MASTERS
from .registry import DeleteOptions, Registry, User, Write
from .watch import Change, Hub

log = logging.getLogger(__name__)

_SELF = User("system:apiserver", (MASTERS,))


class Definitions:
    """*publish* is called whenever the served kinds have changed."""

    def __init__(self, registry: Registry, hub: Hub, publish: Callable[[], None]) -> None:
        self._registry = registry
        self._hub = hub
        self._publish = publish
        self._queue = WorkQueue()
        self._definitions = registry.served[CUSTOM_RESOURCE_DEFINITIONS]
        self._kinds: dict[str, list[Kind]] = {}
        self._made_of: dict[str, Object] = {}
        hub.listen(self._definitions.prefix, self._changed)

    async def load(self) -> None:
        """Serve what was established before; to be called before the hub runs."""
        for definition in await self._all():
            if holds(definition, "Established"):
                self._serve(definition)
            self._queue.add(meta.name(definition))

    async def run(self) -> None:
        """Work for ever."""
        await self._queue.run(self.reconcile, name="custom resource definitions")

    async def _all(self) -> list[Object]:
        page = await self._registry.page(self._definitions, "")
        return [self._registry.decoded.get(record) for record in page.records]

    def _changed(self, change: Change) -> None:
        name = change.key.removeprefix(self._definitions.prefix)
        if change.type == "DELETED":
            self._withdraw(name)
        self._queue.add(name)

    async def reconcile(self, name: str) -> None:
        definitions = await self._all()
        definition = next((each for each in definitions if meta.name(each) == name), None)
        if definition is None:
            # Its names are free for whoever else wanted them.
            group = name.partition(".")[2]
            for each in definitions:
                if each["spec"]["group"] == group and not holds(each, "NamesAccepted"):
                    self._queue.add(meta.name(each))
            return
        if meta.is_terminating(definition):
            await self._empty(definition)
            return
        status = accept(definition, self._taken(definition, definitions))
        accepted = {**definition, "status": status}
        if holds(accepted, "Established"):
            # Before the condition says so: who has read it may use the resource.
            self._serve(accepted)
        if status != definition.get("status"):
            await self._write_status(definition, status)

    def _taken(self, definition: Object, definitions: list[Object]) -> Iterator[Object]:
        """The names that others in the group have."""
        group = definition["spec"]["group"]
        for each in definitions:
            if each["spec"]["group"] == group and meta.name(each) != meta.name(definition):
                yield (each.get("status") or {}).get("acceptedNames") or {}
        for served in self._registry.served.values():
            kind = served.kind
            if kind.resource.group == group and not kind.custom:
                yield {
                    "plural": kind.resource.plural,
                    "singular": kind.singular,
                    "shortNames": kind.short_names,
                    "kind": kind.name,
                    "listKind": kind.list_kind,
                }

    async def _write_status(self, definition: Object, status: Object) -> None:
        """Raises StatusError 409 if the definition has changed; the change comes here anyway."""
        wanted = {**definition, "metadata": dict(definition["metadata"]), "status": status}
        await self._registry.update(
            self._definitions, "", meta.name(definition), wanted, Write(_SELF, subresource="status")
        )

    # What is served

    def _serve(self, definition: Object) -> None:
        name = meta.name(definition)
        essence = {
            "spec": definition["spec"],
            "names": definition["status"]["acceptedNames"],
            "generation": definition["metadata"].get("generation"),
        }
        if self._made_of.get(name) == essence:
            return
        kinds = kinds_of(definition)
        old = self._kinds.get(name, [])
        if old:
            self._registry.withdraw(old)
        offered = {each["name"] for each in definition["spec"]["versions"] if each["served"]}
        for kind in kinds:
            self._registry.serve(kind, offered=kind.resource.version in offered)
        self._kinds[name] = kinds
        self._made_of[name] = essence
        if old:
            # They were told of objects in the old form.
            self._hub.end_watches(self._registry.served[kinds[0].resource].prefix)
        self._publish()

    def _withdraw(self, name: str) -> None:
        self._made_of.pop(name, None)
        kinds = self._kinds.pop(name, [])
        if kinds:
            prefix = self._registry.served[kinds[0].resource].prefix
            self._registry.withdraw(kinds)
            self._hub.ignore(prefix)
            self._hub.end_watches(prefix)
            self._publish()

    # The end

    async def _empty(self, definition: Object) -> None:
        """Delete all objects of a definition that is being deleted; let it go when none is left."""
        name = meta.name(definition)
        if FINALIZER not in (definition["metadata"].get("finalizers") or ()):
            return
        kinds = self._kinds.get(name)
        if kinds:
            prefix = self._registry.served[kinds[0].resource].prefix
            # Every change of an object brings us here again, until none is left.
            self._hub.ignore(prefix)
            self._hub.listen(prefix, lambda change: self._queue.add(name))
            if await self._delete_objects(kinds[0]):
                if not _in_progress(definition):
                    await self._write_status(definition, deleting(definition))
                return

        def release(obj: Object) -> Object:
            metadata = obj["metadata"]
            metadata["finalizers"] = [each for each in metadata["finalizers"] if each != FINALIZER]
            return obj

        await self._registry.change(
            self._definitions, "", name, release, Write(_SELF, subresource="finalize")
        )

    async def _delete_objects(self, kind: Kind) -> bool:
        """Whether any remains: some have finalizers of their own."""
        served = self._registry.served[kind.resource]
        page = await self._registry.page(served, "")
        remains = False
        for record in page.records:
            obj = self._registry.decoded.get(record)
            try:
                _, gone = await self._registry.delete(
                    served, meta.namespace(obj), meta.name(obj), DeleteOptions(), Write(_SELF)
                )
            except StatusError as error:
                if error.code != 404:
                    raise
                gone = True
            remains = remains or not gone
        return remains


def _in_progress(definition: Object) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(each.get("reason") == "InstanceDeletionInProgress" for each in conditions)
