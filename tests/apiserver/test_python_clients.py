"""Foreign Python clients: the official one, and kr8s."""

from __future__ import annotations

import asyncio
import warnings

import kubernetes
import pytest

from .api_server import Running

pytestmark = pytest.mark.asyncio(loop_scope="module")


def with_official_client(kubeconfig: str, namespace: str) -> list[tuple[str, str]]:
    api = kubernetes.config.new_client_from_config(kubeconfig)
    core = kubernetes.client.CoreV1Api(api)
    apps = kubernetes.client.AppsV1Api(api)
    kinds = kubernetes.client
    labels = {"app": "web"}
    deployment = kinds.V1Deployment(
        metadata=kinds.V1ObjectMeta(name="web"),
        spec=kinds.V1DeploymentSpec(
            replicas=2,
            selector=kinds.V1LabelSelector(match_labels=labels),
            template=kinds.V1PodTemplateSpec(
                metadata=kinds.V1ObjectMeta(labels=labels),
                spec=kinds.V1PodSpec(containers=[kinds.V1Container(name="c", image="i")]),
            ),
        ),
    )
    version = core.list_namespaced_config_map(namespace).metadata.resource_version
    made = apps.create_namespaced_deployment(namespace, deployment)
    assert made.spec.strategy.type == "RollingUpdate"
    scale = apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 5}})
    assert scale.spec.replicas == 5
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}}}
    patched = apps.patch_namespaced_deployment("web", namespace, patch)
    assert patched.spec.template.spec.containers[0].image == "j"
    found = apps.list_deployment_for_all_namespaces(label_selector="", field_selector="metadata.name=web")
    assert [item.spec.replicas for item in found.items if item.metadata.namespace == namespace] == [5]
    for number in range(2):
        core.create_namespaced_config_map(namespace, kinds.V1ConfigMap(metadata={"name": f"c{number}"}))
    core.delete_namespaced_config_map("c0", namespace)
    with pytest.raises(kinds.ApiException) as caught:
        core.read_namespaced_config_map("c0", namespace)
    assert caught.value.status == 404
    watch = kubernetes.watch.Watch()
    events = []
    for event in watch.stream(
        core.list_namespaced_config_map, namespace, resource_version=version, timeout_seconds=20
    ):
        events.append((event["type"], event["object"].metadata.name))
        if len(events) == 3:
            watch.stop()
    return events


async def test_the_official_client(server: Running, namespace: str) -> None:
    events = await asyncio.to_thread(with_official_client, server.kubeconfig, namespace)
    assert events == [("ADDED", "c0"), ("ADDED", "c1"), ("DELETED", "c0")]


async def test_kr8s(server: Running, namespace: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kr8s.asyncio
        from kr8s.asyncio.objects import ConfigMap, Service

        api = await kr8s.asyncio.api(kubeconfig=server.kubeconfig)
    service = await Service(
        {"metadata": {"name": "s", "namespace": namespace}, "spec": {"ports": [{"port": 80}]}}, api=api
    )
    await service.create()
    assert service.spec.clusterIP.startswith("10.")
    found = await ConfigMap({"metadata": {"name": "c", "namespace": namespace}, "data": {"a": "1"}}, api=api)
    await found.create()
    await found.patch({"data": {"b": "2"}})
    await found.label({"x": "y"})
    assert dict(found.data) == {"a": "1", "b": "2"}
    listed = [each.name async for each in api.get("configmaps", namespace=namespace, label_selector="x=y")]
    assert listed == ["c"]
    await found.delete()
    assert not await found.exists()
