"""What a local cluster needs of the machine, checked before anything is started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import containerd, linux, uplink
from .config import ClusterConfig
from .supervisor import in_child


@dataclass(frozen=True, slots=True)
class Problem:
    """A precondition that does not hold, and what to do about it."""

    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


_PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "iptables-restore": "iptables",
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "catatonit": "catatonit",
}
_STAND_IN_PROGRAMS = {"busybox": "busybox-static", "curl": "curl", "python3": "python3"}


def problems(config: ClusterConfig) -> Iterator[Problem]:
    """All that is missing. Nothing of the machine is changed by looking."""
    if os.geteuid() != 0:
        yield Problem("not root: namespaces, containers and packet rules need it", "run it with sudo")
        return
    programs = _PROGRAMS | (_STAND_IN_PROGRAMS if config.stand_in_images else {})
    for program, package in programs.items():
        if shutil.which(program) is None:
            yield Problem(f"{program} is not installed", f"apt-get install {package}")
    if shutil.which("crun") is None and shutil.which("runc") is None:
        yield Problem("no OCI runtime (crun or runc) is installed", "apt-get install crun")
    for plugin in ("ptp", "host-local", "portmap", "loopback", "tuning"):
        if not Path(containerd.CNI_PLUGINS, plugin).exists():
            yield Problem(
                f"the CNI plugin {containerd.CNI_PLUGINS}/{plugin} is not installed",
                "apt-get install containernetworking-plugins",
            )
            break
    if config.uplink and not uplink.available():
        yield Problem(
            "pasta, the way out of the cluster, is not installed", "apt-get install passt, or --no-uplink"
        )
    if config.ip_family != "ipv4" and not os.path.exists("/proc/sys/net/ipv6"):
        yield Problem("this machine's kernel has no IPv6", "use --ip-family ipv4")
    if not os.path.ismount("/sys/fs/cgroup"):
        yield Problem("no cgroups are mounted at /sys/fs/cgroup", "mount them, or run on the host itself")
    elif not os.access("/sys/fs/cgroup", os.W_OK):
        yield Problem("the cgroups at /sys/fs/cgroup are read-only", "run in a privileged container")
    if not _namespaces_allowed():
        yield Problem(
            "this machine does not let new namespaces be made",
            "run outside of a container, or in a privileged one (CAP_SYS_ADMIN, no seccomp filter)",
        )


def _namespaces_allowed() -> bool:
    def attempt() -> None:
        try:
            linux.unshare(
                linux.CLONE_NEWNS
                | linux.CLONE_NEWPID
                | linux.CLONE_NEWNET
                | linux.CLONE_NEWUTS
                | linux.CLONE_NEWIPC
            )
        except OSError:
            raise SystemExit(1) from None

    try:
        in_child(attempt)
    except ChildProcessError:
        return False
    return True
