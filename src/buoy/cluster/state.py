"""Where a cluster keeps its files, and what is remembered of a running one."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from .config import ClusterConfig


def home() -> Path:
    """The folder of all that Buoy keeps: ``$BUOY_HOME``, or /var/lib/buoy."""
    return Path(os.environ.get("BUOY_HOME", "/var/lib/buoy"))


@dataclass(frozen=True, slots=True)
class StateFolder:
    """The files of one cluster. Nothing of it is written anywhere else."""

    path: Path

    @classmethod
    def of(cls, name: str) -> StateFolder:
        return cls(home() / "clusters" / name)

    @property
    def state_file(self) -> Path:
        return self.path / "state.json"

    @property
    def pki(self) -> Path:
        return self.path / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.path / "kubeconfig"

    @property
    def store(self) -> Path:
        return self.path / "store" / "buoy.db"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def stopped(self, node: str) -> Path:
        """The file that is there while the node is to be off."""
        return self.node(node) / "stopped"

    @property
    def cgroup(self) -> str:
        """The cgroup of all its Pods: clusters of one name in different state folders have different ones."""
        return f"buoy/{self.path.name}-{hashlib.sha256(bytes(self.path.absolute())).hexdigest()[:8]}"

    def component_kubeconfig(self, component: str) -> Path:
        return self.pki / f"{component}.kubeconfig"

    def node(self, name: str) -> Path:
        return self.path / "nodes" / name

    def log(self, component: str, node: str = "") -> Path:
        return (self.node(node) / "log" if node else self.logs) / f"{component}.log"


@dataclass(frozen=True, slots=True)
class Running:
    """What is remembered of a started cluster: its wishes, its first process and its API port on the host.

    *started* is that process' start time in clock ticks since boot, which tells it from a later one with its
    number.
    """

    config: ClusterConfig
    pid: int
    started: int
    api_port: int

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.started


class ProcessStat(NamedTuple):
    """What /proc tells of a process; *started* is in clock ticks since boot."""

    name: str
    state: str
    parent: int
    started: int


def process_stat(pid: int) -> ProcessStat | None:
    """A process as proc_pid_stat(5) shows it; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    before, _, after = text.rpartition(")")
    fields = after.split()
    return ProcessStat(before.partition("(")[2], fields[0], int(fields[1]), int(fields[19]))


def start_time(pid: int) -> int | None:
    """The start time of a process in clock ticks since boot; None if it is gone or a zombie."""
    found = process_stat(pid)
    return found.started if found and found.state not in "ZX" else None


def save(folder: StateFolder, running: Running) -> None:
    temporary = folder.state_file.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(running), indent=1))
    temporary.replace(folder.state_file)


def load(folder: StateFolder) -> Running | None:
    """What `save` wrote; None if there is no such cluster."""
    try:
        saved = json.loads(folder.state_file.read_text())
    except FileNotFoundError:
        return None
    return Running(**{**saved, "config": ClusterConfig(**saved["config"])})


def names() -> list[str]:
    """The clusters that have a state folder, running or not."""
    clusters = home() / "clusters"
    return sorted(path.parent.name for path in clusters.glob("*/state.json"))


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Keeps two commands from starting or ending the same cluster at once."""
    folder = home() / "clusters"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / f".{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)  # unlike flock, not inherited by the forked cluster
        yield
    finally:
        os.close(descriptor)
