"""The controllers and the scheduler at work on a real API server, with hollow nodes."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from apiserver.crds import definition
from buoy import controllers
from buoy.api import meta, pods
from buoy.api.meta import Object
from buoy.api.resource import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    EVENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
    Resource,
)
from buoy.api.status import StatusError
from buoy.client import Client
from eventual import eventually

from .api_process import api_process
from .objects import template
from .together import Cluster, end

BOATS = Resource("example.com", "v1", "boats", "Boat")


def rolled_out(replicas: int) -> Callable[[Object], bool]:
    return lambda status: (
        status.get("replicas") == status.get("updatedReplicas") == status.get("availableReplicas") == replicas
    )


async def test_a_deployment_becomes_pods_on_all_nodes(three: Cluster) -> None:
    await three.deploy(3)
    await three.deployed(rolled_out(3))
    found = await three.pods(app="web")
    assert {each["spec"]["nodeName"] for each in found} == {"node-1", "node-2", "node-3"}
    (replica_set,) = (await three.client.list(REPLICA_SETS, "default")).items
    name = meta.name(replica_set)
    assert all(meta.name(each).startswith(f"{name}-") for each in found)
    await eventually(lambda: three.events("ScalingReplicaSet"))
    assert await three.events("ScalingReplicaSet") == [f"Scaled up replica set {name} from 0 to 3"]
    await eventually(lambda: three.events("SuccessfulCreate"))
    assert all(each.startswith(f"Created pod: {name}-") for each in await three.events("SuccessfulCreate"))
    await eventually(lambda: three.events("Scheduled"))
    assert (await three.events("Scheduled"))[0].startswith(f"Successfully assigned default/{name}-")
    shown = await three.server.kubectl("rollout", "status", "deployment/web", "--timeout=10s")
    assert 'deployment "web" successfully rolled out' in shown


async def test_the_users_rollout_commands(three: Cluster) -> None:
    kubectl = three.server.kubectl
    await three.deploy(4)
    await three.deployed(rolled_out(4))
    await kubectl("set", "image", "deployment/web", "web=web:2")
    await kubectl("annotate", "deployment/web", "kubernetes.io/change-cause=second")
    await kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert {each["spec"]["containers"][0]["image"] for each in await three.pods(app="web")} == {"web:2"}
    history = await kubectl("rollout", "history", "deployment/web")
    assert "1         <none>" in history
    assert "2         second" in history
    await kubectl("rollout", "undo", "deployment/web")
    await kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    found = await three.deployed(rolled_out(4))
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "web:1"
    assert meta.annotations(found)["deployment.kubernetes.io/revision"] == "3"
    assert len((await three.client.list(REPLICA_SETS, "default")).items) == 2
    await kubectl("rollout", "pause", "deployment/web")
    await kubectl("set", "image", "deployment/web", "web=web:3")
    await three.deployed(lambda status: status["observedGeneration"] >= 5)
    assert {each["spec"]["containers"][0]["image"] for each in await three.pods(app="web")} == {"web:1"}
    await kubectl("rollout", "resume", "deployment/web")
    await three.deployed(
        lambda status: rolled_out(4)(status) and status["observedGeneration"] >= 6 and status["replicas"] == 4
    )
    before = {meta.uid(each) for each in await three.pods(app="web")}
    await kubectl("rollout", "restart", "deployment/web")
    await kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert not before & {meta.uid(each) for each in await three.pods(app="web") if pods.is_active(each)}


async def test_a_rolling_update_keeps_enough_pods_ready(three: Cluster) -> None:
    await three.deploy(6, strategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}})
    await three.deployed(rolled_out(6))
    seen: list[int] = []

    async def watch() -> None:
        listed = await three.client.list(PODS, "default")
        found = {meta.key(each): each for each in listed.items}
        version = listed.resource_version
        async for kind, obj in three.client.watch(PODS, "default", resource_version=version):
            if kind == "DELETED":
                found.pop(meta.key(obj), None)
            else:
                found[meta.key(obj)] = obj
            seen.append(sum(pods.is_active(each) and pods.is_ready(each) for each in found.values()))

    watching = asyncio.create_task(watch())
    await three.server.kubectl("set", "image", "deployment/web", "web=web:2")
    await three.server.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    watching.cancel()
    assert len(seen) > 12
    assert min(seen) >= 5


async def test_scaling_and_deleting_pods(three: Cluster) -> None:
    await three.deploy(2)
    await three.deployed(rolled_out(2))
    await three.server.kubectl("scale", "deployment/web", "--replicas=5")
    await three.deployed(rolled_out(5))
    victim = (await three.pods(app="web"))[0]
    await three.client.delete(PODS, meta.name(victim), "default")
    await three.gone(lambda: three.client.get(PODS, meta.name(victim), "default"))
    await three.deployed(rolled_out(5))
    await three.server.kubectl("scale", "deployment/web", "--replicas=1")
    await three.deployed(rolled_out(1))
    await eventually(lambda: three.events("SuccessfulDelete"))


async def test_a_replica_set_adopts_and_lets_go(three: Cluster) -> None:
    orphan = {"metadata": {"name": "orphan", "namespace": "default", "labels": {"app": "own"}}}
    orphan["spec"] = template()["spec"]
    await three.client.create(PODS, orphan)
    made = template()
    made["metadata"]["labels"] = {"app": "own"}
    await three.client.create(
        REPLICA_SETS,
        {
            "metadata": {"name": "own", "namespace": "default"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "own"}}, "template": made},
        },
    )

    async def owned() -> bool:
        found = await three.pods(app="own")
        return len(found) == 2 and all(meta.controller_of(each) for each in found)

    await eventually(owned)
    assert "orphan" in {meta.name(each) for each in await three.pods(app="own")}
    await three.client.patch(PODS, "orphan", "default", {"metadata": {"labels": {"app": "free"}}})
    await eventually(owned)

    async def free() -> bool:
        return meta.controller_of(await three.client.get(PODS, "orphan", "default")) is None

    await eventually(free)


async def test_what_cannot_be_created_is_reported(three: Cluster) -> None:
    await three.client.create(NAMESPACES, {"metadata": {"name": "strict"}})
    made = template()
    made["spec"]["priorityClassName"] = "there-is-none"
    made["spec"]["serviceAccountName"] = "there-is-none"
    await three.deploy(1, template=made)
    found = await three.deployed(
        lambda status: any(each["type"] == "ReplicaFailure" for each in status.get("conditions") or ())
    )
    condition = pods.condition(found, "ReplicaFailure")
    assert condition["reason"] == "FailedCreate"
    assert "there-is-none" in condition["message"]
    await eventually(lambda: three.events("FailedCreate"))


async def test_endpoints_follow_the_pods(three: Cluster) -> None:
    await three.client.create(
        SERVICES,
        {
            "metadata": {"name": "web", "namespace": "default", "labels": {"team": "a"}},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    )
    await three.deploy(3)
    await three.deployed(rolled_out(3))

    async def ready_in_slices() -> set[str]:
        found = await three.client.list(
            ENDPOINT_SLICES, "default", label_selector="kubernetes.io/service-name=web"
        )
        return {
            each["addresses"][0]
            for item in found.items
            for each in item.get("endpoints") or ()
            if each["conditions"]["ready"]
        }

    async def ready_in_endpoints() -> set[str]:
        found = await three.client.get(ENDPOINTS, "web", "default")
        return {each["ip"] for subset in found.get("subsets") or () for each in subset.get("addresses") or ()}

    async def both(wanted: set[str]) -> bool:
        return await ready_in_slices() == wanted and await ready_in_endpoints() == wanted

    found = await three.pods(app="web")
    everyone = {each["status"]["podIP"] for each in found}
    await eventually(lambda: both(everyone))
    (item,) = (
        await three.client.list(ENDPOINT_SLICES, "default", label_selector="kubernetes.io/service-name=web")
    ).items
    assert meta.name(item).startswith("web-")
    assert meta.labels(item)["team"] == "a"
    assert item["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    assert {each["nodeName"] for each in item["endpoints"]} == {"node-1", "node-2", "node-3"}
    # One Pod fails its probe.
    unready = meta.name(found[0])
    for node in three.nodes:
        node.ready = lambda pod: meta.name(pod) != unready
        node.again()
    await eventually(lambda: both(everyone - {found[0]["status"]["podIP"]}))
    # One takes its time to go: out of the ready ones at once, listed as terminating until it is gone.
    for node in three.nodes:
        node.ready = lambda pod: True
        node.lingering = lambda pod: True
        node.again()
    await eventually(lambda: both(everyone))
    await three.client.delete(PODS, meta.name(found[1]), "default")

    async def terminating() -> set[str]:
        (item,) = (
            await three.client.list(
                ENDPOINT_SLICES, "default", label_selector="kubernetes.io/service-name=web"
            )
        ).items
        return {each["addresses"][0] for each in item["endpoints"] if each["conditions"]["terminating"]}

    async def one_terminates() -> bool:
        return await terminating() == {found[1]["status"]["podIP"]}

    await eventually(one_terminates)
    assert found[1]["status"]["podIP"] not in await ready_in_slices()
    for node in three.nodes:
        node.lingering = lambda pod: False
        node.again()
    await three.gone(lambda: three.client.get(PODS, meta.name(found[1]), "default"))
    # The Service goes, and takes both with it.
    await three.client.delete(SERVICES, "web", "default")
    await three.gone(lambda: three.client.get(ENDPOINTS, "web", "default"))

    async def no_slices() -> bool:
        return not (
            await three.client.list(
                ENDPOINT_SLICES, "default", label_selector="kubernetes.io/service-name=web"
            )
        ).items

    await eventually(no_slices)


async def test_hints_by_the_zones_shares_come_and_go_with_the_annotation(three: Cluster) -> None:
    for node, zone in zip(three.nodes, ("a", "a", "b"), strict=True):
        labels = {"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}}
        await three.client.patch(NODES, node.name, "", labels)
    mode = {"service.kubernetes.io/topology-mode": "Auto"}
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}], "trafficDistribution": "PreferSameNode"}
    service = {"metadata": {"name": "web", "namespace": "default", "annotations": mode}, "spec": spec}
    await three.client.create(SERVICES, service)
    await three.deploy(3)

    async def hints() -> list[object]:
        found = await three.client.list(ENDPOINT_SLICES, "default")
        return [
            each.get("hints")
            for item in found.items
            if meta.name(item).startswith("web-")
            for each in item.get("endpoints") or ()
        ]

    async def told(reason: str) -> bool:
        found = await three.client.list(EVENTS, "default")
        return any(event["reason"] == reason for event in found.items)

    async def shared() -> bool:
        zones = [{"forZones": [{"name": zone}]} for zone in ("a", "a", "b")]
        return sorted(await hints(), key=str) == zones

    await eventually(shared)
    await eventually(lambda: told("TopologyAwareHintsEnabled"))
    # A zone that is out of CPUs tells nothing of shares; then nobody has hints.
    status = {"status": {"allocatable": {"cpu": "0"}}}
    three.nodes[2].allocatable["cpu"] = "0"
    await three.client.patch(NODES, "node-3", "", status, subresource="status")

    async def none() -> bool:
        return await hints() == [None] * 3

    await eventually(none)
    await eventually(lambda: told("TopologyAwareHintsDisabled"))
    await three.client.patch(SERVICES, "web", "default", {"metadata": {"annotations": None}})

    async def near() -> bool:
        return all(hint and "forNodes" in hint for hint in await hints())  # type: ignore[operator]

    await eventually(near)


async def test_a_large_service(cluster: Cluster) -> None:
    await asyncio.gather(
        *(cluster.add_node(f"node-{number}", pods="500") for number in range(3)),
    )
    await cluster.client.create(
        SERVICES,
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        },
    )
    await cluster.deploy(130)
    await cluster.deployed(rolled_out(130))

    async def sizes() -> list[int]:
        found = await cluster.client.list(
            ENDPOINT_SLICES, "default", label_selector="kubernetes.io/service-name=web"
        )
        return sorted(sum(each["conditions"]["ready"] for each in item["endpoints"]) for item in found.items)

    async def packed() -> bool:
        found = await sizes()
        return sum(found) == 130 and max(found) <= 100

    await eventually(packed)
    assert len(await sizes()) <= 3


async def test_endpoints_kept_by_hand_are_mirrored(cluster: Cluster) -> None:
    await cluster.client.create(
        SERVICES, {"metadata": {"name": "db", "namespace": "default"}, "spec": {"ports": [{"port": 5432}]}}
    )
    await cluster.client.create(
        ENDPOINTS,
        {
            "metadata": {"name": "db", "namespace": "default"},
            "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]}],
        },
    )

    async def mirrored() -> list[str]:
        found = await cluster.client.list(
            ENDPOINT_SLICES, "default", label_selector="kubernetes.io/service-name=db"
        )
        return [each["addresses"][0] for item in found.items for each in item.get("endpoints") or ()]

    await eventually(mirrored)
    assert await mirrored() == ["192.0.2.7"]
    await cluster.client.delete(ENDPOINTS, "db", "default")

    async def gone() -> bool:
        return not await mirrored()

    await eventually(gone)


async def test_more_endpoints_by_hand_than_are_mirrored(cluster: Cluster) -> None:
    await cluster.client.create(
        SERVICES, {"metadata": {"name": "many", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}
    )
    addresses = [{"ip": f"198.18.{number // 250}.{number % 250}"} for number in range(1, 1002)]
    await cluster.client.create(
        ENDPOINTS,
        {
            "metadata": {"name": "many", "namespace": "default"},
            "subsets": [{"addresses": addresses, "ports": [{"port": 80}]}],
        },
    )

    async def told() -> list[Object]:
        found = await cluster.client.list(EVENTS, "default")
        return [event for event in found.items if event["reason"] == "TooManyAddressesToMirror"]

    (event,) = await eventually(told)
    assert event["regarding"]["name"] == "many"
    assert event["note"].endswith("per Endpoints subset. 1 addresses were skipped")

    async def sizes() -> list[int]:
        selector = "kubernetes.io/service-name=many"
        found = await cluster.client.list(ENDPOINT_SLICES, "default", label_selector=selector)
        return [len(item.get("endpoints") or ()) for item in found.items]

    await eventually(sizes)
    assert await sizes() == [1000]


async def test_the_api_servers_own_service_is_left_alone(cluster: Cluster) -> None:
    async def slices() -> list[Object]:
        return (
            await cluster.client.list(
                ENDPOINT_SLICES, "default", label_selector="kubernetes.io/service-name=kubernetes"
            )
        ).items

    await eventually(slices)
    # Something that comes later: by then the controllers have been through all there was.
    await cluster.client.create(NAMESPACES, {"metadata": {"name": "later"}})
    await eventually(lambda: cluster.server.kubectl("get", "sa", "-n", "later", "-o", "name", code=None))
    assert len(await slices()) == 1
    assert (await cluster.client.get(ENDPOINTS, "kubernetes", "default"))["subsets"]


async def test_a_stateful_set(three: Cluster) -> None:
    kubectl = three.server.kubectl
    await three.client.create(
        STATEFUL_SETS,
        {
            "metadata": {"name": "db", "namespace": "default"},
            "spec": {
                "replicas": 3,
                "serviceName": "db",
                "selector": {"matchLabels": {"app": "web"}},
                "template": template(),
            },
        },
    )
    await kubectl("rollout", "status", "statefulset/db", "--timeout=60s")

    async def all_run() -> bool:
        found = await three.pods(app="web")
        return [meta.name(each) for each in found if pods.is_ready(each)] == ["db-0", "db-1", "db-2"]

    await eventually(all_run)
    await kubectl("set", "image", "statefulset/db", "web=web:2")
    await kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    assert {each["spec"]["containers"][0]["image"] for each in await three.pods(app="web")} == {"web:2"}
    await kubectl("rollout", "undo", "statefulset/db")
    await kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    assert {each["spec"]["containers"][0]["image"] for each in await three.pods(app="web")} == {"web:1"}
    assert "3         <none>" in await kubectl("rollout", "history", "statefulset/db")
    await kubectl("scale", "statefulset/db", "--replicas=1")
    await three.gone(lambda: three.client.get(PODS, "db-1", "default"))
    await three.client.delete(PODS, "db-0", "default")

    async def back() -> bool:
        found = await three.pods(app="web")
        return [meta.name(each) for each in found if pods.is_ready(each)] == ["db-0"]

    await eventually(back)
    assert "create Pod db-0 in StatefulSet db successful" in await three.events("SuccessfulCreate")


async def test_a_daemon_set(three: Cluster) -> None:
    kubectl = three.server.kubectl
    await three.client.create(
        DAEMON_SETS,
        {
            "metadata": {"name": "agent", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template()},
        },
    )

    async def places() -> list[str]:
        return sorted(
            each["spec"].get("nodeName", "") for each in await three.pods(app="web") if pods.is_ready(each)
        )

    async def on(*names: str) -> None:
        async def there() -> bool:
            return await places() == list(names)

        await eventually(there)

    await on("node-1", "node-2", "node-3")
    await three.add_node("node-4")
    await on("node-1", "node-2", "node-3", "node-4")
    await kubectl("set", "image", "daemonset/agent", "web=web:2")
    await kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
    assert {each["spec"]["containers"][0]["image"] for each in await three.pods(app="web")} == {"web:2"}
    await kubectl("rollout", "undo", "daemonset/agent")
    await kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
    await three.client.patch(NODES, "node-1", "", {"metadata": {"labels": {"role": "x"}}})
    await kubectl(
        "patch", "daemonset", "agent", "-p", '{"spec":{"template":{"spec":{"nodeSelector":{"role":"x"}}}}}'
    )
    await on("node-1")


async def test_namespaces_get_what_pods_need(cluster: Cluster) -> None:
    await cluster.client.create(NAMESPACES, {"metadata": {"name": "fresh"}})

    async def there() -> bool:
        try:
            await cluster.client.get(SERVICE_ACCOUNTS, "default", "fresh")
            found = await cluster.client.get(CONFIG_MAPS, "kube-root-ca.crt", "fresh")
        except StatusError:
            return False
        return bool(found["data"]["ca.crt"] == cluster.server.authority.certificate.read_text())

    await eventually(there)
    await cluster.client.delete(SERVICE_ACCOUNTS, "default", "fresh")
    await cluster.client.patch(CONFIG_MAPS, "kube-root-ca.crt", "fresh", {"data": {"ca.crt": "forged"}})
    await eventually(there)


async def test_a_namespace_goes_with_all_that_is_in_it(three: Cluster) -> None:
    await three.client.create(NAMESPACES, {"metadata": {"name": "doomed"}})
    await eventually(lambda: three.server.kubectl("get", "sa", "default", "-n", "doomed", code=None))
    await three.server.kubectl("create", "deployment", "web", "--image=web:1", "--replicas=3", "-n", "doomed")
    await three.client.create(
        CONFIG_MAPS, {"metadata": {"name": "held", "namespace": "doomed", "finalizers": ["example.com/hold"]}}
    )

    async def runs() -> bool:
        found = (await three.client.list(PODS, "doomed")).items
        return len(found) == 3 and all(map(pods.is_ready, found))

    await eventually(runs)
    await three.client.delete(NAMESPACES, "doomed")

    async def says_why() -> str:
        found = pods.condition(await three.client.get(NAMESPACES, "doomed"), "NamespaceFinalizersRemaining")
        return str(found["message"]) if found and found["status"] == "True" else ""

    assert "example.com/hold in 1 resource instances" in await eventually(says_why)
    assert (await three.client.get(NAMESPACES, "doomed"))["status"]["phase"] == "Terminating"
    await three.client.patch(CONFIG_MAPS, "held", "doomed", {"metadata": {"finalizers": None}})
    await three.gone(lambda: three.client.get(NAMESPACES, "doomed"))
    assert not (await three.client.list(PODS, "doomed")).items


@pytest.mark.parametrize("propagation", ["Background", "Foreground", "Orphan"])
async def test_what_is_owned_goes_as_asked(three: Cluster, propagation: str) -> None:
    await three.deploy(2)
    await three.deployed(rolled_out(2))
    order: list[str] = []

    async def watch(resource: Any) -> None:
        version = (await three.client.list(resource, "default")).resource_version
        async for kind, obj in three.client.watch(resource, "default", resource_version=version):
            if kind == "DELETED":
                order.append(str(obj["kind"]))

    watching = [asyncio.create_task(watch(each)) for each in (DEPLOYMENTS, REPLICA_SETS, PODS)]
    await asyncio.sleep(0.2)  # the watches must be open before
    await three.client.delete(DEPLOYMENTS, "web", "default", propagation=propagation)
    await three.gone(lambda: three.client.get(DEPLOYMENTS, "web", "default"))
    if propagation == "Orphan":
        (replica_set,) = (await three.client.list(REPLICA_SETS, "default")).items
        assert not replica_set["metadata"].get("ownerReferences")
        assert len(await three.pods(app="web")) == 2
    else:

        async def nothing_left() -> bool:
            return order.count("Pod") == 2 and order.count("ReplicaSet") == 1

        await eventually(nothing_left)
        if propagation == "Foreground":
            assert order == ["Pod", "Pod", "ReplicaSet", "Deployment"]
    for each in watching:
        each.cancel()


async def test_custom_resources_are_owners_and_go_with_their_namespace(cluster: Cluster) -> None:
    """Defined after the controllers have started, which learn of them."""
    await cluster.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition("Boat"))

    async def established() -> bool:
        found = await cluster.client.get(CUSTOM_RESOURCE_DEFINITIONS, "boats.example.com")
        return "Established" in [each["type"] for each in found["status"]["conditions"]]

    await eventually(established)
    boat = await cluster.client.create(BOATS, {"metadata": {"name": "tug", "namespace": "default"}})
    owned = {"name": "log", "namespace": "default", "ownerReferences": [meta.owner_reference(boat)]}
    await cluster.client.create(CONFIG_MAPS, {"metadata": owned})
    await cluster.client.create(BOATS, {"metadata": {**owned, "name": "dinghy"}})
    await cluster.client.delete(BOATS, "tug", "default", propagation="Foreground")
    for resource, name in ((BOATS, "dinghy"), (CONFIG_MAPS, "log"), (BOATS, "tug")):
        await cluster.gone(partial(cluster.client.get, resource, name, "default"))
    await cluster.client.create(NAMESPACES, {"metadata": {"name": "harbour"}})
    await cluster.client.create(BOATS, {"metadata": {"name": "tug", "namespace": "harbour"}})
    await cluster.client.delete(NAMESPACES, "harbour")
    await cluster.gone(partial(cluster.client.get, NAMESPACES, "harbour"))
    assert not (await cluster.client.list(BOATS)).items


async def test_nodes_get_ranges_of_their_own(cluster: Cluster) -> None:
    async def ranges() -> dict[str, list[str]]:
        found = (await cluster.client.list(NODES)).items
        return {meta.name(each): each["spec"].get("podCIDRs") or [] for each in found}

    for number in (1, 2, 3):
        await cluster.add_node(f"node-{number}")

    async def given() -> bool:
        return all((await ranges()).values())

    await eventually(given)
    before = await ranges()
    assert sorted(before.values()) == [["10.244.0.0/24"], ["10.244.1.0/24"], ["10.244.2.0/24"]]
    await cluster.stop_controllers()
    for number in range(4, 10):
        await cluster.add_node(f"node-{number}")
    cluster.start_controllers()
    await eventually(given)
    after = await ranges()
    assert {name: after[name] for name in before} == before
    assert len({tuple(each) for each in after.values()}) == 9


async def test_a_node_falls_silent_and_comes_back(three: Cluster) -> None:
    await three.client.create(
        SERVICES,
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        },
    )
    tolerations = [
        {
            "key": f"node.kubernetes.io/{key}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 2,
        }
        for key in ("not-ready", "unreachable")
    ]
    made = template()
    made["spec"]["tolerations"] = tolerations
    await three.deploy(3, template=made)
    await three.deployed(rolled_out(3))
    lost = three.nodes[0]
    (victim,) = [each for each in await three.pods(app="web") if each["spec"]["nodeName"] == lost.name]
    await lost.stop()

    async def unreachable() -> bool:
        node = await three.client.get(NODES, lost.name)
        ready = pods.condition(node, "Ready")
        taints = {(each["key"], each["effect"]) for each in node["spec"].get("taints") or ()}
        return ready["status"] == "Unknown" and taints == {
            ("node.kubernetes.io/unreachable", "NoSchedule"),
            ("node.kubernetes.io/unreachable", "NoExecute"),
        }

    await eventually(unreachable)
    node = await three.client.get(NODES, lost.name)
    assert pods.condition(node, "Ready")["reason"] == "NodeStatusUnknown"

    async def marked() -> bool:
        found = await three.client.get(PODS, meta.name(victim), "default")
        return not pods.is_ready(found)

    await eventually(marked)

    async def out_of_service() -> bool:
        found = await three.client.list(
            ENDPOINT_SLICES, "default", label_selector="kubernetes.io/service-name=web"
        )
        ready = [each for item in found.items for each in item["endpoints"] if each["conditions"]["ready"]]
        return bool(ready) and lost.name not in {each["nodeName"] for each in ready}

    await eventually(out_of_service)

    async def evicted() -> bool:
        return meta.is_terminating(await three.client.get(PODS, meta.name(victim), "default"))

    await eventually(evicted)
    found = await three.client.get(PODS, meta.name(victim), "default")
    assert pods.condition(found, "DisruptionTarget")["reason"] == "DeletionByTaintManager"
    await three.deployed(lambda status: status.get("availableReplicas") == 3)
    await lost.start()

    async def well() -> bool:
        node = await three.client.get(NODES, lost.name)
        return pods.is_ready(node) and not node["spec"].get("taints")

    await eventually(well)
    await three.gone(lambda: three.client.get(PODS, meta.name(victim), "default"))


async def test_pods_of_a_node_that_is_gone_are_collected(three: Cluster) -> None:
    await three.deploy(3)
    await three.deployed(rolled_out(3))
    lost = three.nodes[0]
    await lost.stop()
    await three.client.delete(NODES, lost.name)

    async def moved() -> bool:
        found = await three.pods(app="web")
        return len(found) == 3 and all(
            each["spec"].get("nodeName") in ("node-2", "node-3") and pods.is_ready(each) for each in found
        )

    await eventually(moved)


async def test_controllers_that_die_at_any_moment_make_nothing_twice(three: Cluster) -> None:
    most = 0

    async def watch() -> None:
        nonlocal most
        found: set[str] = set()
        version = (await three.client.list(PODS, "default")).resource_version
        async for kind, obj in three.client.watch(PODS, "default", resource_version=version):
            if kind == "DELETED" or not pods.is_active(obj):
                found.discard(meta.uid(obj))
            else:
                found.add(meta.uid(obj))
            most = max(most, len(found))

    watching = asyncio.create_task(watch())
    await three.deploy(40)
    for step in range(6):
        await asyncio.sleep(0.02 * step)  # the moment is the point, not the wait
        await three.stop_controllers()
        three.start_controllers()
    await three.deployed(rolled_out(40))
    assert most == 40
    watching.cancel()


async def test_one_of_two_leads(cluster: Cluster) -> None:
    await cluster.stop_controllers()
    cluster.options = dataclasses.replace(cluster.options, leader_elect=True)
    cluster.start_controllers()

    async def holder() -> str:
        try:
            lease = await cluster.client.get(LEASES, "kube-controller-manager", "kube-system")
        except StatusError:
            return ""
        return str(lease["spec"].get("holderIdentity") or "")

    first = await eventually(holder)
    second = asyncio.create_task(controllers.run(cluster.options))
    await cluster.add_node("node-1")
    await cluster.deploy(2)
    await cluster.deployed(lambda status: status.get("observedGeneration") == 1)
    assert await holder() == first
    await cluster.stop_controllers()

    async def taken_over() -> bool:
        return await holder() not in ("", first)

    await eventually(taken_over)
    await end(second)


async def test_an_api_server_killed_at_any_moment(tmp_path: Path) -> None:
    """Not one Pod too many, though nobody knows whether what was asked last was done."""
    async with (
        api_process(tmp_path) as process,
        Client.from_kubeconfig(process.server.kubeconfig) as client,
    ):
        cluster = Cluster(process.server, client)
        cluster.options = dataclasses.replace(cluster.options, node_monitor_grace_period=60.0)
        cluster.start_controllers()
        cluster.start_scheduler()
        try:
            await cluster.add_node("node-1")
            await cluster.deploy(30)
            for step in range(3):
                await asyncio.sleep(0.05 * step)  # the moment is the point, not the wait
                await process.kill()
                await process.start()
            await cluster.deployed(rolled_out(30))
            assert len(await cluster.pods(app="web")) == 30
            assert await cluster.events("SuccessfulDelete") == []
            await cluster.server.kubectl("scale", "deployment/web", "--replicas=3")
            await cluster.deployed(rolled_out(3))
        finally:
            await cluster.stop()
