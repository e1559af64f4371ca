"""How fast a local cluster starts, how fast its Service answers, and what it takes.

bench/cluster.py [--rounds N]: medians of N fresh clusters of three nodes, each measured beside a reference in
the same round, so that the ratios mean something on any machine:

- ``buoy up --nodes 3`` to all nodes Ready; reference: three bare containerds, each in namespaces of its own,
  until each answers. No cluster of three nodes can be faster.
- ``kubectl apply`` of the tutorial's three Pods and their Service to the first answer through the ClusterIP;
  reference: one Pod sandbox and container, run by hand on one of those containerds.
- One request through the ClusterIP; reference: the same straight to a Pod.
- Memory of the idle cluster, as summed PSS; reference: the three containerds in it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from buoy.cluster import images, lifecycle, processes, state  # noqa: E402
from buoy.cluster.containerd import Configuration, oci_runtime, snapshotter  # noqa: E402
from local_cluster import LocalCluster, run, until  # noqa: E402

TUTORIAL = ROOT / "examples" / "tutorial"
NODES = 3

MOUNTS = (
    "mount -t proc proc /proc && mount -t tmpfs tmpfs /run && "
    "{ umount /sys/fs/cgroup/unified 2>/dev/null || true; }"
)
"""As a node has them; crun refuses the hybrid layout of cgroups."""

REQUESTS = """
import socket, sys, time
def request(host, port):
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        while connection.recv(4096):
            pass
took = []
for _ in range(300):
    begun = time.perf_counter()
    request(*sys.argv[1:])
    took.append(time.perf_counter() - begun)
