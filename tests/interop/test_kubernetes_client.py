"""The official Python client does what a user does with kubectl: create, watch, patch, exec, logs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from kubernetes import client, config, stream, watch
from kubernetes.client.exceptions import ApiException

import manifests
from local_cluster import LocalCluster, Namespace

pytestmark = pytest.mark.e2e


@pytest.fixture
def api(cluster: LocalCluster) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(config_file=str(cluster.kubeconfig)) as api:
        yield api


def deployment_of(name: str, replicas: int) -> client.V1Deployment:
    container = manifests.server_container()
    labels = {"app": name}
    return client.V1Deployment(
        metadata=client.V1ObjectMeta(name=name),
        spec=client.V1DeploymentSpec(
            replicas=replicas,
            selector=client.V1LabelSelector(match_labels=labels),
            template=client.V1PodTemplateSpec(
                metadata=client.V1ObjectMeta(labels=labels),
                spec=client.V1PodSpec(
                    termination_grace_period_seconds=1,
                    containers=[
                        client.V1Container(
                            name="server", image=container["image"], command=container["command"]
                        )
                    ],
                ),
            ),
        ),
    )


def test_a_deployment_and_its_service(
    api: client.ApiClient, cluster: LocalCluster, namespace: Namespace
) -> None:
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    ready: set[str] = set()
    watcher = watch.Watch()

    def watch_pods() -> None:
        for event in watcher.stream(core.list_namespaced_pod, namespace.name, timeout_seconds=60):
            conditions = event["object"].status.conditions or []
            if any(each.type == "Ready" and each.status == "True" for each in conditions):
                ready.add(event["object"].metadata.name)
            if len(ready) == 2:
                watcher.stop()

    watching = threading.Thread(target=watch_pods)
    watching.start()
    created = apps.create_namespaced_deployment(namespace.name, deployment_of("web", 2))
    assert created.metadata.uid
    assert created.spec.strategy.type == "RollingUpdate"
    service = core.create_namespaced_service(
        namespace.name,
        client.V1Service(
            metadata=client.V1ObjectMeta(name="web"),
            spec=client.V1ServiceSpec(
                selector={"app": "web"}, ports=[client.V1ServicePort(port=8080, target_port=80)]
            ),
        ),
    )
    watching.join(60)
    assert len(ready) == 2

    namespace.until_endpoints("web", 2)
    slices = client.DiscoveryV1Api(api).list_namespaced_endpoint_slice(
        namespace.name, label_selector="kubernetes.io/service-name=web"
    )
    assert {endpoint.target_ref.name for part in slices.items for endpoint in part.endpoints} == ready
    address = service.spec.cluster_ip
    answer = cluster.on_node(
        "node-1", "curl", "-sS", "--retry-connrefused", "--retry", "9", f"{address}:8080"
    )
    assert answer.stdout.strip() in ready

    patched = apps.patch_namespaced_deployment_scale("web", namespace.name, {"spec": {"replicas": 1}})
    assert patched.spec.replicas == 1
    replaced = core.read_namespaced_service("web", namespace.name)
    replaced.metadata.labels = {"touched": "yes"}
    assert core.replace_namespaced_service("web", namespace.name, replaced).metadata.labels == {
        "touched": "yes"
    }
    namespace.until_endpoints("web", 1)


def test_exec_and_logs(api: client.ApiClient, namespace: Namespace) -> None:
    core = client.CoreV1Api(api)
    script = "echo hello from the log; exec sleep 3600"
    body = manifests.pod("box", manifests.pod_spec(manifests.shell(script)))
    core.create_namespaced_pod(namespace.name, body)
    namespace.wait("condition=Ready", "pod/box")
    assert core.read_namespaced_pod_log("box", namespace.name) == "hello from the log\n"
    assert core.read_namespaced_pod_log("box", namespace.name, tail_lines=0) == ""

    answer = stream.stream(
        core.connect_get_namespaced_pod_exec,
        "box",
        namespace.name,
        command=["sh", "-c", "echo $0 $1", "one", "two three"],
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
    )
    assert answer == "one two three\n"

    session = stream.stream(
        core.connect_get_namespaced_pod_exec,
        "box",
        namespace.name,
        command=["sh"],
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    session.write_stdin("echo typed; echo wrong >&2; exit 3\n")
    session.run_forever(timeout=20)
    assert session.read_stdout() == "typed\n"
    assert session.read_stderr() == "wrong\n"
    assert session.returncode == 3


def test_patches_conflicts_and_errors(api: client.ApiClient, namespace: Namespace) -> None:
    core = client.CoreV1Api(api)
    core.create_namespaced_config_map(
        namespace.name, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="settings"), data={"a": "1"})
    )
    stale = core.read_namespaced_config_map("settings", namespace.name)
    merged = core.patch_namespaced_config_map("settings", namespace.name, {"data": {"b": "2"}})
    assert merged.data == {"a": "1", "b": "2"}
    operations = [{"op": "remove", "path": "/data/a"}]
    assert core.patch_namespaced_config_map("settings", namespace.name, operations).data == {"b": "2"}
    with pytest.raises(ApiException) as conflict:
        core.replace_namespaced_config_map("settings", namespace.name, stale)
    assert conflict.value.status == 409
    assert "the object has been modified" in conflict.value.body
    with pytest.raises(ApiException) as missing:
        core.read_namespaced_pod("nobody", namespace.name)
    assert missing.value.status == 404
    assert client.VersionApi(api).get_code().minor == "36"


def test_a_watch_goes_on_from_where_it_was(api: client.ApiClient, namespace: Namespace) -> None:
    core = client.CoreV1Api(api)
    start = core.list_namespaced_config_map(namespace.name).metadata.resource_version
    for number in range(3):
        name = f"change-{number}"
        core.create_namespaced_config_map(
            namespace.name, client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name))
        )
    core.delete_namespaced_config_map("change-1", namespace.name)
    seen = []
    for event in watch.Watch().stream(
        core.list_namespaced_config_map, namespace.name, resource_version=start, timeout_seconds=20
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if len([kind for kind, name in seen if name.startswith("change-")]) == 4:
            break
    assert [entry for entry in seen if entry[1].startswith("change-")] == [
        ("ADDED", "change-0"),
        ("ADDED", "change-1"),
        ("ADDED", "change-2"),
        ("DELETED", "change-1"),
    ]
