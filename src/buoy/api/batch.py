"""The Job, and the CronJob, which makes Jobs."""

from __future__ import annotations

import copy
import dataclasses

from . import cron, formats
from .apps import CONTAINERS_COLUMN, IMAGES_COLUMN, SELECTOR_COLUMN
from .duration import age, human_duration
from .job_validation import validate_job_spec
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object, parse_time, uid
from .metadata import immutable, validate_label_selector, validating
from .models import batch_v1
from .pods import is_true
from .podspec import default_template
from .resource import CRON_JOBS, JOBS
from .status import FieldError, invalid, not_supported, required
from .workload_validation import validate_counts, validate_matching

UID_LABEL = "batch.kubernetes.io/controller-uid"
NAME_LABEL = "batch.kubernetes.io/job-name"
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
FAILURES_ANNOTATION = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES_ANNOTATION = "batch.kubernetes.io/job-index-ignored-failure-count"
_PLACEMENT = ("nodeSelector", "tolerations", "schedulingGates", "affinity")
_CONCURRENCY_POLICIES = ("Allow", "Forbid", "Replace")
_LONGEST_CRON_JOB_NAME = 52
OLD_UID_LABEL = "controller-uid"
OLD_NAME_LABEL = "job-name"


def default(job: Object) -> None:
    default_spec(job.setdefault("spec", {}))
    default_template(job["spec"].setdefault("template", {}))


def default_spec(spec: Object) -> None:
    """Of a Job; its template's fields aside."""
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
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for condition in rule.get("onPodConditions") or ():
            condition.setdefault("status", "True")


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
    errors += validate_job_spec(spec, "spec")
    if spec.get("selector") is None:
        errors.append(required("spec.selector"))
    else:
        errors += validate_label_selector(spec["selector"], "spec.selector")
        errors += validate_matching(spec)
    if old is not None:
        errors += _validate_update(spec, old)
    return errors


def _validate_update(spec: Object, old: Object) -> list[FieldError]:
    before, status = old["spec"], old.get("status") or {}
    errors: list[FieldError] = []
    # Indexes may be added and taken away if parallelism goes with them.
    if spec.get("completions") != before.get("completions") and not (
        spec.get("completionMode") == "Indexed"
        and spec.get("completions") is not None
        and spec.get("completions") == spec.get("parallelism")
        and before.get("completions") == before.get("parallelism")
    ):
        errors += immutable("spec.completions", spec.get("completions"), before.get("completions"))
    errors += immutable("spec.selector", spec.get("selector"), before.get("selector"))
    template, was = spec.get("template") or {}, before.get("template") or {}
    if before.get("suspend") and not status.get("startTime"):
        template = _with_placement_of(template, was)
    errors += immutable("spec.template", template, was)
    for field in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        errors += immutable(f"spec.{field}", spec.get(field), before.get(field))
    return errors


def _with_placement_of(template: Object, other: Object) -> Object:
    """As long as no Pod was made, where Pods shall run may still be changed (KEP-2926)."""
    pod, was = template.get("spec") or {}, other.get("spec") or {}
    spec = {key: value for key, value in pod.items() if key not in _PLACEMENT}
    metadata = {**(template.get("metadata") or {})}
    for field in ("labels", "annotations"):
        metadata[field] = (other.get("metadata") or {}).get(field)
    spec |= {key: was[key] for key in _PLACEMENT if key in was}
    return {**template, "metadata": metadata, "spec": spec}


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


def default_cron_job(cron_job: Object) -> None:
    spec = cron_job.setdefault("spec", {})
    if not spec.get("concurrencyPolicy"):
        spec["concurrencyPolicy"] = "Allow"
    if spec.get("suspend") is None:
        spec["suspend"] = False
    if spec.get("successfulJobsHistoryLimit") is None:
        spec["successfulJobsHistoryLimit"] = 3
    if spec.get("failedJobsHistoryLimit") is None:
        spec["failedJobsHistoryLimit"] = 1
    default_template(spec.setdefault("jobTemplate", {}).setdefault("spec", {}).setdefault("template", {}))


