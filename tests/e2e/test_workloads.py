"""StatefulSets, DaemonSets and Jobs with real Pods, as a user works with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local_cluster import Namespace, until
from manifests import Object, pod_spec, server_container, shell

pytestmark = pytest.mark.e2e

WAITING = "trap 'exit 0' TERM; sleep 3600 & wait"


def workload(kind: str, name: str, spec: Object, **more: Any) -> Object:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **more},
    }


def stateful_set(replicas: int, **more: Any) -> Object:
    spec = pod_spec(server_container(readinessProbe={"tcpSocket": {"port": 80}, "periodSeconds": 1}))
    return workload("StatefulSet", "db", spec, replicas=replicas, serviceName="db", **more)


def headless() -> Object:
    spec = {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"}, "spec": spec}


def job(name: str, script: str, **spec: Any) -> Object:
    template = {"spec": pod_spec(shell(script), restartPolicy="Never")}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


def images(namespace: Namespace, app: str) -> dict[str, str]:
    return {
        item["metadata"]["name"]: item["spec"]["containers"][0]["image"]
        for item in namespace.list("pods", f"app={app}")
        if "deletionTimestamp" not in item["metadata"]
    }


def patch(namespace: Namespace, what: str, spec: Object) -> None:
    namespace.kubectl("patch", what, "--type=merge", "-p", json.dumps({"spec": spec}))


def until_observed(namespace: Namespace, kind: str, name: str) -> None:
    """The controller has seen the newest specification."""

    def observed() -> bool:
        found = namespace.get(kind, name)
        return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])

    until(observed)


def test_a_stateful_set_has_names_that_stay(namespace: Namespace) -> None:
    namespace.apply(headless(), stateful_set(3))
    namespace.rolled_out("statefulset/db")
    created = [event["message"].split()[2] for event in namespace.events("SuccessfulCreate", "db")]
    assert created == ["db-0", "db-1", "db-2"], "one after the other, each when the one before was ready"
    for number in (0, 2):
        answer = namespace.exec("db-1", "curl", "-sS", "-m", "5", f"db-{number}.db")
        assert answer.stdout == f"db-{number}\n"
    assert namespace.exec("db-1", "hostname", "-f").stdout.strip() == (
        f"db-1.db.{namespace.name}.svc.cluster.local"
    )
    before = namespace.get("pod", "db-1")["metadata"]["uid"]
    namespace.kubectl("delete", "pod", "db-1")
    namespace.rolled_out("statefulset/db")
    after = until(lambda: namespace.get("pod", "db-1"))
    assert after["metadata"]["uid"] != before
    # The name follows the Pod to its new address.
    until(
        lambda: namespace.exec("db-0", "curl", "-sS", "-m", "2", "db-1.db", check=False).stdout == "db-1\n",
        what="db-1 is found again",
    )
    namespace.kubectl("scale", "statefulset/db", "--replicas=1")
    until(lambda: set(images(namespace, "db")) == {"db-0"})


def test_a_stateful_set_is_updated_from_above_and_back(namespace: Namespace) -> None:
    namespace.apply(headless(), stateful_set(3, podManagementPolicy="Parallel", ordinals={"start": 5}))
    namespace.rolled_out("statefulset/db")
    old, new = "python:3.7", "docker.io/library/python:3.7"
    assert images(namespace, "db") == dict.fromkeys(("db-5", "db-6", "db-7"), old)
    patch(namespace, "statefulset/db", {"updateStrategy": {"rollingUpdate": {"partition": 1}}})
    namespace.kubectl("set", "image", "statefulset/db", f"server={new}")
    shown = namespace.kubectl("rollout", "status", "statefulset/db", "--timeout=60s").stdout
    assert "partitioned roll out complete" in shown
    wanted = {"db-5": old, "db-6": old, "db-7": old}
    # A partition counts Pods, from whatever the first ordinal is.
    until(lambda: images(namespace, "db") == {**wanted, "db-6": new, "db-7": new})
    patch(namespace, "statefulset/db", {"updateStrategy": {"rollingUpdate": {"partition": 0}}})
    until(lambda: images(namespace, "db") == dict.fromkeys(wanted, new))
    namespace.rolled_out("statefulset/db")
    namespace.kubectl("rollout", "undo", "statefulset/db")
    until(lambda: images(namespace, "db") == wanted)
    history = namespace.kubectl("rollout", "history", "statefulset/db").stdout.split()
    assert history[-4:] == ["2", "<none>", "3", "<none>"]
    namespace.rolled_out("statefulset/db")
    patch(namespace, "statefulset/db", {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}})
    namespace.kubectl("set", "image", "statefulset/db", f"server={new}")
    until_observed(namespace, "statefulset", "db")
    namespace.kubectl("delete", "pod", "db-6")
    until(lambda: images(namespace, "db") == {**wanted, "db-6": new})


def nodes_of(namespace: Namespace, app: str) -> list[str]:
    return sorted(
        item["spec"].get("nodeName", "")
        for item in namespace.list("pods", f"app={app}")
        if "deletionTimestamp" not in item["metadata"]
    )


def test_a_daemon_set(namespace: Namespace) -> None:
    cluster = namespace.cluster
    everywhere = ["node-1", "node-2", "node-3"]
    spec = pod_spec(shell(WAITING))
    cluster.kubectl("taint", "node", "node-3", "dedicated=db:NoSchedule")
    try:
        namespace.apply(workload("DaemonSet", "agent", spec))
        namespace.rolled_out("daemonset/agent")
        assert nodes_of(namespace, "agent") == ["node-1", "node-2"]
        tolerations = [{"key": "dedicated", "operator": "Exists"}]
        patch(namespace, "daemonset/agent", {"template": {"spec": {"tolerations": tolerations}}})
        namespace.rolled_out("daemonset/agent")
        until(lambda: nodes_of(namespace, "agent") == everywhere)
    finally:
        cluster.kubectl("taint", "node", "node-3", "dedicated-")
    surge = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    patch(namespace, "daemonset/agent", {"updateStrategy": surge})
    new = "docker.io/library/python:3.7"
    namespace.kubectl("set", "image", "daemonset/agent", f"main={new}")
    namespace.rolled_out("daemonset/agent")
    until(lambda: set(images(namespace, "agent").values()) == {new})
    namespace.kubectl("rollout", "undo", "daemonset/agent")
    namespace.rolled_out("daemonset/agent")
    until(lambda: set(images(namespace, "agent").values()) == {"python:3.7"})
    patch(namespace, "daemonset/agent", {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}})
    namespace.kubectl("set", "image", "daemonset/agent", f"main={new}")
    until_observed(namespace, "daemonset", "agent")
    assert set(images(namespace, "agent").values()) == {"python:3.7"}
    namespace.kubectl("delete", "pod", "-l", "app=agent", "--field-selector=spec.nodeName=node-1")
    until(lambda: sorted(images(namespace, "agent").values()) == [new, "python:3.7", "python:3.7"])
    patch(
        namespace,
        "daemonset/agent",
        {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "node-2"}}}},
    )
    until(lambda: nodes_of(namespace, "agent") == ["node-2"])


def test_jobs(namespace: Namespace) -> None:
    namespace.apply(
        job("hello", "echo hello"),
        job(
            "indexed",
            "echo $JOB_COMPLETION_INDEX $(hostname)",
            completions=3,
            parallelism=3,
            completionMode="Indexed",
        ),
        job("failing", "exit 3", backoffLimit=0),
        job("late", WAITING, activeDeadlineSeconds=2),
    )
    namespace.wait("condition=Complete", "job/hello", "job/indexed")
    namespace.wait("condition=Failed", "job/failing", "job/late")
    assert namespace.kubectl("logs", "job/hello").stdout == "hello\n"
    said = namespace.kubectl("logs", "-l", "batch.kubernetes.io/job-name=indexed").stdout
    assert sorted(said.splitlines()) == ["0 indexed-0", "1 indexed-1", "2 indexed-2"]
    table = namespace.kubectl("get", "jobs", "--no-headers").stdout
    assert {line.split()[0]: line.split()[1:3] for line in table.splitlines()} == {
        "hello": ["Complete", "1/1"],
        "indexed": ["Complete", "3/3"],
        "failing": ["Failed", "0/1"],
        "late": ["Failed", "0/1"],
    }
    described = namespace.kubectl("describe", "job", "failing").stdout
    assert "Pods Statuses:    0 Active (0 Ready) / 0 Succeeded / 1 Failed" in described
    assert "BackoffLimitExceeded" in described
    assert "Job has reached the specified backoff limit" in described
    assert not [
        item["metadata"]["name"] for item in namespace.list("pods") if item["metadata"].get("finalizers")
    ]
    namespace.kubectl("delete", "job", "--all")
    until(lambda: not namespace.list("pods"), what="their Pods are gone")


def test_a_job_goes_on_when_its_pod_is_deleted(namespace: Namespace) -> None:
    namespace.apply(job("steady", "trap 'exit 0' TERM; sleep 3600 & wait", backoffLimit=3))
    (pod,) = until(lambda: namespace.list("pods", "job-name=steady"))
    namespace.wait("condition=Ready", f"pod/{pod['metadata']['name']}")
    namespace.kubectl("create", "job", "second", "--image=python:3.7", "--", "true")
    namespace.wait("condition=Complete", "job/second")
    namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    until(lambda: namespace.get("job", "steady")["status"].get("failed") == 1)
    until(lambda: not namespace.get("pod", pod["metadata"]["name"]), what="the deleted Pod is gone")
