"""Admission of volumes and claims.

Kubernetes' plugins DefaultStorageClass, StorageObjectInUseProtection and PersistentVolumeClaimResize.
"""

from __future__ import annotations

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import PERSISTENT_VOLUME_CLAIMS, STORAGE_CLASSES
from buoy.api.status import forbidden
from buoy.api.volumes import (
    CLAIM_PROTECTION,
    VOLUME_PROTECTION,
    class_name,
    default_class,
    has_class,
    phase,
    storage_for,
)

from .registry import Registry


async def admit_claim(registry: Registry, new: Object, old: Object | None) -> None:
    """A new claim gets the default class and is protected; a bound one may grow if its class allows it."""
    if old is not None:
        await _admit_growth(registry, new, old)
        return
    _protect(new, CLAIM_PROTECTION)
    if not has_class(new):
        page = await registry.page(registry.served[STORAGE_CLASSES], "")
        found = default_class(registry.decoded.get(record) for record in page.records)
        if found is not None:
            new.setdefault("spec", {})["storageClassName"] = meta.name(found)


def admit_volume(new: Object, old: Object | None) -> None:
    if old is None:
        _protect(new, VOLUME_PROTECTION)


def _protect(obj: Object, finalizer: str) -> None:
    finalizers = obj["metadata"].get("finalizers") or []
    if finalizer not in finalizers:
        obj["metadata"]["finalizers"] = [*finalizers, finalizer]


async def _admit_growth(registry: Registry, new: Object, old: Object) -> None:
    if storage_for(new) <= storage_for(old) or meta.is_terminating(new):
        return
    if phase(old) != "Bound":
        raise forbidden(
            PERSISTENT_VOLUME_CLAIMS, meta.name(old), "Only bound persistent volume claims can be expanded"
        )
    found = await registry.find(STORAGE_CLASSES, "", class_name(old)) if class_name(old) else None
    if found is None or not found.get("allowVolumeExpansion"):
        raise forbidden(
            PERSISTENT_VOLUME_CLAIMS,
            meta.name(old),
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc "
            "must support resize",
        )
