"""One step of a StatefulSet: which of its Pods to make and which to take away now.

Follows k8s.io/kubernetes ``pkg/controller/statefulset``: from ordinal to ordinal upwards when making,
downwards when taking away, waiting for each unless the policy is ``Parallel``.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

from buoy.api import meta, pods
from buoy.api.meta import Object

from ..history import template_of
from ..replicaset.plan import available_in, replicas

REVISION_LABEL = "controller-revision-hash"
NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"

_ORDINAL = re.compile(r"(.*)-([0-9]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Plan:
    """*wait* is in seconds: until a Pod that is ready becomes available."""

    create: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()
    wait: float | None = None


def ordinal(stateful_set: Object, pod: Object) -> int | None:
    """Its number, None if its name is not one of the set's."""
    found = _ORDINAL.fullmatch(meta.name(pod))
    return int(found[2]) if found and found[1] == meta.name(stateful_set) else None


def first_ordinal(stateful_set: Object) -> int:
    return int((stateful_set["spec"].get("ordinals") or {}).get("start") or 0)


def is_running_and_ready(pod: Object) -> bool:
    return pods.phase(pod) == "Running" and pods.is_ready(pod)


def claim_name(claim: Object, pod_name: str) -> str:
    return f"{claim['metadata']['name']}-{pod_name}"


def claims(stateful_set: Object, pod: Object) -> list[Object]:
    """The PersistentVolumeClaims that the Pod needs."""
    made = []
    for each in stateful_set["spec"].get("volumeClaimTemplates") or ():
        labels = (stateful_set["spec"]["selector"] or {}).get("matchLabels") or {}
        metadata = {
            **each["metadata"],
            "name": claim_name(each, meta.name(pod)),
            "namespace": meta.namespace(stateful_set),
            "labels": {**(each["metadata"].get("labels") or {}), **labels},
        }
        made.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": metadata,
                "spec": each.get("spec") or {},
            }
        )
    return made


def pod_of(stateful_set: Object, revision: Object, number: int) -> Object:
    """The Pod of that ordinal in that revision."""
    template = template_of(revision)
    metadata = template.get("metadata") or {}
    name = f"{meta.name(stateful_set)}-{number}"
    spec: Object = {**(template.get("spec") or {}), "hostname": name}
    if stateful_set["spec"].get("serviceName"):
        spec["subdomain"] = stateful_set["spec"]["serviceName"]
    templates = stateful_set["spec"].get("volumeClaimTemplates") or ()
    if templates:
        claimed = {each["metadata"]["name"] for each in templates}
        spec["volumes"] = [
            *(volume for volume in spec.get("volumes") or () if volume["name"] not in claimed),
            *(
                {
                    "name": each["metadata"]["name"],
                    "persistentVolumeClaim": {"claimName": claim_name(each, name)},
                }
                for each in templates
            ),
        ]
    labels = {
        **(metadata.get("labels") or {}),
        REVISION_LABEL: meta.name(revision),
        NAME_LABEL: name,
        INDEX_LABEL: str(number),
    }
    made: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": meta.namespace(stateful_set),
            "labels": labels,
            "ownerReferences": [meta.owner_reference(stateful_set)],
        },
        "spec": spec,
    }
    for field in ("annotations", "finalizers"):
        if metadata.get(field):
            made["metadata"][field] = metadata[field]
    return made


