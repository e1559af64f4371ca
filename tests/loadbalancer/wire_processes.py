"""Speakers' wire processes in namespaces, given their orders by hand: no API server, nothing but the wire."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from buoy.loadbalancer.layer2.interfaces import usable
from buoy.loadbalancer.speaker import orders
from buoy.loadbalancer.speaker.orders import Contest, Orders, Report
from topology import Namespace, Node, World

PORT = 7946


class WireProcess:
    """The real process of one node. *orders* is what it was told last, *report* what it has said last."""

    def __init__(self, node: Node, key: Path) -> None:
        self.node = node
        self.orders = Orders()
        self.report = Report()
        self._process: subprocess.Popen[bytes] = node.call(
            subprocess.Popen,
            [sys.executable, "-m", "buoy.loadbalancer.speaker.wire", node.name, str(PORT), str(key)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("SHOW") else subprocess.DEVNULL,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, new: Orders) -> None:
        self.orders = new
        assert self._process.stdin
        self._process.stdin.write(orders.encode(new) + b"\n")
        self._process.stdin.flush()

    def leave(self) -> None:
        """End it as the end of its speaker does, and wait."""
        assert self._process.stdin
        self._process.stdin.close()
        assert self._process.wait(10) == 0
        self._reader.join()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._reader.join()

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.report = orders.decode_report(line)


class Wires:
    """A wire process on each node of *world*, contesting *addresses* as soon as it is *told* to."""

    def __init__(self, world: World, addresses: list[str], folder: Path, *, told: bool = True) -> None:
        self.world = world
        self.addresses = addresses
        self.key = folder / "key"
        self.key.write_bytes(os.urandom(32))
        self.running: dict[str, WireProcess] = {}
        for node in world.nodes:
            self.start(node.name, told=told)

    def start(self, name: str, *, told: bool = True) -> WireProcess:
        node = next(node for node in self.world.nodes if node.name == name)
        process = self.running[name] = WireProcess(node, self.key)
        if told:
            process.tell(self.orders(node))
        return process

    def orders(self, node: Node) -> Orders:
        nodes = self.world.nodes
        return Orders(
            addresses=(node.address,),
            peers={one.name: (one.address,) for one in nodes if one is not node},
            interfaces=interfaces(node),
            candidates=(dict.fromkeys((one.name for one in nodes), 0),),
            contests={address: Contest(address, 0) for address in self.addresses},
        )

    def owners(self, address: str) -> list[str]:
        """The nodes that say that they answer for *address*."""
        return [name for name, one in self.running.items() if address in one.report.announced]

    def agreed(self, *alive: str) -> bool:
        """Whether those who run see *alive*, and each address has one owner."""
        return all(one.report.alive == alive for one in self.running.values()) and all(
            len(self.owners(address)) == 1 for address in self.addresses
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running.values():
            process.close()


def interfaces(namespace: Namespace) -> Any:
    return usable(json.loads(namespace.run("ip", "-json", "link")))


def wait_until(condition: Callable[[], Any], within: float = 30.0) -> Any:
    """`eventually` for tests without an event loop."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)
    return value
