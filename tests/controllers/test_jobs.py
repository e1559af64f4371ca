"""The pure half of the job controller."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api import batch, meta
from buoy.api.meta import Object
from buoy.controllers.job import indexes, policy
from buoy.controllers.job import status as statuses
from buoy.controllers.job.plan import backoff, completion, plan, verdict
from buoy.controllers.job.pod import FINALIZER, new_pod, untracked
from buoy.controllers.job.tally import tally
from buoy.controllers.ttlafterfinished import expires

from .objects import NOW, ago, metadata


def job(*, status: Object | None = None, **spec: Any) -> Object:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "a:1"}]}}
    made: Object = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata("work"),
        "spec": {"template": template, "completions": 1, **spec},
    }
    batch.default(made)
    made["status"] = status or {}
    return made


def pod(
    owner: Object,
    name: str,
    phase: str = "Running",
    *,
    index: int | None = None,
    code: int = 1,
    ended: float = 0,
    **annotations: str,
) -> Object:
    made = new_pod(owner, index, None)
    made["metadata"] = {**metadata(name), **made["metadata"], "name": name}
    if annotations:
        given = {f"batch.kubernetes.io/{key.replace('_', '-')}": text for key, text in annotations.items()}
        made["metadata"]["annotations"] |= given
    made["status"] = {"phase": phase}
    if phase in ("Succeeded", "Failed"):
        result = {"exitCode": code if phase == "Failed" else 0, "finishedAt": ago(ended)}
        made["status"]["containerStatuses"] = [{"name": "main", "state": {"terminated": result}}]
    return made


@given(st.sets(st.integers(0, 40)))
def test_indexes_are_read_as_they_are_written(found: set[int]) -> None:
    text = indexes.text_of(found)
    assert indexes.parse(text, 41) == found
    assert indexes.parse(text, 20) == {each for each in found if each < 20}


def test_indexes() -> None:
    assert indexes.text_of([7, 1, 3, 4, 5, 9, 10]) == "1,3-5,7,9,10"
    assert indexes.text_of([]) == ""


EXIT_42 = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
NOT_OTHERS = {
    "action": "Ignore",
    "onExitCodes": {"operator": "NotIn", "values": [1], "containerName": "main"},
}
DISRUPTED = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


@pytest.mark.parametrize(
    ("rules", "code", "expected"),
    [
        ([], 1, policy.Match()),
        ([EXIT_42], 1, policy.Match()),
        (
            [DISRUPTED, EXIT_42],
            42,
            policy.Match(
                "FailJob",
                True,
                "Container main for pod default/a failed with exit code 42 matching FailJob rule at index 1",
            ),
        ),
        ([NOT_OTHERS], 1, policy.Match()),
        ([NOT_OTHERS], 2, policy.Match("Ignore", False)),
        ([{**EXIT_42, "action": "FailIndex"}], 42, policy.Match()),
        ([{**EXIT_42, "action": "Count"}, EXIT_42], 42, policy.Match("Count")),
    ],
)
def test_failure_policy(rules: list[Object], code: int, expected: policy.Match) -> None:
    owner = job(podFailurePolicy={"rules": rules})
    assert policy.match(owner, pod(owner, "a", "Failed", code=code)) == expected


@pytest.mark.parametrize(
    ("rule", "succeeded", "met"),
    [
        ({"succeededIndexes": "0,2-3"}, {0, 2}, False),
        ({"succeededIndexes": "0,2-3"}, {0, 2, 3}, True),
        ({"succeededIndexes": "0,2-3", "succeededCount": 1}, {3}, True),
        ({"succeededIndexes": "0,2-3", "succeededCount": 1}, {1}, False),
        ({"succeededCount": 2}, {1}, False),
        ({"succeededCount": 2}, {1, 4}, True),
    ],
)
def test_success_policy(rule: Object, succeeded: set[int], met: bool) -> None:
    owner = job(completions=5, completionMode="Indexed", successPolicy={"rules": [rule]})
    assert policy.success(owner, succeeded) == ("Matched rules at index 0" if met else "")


def planned(owner: Object, *owned: Object) -> tuple[int, list[str], float | None]:
    todo = plan(owner, owned, tally(owner, owned), NOW)
    return len(todo.create), sorted(map(meta.name, todo.delete)), todo.wait


def test_how_many_pods_run() -> None:
    assert planned(job(completions=5, parallelism=2)) == (2, [], None)
    assert planned(job(completions=5, parallelism=2, status={"succeeded": 4})) == (1, [], None)
    work_queue = job(completions=None, parallelism=3)
    running = pod(work_queue, "a")
    assert planned(work_queue, running) == (2, [], None)
    assert planned(work_queue, running, pod(work_queue, "b", "Succeeded")) == (0, [], None)
    less = job(completions=5, parallelism=0)
    assert planned(less, pod(less, "a")) == (0, ["a"], None)
    paused = job(completions=5, parallelism=2, suspend=True)
    assert planned(paused, pod(paused, "a"), pod(paused, "b")) == (0, ["a", "b"], None)


def test_a_pod_on_its_way_out_is_replaced_at_once_or_not() -> None:
    for replacing, created in (("TerminatingOrFailed", 1), ("Failed", 0)):
        owner = job(podReplacementPolicy=replacing)
        leaving = pod(owner, "a")
        leaving["metadata"]["deletionTimestamp"] = ago(0)
        # The first failure would be waited for.
        leaving["metadata"]["deletionTimestamp"] = ago(20)
        assert planned(owner, leaving)[0] == created


def test_each_index_has_one_pod() -> None:
    owner = job(completions=4, parallelism=4, completionMode="Indexed", status={"completedIndexes": "1"})
    twice = [pod(owner, "a", index=0), pod(owner, "b", "Pending", index=0), pod(owner, "c", index=7)]
    assert planned(owner, *twice) == (0, ["b", "c"], None)
    todo = plan(owner, twice[:1], tally(owner, twice[:1]), NOW)
    assert [meta.annotations(each)[batch.INDEX_ANNOTATION] for each in todo.create] == ["2", "3"]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([], 0),
        ([("Failed", 4)], 6),
        ([("Failed", 100), ("Failed", 4)], 16),
        ([("Failed", 100), ("Succeeded", 50), ("Failed", 4)], 6),
        ([("Failed", 100), ("Succeeded", 50)], 0),
        ([("Failed", 100)] * 20, 500),
    ],
)
def test_back_off(ends: list[tuple[str, float]], expected: float) -> None:
    owner = job(completions=30, parallelism=1, backoffLimit=99)
    owned = [pod(owner, f"p-{n}", phase, ended=ended) for n, (phase, ended) in enumerate(ends)]
    assert max(0, backoff(owner, owned, NOW)) == expected
    assert planned(owner, *owned) == ((0, [], expected) if expected else (1, [], None))


def test_independent_indexes_back_off_by_themselves() -> None:
    owner = job(
        completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=2, maxFailedIndexes=1
    )
    owned = [
        pod(owner, "a", "Failed", index=0, ended=4),
        pod(owner, "b", "Failed", index=1, ended=15, job_index_failure_count="1"),
        pod(owner, "c", "Failed", index=2, ended=1, job_index_failure_count="2"),
    ]
    found = tally(owner, owned)
    assert found.failed_indexes == {2}
    assert {index: meta.name(each) for index, each in found.held.items()} == {0: "a", 1: "b"}
    assert planned(owner, *owned) == (0, [], 5)
    later = NOW + datetime.timedelta(seconds=5.5)
    made = plan(owner, owned, found, later).create
    assert [meta.annotations(each)[batch.FAILURES_ANNOTATION] for each in made] == ["2"]
    # The failed Pod remembers the count, so it stays tracked until its successor is there.
    noted = statuses.account(owner, statuses.started(owner, NOW), owned, found, None, NOW)
    assert [meta.name(each) for each in noted.release] == ["c"]
    assert noted.status["failedIndexes"] == "2"


def ending(owner: Object, *owned: Object) -> str:
    found = tally(owner, owned)
    end = verdict(owner, owned, found, NOW) or completion(owner, found, len(found.active))
    return end.reason if end else ""


def test_how_a_job_ends() -> None:
    owner = job(backoffLimit=1, activeDeadlineSeconds=60)
    assert ending(owner, pod(owner, "a", "Failed")) == ""
    assert ending(owner, pod(owner, "a", "Failed"), pod(owner, "b", "Failed")) == "BackoffLimitExceeded"
    assert ending({**owner, "status": {"startTime": ago(60)}}) == "DeadlineExceeded"
    assert ending({**owner, "status": {"startTime": ago(59)}}) == ""
    assert ending(owner, pod(owner, "a", "Succeeded")) == "CompletionsReached"
    restarting = job(backoffLimit=2)
    restarting["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    running = pod(restarting, "a")
    running["status"]["containerStatuses"] = [{"name": "main", "restartCount": 2}]
    assert ending(restarting, running) == "BackoffLimitExceeded"
    work_queue = job(completions=None, parallelism=2)
    assert ending(work_queue, pod(work_queue, "a"), pod(work_queue, "b", "Succeeded")) == ""
    assert ending(work_queue, pod(work_queue, "b", "Succeeded")) == "CompletionsReached"
    decided = {"type": "FailureTarget", "status": "True", "reason": "PodFailurePolicy", "message": "m"}
    assert ending(job(status={"conditions": [decided]})) == "PodFailurePolicy"


Steps = st.lists(st.integers(0, 3), max_size=30)


@given(
    st.lists(st.sampled_from(["Succeeded", "Failed", "Running"]), min_size=1, max_size=8),
    Steps,
    st.booleans(),
)
def test_killed_between_any_two_steps_every_end_is_counted_once(
    phases: list[str], steps: list[int], indexed: bool
) -> None:
    """The controller's three steps (note, release, count) are carried out up to where it is killed."""
    owner = job(
        completions=99, parallelism=99, backoffLimit=99, completionMode="Indexed" if indexed else "NonIndexed"
    )
    owned = [pod(owner, f"p-{n}", phase, index=n if indexed else None) for n, phase in enumerate(phases)]
    for killed_after in [*steps, 3]:
        found = tally(owner, owned)
        noted = statuses.account(owner, statuses.started(owner, NOW), owned, found, None, NOW)
        assert found.succeeded == phases.count("Succeeded")
        assert found.failed == phases.count("Failed")
        if killed_after == 0:
            continue
        owner = {**owner, "status": noted.status}
        if killed_after == 1:
            continue
        half = len(noted.release) if killed_after == 3 else len(noted.release) // 2
        names = set(map(meta.name, noted.release[:half]))
        owned = [untracked(each) if meta.name(each) in names else each for each in owned]
        if killed_after == 2:
            continue
        tracked = {meta.uid(each) for each in owned if FINALIZER in each["metadata"]["finalizers"]}
        owner = {**owner, "status": statuses.count(noted.status, tracked)}
    status = owner["status"]
    assert status.get("succeeded", 0) == phases.count("Succeeded")
    assert status.get("failed", 0) == phases.count("Failed")
    assert status["uncountedTerminatedPods"] == {}


