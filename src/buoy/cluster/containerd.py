"""containerd's configuration on a node."""

from __future__ import annotations

import functools
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CNI_PLUGINS = "/usr/lib/cni"


@dataclass(frozen=True, slots=True)
class Configuration:
    """The part of containerd's ``config.toml`` (version 2) that a node decides."""

    root: str
    state: str
    socket: str
    sandbox_image: str
    snapshotter: str = "overlayfs"
    runtime: str = "runc"
    cni_configuration: str = "/etc/cni/net.d"
    cri: bool = True

    def toml(self) -> str:
        """The file's text. Strings are quoted as JSON, which TOML reads."""
        disabled = [
            f"io.containerd.snapshotter.v1.{name}"
            for name in ("aufs", "btrfs", "devmapper", "zfs", "native", "overlayfs")
            if name != self.snapshotter
        ]
        disabled += ["io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
        disabled += ["io.containerd.internal.v1.opt"]
        if not self.cri:
            disabled.append("io.containerd.grpc.v1.cri")
        quoted = ", ".join(f'"{name}"' for name in disabled)
        lines = [
            "version = 2",
            f'root = "{self.root}"',
            f'state = "{self.state}"',
            f"disabled_plugins = [{quoted}]",
            "oom_score = 0",
            "[grpc]",
            f'address = "{self.socket}"',
        ]
        if self.cri:
            lines += [
                '[plugins."io.containerd.grpc.v1.cri"]',
                f'sandbox_image = "{self.sandbox_image}"',
                'stream_server_address = "127.0.0.1"',
                'stream_server_port = "0"',
                "restrict_oom_score_adj = true",
                "max_concurrent_downloads = 3",
                '[plugins."io.containerd.grpc.v1.cri".cni]',
                f'bin_dir = "{CNI_PLUGINS}"',
                f'conf_dir = "{self.cni_configuration}"',
                '[plugins."io.containerd.grpc.v1.cri".containerd]',
                f'snapshotter = "{self.snapshotter}"',
                'default_runtime_name = "default"',
                '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.default]',
                'runtime_type = "io.containerd.runc.v2"',
                '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.default.options]',
                f'BinaryName = "{self.runtime}"',
            ]
        return "\n".join(lines) + "\n"


@functools.cache
def version() -> str:
    """What ``containerd --version`` prints. FileNotFoundError if it is not installed."""
    result = subprocess.run(["containerd", "--version"], capture_output=True, text=True, check=True)
    return result.stdout.strip()


def oci_runtime() -> str:
    """The OCI runtime to use: crun, which is the faster, else runc."""
    return shutil.which("crun") or shutil.which("runc") or "runc"


@functools.cache
def snapshotter(folder: Path) -> str:
    """``overlayfs`` where the file system of *folder* can carry an overlay, else ``native`` (copies)."""
    probe = folder
    while not probe.exists():
        probe = probe.parent
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    deepest = max(
        (mount for mount in mounts if probe.resolve().is_relative_to(mount[1])),
        key=lambda mount: len(mount[1]),
    )
    return "native" if deepest[2] in ("overlay", "fuse-overlayfs", "nfs", "nfs4") else "overlayfs"
