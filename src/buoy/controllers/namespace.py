"""The namespace controller: empties a namespace that is being deleted, then lets it go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import NAMESPACES, PODS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .context import Context
from .discovery import Discovery, discover

FINALIZER = "kubernetes"
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 15.0


def is_active(namespace: Object) -> bool:
    """It takes new objects."""
    phase = (namespace.get("status") or {}).get("phase") or "Active"
    return phase == "Active" and not meta.is_terminating(namespace)


def is_namespace_terminating(error: StatusError) -> bool:
    """The object's namespace is being deleted, and with it whatever wants the object."""
    causes = (error.details or {}).get("causes") or ()
    return error.code == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


@dataclass(frozen=True, slots=True)
class Content:
    """What a namespace still holds after everything in it has been asked to go.

    *remaining* are objects by ``plural.group``, *finalizers* how many objects each finalizer holds, *errors*
    what was refused, *undiscovered* the group versions that could not be asked, *grace* the seconds that the
    slowest Pod may take.
    """

    remaining: Mapping[str, int] = field(default_factory=dict)
    finalizers: Mapping[str, int] = field(default_factory=dict)
    errors: Sequence[str] = ()
    undiscovered: Sequence[str] = ()
    grace: int = 0

    @property
    def empty(self) -> bool:
        return not self.remaining and not self.errors and not self.undiscovered


