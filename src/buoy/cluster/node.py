"""A node: PID, mount, UTS, IPC and network namespaces, containerd and the node's components in them.

Its first process supervises them; ending that process is a power cut of the node.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .. import dns, kubelet, loadbalancer, network, proxy
from ..network import lan
from . import cluster_dns, containerd, linux, pki, storage, uplink
from .config import ClusterConfig
from .images import PAUSE
from .process import run_component
from .state import StateFolder
from .supervisor import Process, Supervisor, execute, in_child, spawn

HERE = Path("/run/buoy")
"""Where a node sees its own part of the state folder."""

_CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


def start(config: ClusterConfig, folder: StateFolder, node: str) -> int:
    """Start the node from the world's first process; the number of the node's own first process there."""
    numbers, number = os.pipe()
    plugged, plug = os.pipe()

    def step_aside() -> None:
        # A PID namespace holds the children of the process that asked for it, not the process itself.
        # What the world holds is not for nodes: the API's sockets, the way back to the host's network.
        linux.close_all_but(number, plugged)
        linux.unshare(
            linux.CLONE_NEWPID
            | linux.CLONE_NEWNS
            | linux.CLONE_NEWUTS
            | linux.CLONE_NEWIPC
            | linux.CLONE_NEWNET
        )
        first = spawn(node, lambda: _main(config, folder, node, plugged), folder.log("init", node))
        os.write(number, str(first).encode())

    aside = spawn(node, step_aside)
    os.close(number)
    os.close(plugged)
    try:
        pid = int(os.read(numbers, 32) or b"0")
        os.waitpid(aside, 0)
        if not pid:
            raise ChildProcessError(f"{node} did not start; see {folder.log('init', node)}")
        in_child(lambda: lan.attach(node, pid))
        os.write(plug, b"plugged")
        return pid
    finally:
        os.close(numbers)
        os.close(plug)


def _main(config: ClusterConfig, folder: StateFolder, node: str, plugged: int) -> None:
    linux.sethostname(node)
    _mount(folder.node(node))
    if not os.read(plugged, 16):
        raise ChildProcessError("the LAN did not come up")
    os.close(plugged)
    in_child(lambda: _configure(config, config.node_addresses(node)))
    in_child(lambda: cluster_dns.install(config.cluster_dns))
    resolving = _dns_options(config, node)
    questions = dns.open_sockets(resolving)  # they wait here while the server is restarted
    processes = [
        Process("containerd", lambda: spawn("containerd", _containerd, HERE / "log/containerd.log")),
        Process(
            "kubelet",
            lambda: spawn("kubelet", lambda: _kubelet(config, folder, node), HERE / "log/kubelet.log"),
        ),
        Process("proxy", lambda: spawn("proxy", lambda: _proxy(config, node), HERE / "log/proxy.log")),
        Process("dns", lambda: spawn("dns", lambda: _dns(resolving, questions), HERE / "log/dns.log")),
    ]
    if config.has_load_balancer:
        speaker = Process(
            "speaker", lambda: spawn("speaker", lambda: _speaker(node), HERE / "log/speaker.log")
        )
        processes.append(speaker)
    Supervisor(processes, HERE / "restarts.json").run()


def prepare(config: ClusterConfig, folder: StateFolder, node: str) -> None:
    """Write the node's own files. Called once, before its first start."""
    here = folder.node(node)
    for name in ("kubelet", "pods", "log", "cni", "pki"):
        (here / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    configuration = containerd.Configuration(
        root="/var/lib/containerd",
        state="/run/containerd",
        socket=_CONTAINERD_SOCKET,
        sandbox_image=PAUSE,
        snapshotter=containerd.snapshotter(here),
        runtime=containerd.oci_runtime(),
        cni_configuration=str(HERE / "cni"),
    )
    (here / "containerd.toml").write_text(configuration.toml())
    forwarder = uplink.DNS_FORWARDER[config.primary.version]
    resolver = f"nameserver {forwarder}\n" if config.uplink else "# no way out of the cluster\n"
    (here / "resolv.conf").write_text(resolver)
    names = [("127.0.0.1", "localhost"), ("::1", "localhost ip6-localhost ip6-loopback")]
    names += [(address, node) for address in config.node_addresses(node)]
    (here / "hosts").write_text("".join(f"{address}\t{name}\n" for address, name in names))
    keys = [
        (folder.pki / "ca.crt", "ca.crt"),
        (folder.pki / f"{node}.kubelet.crt", "kubelet.crt"),
        (folder.pki / f"{node}.kubelet.key", "kubelet.key"),
    ]
    for name, _ in pki.node_identities(config, node):
        keys.append((folder.component_kubeconfig(f"{node}.{name}"), f"{name}.kubeconfig"))
    if config.has_load_balancer:
        keys.append((folder.pki / "speakers.key", "speakers.key"))
    for source, target in keys:
        destination = here / "pki" / target
        destination.unlink(missing_ok=True)
        destination.hardlink_to(source)


def _mount(here: Path) -> None:
    """The node's view of the file system: the host's, with the places that containers use its own."""
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    (here / storage.FOLDER).mkdir(mode=0o700, exist_ok=True)
    kept = ("containerd", "kubelet", "pods", storage.FOLDER)
    sources = {name: os.open(here / name, os.O_PATH) for name in kept}
    own = os.open(here, os.O_PATH)
    resolvers = os.path.realpath("/etc/resolv.conf")
    for target in ("/run", "/var/lib", "/var/log"):
        linux.mount("tmpfs", target, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
    HERE.mkdir()
    linux.mount(f"/proc/self/fd/{own}", str(HERE), flags=linux.MS_BIND | linux.MS_REC)
    for source, target in (
        (sources["containerd"], "/var/lib/containerd"),
        (sources["kubelet"], "/var/lib/kubelet"),
        (sources["pods"], "/var/log/pods"),
        (sources[storage.FOLDER], storage.NODE_PATH),
    ):
        os.makedirs(target)
        linux.mount(f"/proc/self/fd/{source}", target, flags=linux.MS_BIND | linux.MS_REC)
    for descriptor in (*sources.values(), own):
        os.close(descriptor)
    if not os.path.exists(resolvers):  # it may be a link into /run, which is empty now
        os.makedirs(os.path.dirname(resolvers), exist_ok=True)
        Path(resolvers).touch()
    linux.mount(str(HERE / "resolv.conf"), resolvers, flags=linux.MS_BIND)
    if os.path.exists("/etc/hosts"):
        linux.mount(str(HERE / "hosts"), os.path.realpath("/etc/hosts"), flags=linux.MS_BIND)
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    # Volumes mounted by the kubelet have to reach containers that ask for mount propagation.
    linux.mount("none", "/var/lib/kubelet", flags=linux.MS_REC | linux.MS_SHARED)
    if os.path.ismount("/sys/fs/cgroup/unified"):
        linux.umount("/sys/fs/cgroup/unified", linux.MNT_DETACH)  # crun refuses the hybrid layout
        # It writes there all the same, and below is a file system that the host shares.
        linux.mount("tmpfs", "/sys/fs/cgroup/unified", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV)


def _configure(config: ClusterConfig, addresses: Sequence[str]) -> None:
    """Give a machine its *addresses*, one of each of the cluster's IP families."""
    own = [network.on_lan(address) for network, address in zip(config.networks, addresses, strict=True)]
    lan.configure(own, [network.gateway for network in config.networks])


def _containerd() -> NoReturn:
    execute(
        ["containerd", "--config", str(HERE / "containerd.toml")],
        # A node is small: a smaller heap is worth a little more collecting.
        {"GOGC": "40", "GOMAXPROCS": "2"},
    )


def _kubelet(config: ClusterConfig, folder: StateFolder, node: str) -> None:
    options = kubelet.Options(
        kubeconfig=str(HERE / "pki/kubelet.kubeconfig"),
        node_name=node,
        node_ips=config.node_addresses(node),
        runtime_endpoint=_CONTAINERD_SOCKET,
        cluster_dns=config.cluster_dns,
        resolv_conf=str(HERE / "resolv.conf"),
        tls_cert=str(HERE / "pki/kubelet.crt"),
        tls_key=str(HERE / "pki/kubelet.key"),
        client_ca=str(HERE / "pki/ca.crt"),
        cgroup_root=f"/{folder.cgroup}/{node}",
    )
    network_options = network.Options(
        kubeconfig=str(HERE / "pki/network.kubeconfig"),
        node_name=node,
        cluster_cidrs=config.pod_cidrs,
        cni_dir=str(HERE / "cni"),
    )
    run_component(lambda: kubelet.run(options), lambda: network.run(network_options))


def _proxy(config: ClusterConfig, node: str) -> None:
    options = proxy.Options(
        kubeconfig=str(HERE / "pki/proxy.kubeconfig"),
        node_name=node,
        node_ips=config.node_addresses(node),
        mode=config.proxy_mode,
        families=tuple(f"IPv{network.version}" for network in config.networks),
        cluster_cidrs=config.pod_cidrs,
        healthz_bind=":10256",  # in every IP family
    )
    run_component(lambda: proxy.run(options))


def _dns_options(config: ClusterConfig, node: str) -> dns.Options:
    return dns.Options(
        kubeconfig=str(HERE / "pki/dns.kubeconfig"),
        node_name=node,
        listen=config.cluster_dns,
        resolv_conf=str(HERE / "resolv.conf"),
        http_bind=tuple(str(dns.Address(host, cluster_dns.METRICS_PORT)) for host in config.cluster_dns),
    )


def _dns(options: dns.Options, sockets: tuple[socket.socket, ...]) -> None:
    run_component(lambda: dns.run(options, sockets))


def _speaker(node: str) -> None:
    options = loadbalancer.SpeakerOptions(
        kubeconfig=str(HERE / "pki/speaker.kubeconfig"),
        node_name=node,
        key_file=str(HERE / "pki/speakers.key"),
    )
    run_component(lambda: loadbalancer.run_speaker(options))


def outside(config: ClusterConfig, folder: StateFolder) -> int:
    """Start the machine outside the cluster: a network namespace on the LAN, held by a process that waits."""
    unshared, tell = os.pipe()
    plugged, plug = os.pipe()
    program = folder.path / "outside"  # the process is named after the file that it runs
    program.unlink(missing_ok=True)
    program.symlink_to(shutil.which("catatonit") or "catatonit")

    def main() -> None:
        os.close(plug)
        linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWUTS)
        linux.sethostname("outside")
        os.write(tell, b"unshared")
        if os.read(plugged, 16):
            in_child(lambda: _configure(config, [network.outside for network in config.networks]))
            execute([str(program), "-P"])

    pid = spawn("outside", main, folder.log("outside"))
    try:
        os.close(tell)
        os.close(plugged)
        os.read(unshared, 16)
        in_child(lambda: lan.attach("outside", pid))
        os.write(plug, b"plugged")
    finally:
        os.close(unshared)
        os.close(plug)
    return pid
