"""The controller against a real API server, configured in all three forms."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from apiserver.api_server import Running, running, write_kubeconfig
from buoy.client import Client
from buoy.loadbalancer import ControllerOptions, run_controller
from buoy.loadbalancer.following import Configs
from buoy.loadbalancer.request import ALLOCATED_FROM
from buoy.loadbalancer.states import ConfigurationState
from controllers.api_process import api_process
from eventual import eventually

Object = dict[str, Any]

NAMESPACE = "metallb-system"
USER = f"system:serviceaccount:{NAMESPACE}:controller"
SPEAKER = f"system:serviceaccount:{NAMESPACE}:speaker"
CORE = NAMESPACES = "/api/v1/namespaces"
METALLB = f"/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}"
EIPS = "/apis/network.kubesphere.io/v1alpha2/eips"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LAYER2 = "address-pools:\n- name: default\n  protocol: layer2\n  addresses:\n  - {addresses}\n"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as server:
        await prepare(server)
        yield server


async def prepare(api: Running) -> None:
    """The namespace, and what the controller's user may do."""
    await apply(api, "namespace.yaml", "Namespace")
    await apply(api, "metallb.yaml", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


@contextlib.asynccontextmanager
async def controller(api: Running, **changes: Any) -> AsyncIterator[None]:
    kubeconfig = str(write_kubeconfig(api, USER))
    options = ControllerOptions(kubeconfig=kubeconfig, **{"metrics_bind": "", **changes})
    task = asyncio.create_task(run_controller(options))
    try:
        yield
        assert not task.done(), task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def configure(api: Running, text: str) -> None:
    """Write the ConfigMap."""
    body = {"metadata": {"name": "config"}, "data": {"config": text}}
    path = f"{CORE}/{NAMESPACE}/configmaps"
    if (await api.post(path, body)).status == 409:
        assert (await api.patch(f"{path}/config", body)).status == 200


async def create(api: Running, name: str, annotations: Object | None = None, **spec: Any) -> None:
    body = {
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], **spec},
    }
    reply = await api.post(f"{CORE}/default/services", body)
    assert reply.status == 201, reply.message


async def service(api: Running, name: str) -> Object:
    found: Object = (await api.get(f"{CORE}/default/services/{name}")).json
    return found


def addresses_of(obj: Object) -> list[str]:
    return [each["ip"] for each in obj["status"]["loadBalancer"].get("ingress") or ()]


async def gets(api: Running, name: str, *expected: str) -> Object:
    """Wait until the Service has these addresses, and the annotation that goes with them."""

    async def has() -> Object | None:
        obj = await service(api, name)
        annotated = ALLOCATED_FROM in (obj["metadata"].get("annotations") or {})
        return obj if addresses_of(obj) == list(expected) and annotated is bool(expected) else None

    found: Object = await eventually(has, within=20, what=f"{name} has {expected}")
    return found


async def event(api: Running, name: str, reason: str, namespace: str = "default") -> str:
    """The message of the newest event of that reason on an object; waits for it."""

    async def found() -> str:
        events = (await api.get(f"{CORE}/{namespace}/events")).json["items"]
        messages = [
            each["message"]
            for each in events
            if each["involvedObject"]["name"] == name and each["reason"] == reason
        ]
        return messages[-1] if messages else ""

    message: str = await eventually(found, within=20, what=f"event {reason} on {name}")
    return message


PATHS = {
    "Namespace": NAMESPACES,
    "CustomResourceDefinition": DEFINITIONS,
    "ServiceAccount": f"{CORE}/{NAMESPACE}/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles",
    "RoleBinding": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings",
}


async def apply(api: Running, file: str, *kinds: str) -> None:
    """Make the objects of those kinds that a manifest of the package has."""
    text = (resources.files("buoy.loadbalancer") / "manifests" / file).read_text()
    for obj in yaml.safe_load_all(text):
        if obj["kind"] in kinds:
            reply = await api.post(PATHS[obj["kind"]], obj)
            assert reply.status == 201, reply.message


async def put(api: Running, path: str, name: str, spec: Object, **metadata: Any) -> None:
    """Make an object of a custom resource, as soon as that is served."""
    group, version = path.split("/")[2:4]
    kind = {"ipaddresspools": "IPAddressPool", "eips": "Eip"}[path.rpartition("/")[2]]
    body = {
        "apiVersion": f"{group}/{version}",
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }

    async def made() -> bool:
        return (await api.post(path, body)).status == 201

    await eventually(made, within=10)


