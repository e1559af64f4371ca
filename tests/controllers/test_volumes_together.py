"""Volumes, claims, Pods and StatefulSets on a real API server: binder, provisioner, scheduler, protection."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from apiserver.api_server import running
from buoy.api import meta, pods
from buoy.api.meta import Object
from buoy.api.resource import (
    CORE_EVENTS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STATEFUL_SETS,
    STORAGE_CLASSES,
    Resource,
)
from buoy.api.status import StatusError
from buoy.client import Client
from eventual import eventually

from .together import Cluster

LOCAL_PATH = "rancher.io/local-path"
NODES = ("node-1", "node-2", "node-3")


class Storage:
    """A cluster whose nodes have folders for volumes."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.client = cluster.client
        self.folder = folder

    async def storage_class(self, name: str = "standard", *, default: bool = True, **more: Any) -> None:
        annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
        await self.client.create(
            STORAGE_CLASSES,
            {
                "metadata": {"name": name, "annotations": annotations},
                "provisioner": LOCAL_PATH,
                "volumeBindingMode": "WaitForFirstConsumer",
                **more,
            },
        )

    async def claim(self, name: str = "data", size: str = "1Gi", **spec: Any) -> Object:
        return await self.client.create(
            PERSISTENT_VOLUME_CLAIMS,
            {"metadata": {"name": name, "namespace": "default"}, "spec": claim_spec(size, **spec)},
        )

    async def volume(self, name: str, size: str = "1Gi", **spec: Any) -> Object:
        return await self.client.create(
            PERSISTENT_VOLUMES,
            {
                "metadata": {"name": name},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "capacity": {"storage": size},
                    "hostPath": {"path": f"/data/{name}"},
                    **spec,
                },
            },
        )

    async def pod(self, name: str, *claims: str, volumes: tuple[Object, ...] = ()) -> Object:
        mounted = [{"name": each, "persistentVolumeClaim": {"claimName": each}} for each in claims]
        return await self.client.create(
            PODS,
            {
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "containers": [{"name": "c", "image": "i"}],
                    "volumes": [*mounted, *volumes],
                },
            },
        )

    async def find(self, resource: Resource, name: str) -> Object | None:
        try:
            return await self.client.get(resource, name, "default" if resource.namespaced else "")
        except StatusError as error:
            if error.code != 404:
                raise
            return None

    async def phase(self, resource: Resource, name: str) -> str:
        found = await self.find(resource, name)
        return (found or {}).get("status", {}).get("phase", "gone") if found else "gone"

    async def until_phase(self, resource: Resource, name: str, wanted: str) -> Object:
        async def there() -> bool:
            return await self.phase(resource, name) == wanted

        await eventually(there, what=f"{name} is {wanted}")
        return await self.find(resource, name) or {}

    async def said(self, name: str, reason: str) -> str:
        async def found() -> str:
            events = (await self.client.list(CORE_EVENTS, "default")).items
            return next(
                (
                    each["message"]
                    for each in events
                    if each["involvedObject"]["name"] == name and each["reason"] == reason
                ),
                "",
            )

        return str(await eventually(found, what=f"{reason} of {name}"))

    def folders(self) -> list[str]:
        return sorted(path.parent.parent.name for path in self.folder.glob("*/volumes/*"))


def claim_spec(size: str = "1Gi", **more: Any) -> Object:
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **more}


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    folder = tmp_path / "nodes"
    for name in NODES:
        (folder / name).mkdir(parents=True)
    async with running(tmp_path) as server, Client.from_kubeconfig(server.kubeconfig) as client:
        cluster = Cluster(server, client)
        cluster.options = dataclasses.replace(
            cluster.options, local_path_nodes=str(folder), local_path="/volumes"
        )
        cluster.start_controllers()
        cluster.start_scheduler()
        await asyncio.gather(*map(cluster.add_node, NODES))
        try:
            yield Storage(cluster, folder)
        finally:
            await cluster.stop()


