"""The ``buoy`` command on a running cluster."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import manifests
from buoy.cluster import images
from local_cluster import LocalCluster, Namespace, until

pytestmark = pytest.mark.e2e


def test_status(cluster: LocalCluster) -> None:
    shown = cluster.buoy("status").stdout
    for number in (1, 2, 3):
        assert re.search(rf"^node-{number} +192\.168\.1\.{79 + number} +Ready$", shown, re.M)
    assert re.search(r"^API server +https://127\.0\.0\.1:\d+ ", shown, re.M)
    for component in ("apiserver", "controllers", "scheduler"):
        assert re.search(rf"^{component} +\d+ ", shown, re.M)
    for component in ("containerd", "kubelet", "proxy", "dns"):
        assert len(re.findall(rf"^{component} +node-\d +\d+ ", shown, re.M)) == 3
    assert re.search(r"Memory of all processes, Pods included: \d+ MiB \(PSS\)", shown)


def test_places(cluster: LocalCluster) -> None:
    """On a node, and on a machine outside: each has its own name and address."""
    listed = [line.split() for line in cluster.buoy("node list").stdout.splitlines()]
    assert listed == [[f"node-{n}", f"192.168.1.{79 + n}", "running"] for n in (1, 2, 3)]
    assert cluster.on_node("node-2", "hostname").stdout == "node-2\n"
    assert "192.168.1.81/24" in cluster.on_node("node-2", "ip", "address").stdout
    assert cluster.buoy("outside", "--", "hostname").stdout == "outside\n"
    assert "192.168.1.200/24" in cluster.buoy("outside", "--", "ip", "address").stdout
    assert cluster.on_node("node-1", "sh", "-c", "exit 7", check=False).returncode == 7
    nowhere = cluster.on_node("node-9", "true", check=False)
    assert nowhere.returncode == 1
    assert nowhere.stderr == (
        "Error: no machine 'node-9' is running; the nodes are: node-1, node-2, node-3\n"
    )


def test_nodes_hold_nothing_of_the_hosts(cluster: LocalCluster) -> None:
    """A privileged Pod in its node's PID namespace may use what the node's processes have open."""
    port = cluster.kubectl("config", "view", "--minify", "-o", "jsonpath={..server}").stdout.rpartition(":")[
        2
    ]
    sockets = {
        fields[9]
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[1] == f"0100007F:{int(port):04X}"
    }
    assert sockets
    for process in ("1", "$(pgrep -x kubelet)", "$(pgrep -x proxy)"):
        held = cluster.on_node("node-1", "sh", "-c", f"readlink /proc/{process}/fd/*").stdout.split()
        assert held
        assert not {f"socket:[{inode}]" for inode in sockets} & set(held)
        assert not [each for each in held if each.startswith("net:") or each.endswith(".lock")]


def test_an_image_of_ones_own(cluster: LocalCluster, namespace: Namespace, tmp_path: Path) -> None:
    assert (
        len(re.findall(r"^node-\d +docker.io/library/python:3.7$", cluster.buoy("image list").stdout, re.M))
        == 3
    )
    base = images.stand_in_images()[1]
    own = images.Image("docker.io/example/own:1", base.layers, entrypoint=("echo", "this is my own"))
    archive = tmp_path / "own.tar"
    archive.write_bytes(images.archive([own]))
    assert len(cluster.buoy("image load", str(archive)).stdout.splitlines()) == 3
    container = {"name": "own", "image": "example/own:1"}
    namespace.apply(manifests.pod("own", manifests.pod_spec(container, restartPolicy="Never")))
    namespace.wait("jsonpath={.status.phase}=Succeeded", "pod/own")
    assert namespace.kubectl("logs", "own").stdout == "this is my own\n"
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"no archive at all")
    assert cluster.buoy("image load", str(broken), check=False).returncode == 1


def test_logs_and_kubectl(cluster: LocalCluster) -> None:
    assert "serving on port 6443" in cluster.buoy("logs", "apiserver").stdout
    assert cluster.buoy("logs", "kubelet", "--node", "node-2").stdout
    assert "say which: --node" in cluster.buoy("logs", "kubelet", check=False).stderr
    assert "node/node-1" in cluster.buoy("kubectl", "get", "nodes", "-o", "name").stdout


def test_kill_shows_in_the_status(cluster: LocalCluster) -> None:
    def scheduler() -> list[str]:
        lines = cluster.buoy("status").stdout.splitlines()
        return next((line.split() for line in lines if line.startswith("scheduler ")), [])

    before = until(scheduler)
    assert cluster.buoy("kill", "scheduler").stdout == f"Killed scheduler (process {before[1]}).\n"
    after = until(lambda: found if (found := scheduler()) and found[1] != before[1] else [])
    assert int(after[3]) == int(before[3]) + 1
    assert " ".join(after[-3:]) == "killed by SIGKILL"
    unknown = cluster.buoy("kill", "nobody", check=False)
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("Error: no component 'nobody' is running; there are: apiserver,")


def test_a_node_stopped_and_started(cluster: LocalCluster) -> None:
    """It stays off, however long, until it is switched on; everybody else goes on."""

    def states() -> dict[str, str]:
        lines = cluster.buoy("node list").stdout.splitlines()
        return {line.split()[0]: " ".join(line.split()[2:]) for line in lines}

    def ready() -> str:
        shown = cluster.buoy("status").stdout
        return shown if re.search(r"^node-3 +\S+ +Ready$", shown, re.M) else ""

    assert cluster.buoy("node stop", "node-3").stdout == "node-3 is stopped.\n"
    assert states() == {"node-1": "running", "node-2": "running", "node-3": "stopped"}
    assert "node-3 is stopped already" in cluster.buoy("node stop", "node-3", check=False).stderr
    assert re.search(r"^node-3 +\S+ +stopped$", cluster.buoy("status").stdout, re.M)
    assert cluster.buoy("node start", "node-3").stdout == "node-3 starts.\n"
    until(ready, within=60, what="node-3 Ready again")
    assert "node-3 is not stopped" in cluster.buoy("node start", "node-3", check=False).stderr
    assert "no node 'node-9'" in cluster.buoy("node start", "node-9", check=False).stderr


def test_a_node_cut_off_and_healed(cluster: LocalCluster) -> None:
    """A pulled cable: the node runs on, the LAN does not reach it."""

    def answers() -> bool:
        script = "exec 3<>/dev/tcp/192.168.1.81/10250"
        outcome = cluster.buoy("outside", "--", "timeout", "2", "bash", "-c", script, check=False)
        return outcome.returncode == 0

    until(answers, what="node-2 answers")
    assert cluster.buoy("node cut", "node-2").stdout == "node-2 is cut off the LAN.\n"
    try:
        assert "node-2  192.168.1.81  cut off\n" in cluster.buoy("node list").stdout
        assert not answers()
        assert cluster.on_node("node-2", "hostname").stdout == "node-2\n"
    finally:
        cluster.buoy("node heal", "node-2")
    until(answers, what="node-2 answers again")
