"""The kubelet's own server: who may ask, and what it says; streams and logs through the API server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest
from kubelet_cluster import LOOP, Cluster, container
from kubelet_world import NODE, NODE_IP, World

from buoy.api import meta
from eventual import eventually

pytestmark = pytest.mark.kernel


def ask(world: World, path: str, certificate: tuple[str, str] | None, *more: str) -> tuple[int, str]:
    """Status and body of a request to the kubelet from its node; 0 if there was no answer."""
    identity = ["--cert", certificate[0], "--key", certificate[1]] if certificate else []
    done = subprocess.run(
        ["nsenter", "-t", str(world.pid), "-n", "curl", "-sS", "-m", "10", *identity,
         "--cacert", world.authority.certificate, "-w", "\n%{http_code}", *more, f"https://{NODE_IP}:10250{path}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    body, _, code = done.stdout.rpartition("\n")
    return int(code or 0), body


async def test_who_may_ask(world: World, cluster: Cluster, tmp_path: Path) -> None:
    api_server = world.authority.issue("kube-apiserver-kubelet-client", "system:masters")
    other_node = world.authority.issue("system:node:node-2", "system:nodes")
    stranger = type(world.authority)(tmp_path).issue("admin", "system:masters")
    assert ask(world, "/healthz", api_server) == (200, "ok")
    assert ask(world, "/healthz", None) == (401, "Unauthorized")
    assert ask(world, "/pods", other_node) == (
        403, "Forbidden (user=system:node:node-2, verb=get, resource=nodes, subresource(s)=[proxy])"
    )  # fmt: skip
    assert ask(world, "/healthz", stranger)[0] == 0
    assert ask(world, "/nothing", api_server) == (404, "404 page not found")


async def test_what_it_tells(world: World, cluster: Cluster) -> None:
    pod = await cluster.run("told")
    await cluster.running("told")
    identity = world.authority.issue("kube-apiserver-kubelet-client", "system:masters")
    code, body = ask(world, "/pods", identity)
    assert code == 200
    assert meta.uid(pod) in [meta.uid(item) for item in json.loads(body)["items"]]
    code, body = ask(world, "/metrics", identity)
    assert f'kubelet_node_name{{node="{NODE}"}} 1' in body
    path = f"{cluster.namespace}/told/main"
    assert ask(world, f"/run/{path}?cmd=echo+hello", identity, "-X", "POST") == (200, "hello\n")
    assert ask(world, f"/containerLogs/{cluster.namespace}/absent/main", identity) == (
        404,
        'pod "absent" not found',
    )
    assert ask(world, f"/containerLogs/{path}x", identity) == (
        400, 'container "mainx" in pod "told" is not available'
    )  # fmt: skip
    code, body = ask(
        world, f"/exec/{cluster.namespace}/told/none?command=id&output=1", identity, "-X", "POST"
    )
    assert (code, body) == (500, 'container not found ("none")')


async def test_the_nodes_logs(world: World, cluster: Cluster) -> None:
    pod = await cluster.run("logged", container("echo said; " + LOOP))
    await cluster.running("logged")
    identity = world.authority.issue("kube-apiserver-kubelet-client", "system:masters")
    folder = f"{cluster.namespace}_logged_{meta.uid(pod)}/main"
    assert '<a href="pods/">pods/</a>\n' in ask(world, "/logs/", identity)[1]
    assert ask(world, f"/logs/pods/{folder}/", identity)[1].endswith(
        '<pre>\n<a href="0.log">0.log</a>\n</pre>\n'
    )
    assert ask(world, f"/logs/pods/{folder}", identity)[0] == 301

    def said() -> bool:
        return ask(world, f"/logs/pods/{folder}/0.log", identity)[1].endswith(" stdout F said\n")

    await eventually(said, what="the container's word")
    inside = Path(world.inside(f"/var/log/pods/{folder}"))
    (inside / "away").symlink_to("/etc/passwd")
    (inside / "near").symlink_to("0.log")
    os.mkfifo(inside / "pipe")
    assert ask(world, f"/logs/pods/{folder}/near", identity)[0] == 200
    for other in ("away", "pipe", "none", "0.log/x", "../../../../../etc/passwd"):
        found = ask(world, f"/logs/pods/{folder}/{other}", identity, "--path-as-is")
        assert found == (404, "404 page not found"), other


async def test_a_terminal(cluster: Cluster) -> None:
    await cluster.run("tty")
    await cluster.running("tty")
    assert (
        (await cluster.kubectl("exec", "-i", "-t", "tty", "--", "sh", "-c", "echo $((40 + 2))"))
        .strip()
        .endswith("42")
    )


async def test_attach(cluster: Cluster) -> None:
    await cluster.run(
        "echo", container("read line; echo got $line", stdin=True, stdinOnce=True), restartPolicy="Never"
    )
    await cluster.running("echo")
    assert "got this" in await cluster.kubectl("attach", "-i", "echo", stdin="this\n")


@pytest.mark.parametrize("spec", [{}, {"hostNetwork": True}])
async def test_port_forward(cluster: Cluster, spec: dict[str, bool]) -> None:
    serve = (
        "mkdir -p /tmp/www; echo hello from the pod > /tmp/www/index.html; exec httpd -f -p 8123 -h /tmp/www"
    )
    await cluster.run("web", container(serve), **spec)
    await cluster.running("web")
    process = await cluster.start_kubectl("port-forward", "web", ":8123")
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        port = int(line.decode().split("->")[0].rpartition(":")[2])

        async def fetched() -> bool:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return b"hello from the pod" in answer

        await eventually(fetched, what="the Pod's answer")
    finally:
        process.kill()
        await process.wait()


async def test_a_large_log_is_rotated_and_goes_on(world: World, cluster: Cluster) -> None:
    pod = await cluster.run(
        "talker", container("seq 1 1000; until test -e /tmp/go; do sleep 0.05; done; echo after; " + LOOP)
    )
    await cluster.running("talker")
    folder = Path(world.inside(f"/var/log/pods/{cluster.namespace}_talker_{meta.uid(pod)}/main"))
    await eventually(lambda: (folder / "0.log").stat().st_size > 10_000, what="much is written")
    world.kill("kubelet")
    world.start_kubelet(container_log_max_size=10_000)
    await eventually(
        lambda: len(list(folder.glob("0.log.*"))) == 1 and (folder / "0.log").exists(), what="rotation"
    )
    await cluster.execute("talker", "touch /tmp/go")

    async def after() -> bool:
        return await cluster.logs("talker") == "after\n"

    await eventually(after, what="the log goes on in the new file")


async def test_half_a_stream_is_enough(cluster: Cluster) -> None:
    await cluster.run("sink")
    await cluster.running("sink")
    text = "x" * 300_000
    script = "sleep 0.2; wc -c"
    assert (
        await cluster.kubectl("exec", "-i", "sink", "--", "sh", "-c", script, stdin=text)
    ).strip() == "300000"
