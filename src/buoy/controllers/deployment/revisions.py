"""Which ReplicaSet is which revision, and what its annotations say of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from buoy.api import meta, pods
from buoy.api.meta import Object

from . import numbers

HASH_LABEL = pods.TEMPLATE_HASH_LABEL
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"

_HISTORY_LIMIT = 2000
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        numbers.DESIRED,
        numbers.MAXIMUM,
        "deprecated.deployment.rollback.to",
    }
)


def same_template(one: Object, other: Object) -> bool:
    """Equal but for the hash label."""
    return _plain(one) == _plain(other)


def _plain(template: Object) -> Object:
    metadata = template.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    kept = {key: value for key, value in metadata.items() if value and key != "labels"}
    return {"metadata": {**kept, "labels": labels}, "spec": template.get("spec") or {}}


def creation_order(replica_set: Object) -> tuple[str, str]:
    metadata = replica_set["metadata"]
    return metadata.get("creationTimestamp", ""), metadata["name"]


def find_new(deployment: Object, replica_sets: Iterable[Object]) -> Object | None:
    """The oldest ReplicaSet with the Deployment's template."""
    template = deployment["spec"]["template"]
    for each in sorted(replica_sets, key=creation_order):
        if same_template(each["spec"]["template"], template):
            return each
    return None


def revision(obj: Object) -> int:
    """Its revision, 0 if it has none."""
    return numbers.annotated(obj, REVISION) or 0


def next_revision(old: Iterable[Object]) -> int:
    return max(map(revision, old), default=0) + 1


def size_annotations(deployment: Object) -> dict[str, str]:
    wanted = numbers.replicas(deployment)
    return {
        numbers.DESIRED: str(wanted),
        numbers.MAXIMUM: str(wanted + numbers.max_surge(deployment)),
    }


def annotate(deployment: Object, current: dict[str, str], number: int) -> dict[str, str]:
    """The annotations of the newest ReplicaSet: the Deployment's, and revision *number* with its history."""
    result = dict(current)
    result.update(
        (key, value) for key, value in meta.annotations(deployment).items() if key not in _NOT_COPIED
    )
    previous = current.get(REVISION, "")
    if (int(previous) if previous.isdigit() else 0) < number:
        result[REVISION] = str(number)
        if previous:
            result[REVISION_HISTORY] = _extend(current.get(REVISION_HISTORY, ""), previous)
    return result


def _extend(history: str, number: str) -> str:
    numbers_so_far = [*filter(None, history.split(",")), number]
    while len(",".join(numbers_so_far)) > _HISTORY_LIMIT:
        del numbers_so_far[0]
    return ",".join(numbers_so_far)


def make(deployment: Object, old: Sequence[Object]) -> Object:
    """A new, empty ReplicaSet for the Deployment's template."""
    spec = deployment["spec"]
    template = spec["template"]
    name_hash = pods.template_hash(template, (deployment.get("status") or {}).get("collisionCount"))
    labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: name_hash}
    selector = spec["selector"]
    made: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta.name(deployment)}-{name_hash}",
            "namespace": meta.namespace(deployment),
            "labels": labels,
            "annotations": {
                **annotate(deployment, {}, next_revision(old)),
                **size_annotations(deployment),
            },
            "ownerReferences": [meta.owner_reference(deployment)],
        },
        "spec": {
            "replicas": 0,
            "selector": {
                **selector,
                "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: name_hash},
            },
            "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}},
        },
    }
    if spec.get("minReadySeconds"):
        made["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    return made
