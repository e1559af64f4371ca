"""From a Pod's specification to the runtime's: configurations of sandboxes and containers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cri_api.v1 import api_pb2 as pb

from ..api import meta
from ..api.meta import Object
from . import pod as pods
from . import resources, runtime
from .dns import Resolver
from .environment import ConfigError, expand
from .resources import Limits

_MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_PROTOCOLS = {"TCP": pb.TCP, "UDP": pb.UDP, "SCTP": pb.SCTP}
_PROPAGATION = {
    "HostToContainer": pb.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": pb.PROPAGATION_BIDIRECTIONAL,
}


@dataclass(frozen=True, slots=True)
class Mount:
    """*host_path* of the node appears at *container_path*."""

    host_path: str
    container_path: str
    read_only: bool = False
    propagation: str = "None"


@dataclass(frozen=True, slots=True)
class ContainerInput:
    """What a container's configuration needs besides the Pod. *target*: see `_namespaces`."""

    restart_count: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    image: str = ""
    supplemental_groups: Sequence[int] = ()
    memory_capacity: int = 0
    target: str = ""


def sandbox_config(
    pod: Object,
    *,
    attempt: int,
    log_directory: str,
    cgroup_parent: str,
    host_name: str,
    resolver: Resolver,
) -> Any:
    """A ``PodSandboxConfig``."""
    linux = pb.LinuxPodSandboxConfig(
        cgroup_parent=cgroup_parent,
        security_context=_sandbox_security(pod),
        sysctls={s["name"]: s.get("value", "") for s in _security(pod).get("sysctls") or ()},
        resources=_linux_resources(resources.pod_limits(pod)),
    )
    ports = [] if pods.host_network(pod) else _port_mappings(pod)
    return pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(
            name=meta.name(pod), uid=meta.uid(pod), namespace=meta.namespace(pod), attempt=attempt
        ),
        hostname=host_name,
        log_directory=log_directory,
        dns_config=pb.DNSConfig(
            servers=resolver.servers, searches=resolver.searches, options=resolver.options
        ),
        port_mappings=ports,
        labels={**meta.labels(pod), **_pod_labels(pod)},
        annotations=meta.annotations(pod),
        linux=linux,
    )


def container_config(pod: Object, container: Object, given: ContainerInput) -> Any:
    """A ``ContainerConfig``. Raises ConfigError."""
    name = container["name"]
    limits = resources.container_limits(container)
    linux_resources = _linux_resources(limits)
    linux_resources.oom_score_adj = resources.oom_score_adjust(pod, container, given.memory_capacity)
    return pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=name, attempt=given.restart_count),
        image=pb.ImageSpec(image=given.image, user_specified_image=container.get("image", "")),
        command=[expand(word, given.environment) for word in container.get("command") or ()],
        args=[expand(word, given.environment) for word in container.get("args") or ()],
        working_dir=container.get("workingDir") or "",
        envs=[pb.KeyValue(key=key, value=value) for key, value in given.environment.items()],
        mounts=[_mount(mount) for mount in given.mounts],
        labels={**_pod_labels(pod), runtime.CONTAINER_LABEL: name},
        annotations={
            runtime.HASH_ANNOTATION: pods.container_hash(container),
            runtime.RESTART_COUNT_ANNOTATION: str(given.restart_count),
            runtime.MESSAGE_PATH_ANNOTATION: container.get("terminationMessagePath") or "",
            runtime.MESSAGE_POLICY_ANNOTATION: container.get("terminationMessagePolicy") or "",
            runtime.GRACE_ANNOTATION: str(pods.grace_period(pod)),
        },
        log_path=f"{name}/{given.restart_count}.log",
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        linux=pb.LinuxContainerConfig(
            resources=linux_resources,
            security_context=_container_security(pod, container, given),
        ),
    )


def _pod_labels(pod: Object) -> dict[str, str]:
    return {
        runtime.NAME_LABEL: meta.name(pod),
        runtime.NAMESPACE_LABEL: meta.namespace(pod),
        runtime.UID_LABEL: meta.uid(pod),
    }


