"""kr8s does the same: create, wait, watch, patch, scale, exec, logs."""

from __future__ import annotations

import threading

import kr8s
import pytest
from kr8s.objects import ConfigMap, Deployment, Pod, Service

import manifests
from local_cluster import LocalCluster, Namespace

pytestmark = pytest.mark.e2e


@pytest.fixture
def api(cluster: LocalCluster, namespace: Namespace) -> kr8s.Api:
    return kr8s.api(kubeconfig=str(cluster.kubeconfig), namespace=namespace.name)


def test_a_deployment_and_its_service(api: kr8s.Api, cluster: LocalCluster, namespace: Namespace) -> None:
    spec = manifests.pod_spec(manifests.server_container())
    deployment = Deployment(
        {**manifests.deployment("web", 2, spec), "metadata": {"name": "web", "namespace": namespace.name}},
        api=api,
    )
    deployment.create()
    deployment.wait("condition=Available", timeout=60)
    service = Service(
        {**manifests.service("web"), "metadata": {"name": "web", "namespace": namespace.name}}, api=api
    )
    service.create()
    namespace.until_endpoints("web", 2)
    names = {pod.name for pod in deployment.pods()}
    assert len(names) == 2
    address = f"{service.spec['clusterIP']}:8080"
    answer = cluster.on_node("node-1", "curl", "-sS", "--retry-connrefused", "--retry", "9", address)
    assert answer.stdout.strip() in names

    deployment.scale(3)
    namespace.until_endpoints("web", 3)
    deployment.patch({"metadata": {"labels": {"touched": "yes"}}})
    deployment.refresh()
    assert deployment.labels["touched"] == "yes"
    deployment.delete()
    deployment.wait("delete", timeout=30)


def test_exec_and_logs(api: kr8s.Api, namespace: Namespace) -> None:
    script = "echo hello from the log; exec sleep 3600"
    body = manifests.pod("box", manifests.pod_spec(manifests.shell(script)), namespace=namespace.name)
    pod = Pod(body, api=api)
    pod.create()
    pod.wait("condition=Ready", timeout=60)
    assert list(pod.logs()) == ["hello from the log"]
    done = pod.exec(["sh", "-c", "echo out; echo err >&2"])
    assert done.stdout == b"out\n"
    assert done.stderr == b"err\n"
    assert done.returncode == 0
    failed = pod.exec(["sh", "-c", "exit 3"], check=False)
    assert failed.returncode == 3


def test_watch(api: kr8s.Api, namespace: Namespace) -> None:
    seen: list[tuple[str, str]] = []
    listening = threading.Event()

    def listen() -> None:
        ours = kr8s.api(kubeconfig=str(namespace.cluster.kubeconfig), namespace=namespace.name)
        for kind, item in ours.watch("configmaps", namespace=namespace.name):
            listening.set()  # the namespace's own ConfigMap comes first
            if item.name == "news":
                seen.append((kind, item.raw.get("data", {}).get("word", "")))
                if kind == "DELETED":
                    return

    watching = threading.Thread(target=listen, daemon=True)
    watching.start()
    assert listening.wait(20)
    news = ConfigMap(
        {"metadata": {"name": "news", "namespace": namespace.name}, "data": {"word": "first"}}, api=api
    )
    news.create()
    news.patch({"data": {"word": "second"}})
    news.delete()
    watching.join(20)
    assert seen == [("ADDED", "first"), ("MODIFIED", "second"), ("DELETED", "second")]


def test_errors(api: kr8s.Api, namespace: Namespace) -> None:
    with pytest.raises(kr8s.NotFoundError):
        Pod.get("nobody", namespace=namespace.name, api=api)
    assert api.version()["minor"] == "36"
