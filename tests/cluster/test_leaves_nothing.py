"""A local cluster changes nothing of its host, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

import manifests
from local_cluster import BUOY, LocalCluster, Namespace, run, until

pytestmark = pytest.mark.e2e

NAME = f"gone-{os.getpid()}"
"""Of the clusters here. No other run of these tests on this machine has the same."""

NAMESPACES = ("net", "mnt", "pid", "uts", "ipc")

RESTLESS = re.compile(
    r"nf_conntrack_count|/neigh/|random|tcp_fastopen_key|conf/[^/]+/stable_secret|"
    r"netdev_rss_key|tcp_available|route/flush"
)
"""Network settings that are no settings, or change by themselves."""


@dataclass(frozen=True)
class Host:
    """What a cluster could leave behind on its host."""

    interfaces: frozenset[str]
    routes: frozenset[str]
    rules: str
    settings: frozenset[str]
    mounts: frozenset[str]
    named_network_namespaces: frozenset[str]
    cgroups: frozenset[str]
    files: frozenset[str]

    @classmethod
    def now(cls, except_below: Path) -> Host:
        return cls(
            interfaces=_interfaces(),
            routes=frozenset(
                f"{family} {line}"
                for family in ("-4", "-6")
                for line in run(["ip", family, "route", "show", "table", "all"]).stdout.splitlines()
            ),
            rules=run(["nft", "list", "ruleset"]).stdout,
            settings=frozenset(_settings()),
            mounts=frozenset(
                line.split(" - ")[0].split(" ", 3)[3] for line in _lines("/proc/self/mountinfo")
            ),
            named_network_namespaces=frozenset(_names("/run/netns")),
            cgroups=frozenset(_cgroups()),
            files=frozenset(_files(except_below)),
        )


def _interfaces() -> frozenset[str]:
    described = json.loads(run(["ip", "-json", "address"]).stdout)
    return frozenset(
        f"{link['ifname']} {sorted(link['flags'])} {link.get('master')} "
        f"{[address['local'] for address in link['addr_info']]}"
        for link in described
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _settings() -> Iterator[str]:
    for path in Path("/proc/sys/net").rglob("*"):
        if path.is_file() and not RESTLESS.search(str(path)):
            try:
                yield f"{path} = {path.read_text().strip()}"
            except OSError:  # some can only be written
                continue


def _cgroups() -> Iterator[str]:
    """All cgroups but those of clusters that are not ours: a developer may have one running."""
    for folder, below, _ in os.walk("/sys/fs/cgroup"):
        if folder.endswith("/buoy"):
            below[:] = [name for name in below if name.startswith(NAME)]
        yield folder


def _files(except_below: Path) -> Iterator[str]:
    """Files of the places where services leave them, two levels deep."""
    for place in ("/etc", "/run", "/var/lib", "/var/log", "/var/run", "/opt", "/root/.kube", "/tmp"):
        for folder, below, names in os.walk(place):
            if folder == "/tmp":
                names[:] = [name for name in names if "buoy" in name or "containerd" in name]
                below[:] = [
                    name for name in below if "buoy" in name or "containerd" in name or "shim" in name
                ]
            below[:] = [name for name in below if not except_below.is_relative_to(Path(folder, name))]
            if folder == "/var/lib":  # where other clusters of this machine have their state
                below[:] = [name for name in below if name != "buoy"]
            if folder.count("/") - place.count("/") >= 2:
                below.clear()
            yield from (f"{folder}/{name}" for name in (*below, *names))


def assert_same(before: Host, after: Host) -> None:
    for field in fields(Host):
        was, now = getattr(before, field.name), getattr(after, field.name)
        if isinstance(was, frozenset):
            assert not now - was, f"{field.name}: new are {sorted(now - was)}"
            assert not was - now, f"{field.name}: gone are {sorted(was - now)}"
        assert was == now, field.name


@dataclass(frozen=True)
class World:
    """Who is in a cluster's namespaces. *seen*: when that was looked at, in clock ticks since boot.

    The kernel uses the numbers of processes and namespaces again, so those that came later do not count.
    """

    processes: frozenset[int]
    namespaces: frozenset[str]
    seen: float

    @classmethod
    def of(cls, cluster: LocalCluster) -> World:
        children: dict[int, list[int]] = {}
        for process in _processes():
            if (fields := _stat(process)) is not None:
                children.setdefault(int(fields[1]), []).append(process)
        below: set[int] = set()
        waiting = [cluster.first_process]
        while waiting:
            process = waiting.pop()
            below.add(process)
            waiting += children.get(process, [])
        theirs = frozenset[str]().union(*map(_namespaces, below)) - _namespaces(os.getpid())
        seen = float(_lines("/proc/uptime")[0].split()[0]) * os.sysconf("SC_CLK_TCK")
        return cls(frozenset(below), theirs, seen)

    def left(self) -> list[int]:
        """The processes of then that are still there, and others of then in its namespaces."""
        return [
            process
            for process in _processes()
            if (fields := _stat(process)) is not None
            and int(fields[19]) <= self.seen
            and (process in self.processes or self.namespaces & _namespaces(process))
        ]


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(process: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; None if it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields


def _namespaces(process: int) -> frozenset[str]:
    found = set()
    for kind in NAMESPACES:
        try:
            found.add(os.readlink(f"/proc/{process}/ns/{kind}"))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return frozenset(found)


def mentions(words: list[str]) -> list[str]:
    """Processes that have one of *words* in their command line, environment or mounts."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) in (os.getpid(), os.getppid()):
            continue
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "mountinfo").read_bytes()
        except (OSError, ProcessLookupError):
            continue
        if any(word.encode() in text for word in words):
            found.append(folder.name)
    return found


