"""Who has which address on a LAN, as programs that are none of ours see it: arping, ndisc6, ip, tcpdump."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from typing import Self

from topology import Namespace


def mac(namespace: Namespace) -> str:
    return str(json.loads(namespace.run("ip", "-json", "link", "show", "eth0"))[0]["address"])


def arping(client: Namespace, address: str, *, count: int = 1, wait: int = 1) -> list[str]:
    """The hardware addresses that answer *count* broadcast requests, one for each answer."""
    said = client.run("arping", "-b", "-c", str(count), "-w", str(wait), "-I", "eth0", address, check=False)
    return [found.lower() for found in re.findall(r"\[([0-9A-Fa-f:]{17})\]", said)]


def ndisc(client: Namespace, address: str, *, wait: int = 1000) -> list[str]:
    """The hardware addresses that answer one neighbour solicitation."""
    said = client.run("ndisc6", "-m", "-n", "-r", "1", "-w", str(wait), address, "eth0", check=False)
    return [found.lower() for found in re.findall(r"link-layer address: ([0-9A-Fa-f:]{17})", said)]


def neighbour(client: Namespace, address: str) -> str:
    """The hardware address in the client's own cache, empty for none."""
    found = json.loads(client.run("ip", "-json", "neigh", "show", address, "dev", "eth0") or "[]")
    return str(found[0].get("lladdr", "")) if found else ""


class Capture:
    """What tcpdump sees in a namespace, line by line. Each begins with the time in seconds."""

    def __init__(self, namespace: Namespace, expression: str) -> None:
        self.lines: list[str] = []
        self._process: subprocess.Popen[str] = namespace.call(
            subprocess.Popen,
            ["tcpdump", "-n", "-l", "-e", "-tt", "-v", "--immediate-mode", "-i", "eth0", expression],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr
        while "listening on" not in self._process.stderr.readline():
            assert self._process.poll() is None
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.strip():
                self.lines.append(line.rstrip())