def _port_mappings(pod: Object) -> list[Any]:
    return [
        pb.PortMapping(
            protocol=_PROTOCOLS[port.get("protocol") or "TCP"],
            container_port=port["containerPort"],
            host_port=port["hostPort"],
            host_ip=port.get("hostIP") or "",
        )
        for container in pods.all_containers(pod)
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def _linux_resources(limits: Limits) -> Any:
    return pb.LinuxContainerResources(
        cpu_shares=limits.cpu_shares,
        cpu_quota=limits.cpu_quota,
        cpu_period=resources.CPU_PERIOD,
        memory_limit_in_bytes=limits.memory,
    )


def _mount(mount: Mount) -> Any:
    return pb.Mount(
        container_path=mount.container_path,
        host_path=mount.host_path,
        readonly=mount.read_only,
        propagation=_PROPAGATION.get(mount.propagation, pb.PROPAGATION_PRIVATE),
    )


def _security(subject: Object) -> Object:
    """The security context of a Pod or a container."""
    return (subject.get("spec") or subject).get("securityContext") or {}


def _namespaces(pod: Object, target: str = "") -> Any:
    """*target* is the id of the container whose processes an ephemeral one shall see."""
    spec = pod["spec"]
    pid = pb.CONTAINER
    if spec.get("hostPID"):
        pid = pb.NODE
    elif spec.get("shareProcessNamespace"):
        pid = pb.POD
    elif target:
        pid = pb.TARGET
    return pb.NamespaceOption(
        network=pb.NODE if spec.get("hostNetwork") else pb.POD,
        pid=pid,
        target_id=target if pid == pb.TARGET else "",
        ipc=pb.NODE if spec.get("hostIPC") else pb.POD,
    )


def pod_groups(pod: Object) -> list[int]:
    """The groups that all processes of the Pod have besides their own."""
    context = _security(pod)
    groups = list(context.get("supplementalGroups") or ())
    if context.get("fsGroup") is not None:
        groups.append(context["fsGroup"])
    return groups


def _sandbox_security(pod: Object) -> Any:
    context = _security(pod)
    return pb.LinuxSandboxSecurityContext(
        namespace_options=_namespaces(pod),
        run_as_user=_int64(context.get("runAsUser")),
        run_as_group=_int64(context.get("runAsGroup") if context.get("runAsUser") is not None else None),
        supplemental_groups=pod_groups(pod),
        privileged=any(_security(c).get("privileged") for c in pods.all_containers(pod)),
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault),
        selinux_options=_selinux(context.get("seLinuxOptions")),
    )


def _container_security(pod: Object, container: Object, given: ContainerInput) -> Any:
    own, common = _security(container), _security(pod)
    context = {
        **{k: v for k, v in common.items() if v is not None},
        **{k: v for k, v in own.items() if v is not None},
    }
    privileged = bool(own.get("privileged"))
    capabilities = own.get("capabilities") or {}
    masked: Sequence[str] = _MASKED
    read_only: Sequence[str] = _READ_ONLY
    if own.get("procMount") == "Unmasked" or privileged:
        masked, read_only = (), ()
    return pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(
            add_capabilities=capabilities.get("add") or (), drop_capabilities=capabilities.get("drop") or ()
        ),
        privileged=privileged,
        namespace_options=_namespaces(pod, given.target),
        selinux_options=_selinux(context.get("seLinuxOptions")),
        run_as_user=_int64(context.get("runAsUser")),
        run_as_group=_int64(context.get("runAsGroup")),
        readonly_rootfs=bool(own.get("readOnlyRootFilesystem")),
        supplemental_groups=[*pod_groups(pod), *given.supplemental_groups],
        no_new_privs=own.get("allowPrivilegeEscalation") is False,
        masked_paths=masked,
        readonly_paths=read_only,
        seccomp=_profile(context.get("seccompProfile"), privileged),
        apparmor=_profile(context.get("appArmorProfile"), privileged)
        if context.get("appArmorProfile")
        else None,
    )


def _profile(profile: Object | None, privileged: bool) -> Any:
    kinds = pb.SecurityProfile
    kind = "Unconfined" if privileged else (profile or {}).get("type") or "Unconfined"
    if kind == "Localhost":
        return kinds(
            profile_type=kinds.Localhost, localhost_ref=(profile or {}).get("localhostProfile") or ""
        )
    return kinds(profile_type=kinds.RuntimeDefault if kind == "RuntimeDefault" else kinds.Unconfined)


def _selinux(options: Object | None) -> Any:
    if not options:
        return None
    return pb.SELinuxOption(**{name: options.get(name) or "" for name in ("user", "role", "type", "level")})


def _int64(number: int | None) -> Any:
    return None if number is None else pb.Int64Value(value=number)


def check_non_root(pod: Object, container: Object, image_uid: int | None, image_user: str) -> None:
    """Raises ConfigError if the container must not run as root but would, or might.

    *image_uid* and *image_user* are what the image says: a number, or a name, or neither (which is root).
    """
    context = {**_security(pod), **_security(container)}
    if not context.get("runAsNonRoot"):
        return
    about = f'(pod: "{pods.describe(pod)}", container: {container["name"]})'
    if context.get("runAsUser") is not None:
        if context["runAsUser"] == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {about}")
        return
    if image_uid == 0 or (image_uid is None and not image_user):
        raise ConfigError(f"container has runAsNonRoot and image will run as root {about}")
    if image_user:
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({image_user}), "
            f"cannot verify user is non-root {about}"
        )