def conditions(content: Content, current: Sequence[Object]) -> list[Object]:
    """The namespace's conditions, where *current* are those it has."""
    remaining = ", ".join(
        f"{name} has {count} resource instances" for name, count in sorted(content.remaining.items())
    )
    finalizers = ", ".join(
        f"{name} in {count} resource instances" for name, count in sorted(content.finalizers.items())
    )
    errors = ", ".join(content.errors)
    undiscovered = ", ".join(content.undiscovered)
    rows = [
        (
            "NamespaceDeletionDiscoveryFailure",
            f"Discovery failed for some groups, {len(content.undiscovered)} failing: "
            f"unable to retrieve the complete list of server APIs: {undiscovered}"
            if undiscovered
            else "",
            "DiscoveryFailed",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "",
            "GroupVersionParsingFailed",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            f"Failed to delete all resource types, {len(content.errors)} remaining: {errors}"
            if errors
            else "",
            "ContentDeletionFailed",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            f"Some resources are remaining: {remaining}" if remaining else "",
            "SomeResourcesRemain",
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            f"Some content in the namespace has finalizers remaining: {finalizers}" if finalizers else "",
            "SomeFinalizersRemain",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ]
    before = {each["type"]: each for each in current}
    known = {row[0] for row in rows}
    result = [each for each in current if each["type"] not in known]
    for kind, fault, bad, good, fine in rows:
        status, reason, message = ("True", bad, fault) if fault else ("False", good, fine)
        old = before.get(kind)
        moment = old["lastTransitionTime"] if old and old["status"] == status else meta.now()
        result.append(
            {
                "type": kind,
                "status": status,
                "lastTransitionTime": moment,
                "reason": reason,
                "message": message,
            }
        )
    return result


def _qualified(resource: Resource) -> str:
    """``pods.`` for the core group: that is how the condition has always said it."""
    return f"{resource.plural}.{resource.group}"


class NamespaceController:
    name: ClassVar[str] = "namespace-controller"
    resources: ClassVar[tuple[Resource, ...]] = (NAMESPACES, PODS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = WorkQueue()
        self._passes: dict[str, int] = {}
        self._namespaces = context.informers.of(NAMESPACES)
        self._namespaces.subscribe(self._on_namespace)
        context.informers.of(PODS).subscribe(self._on_pod)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=5, name=self.name)

    def _on_namespace(self, old: Object | None, new: Object | None) -> None:
        if new is not None and meta.is_terminating(new):
            self._queue.add(meta.name(new))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        """Pods are what takes its time to go."""
        if new is None and old is not None:
            namespace = self._namespaces.get(meta.namespace(old))
            if namespace is not None and meta.is_terminating(namespace):
                self._queue.add(meta.name(namespace))

    async def reconcile(self, key: str) -> None:
        if self._namespaces.get(key) is None:
            self._passes.pop(key, None)
            return
        try:
            namespace = await self._client.get(NAMESPACES, key)
        except StatusError as error:
            if error.code == 404:
                return
            raise
        if not meta.is_terminating(namespace):
            return
        finalizers = (namespace.get("spec") or {}).get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        content = await self._empty(key, await discover(self._client))
        status = namespace.get("status") or {}
        wanted = {
            **status,
            "phase": "Terminating",
            "conditions": conditions(content, status.get("conditions") or ()),
        }
        if not content.empty:
            if wanted != status:
                await self._client.update(NAMESPACES, {**namespace, "status": wanted}, subresource="status")
            # Pods report their end themselves; for whatever else is left, look again.
            self._passes[key] = passes = self._passes.get(key, -1) + 1
            delay = min(_FIRST_DELAY * 2**passes, _LONGEST_DELAY)
            self._queue.add_after(key, max(delay, content.grace / 2))
            return
        self._passes.pop(key, None)
        namespace["spec"] = {"finalizers": [each for each in finalizers if each != FINALIZER]}
        try:
            await self._client.update(NAMESPACES, namespace, subresource="finalize")
        except StatusError as error:
            if error.code != 404:
                raise

    async def _empty(self, namespace: str, discovery: Discovery) -> Content:
        """Ask everything to go; Pods first, so that what they need outlives them (KEP-5080)."""
        resources = [
            resource for resource in discovery.resources("list", "deletecollection") if resource.namespaced
        ]
        pods = await self._delete_all(namespace, [each for each in resources if each[:3] == PODS[:3]])
        if pods.remaining or pods.errors:
            return _merge([pods, Content(undiscovered=discovery.failed)])
        others = await self._delete_all(namespace, [each for each in resources if each[:3] != PODS[:3]])
        return _merge([others, Content(undiscovered=discovery.failed)])

    async def _delete_all(self, namespace: str, resources: Sequence[Resource]) -> Content:
        return _merge(await asyncio.gather(*(self._delete_one(namespace, each) for each in resources)))

    async def _delete_one(self, namespace: str, resource: Resource) -> Content:
        try:
            found = await self._client.list(resource, namespace)
            if found.items:
                await self._client.request(
                    "DELETE",
                    resource.path(namespace),
                    body={
                        "kind": "DeleteOptions",
                        "apiVersion": "v1",
                        "propagationPolicy": "Background",
                    },
                )
                found = await self._client.list(resource, namespace)
        except StatusError as error:
            if error.code in (404, 405):
                return Content()
            return Content(errors=(str(error),))
        if not found.items:
            return Content()
        finalizers = Counter(
            finalizer for obj in found.items for finalizer in obj["metadata"].get("finalizers") or ()
        )
        grace = 0
        if resource[:3] == PODS[:3]:
            grace = max(_grace(obj) for obj in found.items)
        return Content({_qualified(resource): len(found.items)}, finalizers, grace=grace)


def _grace(pod: Object) -> int:
    seconds = pod["metadata"].get("deletionGracePeriodSeconds")
    if seconds is None:
        seconds = pod["spec"].get("terminationGracePeriodSeconds", 30)
    return int(seconds)


def _merge(parts: Sequence[Content]) -> Content:
    remaining: Counter[str] = Counter()
    finalizers: Counter[str] = Counter()
    for part in parts:
        remaining.update(part.remaining)
        finalizers.update(part.finalizers)
    return Content(
        remaining,
        finalizers,
        tuple(error for part in parts for error in part.errors),
        tuple(each for part in parts for each in part.undiscovered),
        max((part.grace for part in parts), default=0),
    )