async def test_the_life_of_a_pool_in_the_config_map(api: Running) -> None:
    async def moved(name: str) -> bool:
        return addresses_of(await service(api, name))[:1] in (["10.0.0.0"], ["10.0.0.1"], ["10.0.0.2"])

    async with controller(api):
        await create(api, "early")
        assert await event(api, "early", "AllocationFailed") == (
            'Failed to allocate IP for "default/early": no available IPs: no address pool is configured'
        )
        await configure(api, LAYER2.format(addresses="192.168.1.251-192.168.1.253"))
        early = await gets(api, "early", "192.168.1.251")
        assert early["metadata"]["annotations"][ALLOCATED_FROM] == "default"
        assert early["status"]["loadBalancer"]["ingress"] == [{"ip": "192.168.1.251", "ipMode": "VIP"}]
        assert await event(api, "early", "IPAllocated") == 'Assigned IP ["192.168.1.251"]'
        shown = await api.kubectl("get", "service", "early", "-n", "default")
        assert "192.168.1.251" in shown
        assert "IPAllocated" in await api.kubectl("describe", "service", "early", "-n", "default")

        await create(api, "b")
        await create(api, "c")
        await gets(api, "c", "192.168.1.253")
        await create(api, "late")
        assert 'pool "default" is full' in await event(api, "late", "AllocationFailed")
        await api.delete(f"{CORE}/default/services/b")
        await gets(api, "late", "192.168.1.252")

        path = f"{CORE}/default/services/late"
        assert (await api.patch(path, {"spec": {"type": "ClusterIP"}})).status == 200
        await gets(api, "late")
        await create(api, "last")
        await gets(api, "last", "192.168.1.252")

        await configure(api, LAYER2.format(addresses="10.0.0.0/24"))
        await eventually(lambda: moved("early"))
        assert '["192.168.1.251"] is not allowed in config' in await event(api, "early", "ClearAssignment")
        await api.delete(f"{CORE}/{NAMESPACE}/configmaps/config")
        await gets(api, "early")


async def test_a_bad_configuration_leaves_the_last_good_one_in_force(api: Running) -> None:
    async with controller(api):
        await configure(api, LAYER2.format(addresses="192.168.1.251-192.168.1.253"))
        await create(api, "a")
        await gets(api, "a", "192.168.1.251")
        await configure(api, LAYER2.format(addresses="192.168.1.253-192.168.1.251"))
        message = await event(api, "config", "InvalidConfiguration", NAMESPACE)
        assert "address-pools[0].addresses[0]" in message
        await create(api, "b")
        await gets(api, "b", "192.168.1.252")
        await configure(api, LAYER2.format(addresses="192.168.1.252-192.168.1.254"))
        await event(api, "config", "ConfigurationLoaded", NAMESPACE)
        await gets(api, "a", "192.168.1.253")


async def test_a_bad_configuration_at_the_start_takes_nothing_away(api: Running) -> None:
    async with controller(api):
        await configure(api, LAYER2.format(addresses="192.168.1.251-192.168.1.253"))
        await create(api, "a")
        await gets(api, "a", "192.168.1.251")
    await configure(api, "address-pools: 5")
    async with controller(api):
        await create(api, "b")
        await event(api, "config", "InvalidConfiguration", NAMESPACE)
        await event(api, "b", "AllocationFailed")
        await configure(api, LAYER2.format(addresses="192.168.1.251-192.168.1.253"))
        await gets(api, "b", "192.168.1.252")
    assert addresses_of(await service(api, "a")) == ["192.168.1.251"]


_MAIN = """
import asyncio, sys
from buoy.loadbalancer import ControllerOptions, run_controller
asyncio.run(run_controller(ControllerOptions(kubeconfig=sys.argv[1], metrics_bind="")))
"""


async def test_a_controller_that_is_killed_gives_nothing_twice(api: Running) -> None:
    async def given() -> dict[str, str]:
        services = (await api.get(f"{CORE}/default/services")).json["items"]
        found = {each["metadata"]["name"]: address for each in services for address in addresses_of(each)}
        assert len(found) == len(set(found.values())), found
        return found

    def more_than(number: int) -> Callable[[], Awaitable[bool]]:
        async def holds() -> bool:
            return len(await given()) > number

        return holds

    await configure(api, LAYER2.format(addresses="10.0.0.0/25"))
    kubeconfig = str(write_kubeconfig(api, USER))
    before: dict[str, str] = {}
    for turn in range(4):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", _MAIN, kubeconfig)
        try:
            creating = asyncio.gather(*(create(api, f"s{turn}-{number}") for number in range(25)))
            await eventually(more_than(len(before)))
        finally:
            process.kill()  # in the middle of things
            await process.wait()
        await creating
        now = await given()
        assert before.items() <= now.items()
        before = now
    async with controller(api):
        await eventually(more_than(99))
        assert before.items() <= (await given()).items()


