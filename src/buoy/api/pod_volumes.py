"""Faults in a Pod's volumes. After k8s.io/kubernetes' ``pkg/apis/core/validation``.

Of the sources that belong to some vendor's storage only the required fields are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import formats, quantity
from .meta import Object
from .metadata import faults
from .persistentvolumeclaim import validate_claim_template
from .pod_containers import (
    FILE_FIELDS,
    validate_field_reference,
    validate_pull_policy,
    validate_resource_reference,
)
from .status import FieldError, duplicate, forbidden_field, invalid, not_supported, required

_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
_ONE_TYPE = "may not specify more than 1 volume type"
_HOST_PATH_TYPES = frozenset(
    {
        "",
        "DirectoryOrCreate",
        "Directory",
        "FileOrCreate",
        "File",
        "Socket",
        "CharDevice",
        "BlockDevice",
    }
)
_SHORTEST_TOKEN = 600
_LONGEST_TOKEN = 1 << 32

# The order in which the sources are looked at: with several, all but the first are faults.
_REQUIRED = {
    "emptyDir": (),
    "hostPath": (),
    "gitRepo": ("repository",),
    "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",),
    "secret": ("secretName",),
    "nfs": ("server", "path"),
    "iscsi": ("targetPortal", "iqn"),
    "glusterfs": ("endpoints", "path"),
    "flocker": (),
    "persistentVolumeClaim": ("claimName",),
    "rbd": ("monitors", "image"),
    "cinder": ("volumeID",),
    "cephfs": ("monitors",),
    "quobyte": ("registry", "volume"),
    "downwardAPI": (),
    "fc": (),
    "flexVolume": ("driver",),
    "configMap": ("name",),
    "azureFile": ("secretName", "shareName"),
    "vsphereVolume": ("volumePath",),
    "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",),
    "azureDisk": ("diskName", "diskURI"),
    "storageos": (),
    "projected": (),
    "scaleIO": ("gateway", "system", "volumeName"),
    "csi": ("driver",),
    "ephemeral": (),
    "image": (),
}


def validate_volumes(
    volumes: Sequence[Object], path: str, *, in_pod: bool
) -> tuple[dict[str, Object], list[FieldError]]:
    """The good volumes by name, and the faults of the others. *in_pod*: not in a template."""
    errors: list[FieldError] = []
    good: dict[str, Object] = {}
    for index, volume in enumerate(volumes):
        here = f"{path}[{index}]"
        found = _validate_sources(volume, here, in_pod)
        name = volume.get("name") or ""
        if not name:
            found.append(required(f"{here}.name"))
        elif bad := formats.dns_label(name):
            found += faults(f"{here}.name", name, bad)
        if name in good:
            found.append(duplicate(f"{here}.name", name))
        if found:
            errors += found
        else:
            good[name] = volume
    return good, errors


def _validate_sources(volume: Object, path: str, in_pod: bool) -> list[FieldError]:
    given = [field for field in _REQUIRED if volume.get(field) is not None]
    if not given:
        return [required(path, "must specify a volume type")]
    errors: list[FieldError] = []
    field = given[0]
    source, here = volume[field], f"{path}.{field}"
    for needed in _REQUIRED[field]:
        if not source.get(needed):
            errors.append(required(f"{here}.{needed}"))
    if field == "image":
        if in_pod and not source.get("reference"):
            errors.append(required(f"{here}.reference"))
        errors += validate_pull_policy(source.get("pullPolicy"), f"{here}.pullPolicy")
    elif (check := _CHECKS.get(field)) is not None:
        errors += check(source, here)
    errors += [forbidden_field(f"{path}.{other}", _ONE_TYPE) for other in given[1:]]
    return errors


def _validate_empty_dir(source: Object, path: str) -> list[FieldError]:
    limit = source.get("sizeLimit")
    if limit is None or quantity.value(limit) >= 0:
        return []
    return [forbidden_field(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]


def validate_host_path(source: Object, path: str) -> list[FieldError]:
    target, kind = source.get("path"), source.get("type")
    if not target:
        return [required(f"{path}.path")]
    errors = faults(f"{path}.path", target, formats.no_way_up(target))
    if kind is not None and kind not in _HOST_PATH_TYPES:
        errors.append(not_supported(f"{path}.type", kind, _HOST_PATH_TYPES))
    return errors


def _validate_nfs(source: Object, path: str) -> list[FieldError]:
    target = source.get("path") or ""
    return [] if target.startswith("/") else [invalid(f"{path}.path", target, "must be an absolute path")]


def _validate_mode(source: Object, field: str, path: str) -> list[FieldError]:
    mode = source.get(field)
    return [] if mode is None or 0 <= mode <= 0o777 else [invalid(f"{path}.{field}", mode, _MODE)]


def _validate_keyed(source: Object, path: str) -> list[FieldError]:
    """A Secret or ConfigMap, whole or some of its keys."""
    errors = _validate_mode(source, "defaultMode", path)
    for index, item in enumerate(source.get("items") or ()):
        errors += _validate_item(item, f"{path}.items[{index}]")
    return errors


def _validate_item(item: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not item.get("key"):
        errors.append(required(f"{path}.key"))
    target = item.get("path") or ""
    if not target:
        errors.append(required(f"{path}.path"))
    errors += faults(f"{path}.path", target, formats.file_path(target))
    return errors + _validate_mode(item, "mode", path)


def _validate_downward(source: Object, path: str) -> list[FieldError]:
    errors = _validate_mode(source, "defaultMode", path)
    for item in source.get("items") or ():
        errors += _validate_downward_item(item, path)
    return errors


def _validate_downward_item(item: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    target = item.get("path") or ""
    if not target:
        errors.append(required(f"{path}.path"))
    errors += faults(f"{path}.path", target, formats.file_path(target))
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None:
        errors += validate_field_reference(field, FILE_FIELDS, f"{path}.fieldRef")
        if resource is not None:
            errors.append(
                invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
            )
    elif resource is not None:
        errors += validate_resource_reference(resource, f"{path}.resourceFieldRef", in_volume=True)
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return errors + _validate_mode(item, "mode", path)


def _validate_projected(source: Object, path: str) -> list[FieldError]:
    errors = _validate_mode(source, "defaultMode", path)
    taken: set[str] = set()
    for index, each in enumerate(source.get("sources") or ()):
        here = f"{path}.sources[{index}]"
        given = [name for name, value in each.items() if value is not None]
        for name in ("secret", "configMap"):
            keyed = each.get(name)
            if keyed is not None:
                if not keyed.get("name"):
                    errors.append(required(f"{here}.{name}.name"))
                for position, item in enumerate(keyed.get("items") or ()):
                    errors += _validate_item(item, f"{here}.{name}.items[{position}]")
                    errors += _conflict(item, taken, path, keyed.get("name") or "")
        downward = each.get("downwardAPI")
        if downward is not None:
            for item in downward.get("items") or ():
                errors += _validate_downward_item(item, f"{here}.downwardAPI")
                errors += _conflict(item, taken, path, item.get("path") or "")
        if each.get("serviceAccountToken") is not None:
            errors += _validate_token(each["serviceAccountToken"], f"{here}.serviceAccountToken", path)
        if len(given) > 1:
            errors.append(forbidden_field(here, "may not specify more than 1 volume type per source"))
    return errors


def _conflict(item: Object, taken: set[str], path: str, shown: str) -> list[FieldError]:
    target = item.get("path")
    if not target:
        return []
    if target in taken:
        return [invalid(path, shown, "conflicting duplicate paths")]
    taken.add(target)
    return []


def _validate_token(token: Object, path: str, volume_path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seconds = token.get("expirationSeconds") or 0
    if seconds < _SHORTEST_TOKEN:
        errors.append(
            invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        )
    if seconds > _LONGEST_TOKEN:
        errors.append(
            invalid(
                f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"
            )
        )
    target = token.get("path")
    if not target:
        errors.append(required(f"{volume_path}.path"))
    else:
        errors += faults(f"{volume_path}.path", target, formats.file_path(target))
    return errors


def _validate_ephemeral(source: Object, path: str) -> list[FieldError]:
    template, here = source.get("volumeClaimTemplate"), f"{path}.volumeClaimTemplate"
    return [required(here)] if template is None else validate_claim_template(template, here)


_CHECKS: dict[str, Callable[[Object, str], list[FieldError]]] = {
    "emptyDir": _validate_empty_dir,
    "hostPath": validate_host_path,
    "nfs": _validate_nfs,
    "secret": _validate_keyed,
    "configMap": _validate_keyed,
    "downwardAPI": _validate_downward,
    "projected": _validate_projected,
    "ephemeral": _validate_ephemeral,
}