def prepare_cron_job(cron_job: Object, old: Object | None) -> None:
    cron_job["status"] = old.get("status", {}) if old is not None else {}


def _validate_cron_job(cron_job: Object, old: Object | None) -> list[FieldError]:
    spec, name = cron_job["spec"], cron_job["metadata"].get("name") or ""
    errors: list[FieldError] = []
    if old is None and len(name) > _LONGEST_CRON_JOB_NAME:
        bound = f"must be no more than {_LONGEST_CRON_JOB_NAME} characters"
        errors.append(invalid("metadata.name", name, bound))
    schedule = spec.get("schedule") or ""
    if not schedule:
        errors.append(required("spec.schedule"))
    elif old is None or schedule != old["spec"].get("schedule"):
        errors += _validate_schedule(schedule)
    errors += _validate_zone(spec.get("timeZone"), old)
    errors += validate_counts(
        spec, ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    )
    policy = spec.get("concurrencyPolicy")
    if policy not in _CONCURRENCY_POLICIES:
        errors.append(not_supported("spec.concurrencyPolicy", policy or "", _CONCURRENCY_POLICIES))
    # What a Job is given when it is made need not be in the template.
    template = copy.deepcopy(spec["jobTemplate"].get("spec") or {})
    default_spec(template)
    path = "spec.jobTemplate.spec"
    errors += validate_job_spec(template, path)
    if template.get("selector") is not None:
        errors.append(invalid(f"{path}.selector", template["selector"], "`selector` will be auto-generated"))
    if template.get("manualSelector"):
        errors.append(not_supported(f"{path}.manualSelector", True, ("nil", "false")))
    return errors


def _validate_schedule(schedule: str) -> list[FieldError]:
    if "TZ" in schedule:
        sentence = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        return [invalid("spec.schedule", schedule, sentence)]
    try:
        cron.parse(schedule)
    except cron.ScheduleError as error:
        return [invalid("spec.schedule", schedule, str(error))]
    return []


def _validate_zone(name: str | None, old: Object | None) -> list[FieldError]:
    if name is None or (old is not None and old["spec"].get("timeZone") == name):
        return []
    if not name:
        return [invalid("spec.timeZone", name, "timeZone must be nil or non-empty string")]
    if name.lower() == "local":
        sentence = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [invalid("spec.timeZone", name, sentence)]
    try:
        cron.zone(name)
    except cron.ScheduleError as error:
        return [invalid("spec.timeZone", name, str(error))]
    return []


def _last_schedule(cron_job: Object) -> str:
    last = (cron_job.get("status") or {}).get("lastScheduleTime")
    return age(last) if last else "<none>"


def _of_template(column: Column) -> Column:
    """The same column, of the Jobs to be made."""
    return dataclasses.replace(column, value=lambda obj: column.value(obj["spec"]["jobTemplate"]))


CRON_JOB = Kind(
    resource=CRON_JOBS,
    model=batch_v1.CronJob,
    singular="cronjob",
    short_names=("cj",),
    categories=("all",),
    columns=(
        NAME_COLUMN,
        Column("Schedule", lambda obj: obj["spec"].get("schedule", "")),
        Column("Timezone", lambda obj: obj["spec"].get("timeZone") or "<none>"),
        Column("Suspend", lambda obj: str(bool(obj["spec"].get("suspend")))),
        Column("Active", lambda obj: len((obj.get("status") or {}).get("active") or ()), type="integer"),
        Column("Last Schedule", _last_schedule),
        AGE_COLUMN,
        _of_template(CONTAINERS_COLUMN),
        _of_template(IMAGES_COLUMN),
        Column(SELECTOR_COLUMN.name, lambda obj: "<none>", wide=True),
    ),
    has_status=True,
    has_generation=True,
    default=default_cron_job,
    prepare=prepare_cron_job,
    validate=validating(formats.dns_subdomain, _validate_cron_job),
)
