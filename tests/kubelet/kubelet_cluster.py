"""What the tests on a node say to its API server, and how they wait for answers."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubelet_world import BOX, NODE, World

from buoy.api.meta import Object
from buoy.api.resource import CORE_EVENTS, PODS, Resource
from buoy.api.status import StatusError
from buoy.client import Client
from eventual import eventually

LOOP = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


def container(script: str = LOOP, name: str = "main", **fields: Any) -> Object:
    return {"name": name, "image": BOX, "command": ["sh", "-c", script], **fields}


class Cluster:
    """The API of the test's cluster, and a namespace in it for the test's Pods."""

    def __init__(self, world: World, client: Client, namespace: str) -> None:
        self.world = world
        self.client = client
        self.namespace = namespace

    async def create(self, resource: Resource, name: str, **content: Any) -> Object:
        obj = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name},
            **content,
        }
        return await self.client.create(resource, obj, self.namespace)

    async def run(
        self, name: str, *containers: Object, metadata: Object | None = None, **spec: Any
    ) -> Object:
        """Make a Pod on the node; without containers, one that only waits for its end."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **(metadata or {})},
            "spec": {
                "nodeName": NODE,
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 5,
                "containers": list(containers) or [container()],
                **spec,
            },
        }
        return await self.client.create(PODS, pod, self.namespace)

    async def pod(self, name: str) -> Object:
        return await self.client.get(PODS, name, self.namespace)

    async def until(self, name: str, condition: Callable[[Object], Any], within: float = 20.0) -> Object:
        """The Pod once *condition* holds of it; waits by a watch, not by asking again and again."""
        selector = f"metadata.name={name}"
        last: Object = {}
        try:
            async with asyncio.timeout(within):
                while True:
                    listed = await self.client.list(PODS, self.namespace, field_selector=selector)
                    for pod in listed.items:
                        last = pod
                        if condition(pod):
                            return pod
                    events = self.client.watch(
                        PODS,
                        self.namespace,
                        field_selector=selector,
                        resource_version=listed.resource_version,
                    )
                    async with contextlib.aclosing(events):
                        async for kind, pod in events:
                            last = pod
                            if kind != "DELETED" and condition(pod):
                                return pod
        except TimeoutError:
            raise AssertionError(
                f"{name}: {last.get('status')}\n{self.world.log('kubelet')[-4000:]}"
            ) from None

    async def running(self, name: str) -> Object:
        return await self.until(name, lambda pod: (pod.get("status") or {}).get("phase") == "Running")

    async def ready(self, name: str) -> Object:
        return await self.until(name, is_ready)

    async def finished(self, name: str) -> Object:
        return await self.until(name, lambda pod: phase(pod) in ("Succeeded", "Failed"))

    async def gone(self, name: str, within: float = 20.0) -> None:
        await eventually(lambda: self._is_gone(name), within=within, what=f"{name} is gone")

    async def _is_gone(self, name: str) -> bool:
        try:
            await self.pod(name)
        except StatusError as error:
            return error.code == 404
        return False

    async def delete(self, name: str, grace: int | None = None) -> None:
        await self.client.delete(PODS, name, self.namespace, grace_period=grace)

    async def logs(self, name: str, **query: str) -> str:
        path = PODS.path(self.namespace, name, "log")
        return str(await self.client.request("GET", path, params=query) or "")

    async def start_kubectl(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "kubectl",
            "-n",
            self.namespace,
            *arguments,
            env={"KUBECONFIG": self.world.admin, "HOME": str(self.world.folder), "PATH": KUBECTL_PATH},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def kubectl(self, *arguments: str, stdin: str = "", code: int = 0) -> str:
        process = await self.start_kubectl(*arguments)
        output, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
        assert process.returncode == code, output.decode()
        return output.decode()

    async def execute(self, name: str, script: str, code: int = 0) -> str:
        """What a shell script prints in the Pod's container."""
        return await self.kubectl("exec", name, "--", "sh", "-c", script, code=code)

    async def events(self, name: str) -> list[tuple[str, str, str]]:
        """Type, reason and message of all events of a Pod, the oldest first."""
        listed = await self.client.list(
            CORE_EVENTS, self.namespace, field_selector=f"involvedObject.name={name}"
        )
        found = sorted(listed.items, key=lambda event: event["metadata"]["name"])
        return [(event["type"], event["reason"], event["message"]) for event in found]

    async def event(self, name: str, reason: str, text: str = "") -> Object:
        """The first event of that reason whose message has *text* in it; waits for it."""

        async def find() -> Object | None:
            listed = await self.client.list(
                CORE_EVENTS, self.namespace, field_selector=f"involvedObject.name={name}"
            )
            return next((e for e in listed.items if e["reason"] == reason and text in e["message"]), None)

        found: Object = await eventually(find, what=f"event {reason} of {name}")
        return found


KUBECTL_PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"


def phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase"))


def is_ready(pod: Object) -> bool:
    return condition(pod, "Ready") == "True"


def condition(pod: Object, kind: str) -> str:
    for each in (pod.get("status") or {}).get("conditions") or ():
        if each["type"] == kind:
            return str(each["status"])
    return ""


def status_of(pod: Object, name: str = "main") -> Object:
    """A container's status, an empty one if there is none yet."""
    status = pod.get("status") or {}
    for each in (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())):
        if each["name"] == name:
            return dict(each)
    return {"state": {}, "lastState": {}, "restartCount": 0, "ready": False}


def waiting(pod: Object, name: str = "main") -> str:
    return str((status_of(pod, name)["state"].get("waiting") or {}).get("reason", ""))
