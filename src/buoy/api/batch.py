"""The Job."""

from __future__ import annotations

from . import formats
from .apps import CONTAINERS_COLUMN, IMAGES_COLUMN, SELECTOR_COLUMN
from .duration import age, human_duration
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object, parse_time, uid
from .metadata import immutable, validate_label_selector, validating
from .models import batch_v1
from .pod_validation import validate_template
from .pods import is_true
from .podspec import default_template
from .resource import JOBS
from .status import FieldError, invalid, not_supported, required
from .workload_validation import validate_counts, validate_matching

UID_LABEL = "batch.kubernetes.io/controller-uid"
NAME_LABEL = "batch.kubernetes.io/job-name"
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
FAILURES_ANNOTATION = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES_ANNOTATION = "batch.kubernetes.io/job-index-ignored-failure-count"
OLD_UID_LABEL = "controller-uid"
OLD_NAME_LABEL = "job-name"


def default(job: Object) -> None:
    spec = job.setdefault("spec", {})
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1
    if spec.get("backoffLimit") is None:
        # With a limit for each index, the Job as a whole may go on for as long as it takes.
        spec["backoffLimit"] = 6 if spec.get("backoffLimitPerIndex") is None else 2**31 - 1
    if spec.get("completionMode") is None:
        spec["completionMode"] = "NonIndexed"
    if spec.get("suspend") is None:
        spec["suspend"] = False
    if spec.get("podReplacementPolicy") is None:
        failing = spec.get("podFailurePolicy") is not None
        spec["podReplacementPolicy"] = "Failed" if failing else "TerminatingOrFailed"
    default_template(spec.setdefault("template", {}))


def prepare(job: Object, old: Object | None) -> None:
    """Without ``manualSelector``, a Job selects its Pods by its own uid."""
    if old is not None:
        job["status"] = old.get("status", {})
        return
    job["status"] = {}
    spec = job["spec"]
    identity = uid(job)
    if spec.get("manualSelector") or not identity:
        return
    metadata = spec["template"].setdefault("metadata", {})
    labels = metadata.get("labels") or {}
    metadata["labels"] = labels
    for key, value in (
        (OLD_NAME_LABEL, job["metadata"].get("name", "")),
        (NAME_LABEL, job["metadata"].get("name", "")),
        (OLD_UID_LABEL, identity),
        (UID_LABEL, identity),
    ):
        labels.setdefault(key, value)
    selector = spec.get("selector") or {}
    spec["selector"] = selector
    matched = selector.get("matchLabels") or {}
    matched.setdefault(UID_LABEL, identity)
    selector["matchLabels"] = matched


def _validate(job: Object, old: Object | None) -> list[FieldError]:
    spec = job["spec"]
    errors = _validate_generated(job) if old is None else []
    errors += validate_counts(
        spec,
        (
            "parallelism",
            "completions",
            "activeDeadlineSeconds",
            "backoffLimit",
            "ttlSecondsAfterFinished",
            "backoffLimitPerIndex",
            "maxFailedIndexes",
        ),
    )
    mode = spec.get("completionMode")
    if mode not in ("NonIndexed", "Indexed"):
        errors.append(not_supported("spec.completionMode", mode or "", ("NonIndexed", "Indexed")))
    elif mode == "Indexed" and spec.get("completions") is None:
        errors.append(required("spec.completions", "when completion mode is Indexed"))
    template = spec.get("template") or {}
    errors += validate_template(template, "spec.template")
    policy = (template.get("spec") or {}).get("restartPolicy")
    path = "spec.template.spec.restartPolicy"
    if policy == "Always":
        errors.append(required(path, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errors.append(not_supported(path, policy or "", ("OnFailure", "Never")))
    if spec.get("selector") is None:
        errors.append(required("spec.selector"))
    else:
        errors += validate_label_selector(spec["selector"], "spec.selector")
        errors += validate_matching(spec)
    if old is not None:
        before = old["spec"]
        if mode != "Indexed":
            errors += immutable("spec.completions", spec.get("completions"), before.get("completions"))
        errors += immutable("spec.selector", spec.get("selector"), before.get("selector"))
        if not before.get("suspend"):
            errors += immutable("spec.template", template, before.get("template"))
        errors += immutable("spec.completionMode", mode, before.get("completionMode"))
    return errors


def _validate_generated(job: Object) -> list[FieldError]:
    """Without ``manualSelector`` the template carries the labels that `prepare` put there, unchanged."""
    spec = job["spec"]
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    errors: list[FieldError] = []
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    own = {
        OLD_UID_LABEL: uid(job),
        OLD_NAME_LABEL: job["metadata"].get("name", ""),
        UID_LABEL: uid(job),
        NAME_LABEL: job["metadata"].get("name", ""),
    }
    for key, value in own.items():
        path = f"spec.template.metadata.labels[{key}]"
        if key not in labels:
            errors.append(required(path, f"must be '{value}'"))
        elif labels[key] != value:
            errors.append(invalid(path, labels, f"must be '{value}'"))
    if (spec["selector"].get("matchLabels") or {}).get(UID_LABEL) != uid(job):
        errors.append(invalid("spec.selector", spec["selector"], "`selector` not auto-generated"))
    return errors


def _status(job: Object) -> str:
    if is_true(job, "Complete"):
        return "Complete"
    if is_true(job, "Failed"):
        return "Failed"
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for condition in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if is_true(job, condition):
            return condition
    return "Running"


def _completions(job: Object) -> str:
    spec, status = job.get("spec") or {}, job.get("status") or {}
    succeeded = status.get("succeeded") or 0
    if spec.get("completions") is not None:
        return f"{succeeded}/{spec['completions']}"
    parallelism = spec.get("parallelism") or 0
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _duration(job: Object) -> str:
    status = job.get("status") or {}
    start, end = status.get("startTime"), status.get("completionTime")
    if not start:
        return ""
    if not end:
        return age(start)
    return human_duration((parse_time(end) - parse_time(start)).total_seconds())


JOB = Kind(
    resource=JOBS,
    model=batch_v1.Job,
    singular="job",
    categories=("all",),
    columns=(
        NAME_COLUMN,
        Column("Status", _status, description="Status of the job."),
        Column("Completions", _completions),
        Column("Duration", _duration, description="Time required to complete the job."),
        AGE_COLUMN,
        CONTAINERS_COLUMN,
        IMAGES_COLUMN,
        SELECTOR_COLUMN,
    ),
    has_status=True,
    has_generation=True,
    default=default,
    prepare=prepare,
    validate=validating(formats.dns_subdomain, _validate),
    selectable_fields={"status.successful": lambda job: str((job.get("status") or {}).get("succeeded") or 0)},
)
