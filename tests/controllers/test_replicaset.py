import asyncio

import pytest

from buoy.api import meta
from buoy.api.selectors import from_labels
from buoy.api.status import StatusError
from buoy.controllers import ownership
from buoy.controllers.expectations import TIMEOUT, Expectations
from buoy.controllers.podcontrol import slow_start
from buoy.controllers.replicaset import plan as planning
from buoy.controllers.replicaset.ranking import deletion_cost, to_delete

from .objects import NOW, ago, metadata, pod, template


def replica_set(replicas=3, **spec):
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": metadata("web-1"),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            **spec,
        },
        "status": {},
    }


def ready_since(seconds):
    return {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(seconds)}]}


GOOD = "good"
RANKING = {
    "no node": pod("x", spec={"nodeName": ""}),
    "pending": pod("x", status={"phase": "Pending"}),
    "unknown": pod("x", status={"phase": "Unknown"}),
    "unready": pod("x", ready=False),
    "cheap": pod("x", metadata={"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}),
    "doubled up": pod("x", spec={"nodeName": "node-2"}),
    "ready for a short time": pod("x", status=ready_since(5)),
    "restarted": pod("x", status={"containerStatuses": [{"name": "web", "restartCount": 3}]}),
    "young": pod("x", metadata={"creationTimestamp": ago(5)}),
}


@pytest.mark.parametrize("reason", RANKING)
def test_what_goes_before_an_ordinary_pod(reason):
    good, bad = pod(GOOD), RANKING[reason]
    company = [pod("y", spec={"nodeName": "node-2"})] if reason == "doubled up" else []
    for order in ([good, bad], [bad, good]):
        assert to_delete(order, [*order, *company], 1, NOW) == [bad]


def test_reasons_count_in_their_order():
    names = list(RANKING)
    pods = [
        {**each, "metadata": {**each["metadata"], "uid": f"{index}", "name": names[index]}}
        for index, each in enumerate(RANKING.values())
    ]
    company = [pod("y", spec={"nodeName": "node-2"})] * 20
    ranked = to_delete([*reversed(pods), pod(GOOD)], [*pods, *company], len(pods), NOW)
    assert [meta.name(each) for each in ranked[:6]] == names[:6]


@pytest.mark.parametrize(
    ("text", "cost"), [("10", 10), ("-3", -3), ("+3", 0), ("1.5", 0), ("9999999999", 0), ("", 0)]
)
def test_deletion_cost(text, cost):
    subject = pod("x", metadata={"annotations": {"controller.kubernetes.io/pod-deletion-cost": text}})
    assert deletion_cost(subject) == cost


@pytest.mark.parametrize(
    ("wanted", "there", "create", "delete"),
    [(3, 0, 3, 0), (3, 3, 0, 0), (1, 3, 0, 2), (0, 2, 0, 2), (1000, 0, 500, 0)],
)
def test_plan(wanted, there, create, delete):
    pods = [pod(f"p{number}") for number in range(there)]
    todo = planning.plan(replica_set(wanted), pods, pods, NOW)
    assert (todo.create, len(todo.delete)) == (create, delete)


def test_a_terminating_one_makes_nothing():
    subject = replica_set()
    subject["metadata"]["deletionTimestamp"] = ago(1)
    assert planning.plan(subject, [], [], NOW) == planning.Plan()


def test_the_pod_it_makes():
    made = planning.pod(
        replica_set(), {**template(), "metadata": {"labels": {"a": "b"}, "finalizers": ["f"]}}
    )
    assert made["metadata"]["generateName"] == "web-1-"
    assert made["metadata"]["labels"] == {"a": "b"}
    assert made["metadata"]["finalizers"] == ["f"]
    assert meta.controller_of(made)["uid"] == "uid-web-1"
    assert meta.controller_of(made)["blockOwnerDeletion"] is True


def test_status_counts():
    pods = [
        pod("a", status=ready_since(100)),
        pod("b", status=ready_since(4)),
        pod("c", ready=False),
        pod("d", ready=False, metadata={"labels": {"app": "other"}}),
    ]
    status, wait = planning.status(replica_set(minReadySeconds=10), pods, 2, [], NOW)
    assert status == {
        "replicas": 4,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "observedGeneration": 1,
        "terminatingReplicas": 2,
    }
    assert wait == 6


def test_failure_comes_and_goes():
    subject = replica_set()
    failure = planning.Failure("FailedCreate", "no")
    (condition,) = planning.conditions(subject, failure, NOW)
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "ReplicaFailure",
        "True",
        "FailedCreate",
    )
    subject["status"]["conditions"] = [condition, {"type": "Other", "status": "True"}]
    assert condition in planning.conditions(subject, planning.Failure("FailedCreate", "again no"), NOW)
    assert planning.conditions(subject, None, NOW) == [{"type": "Other", "status": "True"}]


async def test_slow_start_doubles_and_stops():
    sizes, running = [], 0

    async def act():
        nonlocal running
        running += 1
        await asyncio.sleep(0)
        if running:
            sizes.append(running)
            running = 0
        if sum(sizes) > 3:
            raise StatusError(403, "Forbidden", "no")

    tried, error = await slow_start(100, act)
    assert sizes == [1, 2, 4]
    assert (tried, error.code) == (7, 403)
    assert await slow_start(0, act) == (0, None)


async def test_slow_start_passes_other_errors_on():
    async def act():
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await slow_start(5, act)


def test_expectations():
    now = 0.0
    expectations = Expectations(lambda: now)
    assert expectations.satisfied("k")
    expectations.expect_creations("k", 2)
    expectations.expect_deletions("k", ["a", "b"])
    expectations.created("k")
    expectations.deleted("k", "a")
    expectations.deleted("k", "somebody else's")
    assert not expectations.satisfied("k")
    expectations.created("k")
    assert not expectations.satisfied("k")
    expectations.deleted("k", "b")
    assert expectations.satisfied("k")
    expectations.created("k")  # what nobody waited for
    expectations.expect_creations("k", 1)
    now = TIMEOUT + 1
    assert expectations.satisfied("k")


def test_claims():
    owner = replica_set()
    other = {**replica_set(), "metadata": metadata("other")}
    mine, orphan, foreign = pod("mine", owner=owner), pod("orphan"), pod("foreign", owner=other)
    strayed = pod("strayed", owner=owner, metadata={"labels": {"app": "x"}})
    going = pod("going")
    going["metadata"]["deletionTimestamp"] = ago(1)
    strayed["metadata"]["ownerReferences"] = mine["metadata"]["ownerReferences"]
    found = ownership.claim(owner, [mine, orphan, foreign, strayed, going], from_labels({"app": "web"}))
    assert found == ownership.Claim((mine,), (orphan,), (strayed,))
    owner["metadata"]["deletionTimestamp"] = ago(1)
    found = ownership.claim(owner, [mine, orphan, strayed], from_labels({"app": "web"}))
    assert found == ownership.Claim((mine, strayed), (), ())