@pytest.fixture
def own(buoy_home: Path, request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A cluster that the test itself starts and ends."""
    cluster = LocalCluster(NAME, buoy_home, nodes=2)
    yield cluster
    cluster.buoy("down", check=False)
    cluster.kubeconfig.unlink(missing_ok=True)


def work(cluster: LocalCluster) -> None:
    """Pods of several kinds, Services, volumes: something to clean up after."""
    namespace = Namespace(cluster, "default")
    until(lambda: namespace.get("serviceaccount", "default"))
    volumes = [
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "disk", "emptyDir": {}},
    ]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("memory", "disk")]
    container = manifests.server_container(volumeMounts=mounts, resources={"limits": {"memory": "64Mi"}})
    on_host = manifests.pod_spec(manifests.shell("exec sleep 999"), hostNetwork=True)
    namespace.apply(
        manifests.deployment("web", 4, manifests.pod_spec(container, volumes=volumes)),
        manifests.service("web"),
        manifests.service("exposed", type="NodePort"),
        manifests.pod("on-host", on_host),
    )
    namespace.rolled_out("deployment/web")
    namespace.wait("condition=Ready", "pod/on-host")
    address = namespace.get("service", "web")["spec"]["clusterIP"]
    until(lambda: cluster.on_node("node-1", "curl", "-sf", f"{address}:8080", check=False).returncode == 0)


def assert_ended(world: World) -> None:
    until(lambda: not world.left(), within=5, what="all has ended")


def test_up_work_down(own: LocalCluster, buoy_home: Path) -> None:
    own.kubeconfig.write_text("")
    kept = {path.name for path in buoy_home.iterdir()}
    before = Host.now(except_below=buoy_home)
    own.up()
    work(own)
    world = World.of(own)
    assert len(world.processes) > 15
    assert len(world.namespaces) > 10
    during = Host.now(except_below=buoy_home)
    for name in ("interfaces", "routes", "rules", "settings", "mounts", "named_network_namespaces", "files"):
        assert getattr(during, name) == getattr(before, name), f"while it runs, the host has other {name}"
    assert f"buoy-{NAME}" in own.kubeconfig.read_text()

    own.down()
    assert_ended(world)
    assert_same(before, Host.now(except_below=buoy_home))
    assert not own.folder.exists()
    assert not mentions([str(own.folder), f"--name {NAME}"])
    assert NAME not in (own.kubeconfig.read_text() if own.kubeconfig.exists() else "")
    assert {path.name for path in buoy_home.iterdir()} - kept <= {"clusters", "images", "kubectl-cache"}


def test_its_first_process_killed_ends_it_all_and_it_can_start_again(
    own: LocalCluster, buoy_home: Path
) -> None:
    before = Host.now(except_below=buoy_home)
    own.up()
    work(own)
    namespace = Namespace(own, "default")
    namespace.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    pods = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in namespace.list("pods")}
    service = namespace.get("service", "web")["spec"]["clusterIP"]
    world = World.of(own)

    os.kill(own.first_process, signal.SIGKILL)
    assert_ended(world)
    after = Host.now(except_below=buoy_home)
    for name in ("interfaces", "routes", "rules", "settings", "mounts", "named_network_namespaces"):
        assert getattr(after, name) == getattr(before, name)
    stopped = own.buoy("status", check=False)
    assert stopped.returncode == 1
    assert "has stopped" in stopped.stderr
    assert len(stopped.stderr.splitlines()) == 1

    # Started again, it knows all it knew, and its Pods run anew.
    own.up()
    assert namespace.get("configmap", "kept")["data"] == {"a": "b"}
    assert namespace.get("service", "web")["spec"]["clusterIP"] == service

    def running_again() -> bool:
        found = namespace.list("pods")
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found} == pods and all(
            status["ready"] and status["restartCount"] >= 1
            for pod in found
            for status in pod["status"]["containerStatuses"]
        )

    until(running_again, within=60, what="the same Pods run again", every=0.3)
    reached = ("curl", "-sf", f"{service}:8080")
    until(lambda: own.on_node("node-2", *reached, check=False).returncode == 0, what="the Service answers")

    world = World.of(own)
    own.down()
    assert_ended(world)
    assert_same(before, Host.now(except_below=buoy_home))


def test_two_clusters_side_by_side(buoy_home: Path) -> None:
    """The same names of nodes, the same LAN, the same addresses: they do not know of each other."""
    one = LocalCluster(f"{NAME}-1", buoy_home, nodes=1)
    two = LocalCluster(f"{NAME}-2", buoy_home, nodes=1)
    two.kubeconfig = one.kubeconfig
    try:
        one.up()
        two.up()
        contexts = one.kubectl("config", "get-contexts", "-o", "name").stdout.split()
        assert contexts == [f"buoy-{NAME}-1", f"buoy-{NAME}-2"]
        context = ("--context", f"buoy-{NAME}-1")
        one.kubectl(*context, "create", "configmap", "only-here")
        assert one.kubectl(*context, "get", "configmap", "only-here").returncode == 0
        elsewhere = two.kubectl("get", "configmap", "only-here", check=False)
        assert 'configmaps "only-here" not found' in elsewhere.stderr
        for each in (one, two):
            found = each.buoy("kubectl", "get", "nodes", "-o", "wide").stdout
            assert "192.168.1.80" in found
        one.down()
        assert two.buoy("kubectl", "get", "nodes").stdout.split()[5:7] == ["node-1", "Ready"]
        assert two.kubectl("config", "current-context").stdout == f"buoy-{NAME}-2\n"
    finally:
        one.buoy("down", check=False)
        two.buoy("down", check=False)
    assert not one.kubeconfig.exists()


def test_up_twice_and_down_of_nothing(own: LocalCluster) -> None:
    own.up()
    again = own.up(check=False)
    assert again.returncode == 1
    assert again.stderr == f"Error: the cluster {NAME!r} is running already; buoy status shows it\n"
    own.down()
    nothing = own.buoy("down", check=False)
    assert nothing.returncode == 1
    assert nothing.stderr == f"Error: there is no cluster {NAME!r}\n"


# -- What the machine lacks is said in one clear line each


def refusal(cluster: LocalCluster, *before: str, path: str = "") -> str:
    environment = dict(cluster.environment)
    if path:
        environment["PATH"] = path
    result = run(
        [*before, BUOY, "up", "--name", cluster.name, *cluster.options], env=environment, check=False
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert not cluster.folder.exists()
    return result.stderr


def test_not_root(own: LocalCluster) -> None:
    # A user namespace without any mapping: whoever is in it is nobody.
    assert refusal(own, "unshare", "--user") == (
        "Error: not root: namespaces, containers and packet rules need it; run it with sudo\n"
    )


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (("containerd",), "containerd is not installed; apt-get install containerd"),
        (("iptables-restore",), "iptables-restore is not installed; apt-get install iptables"),
        (("crun", "runc"), "no OCI runtime (crun or runc) is installed; apt-get install crun"),
        (("nft",), "nft is not installed; apt-get install nftables"),
    ],
)
def test_a_missing_program(own: LocalCluster, tmp_path: Path, missing: tuple[str, ...], message: str) -> None:
    needed = "containerd ctr iptables-restore nft nsenter catatonit busybox curl python3 crun runc ip"
    for program in needed.split():
        path = shutil.which(program)
        if path and program not in missing:
            (tmp_path / program).symlink_to(path)
    assert refusal(own, path=str(tmp_path)) == f"Error: {message}\n"


def test_no_new_namespaces(own: LocalCluster) -> None:
    """As in an unprivileged container: root, but without the capability."""
    message = refusal(own, "setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
    assert message.startswith("Error: this machine does not let new namespaces be made; ")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lan", "10.96.0.0/16"], "--lan 10.96.0.0/16 and --service-cidr 10.96.0.0/12 overlap"),
        (["--nodes", "0"], "--nodes: a cluster has at least one node"),
        (["--proxy-mode", "magic"], "--proxy-mode 'magic': choose one of iptables"),
        (["--name", "No Good"], "--name 'No Good': a cluster name is up to 32 lower-case letters"),
    ],
)
def test_a_wish_that_cannot_be_granted(own: LocalCluster, options: list[str], message: str) -> None:
    result = run([BUOY, "up", "--no-uplink", *options], env=own.environment, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error: {message}")
    assert len(result.stderr.splitlines()) == 1
