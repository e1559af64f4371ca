"""Where a Job stands: what its Pods tell, together with what its status has counted already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from buoy.api import meta, pods
from buoy.api.meta import Object

from . import indexes, policy
from .pod import attempts, has_failed, has_failed_its_index, index_of, is_tracked


@dataclass(frozen=True, slots=True)
class Tally:
    """*succeeded* and *failed* count all that is known, whether the status has it or not.

    *succeeded_indexes* and *failed_indexes* are None unless the Job counts them. *held* are, by index, failed
    Pods that stay tracked until they are replaced: they remember how often their index has failed.
    """

    active: tuple[Object, ...]
    terminating: int
    succeeded: int
    failed: int
    succeeded_indexes: frozenset[int] | None = None
    failed_indexes: frozenset[int] | None = None
    held: Mapping[int, Object] = field(default_factory=dict)

    @property
    def ready(self) -> int:
        return sum(map(pods.is_ready, self.active))


def is_indexed(job: Object) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def uncounted(status: Object, field: str) -> list[str]:
    """The uids of Pods that have ended and may still be tracked; *field* is ``succeeded`` or ``failed``."""
    return list((status.get("uncountedTerminatedPods") or {}).get(field) or ())


def is_in_range(job: Object, pod: Object) -> bool:
    """Whether the Pod has an index that the Job wants, or needs none."""
    if not is_indexed(job):
        return True
    index = index_of(pod)
    return index is not None and index < int(job["spec"]["completions"])


def tally(job: Object, owned: Sequence[Object]) -> Tally:
    """*owned* are all Pods that the Job controls; one is *tracked* if it has the finalizer."""
    status = job.get("status") or {}
    tracked = [each for each in owned if is_tracked(each) and is_in_range(job, each)]
    succeeded, failed = uncounted(status, "succeeded"), uncounted(status, "failed")
    new_successes = [
        each for each in tracked if pods.phase(each) == "Succeeded" and meta.uid(each) not in succeeded
    ]
    new_failures = [each for each in tracked if has_failed(job, each) and meta.uid(each) not in failed]
    succeeded_total = int(status.get("succeeded") or 0) + len(succeeded) + len(new_successes)
    failed_total = int(status.get("failed") or 0) + len(failed) + _counting(job, new_failures)
    active = tuple(filter(pods.is_active, owned))
    terminating = sum(meta.is_terminating(each) and not pods.is_terminal(each) for each in owned)
    if not is_indexed(job):
        return Tally(active, terminating, succeeded_total, failed_total)
    completions = int(job["spec"]["completions"])
    done = indexes.parse(status.get("completedIndexes"), completions)
    done |= {index for each in new_successes if (index := index_of(each)) is not None}
    if job["spec"].get("backoffLimitPerIndex") is None:
        return Tally(active, terminating, len(done), failed_total, done)
    lost = indexes.parse(status.get("failedIndexes"), completions)
    all_failed = [each for each in tracked if has_failed(job, each)]
    lost |= {
        index
        for each in all_failed
        if (index := index_of(each)) is not None and has_failed_its_index(job, each)
    }
    lost -= done
    settled = done | lost | {index_of(each) for each in active}
    return Tally(active, terminating, len(done), failed_total, done, lost, _held(all_failed, settled))


def _counting(job: Object, failed: Sequence[Object]) -> int:
    return sum(policy.match(job, each).counts for each in failed)


def _held(failed: Sequence[Object], settled: frozenset[int | None] | set[int | None]) -> dict[int, Object]:
    held: dict[int, Object] = {}
    for each in failed:
        index = index_of(each)
        if index is None or index in settled:
            continue
        if index not in held or attempts(each) > attempts(held[index]):
            held[index] = each
    return held
