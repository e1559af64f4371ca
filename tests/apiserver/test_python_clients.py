"""Foreign Python clients: the official one, and kr8s."""

from __future__ import annotations

import asyncio
import warnings

import kubernetes
import pytest

from buoy.api.resource import Resource
from buoy.client import Client, Informer
from eventual import eventually

from .api_server import Running
from .crds import DEFINITIONS, IP_ADDRESS_POOL, pool

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


def pools_with_official_client(kubeconfig: str, namespace: str) -> None:
    api = kubernetes.config.new_client_from_config(kubeconfig)
    definitions = kubernetes.client.ApiextensionsV1Api(api)
    found = definitions.read_custom_resource_definition("ipaddresspools.metallb.io")
    assert found.spec.versions[0].schema.open_apiv3_schema.properties["spec"].required == ["addresses"]
    custom = kubernetes.client.CustomObjectsApi(api)
    where = ("metallb.io", "v1beta1", namespace, "ipaddresspools")
    custom.create_namespaced_custom_object(*where, pool())
    patch = {"spec": {"autoAssign": False}}
    patched = custom.patch_namespaced_custom_object(*where, "pool", patch)
    assert patched["spec"]["autoAssign"] is False
    told = custom.patch_namespaced_custom_object_status(*where, "pool", {"status": {"availableIPv4": 1}})
    assert told["status"] == {"availableIPv4": 1}
    listed = custom.list_namespaced_custom_object(*where)
    assert (listed["kind"], len(listed["items"])) == ("IPAddressPoolList", 1)
    custom.delete_namespaced_custom_object(*where, "pool")


async def test_custom_resources(server: Running, namespace: str) -> None:
    """By the official client, by kr8s, and by an informer of our own."""
    assert (await server.post(DEFINITIONS, IP_ADDRESS_POOL)).status == 201

    async def established() -> bool:
        return (await server.get("/apis/metallb.io/v1beta1")).status == 200

    await eventually(established)
    client = Client.from_kubeconfig(server.kubeconfig)
    informer = Informer(client, Resource("metallb.io", "v1beta1", "ipaddresspools", "IPAddressPool"))
    seen: list[str] = []
    informer.subscribe(lambda old, new: seen.append("added" if old is None else "changed" if new else "gone"))
    running = asyncio.create_task(informer.run())
    await informer.synced()
    await asyncio.to_thread(pools_with_official_client, server.kubeconfig, namespace)
    await eventually(lambda: "gone" in seen)
    assert seen == ["added", "changed", "changed", "gone"]
    running.cancel()
    await client.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kr8s.asyncio
        from kr8s.asyncio.objects import new_class

        api = await kr8s.asyncio.api(kubeconfig=server.kubeconfig)
    kind = new_class("IPAddressPool", "metallb.io/v1beta1", asyncio=True)
    made = await kind(pool("b") | {"metadata": {"name": "b", "namespace": namespace}}, api=api)
    await made.create()
    assert [each.name async for each in api.get("ipaddresspools.metallb.io", namespace=namespace)] == ["b"]
    await made.delete()
