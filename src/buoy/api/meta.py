"""What every object has: names, labels, owners, times.

An object is its decoded JSON, a plain ``dict``; nothing in Buoy wraps it.
"""

import datetime
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as decoded JSON."""


def key(obj: Object) -> str:
    """``namespace/name``, or ``name`` for a cluster-scoped object."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def split_key(object_key: str) -> tuple[str, str]:
    """The inverse of `key`: ``(namespace, name)``, namespace ``""`` for a cluster-scoped object."""
    namespace, _, name = object_key.rpartition("/")
    return namespace, name


def name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def namespace(obj: Object) -> str:
    """The namespace, ``""`` for a cluster-scoped object."""
    return str(obj["metadata"].get("namespace", ""))


def uid(obj: Object) -> str:
    return str(obj["metadata"].get("uid", ""))


def labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def is_terminating(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def controller_of(obj: Object) -> Object | None:
    """The owner reference with ``controller: true``, or None."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            owner: Object = reference
            return owner
    return None


def owner_reference(owner: Object, *, block_owner_deletion: bool = True) -> Object:
    """A controller reference to *owner*, which must carry apiVersion, kind and uid."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": block_owner_deletion,
    }


def now() -> str:
    """The current time as Kubernetes writes ``metav1.Time``: UTC, whole seconds."""
    return format_time(datetime.datetime.now(datetime.UTC))


def now_micro() -> str:
    """The current time as Kubernetes writes ``metav1.MicroTime``."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def format_time(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime.datetime:
    """A ``Time`` or ``MicroTime`` as an aware datetime. ValueError if it is neither."""
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time without a zone: {text!r}")
    return moment
