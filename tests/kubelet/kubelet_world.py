"""A node for tests: namespaces of its own with containerd and a kubelet in them, and an API server for it.

The API server listens on the host's loopback, for the tests, and in the node's network, for the kubelet.
Nothing of it leaves these namespaces; ending the node's first process ends it all.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NODE = "node-1"
NODE_IP = "192.168.1.80"
PAUSE = "localhost/test/pause:1"
BOX = "localhost/test/box:1"
STAND_IN = "localhost/test/stand-in:1"
_HERE = Path(__file__).parent

_INIT = """
mount --make-rprivate /
if mountpoint -q /sys/fs/cgroup/unified; then
    umount /sys/fs/cgroup/unified
    mount -t tmpfs tmpfs /sys/fs/cgroup/unified
fi
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /var/log
mkdir -p /run/netns /run/cni /var/lib/containerd
ip link set lo up
ip address add 192.168.1.80/32 dev lo
sysctl -qw net.ipv4.ip_forward=1
touch /run/ready
exec catatonit -P
"""

_CONTAINERD = """
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/run/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "default"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.default]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.default.options]
BinaryName = "{runtime}"
"""

CNI = {
    "cniVersion": "0.4.0",
    "name": "test",
    "plugins": [
        {
            "type": "ptp",
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/ipam",
                "ranges": [[{"subnet": "10.244.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


def _layer(files: dict[str, str | bytes], links: dict[str, str]) -> bytes:
    """A tar of *files* (content, or the path of a program here) and symbolic *links*."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("bin", "etc", "proc", "sys", "dev", "root", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(entry)
        for name, source in files.items():
            content = source if isinstance(source, bytes) else Path(source).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()


