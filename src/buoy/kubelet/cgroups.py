"""The cgroups of Pods, in version 1 and version 2 hierarchies. The runtime makes containers' own in them."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator

from ..api import meta
from ..api import pods as api_pods
from ..api.meta import Object
from . import resources

_MOUNT = "/sys/fs/cgroup"
_PATIENCE, _PAUSE = 0.2, 0.005


def pod_cgroup(root: str, pod: Object) -> str:
    """The path of a Pod's cgroup, as the runtime takes it: below *root*, by class of service."""
    qos = api_pods.qos_class(pod)
    middle = "" if qos == "Guaranteed" else f"/{qos.lower()}"
    return f"{root.rstrip('/')}/kubepods{middle}/pod{meta.uid(pod)}"


def pod_cgroups(root: str, uid: str) -> Iterator[str]:
    """All paths where a Pod of that uid may have its cgroup."""
    for middle in ("", "/burstable", "/besteffort"):
        yield f"{root.rstrip('/')}/kubepods{middle}/pod{uid}"


def uids(root: str) -> set[str]:
    """The uids of all Pods that have a cgroup."""
    found = set()
    for hierarchy in _hierarchies():
        for parent in pod_cgroups(root, ""):
            with contextlib.suppress(OSError):
                names = os.listdir(hierarchy + parent.removesuffix("/pod"))
                found |= {name.removeprefix("pod") for name in names if name.startswith("pod")}
    return found


def unified() -> bool:
    """Whether this machine has the version 2 hierarchy alone."""
    return os.path.exists(f"{_MOUNT}/cgroup.controllers")


def _hierarchies() -> list[str]:
    """Where hierarchies are mounted: one in version 2, one a controller in version 1."""
    if unified():
        return [_MOUNT]
    with contextlib.suppress(OSError):
        return [entry.path for entry in os.scandir(_MOUNT) if entry.is_dir() and not entry.is_symlink()]
    return []


def create(path: str, pod: Object) -> None:
    """Make the Pod's cgroup with the bounds of the whole Pod. Controllers that are missing are left out."""
    limits = resources.pod_limits(pod)
    if unified():
        _create_unified(path, limits)
        return
    bounds = {
        "cpu": [("cpu.shares", limits.cpu_shares)],
        "memory": [("memory.limit_in_bytes", limits.memory)] if limits.memory else [],
    }
    if limits.cpu_quota:
        bounds["cpu"] += [("cpu.cfs_period_us", resources.CPU_PERIOD), ("cpu.cfs_quota_us", limits.cpu_quota)]
    for controller, values in bounds.items():
        if os.path.isdir(f"{_MOUNT}/{controller}") and values:
            os.makedirs(f"{_MOUNT}/{controller}{path}", exist_ok=True)
            for name, value in values:
                _write(f"{_MOUNT}/{controller}{path}/{name}", str(value))


def _create_unified(path: str, limits: resources.Limits) -> None:
    directory = _MOUNT
    for part in path.strip("/").split("/"):
        with contextlib.suppress(OSError):
            _write(f"{directory}/cgroup.subtree_control", "+cpu +memory +pids")
        directory = f"{directory}/{part}"
        os.makedirs(directory, exist_ok=True)
    weight = 1 + (limits.cpu_shares - 2) * 9999 // 262142
    with contextlib.suppress(FileNotFoundError):
        _write(f"{directory}/cpu.weight", str(weight))
        _write(f"{directory}/cpu.max", f"{limits.cpu_quota or 'max'} {resources.CPU_PERIOD}")
        _write(f"{directory}/memory.max", str(limits.memory or "max"))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def remove(root: str, uid: str) -> None:
    """Take away the Pod's cgroup, with what the runtime left in it. OSError if processes stay in it.

    Waits a moment, in which killed processes leave it; to be called in a thread.
    """
    patience = _PATIENCE
    for hierarchy in _hierarchies():
        for path in pod_cgroups(root, uid):
            while True:
                try:
                    _remove_tree(hierarchy + path)
                    break
                except OSError as error:
                    if error.errno != errno.EBUSY or patience <= 0:
                        raise
                time.sleep(_PAUSE)
                patience -= _PAUSE


def _remove_tree(directory: str) -> None:
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            _remove_tree(entry.path)
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        # Not a cgroup: where a hierarchy was unmounted, runtimes write into the plain directory.
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
        os.rmdir(directory)
