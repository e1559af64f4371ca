"""CronJobs: the pure half by tables, and both halves on a real API server."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from buoy.api import batch, meta
from buoy.api.meta import Object
from buoy.api.resource import CRON_JOBS, JOBS
from buoy.controllers.cronjob.plan import TIME_ANNOTATION, plan, reference
from eventual import eventually

from .objects import NOW, ago, metadata
from .together import Cluster

TEMPLATE: Object = {
    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "a"}]}}}
}


def cron_job(schedule: str = "*/10 * * * *", *, status: Object | None = None, **spec: Any) -> Object:
    made: Object = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata("tick"),
        "spec": {"schedule": schedule, "jobTemplate": TEMPLATE, **spec},
        "status": {"lastScheduleTime": ago(600), **(status or {})},
    }
    batch.default_cron_job(made)
    return made


def job(owner: Object, name: str, finished: str = "", seconds: float = 0) -> Object:
    conditions = [{"type": finished, "status": "True"}] if finished else []
    return {
        "metadata": metadata(name, ownerReferences=[meta.owner_reference(owner)]),
        "spec": {},
        "status": {"conditions": conditions, "startTime": ago(seconds)},
    }


def test_a_time_makes_one_job() -> None:
    owner = cron_job(timeZone="Europe/Berlin")
    todo = plan(owner, [], NOW)
    assert todo.create is not None
    assert meta.name(todo.create) == f"tick-{int(NOW.timestamp()) // 60}"
    assert meta.annotations(todo.create)[TIME_ANNOTATION] == "2026-05-01T14:00:00+02:00"
    assert todo.status["lastScheduleTime"] == meta.format_time(NOW)
    assert todo.wait == pytest.approx(600.1)
    owner["status"] = todo.status
    assert plan(owner, [], NOW + datetime.timedelta(seconds=9)).create is None


@pytest.mark.parametrize(
    ("spec", "status", "created", "told"),
    [
        ({}, {}, True, []),
        ({"suspend": True}, {}, False, []),
        ({}, {"lastScheduleTime": ago(0)}, False, []),
        ({}, {"lastScheduleTime": ago(5000)}, True, []),  # of several that were missed only the last
        ({}, {"lastScheduleTime": ago(80000)}, True, ["TooManyMissedTimes"]),
        ({"schedule": "55 11 * * *", "startingDeadlineSeconds": 60}, {}, False, []),
        ({"schedule": "55 11 * * *", "startingDeadlineSeconds": 301}, {}, True, []),
        ({"schedule": "odd"}, {}, False, ["UnparseableSchedule"]),
        ({"timeZone": "Mars/Base"}, {}, False, ["UnparseableSchedule"]),
    ],
)
def test_when_a_job_is_made(spec: Object, status: Object, created: bool, told: list[str]) -> None:
    todo = plan(cron_job(**{"status": status, **spec}), [], NOW)
    assert (todo.create is not None) == created
    assert [each.reason for each in todo.events] == told


@pytest.mark.parametrize(
    ("policy", "created", "deleted"),
    [("Allow", True, []), ("Forbid", False, []), ("Replace", True, ["running"])],
)
def test_while_another_one_runs(policy: str, created: bool, deleted: list[str]) -> None:
    owner = cron_job(concurrencyPolicy=policy)
    running = job(owner, "running")
    owner["status"]["active"] = [reference(running)]
    todo = plan(owner, [running], NOW)
    assert (todo.create is not None, [meta.name(each) for each in todo.delete]) == (created, deleted)


def test_history() -> None:
    owner = cron_job(successfulJobsHistoryLimit=2, failedJobsHistoryLimit=0, suspend=True)
    owned = [job(owner, f"good-{n}", "Complete", seconds=n) for n in range(4)]
    owned.append(job(owner, "bad", "Failed"))
    todo = plan(owner, owned, NOW)
    assert [meta.name(each) for each in todo.delete] == ["good-3", "good-2", "bad"]


def test_what_has_become_of_the_active_ones() -> None:
    owner = cron_job(suspend=True)
    done, forgotten, lost = job(owner, "done", "Complete"), job(owner, "forgotten"), job(owner, "lost")
    done["status"]["completionTime"] = ago(5)
    owner["status"]["active"] = [reference(done), reference(lost)]
    todo = plan(owner, [done, forgotten], NOW)
    assert [each["name"] for each in todo.status["active"]] == ["forgotten"]
    assert todo.status["lastSuccessfulTime"] == ago(5)
    assert [each.message for each in todo.events] == [
        "Saw completed job: done, condition: Complete",
        "Active job went missing: lost",
    ]


async def test_on_a_real_server(three: Cluster) -> None:
    for node in three.nodes:
        node.exit_code = lambda pod: 0
    body = {
        "metadata": {"name": "tick", "namespace": "default"},
        "spec": {"schedule": "@every 1s", "jobTemplate": TEMPLATE, "successfulJobsHistoryLimit": 0},
    }
    await three.client.create(CRON_JOBS, body)

    async def succeeded() -> Any:
        return (await three.client.get(CRON_JOBS, "tick", "default"))["status"].get("lastSuccessfulTime")

    await eventually(succeeded)
    await eventually(lambda: three.events("SuccessfulDelete"))
    assert "MissingJob" not in await three.server.kubectl("get", "events", "-o", "name")
    by_hand = await three.server.kubectl("create", "job", "by-hand", "--from=cronjob/tick")
    assert by_hand == "job.batch/by-hand created\n"
    await three.client.patch(CRON_JOBS, "tick", "default", {"spec": {"suspend": True}})
    shown = await three.server.kubectl("get", "cronjob", "tick", "--no-headers")
    assert shown.split()[:5] == ["tick", "@every", "1s", "<none>", "True"]
    await three.client.delete(CRON_JOBS, "tick", "default")

    async def none() -> bool:
        return not (await three.client.list(JOBS, "default")).items

    await eventually(none)