def _archive(path: Path, images: dict[str, tuple[bytes, dict[str, object]]]) -> None:
    """A docker archive of images: for each name, its only layer and its configuration."""
    blobs: dict[str, bytes] = {}
    manifest = []
    for name, (layer, config) in images.items():
        digest = hashlib.sha256(layer).hexdigest()
        described = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            }
        ).encode()
        config_name = hashlib.sha256(described).hexdigest() + ".json"
        blobs |= {f"{digest}.tar": layer, config_name: described}
        manifest.append({"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}.tar"]})
    blobs["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in blobs.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def _images(path: Path) -> None:
    applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    passwd = b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"
    box = _layer(
        {"bin/busybox": "/bin/busybox", "etc/passwd": passwd},
        {f"bin/{applet}": "busybox" for applet in applets if applet != "busybox"},
    )
    pause = _layer({"pause": "/usr/bin/catatonit"}, {})
    path_variable = ["PATH=/bin"]
    _archive(
        path,
        {
            PAUSE: (pause, {"Entrypoint": ["/pause", "-P"]}),
            BOX: (box, {"Cmd": ["sh"], "Env": path_variable}),
            STAND_IN: (
                box,
                {
                    "Cmd": ["sh"],
                    "Env": path_variable,
                    "Labels": {"io.buoy.stand-in": "docker.io/library/x:1"},
                },
            ),
        },
    )


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-ca")])
        self.certificate = str(folder / "ca.crt")
        Path(self.certificate).write_bytes(self._sign(self._name, self._key, authority=True))
        self.service_account_key = self._write_key("service-account", ec.generate_private_key(ec.SECP256R1()))

    def _write_key(self, stem: str, key: ec.EllipticCurvePrivateKey) -> str:
        path = self._folder / f"{stem}.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return str(path)

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool = False) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            names = [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ("127.0.0.1", NODE_IP)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, common_name: str, organization: str = "") -> tuple[str, str]:
        """Paths of a new certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        stem = common_name.replace(":", "-")
        certificate = self._folder / f"{stem}.crt"
        certificate.write_bytes(self._sign(x509.Name(attributes), key))
        return str(certificate), self._write_key(stem, key)

    def kubeconfig(self, server: str, common_name: str, organization: str) -> str:
        """The path of a kubeconfig with a certificate of that name."""
        certificate, key = self.issue(common_name, organization)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [
                {"name": "test", "cluster": {"server": server, "certificate-authority": self.certificate}}
            ],
            "users": [{"name": "test", "user": {"client-certificate": certificate, "client-key": key}}],
        }
        path = self._folder / f"{common_name.replace(':', '-')}.kubeconfig"
        path.write_text(json.dumps(config))
        return str(path)


class World:
    """One node and its API server. Everything can be killed and started again by itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cgroup_root = f"/buoy-test-{os.getpid()}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.authority = Authority(folder)
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.api_port = listener.getsockname()[1]
        self._listener = listener
        self.admin = self.authority.kubeconfig(
            f"https://127.0.0.1:{self.api_port}", "admin", "system:masters"
        )

    # -- the node

    def start(self) -> None:
        unshare = [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        self._spawn("init", [*unshare, "sh", "-ec", _INIT])
        deadline = time.monotonic() + 20
        while True:
            children = Path(
                f"/proc/{self._processes['init'].pid}/task/{self._processes['init'].pid}/children"
            )
            with contextlib.suppress(OSError):
                found = children.read_text().split()
                if found and os.path.exists(f"/proc/{found[0]}/root/run/ready"):
                    self.pid = int(found[0])
                    break
            if time.monotonic() > deadline or self._processes["init"].poll() is not None:
                raise TimeoutError(f"the node's namespaces did not come up: {self.log('init')}")
            time.sleep(0.01)
        (self.folder / "containerd.toml").write_text(
            _CONTAINERD.format(pause=PAUSE, runtime=shutil.which("crun") or "runc")
        )
        self.start_containerd()
        _images(self.folder / "images.tar")
        self.wait_for_containerd()
        self.run("ctr", "-n", "k8s.io", "images", "import", str(self.folder / "images.tar"))

    def inside(self, path: str) -> str:
        """A path of the node as it is seen from outside."""
        return f"/proc/{self.pid}/root{path}"

    @property
    def runtime_endpoint(self) -> str:
        return self.inside("/run/containerd/containerd.sock")

    def _enter(self, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-i", "-u", *command]

    def run(self, *command: str) -> str:
        """What a command on the node prints. It must succeed."""
        done = subprocess.run(self._enter(*command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def write_cni(self, *, there: bool = True) -> None:
        path = Path(self.inside("/run/cni/10-test.conflist"))
        if there:
            path.write_text(json.dumps(CNI))
        else:
            path.unlink(missing_ok=True)

    def start_containerd(self) -> None:
        self._spawn("containerd", self._enter("containerd", "-c", str(self.folder / "containerd.toml")))

    def wait_for_containerd(self) -> None:
        deadline = time.monotonic() + 20
        while subprocess.run(self._enter("ctr", "version"), capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise TimeoutError((self.folder / "containerd.log").read_text())
            time.sleep(0.02)

    def start_kubelet(self, **options: object) -> None:
        certificate, key = self.authority.issue(f"system:node:{NODE}", "system:nodes")
        described = {
            "kubeconfig": self.authority.kubeconfig(
                f"https://{NODE_IP}:6443", f"system:node:{NODE}", "system:nodes"
            ),
            "node_name": NODE,
            "node_ips": [NODE_IP],
            "tls_cert": certificate,
            "tls_key": key,
            "client_ca": self.authority.certificate,
            "cgroup_root": self.cgroup_root,
            "resolv_conf": str(self.folder / "resolv.conf"),
            **options,
        }
        (self.folder / "resolv.conf").write_text("nameserver 192.0.2.53\nsearch example.org\n")
        path = self.folder / "kubelet.json"
        path.write_text(json.dumps(described))
        self._spawn(
            "kubelet", self._enter(sys.executable, str(_HERE / "kubelet_process.py"), "kubelet", str(path))
        )

    def start_api_server(self) -> None:
        certificate, key = self.authority.issue("kube-apiserver")
        client_certificate, client_key = self.authority.issue(
            "kube-apiserver-kubelet-client", "system:masters"
        )
        described = {
            "advertise_address": NODE_IP,
            "advertise_port": 6443,
            "store_path": str(self.folder / "store.sqlite"),
            "tls_cert": certificate,
            "tls_key": key,
            "client_ca": self.authority.certificate,
            "service_account_key": self.authority.service_account_key,
            "kubelet_client_cert": client_certificate,
            "kubelet_client_key": client_key,
            "kubelet_ca": self.authority.certificate,
        }
        path = self.folder / "apiserver.json"
        path.write_text(json.dumps(described))
        listener = self._listener.fileno()
        self._spawn(
            "apiserver",
            [
                sys.executable,
                str(_HERE / "kubelet_process.py"),
                "apiserver",
                str(path),
                str(listener),
                str(self.pid),
            ],
            pass_fds=(listener,),
        )

    # -- processes

    def _spawn(self, name: str, command: list[str], pass_fds: tuple[int, ...] = ()) -> None:
        with open(self.folder / f"{name}.log", "ab") as output:
            self._processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
                start_new_session=True,
            )

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a process (of init, containerd, kubelet, apiserver), by default without warning."""
        process = self._processes.pop(name)
        # nsenter forks for the PID namespace: the process itself is its child.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in [
            *map(int, children),
            *([process.pid] if number == signal.SIGKILL or not children else []),
        ]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        process.wait(20)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def close(self) -> None:
        for name in list(self._processes):
            if name != "init":
                self.kill(name)
        if "init" in self._processes:
            self.kill("init")
        self._listener.close()
        for hierarchy in _hierarchies():
            _remove_cgroups(Path(hierarchy + self.cgroup_root))


def _hierarchies() -> list[str]:
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] in ("cgroup", "cgroup2"):
            found.append(fields[1])
    return found


def _remove_cgroups(root: Path) -> None:
    deadline = time.monotonic() + 10
    for directory, _, _ in os.walk(root, topdown=False):
        while True:
            try:
                os.rmdir(directory)
                break
            except FileNotFoundError:
                break
            except OSError:  # the last processes of killed containers are still going
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
