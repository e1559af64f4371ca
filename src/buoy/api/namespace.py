"""The Namespace."""

from __future__ import annotations

from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .models import core_v1
from .resource import NAMESPACES

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
    selectable_fields={
        "status.phase": lambda namespace: str((namespace.get("status") or {}).get("phase") or "")
    },
)
