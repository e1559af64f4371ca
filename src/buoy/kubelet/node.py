"""The Node object: what this machine is and how it is. Pure, but for `read_machine` and `pressures`."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from .. import KUBERNETES_VERSION
from ..api import quantity
from ..api.meta import Object
from . import Options
from .cri import Condition

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_RESERVED_MEMORY = 100 * 1024 * 1024
_DISK_FLOOR = 100 * 1024 * 1024
_HEALTHY = {
    "MemoryPressure": ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
}
_UNHEALTHY = {
    "MemoryPressure": ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    "DiskPressure": ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    "PIDPressure": ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """Sizes in bytes."""

    cpus: int
    memory: int
    storage: int
    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    boot_id: str


def read_machine(root_dir: str) -> Machine:
    """What /proc and /etc say about this machine."""
    os_image = "Linux"
    for line in _read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            os_image = line.partition("=")[2].strip().strip('"')
    disk = os.statvfs(root_dir)
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory=_memory("MemTotal"),
        storage=disk.f_blocks * disk.f_frsize,
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        kernel=platform.release(),
        os_image=os_image,
        machine_id=_read("/etc/machine-id").strip(),
        boot_id=_read("/proc/sys/kernel/random/boot_id").strip(),
    )


def pressures(root_dir: str) -> dict[str, bool]:
    """Which of the three pressures there are now. Bounds are low: a machine may be shared."""
    disk = os.statvfs(root_dir)
    return {
        "MemoryPressure": _memory("MemAvailable") < _RESERVED_MEMORY,
        "DiskPressure": disk.f_bavail * disk.f_frsize < _DISK_FLOOR,
        "PIDPressure": False,
    }


def _memory(name: str) -> int:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def allocatable(machine: Machine, max_pods: int) -> dict[str, str]:
    """What Pods may ask for, as quantities."""
    return {**capacity(machine, max_pods), "memory": f"{max(machine.memory - _RESERVED_MEMORY, 0) // 1024}Ki"}


def capacity(machine: Machine, max_pods: int) -> dict[str, str]:
    return {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory // 1024}Ki",
        "ephemeral-storage": f"{machine.storage // 1024}Ki",
        "pods": str(max_pods),
    }


def amounts(resources: Mapping[str, str]) -> dict[str, Decimal]:
    return {name: quantity.value(text) for name, text in resources.items()}


def node_object(options: Options, machine: Machine) -> Object:
    """The Node as it registers, without a status."""
    platform_labels = {"arch": machine.architecture, "os": "linux"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": options.node_name,
            "labels": {
                **{f"beta.kubernetes.io/{name}": value for name, value in platform_labels.items()},
                **{f"kubernetes.io/{name}": value for name, value in platform_labels.items()},
                "kubernetes.io/hostname": options.node_name,
                **options.node_labels,
            },
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {},
    }


def node_status(
    options: Options,
    machine: Machine,
    *,
    runtime_version: str,
    conditions: Sequence[Object],
    images: Sequence[tuple[Sequence[str], int]] = (),
) -> Object:
    """The whole ``status`` of the Node."""
    return {
        "capacity": capacity(machine, options.max_pods),
        "allocatable": allocatable(machine, options.max_pods),
        "conditions": list(conditions),
        "addresses": [
            *({"type": "InternalIP", "address": ip} for ip in options.node_ips),
            {"type": "Hostname", "address": options.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": options.port}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.machine_id,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": runtime_version,
            "kubeletVersion": KUBERNETES_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
        "images": [
            {"names": list(names), "sizeBytes": size}
            for names, size in sorted(images, key=lambda image: -image[1])[:50]
        ],
    }


def readiness(runtime: Mapping[str, Condition] | None) -> Condition:
    """Whether the node is ready, by what the runtime says of itself; None if it does not answer."""
    if runtime is None:
        return Condition(False, "KubeletNotReady", "container runtime is down")
    names = {
        "RuntimeReady": "container runtime not ready",
        "NetworkReady": "container runtime network not ready",
    }
    faults = []
    for name, words in names.items():
        condition = runtime.get(name)
        if condition is None:
            faults.append(f"{words}: {name} has not been reported")
        elif not condition.ok:
            faults.append(f"{words}: {name}=false reason:{condition.reason} message:{condition.message}")
    if faults:
        return Condition(False, "KubeletNotReady", ", ".join(faults))
    return Condition(True, "KubeletReady", "kubelet is posting ready status")


STARTING = Condition(False, "KubeletNotReady", "container runtime status check may not have completed yet")


def node_conditions(
    ready: Condition, pressure: Mapping[str, bool], old: Sequence[Object], now: str
) -> list[Object]:
    """The Node's four conditions; times of transition are kept from *old*."""
    before = {condition["type"]: condition for condition in old}
    wanted = []
    for kind, under in pressure.items():
        reason, message = (_UNHEALTHY if under else _HEALTHY)[kind]
        wanted.append((kind, under, reason, message))
    wanted.append(("Ready", ready.ok, ready.reason, ready.message))
    conditions = []
    for kind, true, reason, message in wanted:
        status = "True" if true else "False"
        same = before.get(kind, {}).get("status") == status
        conditions.append(
            {
                "type": kind,
                "status": status,
                "lastHeartbeatTime": now,
                "lastTransitionTime": before[kind].get("lastTransitionTime", now) if same else now,
                "reason": reason,
                "message": message,
            }
        )
    return conditions


def status_differs(old: Object, new: Object) -> bool:
    """Whether anything but the time of the last heartbeat is different."""

    def essence(status: Object) -> Object:
        conditions = {
            c["type"]: (c.get("status"), c.get("reason"), c.get("message"))
            for c in status.get("conditions") or ()
        }
        rest = {name: status.get(name) or None for name in new if name != "conditions"}
        return {**rest, "conditions": {name: conditions.get(name) for name in wanted}}

    wanted = {c["type"] for c in new["conditions"]}
    return essence(old) != essence(new)
