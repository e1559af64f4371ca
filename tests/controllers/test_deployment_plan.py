"""The plan of a Deployment, alone and carried through whole rollouts on a model of ReplicaSets."""

import copy
import datetime
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buoy.api import meta
from buoy.controllers.deployment import numbers, revisions
from buoy.controllers.deployment.plan import (
    CreateReplicaSet,
    DeleteReplicaSet,
    SetRevision,
    UpdateReplicaSet,
    UpdateStatus,
    plan,
    same_status,
)

from .objects import NOW, deployment, pod, template


class World:
    """One Deployment and its ReplicaSets, whose Pods become ready when `tick` says so."""

    def __init__(self, subject):
        self.subject = subject
        self.sets = {}
        self.now = NOW
        self.events = []
        self.pods = {}

    def step(self):
        """One pass of the controller; True if it wrote anything."""
        todo = plan(self.subject, list(self.sets.values()), self.pods, self.now)
        for action in todo.actions:
            match action:
                case CreateReplicaSet(obj, event):
                    made = copy.deepcopy(obj)
                    name = meta.name(made)
                    assert name not in self.sets
                    made["metadata"] |= {
                        "uid": f"uid-{name}",
                        "generation": 1,
                        "creationTimestamp": meta.format_time(self.now),
                    }
                    made["status"] = {"observedGeneration": 1}
                    self.sets[name] = made
                    self.events += [event] if event else []
                case UpdateReplicaSet(obj, events):
                    self.sets[meta.name(obj)] = obj
                    self.events += events
                case DeleteReplicaSet(obj):
                    del self.sets[meta.name(obj)]
                case SetRevision(revision):
                    self.subject["metadata"].setdefault("annotations", {})[revisions.REVISION] = revision
                case UpdateStatus(status):
                    self.subject = {**self.subject, "status": status}
        self.wait = todo.wait
        return bool(todo.actions)

    def tick(self, choose=None, late=lambda: False):
        """Each ReplicaSet gets its Pods; of those as many more become available as *choose* says.

        One that is *late* has not even seen its new size.
        """
        for each in self.sets.values():
            if late():
                continue
            status = each["status"]
            status["replicas"] = numbers.size(each)
            available = min(status.get("availableReplicas", 0), status["replicas"])
            missing = status["replicas"] - available
            status["availableReplicas"] = available + (choose(missing) if choose else missing)
            status["readyReplicas"] = status["availableReplicas"]
            status["observedGeneration"] = each["metadata"].get("generation", 1)
        self.now += datetime.timedelta(seconds=1)

    def settle(self, choose=None, check=None):
        for _ in range(500):
            ready = all(
                numbers.count(each, field) == numbers.size(each)
                for each in self.sets.values()
                for field in ("replicas", "availableReplicas")
            )
            wrote = self.step()
            if check:
                check(self)
            if ready and not wrote:
                return
            self.tick(choose)
        raise AssertionError("it never settled")

    def edit(self, **spec):
        metadata = {**self.subject["metadata"], "generation": self.subject["metadata"]["generation"] + 1}
        self.subject = {**self.subject, "metadata": metadata, "spec": {**self.subject["spec"], **spec}}

    def sizes(self):
        return {
            each["spec"]["template"]["spec"]["containers"][0]["image"]: numbers.size(each)
            for each in self.sets.values()
            if numbers.size(each)
        }

    def condition(self, kind):
        return next(each for each in self.subject["status"]["conditions"] if each["type"] == kind)