async def test_what_services_show_is_read_before_anything_is_given(api: Running) -> None:
    await configure(api, LAYER2.format(addresses="10.0.0.0/25"))
    await create(api, "older")
    await create(api, "younger")
    path = f"{CORE}/default/services/younger/status"
    shown = {"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.0"}]}}}
    assert (await api.patch(path, shown)).status == 200
    async with controller(api):
        await gets(api, "older", "10.0.0.1")
        await gets(api, "younger", "10.0.0.0")


async def test_only_services_of_the_own_class_are_served(api: Running) -> None:
    await configure(api, LAYER2.format(addresses="10.0.0.0/24"))
    async with controller(api, load_balancer_class="example.com/mine"):
        await create(api, "other", loadBalancerClass="example.com/other")
        await create(api, "none")
        await create(api, "mine", loadBalancerClass="example.com/mine")
        await gets(api, "mine", "10.0.0.0")
    async with controller(api):
        await gets(api, "none", "10.0.0.1")
        await create(api, "after")
        await gets(api, "after", "10.0.0.2")
        assert addresses_of(await service(api, "mine")) == ["10.0.0.0"]
        assert addresses_of(await service(api, "other")) == []


async def test_metallbs_resources_as_they_come_and_go(api: Running) -> None:
    async with controller(api):
        await create(api, "a")
        await event(api, "a", "AllocationFailed")
        await apply(api, "metallb.yaml", "CustomResourceDefinition")
        await put(
            api,
            f"{METALLB}/ipaddresspools",
            "team",
            {
                "addresses": ["10.0.0.0/24", "fd00::/120"],
                "avoidBuggyIPs": True,
                "serviceAllocation": {"namespaceSelectors": [{"matchLabels": {"team": "a"}}]},
            },
        )
        namespace = "/api/v1/namespaces/default"
        assert (await api.patch(namespace, {"metadata": {"labels": {"team": "a"}}})).status == 200
        await gets(api, "a", "10.0.0.1")

        async def counted() -> bool:
            pool = (await api.get(f"{METALLB}/ipaddresspools/team")).json
            return bool(
                pool.get("status")
                == {"assignedIPv4": 1, "assignedIPv6": 0, "availableIPv4": 253, "availableIPv6": 256}
            )

        await eventually(counted)

        async def state() -> tuple[str, str]:
            found = (await api.get(f"{METALLB}/configurationstates/controller")).json
            status = found.get("status") or {}
            return status.get("result", ""), status.get("errorSummary", "")

        async def valid() -> bool:
            return (await state())[0] == "Valid"

        await eventually(valid)
        await put(api, f"{METALLB}/ipaddresspools", "bad", {"addresses": ["10.0.0.0/33"]})

        async def invalid() -> bool:
            result, summary = await state()
            return result == "Invalid" and "IPAddressPool bad: spec.addresses[0]" in summary

        await eventually(invalid)
        assert "spec.addresses[0]" in await event(api, "bad", "InvalidConfiguration", NAMESPACE)
        await api.delete(f"{METALLB}/ipaddresspools/bad")
        await eventually(valid)
        await api.delete(f"{DEFINITIONS}/ipaddresspools.metallb.io")
        await gets(api, "a")


async def test_openelbs_eip(api: Running) -> None:
    await apply(api, "openelb.yaml", "CustomResourceDefinition")
    await put(
        api,
        EIPS,
        "lan",
        {"address": "192.168.1.251-192.168.1.253", "protocol": "layer2", "interface": "eth0"},
    )
    annotations = {"lb.kubesphere.io/v1alpha1": "openelb", "eip.openelb.kubesphere.io/v1alpha2": "lan"}
    async with controller(api):
        await create(api, "a", annotations)
        await create(api, "not-openelb")
        await gets(api, "a", "192.168.1.251")
        assert "OpenELB" in await event(api, "not-openelb", "AllocationFailed")

        def shows(used: Object, usage: int) -> Any:
            async def shown() -> bool:
                status = (await api.get(f"{EIPS}/lan")).json.get("status")
                return bool(
                    status
                    == {
                        "occupied": False,
                        "usage": usage,
                        "poolSize": 3,
                        "used": used,
                        "firstIP": "192.168.1.251",
                        "lastIP": "192.168.1.253",
                        "ready": True,
                        "v4": True,
                    }
                )

            return shown

        await eventually(shows({"192.168.1.251": "default/a"}, 1))
        await api.delete(f"{CORE}/default/services/a")
        await eventually(shows({}, 0))


