"""What a Job reads from one of its Pods, and what it writes into a new one."""

from __future__ import annotations

import datetime

from buoy.api import batch, meta, pods
from buoy.api.meta import Object

from ..replicaset.plan import pod
from . import policy

FINALIZER = "batch.kubernetes.io/job-tracking"
"""As long as a Pod has it, the Pod is not counted in the Job's status for good."""

_LONGEST_PREFIX = 58  # of a generated name


def is_tracked(found: Object) -> bool:
    return FINALIZER in (found["metadata"].get("finalizers") or ())


def untracked(found: Object) -> Object:
    """The Pod as it is without the finalizer."""
    kept = [each for each in found["metadata"].get("finalizers") or () if each != FINALIZER]
    return {**found, "metadata": {**found["metadata"], "finalizers": kept}}


def index_of(found: Object) -> int | None:
    text = meta.annotations(found).get(batch.INDEX_ANNOTATION, "")
    return int(text) if text.isascii() and text.isdigit() else None


def replaces_failed_only(job: Object) -> bool:
    """Whether a Pod that is being deleted has not failed before it has ended."""
    spec = job["spec"]
    return spec.get("podReplacementPolicy") == "Failed" or bool(spec.get("podFailurePolicy"))


def has_failed(job: Object, found: Object) -> bool:
    if pods.phase(found) == "Failed":
        return True
    if replaces_failed_only(job):
        return False
    # One that is deleted may never get to an end: its node may be gone.
    return meta.is_terminating(found) and pods.phase(found) != "Succeeded"


def has_failed_its_index(job: Object, found: Object) -> bool:
    """Whether no other Pod is to be tried for the index of this failed one."""
    said = policy.match(job, found)
    if said.action == "FailIndex":
        return True
    return said.counts and failures(found) >= int(job["spec"]["backoffLimitPerIndex"])


def failures(found: Object) -> int:
    """How many Pods of its index have failed before it."""
    return _number(found, batch.FAILURES_ANNOTATION)


def attempts(found: Object) -> int:
    """The same with those whose failure was ignored."""
    return failures(found) + _number(found, batch.IGNORED_FAILURES_ANNOTATION)


def _number(found: Object, annotation: str) -> int:
    text = meta.annotations(found).get(annotation, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def ended_at(found: Object) -> datetime.datetime:
    """When its last container ended; for one that is deleted before that, the moment of its deletion."""
    status = found.get("status") or {}
    moments = [
        str(ended["finishedAt"])
        for each in status.get("containerStatuses") or ()
        if (ended := (each.get("state") or {}).get("terminated")) and ended.get("finishedAt")
    ]
    if not moments:
        condition = pods.condition(found, "Ready") or {}
        text = found["metadata"].get("deletionTimestamp") or condition.get("lastTransitionTime")
        moments = [str(text or found["metadata"]["creationTimestamp"])]
    return max(map(meta.parse_time, moments))


def new_pod(job: Object, index: int | None, replaced: Object | None) -> Object:
    """A Pod of the Job; *replaced* is the failed one of the same index whose count of failures goes on."""
    made = pod(job, job["spec"]["template"])
    metadata = made["metadata"]
    metadata["finalizers"] = [
        *(each for each in metadata.get("finalizers") or () if each != FINALIZER),
        FINALIZER,
    ]
    if index is None:
        return made
    name = meta.name(job)
    suffix = f"-{index}-"
    metadata["generateName"] = name[: _LONGEST_PREFIX - len(suffix)] + suffix
    annotations = {**(metadata.get("annotations") or {}), batch.INDEX_ANNOTATION: str(index)}
    if job["spec"].get("backoffLimitPerIndex") is not None:
        annotations |= _failures_after(job, replaced)
    metadata["annotations"] = annotations
    metadata["labels"] = {**(metadata.get("labels") or {}), batch.INDEX_ANNOTATION: str(index)}
    made["spec"] = _indexed(made["spec"], f"{name}-{index}")
    return made


def _failures_after(job: Object, replaced: Object | None) -> dict[str, str]:
    failed = ignored = 0
    if replaced is not None:
        counts = policy.match(job, replaced).counts
        failed = failures(replaced) + counts
        ignored = attempts(replaced) - failures(replaced) + (not counts)
    found = {batch.FAILURES_ANNOTATION: str(failed)}
    if ignored:
        found[batch.IGNORED_FAILURES_ANNOTATION] = str(ignored)
    return found


def _indexed(spec: Object, hostname: str) -> Object:
    variable = {
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {
            "fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{batch.INDEX_ANNOTATION}']"}
        },
    }
    found: Object = {**spec, "hostname": hostname}
    for field in ("initContainers", "containers"):
        if spec.get(field):
            found[field] = [_with_variable(each, variable) for each in spec[field]]
    return found


def _with_variable(container: Object, variable: Object) -> Object:
    given = container.get("env") or []
    if any(each["name"] == variable["name"] for each in given):
        return container
    return {**container, "env": [*given, variable]}
