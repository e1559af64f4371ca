"""What a CronJob does now: which Jobs to make and to take away, and when to look again.

Follows k8s.io/kubernetes ``pkg/controller/cronjob``. A Job's name follows from its scheduled time, so that no
time gives two Jobs, however often this is done again.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from buoy.api import meta, pods
from buoy.api.cron import Schedule, ScheduleError, parse, zone
from buoy.api.meta import Object

from ..job.plan import is_finished

TIME_ANNOTATION = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_MANY_MISSED = 100


class Told(NamedTuple):
    """An event."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """First *delete*, then *create*. *status* is that before the creation; *wait* is in seconds."""

    status: Object
    delete: tuple[Object, ...] = ()
    create: Object | None = None
    events: tuple[Told, ...] = field(default=())
    wait: float | None = None


def reference(job: Object) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": meta.name(job),
        "namespace": meta.namespace(job),
        "uid": meta.uid(job),
        "resourceVersion": job["metadata"]["resourceVersion"],
    }


def plan(cron_job: Object, owned: Sequence[Object], now: datetime.datetime) -> Plan:
    """*owned* are the Jobs that the CronJob controls."""
    events: list[Told] = []
    superfluous = _superfluous(cron_job, owned)
    status = _current(cron_job, owned, superfluous, events)
    if meta.is_terminating(cron_job):
        return Plan(status, events=tuple(events))
    spec = cron_job["spec"]
    try:
        place, schedule = zone(spec.get("timeZone")), parse(spec["schedule"])
    except ScheduleError as error:
        reason = "UnparseableSchedule"
        events.append(Told("Warning", reason, f"unparseable schedule: {spec['schedule']!r} : {error}"))
        return Plan(status, superfluous, None, tuple(events))
    if spec.get("suspend"):
        return Plan(status, superfluous, None, tuple(events))
    following = schedule.next(now, place)
    wait = (following - now).total_seconds() + 0.1 if following else None
    due, many = most_recent(cron_job, schedule, place, now)
    if many:
        text = (
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        )
        events.append(Told("Warning", "TooManyMissedTimes", text))
    if due is None or meta.format_time(due) == status.get("lastScheduleTime"):
        return Plan(status, superfluous, None, tuple(events), wait)
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None and due + datetime.timedelta(seconds=deadline) < now:
        moment = due.astimezone(place).strftime("%a, %d %b %Y %H:%M:%S %z")
        events.append(Told("Warning", "MissSchedule", f"Missed scheduled time to start a job: {moment}"))
        return Plan(status, superfluous, None, tuple(events), wait)
    active = {each["uid"] for each in status.get("active") or ()}
    delete = list(superfluous)
    if active and spec.get("concurrencyPolicy") == "Forbid":
        text = "Not starting job because prior execution is running and concurrency policy is Forbid"
        events.append(Told("Normal", "JobAlreadyActive", text))
        return Plan(status, superfluous, None, tuple(events), wait)
    if spec.get("concurrencyPolicy") == "Replace":
        delete += [each for each in owned if meta.uid(each) in active]
        status = {key: value for key, value in status.items() if key != "active"}
    status = {**status, "lastScheduleTime": meta.format_time(due)}
    return Plan(status, tuple(delete), job_of(cron_job, due, place), tuple(events), wait)


def job_of(cron_job: Object, due: datetime.datetime, place: datetime.tzinfo) -> Object:
    template = cron_job["spec"]["jobTemplate"]
    metadata = template.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{meta.name(cron_job)}-{int(due.timestamp()) // 60}",
            "namespace": meta.namespace(cron_job),
            "labels": metadata.get("labels") or {},
            "annotations": {
                **annotations,
                TIME_ANNOTATION: due.astimezone(place).isoformat(timespec="seconds").replace("+00:00", "Z"),
            },
            "ownerReferences": [meta.owner_reference(cron_job)],
        },
        "spec": template["spec"],
    }


def most_recent(
    cron_job: Object, schedule: Schedule, place: datetime.tzinfo, now: datetime.datetime
) -> tuple[datetime.datetime | None, bool]:
    """The last scheduled time that has come and was not served, and whether very many have been missed."""
    last = (cron_job.get("status") or {}).get("lastScheduleTime")
    earliest = meta.parse_time(last or cron_job["metadata"]["creationTimestamp"])
    deadline = cron_job["spec"].get("startingDeadlineSeconds")
    if deadline is not None:
        earliest = max(earliest, now - datetime.timedelta(seconds=deadline))
    first = schedule.next(earliest, place)
    if first is None or first > now:
        return None, False
    second = schedule.next(first, place)
    if second is None or second > now:
        return first, False
    interval = max(1.0, (second - first).total_seconds())
    missed = int((now - first).total_seconds() // interval) + 1
    found = first
    following: datetime.datetime | None = first + datetime.timedelta(seconds=(missed - 2) * interval)
    while following and (following := schedule.next(following, place)) and following <= now:
        found = following
    return found, missed > _MANY_MISSED


def _current(
    cron_job: Object, owned: Sequence[Object], superfluous: Sequence[Object], events: list[Told]
) -> Object:
    """The status after what has become of the active Jobs; *events* get what there is to tell."""
    status = dict(cron_job.get("status") or {})
    by_uid = {meta.uid(each): each for each in owned}
    known = {each["uid"]: each for each in status.get("active") or ()}
    gone = {meta.uid(each) for each in superfluous}
    active = []
    for uid, entry in known.items():
        job = by_uid.get(uid)
        if job is None:
            events.append(Told("Normal", "MissingJob", f"Active job went missing: {entry['name']}"))
        elif is_finished(job):
            kind = "Complete" if pods.is_true(job, "Complete") else "Failed"
            text = f"Saw completed job: {meta.name(job)}, condition: {kind}"
            events.append(Told("Normal", "SawCompletedJob", text))
        elif uid not in gone:
            active.append(entry)
    # One that was created just before its creator was killed belongs to the active ones too.
    active += [reference(each) for uid, each in by_uid.items() if uid not in known and not is_finished(each)]
    status.pop("active", None)
    if active:
        status["active"] = active
    times = [(each.get("status") or {}).get("completionTime") or "" for each in owned]
    latest = max((status.get("lastSuccessfulTime") or "", *times))
    return {**status, "lastSuccessfulTime": latest} if latest else status


def _superfluous(cron_job: Object, owned: Sequence[Object]) -> tuple[Object, ...]:
    """The oldest finished Jobs beyond the limits of the history."""
    spec = cron_job["spec"]
    doomed: list[Object] = []
    for kind, name in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        limit = spec.get(name)
        if limit is None:
            continue
        finished = [each for each in owned if pods.is_true(each, kind)]
        finished.sort(key=lambda each: ((each.get("status") or {}).get("startTime") or "", meta.name(each)))
        doomed += finished[: max(0, len(finished) - int(limit))]
    return tuple(each for each in doomed if not meta.is_terminating(each))