def test_a_first_rollout():
    world = World(deployment(3))
    world.step()
    (name,) = world.sets
    assert name.startswith("web-")
    assert world.events == [f"Scaled up replica set {name} from 0 to 3"]
    made = world.sets[name]
    assert made["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": name[4:]}
    assert made["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] == name[4:]
    assert made["metadata"]["annotations"] == {
        "deployment.kubernetes.io/revision": "1",
        "deployment.kubernetes.io/desired-replicas": "3",
        "deployment.kubernetes.io/max-replicas": "4",
    }
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-web"
    assert world.condition("Progressing")["reason"] == "NewReplicaSetCreated"
    assert world.condition("Progressing")["message"] == f'Created new replica set "{name}"'
    assert world.condition("Available")["reason"] == "MinimumReplicasUnavailable"
    assert world.subject["status"]["unavailableReplicas"] == 3
    world.tick()
    world.settle()
    assert world.condition("Available")["message"] == "Deployment has minimum availability."
    done = world.condition("Progressing")
    assert (done["reason"], done["message"]) == (
        "NewReplicaSetAvailable",
        f'ReplicaSet "{name}" has successfully progressed.',
    )
    status = {key: value for key, value in world.subject["status"].items() if key != "conditions"}
    assert status == {
        "observedGeneration": 1,
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
    }
    assert not world.step()
    assert world.wait is None


def test_a_rolling_update_by_the_numbers():
    world = World(deployment(10, 3, 2))
    world.settle()
    world.edit(template=template("web:2"))
    world.events.clear()
    world.step()
    assert world.sizes() == {"web:1": 8, "web:2": 3}
    world.tick()
    world.step()
    assert world.sizes() == {"web:1": 8, "web:2": 5}
    world.step()
    assert world.sizes() == {"web:1": 5, "web:2": 5}
    world.settle()
    assert world.sizes() == {"web:2": 10}
    assert meta.annotations(world.subject)["deployment.kubernetes.io/revision"] == "2"
    steps = [" ".join(event.split()[:2] + event.split()[5:]) for event in world.events]
    assert steps == [
        "Scaled up from 0 to 3",
        "Scaled down from 10 to 8",
        "Scaled up from 3 to 5",
        "Scaled down from 8 to 5",
        "Scaled up from 5 to 8",
        "Scaled down from 5 to 0",
        "Scaled up from 8 to 10",
    ]


def test_a_rollback_takes_the_old_replica_set_and_keeps_its_history():
    world = World(deployment(2))
    world.settle()
    (first,) = world.sets
    world.edit(template=template("web:2"))
    world.settle()
    assert len(world.sets) == 2
    world.edit(template=template("web:1"))
    world.settle()
    assert len(world.sets) == 2
    assert world.sizes() == {"web:1": 2}
    annotations = world.sets[first]["metadata"]["annotations"]
    assert annotations["deployment.kubernetes.io/revision"] == "3"
    assert annotations["deployment.kubernetes.io/revision-history"] == "1"
    assert meta.annotations(world.subject)["deployment.kubernetes.io/revision"] == "3"


def test_change_cause_follows_its_revision():
    world = World(deployment(1))
    world.subject["metadata"]["annotations"] = {
        "kubernetes.io/change-cause": "first",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    world.settle()
    (made,) = world.sets.values()
    assert made["metadata"]["annotations"]["kubernetes.io/change-cause"] == "first"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in made["metadata"]["annotations"]


def test_recreate_waits_for_the_last_old_pod():
    world = World(deployment(3, strategy={"type": "Recreate"}))
    world.settle()
    (old,) = world.sets.values()
    world.edit(template=template("web:2"))
    world.step()
    assert world.sizes() == {}
    world.tick()
    world.pods = {meta.uid(old): [pod("last")]}
    world.step()
    assert len(world.sets) == 1, "a Pod of the old template still runs"
    world.pods = {meta.uid(old): [pod("last", status={"phase": "Succeeded"})]}
    world.settle()
    assert world.sizes() == {"web:2": 3}


def test_a_paused_deployment_scales_but_does_not_roll():
    world = World(deployment(3))
    world.settle()
    world.edit(paused=True, template=template("web:2"))
    world.settle()
    assert world.sizes() == {"web:1": 3}
    assert world.condition("Progressing")["reason"] == "DeploymentPaused"
    world.edit(replicas=5)
    world.settle()
    assert world.sizes() == {"web:1": 5}
    world.edit(paused=False)
    world.settle()
    assert world.sizes() == {"web:2": 5}
    assert world.condition("Progressing")["reason"] == "NewReplicaSetAvailable"


def test_scaling_in_the_middle_of_a_rollout_keeps_proportions():
    world = World(deployment(10, 3, 2))
    world.settle()
    world.edit(template=template("web:broken"))
    for _ in range(6):
        world.step()
        world.tick(lambda missing: 0)
    assert world.sizes() == {"web:1": 8, "web:broken": 5}
    world.edit(replicas=15)
    world.step()
    assert world.sizes() == {"web:1": 11, "web:broken": 7}
    world.step()
    assert sum(world.sizes().values()) == 18


def test_the_progress_deadline():
    world = World(deployment(2, progressDeadlineSeconds=10))
    world.step()
    world.tick(lambda missing: 0)
    world.step()
    assert not world.step()
    assert world.wait == pytest.approx(11, abs=2)
    world.now += datetime.timedelta(seconds=11)
    world.step()
    late = world.condition("Progressing")
    assert (late["status"], late["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert late["message"].endswith("has timed out progressing.")
    world.settle()
    assert world.condition("Progressing")["reason"] == "NewReplicaSetAvailable", "late is better than never"


def test_without_a_deadline_there_is_no_progressing_condition():
    world = World(deployment(2, progressDeadlineSeconds=2**31 - 1))
    world.settle()
    assert {each["type"] for each in world.subject["status"]["conditions"]} == {"Available"}


def test_old_replica_sets_are_cleaned_up():
    world = World(deployment(1, revisionHistoryLimit=2))
    for number in range(6):
        world.edit(template=template(f"web:{number}"))
        world.settle()
    images = {each["spec"]["template"]["spec"]["containers"][0]["image"] for each in world.sets.values()}
    assert images == {"web:3", "web:4", "web:5"}


def test_failures_of_replica_sets_are_passed_on():
    world = World(deployment(1))
    world.step()
    (made,) = world.sets.values()
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "no",
        "lastTransitionTime": "2026-05-01T00:00:00Z",
    }
    made["status"]["conditions"] = [failure]
    world.step()
    assert world.condition("ReplicaFailure")["message"] == "no"
    made["status"]["conditions"] = []
    world.settle()
    assert "ReplicaFailure" not in {each["type"] for each in world.subject["status"]["conditions"]}


def test_a_hash_collision_gives_another_name():
    one = revisions.make(deployment(), [])
    other = deployment()
    other["status"] = {"collisionCount": 1}
    assert meta.name(revisions.make(other, [])) != meta.name(one)


def test_zero_may_be_written_or_not():
    assert same_status({"replicas": 0, "conditions": []}, {})
    assert not same_status({"replicas": 1}, {})


@settings(max_examples=150, deadline=None)
@given(
    replicas=st.integers(0, 12),
    surge=st.sampled_from([0, 1, 3, "10%", "25%", "100%"]),
    unavailable=st.sampled_from([0, 1, 2, "25%", "100%"]),
    seed=st.integers(0, 2**32),
)
def test_every_rollout_keeps_its_bounds_and_ends(replicas, surge, unavailable, seed):
    chance = random.Random(seed)
    world = World(deployment(replicas, surge, unavailable))
    world.settle()

    def within_bounds(world):
        total = numbers.total_size(world.sets.values())
        assert total <= replicas + numbers.max_surge(world.subject)
        available = sum(
            min(numbers.count(each, "availableReplicas"), numbers.size(each)) for each in world.sets.values()
        )
        assert available >= replicas - numbers.max_unavailable(world.subject)

    for image in ("web:2", "web:3"):
        world.edit(template=template(image))
        for _ in range(chance.randrange(10)):
            world.step()
            within_bounds(world)
            world.tick(lambda missing: chance.randint(0, missing), lambda: chance.random() < 0.4)
    world.settle(lambda missing: chance.randint(min(1, missing), missing), within_bounds)
    assert world.sizes() == ({"web:3": replicas} if replicas else {})
    assert world.subject["status"].get("updatedReplicas", 0) == replicas