async def test_static_volumes(storage: Storage) -> None:
    await storage.volume("large", "10Gi")
    await storage.volume("small", "2Gi")
    await storage.until_phase(PERSISTENT_VOLUMES, "small", "Available")
    await storage.until_phase(PERSISTENT_VOLUMES, "large", "Available")
    await storage.claim("data", "1Gi", storageClassName="")
    found = await storage.until_phase(PERSISTENT_VOLUME_CLAIMS, "data", "Bound")
    assert found["spec"]["volumeName"] == "small"
    assert found["status"]["capacity"] == {"storage": "2Gi"}
    await storage.claim("huge", "100Gi", storageClassName="")
    message = await storage.said("huge", "FailedBinding")
    assert message == "no persistent volumes available for this claim and no storage class is set"
    await storage.pod("p", "huge")

    async def refused() -> str:
        condition = pods.condition(await storage.client.get(PODS, "p", "default"), "PodScheduled") or {}
        return str(condition.get("message") or "")

    message = await eventually(refused)
    assert message.startswith("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. ")
    await storage.volume("hugest", "200Gi")
    await storage.until_phase(PERSISTENT_VOLUME_CLAIMS, "huge", "Bound")
    await storage.until_phase(PODS, "p", "Running")
    # One that is gone leaves its volume released, and nobody gets it.
    await storage.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
    await storage.until_phase(PERSISTENT_VOLUMES, "small", "Released")
    await storage.claim("again", "1Gi", storageClassName="")
    found = await storage.until_phase(PERSISTENT_VOLUME_CLAIMS, "again", "Bound")
    assert found["spec"]["volumeName"] == "large"
    # A volume that goes while it is bound stays until it is not; its claim has lost it then.
    await storage.client.delete(PERSISTENT_VOLUMES, "large")
    assert await storage.phase(PERSISTENT_VOLUMES, "large") == "Bound"
    await storage.client.delete(PERSISTENT_VOLUME_CLAIMS, "again", "default")
    await storage.until_phase(PERSISTENT_VOLUMES, "large", "gone")


async def test_a_folder_on_the_node_that_the_scheduler_chose(storage: Storage) -> None:
    await storage.claim("data")
    assert not (await storage.client.get(PERSISTENT_VOLUME_CLAIMS, "data", "default"))["spec"].get(
        "storageClassName"
    )
    await storage.said("data", "FailedBinding")
    # The default class may come later.
    await storage.storage_class()
    await storage.said("data", "WaitForFirstConsumer")
    assert await storage.phase(PERSISTENT_VOLUME_CLAIMS, "data") == "Pending"
    await storage.pod("p", "data")
    await storage.until_phase(PODS, "p", "Running")
    claim = await storage.until_phase(PERSISTENT_VOLUME_CLAIMS, "data", "Bound")
    place = (await storage.client.get(PODS, "p", "default"))["spec"]["nodeName"]
    assert claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == place
    assert storage.folders() == [place]
    name = claim["spec"]["volumeName"]
    assert await storage.said("data", "ProvisioningSucceeded") == f"Successfully provisioned volume {name}"
    # Another Pod with the claim has to go where it is.
    await storage.pod("q", "data")
    await storage.until_phase(PODS, "q", "Running")
    assert (await storage.client.get(PODS, "q", "default"))["spec"]["nodeName"] == place
    # The claim stays as long as it is used, then the folder goes.
    await storage.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
    await storage.pod("late", "data")

    async def refused() -> bool:
        late = pods.condition(await storage.client.get(PODS, "late", "default"), "PodScheduled") or {}
        return 'persistentvolumeclaim "data" is being deleted' in str(late.get("message"))

    await eventually(refused)
    await storage.client.delete(PODS, "p", "default")
    await storage.until_phase(PODS, "p", "gone")
    assert await storage.phase(PERSISTENT_VOLUME_CLAIMS, "data") == "Bound"
    await storage.client.delete(PODS, "q", "default")
    await storage.until_phase(PERSISTENT_VOLUME_CLAIMS, "data", "gone")
    await storage.until_phase(PERSISTENT_VOLUMES, name, "gone")
    assert storage.folders() == []


async def test_what_is_retained_stays(storage: Storage) -> None:
    await storage.storage_class("keep", default=False, reclaimPolicy="Retain")
    await storage.claim("data", storageClassName="keep")
    await storage.pod("p", "data")
    claim = await storage.until_phase(PERSISTENT_VOLUME_CLAIMS, "data", "Bound")
    await storage.until_phase(PODS, "p", "Running")
    await storage.client.delete(PODS, "p", "default")
    await storage.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
    name = claim["spec"]["volumeName"]
    await storage.until_phase(PERSISTENT_VOLUMES, name, "Released")
    await storage.client.delete(PERSISTENT_VOLUMES, name)
    await storage.until_phase(PERSISTENT_VOLUMES, name, "gone")
    assert len(storage.folders()) == 1


async def test_a_volume_that_waits_for_its_consumer(storage: Storage) -> None:
    """Static local volumes: the scheduler chooses volume and node together."""
    await storage.storage_class("local", default=False, provisioner="kubernetes.io/no-provisioner")
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-2"]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    await storage.claim("data", storageClassName="local")
    await storage.pod("p", "data")
    message = await storage.said("p", "FailedScheduling")
    assert message.startswith(
        "0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind. "
    )
    await storage.volume("disk", storageClassName="local", nodeAffinity=affinity)
    await storage.until_phase(PODS, "p", "Running")
    assert (await storage.client.get(PODS, "p", "default"))["spec"]["nodeName"] == "node-2"
    await storage.until_phase(PERSISTENT_VOLUMES, "disk", "Bound")


