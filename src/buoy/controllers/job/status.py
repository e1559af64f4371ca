"""What a Job says of itself: each end of a Pod counted once (KEP-2307).

A Pod that has ended is noted by its uid; that note is written before the Pod loses its finalizer, and turned
into a number when it has lost it. Killed between any two of these steps, the controller goes on from there.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from buoy.api import meta, pods
from buoy.api.meta import Object

from . import indexes, policy
from .plan import Verdict
from .pod import has_failed, index_of, is_tracked
from .tally import Tally, is_in_range, is_indexed, uncounted

_MOST_UNCOUNTED = 500


@dataclass(frozen=True, slots=True)
class Account:
    """*status* is to be written first, then *release* lose their finalizer; *more* is left to do."""

    status: Object
    release: tuple[Object, ...] = ()
    more: bool = False


def with_condition(
    status: Object, kind: str, value: bool, reason: str, message: str, now: datetime.datetime
) -> Object:
    """*status* with that condition; unchanged if it has it, or if what it lacks is only to be false."""
    conditions = status.get("conditions") or []
    old = next((each for each in conditions if each["type"] == kind), None)
    text = str(value)
    if (old is None and not value) or (
        old is not None and (old["status"], old.get("reason"), old.get("message")) == (text, reason, message)
    ):
        return status
    moment = meta.format_time(now)
    transition = old["lastTransitionTime"] if old is not None and old["status"] == text else moment
    new = {
        "type": kind,
        "status": text,
        "lastProbeTime": moment,
        "lastTransitionTime": transition,
        "reason": reason,
        "message": message,
    }
    return {**status, "conditions": [*(each for each in conditions if each is not old), new]}


def started(job: Object, now: datetime.datetime) -> Object:
    """The status as the Job goes to work: with the moment of its first start."""
    status = {"uncountedTerminatedPods": {}, **(job.get("status") or {})}
    if not status.get("startTime") and not job["spec"].get("suspend"):
        status["startTime"] = meta.format_time(now)
    return status


def suspended(status: Object, suspend: bool, now: datetime.datetime) -> Object:
    """*status* as the Job is suspended, or goes on: then its time starts anew."""
    if suspend:
        return with_condition(status, "Suspended", True, "JobSuspended", "Job suspended", now)
    resumed = with_condition(status, "Suspended", False, "JobResumed", "Job resumed", now)
    return status if resumed is status else {**resumed, "startTime": meta.format_time(now)}


def numbers(status: Object, active: int, ready: int, terminating: int) -> Object:
    return _with_count({**status, "ready": ready, "terminating": terminating}, "active", active)


def _with_count(status: Object, field: str, count: int) -> Object:
    """A zero is left out, as Kubernetes does."""
    found = {key: value for key, value in status.items() if key != field}
    return {**found, field: count} if count else found


def account(
    job: Object,
    status: Object,
    owned: Sequence[Object],
    found: Tally,
    end: Verdict | None,
    now: datetime.datetime,
) -> Account:
    """Note the Pods that have ended, and what is decided. *end* makes failures of all that has not ended."""
    status = count(status, {meta.uid(each) for each in owned if is_tracked(each)})
    succeeded, failed = uncounted(status, "succeeded"), uncounted(status, "failed")
    known = {*succeeded, *failed}
    indexed = is_indexed(job)
    completions = int(job["spec"].get("completions") or 0)
    done = set(indexes.parse(status.get("completedIndexes"), completions)) if indexed else set()
    release: list[Object] = []
    noted = 0
    more = False
    for each in sorted(owned, key=_order):
        if not is_tracked(each) or not _may_be_released(job, each, found, end):
            continue
        if noted + len(known) >= _MOST_UNCOUNTED:
            more = True
            break
        release.append(each)
        if meta.uid(each) in known or not is_in_range(job, each):
            continue
        if pods.phase(each) == "Succeeded":
            noted += 1
            if indexed:
                done.add(index_of(each) or 0)
            else:
                succeeded.append(meta.uid(each))
        elif _is_failure(job, each, end):
            noted += 1
            failed.append(meta.uid(each))
    if indexed:
        status = _with_count(status, "succeeded", len(done))
        status = {**status, "completedIndexes": indexes.text_of(done)}
        if not done:
            del status["completedIndexes"]
        if found.failed_indexes is not None:
            status = {**status, "failedIndexes": indexes.text_of(found.failed_indexes)}
    status = _with_uncounted(status, succeeded, failed)
    if end is not None:
        status = with_condition(status, end.kind, True, end.reason, end.message, now)
    return Account(status, tuple(release), more)


def _is_failure(job: Object, pod: Object, end: Verdict | None) -> bool:
    if has_failed(job, pod):
        return policy.match(job, pod).counts
    return end is not None and end.failed


def _order(pod: Object) -> tuple[int, str]:
    return index_of(pod) or 0, meta.uid(pod)


def _may_be_released(job: Object, pod: Object, found: Tally, end: Verdict | None) -> bool:
    if meta.is_terminating(job) or end is not None or pods.phase(pod) == "Succeeded":
        return True
    index = index_of(pod)
    return has_failed(job, pod) and (index is None or found.held.get(index) is not pod)


def _with_uncounted(status: Object, succeeded: list[str], failed: list[str]) -> Object:
    lists = (("succeeded", succeeded), ("failed", failed))
    return {**status, "uncountedTerminatedPods": {field: uids for field, uids in lists if uids}}


def count(status: Object, tracked: Collection[str]) -> Object:
    """Noted Pods become numbers as soon as they are not *tracked* (by uid) any more."""
    found = status
    remaining = {}
    for field in ("succeeded", "failed"):
        uids = uncounted(status, field)
        remaining[field] = [each for each in uids if each in tracked]
        gone = len(uids) - len(remaining[field])
        if gone:
            found = _with_count(found, field, int(found.get(field) or 0) + gone)
    return _with_uncounted(found, remaining["succeeded"], remaining["failed"])


def finished(status: Object, end: Verdict, now: datetime.datetime) -> Object:
    """The final status; *status* itself while Pods are still to be counted, or on their way out."""
    if status["uncountedTerminatedPods"] or status.get("terminating"):
        return status
    kind = "Failed" if end.failed else "Complete"
    final = with_condition(status, kind, True, end.reason, end.message, now)
    return final if end.failed else {**final, "completionTime": meta.format_time(now)}
