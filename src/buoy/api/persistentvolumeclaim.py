"""The PersistentVolumeClaim, also as a template in StatefulSets and of ephemeral volumes.

After k8s.io/kubernetes' ``pkg/apis/core/validation`` and ``pkg/registry/core/persistentvolumeclaim``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from . import formats, meta, quantity
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .metadata import (
    NEGATIVE,
    equivalent,
    faults,
    immutable,
    validate_annotations,
    validate_label_selector,
    validate_labels,
    validating,
)
from .models import core_v1
from .resource import PERSISTENT_VOLUME_CLAIMS
from .status import FieldError, forbidden_field, invalid, not_supported, required
from .volumes import ACCESS_MODES, BETA_CLASS, class_name, phase, spec, storage_for

VOLUME_MODES = ("Block", "Filesystem")
POSITIVE = "must be greater than zero"
_IMMUTABLE = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName "
    "for bound claims"
)


def default(claim: Object) -> None:
    default_spec(claim.setdefault("spec", {}))
    if not phase(claim):
        claim.setdefault("status", {})["phase"] = "Pending"


def default_spec(claim_spec: Object) -> None:
    if not claim_spec.get("volumeMode"):
        claim_spec["volumeMode"] = "Filesystem"
    resources = claim_spec.get("resources") or {}
    for field in ("requests", "limits"):
        if resources.get(field):
            resources[field] = {name: quantity.canonical(text) for name, text in resources[field].items()}


def prepare(claim: Object, old: Object | None) -> None:
    """The status is the controller's; the two ways to name where data come from are kept in step."""
    claim["status"] = {"phase": "Pending"} if old is None else old.get("status", {})
    claim_spec = spec(claim)
    given, reference = claim_spec.get("dataSource"), claim_spec.get("dataSourceRef")
    if given is not None and reference is None:
        claim_spec["dataSourceRef"] = dict(given)
    elif reference is not None and given is None and not reference.get("namespace"):
        claim_spec["dataSource"] = dict(reference)


def validate_access_modes(modes: Sequence[str], path: str, missing: str = "") -> list[FieldError]:
    errors = [] if modes else [required(path, missing)]
    errors += [
        not_supported(path, mode, frozenset(ACCESS_MODES)) for mode in modes if mode not in ACCESS_MODES
    ]
    if "ReadWriteOncePod" in modes and set(modes) - {"ReadWriteOncePod"}:
        errors.append(forbidden_field(path, "may not use ReadWriteOncePod with other access modes"))
    return errors


def validate_amounts(amounts: Object, path: str) -> list[FieldError]:
    return [
        invalid(f"{path}[{name}]", quantity.canonical(amount), NEGATIVE)
        for name, amount in amounts.items()
        if quantity.value(amount) < 0
    ]


