"""What a user does with kubectl beyond get and apply, each command against running Pods."""

from __future__ import annotations

import contextlib
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cluster import KUBECTL, Completed, LocalCluster, Namespace, until
from manifests import deployment, pod, pod_spec, server_container, service, shell

pytestmark = pytest.mark.e2e

QUICK_END = "trap 'exit 0' TERM; sleep 3600 & wait"


@pytest.fixture(scope="module")
def web(cluster: LocalCluster) -> Iterator[Namespace]:
    """Two servers behind a Service, and a Pod to work in."""
    with cluster.namespace() as namespace:
        spec = pod_spec(server_container())
        namespace.apply(deployment("web", 2, spec), service("web"), pod("tool", pod_spec(shell(QUICK_END))))
        namespace.rolled_out("deployment/web")
        namespace.wait("condition=Ready", "pod/tool")
        yield namespace


@contextlib.contextmanager
def forwarded(namespace: Namespace, *arguments: str) -> Iterator[int]:
    """``kubectl port-forward``, and the local port it has opened."""
    process = subprocess.Popen(
        [KUBECTL, "--namespace", namespace.name, "port-forward", *arguments],
        env=namespace.cluster.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        announced = re.search(r"127\.0\.0\.1:(\d+) -> (\d+)", process.stdout.readline())
        assert announced
        assert announced[2] == "80"
        yield int(announced[1])
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("target", ["pod", "deployment/web", "service/web"])
def test_port_forward(web: Namespace, target: str) -> None:
    """A Service's port is its Pod's target port: one Pod is chosen, whatever is asked for."""
    names = {item["metadata"]["name"] for item in web.list("pods", "app=web")}
    chosen = f"pod/{min(names)}" if target == "pod" else target
    with forwarded(web, chosen, ":8080" if target == "service/web" else ":80") as port:
        seen = set()
        for _ in range(4):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10) as answer:
                seen.add(answer.read().decode().strip())
    assert len(seen) == 1
    assert seen <= names


