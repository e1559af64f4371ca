"""What a Job does next: which Pods to create and to delete, and whether it has come to an end.

Follows k8s.io/kubernetes ``pkg/controller/job``.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from buoy.api import meta, pods
from buoy.api.meta import Object

from ..replicaset import ranking
from . import policy
from .pod import attempts, ended_at, has_failed, index_of, new_pod, replaces_failed_only
from .tally import Tally, is_indexed

BURST = 500
"""How many Pods are created or deleted in one go."""

FIRST_BACKOFF = 10.0
LONGEST_BACKOFF = 600.0
"""Seconds between a failure and the next Pod: doubled with each failure after the last success."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Pods to *create* or to *delete*, never both. *wait* is in seconds: until more can be created."""

    create: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The Job's end is decided: *kind* is ``SuccessCriteriaMet`` or ``FailureTarget``."""

    kind: str
    reason: str
    message: str

    @property
    def failed(self) -> bool:
        return self.kind == "FailureTarget"


def is_suspended(job: Object) -> bool:
    return bool(job["spec"].get("suspend"))


def is_finished(job: Object) -> bool:
    return pods.is_true(job, "Complete") or pods.is_true(job, "Failed")


def deadline_in(job: Object, now: datetime.datetime) -> float | None:
    """Seconds until ``activeDeadlineSeconds`` are over, None if nothing limits it."""
    seconds, start = job["spec"].get("activeDeadlineSeconds"), (job.get("status") or {}).get("startTime")
    if seconds is None or not start or is_suspended(job):
        return None
    return float(seconds) - (now - meta.parse_time(start)).total_seconds()


def verdict(job: Object, owned: Sequence[Object], found: Tally, now: datetime.datetime) -> Verdict | None:
    """Whether the Job's end is decided, before all that was asked for has succeeded."""
    for kind in ("SuccessCriteriaMet", "FailureTarget"):
        if pods.is_true(job, kind):
            condition = pods.condition(job, kind) or {}
            return Verdict(kind, condition.get("reason", ""), condition.get("message", ""))
    failure = _failure(job, owned, found, now)
    if failure:
        return Verdict("FailureTarget", *failure)
    if found.succeeded_indexes is not None:
        message = policy.success(job, found.succeeded_indexes)
        if message:
            return Verdict("SuccessCriteriaMet", "SuccessPolicy", message)
    return None


def _failure(
    job: Object, owned: Sequence[Object], found: Tally, now: datetime.datetime
) -> tuple[str, str] | None:
    spec = job["spec"]
    for each in owned if spec.get("podFailurePolicy") else ():
        if has_failed(job, each) and (message := policy.match(job, each).message):
            return "PodFailurePolicy", message
    if found.failed > int(spec["backoffLimit"]) or _restarted_too_often(job, owned):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    left = deadline_in(job, now)
    if left is not None and left <= 0:
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    lost = found.failed_indexes
    if lost:
        most = spec.get("maxFailedIndexes")
        if most is not None and len(lost) > most:
            message = "Job has exceeded the specified maximal number of failed indexes"
            return "MaxFailedIndexesExceeded", message
        if len(lost) + found.succeeded >= int(spec["completions"]):
            return "FailedIndexes", "Job has failed indexes"
    return None


