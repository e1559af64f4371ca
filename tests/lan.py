"""More machines on the LAN of a local cluster, in namespaces of a test: a client of its own, a BGP router."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from local_cluster import LocalCluster, until
from topology import Host, Namespace

PROGRAMS = Path(__file__).parent / "e2e/programs"


class LanMachine(Host):
    """A machine on the cluster's LAN, with an ARP cache of its own. It ends with its context."""

    def __init__(self, cluster: LocalCluster, name: str, ipv4: str = "192.168.1.210", ipv6: str = "") -> None:
        super().__init__(name, ipv4, ipv6)
        self._cluster = cluster
        self._port = f"port-{name}"[:15]
        cable = ("link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", self.path)
        cluster.in_world("ip", *cable)
        cluster.in_world("ip", "link", "set", self._port, "master", "lan0", "up")
        self.ip(f"address add {ipv4}/24 dev eth0", "link set eth0 up")
        if ipv6:
            self.ip(f"address add {ipv6}/64 dev eth0 nodad")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.in_world("ip", "link", "del", self._port, check=False)
        self.close()


@dataclass(frozen=True)
class Request:
    """Times are seconds of the monotonic clock."""

    began: float
    ended: float
    answered: bool


class Asking:
    """Requests every 20 ms over new connections, from *namespace*, for as long as the context lasts."""

    def __init__(self, namespace: Namespace, address: str, port: int) -> None:
        self.requests: list[Request] = []
        self._process = namespace.call(
            subprocess.Popen,
            ["python3", str(PROGRAMS / "ask_often.py"), address, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            began, ended, answered = line.split()
            self.requests.append(Request(float(began), float(ended), answered == "1"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reader.join(20)
        assert self._process.wait(20) == 0

    def is_answered_again(self, within: float = 30) -> None:
        """Wait until a request that begins now or later is answered."""
        moment = time.monotonic()
        until(lambda: self.answered_since(moment), within=within, what="an answer", every=0.01)

    def answered_since(self, moment: float) -> bool:
        return any(each.answered and each.began >= moment for each in reversed(self.requests))


def longest_silence(requests: list[Request], since: float, until: float) -> float:
    """Seconds, of those between *since* and *until*, in which no answer came, at the longest."""
    ends = sorted(each.ended for each in requests if each.answered and since <= each.ended <= until)
    moments = [since, *ends, until]
    return max(later - earlier for earlier, later in itertools.pairwise(moments))


def lost(requests: list[Request], since: float, until: float) -> int:
    """How many requests that began in this time were not answered."""
    return sum(not each.answered and since <= each.began <= until for each in requests)


def late(requests: list[Request], since: float, until: float, after: float = 0.5) -> int:
    """How many requests that began in this time were answered, but only *after* so many seconds or more."""
    return sum(
        each.answered and since <= each.began <= until and each.ended - each.began >= after
        for each in requests
    )