def test_what_is_still_running_when_a_job_fails_has_failed() -> None:
    owner = job(completions=3, parallelism=3, backoffLimit=0)
    owned = [pod(owner, "a", "Failed"), pod(owner, "b"), pod(owner, "c", "Succeeded")]
    end = verdict(owner, owned, tally(owner, owned), NOW)
    noted = statuses.account(owner, statuses.started(owner, NOW), owned, tally(owner, owned), end, NOW)
    assert noted.status["uncountedTerminatedPods"] == {"succeeded": ["uid-c"], "failed": ["uid-a", "uid-b"]}
    assert end is not None
    assert statuses.finished(noted.status, end, NOW) is noted.status
    counted = statuses.count(noted.status, set())
    assert statuses.finished({**counted, "terminating": 1}, end, NOW)["conditions"][-1]["type"] == end.kind
    done = statuses.finished(counted, end, NOW)
    assert [each["type"] for each in done["conditions"]] == ["FailureTarget", "Failed"]
    assert (done["failed"], done["succeeded"]) == (2, 1)


def test_when_a_finished_job_expires() -> None:
    done = {"type": "Complete", "status": "True", "lastTransitionTime": ago(30)}
    assert expires(job(status={"conditions": [done]})) is None
    assert expires(job(ttlSecondsAfterFinished=60)) is None
    found = expires(job(ttlSecondsAfterFinished=60, status={"conditions": [done]}))
    assert found is not None
    assert (found - NOW).total_seconds() == 30