def _partition(stateful_set: Object) -> int:
    rolling = (stateful_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    return int(rolling.get("partition") or 0)


def _max_unavailable(stateful_set: Object) -> int:
    rolling = (stateful_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    value = rolling.get("maxUnavailable", 1)
    if isinstance(value, str):
        value = int(value.rstrip("%")) * replicas(stateful_set) // 100
    return max(1, int(value))


def _rolls(stateful_set: Object) -> bool:
    return (stateful_set["spec"].get("updateStrategy") or {}).get("type") != "OnDelete"


def plan(
    stateful_set: Object,
    owned: Sequence[Object],
    current: Object,
    update: Object,
    now: datetime.datetime,
) -> Plan:
    """*current* and *update* are revisions: the one that all Pods had last, and the one of the template."""
    if meta.is_terminating(stateful_set):
        return Plan()
    first, wanted = first_ordinal(stateful_set), replicas(stateful_set)
    min_ready = int(stateful_set["spec"].get("minReadySeconds") or 0)
    one_by_one = stateful_set["spec"].get("podManagementPolicy", "OrderedReady") != "Parallel"
    by_ordinal = {number: each for each in owned if (number := ordinal(stateful_set, each)) is not None}
    condemned = sorted(
        (number for number in by_ordinal if not first <= number < first + wanted), reverse=True
    )
    waits = [available_in(each, min_ready, now) for each in by_ordinal.values()]
    wait = min((each for each in waits if each), default=None)

    def available(pod: Object) -> bool:
        return is_running_and_ready(pod) and available_in(pod, min_ready, now) == 0

    # Below the partition, and until the update gets there, Pods are made as they were.
    kept = first + _partition(stateful_set)
    create: list[Object] = []
    delete: list[Object] = []
    for number in range(first, first + wanted):
        pod = by_ordinal.get(number)
        if pod is None:
            old = _rolls(stateful_set) and number < kept
            create.append(pod_of(stateful_set, current if old else update, number))
        elif pods.is_terminal(pod) and not meta.is_terminating(pod):
            delete.append(pod)
        if one_by_one and (pod is None or meta.is_terminating(pod) or delete or not available(pod)):
            return Plan(tuple(create), tuple(delete), wait)
    unhealthy = [number for number in sorted(by_ordinal) if not available(by_ordinal[number])]
    for number in condemned:
        pod = by_ordinal[number]
        if meta.is_terminating(pod):
            if one_by_one:
                return Plan(tuple(create), tuple(delete), wait)
            continue
        if one_by_one and not available(pod) and unhealthy and number != unhealthy[0]:
            return Plan(tuple(create), tuple(delete), wait)
        delete.append(pod)
        if one_by_one:
            return Plan(tuple(create), tuple(delete), wait)
    if create or delete or not _rolls(stateful_set):
        return Plan(tuple(create), tuple(delete), wait)
    # From the highest ordinal down, old ones make room for new ones.
    missing = sum(number < first + wanted and not available(by_ordinal[number]) for number in by_ordinal)
    for number in range(first + wanted - 1, kept - 1, -1):
        pod = by_ordinal[number]
        if meta.is_terminating(pod):
            continue
        if meta.labels(pod).get(REVISION_LABEL) != meta.name(update):
            healthy = available(pod)
            if healthy and missing >= _max_unavailable(stateful_set):
                break
            delete.append(pod)
            missing += healthy
        elif not available(pod) and missing >= _max_unavailable(stateful_set):
            break
        if missing >= _max_unavailable(stateful_set):
            break
    return Plan((), tuple(delete), wait)


def status(
    stateful_set: Object, owned: Sequence[Object], current: Object, update: Object, now: datetime.datetime
) -> Object:
    """The counts, and the revisions: when all have been updated, the update revision is the current one."""
    min_ready = int(stateful_set["spec"].get("minReadySeconds") or 0)
    mine = [each for each in owned if ordinal(stateful_set, each) is not None]

    def of(revision: Object) -> int:
        return sum(
            not meta.is_terminating(each) and meta.labels(each).get(REVISION_LABEL) == meta.name(revision)
            for each in mine
        )

    ready = [each for each in mine if is_running_and_ready(each)]
    counts = {
        "observedGeneration": stateful_set["metadata"].get("generation", 0),
        "replicas": len(mine),
        "readyReplicas": len(ready),
        "currentReplicas": of(current),
        "updatedReplicas": of(update),
        "availableReplicas": sum(available_in(each, min_ready, now) == 0 for each in ready),
    }
    names = {"currentRevision": meta.name(current), "updateRevision": meta.name(update)}
    whole = replicas(stateful_set)
    if _rolls(stateful_set) and counts["updatedReplicas"] == counts["replicas"] == len(ready) == whole:
        counts["currentReplicas"] = counts["updatedReplicas"]
        names["currentRevision"] = names["updateRevision"]
    kept = ("replicas", "availableReplicas")
    result: Object = {key: value for key, value in counts.items() if value or key in kept}
    collisions = (stateful_set.get("status") or {}).get("collisionCount")
    return {**result, **names, "collisionCount": collisions or 0}
