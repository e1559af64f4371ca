"""The processes of a running cluster, as the kernel knows them: found below its first process in /proc."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .state import Running, process_stat

CONTROL_PLANE = ("apiserver", "controllers", "scheduler", "loadbalancer")
NODE = ("containerd", "kubelet", "proxy", "dns", "speaker")


@dataclass(frozen=True, slots=True)
class Component:
    """A running component; *node* is empty for the control plane. *started*: clock ticks since boot."""

    name: str
    node: str
    pid: int
    started: int


def children() -> dict[int, list[int]]:
    """The children of every process of the machine."""
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        pid = int(path.name)
        if found_process := process_stat(pid):
            found.setdefault(found_process.parent, []).append(pid)
    return found


def descendants(root: int) -> Iterator[int]:
    """*root* and all processes below it."""
    below = children()
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += below.get(pid, ())


def components(running: Running) -> list[Component]:
    """The components of the cluster that are running, the control plane's first."""
    below = children()
    found = []
    nodes = {}
    for pid in below.get(running.pid, ()):
        name, started = _identity(pid)
        if name in CONTROL_PLANE:
            found.append(Component(name, "", pid, started))
        elif name in running.config.node_names:
            nodes[name] = pid
    for node in running.config.node_names:
        for pid in below.get(nodes.get(node, -1), ()):
            name, started = _identity(pid)
            if name in NODE:
                found.append(Component(name, node, pid, started))
    order = [*CONTROL_PLANE, *NODE]
    return sorted(found, key=lambda item: (item.node != "", item.node, order.index(item.name)))


def machine(running: Running, name: str) -> int | None:
    """The first process of a node, or of the machine ``outside``; None if it is not running."""
    for pid in children().get(running.pid, ()):
        if _identity(pid)[0] == name:
            return pid
    return None


def proportional_memory(pid: int) -> int:
    """The PSS of a process in bytes, 0 if it is gone: shared pages count in part."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _identity(pid: int) -> tuple[str, int]:
    found = process_stat(pid)
    return (found.name, found.started) if found else ("", 0)