def test_cp_in_both_directions(web: Namespace, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    content = bytes(range(256)) * 5000
    (folder / "sub" / "blob").write_bytes(content)
    (folder / "word").write_text("hello\n")
    web.kubectl("cp", str(folder), "tool:/tmp/tree")
    assert web.exec("tool", "cat", "/tmp/tree/word").stdout == "hello\n"
    web.kubectl("cp", f"{web.name}/tool:/tmp/tree", str(tmp_path / "back"))
    assert (tmp_path / "back" / "sub" / "blob").read_bytes() == content
    web.kubectl("cp", "tool:/no/such/file", str(tmp_path / "none"), check=False)
    assert not (tmp_path / "none").exists()
    # kubectl cp does not wait for what tar says once it has the end of the archive; kubectl exec does.
    missing = web.exec("tool", "tar", "cf", "-", "/no/such/file", check=False)
    assert missing.returncode == 1
    assert "/no/such/file: no such file or directory" in missing.stderr.lower()


def test_the_end_of_what_a_command_says_is_not_lost(web: Namespace) -> None:
    """To the last byte of both streams, and its exit status."""
    script = "head -c 5000000 /dev/zero; echo end; echo words >&2; exit 3"
    process = subprocess.Popen(
        [KUBECTL, "--namespace", web.name, "exec", "tool", "--", "sh", "-c", script],
        env=web.cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 3
    assert (len(stdout), stdout[-4:]) == (5_000_004, b"end\n")
    assert stderr == b"words\ncommand terminated with exit code 3\n"


def test_wait(web: Namespace) -> None:
    web.kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=20s")
    web.kubectl("wait", "--for=jsonpath={.status.readyReplicas}=2", "deployment/web", "--timeout=20s")
    late = web.kubectl("wait", "--for=condition=Absent", "pod/tool", "--timeout=1s", check=False)
    assert late.stderr.startswith("error: timed out waiting for the condition on pods/tool")
    web.apply(pod("short", pod_spec(shell(QUICK_END))))
    web.kubectl("wait", "--for=create", "pod/short", "--timeout=20s")
    web.kubectl("delete", "pod", "short", "--wait=false")
    web.kubectl("wait", "--for=delete", "pod/short", "--timeout=20s")


def test_rollout(web: Namespace) -> None:
    def images() -> set[str]:
        return {
            item["spec"]["template"]["spec"]["containers"][0]["image"]
            for item in web.list("replicasets", "app=web")
        }

    old, new = "python:3.7", "docker.io/library/python:3.7"
    web.kubectl("rollout", "pause", "deployment/web")
    web.kubectl("set", "image", "deployment/web", f"server={new}")
    again = web.kubectl("rollout", "pause", "deployment/web", check=False)
    assert 'deployments.apps "web" is already paused' in again.stderr
    assert images() == {old}
    web.kubectl("rollout", "resume", "deployment/web")
    web.rolled_out("deployment/web")
    assert images() == {old, new}
    web.kubectl("annotate", "deployment/web", "kubernetes.io/change-cause=a longer name")
    until(lambda: "a longer name" in web.kubectl("rollout", "history", "deployment/web").stdout)
    shown = web.kubectl("rollout", "history", "deployment/web", "--revision=2").stdout
    assert new in shown
    before = {item["metadata"]["uid"] for item in web.list("pods", "app=web")}
    web.kubectl("rollout", "restart", "deployment/web")
    web.rolled_out("deployment/web")
    web.kubectl("rollout", "undo", "deployment/web", "--to-revision=1")
    web.rolled_out("deployment/web")
    until(lambda: len(web.list("pods", "app=web")) == 2)
    assert not before & {item["metadata"]["uid"] for item in web.list("pods", "app=web")}


def test_scale_label_annotate_expose(web: Namespace) -> None:
    assert web.kubectl("scale", "deployment/web", "--replicas=3").stdout == "deployment.apps/web scaled\n"
    web.kubectl("wait", "--for=jsonpath={.status.readyReplicas}=3", "deployment/web", "--timeout=30s")
    refused = web.kubectl("scale", "deployment/web", "--current-replicas=7", "--replicas=1", check=False)
    assert "Expected replicas to be 7, was 3" in refused.stderr
    web.kubectl("scale", "deployment/web", "--replicas=2")
    web.kubectl("label", "pod", "tool", "colour=red")
    refused = web.kubectl("label", "pod", "tool", "colour=blue", check=False)
    assert "already has a value (red), and --overwrite is false" in refused.stderr
    web.kubectl("label", "pod", "tool", "colour-")
    web.kubectl("annotate", "pod", "tool", "note=a b")
    assert web.get("pod", "tool")["metadata"]["annotations"]["note"] == "a b"
    web.kubectl("expose", "deployment/web", "--name=exposed", "--port=9000", "--target-port=80")
    web.until_endpoints("exposed", 2)
    address = web.get("service", "exposed")["spec"]["clusterIP"]
    until(lambda: web.exec("tool", "curl", "-sS", "-m", "2", f"{address}:9000", check=False).stdout)
    assert "exposed" not in web.kubectl("get", "pods").stdout


def test_what_needs_more_than_a_cluster_says_so(web: Namespace) -> None:
    for what in ("node", "pod"):
        told = web.kubectl("top", what, check=False)
        assert (told.returncode, told.stderr) == (1, "error: Metrics API not available\n")


def test_run_and_remove(web: Namespace) -> None:
    """The output of a command that ends in a moment is there, with and without anything to read."""

    def run(name: str, *command: str, given: str = "", check: bool = True) -> Completed:
        options = ("-i", "--rm", "--quiet", "--restart=Never", "--image=python:3.7")
        return web.kubectl("run", name, *options, "--", *command, input=given, check=check)

    said = []
    for number in range(3):
        said.append(run(f"moment-{number}", "echo", "quick").stdout)
        assert not web.get("pod", f"moment-{number}")
    # kubectl takes it from the log or from the stream; of one that ends as it attaches, neither has it.
    assert any(text.startswith("quick\n") for text in said), said
    assert run("reader", "cat", given="one\n").stdout.startswith("one\n")
    assert run("failing", "sh", "-c", "exit 3", check=False).returncode == 3


def test_cordon_drain_uncordon(web: Namespace) -> None:
    cluster = web.cluster
    (node,) = {web.get("pod", "tool")["spec"]["nodeName"]}
    lonely = cluster.kubectl("drain", node, "--pod-selector=app=tool", check=False)
    try:
        assert "cannot delete Pods that declare no controller (use --force to override)" in lonely.stderr
        assert cluster.kubectl("get", "node", node, "--no-headers").stdout.split()[1] == (
            "Ready,SchedulingDisabled"
        )
        drained = cluster.kubectl("drain", node, "--force", "--ignore-daemonsets", "--timeout=60s").stdout
        assert f"evicting pod {web.name}/tool" in drained
        assert f"node/{node} drained" in drained
        assert not web.get("pod", "tool")
        web.rolled_out("deployment/web")
        assert node not in {item["spec"]["nodeName"] for item in web.list("pods", "app=web")}
    finally:
        cluster.kubectl("uncordon", node)
    assert cluster.kubectl("get", "node", node, "--no-headers").stdout.split()[1] == "Ready"


def test_debug_a_running_pod(web: Namespace) -> None:
    """An ephemeral container joins the Pod, and can look at the processes of another container."""
    web.apply(pod("subject", pod_spec(shell(QUICK_END))))
    web.wait("condition=Ready", "pod/subject")
    image = "--image=python:3.7"
    web.kubectl("debug", "subject", image, "-c", "first", "--", "hostname")
    until(lambda: web.kubectl("logs", "subject", "-c", "first", check=False).stdout == "subject\n")
    web.kubectl("debug", "subject", image, "-c", "looker", "--target=main", "--", "sh", "-c", "ps; sleep 60")
    until(lambda: "sleep 3600" in web.kubectl("logs", "subject", "-c", "looker", check=False).stdout)
    found = web.get("pod", "subject")
    assert len(found["spec"]["ephemeralContainers"]) == 2
    first, second = until(
        lambda: (
            (seen := web.get("pod", "subject")["status"]["ephemeralContainerStatuses"])
            and "terminated" in seen[0]["state"]
            and seen
        )
    )
    assert first["state"]["terminated"]["exitCode"] == 0
    assert "running" in second["state"]
    assert found["status"]["phase"] == "Running"
    assert web.kubectl("get", "pod", "subject", "--no-headers").stdout.split()[1:3] == ["1/1", "Running"]
    ask = ("sh", "-c", "read line; echo got $line")
    web.kubectl("debug", "subject", image, "-i", "-c", "asked", "--", *ask, input="a word\n")
    until(lambda: web.kubectl("logs", "subject", "-c", "asked", check=False).stdout == "got a word\n")
    refused = web.kubectl("debug", "subject", image, "-c", "looker", check=False)
    assert refused.returncode != 0
    copied = web.kubectl("debug", "subject", image, "--copy-to=twin", "--container=main", "--", "sleep", "60")
    assert "twin" not in copied.stderr
    web.wait("condition=Ready", "pod/twin")
