"""BIRD, an independent BGP router, in a namespace of a test."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Self

from topology import Namespace


class Bird:
    """A router with AS number 64513 that takes whatever *neighbors* announce, over equal paths at once.

    *neighbors* are protocol blocks' contents by protocol name.
    """

    def __init__(self, namespace: Namespace, router_id: str, folder: Path, neighbors: dict[str, str]) -> None:
        self.namespace = namespace
        self._socket = folder / "bird.ctl"
        self._file = folder / "bird.conf"
        self._file.write_text(
            f"router id {router_id};\n"
            "log stderr all;\n"
            "protocol device { scan time 1; }\n"
            "protocol bfd { }\n"
            "protocol kernel { ipv4 { export where source = RTS_BGP; }; merge paths on; }\n"
            "protocol kernel { ipv6 { export where source = RTS_BGP; }; merge paths on; }\n"
            + "".join(f"protocol bgp {name} {{ {text} }}\n" for name, text in neighbors.items())
        )
        namespace.run("bird", "-p", "-c", str(self._file))  # says what it does not understand
        self._process = namespace.call(
            subprocess.Popen,
            ["bird", "-f", "-c", str(self._file), "-s", str(self._socket)],
            stderr=subprocess.DEVNULL,
        )

    def ask(self, *command: str) -> str:
        return self.namespace.run("birdc", "-s", str(self._socket), *command, check=False)

    def established(self, name: str) -> bool:
        return "Established" in self.ask("show", "protocols", name)

    def since(self, name: str) -> str:
        """When the session of *name* last changed its state."""
        return self.ask("show", "protocols", name).splitlines()[-1].split()[4]

    def routes(self) -> dict[str, set[str]]:
        """The protocols that announce each prefix."""
        found: dict[str, set[str]] = {}
        prefix = ""
        for line in self.ask("show", "route").splitlines():
            if match := re.match(r"(\S+/\d+)?\s+unicast \[(\S+) ", line):
                prefix = match[1] or prefix
                found.setdefault(prefix, set()).add(match[2])
        return found

    def attributes(self, prefix: str) -> str:
        return self.ask("show", "route", prefix, "all")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