async def test_many_pods_share_out_the_volumes(storage: Storage) -> None:
    await storage.storage_class("local", default=False, provisioner="kubernetes.io/no-provisioner")
    for number in range(6):
        await storage.volume(f"disk-{number}", storageClassName="local")
        await storage.claim(f"data-{number}", storageClassName="local")
    await asyncio.gather(*(storage.pod(f"p-{number}", f"data-{number}") for number in range(6)))
    for number in range(6):
        await storage.until_phase(PODS, f"p-{number}", "Running")
    claims = (await storage.client.list(PERSISTENT_VOLUME_CLAIMS, "default")).items
    assert sorted(each["spec"]["volumeName"] for each in claims) == [f"disk-{n}" for n in range(6)]


async def test_an_ephemeral_volume_comes_and_goes_with_its_pod(storage: Storage) -> None:
    await storage.storage_class()
    template = {"metadata": {"labels": {"a": "b"}}, "spec": claim_spec()}
    scratch = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}
    pod = await storage.pod("p", volumes=(scratch,))
    await storage.until_phase(PODS, "p", "Running")
    claim = await storage.until_phase(PERSISTENT_VOLUME_CLAIMS, "p-scratch", "Bound")
    assert meta.labels(claim) == {"a": "b"}
    owner = meta.controller_of(claim)
    assert owner is not None
    assert owner["uid"] == meta.uid(pod)
    await storage.client.delete(PODS, "p", "default")
    await storage.until_phase(PERSISTENT_VOLUME_CLAIMS, "p-scratch", "gone")

    async def no_folder() -> bool:
        return not storage.folders()

    await eventually(no_folder)
    # A claim of that name which is somebody else's is not touched.
    await storage.claim("q-scratch")
    await storage.pod("q", volumes=(scratch,))
    message = await storage.said("q", "FailedBinding")
    assert "PVC default/q-scratch was not created for pod default/q (pod is not owner)" in message


async def test_growing(storage: Storage) -> None:
    await storage.volume("v")
    await storage.claim("data", storageClassName="")
    await storage.until_phase(PERSISTENT_VOLUME_CLAIMS, "data", "Bound")
    patch = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    with pytest.raises(StatusError, match="only dynamically provisioned pvc can be resized") as error:
        await storage.client.patch(PERSISTENT_VOLUME_CLAIMS, "data", "default", patch)
    assert error.value.code == 403


async def test_a_stateful_set_keeps_or_drops_its_claims(storage: Storage) -> None:
    await storage.storage_class()
    labels = {"app": "db"}
    await storage.client.create(
        STATEFUL_SETS,
        {
            "metadata": {"name": "db", "namespace": "default"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "c", "image": "i"}]},
                },
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim_spec()}],
            },
        },
    )
    await storage.until_phase(PODS, "db-1", "Running")
    first = await storage.until_phase(PERSISTENT_VOLUME_CLAIMS, "data-db-1", "Bound")

    async def scale(replicas: int, **policy: str) -> None:
        spec = {"replicas": replicas, "persistentVolumeClaimRetentionPolicy": policy or None}
        await storage.client.patch(STATEFUL_SETS, "db", "default", {"spec": spec})

    await scale(1)
    await storage.until_phase(PODS, "db-1", "gone")
    assert await storage.phase(PERSISTENT_VOLUME_CLAIMS, "data-db-1") == "Bound"
    await scale(2, whenScaled="Delete")
    await storage.until_phase(PODS, "db-1", "Running")
    again = await storage.find(PERSISTENT_VOLUME_CLAIMS, "data-db-1") or {}
    assert meta.uid(again) == meta.uid(first)
    await scale(1, whenScaled="Delete")
    await storage.until_phase(PERSISTENT_VOLUME_CLAIMS, "data-db-1", "gone")
    await scale(2, whenDeleted="Delete")
    await storage.until_phase(PODS, "db-1", "Running")

    async def owned() -> bool:
        found = (await storage.client.list(PERSISTENT_VOLUME_CLAIMS, "default")).items
        return len(found) == 2 and all((meta.controller_of(each) or {}).get("name") == "db" for each in found)

    await eventually(owned)
    await storage.client.delete(STATEFUL_SETS, "db", "default", propagation="Background")
    for number in range(2):
        await storage.until_phase(PERSISTENT_VOLUME_CLAIMS, f"data-db-{number}", "gone")

    async def no_folder() -> bool:
        return not storage.folders()

    await eventually(no_folder)


async def test_the_controllers_are_ended_in_the_middle(storage: Storage) -> None:
    await storage.storage_class()
    names = [f"data-{number}" for number in range(8)]
    for name in names:
        await storage.claim(name)
    creating = [asyncio.create_task(storage.pod(f"p-{name}", name)) for name in names]
    for _ in range(4):
        await storage.cluster.stop_controllers()
        storage.cluster.start_controllers()
    await asyncio.gather(*creating)
    for name in names:
        await storage.until_phase(PODS, f"p-{name}", "Running")
    claims = (await storage.client.list(PERSISTENT_VOLUME_CLAIMS, "default")).items
    assert len({each["spec"]["volumeName"] for each in claims}) == len(names) == len(storage.folders())
