"""A local cluster for whole-cluster tests, driven as a user drives it: by ``buoy`` and ``kubectl``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

Object = dict[str, Any]
Completed = subprocess.CompletedProcess[str]
T = TypeVar("T")

BIN = Path(sys.executable).parent
KUBECTL = BIN / "kubectl"
BUOY = BIN / "buoy"


def until(condition: Callable[[], T], *, within: float = 30.0, what: str = "", every: float = 0.05) -> T:
    """The first true value of *condition*; AssertionError with its last value after *within* seconds."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:.0f} s: {what or condition}; at last: {value!r}")
        time.sleep(every)


def run(
    arguments: Iterable[str | Path],
    *,
    input: str | None = None,
    check: bool = True,
    timeout: float = 90,
    env: dict[str, str] | None = None,
) -> Completed:
    """Run a program and wait for it. With *check*, a failure shows what the program wrote."""
    command = [str(part) for part in arguments]
    result = subprocess.run(
        command, input=input, capture_output=True, text=True, timeout=timeout, env=env, check=False
    )
    if check and result.returncode:
        raise AssertionError(
            f"{' '.join(command)}: exit status {result.returncode}\n{result.stdout}{result.stderr}"
        )
    return result


@dataclass
class LocalCluster:
    """A cluster of its own name and kubeconfig. *home* (``BUOY_HOME``) may be shared by several clusters."""

    name: str
    home: Path
    nodes: int = 3
    options: tuple[str, ...] = ("--stand-in-images", "--no-uplink")
    kubeconfig: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.kubeconfig = self.home / f"{self.name}.kubeconfig"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "BUOY_HOME": str(self.home),
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.home / "kubectl-cache"),
        }

    @property
    def folder(self) -> Path:
        return self.home / "clusters" / self.name

    def up(self, *, check: bool = True) -> Completed:
        command = ("up", "--nodes", str(self.nodes), *self.options)
        return self.buoy(*command, check=check, timeout=150)

    def down(self) -> Completed:
        return self.buoy("down")

    @property
    def first_process(self) -> int:
        number: int = json.loads((self.folder / "state.json").read_text())["pid"]
        return number

    def buoy(self, command: str, *arguments: str, check: bool = True, timeout: float = 60) -> Completed:
        """``buoy COMMAND --name NAME ARGUMENTS``; of two words, such as "node exec", both come first."""
        return run(self.words(command, *arguments), env=self.environment, check=check, timeout=timeout)

    def words(self, command: str, *arguments: str | Path) -> list[str]:
        """The command line of a ``buoy`` command for this cluster."""
        return [str(BUOY), *command.split(), "--name", self.name, *map(str, arguments)]

    def kubectl(
        self,
        *arguments: str | Path,
        input: str | None = None,
        check: bool = True,
        timeout: float = 90,
        program: Path = KUBECTL,
    ) -> Completed:
        return run([program, *arguments], input=input, env=self.environment, check=check, timeout=timeout)

    def on_node(self, node: str, *command: str, check: bool = True, timeout: float = 60) -> Completed:
        return self.buoy("node exec", node, "--", *command, check=check, timeout=timeout)

    def in_world(self, *command: str, check: bool = True) -> Completed:
        """A command of this machine in the network namespace of the LAN and its gateway."""
        inside = ("nsenter", "--target", str(self.first_process), "--net", "--")
        return run([*inside, *command], check=check)

    def start_on_node(self, node: str, *command: str | Path) -> subprocess.Popen[str]:
        """A program that goes on running on a node, with pipes."""
        return self._start("node exec", node, "--", *command)

    def start_outside(self, *command: str | Path) -> subprocess.Popen[str]:
        """A program that goes on running on the machine outside, with pipes."""
        return self._start("outside", "--", *command)

    def _start(self, command: str, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(command, *arguments),
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def log_ends(self, lines: int = 15) -> Iterator[tuple[str, str]]:
        """The last lines of each component's log."""
        for path in sorted([*self.folder.glob("logs/*.log"), *self.folder.glob("nodes/*/log/*.log")]):
            text = path.read_text(errors="replace")
            if text and path.name != "containerd.log":
                yield str(path.relative_to(self.folder)), "\n".join(text.splitlines()[-lines:])

    @contextmanager
    def namespace(self) -> Iterator[Namespace]:
        """A namespace with a name of its own, deleted afterwards (which nobody waits for)."""
        name = f"test-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", name)
        try:
            namespace = Namespace(self, name)
            # Pods are refused until the namespace has its service account.
            until(lambda: namespace.get("serviceaccount", "default"), within=15, every=0.1)
            yield namespace
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", check=False)


@dataclass(frozen=True)
class Namespace:
    cluster: LocalCluster
    name: str

    def kubectl(self, *arguments: str | Path, **keywords: Any) -> Completed:
        return self.cluster.kubectl("--namespace", self.name, *arguments, **keywords)

    def apply(self, *objects: Object) -> Completed:
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        return self.kubectl("apply", "-f", "-", input=json.dumps(document))

    def get(self, kind: str, name: str) -> Object:
        """The object; an empty one if there is none."""
        result = self.kubectl("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(result.stdout) if result.stdout.strip() else {}

    def list(self, kind: str, selector: str = "") -> list[Object]:
        items: list[Object] = json.loads(
            self.kubectl("get", kind, "-o", "json", "--selector", selector).stdout
        )["items"]
        return items

    def exec(self, pod: str, *command: str, container: str = "", check: bool = True) -> Completed:
        chosen = ("-c", container) if container else ()
        return self.kubectl("exec", pod, *chosen, "--", *command, check=check)

    def rolled_out(self, workload: str, timeout: float = 60) -> None:
        self.kubectl("rollout", "status", workload, f"--timeout={timeout:.0f}s", timeout=timeout + 10)

    def wait(self, condition: str, *things: str, timeout: float = 60) -> None:
        self.kubectl("wait", f"--for={condition}", *things, f"--timeout={timeout:.0f}s", timeout=timeout + 10)

    def until_endpoints(self, service: str, count: int, within: float = 30) -> list[str]:
        """The addresses of a Service's ready endpoints, as soon as there are *count*."""

        def ready() -> list[str]:
            return [
                address
                for part in self.list("endpointslices", f"kubernetes.io/service-name={service}")
                for endpoint in part.get("endpoints") or ()
                if endpoint["conditions"].get("ready")
                for address in endpoint["addresses"]
            ]

        def enough() -> bool:
            nonlocal found
            found = ready()
            return len(found) == count

        found: list[str] = []
        until(enough, within=within, what=f"{count} ready endpoints of {service}", every=0.2)
        return found

    def events(self, reason: str = "", about: str = "") -> list[Object]:
        return [
            event
            for event in self.list("events")
            if reason in ("", event["reason"]) and about in ("", event["involvedObject"]["name"])
        ]
