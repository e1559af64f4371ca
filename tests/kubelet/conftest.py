"""A real node with a real API server, shared by the tests that need one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from kubelet_cluster import Cluster, condition
from kubelet_world import NODE, World

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import CONFIG_MAPS, NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS
from buoy.api.status import StatusError
from buoy.client import Client, ConnectionFailed
from eventual import eventually


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("node"))
    try:
        world.start()
        world.write_cni()
        world.start_api_server()
        world.start_kubelet()
        yield world
    finally:
        world.close()


@pytest.fixture
async def cluster(world: World, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """A namespace of the test's own; its Pods are deleted afterwards, and nothing of them may be left."""
    namespace = "t-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:50].strip("-")
    async with Client.from_kubeconfig(world.admin) as client:
        cluster = Cluster(world, client, namespace)
        await eventually(lambda: _registered(client), what="the node registers")
        described: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        await client.create(NAMESPACES, described)
        await cluster.create(SERVICE_ACCOUNTS, "default")
        await cluster.create(CONFIG_MAPS, "kube-root-ca.crt", data={"ca.crt": "the CA"})
        try:
            yield cluster
        finally:
            pods = (await client.list(PODS, namespace)).items
            for pod in pods:
                with contextlib.suppress(StatusError):
                    await client.delete(PODS, meta.name(pod), namespace, grace_period=1)
            for pod in pods:
                await cluster.gone(meta.name(pod))


async def _registered(client: Client) -> bool:
    try:
        node = await client.get(NODES, NODE)
    except (StatusError, ConnectionFailed):
        return False
    return condition(node, "Ready") == "True"
