"""The container runtime, spoken to by CRI v1 over gRPC (k8s.io/cri-api), and containerd's own events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc.aio
import msgspec
from cri_api.v1 import api_pb2 as pb
from cri_api.v1 import api_pb2_grpc as stubs

from . import containerd_events, runtime
from .containerd_events import TaskEvent
from .logs import termination_message
from .runtime import Container, PodRuntime, Sandbox

_MESSAGE_BYTES = 16 * 1024 * 1024
_TIMEOUT = 120.0
_SANDBOX_TIMEOUT = 240.0

_STATES: dict[int, runtime.ContainerState] = {
    pb.CONTAINER_CREATED: "created",
    pb.CONTAINER_RUNNING: "running",
    pb.CONTAINER_EXITED: "exited",
    pb.CONTAINER_UNKNOWN: "unknown",
}


class RuntimeFailure(Exception):
    """The runtime refused or could not be reached. *code* is the gRPC code's name, such as ``NOT_FOUND``."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(f"rpc error: code = {_go_code(code)} desc = {description}")
        self.code = code
        self.description = description

    @property
    def unreachable(self) -> bool:
        return self.code == "UNAVAILABLE"


def _go_code(code: str) -> str:
    return "".join(word.capitalize() for word in code.split("_"))


class Condition(NamedTuple):
    ok: bool
    reason: str
    message: str


class ImageInfo(NamedTuple):
    """An image on this node: *id* is its reference, *size* in bytes, *labels* those of its configuration."""

    id: str
    size: int
    user: str
    uid: int | None
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Execution:
    stdout: bytes
    stderr: bytes
    exit_code: int


