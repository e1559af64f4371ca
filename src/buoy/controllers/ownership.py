"""Who controls an object: taking on what fits and nobody has, letting go of what no longer fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import Resource
from buoy.api.selectors import Selector
from buoy.api.status import StatusError, not_found
from buoy.client import Client


@dataclass(frozen=True, slots=True)
class Claim:
    """*owned* are the owner's already and stay so, *adopt* shall become its own, *release* shall not stay."""

    owned: tuple[Object, ...]
    adopt: tuple[Object, ...]
    release: tuple[Object, ...]


def claim(owner: Object, candidates: Iterable[Object], selector: Selector) -> Claim:
    owned, adopt, release = [], [], []
    for obj in candidates:
        controller = meta.controller_of(obj)
        fits = selector.matches(meta.labels(obj))
        if controller is None:
            if fits and not meta.is_terminating(owner) and not meta.is_terminating(obj):
                adopt.append(obj)
        elif controller["uid"] == meta.uid(owner):
            if fits or meta.is_terminating(owner):
                owned.append(obj)
            else:
                release.append(obj)
    return Claim(tuple(owned), tuple(adopt), tuple(release))


async def settle(
    client: Client,
    owner_resource: Resource,
    owner: Object,
    resource: Resource,
    found: Claim,
    finalizer: str = "",
) -> list[Object]:
    """Carry out *found*; the objects that *owner* then controls.

    An owner that is gone or going adopts nothing: that is asked of the server, not of a cache. What is
    adopted gets the *finalizer*, what is released loses it. Raises StatusError.
    """
    result = list(found.owned)
    if found.adopt:
        fresh = await client.get(owner_resource, meta.name(owner), meta.namespace(owner))
        if meta.uid(fresh) != meta.uid(owner):
            raise not_found(owner_resource, meta.name(owner))
        if not meta.is_terminating(fresh):
            for obj in found.adopt:
                references = obj["metadata"].get("ownerReferences") or []
                finalizers = [*_other_finalizers(obj, finalizer), finalizer] if finalizer else None
                adopted = await _patch(
                    client, resource, obj, [*references, meta.owner_reference(owner)], finalizers
                )
                if adopted is not None:
                    result.append(adopted)
    for obj in found.release:
        references = obj["metadata"].get("ownerReferences") or []
        others = [each for each in references if each["uid"] != meta.uid(owner)]
        await _patch(client, resource, obj, others, _other_finalizers(obj, finalizer) if finalizer else None)
    return result


def _other_finalizers(obj: Object, finalizer: str) -> list[str]:
    return [each for each in obj["metadata"].get("finalizers") or () if each != finalizer]


async def _patch(
    client: Client, resource: Resource, obj: Object, references: list[Object], finalizers: list[str] | None
) -> Object | None:
    """None if the object is gone. The version makes sure that nobody else has claimed it meanwhile."""
    metadata = obj["metadata"]
    patch: Object = {
        "metadata": {
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "ownerReferences": references,
        }
    }
    if finalizers is not None:
        patch["metadata"]["finalizers"] = finalizers
    try:
        return await client.patch(resource, meta.name(obj), meta.namespace(obj), patch)
    except StatusError as error:
        if error.code == 404:
            return None
        raise