async def test_a_speaker_hears_of_each_configuration_that_is_valid_and_says_if_one_is_not(
    api: Running,
) -> None:
    heard: list[list[str]] = []
    kubeconfig = str(write_kubeconfig(api, SPEAKER))
    async with Client.from_kubeconfig(kubeconfig) as client:
        state = ConfigurationState(client, NAMESPACE, "speaker", "node-1")
        configs = Configs(client, NAMESPACE, state)
        task = asyncio.create_task(
            configs.run(lambda config: heard.append([pool.name for pool in config.pools]))
        )
        await eventually(lambda: heard == [[]])
        await configure(api, LAYER2.format(addresses="10.0.0.0/24"))
        await eventually(lambda: heard == [[], ["default"]])
        await configure(api, LAYER2.format(addresses="10.0.0.0/33"))
        await configure(api, LAYER2.format(addresses="10.0.1.0/24"))
        await eventually(lambda: heard == [[], ["default"], ["default"]])
        await apply(api, "metallb.yaml", "CustomResourceDefinition")

        async def told() -> Object:
            reply = await api.get(f"{METALLB}/configurationstates/speaker-node-1")
            found: Object = reply.json if reply.status == 200 else {}
            return found if (found.get("status") or {}).get("result") == expected else {}

        expected = "Valid"
        shown = await eventually(told)
        assert shown["metadata"]["labels"] == {
            "metallb.io/component-type": "speaker",
            "metallb.io/node-name": "node-1",
        }
        await configure(api, LAYER2.format(addresses="10.0.0.0/33"))
        expected = "Invalid"
        shown = await eventually(told)
        assert "ConfigMap config: address-pools[0].addresses[0]" in shown["status"]["errorSummary"]
        assert configs.problems
        await api.delete(f"{CORE}/{NAMESPACE}/configmaps/config")
        await eventually(lambda: heard[3:] == [[]])
        expected = "Valid"
        await eventually(told)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_the_speakers_get_a_key_that_stays(api: Running) -> None:
    async def key() -> str:
        secret = (await api.get(f"{CORE}/{NAMESPACE}/secrets/memberlist")).json
        return str((secret.get("data") or {}).get("secretkey", ""))

    async with controller(api):
        first = await eventually(key)
        assert len(base64.b64decode(first)) > 128
    await configure(api, LAYER2.format(addresses="10.0.0.0/24"))
    async with controller(api):
        await create(api, "a")
        await gets(api, "a", "10.0.0.0")
        assert await key() == first


async def test_the_api_server_is_killed_meanwhile(tmp_path: Path) -> None:
    async with api_process(tmp_path) as process:
        api = process.server
        await prepare(api)
        await configure(api, LAYER2.format(addresses="10.0.0.0/27"))
        async with controller(api):
            pauses = random.Random(5)
            for turn in range(3):
                for number in range(5):
                    await create(api, f"s{turn}-{number}")
                await asyncio.sleep(pauses.uniform(0, 0.02))
                await process.kill()
                await process.start()

            async def all_have_one() -> bool:
                services = (await api.get(f"{CORE}/default/services")).json["items"]
                found = [address for each in services for address in addresses_of(each)]
                assert len(found) == len(set(found))
                return len(found) == 15

            await eventually(all_have_one)


async def test_metrics_have_metallbs_names(api: Running) -> None:
    await configure(api, LAYER2.format(addresses="10.0.0.0/24"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        bind = f"127.0.0.1:{free.getsockname()[1]}"
    async with controller(api, metrics_bind=bind), aiohttp.ClientSession() as session:
        await create(api, "a")
        await gets(api, "a", "10.0.0.0")
        async with session.get(f"http://{bind}/metrics") as response:
            text = await response.text()
        lines = set(text.splitlines())
        for expected in (
            'metallb_allocator_addresses_in_use_total{pool="default"} 1.0',
            'metallb_allocator_addresses_total{pool="default"} 256.0',
            'metallb_allocator_ipv4_addresses_in_use_total{pool="default"} 1.0',
            'metallb_allocator_ipv6_addresses_total{pool="default"} 0.0',
            "metallb_k8s_client_update_errors_total 0.0",
            "metallb_k8s_client_updates_total 1.0",
            "metallb_k8s_client_config_loaded_bool 1.0",
            "metallb_k8s_client_config_stale_bool 0.0",
        ):
            assert expected in lines
        async with session.get(f"http://{bind}/readyz") as response:
            assert response.status == 200
