"""Images made on the spot: the pause image every Pod needs, and stand-ins for the tutorial's three images.

Pure half: `layer` and `archive` write an OCI image layout (https://github.com/opencontainers/image-spec) with
the standard library alone. Thin half: `prepare` has a containerd of its own import the archive once; what
it has unpacked is then hard-linked into each node, so that a node starts with the images in place.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import containerd, linux
from .state import home

PAUSE = "localhost/buoy/pause:1"

STAND_IN_LABEL = "io.buoy.stand-in"
"""On a stand-in image: the name of the image that it stands in for."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FORMAT = "4"  # part of the cache key: raise it when what is written below changes

_WELCOME = b"""<!DOCTYPE html>
<html>
<head>
<title>Welcome to nginx!</title>
</head>
<body>
<h1>Welcome to nginx!</h1>
<p>This page comes from a stand-in for the nginx image, made on this machine.</p>
</body>
</html>
"""

BASE_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": b"hosts: files dns\n",
}


class ImageError(Exception):
    """An image could not be made; the message says what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image to write: full *name* with tag, *layers* as tar bytes, lowest first."""

    name: str
    layers: tuple[bytes, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def layer(
    *,
    directories: Iterable[str] = (),
    files: Mapping[str, bytes] | None = None,
    programs: Mapping[str, bytes] | None = None,
    copies: Mapping[str, Path] | None = None,
    links: Mapping[str, str] | None = None,
) -> bytes:
    """An uncompressed tar: *files*, *programs* by content, *copies* of the host's, *links* by target.

    Everybody may read all of it, whoever may on the host.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = mode
            return info

        for name in directories:
            mode = 0o1777 if name.rpartition("/")[2] == "tmp" else 0o755
            tar.addfile(entry(name, tarfile.DIRTYPE, mode))
        for name, target in (links or {}).items():
            info = entry(name, tarfile.SYMTYPE, 0o777)
            info.linkname = target
            tar.addfile(info)
        for contents, mode in ((files, 0o644), (programs, 0o755)):
            for name, content in (contents or {}).items():
                info = entry(name, tarfile.REGTYPE, mode)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        for name, source in (copies or {}).items():
            status = source.stat()
            info = entry(name, tarfile.REGTYPE, 0o755 if status.st_mode & 0o111 else 0o644)
            info.size = status.st_size
            info.mtime = int(status.st_mtime)  # compiled Python files are checked against it
            with source.open("rb") as stored:
                tar.addfile(info, stored)
    return stream.getvalue()


def archive(images: Iterable[Image]) -> bytes:
    """An OCI image layout in a tar, as ``ctr images import`` reads it."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    index = []
    for image in images:
        layers = [blob(content, "application/vnd.oci.image.layer.v1.tar") for content in image.layers]
        environment = {"PATH": _PATH, **image.environment}
        configuration = {
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Env": [f"{name}={value}" for name, value in environment.items()],
                "Entrypoint": list(image.entrypoint),
                "Cmd": list(image.command),
                "Labels": dict(image.labels),
            },
            "rootfs": {"type": "layers", "diff_ids": [item["digest"] for item in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob(json.dumps(configuration).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": layers,
        }
        descriptor = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
        index.append({**descriptor, "annotations": {"io.containerd.image.name": image.name}})
    contents = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": index}).encode(),
        **blobs,
    }
    return layer(files=contents)


def pause_image() -> Image:
    """The image that holds a Pod's namespaces: catatonit, which waits and reaps."""
    binary = program("catatonit")
    return Image(
        PAUSE,
        (layer(copies={"pause": binary}),),
        entrypoint=("/pause", "-P"),
    )


def stand_in_images() -> tuple[Image, ...]:
    """Stand-ins for python:3.7, appropriate/curl and nginx:1.7.9, of this machine's own programs."""
    base = base_layer()
    python = python_layer(program("python3"))
    pages = layer(directories=["www"], files={"www/index.html": _WELCOME})
    images = (
        Image("docker.io/library/python:3.7", (base, python), command=("python3",)),
        Image("docker.io/appropriate/curl:latest", (base,), command=("sh",)),
        Image(
            "docker.io/library/nginx:1.7.9",
            (base, pages),
            command=("busybox", "httpd", "-f", "-p", "80", "-h", "/www"),
        ),
    )
    return tuple(
        Image(image.name, image.layers, image.entrypoint, image.command, {STAND_IN_LABEL: image.name})
        for image in images
    )


def program(name: str) -> Path:
    """Where this machine has it. Raises ImageError if it has not."""
    path = shutil.which(name, path=_PATH)
    if path is None:
        package = {"busybox": "busybox-static", "ip": "iproute2", "printenv": "coreutils"}.get(name, name)
        raise ImageError(f"{name} is needed to make images and is not installed; apt-get install {package}")
    return Path(path).resolve()


def libraries(programs: Iterable[Path]) -> dict[str, Path]:
    """The shared libraries that *programs* load, by their place in the image."""
    result = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False)
    found: dict[str, Path] = {}
    for match in re.finditer(r"(?:=> )?(/\S+) \(0x", result.stdout):
        wanted = Path(match[1])
        # Debian's /lib and /lib64 are links into /usr; the image has the same links.
        place = str(wanted.parent.resolve() / wanted.name).lstrip("/")
        found[place] = wanted.resolve()
    return found


def base_layer() -> bytes:
    """A small system: busybox, curl, the C library and its name services."""
    busybox = program("busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    curl, printenv = program("curl"), program("printenv")  # Debian's busybox has no printenv
    copies = {"usr/bin/busybox": busybox, "usr/bin/curl": curl, "usr/bin/printenv": printenv}
    copies |= libraries([curl, printenv])
    # glibc loads its name service at run time; ldd does not show it.
    for plugin in ("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"):
        for folder in Path("/usr/lib").glob("*-linux-gnu"):
            if (folder / plugin).exists():
                copies[str(folder / plugin).lstrip("/")] = (folder / plugin).resolve()
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    if certificates.exists():
        copies["etc/ssl/certs/ca-certificates.crt"] = certificates
    links = {f"usr/bin/{applet}": "busybox" for applet in applets if f"usr/bin/{applet}" not in copies}
    links |= {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")}
    directories = [
        "usr",
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "etc",
        "root",
        "tmp",
        "var",
        "var/tmp",
    ]
    directories += ["proc", "sys", "dev", "run", "home"]
    return layer(directories=directories, links=links, files=BASE_FILES, copies=copies)


def python_layer(python: Path) -> bytes:
    """An interpreter with its standard library and the shared libraries that they load."""
    version = subprocess.run(
        [
            python,
            "-I",
            "-c",
            "import sys, sysconfig; print(sysconfig.get_path('stdlib'), sys.version_info[1])",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    library = Path(version[0])
    left_out = {
        "test",
        "idlelib",
        "lib2to3",
        "ensurepip",
        "tkinter",
        "turtledemo",
        "pydoc_data",
        "site-packages",
    }
    copies = {f"usr/bin/python3.{version[1]}": python}
    modules = []
    for path in library.rglob("*"):
        parts = path.relative_to(library).parts
        if parts[0] in left_out or parts[0].startswith("config-") or not path.is_file():
            continue
        if path.name.startswith("_tkinter"):  # it would bring a whole window system
            continue
        if ".opt-" in path.name:  # compiled for -O, which is never given
            continue
        if path.suffix in (".py", ".pyc", ".so"):
            copies[f"usr/lib/python3.{version[1]}/{'/'.join(parts)}"] = path.resolve()
        if path.suffix == ".so":
            modules.append(path)
    copies |= libraries([python, *modules])
    links = dict.fromkeys(("usr/bin/python3", "usr/bin/python"), f"python3.{version[1]}")
    return layer(copies=copies, links=links)


def _key(kinds: str) -> str:
    """What the prepared images depend on: change any of it and they are made again."""
    facts = [_FORMAT, kinds, containerd.version(), containerd.snapshotter(home())]
    for name in ("catatonit", "busybox", "curl", "python3"):
        path = shutil.which(name, path=_PATH)
        if path:
            status = Path(path).resolve().stat()
            facts.append(f"{name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def prepare(stand_ins: bool) -> Path:
    """A containerd root with the images imported and unpacked; made at the first call, kept for later ones.

    Raises ImageError.
    """
    folder = home() / "images"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    prepared = folder / _key("stand-ins" if stand_ins else "pause")
    if prepared.exists():
        return prepared
    images = [pause_image(), *(stand_in_images() if stand_ins else ())]
    work = folder / f".{prepared.name}.{os.getpid()}"
    work.mkdir(mode=0o700)
    try:
        (work / "images.tar").write_bytes(archive(images))
        with _private_containerd(work) as socket:
            _import(socket, work / "images.tar")
        try:
            (work / "root").rename(prepared)
        except OSError:
            if not prepared.exists():  # somebody else may have been faster
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return prepared


def link(prepared: Path, root: Path) -> None:
    """Give a node the prepared images: its containerd root, files shared by hard links, databases its own."""
    root.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-al", str(prepared), str(root)], check=True)
    for database in _databases(prepared):
        copy = root / database.relative_to(prepared)
        copy.unlink()
        shutil.copy2(database, copy)


def _databases(root: Path) -> Iterator[Path]:
    yield from root.glob("io.containerd.*/*.db")


def _import(socket: Path, source: Path) -> None:
    result = subprocess.run(
        ["ctr", "--address", str(socket), "--namespace", "k8s.io", "images", "import", str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise ImageError(f"containerd did not import the images: {result.stderr.strip()}")


@contextmanager
def _private_containerd(work: Path) -> Iterator[Path]:
    """A containerd in mount and network namespaces of its own, for as long as the context lasts."""
    configuration = containerd.Configuration(
        root=str(work / "root"),
        state="/run/containerd",
        socket="/run/containerd.sock",
        sandbox_image=PAUSE,
        snapshotter=containerd.snapshotter(work),
        cri=False,
    )
    (work / "containerd.toml").write_text(configuration.toml())
    log = (work / "containerd.log").open("wb")

    def isolate() -> None:
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWNET)
        linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
        linux.mount("tmpfs", "/run", "tmpfs")
        linux.die_with_parent(signal.SIGKILL)

    with log:
        process = subprocess.Popen(
            ["containerd", "--config", str(work / "containerd.toml")],
            stdout=log,
            stderr=log,
            preexec_fn=isolate,  # no threads here, and namespaces can only be left before exec
        )
    try:
        # Its /run is its own; and the path of a socket must be short, which that of *work* may not be.
        socket = Path(f"/proc/{process.pid}/root/run/containerd.sock")
        deadline = time.monotonic() + 20
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ImageError(f"containerd did not start: {(work / 'containerd.log').read_text()[-2000:]}")
            time.sleep(0.01)
        yield socket
    finally:
        process.terminate()
        process.wait()
