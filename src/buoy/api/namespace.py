"""The Namespace."""

from __future__ import annotations

from . import formats
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object, is_terminating
from .metadata import faults, validating
from .models import core_v1
from .resource import NAMESPACES
from .status import FieldError, invalid

NAME_LABEL = "kubernetes.io/metadata.name"
FINALIZER = "kubernetes"


def default(namespace: Object) -> None:
    name = namespace["metadata"].get("name")
    if name:
        labels = namespace["metadata"].get("labels") or {}
        labels[NAME_LABEL] = name
        namespace["metadata"]["labels"] = labels
    namespace.setdefault("spec", {})
    status = namespace.setdefault("status", {})
    if not status.get("phase"):
        status["phase"] = "Active"


def prepare(namespace: Object, old: Object | None) -> None:
    """The finalizer that holds a namespace until its content is gone is not the user's to set or drop."""
    spec = namespace.setdefault("spec", {})
    if old is None:
        finalizers = spec.get("finalizers") or []
        if FINALIZER not in finalizers:
            spec["finalizers"] = [*finalizers, FINALIZER]
        namespace["status"] = {"phase": "Active"}
    else:
        namespace["spec"] = {**spec, **(old.get("spec") or {})}
        namespace["status"] = old.get("status", {})


def _validate(namespace: Object, old: Object | None) -> list[FieldError]:
    errors: list[FieldError] = []
    for finalizer in (namespace.get("spec") or {}).get("finalizers") or ():
        errors += faults("spec.finalizers", finalizer, formats.label_key(finalizer))
        if "/" not in finalizer and finalizer != FINALIZER:
            errors.append(
                invalid(
                    "spec.finalizers",
                    finalizer,
                    "name is neither a standard finalizer name nor is it fully qualified",
                )
            )
    return errors


def _validate_status(namespace: Object, old: Object) -> list[FieldError]:
    phase = (namespace.get("status") or {}).get("phase", "")
    expected, state = ("Terminating", "not empty") if is_terminating(namespace) else ("Active", "empty")
    if phase == expected:
        return []
    return [invalid("status.Phase", phase, f"may only be '{expected}' if `deletionTimestamp` is {state}")]


NAMESPACE = Kind(
    resource=NAMESPACES,
    model=core_v1.Namespace,
    singular="namespace",
    short_names=("ns",),
    columns=(
        NAME_COLUMN,
        Column(
            "Status",
            lambda namespace: (namespace.get("status") or {}).get("phase", ""),
            description="The status of the namespace",
        ),
        AGE_COLUMN,
    ),
    has_status=True,
    default=default,
    prepare=prepare,
    validate=validating(formats.dns_label, _validate, namespaced=False),
    validate_status=_validate_status,
    selectable_fields={
        "status.phase": lambda namespace: str((namespace.get("status") or {}).get("phase") or "")
    },
)
