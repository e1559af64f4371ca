"""The job controller at work on a real API server, with hollow nodes whose Pods end as a test says."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from buoy.api import batch, meta, pods
from buoy.api.meta import Object
from buoy.api.resource import JOBS, PODS
from buoy.api.status import StatusError
from eventual import eventually

from .together import Cluster


def job(name: str = "work", **spec: Any) -> Object:
    template = {
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "main:1"}]},
    }
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"template": template, **spec}}


def end_with(nodes: Cluster, exit_code: Callable[[Object], int | None]) -> None:
    for node in nodes.nodes:
        node.exit_code = exit_code
        node.again()


async def until_status(three: Cluster, wanted: Callable[[Object], Any], name: str = "work") -> Object:
    found: Object = {}

    async def there() -> bool:
        nonlocal found
        found = (await three.client.get(JOBS, name, "default")).get("status") or {}
        return bool(wanted(found))

    try:
        await eventually(there, within=60)
    except AssertionError:
        raise AssertionError(f"the Job never got there: {found}") from None
    return found


def has(kind: str) -> Callable[[Object], bool]:
    return lambda status: pods.is_true({"status": status}, kind)


def index(pod: Object) -> int:
    return int(meta.annotations(pod)[batch.INDEX_ANNOTATION])


async def test_each_success_counts_once_however_often_the_controller_is_killed(three: Cluster) -> None:
    chance = random.Random(7)
    await three.client.create(JOBS, job(parallelism=12, completions=40))
    end_with(three, lambda pod: 0 if pods.phase(pod) == "Running" else None)
    made: set[str] = set()
    while not has("Complete")((await three.client.get(JOBS, "work", "default")).get("status") or {}):
        await asyncio.sleep(chance.uniform(0.02, 0.25))  # the moment is the point, not the wait
        await three.stop_controllers()
        made |= {meta.uid(each) for each in (await three.client.list(PODS, "default")).items}
        three.start_controllers()
    status = (await three.client.get(JOBS, "work", "default"))["status"]
    assert (status["succeeded"], status.get("failed"), status.get("active")) == (40, None, None)
    assert status["uncountedTerminatedPods"] == {}
    found = (await three.client.list(PODS, "default")).items
    assert len(found) == 40, "not one Pod too many"
    assert not [each for each in found if each["metadata"].get("finalizers")]
    assert await three.events("SuccessfulDelete") == []


async def test_every_index_succeeds_once(three: Cluster) -> None:
    await three.client.create(JOBS, job(parallelism=3, completions=5, completionMode="Indexed"))
    end_with(three, lambda pod: 0 if pods.phase(pod) == "Running" else None)
    status = await until_status(three, has("Complete"))
    assert status["completedIndexes"] == "0-4"
    assert status["succeeded"] == 5
    found = (await three.client.list(PODS, "default")).items
    assert sorted(map(index, found)) == [0, 1, 2, 3, 4]
    for each in found:
        number = index(each)
        assert meta.name(each).startswith(f"work-{number}-")
        assert meta.labels(each)[batch.INDEX_ANNOTATION] == str(number)
        assert each["spec"]["hostname"] == f"work-{number}"
        (variable,) = each["spec"]["containers"][0]["env"]
        assert variable["name"] == "JOB_COMPLETION_INDEX"
        assert "job-completion-index" in variable["valueFrom"]["fieldRef"]["fieldPath"]
    await eventually(lambda: three.events("Completed"))
    assert await three.events("Completed") == ["Job completed"]


async def test_the_limit_of_failures(three: Cluster) -> None:
    await three.client.create(JOBS, job(parallelism=2, completions=4, backoffLimit=1))
    end_with(three, lambda pod: 1 if pods.phase(pod) == "Running" else None)
    status = await until_status(three, has("Failed"))
    failed = pods.condition({"status": status}, "Failed")
    assert failed["reason"] == "BackoffLimitExceeded"
    assert failed["message"] == "Job has reached the specified backoff limit"
    assert status["failed"] == 2
    assert "completionTime" not in status
    await eventually(lambda: three.events("BackoffLimitExceeded"))
    shown = await three.server.kubectl("get", "job", "work")
    assert shown.splitlines()[1].split()[:3] == ["work", "Failed", "0/4"]


async def test_an_index_has_failures_of_its_own(three: Cluster) -> None:
    spec = {
        "parallelism": 3,
        "completions": 3,
        "completionMode": "Indexed",
        "backoffLimitPerIndex": 0,
        "maxFailedIndexes": 2,
    }
    await three.client.create(JOBS, job(**spec))
    end_with(three, lambda pod: int(index(pod) == 1) if pods.phase(pod) == "Running" else None)
    status = await until_status(three, has("Failed"))
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,2", "1")
    assert pods.condition({"status": status}, "Failed")["reason"] == "FailedIndexes"


async def test_policies_of_failure_and_success(three: Cluster) -> None:
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
    await three.client.create(JOBS, job("fatal", podFailurePolicy={"rules": rules}))
    await three.client.create(
        JOBS,
        job(
            "enough",
            parallelism=3,
            completions=3,
            completionMode="Indexed",
            successPolicy={"rules": [{"succeededIndexes": "0"}]},
        ),
    )

    def exit_code(pod: Object) -> int | None:
        if pods.phase(pod) != "Running":
            return None
        if meta.labels(pod)[batch.NAME_LABEL] == "fatal":
            return 42
        return 0 if index(pod) == 0 else None

    end_with(three, exit_code)
    status = await until_status(three, has("Failed"), "fatal")
    condition = pods.condition({"status": status}, "Failed")
    assert condition["reason"] == "PodFailurePolicy"
    assert condition["message"].startswith("Container main for pod default/fatal-")
    assert condition["message"].endswith("failed with exit code 42 matching FailJob rule at index 0")
    status = await until_status(three, has("Complete"), "enough")
    condition = pods.condition({"status": status}, "Complete")
    assert (condition["reason"], condition["message"]) == ("SuccessPolicy", "Matched rules at index 0")
    assert status["completedIndexes"] == "0"
    assert "failed" not in status


async def test_suspended_and_resumed(three: Cluster) -> None:
    await three.client.create(JOBS, job(parallelism=2, completions=2, suspend=True))
    status = await until_status(three, has("Suspended"))
    assert "startTime" not in status
    await three.server.kubectl("patch", "job", "work", "-p", '{"spec":{"suspend":false}}')
    await until_status(three, lambda status: status.get("ready") == 2 and status.get("startTime"))
    await three.server.kubectl("patch", "job", "work", "-p", '{"spec":{"suspend":true}}')
    status = await until_status(three, lambda status: has("Suspended")(status) and not status["terminating"])
    assert "active" not in status
    assert "failed" not in status, "who is sent away has not failed"
    assert await three.pods() == []
    await three.server.kubectl("patch", "job", "work", "-p", '{"spec":{"suspend":false}}')
    end_with(three, lambda pod: 0 if pods.phase(pod) == "Running" else None)
    status = await until_status(three, has("Complete"))
    assert status["succeeded"] == 2


async def test_the_deadline(three: Cluster) -> None:
    await three.client.create(JOBS, job(activeDeadlineSeconds=1))
    status = await until_status(three, has("Failed"))
    assert pods.condition({"status": status}, "Failed")["reason"] == "DeadlineExceeded"
    assert status["failed"] == 1
    assert await three.pods() == []


async def test_finished_jobs_go_when_their_time_has_come(three: Cluster) -> None:
    await three.client.create(JOBS, job(ttlSecondsAfterFinished=0))
    end_with(three, lambda pod: 0 if pods.phase(pod) == "Running" else None)
    await three.gone(lambda: three.client.get(JOBS, "work", "default"))
    await eventually(lambda: nothing(three))


async def nothing(three: Cluster) -> bool:
    return not await three.pods()


async def test_a_deleted_job_takes_its_pods_along(three: Cluster) -> None:
    for name, cascade in (("a", "background"), ("b", "foreground"), ("c", "orphan")):
        await three.client.create(JOBS, job(name, parallelism=2, completions=2))
        await until_status(three, lambda status: status.get("ready") == 2, name)
        await three.server.kubectl("delete", "job", name, f"--cascade={cascade}")
    left = await three.pods()

    async def only_orphans() -> bool:
        nonlocal left
        left = await three.pods()
        return Counter(meta.labels(each)[batch.NAME_LABEL] for each in left) == {"c": 2}

    await eventually(only_orphans)

    async def untracked() -> bool:
        return not [each for each in await three.pods() if each["metadata"].get("finalizers")]

    await eventually(untracked)


async def test_what_another_controller_manages_is_left_alone(three: Cluster) -> None:
    await three.client.create(JOBS, job("theirs", managedBy="example.com/them"))
    await three.client.create(JOBS, job("ours"))
    await until_status(three, lambda status: status.get("ready") == 1, "ours")
    assert not (await three.client.get(JOBS, "theirs", "default")).get("status")


async def test_adopts_and_lets_go(three: Cluster) -> None:
    made = job(
        "picky",
        parallelism=1,
        completions=2,
        manualSelector=True,
        selector={"matchLabels": {"app": "own"}},
    )
    made["spec"]["template"]["metadata"] = {"labels": {"app": "own"}}
    orphan = {"metadata": {"name": "orphan", "namespace": "default", "labels": {"app": "own"}}}
    orphan["spec"] = made["spec"]["template"]["spec"]
    await three.client.create(PODS, orphan)
    await three.client.create(JOBS, made)
    await until_status(three, lambda status: status.get("ready") == 1, "picky")
    (only,) = await three.pods(app="own")
    assert meta.name(only) == "orphan"
    assert only["metadata"]["finalizers"] == ["batch.kubernetes.io/job-tracking"]
    await three.client.patch(PODS, "orphan", "default", {"metadata": {"labels": {"app": "free"}}})

    async def free() -> bool:
        found = await three.client.get(PODS, "orphan", "default")
        return meta.controller_of(found) is None and not found["metadata"].get("finalizers")

    await eventually(free)
    await three.client.delete(PODS, "orphan", "default")
    await three.gone(lambda: three.client.get(PODS, "orphan", "default"))


async def test_refused(three: Cluster) -> None:
    made = job()
    made["spec"]["template"]["spec"]["serviceAccountName"] = "there-is-none"
    await three.client.create(JOBS, made)
    await eventually(lambda: three.events("FailedCreate"))
    try:
        await three.client.create(JOBS, job("odd", completionMode="Odd"))
    except StatusError as error:
        assert 'spec.completionMode: Unsupported value: "Odd"' in error.message
