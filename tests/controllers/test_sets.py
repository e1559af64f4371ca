"""StatefulSets and DaemonSets: plans on a model, and both at work with the users' commands."""

from __future__ import annotations

import copy
import datetime
from collections import Counter

import pytest

from buoy.api import meta, pods
from buoy.controllers import history
from buoy.controllers.daemonset import plan as daemons
from buoy.controllers.statefulset import plan as statefuls

from .objects import NOW, ago, metadata, template


def stateful_set(replicas=3, **spec):
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata("db"),
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            "updateStrategy": {"type": "RollingUpdate"},
            **spec,
        },
        "status": {},
    }


class Stateful:
    """A StatefulSet, its revisions and Pods, as the API would keep them."""

    def __init__(self, subject):
        self.subject = subject
        self.revisions = []
        self.pods = {}
        self.made = []

    def step(self):
        found = history.plan(self.subject, self.revisions, "controller.kubernetes.io/hash")
        update = found.update
        self.revisions = [each for each in self.revisions if meta.name(each) != meta.name(update)] + [update]
        name = self.subject["status"].get("currentRevision")
        current = next((each for each in self.revisions if meta.name(each) == name), update)
        todo = statefuls.plan(self.subject, list(self.pods.values()), current, update, NOW)
        self.subject["status"] = statefuls.status(
            self.subject, list(self.pods.values()), current, update, NOW
        )
        for obj in todo.create:
            obj = copy.deepcopy(obj)
            obj["metadata"] |= {"uid": f"uid-{len(self.made)}", "creationTimestamp": ago(60)}
            self.pods[meta.name(obj)] = obj
            self.made.append(f"+{meta.name(obj)}")
        for obj in todo.delete:
            del self.pods[meta.name(obj)]
            self.made.append(f"-{meta.name(obj)}")
        return bool(todo.create or todo.delete)

    def ready(self, *names):
        for name in names or self.pods:
            self.pods[name]["status"] = {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(30)}],
            }

    def settle(self):
        for _ in range(50):
            if not self.step() and not self.step():
                return
            self.ready()

    def images(self):
        return [self.pods[name]["spec"]["containers"][0]["image"] for name in sorted(self.pods)]


def test_one_after_the_other():
    world = Stateful(stateful_set(3))
    world.step()
    world.step()
    assert world.made == ["+db-0"], "the first must be ready before the second is made"
    world.ready()
    world.step()
    assert world.made == ["+db-0", "+db-1"]
    world.ready()
    world.settle()
    assert list(world.pods) == ["db-0", "db-1", "db-2"]
    first = world.pods["db-0"]
    assert (first["spec"]["hostname"], first["spec"]["subdomain"]) == ("db-0", "db")
    assert first["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "0"
    assert first["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "db-0"
    assert first["metadata"]["labels"]["controller-revision-hash"].startswith("db-")
    status = world.subject["status"]
    assert status["currentRevision"] == status["updateRevision"]
    assert [status[key] for key in ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas")] == [
        3
    ] * 4


def test_all_at_once_if_asked():
    world = Stateful(stateful_set(3, podManagementPolicy="Parallel"))
    world.step()
    assert world.made == ["+db-0", "+db-1", "+db-2"]


def test_scaling_down_from_the_end():
    world = Stateful(stateful_set(3))
    world.settle()
    world.made.clear()
    world.subject["spec"]["replicas"] = 1
    world.settle()
    assert world.made == ["-db-2", "-db-1"]


def test_ordinals_may_start_elsewhere():
    world = Stateful(stateful_set(2, ordinals={"start": 5}))
    world.settle()
    assert sorted(world.pods) == ["db-5", "db-6"]


def test_a_rolling_update_from_the_end():
    world = Stateful(stateful_set(3))
    world.settle()
    world.made.clear()
    world.subject["spec"]["template"] = template("web:2")
    world.settle()
    assert world.made == ["-db-2", "+db-2", "-db-1", "+db-1", "-db-0", "+db-0"]
    assert world.images() == ["web:2"] * 3
    assert world.subject["status"]["currentRevision"] == world.subject["status"]["updateRevision"]
    world.subject["spec"]["template"] = template("web:1")
    world.settle()
    assert [history.number(each) for each in world.revisions] == [2, 3], "the old revision is taken up again"


def test_a_partition_holds_the_rest_back():
    world = Stateful(
        stateful_set(3, updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})
    )
    world.settle()
    world.subject["spec"]["template"] = template("web:2")
    world.settle()
    assert world.images() == ["web:1", "web:1", "web:2"]
    del world.pods["db-0"]
    world.settle()
    assert world.images() == ["web:1", "web:1", "web:2"], "below the partition it comes back as it was"


def test_on_delete_waits_for_the_user():
    world = Stateful(stateful_set(2, updateStrategy={"type": "OnDelete"}))
    world.settle()
    world.subject["spec"]["template"] = template("web:2")
    world.settle()
    assert world.images() == ["web:1", "web:1"]
    del world.pods["db-1"]
    world.settle()
    assert world.images() == ["web:1", "web:2"]


def test_an_ended_pod_is_made_again():
    world = Stateful(stateful_set(2))
    world.settle()
    world.made.clear()
    world.pods["db-0"]["status"] = {"phase": "Failed"}
    world.settle()
    assert world.made == ["-db-0", "+db-0"]


def test_claims_have_names_of_their_own():
    claim = {"metadata": {"name": "data"}, "spec": {"resources": {}}}
    subject = stateful_set(1, volumeClaimTemplates=[claim])
    world = Stateful(subject)
    world.step()
    (made,) = statefuls.claims(subject, world.pods["db-0"])
    assert made["metadata"]["name"] == "data-db-0"
    assert world.pods["db-0"]["spec"]["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}
    ]


def test_superfluous_revisions():
    revisions = [{"metadata": {"name": f"r{number}"}, "revision": number} for number in range(6)]
    found = history.superfluous(revisions, {"r0", "r5"}, 2)
    assert [each["revision"] for each in found] == [1, 2]


def daemon_set(**spec):
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata("agent"),
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
            },
            **spec,
        },
        "status": {},
    }


