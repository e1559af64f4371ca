# ruff: noqa: E501 - whole sentences are easier to compare
"""Jobs and CronJobs: defaults, faults, schedules."""

import datetime
import zoneinfo
from typing import Any

import pytest

from buoy.api import cron
from buoy.api.batch import CRON_JOB, JOB
from buoy.api.meta import Object

from .kinds import faults, made, put

TEMPLATE: Object = {"spec": {"containers": [{"name": "c", "image": "a:1"}], "restartPolicy": "Never"}}
INDEXED = {"completionMode": "Indexed", "completions": 3, "parallelism": 3}
NO_INDEXES = "requires indexed completion mode"


def job(**spec: Any) -> Object:
    return {"metadata": {"name": "j", "uid": "u-1"}, "spec": {"template": TEMPLATE, **spec}}


def cron_job(schedule: str = "* * * * *", **spec: Any) -> Object:
    return {
        "metadata": {"name": "c"},
        "spec": {"schedule": schedule, "jobTemplate": {"spec": {"template": TEMPLATE}}, **spec},
    }


def rules(**rule: Any) -> Object:
    return {"rules": [rule]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (INDEXED, []),
        ({**INDEXED, "backoffLimitPerIndex": 1, "maxFailedIndexes": 2}, []),
        ({"backoffLimitPerIndex": 1}, [f"spec.backoffLimitPerIndex: Invalid value: 1: {NO_INDEXES}"]),
        ({**INDEXED, "maxFailedIndexes": 1}, ["spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"]),
        ({**INDEXED, "backoffLimitPerIndex": 1, "maxFailedIndexes": 9}, ["spec.maxFailedIndexes: Invalid value: 9: must be less than or equal to completions"]),
        ({"completionMode": "Odd"}, ['spec.completionMode: Unsupported value: "Odd": supported values: "NonIndexed", "Indexed"']),
        ({"parallelism": -1}, ["spec.parallelism: Invalid value: -1: must be greater than or equal to 0"]),
        ({"managedBy": "example.com/them"}, []),
        ({"managedBy": "them"}, ['spec.managedBy: Invalid value: "them": must be a domain-prefixed path (such as "acme.io/foo")']),
        ({"podReplacementPolicy": "Never"}, ['spec.podReplacementPolicy: Unsupported value: "Never": supported values: "Failed", "TerminatingOrFailed"']),
        ({"podFailurePolicy": rules(action="Ignore", onPodConditions=[{"type": "DisruptionTarget"}])}, []),
        ({"podFailurePolicy": rules(action="FailIndex", onExitCodes={"operator": "In", "values": [1]})}, ['spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set']),
        ({"podFailurePolicy": rules(action="FailJob", onExitCodes={"operator": "In", "values": [0, 1]})}, ["spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator"]),
        ({"podFailurePolicy": rules(action="FailJob")}, ["spec.podFailurePolicy.rules[0]: Invalid value: null: specifying one of OnExitCodes and OnPodConditions is required"]),
        ({"podFailurePolicy": {"rules": []}, "podReplacementPolicy": "TerminatingOrFailed"}, ['spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"']),
        ({**INDEXED, "successPolicy": {"rules": []}}, ["spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified"]),
        ({**INDEXED, "successPolicy": rules(succeededIndexes="0,2")}, []),
        ({**INDEXED, "successPolicy": rules(succeededIndexes="0,3")}, ['spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0,3": error parsing succeededIndexes: too large index: "3"']),
        ({**INDEXED, "successPolicy": rules(succeededCount=4)}, ["spec.successPolicy.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 3 (completions)"]),
    ],
)  # fmt: skip
def test_faults_of_a_job(spec: Object, expected: list[str]) -> None:
    assert faults(JOB, job(**spec)) == expected


def test_restart_policy_with_a_failure_policy() -> None:
    found = job(podFailurePolicy=rules(action="Ignore", onPodConditions=[{"type": "X"}]))
    found["spec"]["template"] = {"spec": {**TEMPLATE["spec"], "restartPolicy": "OnFailure"}}
    assert faults(JOB, found) == [
        'spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified'
    ]


