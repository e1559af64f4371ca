"""Volumes that outlive Pods, as users of kind and k3s know them: the StatefulSet ``web`` and its claims."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cluster import LocalCluster, Namespace, until
from manifests import Object, pod, pod_spec, shell

pytestmark = pytest.mark.e2e

PAGE = "/usr/share/nginx/html/index.html"
WAITING = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
MOUNTED = [{"name": "www", "mountPath": "/usr/share/nginx/html"}]


def claim(name: str = "www", size: str = "1Gi", **spec: object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec},
    }


def web(replicas: int = 2, **spec: object) -> list[Object]:
    labels = {"app": "nginx"}
    template = claim()
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "nginx", "labels": labels},
            "spec": {"clusterIP": "None", "selector": labels, "ports": [{"port": 80, "name": "web"}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "web"},
            "spec": {
                "serviceName": "nginx",
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": pod_spec(shell(WAITING, volumeMounts=MOUNTED)),
                },
                "volumeClaimTemplates": [
                    {"metadata": template["metadata"], "spec": template["spec"]},
                ],
                **spec,
            },
        },
    ]


def read(namespace: Namespace, name: str, path: str = PAGE) -> str:
    return namespace.exec(name, "cat", path).stdout.strip()


def uids(namespace: Namespace, kind: str = "pods") -> dict[str, str]:
    return {each["metadata"]["name"]: each["metadata"]["uid"] for each in namespace.list(kind)}


def write_pages(namespace: Namespace) -> None:
    for name in uids(namespace):
        namespace.exec(name, "sh", "-c", f"hostname > {PAGE}")


def folders(cluster: LocalCluster, namespace: Namespace) -> list[Path]:
    """Of this test's claims, in the cluster's own state folder."""
    return sorted(cluster.folder.glob(f"nodes/*/volumes/*_{namespace.name}_*"))


def replaced(namespace: Namespace, before: dict[str, str]) -> bool:
    now = uids(namespace)
    return now.keys() == before.keys() and not set(now.values()) & set(before.values())


def test_what_pods_write_is_there_for_those_who_come_after_them(
    cluster: LocalCluster, namespace: Namespace
) -> None:
    namespace.apply(*web())
    namespace.rolled_out("statefulset/web")
    write_pages(namespace)
    before = uids(namespace)
    namespace.kubectl("delete", "pod", "-l", "app=nginx")
    until(lambda: replaced(namespace, before))
    namespace.rolled_out("statefulset/web")
    assert [read(namespace, name) for name in ("web-0", "web-1")] == ["web-0", "web-1"]
    claims = uids(namespace, "persistentvolumeclaims")
    namespace.kubectl("scale", "statefulset/web", "--replicas=0")
    namespace.kubectl("wait", "--for=delete", "pod/web-0", "pod/web-1", "--timeout=30s")
    assert uids(namespace, "persistentvolumeclaims") == claims
    namespace.kubectl("scale", "statefulset/web", "--replicas=3")
    namespace.rolled_out("statefulset/web")
    assert [read(namespace, name) for name in ("web-0", "web-1")] == ["web-0", "web-1"]
    # What retains nothing goes with whatever it belongs to.
    policy = {
        "spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"}}
    }
    namespace.kubectl("patch", "statefulset/web", "--type=merge", "-p", json.dumps(policy))
    namespace.kubectl("scale", "statefulset/web", "--replicas=1")
    namespace.kubectl("wait", "--for=delete", "pvc/www-web-1", "pvc/www-web-2", "--timeout=30s")
    until(lambda: len(folders(cluster, namespace)) == 1)
    assert read(namespace, "web-0") == "web-0"
    namespace.kubectl("delete", "statefulset/web")
    namespace.kubectl("wait", "--for=delete", "pvc/www-web-0", "--timeout=30s")
    until(lambda: not folders(cluster, namespace))


def test_claims_of_a_set_that_is_deleted_stay(cluster: LocalCluster, namespace: Namespace) -> None:
    namespace.apply(*web(1))
    namespace.rolled_out("statefulset/web")
    write_pages(namespace)
    namespace.kubectl("delete", "statefulset/web")
    namespace.kubectl("wait", "--for=delete", "pod/web-0", "--timeout=30s")
    namespace.apply(*web(1))
    namespace.rolled_out("statefulset/web")
    assert read(namespace, "web-0") == "web-0"


def test_what_kubectl_shows(cluster: LocalCluster, namespace: Namespace) -> None:
    namespace.apply(claim("data"))
    waiting = "waiting for first consumer to be created before binding"
    until(lambda: waiting in namespace.kubectl("describe", "pvc", "data").stdout)
    # Whoever is not root can write there, too.
    container = shell(
        f"echo hello > /data/file; {WAITING}", volumeMounts=[{"name": "v", "mountPath": "/data"}]
    )
    mounted = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    spec = pod_spec(container, volumes=[mounted], securityContext={"runAsUser": 1000})
    namespace.apply(pod("user", spec))
    namespace.wait("condition=Ready", "pod/user")
    until(lambda: namespace.exec("user", "cat", "/data/file", check=False).stdout == "hello\n")
    shown = namespace.kubectl("get", "pvc", "data").stdout.splitlines()
    assert shown[0].split() == [
        *["NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS", "MODES"],
        *["STORAGECLASS", "VOLUMEATTRIBUTESCLASS", "AGE"],
    ]
    name = namespace.get("pvc", "data")["spec"]["volumeName"]
    assert shown[1].split()[:-1] == ["data", "Bound", name, "1Gi", "RWO", "standard", "<unset>"]
    shown = namespace.kubectl("get", "pv", name).stdout.splitlines()
    whose = f"{namespace.name}/data"
    assert shown[1].split()[:-1] == [name, "1Gi", "RWO", "Delete", "Bound", whose, "standard", "<unset>"]
    shown = namespace.kubectl("get", "sc").stdout.splitlines()
    assert shown[1].split()[:-1] == [
        *["standard", "(default)", "rancher.io/local-path", "Delete", "WaitForFirstConsumer", "false"]
    ]
    described = namespace.kubectl("describe", "pvc", "data").stdout
    for text in (
        "Used By:       user",
        f'External provisioner is provisioning volume for claim "{whose}"',
        f"Successfully provisioned volume {name}",
        "kubernetes.io/pvc-protection",
    ):
        assert text in described
    place = namespace.get("pod", "user")["spec"]["nodeName"]
    assert (
        f"Term 0:        kubernetes.io/hostname in [{place}]"
        in namespace.kubectl("describe", "pv", name).stdout
    )
    # It is all in the cluster's own folder.
    (folder,) = folders(cluster, namespace)
    assert folder.parent.parent.name == place
    assert (folder / "file").read_text() == "hello\n"
    # As long as it is used it stays; the user who wonders is told.
    namespace.kubectl("delete", "pvc", "data", "--wait=false")
    assert namespace.kubectl("get", "pvc", "data").stdout.splitlines()[1].split()[1] == "Terminating"
    namespace.kubectl("delete", "pod", "user")
    namespace.kubectl("wait", "--for=delete", "pvc/data", f"pv/{name}", "--timeout=30s")
    assert not folder.exists()


def test_a_volume_made_by_hand_and_what_cannot_be(cluster: LocalCluster, namespace: Namespace) -> None:
    volume: Object = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace.name}-task"},
        "spec": {
            "storageClassName": f"{namespace.name}-manual",
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": f"/run/{namespace.name}"},
        },
    }
    container = shell(WAITING, volumeMounts=[{"name": "v", "mountPath": "/data", "subPath": "part"}])
    mounted = {"name": "v", "persistentVolumeClaim": {"claimName": "task"}}
    try:
        namespace.apply(volume, claim("task", "3Gi", storageClassName=f"{namespace.name}-manual"))
        namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", "pvc/task", "--timeout=30s")
        # There is no such folder on any node yet, and nobody is told to make it.
        namespace.apply(pod("task", pod_spec(container, volumes=[mounted])))
        until(lambda: namespace.events("Failed", "task") or namespace.events("FailedMount", "task"))
        place = namespace.get("pod", "task")["spec"]["nodeName"]
        cluster.on_node(place, "mkdir", f"/run/{namespace.name}")
        namespace.wait("condition=Ready", "pod/task")
        namespace.exec("task", "sh", "-c", "echo x > /data/file")
        assert cluster.on_node(place, "cat", f"/run/{namespace.name}/part/file").stdout == "x\n"
        bad = namespace.kubectl("patch", "pvc", "task", "-p", '{"spec":{"volumeName":"other"}}', check=False)
        assert "spec: Forbidden: spec is immutable after creation except resources.requests and" in bad.stderr
    finally:
        namespace.kubectl("delete", "pod/task", "pvc/task", f"pv/{namespace.name}-task")


@pytest.fixture(scope="module")
def one_node(buoy_home: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster(f"volumes-{os.getpid()}", buoy_home, nodes=1)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


def test_a_power_cut_takes_nothing_away(one_node: LocalCluster) -> None:
    with one_node.namespace() as namespace:
        namespace.apply(*web(1))
        namespace.rolled_out("statefulset/web")
        write_pages(namespace)
        namespace.exec("web-0", "sync")
        one_node.buoy("node stop", "node-1")
        one_node.buoy("node start", "node-1")

        def back() -> bool:
            return namespace.exec("web-0", "cat", PAGE, check=False).stdout == "web-0\n"

        until(back, within=60)
        assert len(folders(one_node, namespace)) == 1