print(sorted(took)[len(took) // 2])
"""

FIRST_ANSWER = """
import socket, sys, time
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        with socket.create_connection((sys.argv[1], 8080), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            if b"The host is" in b"".join(iter(lambda: connection.recv(4096), b"")):
                sys.exit(0)
    except OSError:
        time.sleep(0.005)
sys.exit(1)
"""


class Containerd:
    """A containerd as a node runs it, alone: for the reference."""

    def __init__(self, folder: Path, prepared: Path) -> None:
        folder.mkdir()
        root = folder / "root"
        images.link(prepared, root)
        self.socket = folder / "containerd.sock"
        configuration = Configuration(
            root=str(root),
            state="/run/containerd",
            socket=str(self.socket),
            sandbox_image=images.PAUSE,
            snapshotter=snapshotter(root),
        )
        (folder / "config.toml").write_text(configuration.toml())
        self._arguments = [
            *("unshare", "--pid", "--mount", "--uts", "--ipc", "--net", "--fork", "--kill-child"),
            *("sh", "-c", f'{MOUNTS} && exec "$@"', "sh"),
            *("containerd", "--config", str(folder / "config.toml")),
        ]
        self._log = (folder / "log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._arguments, stdout=self._log, stderr=self._log)
        asked = ["ctr", "--address", str(self.socket), "version"]
        until(self.socket.exists, every=0.002)
        until(lambda: run(asked, check=False).returncode == 0, every=0.002)

    def run_container(self) -> None:
        """One container, from its start to the end of the first thing it does."""
        assert self._process is not None
        (first,) = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        run(
            [
                *("nsenter", "--target", first, "--mount", "--pid", "--net", "--"),
                *("ctr", "--address", self.socket, "--namespace", "k8s.io", "run", "--rm"),
                *("--runc-binary", oci_runtime(), "--cgroup", "/buoy-bench/reference"),
                *("docker.io/library/python:3.7", "bench", "true"),
            ]
        )
        for folder in Path("/sys/fs/cgroup").glob("**/buoy-bench"):
            folder.rmdir()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._log.close()


def reference(folder: Path, prepared: Path) -> tuple[float, float]:
    """Seconds until three containerds answer, and seconds for one container in one of them."""
    runtimes = [Containerd(folder / f"containerd-{number}", prepared) for number in range(NODES)]
    try:
        begun = time.monotonic()
        with ThreadPoolExecutor(NODES) as pool:
            list(pool.map(Containerd.start, runtimes))
        ready = time.monotonic() - begun
        begun = time.monotonic()
        runtimes[0].run_container()
        return ready, time.monotonic() - begun
    finally:
        for runtime in runtimes:
            runtime.stop()


def measured_round(home: Path, prepared: Path, number: int) -> dict[str, float]:
    figures = {}
    folder = home / f"reference-{number}"
    folder.mkdir()
    figures["containerds"], figures["container"] = reference(folder, prepared)
    shutil.rmtree(folder)

    cluster = LocalCluster(f"bench-{number}", home, nodes=NODES)
    try:
        begun = time.monotonic()
        cluster.up()
        figures["up"] = time.monotonic() - begun
        running = lifecycle.find(cluster.name)
        settle()
        figures["memory"] = lifecycle.memory(running) / 2**20
        figures["memory of the containerds"] = sum(
            processes.proportional_memory(component.pid) / 2**20
            for component in processes.components(running)
            if component.name == "containerd"
        )

        begun = time.monotonic()
        files = (TUTORIAL / "exampledeployforservice.yml", TUTORIAL / "exampleclusteripservice.yml")
        applied = cluster.kubectl("apply", "-o", "json", *(part for file in files for part in ("-f", file)))
        address = json.loads(applied.stdout)["items"][1]["spec"]["clusterIP"]
        cluster.on_node("node-1", "/usr/bin/python3", "-c", FIRST_ANSWER, address)
        figures["first answer"] = time.monotonic() - begun

        cluster.kubectl("rollout", "status", "deployment/exampledeployforservice", "--timeout=60s")
        template = "jsonpath={.items[0].status.podIP}"
        pod = cluster.kubectl("get", "pods", "-o", template).stdout
        for name, host, port in (("straight", pod, "80"), ("through the Service", address, "8080")):
            took = cluster.on_node("node-1", "/usr/bin/python3", "-c", REQUESTS, host, port).stdout
            figures[name] = float(took) * 1000
        begun = time.monotonic()
        cluster.down()
        figures["down"] = time.monotonic() - begun
    finally:
        cluster.buoy("down", check=False)
    return figures


def settle() -> None:
    """The cluster is idle: for a whole second the machine's processors had next to nothing to do."""
    ticks = os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1)

    def busy() -> int:
        user, nice, system, *_ = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        return int(user) + int(nice) + int(system)

    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        before = busy()
        time.sleep(1)
        if busy() - before < 0.08 * ticks:
            return


def show(rounds: list[dict[str, float]]) -> None:
    median = {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}
    rows = [
        ("buoy up --nodes 3, to all nodes Ready", "up", "s", "containerds", "three bare containerds ready"),
        ("kubectl apply to the first answer", "first answer", "s", "container", "one container, by hand"),
        ("a request through the ClusterIP", "through the Service", "ms", "straight", "straight to the Pod"),
        ("memory of the idle cluster (PSS)", "memory", "MiB", "memory of the containerds", "its containerds"),
        ("buoy down", "down", "s", "up", "buoy up"),
    ]
    print(f"medians of {len(rounds)}")
    for label, name, unit, base, base_label in rows:
        spread = f"{min(r[name] for r in rounds):.2f} to {max(r[name] for r in rounds):.2f}"
        print(
            f"{label:40}{median[name]:8.2f} {unit:4} ({spread})"
            f"   {median[name] / median[base]:5.2f} x {base_label} ({median[base]:.2f} {unit})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast a local cluster starts, and what it takes.")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="buoy-bench-") as name:
        home = Path(name)
        os.environ["BUOY_HOME"] = name
        assert state.home() == home
        prepared = images.prepare(stand_ins=True)
        show([measured_round(home, prepared, number) for number in range(options.rounds)])


if __name__ == "__main__":
    main()