def test_what_of_a_job_may_change() -> None:
    old = made(JOB, job(**INDEXED))
    more = {**old, "spec": {**old["spec"], "completions": 5, "parallelism": 5}}
    assert faults(JOB, more, old) == []
    assert faults(JOB, put(old, "spec.completions", 5), old)[0].endswith("field is immutable")
    waiting = made(JOB, job(suspend=True))
    moved = job(suspend=True)
    moved["spec"]["template"] = {"spec": {**TEMPLATE["spec"], "nodeSelector": {"disk": "ssd"}}}
    moved["spec"]["selector"] = waiting["spec"]["selector"]
    moved["spec"]["template"]["metadata"] = waiting["spec"]["template"]["metadata"]
    assert faults(JOB, moved, waiting) == []
    begun = {**waiting, "status": {"startTime": "2026-01-01T00:00:00Z"}}
    assert faults(JOB, moved, begun)[0].endswith("field is immutable")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"schedule": ""}, ["spec.schedule: Required value"]),
        ({"schedule": "* * * *"}, ['spec.schedule: Invalid value: "* * * *": expected exactly 5 fields, found 4: [* * * *]']),
        ({"schedule": "TZ=UTC * * * * *"}, ['spec.schedule: Invalid value: "TZ=UTC * * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead']),
        ({"timeZone": "Europe/Berlin"}, []),
        ({"timeZone": "Mars/Base"}, ['spec.timeZone: Invalid value: "Mars/Base": unknown time zone Mars/Base']),
        ({"timeZone": ""}, ['spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string']),
        ({"concurrencyPolicy": "Maybe"}, ['spec.concurrencyPolicy: Unsupported value: "Maybe": supported values: "Allow", "Forbid", "Replace"']),
        ({"startingDeadlineSeconds": -1}, ["spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0"]),
    ],
)  # fmt: skip
def test_faults_of_a_cron_job(spec: Object, expected: list[str]) -> None:
    assert faults(CRON_JOB, cron_job(**spec)) == expected


def test_a_cron_job() -> None:
    found = made(CRON_JOB, cron_job())
    assert {key: value for key, value in found["spec"].items() if key not in ("schedule", "jobTemplate")} == {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    }
    found["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    row = {column.name: column.value(found) for column in CRON_JOB.columns}
    assert (row["Schedule"], row["Suspend"], row["Active"], row["Last Schedule"]) == (
        "* * * * *",
        "False",
        0,
        "<none>",
    )
    assert (row["Containers"], row["Images"]) == ("c", "a:1")
    long = cron_job()
    long["metadata"]["name"] = "x" * 53
    assert faults(CRON_JOB, long)[0].endswith("must be no more than 52 characters")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty spec string"),
        ("61 * * * *", "end of range (61) above maximum (59): 61"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("@sometimes", "unrecognized descriptor: @sometimes"),
        ("@every soon", 'failed to parse duration @every soon: time: invalid duration "soon"'),
    ],
)
def test_what_is_no_schedule(text: str, message: str) -> None:
    with pytest.raises(cron.ScheduleError) as found:
        cron.parse(text)
    assert str(found.value) == message


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("* * * * *", "2026-05-01T12:00:00", "2026-05-01T12:01:00"),
        ("* * * * *", "2026-05-01T12:00:59", "2026-05-01T12:01:00"),
        ("*/15 * * * *", "2026-05-01T12:46:00", "2026-05-01T13:00:00"),
        ("5/20 * * * *", "2026-05-01T12:26:00", "2026-05-01T12:45:00"),
        ("0 9-17/4 * * MON-fri", "2026-05-01T17:00:00", "2026-05-04T09:00:00"),
        ("0 0 13 * 5", "2026-05-01T00:00:00", "2026-05-08T00:00:00"),  # the 13th or a Friday
        ("0 0 13 * ?", "2026-05-01T00:00:00", "2026-05-13T00:00:00"),
        ("0 0 29 feb *", "2026-05-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 31 feb *", "2026-05-01T00:00:00", None),
        ("@hourly", "2026-05-01T12:00:00", "2026-05-01T13:00:00"),
        ("@weekly", "2026-05-01T12:00:00", "2026-05-03T00:00:00"),
        ("@every 1h30m", "2026-05-01T12:00:10", "2026-05-01T13:30:10"),
    ],
)
def test_the_next_time(text: str, after: str, expected: str | None) -> None:
    moment = datetime.datetime.fromisoformat(after).replace(tzinfo=datetime.UTC)
    found = cron.parse(text).next(moment, datetime.UTC)
    assert (found.replace(tzinfo=None).isoformat() if found else None) == expected


def test_summer_time() -> None:
    """What is scheduled in the hour that is left out does not happen; in the one that comes twice, twice."""
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")

    def times(start: str, count: int) -> list[str]:
        moment, found = datetime.datetime.fromisoformat(start).replace(tzinfo=berlin), []
        for _ in range(count):
            after = cron.parse("30 2 * * *").next(moment, berlin)
            assert after is not None
            moment = after
            found.append(after.astimezone(berlin).isoformat())
        return found

    assert times("2026-03-28T00:00:00", 2) == ["2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00"]
    assert times("2026-10-25T00:00:00", 2) == ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"]
