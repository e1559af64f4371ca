"""What a definition says, read off it."""

from __future__ import annotations

from ..meta import Object

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
API_APPROVED = "api-approved.kubernetes.io"
_PROTECTED = ("k8s.io", "kubernetes.io")


def versions(definition: Object) -> list[Object]:
    found: list[Object] = definition["spec"].get("versions") or []
    return found


def storage_version(definition: Object) -> Object:
    return next(each for each in versions(definition) if each.get("storage"))


def condition(definition: Object, type: str) -> Object | None:
    for each in (definition.get("status") or {}).get("conditions") or ():
        if each["type"] == type:
            found: Object = each
            return found
    return None


def holds(definition: Object, type: str) -> bool:
    found = condition(definition, type)
    return found is not None and found["status"] == "True"


def is_protected(group: str) -> bool:
    """Whether the group is one of the Kubernetes community's."""
    return any(group == each or group.endswith(f".{each}") for each in _PROTECTED)


def has_status(version: Object) -> bool:
    return (version.get("subresources") or {}).get("status") is not None