class Runtime:
    """One CRI runtime. Make it inside the event loop that uses it.

    Every call raises `RuntimeFailure`. A lost connection is made again by itself.
    """

    def __init__(self, endpoint: str, *, events_namespace: str = "k8s.io") -> None:
        self._channel = grpc.aio.insecure_channel(
            f"unix:{endpoint.removeprefix('unix://')}",
            options=(
                ("grpc.max_receive_message_length", _MESSAGE_BYTES),
                ("grpc.max_send_message_length", _MESSAGE_BYTES),
                ("grpc.default_authority", "localhost"),
                ("grpc.initial_reconnect_backoff_ms", 20),
                ("grpc.min_reconnect_backoff_ms", 20),
                ("grpc.max_reconnect_backoff_ms", 500),
                ("grpc.enable_http_proxy", 0),
            ),
        )
        self._runtime = stubs.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._images = stubs.ImageServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._events_namespace = events_namespace
        self._subscribe = self._channel.unary_stream(containerd_events.METHOD)

    async def close(self) -> None:
        await self._channel.close()

    async def version(self) -> str:
        """The runtime's name and version, as a node reports it. Waits until the runtime answers."""
        answer = await _call(self._runtime.Version(pb.VersionRequest(), wait_for_ready=True))
        return f"{answer.runtime_name}://{answer.runtime_version}"

    async def status(self) -> dict[str, Condition]:
        """The conditions ``RuntimeReady`` and ``NetworkReady``."""
        answer = await _call(self._runtime.Status(pb.StatusRequest(), timeout=_TIMEOUT))
        return {c.type: Condition(c.status, c.reason, c.message) for c in answer.status.conditions}

    async def pods(self) -> dict[str, PodRuntime]:
        """All Pods that the runtime knows, by uid."""
        sandboxes, containers = await asyncio.gather(
            _call(self._runtime.ListPodSandbox(pb.ListPodSandboxRequest(), timeout=_TIMEOUT)),
            _call(self._runtime.ListContainers(pb.ListContainersRequest(), timeout=_TIMEOUT)),
        )
        by_uid: dict[str, tuple[list[Any], list[Any]]] = {}
        for sandbox in sandboxes.items:
            by_uid.setdefault(sandbox.metadata.uid, ([], []))[0].append(sandbox)
        for container in containers.containers:
            uid = container.labels.get(runtime.UID_LABEL, "")
            if uid:
                by_uid.setdefault(uid, ([], []))[1].append(container)
        found = await asyncio.gather(*(self._inspect(uid, *parts) for uid, parts in by_uid.items()))
        return {pod.uid: pod for pod in found}

    async def states(self) -> dict[str, frozenset[tuple[str, str]]]:
        """By Pod uid, the ids of its sandboxes and containers with their states: cheap to ask often."""
        sandboxes, containers = await asyncio.gather(
            _call(self._runtime.ListPodSandbox(pb.ListPodSandboxRequest(), timeout=_TIMEOUT)),
            _call(self._runtime.ListContainers(pb.ListContainersRequest(), timeout=_TIMEOUT)),
        )
        found: dict[str, set[tuple[str, str]]] = {}
        for sandbox in sandboxes.items:
            state = "ready" if sandbox.state == pb.SANDBOX_READY else "notready"
            found.setdefault(sandbox.metadata.uid, set()).add((sandbox.id, state))
        for container in containers.containers:
            uid = container.labels.get(runtime.UID_LABEL, "")
            if uid:
                found.setdefault(uid, set()).add((container.id, _STATES[container.state]))
        return {uid: frozenset(states) for uid, states in found.items()}

    async def pod(self, uid: str) -> PodRuntime:
        labels = {runtime.UID_LABEL: uid}
        sandboxes, containers = await asyncio.gather(
            _call(
                self._runtime.ListPodSandbox(
                    pb.ListPodSandboxRequest(filter=pb.PodSandboxFilter(label_selector=labels)),
                    timeout=_TIMEOUT,
                )
            ),
            _call(
                self._runtime.ListContainers(
                    pb.ListContainersRequest(filter=pb.ContainerFilter(label_selector=labels)),
                    timeout=_TIMEOUT,
                )
            ),
        )
        return await self._inspect(uid, sandboxes.items, containers.containers)

    async def _inspect(self, uid: str, sandboxes: Iterable[Any], containers: Iterable[Any]) -> PodRuntime:
        sandboxes = sorted(sandboxes, key=lambda sandbox: -sandbox.created_at)
        containers = sorted(containers, key=lambda container: -container.created_at)
        found = await asyncio.gather(*(self.sandbox(s.id) for s in sandboxes))
        inspected = await asyncio.gather(*(self._container(c) for c in containers))
        names = sandboxes[0].metadata if sandboxes else None
        labels = containers[0].labels if containers else {}
        grace = containers[0].annotations.get(runtime.GRACE_ANNOTATION, "") if containers else ""
        return PodRuntime(
            uid,
            names.name if names else labels.get(runtime.NAME_LABEL, ""),
            names.namespace if names else labels.get(runtime.NAMESPACE_LABEL, ""),
            tuple(sandbox for sandbox in found if sandbox),
            tuple(container for container in inspected if container),
            int(grace) if grace.isdigit() else 1,
        )

    async def sandbox(self, sandbox_id: str) -> Sandbox | None:
        """None if there is no such sandbox."""
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
        try:
            answer = await _call(self._runtime.PodSandboxStatus(request, timeout=_TIMEOUT))
        except RuntimeFailure as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        status = answer.status
        ips = [status.network.ip, *(ip.ip for ip in status.network.additional_ips)]
        return Sandbox(
            status.id,
            status.metadata.attempt,
            status.state == pb.SANDBOX_READY,
            status.created_at,
            tuple(ip for ip in ips if ip),
            status.linux.namespaces.options.network == pb.NODE,
        )

    async def _container(self, listed: Any) -> Container | None:
        try:
            answer = await self._container_status(listed.id)
        except RuntimeFailure as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        status = answer.status
        annotations = status.annotations
        message = status.message
        if status.state == pb.CONTAINER_EXITED:
            path = annotations.get(runtime.MESSAGE_PATH_ANNOTATION, "")
            source = (
                next((m.host_path for m in status.mounts if m.container_path == path), "") if path else ""
            )
            fall_back = annotations.get(runtime.MESSAGE_POLICY_ANNOTATION) == "FallbackToLogsOnError"
            message = (
                await asyncio.to_thread(
                    termination_message,
                    source,
                    status.log_path if fall_back and status.exit_code else "",
                )
                or message
            )
        count = annotations.get(runtime.RESTART_COUNT_ANNOTATION, "")
        return Container(
            id=status.id,
            name=status.metadata.name,
            sandbox_id=listed.pod_sandbox_id,
            state=_STATES[status.state],
            restart_count=int(count) if count.isdigit() else status.metadata.attempt,
            hash=annotations.get(runtime.HASH_ANNOTATION, ""),
            image=status.image.image,
            image_ref=status.image_ref,
            created_at=status.created_at,
            started_at=status.started_at,
            finished_at=status.finished_at,
            exit_code=status.exit_code,
            reason=status.reason,
            message=message,
            log_path=status.log_path,
        )

    async def _container_status(self, container_id: str) -> Any:
        request = pb.ContainerStatusRequest(container_id=container_id)
        return await _call(self._runtime.ContainerStatus(request, timeout=_TIMEOUT))

    async def container_state(self, container_id: str) -> runtime.ContainerState | None:
        """None if there is no such container."""
        try:
            answer = await self._container_status(container_id)
        except RuntimeFailure as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        return _STATES[answer.status.state]

    async def run_sandbox(self, config: Any) -> str:
        request = pb.RunPodSandboxRequest(config=config)
        answer = await _call(self._runtime.RunPodSandbox(request, timeout=_SANDBOX_TIMEOUT))
        return str(answer.pod_sandbox_id)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await _gone(self._runtime.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=sandbox_id)))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove the sandbox with all its containers."""
        await _gone(self._runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id)))

    async def create_container(self, sandbox_id: str, config: Any, sandbox_config: Any) -> str:
        request = pb.CreateContainerRequest(
            pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox_config
        )
        answer = await _call(self._runtime.CreateContainer(request, timeout=_TIMEOUT))
        return str(answer.container_id)

    async def start_container(self, container_id: str) -> None:
        request = pb.StartContainerRequest(container_id=container_id)
        await _call(self._runtime.StartContainer(request, timeout=_TIMEOUT))

    async def stop_container(self, container_id: str, grace_period: int) -> None:
        """SIGTERM (or the image's stop signal), and SIGKILL after *grace_period* seconds. If gone, fine."""
        request = pb.StopContainerRequest(container_id=container_id, timeout=grace_period)
        await _gone(self._runtime.StopContainer(request, timeout=grace_period + _TIMEOUT))

    async def remove_container(self, container_id: str) -> None:
        await _gone(self._runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=container_id)))

    async def update_resources(self, container_id: str, resources: Any) -> None:
        request = pb.UpdateContainerResourcesRequest(container_id=container_id, linux=resources)
        await _call(self._runtime.UpdateContainerResources(request, timeout=_TIMEOUT))

    async def reopen_log(self, container_id: str) -> None:
        request = pb.ReopenContainerLogRequest(container_id=container_id)
        await _call(self._runtime.ReopenContainerLog(request, timeout=_TIMEOUT))

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float) -> Execution:
        """Run *command* to its end. *timeout* in seconds; if it passes, RuntimeFailure DEADLINE_EXCEEDED."""
        request = pb.ExecSyncRequest(container_id=container_id, cmd=command, timeout=int(timeout))
        answer = await _call(self._runtime.ExecSync(request, timeout=timeout + 5 if timeout else None))
        return Execution(answer.stdout, answer.stderr, answer.exit_code)

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str:
        request = pb.ExecRequest(
            container_id=container_id, cmd=command, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty
        )
        return str((await _call(self._runtime.Exec(request, timeout=_TIMEOUT))).url)

    async def attach_url(
        self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str:
        request = pb.AttachRequest(
            container_id=container_id, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty
        )
        return str((await _call(self._runtime.Attach(request, timeout=_TIMEOUT))).url)

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str:
        request = pb.PortForwardRequest(pod_sandbox_id=sandbox_id, port=ports)
        return str((await _call(self._runtime.PortForward(request, timeout=_TIMEOUT))).url)

    async def image(self, name: str) -> ImageInfo | None:
        """The image of that name on this node, None if it is not here."""
        request = pb.ImageStatusRequest(image=pb.ImageSpec(image=name), verbose=True)
        answer = await _call(self._images.ImageStatus(request, timeout=_TIMEOUT))
        if not answer.HasField("image") or not answer.image.id:
            return None
        image = answer.image
        return ImageInfo(
            image.id,
            image.size,
            image.username,
            image.uid.value if image.HasField("uid") else None,
            _config_labels(answer.info.get("info", "")),
        )

    async def pull_image(self, name: str, auth: Any, sandbox_config: Any) -> str:
        request = pb.PullImageRequest(
            image=pb.ImageSpec(image=name), auth=auth, sandbox_config=sandbox_config
        )
        return str((await _call(self._images.PullImage(request))).image_ref)

    async def images(self) -> list[tuple[tuple[str, ...], int]]:
        """All images on this node: their names and size in bytes."""
        answer = await _call(self._images.ListImages(pb.ListImagesRequest(), timeout=_TIMEOUT))
        return [((*image.repo_digests, *image.repo_tags), image.size) for image in answer.images]

    async def task_events(self) -> AsyncIterator[TaskEvent]:
        """What happens to containers' processes, as containerd tells it. Ends with RuntimeFailure."""
        request = containerd_events.subscription(self._events_namespace)
        try:
            async for envelope in self._subscribe(request):
                event = containerd_events.task_event(envelope)
                if event:
                    yield event
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from error
        raise RuntimeFailure("UNAVAILABLE", "the event stream ended")


async def _call(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise _failure(error) from error


async def _gone(call: Awaitable[Any]) -> None:
    try:
        await _call(call)
    except RuntimeFailure as error:
        if error.code != "NOT_FOUND":
            raise


def _failure(error: grpc.aio.AioRpcError) -> RuntimeFailure:
    return RuntimeFailure(error.code().name, error.details() or "")


class _ImageConfig(msgspec.Struct):
    labels: dict[str, str] | None = msgspec.field(default=None, name="Labels")


class _ImageSpec(msgspec.Struct):
    config: _ImageConfig = msgspec.field(default_factory=_ImageConfig)


class _ImageVerbose(msgspec.Struct):
    image_spec: _ImageSpec = msgspec.field(default_factory=_ImageSpec, name="imageSpec")


def _config_labels(verbose: str) -> dict[str, str]:
    if not verbose:
        return {}
    return msgspec.json.decode(verbose, type=_ImageVerbose).image_spec.config.labels or {}
