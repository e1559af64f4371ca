"""The PersistentVolume. After k8s.io/kubernetes' ``pkg/apis/core/validation``.

Of the sources that belong to some vendor's storage only the required fields are looked at.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from . import formats, meta, quantity
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .metadata import equivalent, faults, immutable, validating
from .models import core_v1
from .persistentvolumeclaim import (
    POSITIVE,
    VOLUME_MODES,
    show_modes,
    show_phase,
    show_unset,
    validate_access_modes,
    validate_amounts,
)
from .pod_placement import validate_node_selector
from .pod_volumes import validate_host_path
from .resource import PERSISTENT_VOLUMES
from .status import FieldError, forbidden_field, invalid, not_supported, required
from .volumes import BETA_CLASS, class_name, phase, source, spec

_RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")

# In the order in which they are looked at: with several, all but the first are faults.
_REQUIRED = {
    "hostPath": (),
    "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",),
    "glusterfs": ("endpoints", "path"),
    "flocker": (),
    "nfs": ("server", "path"),
    "rbd": ("monitors", "image"),
    "quobyte": ("registry", "volume"),
    "cephfs": ("monitors",),
    "iscsi": ("targetPortal", "iqn"),
    "cinder": ("volumeID",),
    "fc": (),
    "flexVolume": ("driver",),
    "azureFile": ("secretName", "shareName"),
    "vsphereVolume": ("volumePath",),
    "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",),
    "azureDisk": ("diskName", "diskURI"),
    "scaleIO": ("gateway", "system", "volumeName"),
    "local": (),
    "storageos": (),
    "csi": ("driver", "volumeHandle"),
}


def default(volume: Object) -> None:
    volume_spec = volume.setdefault("spec", {})
    for field, value in (("persistentVolumeReclaimPolicy", "Retain"), ("volumeMode", "Filesystem")):
        if not volume_spec.get(field):
            volume_spec[field] = value
    if volume_spec.get("hostPath") is not None and volume_spec["hostPath"].get("type") is None:
        volume_spec["hostPath"]["type"] = ""
    if volume_spec.get("capacity"):
        volume_spec["capacity"] = {
            name: quantity.canonical(text) for name, text in volume_spec["capacity"].items()
        }
    if not phase(volume):
        volume.setdefault("status", {})["phase"] = "Pending"


def prepare(volume: Object, old: Object | None) -> None:
    if old is None:
        volume["status"] = {"phase": "Pending", "lastPhaseTransitionTime": meta.now()}
    else:
        volume["status"] = old.get("status", {})


def _validate(volume: Object, old: Object | None) -> list[FieldError]:
    volume_spec = spec(volume)
    errors = validate_access_modes(volume_spec.get("accessModes") or (), "spec.accessModes")
    errors += _validate_capacity(volume_spec.get("capacity") or {})
    policy = volume_spec.get("persistentVolumeReclaimPolicy") or ""
    if policy not in _RECLAIM_POLICIES:
        errors.append(not_supported("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM_POLICIES))
    affinity = volume_spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is None:
            errors.append(required("spec.nodeAffinity.required", "must specify required node constraints"))
        else:
            errors += validate_node_selector(affinity["required"], "spec.nodeAffinity.required")
    errors += _validate_sources(volume_spec)
    path = (volume_spec.get("hostPath") or {}).get("path") or ""
    if path and posixpath.normpath(path) == "/" and policy == "Recycle":
        errors.append(
            forbidden_field(
                "spec.persistentVolumeReclaimPolicy", "may not be 'recycle' for a hostPath mount of '/'"
            )
        )
    for field in ("storageClassName", "volumeAttributesClassName"):
        if name := volume_spec.get(field):
            errors += faults(f"spec.{field}", name, formats.dns_subdomain(name))
    mode = volume_spec.get("volumeMode")
    if mode not in VOLUME_MODES:
        errors.append(not_supported("spec.volumeMode", mode, VOLUME_MODES))
    return errors if old is None else errors + _validate_update(volume, old)


def _validate_capacity(capacity: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if not capacity:
        errors.append(required("spec.capacity"))
    if list(capacity) != ["storage"]:
        errors.append(not_supported("spec.capacity", capacity, ("storage",)))
    errors += validate_amounts(capacity, "spec.capacity")
    errors += [
        invalid(f"spec.capacity[{name}]", quantity.canonical(amount), POSITIVE)
        for name, amount in capacity.items()
        if quantity.value(amount) <= 0
    ]
    return errors


def _validate_sources(volume_spec: Object) -> list[FieldError]:
    given = [field for field in _REQUIRED if volume_spec.get(field) is not None]
    if not given:
        return [required("spec", "must specify a volume type")]
    field = given[0]
    here, content = f"spec.{field}", volume_spec[field]
    errors = [required(f"{here}.{needed}") for needed in _REQUIRED[field] if not content.get(needed)]
    if field == "hostPath":
        errors += validate_host_path(content, here)
    elif field == "local":
        path = content.get("path") or ""
        if not path:
            errors.append(required(f"{here}.path"))
        errors += faults(f"{here}.path", path, formats.no_way_up(path))
        if volume_spec.get("nodeAffinity") is None:
            errors.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    return errors + [
        forbidden_field(f"spec.{other}", "may not specify more than 1 volume type") for other in given[1:]
    ]


def _validate_update(volume: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if not equivalent(source(volume), source(old)):
        errors.append(
            forbidden_field(
                "spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation"
            )
        )
    new_spec, old_spec = spec(volume), spec(old)
    errors += immutable("volumeMode", new_spec.get("volumeMode"), old_spec.get("volumeMode"))
    if old_spec.get("nodeAffinity") is not None:
        errors += immutable("nodeAffinity", new_spec.get("nodeAffinity"), old_spec["nodeAffinity"])
    return errors


def _warn(volume: Object) -> Iterable[str]:
    if BETA_CLASS in meta.annotations(volume):
        yield (
            f'metadata.annotations[{BETA_CLASS}]: deprecated since v1.8; use "storageClassName" attribute '
            "instead"
        )
    if spec(volume).get("persistentVolumeReclaimPolicy") == "Recycle":
        yield (
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the "
            "recommended approach is to use dynamic provisioning."
        )


def _claim(volume: Object) -> str:
    reference = spec(volume).get("claimRef")
    return f"{reference.get('namespace', '')}/{reference.get('name', '')}" if reference else ""


PERSISTENT_VOLUME = Kind(
    resource=PERSISTENT_VOLUMES,
    model=core_v1.PersistentVolume,
    singular="persistentvolume",
    short_names=("pv",),
    columns=(
        NAME_COLUMN,
        Column("Capacity", lambda volume: (spec(volume).get("capacity") or {}).get("storage", "")),
        Column("Access Modes", lambda volume: show_modes(spec(volume).get("accessModes"))),
        Column("Reclaim Policy", lambda volume: str(spec(volume).get("persistentVolumeReclaimPolicy") or "")),
        Column("Status", show_phase),
        Column("Claim", _claim),
        Column("StorageClass", class_name),
        Column("VolumeAttributesClass", show_unset("volumeAttributesClassName")),
        Column("Reason", lambda volume: str((volume.get("status") or {}).get("reason") or "")),
        AGE_COLUMN,
        Column("VolumeMode", show_unset("volumeMode"), wide=True),
    ),
    has_status=True,
    default=default,
    prepare=prepare,
    validate=validating(formats.dns_subdomain, _validate, namespaced=False),
    warn=_warn,
)