def validate_claim_spec(claim_spec: Object, path: str) -> list[FieldError]:
    errors = validate_access_modes(
        claim_spec.get("accessModes") or (), f"{path}.accessModes", "at least 1 access mode is required"
    )
    errors += validate_label_selector(claim_spec.get("selector"), f"{path}.selector")
    storage = ((claim_spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        errors.append(required(f"{path}.resources[storage]"))
    elif quantity.value(storage) <= 0:
        errors.append(invalid(f"{path}.resources[storage]", quantity.canonical(storage), POSITIVE))
    if name := claim_spec.get("storageClassName"):
        errors += faults(f"{path}.storageClassName", name, formats.dns_subdomain(name))
    mode = claim_spec.get("volumeMode")
    if mode is not None and mode not in VOLUME_MODES:
        errors.append(not_supported(f"{path}.volumeMode", mode, VOLUME_MODES))
    for field in ("dataSource", "dataSourceRef"):
        if (data := claim_spec.get(field)) is not None:
            errors += _validate_data_source(data, f"{path}.{field}")
    if name := claim_spec.get("volumeAttributesClassName"):
        errors += faults(f"{path}.volumeAttributesClassName", name, formats.dns_subdomain(name))
    return errors


def _validate_data_source(data: Object, path: str) -> list[FieldError]:
    errors = [required(f"{path}.{field}") for field in ("name", "kind") if not data.get(field)]
    group = data.get("apiGroup") or ""
    if not group and data.get("kind") != "PersistentVolumeClaim":
        errors.append(invalid(path, data.get("kind") or "", ""))
    elif group:
        errors += faults(f"{path}.apiGroup", group, formats.dns_subdomain(group))
    return errors


def validate_claim_template(template: Object, path: str) -> list[FieldError]:
    """The template of an ephemeral volume: labels, annotations and a specification."""
    metadata = template.get("metadata") or {}
    errors = validate_labels(metadata.get("labels") or {}, f"{path}.metadata.labels")
    errors += validate_annotations(metadata.get("annotations") or {}, f"{path}.metadata.annotations")
    return errors + validate_claim_spec(template.get("spec") or {}, f"{path}.spec")


def _validate(claim: Object, old: Object | None) -> list[FieldError]:
    errors = validate_claim_spec(spec(claim), "spec")
    if old is not None:
        errors += _validate_update(claim, old)
    return errors


def _validate_update(claim: Object, old: Object) -> list[FieldError]:
    new_spec, old_spec = dict(spec(claim)), dict(spec(old))
    if not old_spec.get("volumeName"):
        old_spec["volumeName"] = new_spec.get("volumeName")
        if old_spec.get("storageClassName") is None and BETA_CLASS not in meta.annotations(old):
            # The default class may come later than the claim.
            old_spec["storageClassName"] = new_spec.get("storageClassName")
    if phase(claim) == "Bound":
        for each in (new_spec, old_spec):
            resources = dict(each.get("resources") or {})
            amounts = dict(resources.get("requests") or {})
            amounts.pop("storage", None)
            each["resources"] = {**resources, "requests": amounts}
            each.pop("volumeAttributesClassName", None)
    errors: list[FieldError] = []
    if not equivalent(new_spec, old_spec):
        errors.append(forbidden_field("spec", _IMMUTABLE))
    if storage_for(claim) < storage_for(old):
        had = ((old.get("status") or {}).get("capacity") or {}).get("storage", "0")
        if storage_for(claim) <= quantity.value(had):
            errors.append(
                forbidden_field(
                    "spec.resources.requests.storage", "field can not be less than status.capacity"
                )
            )
    return errors + immutable("volumeMode", spec(claim).get("volumeMode"), spec(old).get("volumeMode"))


def _validate_status(claim: Object, old: Object) -> list[FieldError]:
    return validate_amounts((claim.get("status") or {}).get("capacity") or {}, "status.capacity")


def warn_of_spec(claim_spec: Object, path: str) -> Iterable[str]:
    storage = ((claim_spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is not None and quantity.value(storage) % 1:
        yield (
            f'{path}.resources.requests[storage]: fractional byte value "{quantity.canonical(storage)}" '
            "is invalid, must be an integer"
        )


def _warn(claim: Object) -> Iterable[str]:
    if BETA_CLASS in meta.annotations(claim):
        yield (
            f'metadata.annotations[{BETA_CLASS}]: deprecated since v1.8; use "storageClassName" attribute '
            "instead"
        )
    yield from warn_of_spec(spec(claim), "spec")


def show_modes(modes: Iterable[str] | None) -> str:
    """As ``RWO,ROX``."""
    given = frozenset(modes or ())
    return ",".join(short for mode, short in ACCESS_MODES.items() if mode in given)


def show_phase(obj: Object) -> str:
    return "Terminating" if meta.is_terminating(obj) else phase(obj)


def show_unset(field: str) -> Any:
    return lambda obj: spec(obj).get(field) if spec(obj).get(field) is not None else "<unset>"


def _of_volume(claim: Object, field: str) -> Any:
    """What the status says of the volume, once there is one."""
    return (claim.get("status") or {}).get(field) if spec(claim).get("volumeName") else None


PERSISTENT_VOLUME_CLAIM = Kind(
    resource=PERSISTENT_VOLUME_CLAIMS,
    model=core_v1.PersistentVolumeClaim,
    singular="persistentvolumeclaim",
    short_names=("pvc",),
    columns=(
        NAME_COLUMN,
        Column("Status", show_phase),
        Column("Volume", lambda claim: str(spec(claim).get("volumeName") or "")),
        Column("Capacity", lambda claim: (_of_volume(claim, "capacity") or {}).get("storage", "")),
        Column("Access Modes", lambda claim: show_modes(_of_volume(claim, "accessModes"))),
        Column("StorageClass", class_name),
        Column("VolumeAttributesClass", show_unset("volumeAttributesClassName")),
        AGE_COLUMN,
        Column("VolumeMode", show_unset("volumeMode"), wide=True),
    ),
    has_status=True,
    default=default,
    prepare=prepare,
    validate=validating(formats.dns_subdomain, _validate),
    validate_status=_validate_status,
    warn=_warn,
)
