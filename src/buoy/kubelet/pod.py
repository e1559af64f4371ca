"""Reading a Pod object: what its fields mean, with the defaults that the API server would have filled in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from ..api import meta, references
from ..api.meta import Object


def containers(pod: Object) -> list[Object]:
    return pod["spec"].get("containers") or []


def init_containers(pod: Object) -> list[Object]:
    return pod["spec"].get("initContainers") or []


def ephemeral_containers(pod: Object) -> list[Object]:
    """Those that were added to look into a running Pod."""
    return pod["spec"].get("ephemeralContainers") or []


def all_containers(pod: Object) -> Iterator[Object]:
    """Init containers, then the others, then ephemeral ones."""
    yield from init_containers(pod)
    yield from containers(pod)
    yield from ephemeral_containers(pod)


def find_container(pod: Object, name: str) -> Object | None:
    return next((c for c in all_containers(pod) if c["name"] == name), None)


def restart_policy(pod: Object) -> str:
    return str(pod["spec"].get("restartPolicy") or "Always")


def host_network(pod: Object) -> bool:
    return bool(pod["spec"].get("hostNetwork"))


def field_path(pod: Object, container_name: str) -> str:
    """How an event points at one of the Pod's containers."""
    for kind in ("initContainers", "ephemeralContainers"):
        if any(each["name"] == container_name for each in pod["spec"].get(kind) or ()):
            return f"spec.{kind}{{{container_name}}}"
    return f"spec.containers{{{container_name}}}"


def describe(pod: Object) -> str:
    """``name_namespace(uid)``, the way messages name a Pod."""
    return f"{meta.name(pod)}_{meta.namespace(pod)}({meta.uid(pod)})"


def container_hash(container: Object) -> str:
    """Changes when the container must be made anew because its specification did."""
    picked = msgspec.json.encode([container["name"], container.get("image", "")])
    return hashlib.sha256(picked).hexdigest()[:8]


def requested(container: Object, resource: str) -> str | None:
    """The request for *resource*, which is the limit if only that is set; None if neither is."""
    resources = container.get("resources") or {}
    request = (resources.get("requests") or {}).get(resource)
    return request if request is not None else (resources.get("limits") or {}).get(resource)


def limit(container: Object, resource: str) -> str | None:
    found: str | None = ((container.get("resources") or {}).get("limits") or {}).get(resource)
    return found


def grace_period(pod: Object) -> int:
    """Seconds that the Pod's processes have from SIGTERM to SIGKILL; at least one, also if told to hurry."""
    asked = pod["metadata"].get("deletionGracePeriodSeconds")
    if asked is None:
        asked = pod["spec"].get("terminationGracePeriodSeconds")
    return max(1, int(30 if asked is None else asked))


def named_port(container: Object, port: int | str) -> int:
    """A port number or the name of one of the container's ports. ValueError if there is none of that name."""
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    if port.isdigit():
        return int(port)
    raise ValueError(f"couldn't find port: {port!r}")


def config_names(pod: Object) -> tuple[frozenset[str], frozenset[str]]:
    """The names of all ConfigMaps and Secrets that the Pod refers to."""
    return references.config_maps(pod), references.secrets(pod)
