"""PVC protection: a claim that is being deleted stays as long as a Pod uses it."""

from __future__ import annotations

from typing import ClassVar

from buoy.api import meta, volumes
from buoy.api.meta import Object
from buoy.api.resource import PERSISTENT_VOLUME_CLAIMS, PODS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .context import Context
from .informers import CLAIMS


def uses(pod: Object, claim: Object) -> bool:
    """Whether *pod* is on a node, with that claim among its volumes."""
    if not pod["spec"].get("nodeName"):
        return False  # and will not come to one: the scheduler takes no claim that goes
    return any(
        name == meta.name(claim) and not (ephemeral and volumes.belongs_to(claim, pod))
        for name, ephemeral in volumes.claim_names(pod)
    )


def without(obj: Object, finalizer: str) -> Object | None:
    """The object without the finalizer, None if it does not have it."""
    finalizers = obj["metadata"].get("finalizers") or []
    if finalizer not in finalizers:
        return None
    left = [each for each in finalizers if each != finalizer]
    return {**obj, "metadata": {**obj["metadata"], "finalizers": left}}


class PVCProtectionController:
    name: ClassVar[str] = "persistentvolumeclaim-protection-controller"
    resources: ClassVar[tuple[Resource, ...]] = (PERSISTENT_VOLUME_CLAIMS, PODS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = WorkQueue()
        self._claims = context.informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._pods = context.informers.with_claims()
        self._claims.subscribe(self._on_claim)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, name=self.name)

    def _on_claim(self, old: Object | None, new: Object | None) -> None:
        if new is not None and meta.is_terminating(new):
            self._queue.add(meta.key(new))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            for key in volumes.claim_keys(old):
                claim = self._claims.get(key)
                if claim is not None and meta.is_terminating(claim):
                    self._queue.add(key)

    async def reconcile(self, key: str) -> None:
        claim = self._claims.get(key)
        if claim is None or not meta.is_terminating(claim):
            return
        wanted = without(claim, volumes.CLAIM_PROTECTION)
        if wanted is None or any(uses(pod, claim) for pod in self._pods.by_index(CLAIMS, key)):
            return
        # The cache may be behind, and afterwards it is too late.
        live = await self._client.list(PODS, meta.namespace(claim))
        if any(uses(pod, claim) for pod in live.items):
            return  # its end will be seen
        try:
            await self._client.update(PERSISTENT_VOLUME_CLAIMS, wanted)
        except StatusError as error:
            if error.code != 404:
                raise
