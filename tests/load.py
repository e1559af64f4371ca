"""A running loop of requests, from a node or from a Pod, and the judgement of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import manifests
from local_cluster import LocalCluster, Namespace, until

LOAD = manifests.PROGRAMS / "load.py"


@dataclass
class Result:
    """*answers*: how often each server answered. *failures*: when, in seconds since the start, and what."""

    answers: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    slowest: float = 0.0
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.answers.values())

    def assert_flawless(self, at_least: int) -> None:
        shown = "\n".join(f"{when:8.3f} s  {what}" for when, what in self.failures)
        assert not self.failed, f"{self.failed} of {self.total + self.failed} requests failed:\n{shown}"
        assert self.total >= at_least, f"only {self.total} requests: too few to prove anything"

    def take(self, line: str) -> None:
        for name, value in json.loads(line).items():
            setattr(self, name, value)


@contextmanager
def from_node(
    cluster: LocalCluster, node: str, host: str, port: int, *, workers: int = 4, pause: float = 0.02
) -> Iterator[Result]:
    """Requests from a node for as long as the context lasts; the result is filled in at its end."""
    options = ["--workers", str(workers), "--pause", str(pause), "--until-eof"]
    process = cluster.start_on_node(node, "/usr/bin/python3", LOAD, host, str(port), *options)
    result = Result()
    try:
        assert process.stdout
        assert process.stdout.readline() == "started\n", "the load did not start"
        yield result
        output, problem = process.communicate(timeout=30)
        assert process.returncode == 0, problem
        result.take(output)
    finally:
        if process.poll() is None:
            process.communicate(timeout=30)  # its input ends, and so does it


def measure(cluster: LocalCluster, node: str, host: str, port: int, count: int, workers: int = 8) -> Result:
    """So many requests from a node, as fast as they go."""
    options = ["--workers", str(workers), "--count", str(count), "--seconds", "60"]
    output = cluster.on_node(
        node, "/usr/bin/python3", str(LOAD), host, str(port), *options, timeout=90
    ).stdout
    result = Result()
    result.take(output.splitlines()[-1])
    return result


@contextmanager
def from_pod(
    namespace: Namespace, host: str, port: int, *, name: str = "load", workers: int = 4, pause: float = 0.02
) -> Iterator[Result]:
    """Requests by a Pod of its own, which needs no connection to the API meanwhile."""
    command = ["python", "-u", "-c", LOAD.read_text(), host, str(port)]
    command += ["--workers", str(workers), "--pause", str(pause)]
    container = {"name": "load", "image": manifests.IMAGE, "command": command}
    namespace.apply(manifests.pod(name, manifests.pod_spec(container, restartPolicy="Never")))
    until(
        lambda: "started\n" in _logs(namespace, name).stdout, within=30, what="the load in a Pod", every=0.2
    )
    result = Result()
    yield result
    namespace.exec(name, "kill", "-TERM", "1")
    namespace.wait("jsonpath={.status.phase}=Succeeded", f"pod/{name}")
    result.take(_logs(namespace, name).stdout.splitlines()[-1])


def _logs(namespace: Namespace, name: str) -> subprocess.CompletedProcess[str]:
    return namespace.kubectl("logs", name, check=False)
