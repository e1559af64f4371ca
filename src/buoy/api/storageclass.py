"""The StorageClass. After k8s.io/kubernetes' ``pkg/apis/storage/validation``."""

from __future__ import annotations

from collections.abc import Sequence

from . import formats
from .kind import AGE_COLUMN, Column, Kind
from .meta import Object, name
from .metadata import faults, immutable, validating
from .models import storage_v1
from .resource import STORAGE_CLASSES
from .status import FieldError, forbidden_field, invalid, not_supported, required, too_long
from .volumes import is_default

_RECLAIM_POLICIES = ("Delete", "Retain")
_BINDING_MODES = ("Immediate", "WaitForFirstConsumer")
_MOST_PARAMETERS = 512
_PARAMETERS_SIZE = 256 * 1024


def default(storage_class: Object) -> None:
    for field, value in (("reclaimPolicy", "Delete"), ("volumeBindingMode", "Immediate")):
        if storage_class.get(field) is None:
            storage_class[field] = value


def _validate(storage_class: Object, old: Object | None) -> list[FieldError]:
    provisioner = storage_class.get("provisioner") or ""
    errors: list[FieldError] = []
    if not provisioner:
        errors.append(required("provisioner"))
    else:
        errors += faults("provisioner", provisioner, formats.label_key(provisioner.lower()))
    errors += _validate_parameters(storage_class.get("parameters") or {})
    for field, choices in (("reclaimPolicy", _RECLAIM_POLICIES), ("volumeBindingMode", _BINDING_MODES)):
        value = storage_class.get(field)
        if value not in choices:
            errors.append(not_supported(field, value, choices))
    errors += _validate_topologies(storage_class.get("allowedTopologies") or ())
    return errors if old is None else errors + _validate_update(storage_class, old)


def _validate_parameters(parameters: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(parameters) > _MOST_PARAMETERS:
        errors.append(too_long("Provisioner Parameters", _MOST_PARAMETERS))
    if "" in parameters:
        errors.append(invalid("parameters", "", "field can not be empty."))
    if sum(formats.size(key) + formats.size(value) for key, value in parameters.items()) > _PARAMETERS_SIZE:
        errors.append(too_long("parameters", _PARAMETERS_SIZE))
    return errors


def _validate_topologies(terms: Sequence[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, term in enumerate(terms):
        for position, each in enumerate(term.get("matchLabelExpressions") or ()):
            here = f"allowedTopologies[{index}].matchLabelExpressions[{position}]"
            if not each.get("values"):
                errors.append(required(f"{here}.values"))
            key = each.get("key") or ""
            errors += faults(f"{here}.key", key, formats.label_key(key))
    return errors


def _validate_update(storage_class: Object, old: Object) -> list[FieldError]:
    errors = [
        forbidden_field(field, f"updates to {field} are forbidden.")
        for field in ("parameters", "provisioner", "reclaimPolicy")
        if (storage_class.get(field) or None) != (old.get(field) or None)
    ]
    return errors + immutable(
        "volumeBindingMode", storage_class.get("volumeBindingMode"), old.get("volumeBindingMode")
    )


STORAGE_CLASS = Kind(
    resource=STORAGE_CLASSES,
    model=storage_v1.StorageClass,
    singular="storageclass",
    short_names=("sc",),
    columns=(
        Column("Name", lambda obj: f"{name(obj)} (default)" if is_default(obj) else name(obj), format="name"),
        Column("Provisioner", lambda obj: str(obj.get("provisioner") or "")),
        Column("ReclaimPolicy", lambda obj: str(obj.get("reclaimPolicy") or "Delete")),
        Column("VolumeBindingMode", lambda obj: str(obj.get("volumeBindingMode") or "<unset>")),
        Column("AllowVolumeExpansion", lambda obj: "true" if obj.get("allowVolumeExpansion") else "false"),
        AGE_COLUMN,
    ),
    default=default,
    validate=validating(formats.dns_subdomain, _validate, namespaced=False),
)
