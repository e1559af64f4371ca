"""What can befall a node of a local cluster: its power goes, or its cable is pulled; and both come back."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import processes
from .state import Running, StateFolder


class FaultError(Exception):
    """The fault cannot be made or mended; the message says why."""


def stop(running: Running, node: str) -> None:
    """End a node as a power cut would, and keep it off. Raises FaultError if it is off already."""
    _known(running, node)
    pid = processes.machine(running, node)
    if pid is None:
        raise FaultError(f"{node} is stopped already")
    mark = _mark(running, node)
    mark.touch(mode=0o600)
    with _handle(pid) as handle:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], 30.0)


def start(running: Running, node: str) -> None:
    """Switch a stopped node on again. Raises FaultError if it is on."""
    _known(running, node)
    try:
        _mark(running, node).unlink()
    except FileNotFoundError:
        raise FaultError(f"{node} is not stopped") from None
    with _handle(running.pid) as handle:
        signal.pidfd_send_signal(handle, signal.SIGHUP)  # the supervisor looks again


def cut(running: Running, node: str) -> None:
    """Pull a node's cable: the node runs on, and nothing on the LAN reaches it."""
    _set_link(running, node, "down")


def heal(running: Running, node: str) -> None:
    """Plug the cable in again."""
    _set_link(running, node, "up")


def state(running: Running, node: str) -> str:
    """``running``, ``stopped`` or ``cut off``."""
    if processes.machine(running, node) is None:
        return "stopped"
    shown = _in_world(running, "ip", "-oneline", "link", "show", "dev", node).stdout
    flags = shown.partition("<")[2].partition(">")[0].split(",")
    return "running" if "UP" in flags else "cut off"


def is_wanted(folder: StateFolder, node: str) -> Callable[[], bool]:
    """Whether the node is to run, asked by its supervisor each time that it is down."""
    mark = folder.stopped(node)
    return lambda: not mark.exists()


def forget(folder: StateFolder, nodes: tuple[str, ...]) -> None:
    """All nodes are to run: what a start of the whole cluster begins with."""
    for node in nodes:
        folder.stopped(node).unlink(missing_ok=True)


def _mark(running: Running, node: str) -> Path:
    return StateFolder.of(running.config.name).stopped(node)


def _known(running: Running, node: str) -> None:
    if node not in running.config.node_names:
        raise FaultError(f"no node {node!r}; the nodes are: {', '.join(running.config.node_names)}")


def _set_link(running: Running, node: str, state: str) -> None:
    _known(running, node)
    done = _in_world(running, "ip", "link", "set", "dev", node, state)
    if done.returncode:
        raise FaultError(f"{node} is not on the LAN: {done.stderr.strip()}")


def _in_world(running: Running, *command: str) -> subprocess.CompletedProcess[str]:
    arguments = ["nsenter", "--target", str(running.pid), "--net", "--", *command]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


@contextmanager
def _handle(pid: int) -> Iterator[int]:
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)