def _restarted_too_often(job: Object, owned: Sequence[Object]) -> bool:
    """Containers that are restarted in place count against the limit too."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        int(each.get("restartCount") or 0)
        for pod in owned
        if pods.phase(pod) in ("Running", "Pending")
        for field in ("initContainerStatuses", "containerStatuses")
        for each in (pod.get("status") or {}).get(field) or ()
    )
    limit = int(job["spec"]["backoffLimit"])
    return restarts > 0 if limit == 0 else restarts >= limit


def completion(job: Object, found: Tally, active: int) -> Verdict | None:
    """Whether all has succeeded, with so many Pods *active* still.

    Without ``completions`` one success tells that the work is done; those that run may still end.
    """
    completions = job["spec"].get("completions")
    done = found.succeeded > 0 and active == 0 if completions is None else found.succeeded >= completions
    if not done:
        return None
    return Verdict("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods")


def plan(job: Object, owned: Sequence[Object], found: Tally, now: datetime.datetime) -> Plan:
    """What to do for a Job whose end is not decided."""
    active = len(found.active)
    if is_suspended(job):
        return Plan(delete=tuple(_to_delete(job, found, active, now)))
    wanted = _wanted(job, found)
    doomed = _to_delete(job, found, max(0, active - wanted), now)
    if doomed:
        return Plan(delete=tuple(doomed))
    missing = wanted - active - (found.terminating if replaces_failed_only(job) else 0)
    if missing <= 0:
        return Plan()
    missing = min(missing, BURST)
    if job["spec"].get("backoffLimitPerIndex") is not None:
        return _of_independent_indexes(job, found, missing, now)
    wait = backoff(job, owned, now)
    if wait > 0:
        return Plan(wait=wait)
    if is_indexed(job):
        return Plan(tuple(new_pod(job, index, None) for index in _pending(job, found, missing)))
    return Plan((new_pod(job, None, None),) * missing)


def _wanted(job: Object, found: Tally) -> int:
    spec = job["spec"]
    if spec.get("completions") is None:
        return len(found.active) if found.succeeded else int(spec["parallelism"])
    left = int(spec["completions"]) - found.succeeded - len(found.failed_indexes or ())
    return max(0, min(left, int(spec["parallelism"])))


def _to_delete(job: Object, found: Tally, count: int, now: datetime.datetime) -> list[Object]:
    """At least *count*: those whose index is taken or not wanted, then those that are worth least."""
    doomed: list[Object] = []
    kept = list(found.active)
    if is_indexed(job):
        doomed, kept = _superfluous(job, found, now)
    if len(doomed) < count:
        doomed += ranking.to_delete(kept, kept, count - len(doomed), now)
    return doomed[:BURST]


def _superfluous(job: Object, found: Tally, now: datetime.datetime) -> tuple[list[Object], list[Object]]:
    by_index: dict[int, list[Object]] = {}
    doomed: list[Object] = []
    for each in found.active:
        index = index_of(each)
        if index is None or index >= int(job["spec"]["completions"]):
            doomed.append(each)
        else:
            by_index.setdefault(index, []).append(each)
    kept = []
    for same in by_index.values():
        extra = ranking.to_delete(same, same, len(same) - 1, now)
        doomed += extra
        kept += [each for each in same if each not in extra]
    return doomed, kept


def _pending(job: Object, found: Tally, count: int) -> Iterator[int]:
    """The first *count* indexes that nobody works at."""
    taken = {index_of(each) for each in found.active}
    taken |= (found.succeeded_indexes or frozenset()) | (found.failed_indexes or frozenset())
    for index in range(int(job["spec"]["completions"])):
        if count == 0:
            return
        if index not in taken:
            count -= 1
            yield index


def _of_independent_indexes(job: Object, found: Tally, count: int, now: datetime.datetime) -> Plan:
    """Each index backs off by itself."""
    create: list[Object] = []
    waits: list[float] = []
    for index in _pending(job, found, count):
        before = found.held.get(index)
        wait = _delay(attempts(before) + 1, ended_at(before), now) if before else 0.0
        if wait > 0:
            waits.append(wait)
        else:
            create.append(new_pod(job, index, before))
    return Plan(tuple(create), wait=min(waits, default=None))


def backoff(job: Object, owned: Sequence[Object], now: datetime.datetime) -> float:
    """Seconds until a Pod may be created after failures.

    The Pods themselves remember them, so that a controller that is started again waits as long.
    """
    ended = [
        (ended_at(each), pods.phase(each) == "Succeeded")
        for each in owned
        if pods.phase(each) == "Succeeded" or has_failed(job, each)
    ]
    failed = 0
    for _, succeeded in sorted(ended):
        failed = 0 if succeeded else failed + 1
    return _delay(failed, max(ended)[0], now) if failed else 0.0


def _delay(failed: int, last: datetime.datetime, now: datetime.datetime) -> float:
    delay = min(FIRST_BACKOFF * 2 ** min(failed - 1, 30), LONGEST_BACKOFF)
    return float(delay - (now - last).total_seconds())
