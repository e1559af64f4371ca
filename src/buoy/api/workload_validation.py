"""Faults in workloads: what Deployments, ReplicaSets, StatefulSets, DaemonSets and Jobs have in common.

After k8s.io/kubernetes' ``pkg/apis/apps/validation``.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import formats
from .meta import Object
from .metadata import faults, immutable, non_negative, validate_label_selector
from .pod_validation import validate_template
from .selectors import SelectorError, from_object
from .status import FieldError, forbidden_field, invalid, not_supported, required

MISMATCH = "`selector` does not match template `labels`"


def validate_selector(spec: Object, old: Object | None, empty: str) -> list[FieldError]:
    """``spec.selector``: there, well formed, not empty (the sentence is *empty*), and never changed."""
    selector = spec.get("selector")
    errors: list[FieldError] = []
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        errors += validate_label_selector(selector, "spec.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            errors.append(invalid("spec.selector", selector, empty))
    if old is not None:
        errors += immutable("spec.selector", selector, old["spec"].get("selector"))
    return errors


def validate_matching(spec: Object) -> list[FieldError]:
    """The template's labels are what the selector selects."""
    try:
        selector = from_object(spec.get("selector"))
    except SelectorError:
        return [invalid("spec.selector", spec.get("selector"), "invalid label selector")]
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if selector.empty or selector.matches(labels or {}):
        return []
    return [invalid("spec.template.metadata.labels", labels, MISMATCH)]


def validate_running_template(spec: Object, kind: str) -> list[FieldError]:
    """The template of Pods that are to run for ever."""
    template = spec.get("template") or {}
    errors = validate_template(template, "spec.template")
    pod = template.get("spec") or {}
    errors += always_restarts(pod)
    if pod.get("activeDeadlineSeconds") is not None:
        errors.append(
            forbidden_field(
                "spec.template.spec.activeDeadlineSeconds",
                f"activeDeadlineSeconds in {kind} is not Supported",
            )
        )
    return errors


def always_restarts(pod: Object) -> list[FieldError]:
    policy = pod.get("restartPolicy") or ""
    if policy == "Always":
        return []
    return [not_supported("spec.template.spec.restartPolicy", policy, ("Always",))]


def validate_counts(spec: Object, fields: Sequence[str], path: str = "spec") -> list[FieldError]:
    """Numbers that may not be negative."""
    errors: list[FieldError] = []
    for field in fields:
        errors += non_negative(f"{path}.{field}", spec.get(field))
    return errors


def validate_count_or_percent(value: int | str | None, path: str) -> list[FieldError]:
    if isinstance(value, str):
        return faults(path, value, formats.percent(value))
    return non_negative(path, value)


def is_zero(value: int | str | None) -> bool:
    """A count or percentage that comes to nothing."""
    if isinstance(value, str):
        digits = value.removesuffix("%")
        return not digits.isdigit() or int(digits) == 0
    return not value


def at_most_all(value: int | str | None, path: str) -> list[FieldError]:
    """No more than 100%."""
    if isinstance(value, str) and not formats.percent(value) and int(value[:-1]) > 100:
        return [invalid(path, value, "must not be greater than 100%")]
    return []


def validate_status_counts(status: Object, fields: Sequence[str]) -> list[FieldError]:
    """Each of *fields* is a part of ``replicas``, and what is available is a part of what is ready."""
    counts = ("replicas", *fields, "observedGeneration")
    errors = validate_counts(status, counts, "status")
    total = status.get("replicas") or 0
    for field in fields:
        count = status.get(field) or 0
        if count > total:
            errors.append(invalid(f"status.{field}", count, "cannot be greater than status.replicas"))
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        errors.append(invalid("status.availableReplicas", available, "cannot be greater than readyReplicas"))
    return errors


def validate_collisions(status: Object, old: Object) -> list[FieldError]:
    """``collisionCount`` only grows."""
    new, before = status.get("collisionCount"), old.get("collisionCount")
    if before is None or (new is not None and new >= before):
        return []
    return [invalid("status.collisionCount", new or 0, "cannot be decremented")]