def node(name, *taints, **labels):
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [dict(zip(("key", "effect"), each.split(":"), strict=True)) for each in taints]},
    }


class Daemons:
    def __init__(self, subject, *nodes):
        self.subject = subject
        self.nodes = list(nodes)
        self.hash = "one"
        self.pods = []
        self.most_missing = 0

    def step(self):
        todo = daemons.plan(self.subject, self.pods, self.nodes, self.hash, NOW)
        for name in todo.create:
            made = copy.deepcopy(daemons.pod_for(self.subject, name, self.hash))
            made["metadata"] |= {
                "name": f"agent-{len(self.pods)}-{self.hash}-{name}",
                "uid": f"u{len(self.pods)}{self.hash}{name}",
                "creationTimestamp": ago(60),
            }
            self.pods.append(made)
        self.pods = [each for each in self.pods if each not in todo.delete]
        good = {daemons.node_of(each) for each in self.pods if pods.is_ready(each)}
        self.most_missing = max(self.most_missing, len(self.nodes) - len(good))
        return bool(todo.create or todo.delete)

    def settle(self):
        for _ in range(50):
            if not self.step():
                return
            for each in self.pods:
                each["status"] = {
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(30)}],
                }

    def places(self):
        return Counter(daemons.node_of(each) for each in self.pods)


def test_one_on_each_node():
    world = Daemons(daemon_set(), node("a"), node("b"))
    world.settle()
    assert world.places() == {"a": 1, "b": 1}
    world.nodes.append(node("c"))
    world.settle()
    assert world.places() == {"a": 1, "b": 1, "c": 1}
    status = daemons.status(world.subject, world.pods, world.nodes, "one", NOW)
    assert status == {
        "currentNumberScheduled": 3,
        "desiredNumberScheduled": 3,
        "numberMisscheduled": 0,
        "numberReady": 3,
        "updatedNumberScheduled": 3,
        "numberAvailable": 3,
        "observedGeneration": 1,
    }


@pytest.mark.parametrize(
    ("taint", "runs", "stays"),
    [
        ("node.kubernetes.io/not-ready:NoExecute", True, True),
        ("node.kubernetes.io/unschedulable:NoSchedule", True, True),
        ("dedicated:NoSchedule", False, True),
        ("dedicated:NoExecute", False, False),
        ("node.kubernetes.io/network-unavailable:NoSchedule", False, True),
    ],
)
def test_taints_decide(taint, runs, stays):
    assert daemons.fits(daemon_set(), node("a", taint)) == (runs, stays)


def test_selected_nodes_only():
    subject = daemon_set()
    subject["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}
    world = Daemons(subject, node("a"), node("b", disk="ssd"))
    world.settle()
    assert world.places() == {"b": 1}
    world.nodes[1] = node("b")
    world.settle()
    assert world.places() == {}


@pytest.mark.parametrize(
    ("surge", "unavailable", "missing"), [(0, 1, 1), (0, 2, 2), (0, "50%", 2), (1, 0, 0), ("50%", 0, 0)]
)
def test_a_daemon_sets_rolling_update(surge, unavailable, missing):
    limits = {"maxSurge": surge, "maxUnavailable": unavailable}
    subject = daemon_set(updateStrategy={"type": "RollingUpdate", "rollingUpdate": limits})
    world = Daemons(subject, *map(node, "abcd"))
    world.settle()
    world.most_missing = 0
    world.hash = "two"
    world.settle()
    assert {meta.labels(each)["controller-revision-hash"] for each in world.pods} == {"two"}
    assert world.places() == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert world.most_missing == missing


def test_daemons_on_delete():
    world = Daemons(daemon_set(updateStrategy={"type": "OnDelete"}), node("a"))
    world.settle()
    world.hash = "two"
    world.settle()
    assert meta.labels(world.pods[0])["controller-revision-hash"] == "one"
    world.pods.clear()
    world.settle()
    assert meta.labels(world.pods[0])["controller-revision-hash"] == "two"


def test_min_ready_seconds_count():
    subject = daemon_set(minReadySeconds=60)
    world = Daemons(subject, node("a"))
    world.settle()
    todo = daemons.plan(subject, world.pods, world.nodes, "one", NOW)
    assert todo.wait == 30
    later = NOW + datetime.timedelta(seconds=31)
    assert daemons.status(subject, world.pods, world.nodes, "one", later)["numberAvailable"] == 1
    assert daemons.status(subject, world.pods, world.nodes, "one", NOW)["numberUnavailable"] == 1
