"""How long an address on the LAN is unanswered when its node is cut off, its speaker killed, or drained.

Run it with ``python bench/layer2_failover.py``. Three nodes in namespaces of their own are on one LAN, and a
client asks every 20 ms over a new connection. What counts is the time from the event to the answer to the
first request that was made after it and answered by another node.

The reference, measured in the same run, is what one would write in a few lines: a node that is pinged once a
second, and replaced after three pings without an answer. MetalLB, cut off the same way on a machine like the
one this was written on, took 5.4 to 7.0 s in five cuts (median 5.7 s).
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "loadbalancer"))

from wire_processes import Wires, wait_until

from buoy.loadbalancer.election import rank
from topology import Answering, Namespace, Node, World

ADDRESS = "192.168.1.251"
EVERY = 0.02
CUTS = 50
OTHERS = 10
REFERENCE_CUTS = 5
PINGS = 3


class Asking:
    """A client that makes a connection every 20 ms, whatever becomes of those before."""

    def __init__(self, namespace: Namespace) -> None:
        self.answers: list[tuple[float, float, str]] = []
        """When each request that was answered was made, when it was answered, and by whom."""
        self.made = 0
        self._stopping = False
        self._thread = threading.Thread(target=namespace.call, args=(self._ask,))
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()

    def first(self, since: float, other_than: str = "") -> float | None:
        """Seconds from *since* to the first answer to a request that was made later."""
        times = [end for start, end, name in self.answers if start >= since and name != other_than]
        return min(times) - since if times else None

    def _ask(self) -> None:
        selector = selectors.DefaultSelector()
        due = time.monotonic()
        while not self._stopping:
            if time.monotonic() >= due:
                due += EVERY
                self.made += 1
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex((ADDRESS, 80))
                selector.register(sock, selectors.EVENT_READ, time.monotonic())
            for key, _ in selector.select(max(0.0, due - time.monotonic())):
                assert isinstance(key.fileobj, socket.socket)
                with contextlib.suppress(OSError):
                    name = key.fileobj.recv(256).split()[0].decode()
                    self.answers.append((key.data, time.monotonic(), name))
                selector.unregister(key.fileobj)
                key.fileobj.close()
            now = time.monotonic()
            for old in [key for key in selector.get_map().values() if now - key.data > 2]:
                assert isinstance(old.fileobj, socket.socket)
                selector.unregister(old.fileobj)
                old.fileobj.close()
        for key in list(selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()


def moved(client: Asking, event: Callable[[], None], owner: str) -> float:
    """Seconds from *event* to the first answer by another than *owner*."""
    wait_until(
        lambda: client.first(time.monotonic() - 0.2) is not None and client.answers[-1][2] == owner, 30
    )
    begin = time.monotonic()
    event()
    wait_until(lambda: client.first(begin, owner) is not None, 60)
    found = client.first(begin, owner)
    assert found is not None
    return found


def speakers(world: World, client: Asking, folder: Path) -> Iterator[tuple[str, list[float]]]:
    names = [node.name for node in world.nodes]
    first = rank(dict.fromkeys(names, 0), ADDRESS)[0]
    owner = next(node for node in world.nodes if node.name == first)
    with Wires(world, [ADDRESS], folder) as wires:

        def settled() -> None:
            wait_until(lambda: wires.agreed(*names), 30)

        def again(process: str) -> None:
            wires.start(process)
            settled()

        settled()
        cuts = []
        for _ in range(CUTS):
            cuts.append(moved(client, lambda: world.cut(owner), first))
            world.heal(owner)
            settled()
        yield "node cut off", cuts
        kills = []
        for _ in range(OTHERS):
            kills.append(moved(client, wires.running.pop(first).kill, first))
            again(first)
        yield "speaker's wire process killed", kills
        leaves = []
        lost = 0
        for _ in range(OTHERS):
            made, answered = client.made, len(client.answers)
            leaves.append(moved(client, wires.running.pop(first).leave, first))
            wait_until(lambda: wires.agreed(*(name for name in names if name != first)), 30)
            time.sleep(0.2)
            lost += (client.made - made) - (len(client.answers) - answered)
            again(first)
        yield f"drained ({max(0, lost)} requests lost)", leaves


def naive(world: World, client: Asking) -> list[float]:
    """Addresses held by the kernel, moved by whoever misses three pings."""
    first, second = world.nodes[:2]
    times = []
    for _ in range(REFERENCE_CUTS):
        take(first)
        stop = threading.Event()
        watcher = threading.Thread(target=watch, args=(second, first, stop))
        watcher.start()
        times.append(moved(client, lambda: world.cut(first), first.name))
        stop.set()
        watcher.join()
        second.ip(f"address del {ADDRESS}/32 dev eth0")
        first.ip(f"address del {ADDRESS}/32 dev eth0")
        world.heal(first)
    return times


def take(node: Node) -> None:
    node.ip(f"address add {ADDRESS}/32 dev eth0")
    node.run("arping", "-U", "-c", "1", "-I", "eth0", ADDRESS, check=False)


def watch(node: Node, other: Node, stop: threading.Event) -> None:
    missed = 0
    while not stop.wait(1.0):
        said = node.run("arping", "-c", "1", "-w", "1", "-I", "eth0", other.address, check=False)
        answered = "Received 1" in said
        missed = 0 if answered else missed + 1
        if missed == PINGS:
            take(node)
            return


def line(name: str, times: list[float]) -> str:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    return (
        f"{name:<44} {len(times):>3} times   median {statistics.median(times) * 1000:6.0f} ms"
        f"   p99 {p99 * 1000:6.0f} ms   longest {ordered[-1] * 1000:6.0f} ms"
    )


def main() -> None:
    with World(nodes=3) as world, tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for node in world.nodes:
            servers = stack.enter_context(Answering())  # one that is cut off must not hold up the others
            rule = f"iptables -t nat -A PREROUTING -d {ADDRESS} -p tcp -j REDIRECT --to-ports 80"
            node.run(*rule.split())
            servers.listen(node, node.name, 80)
        client = Asking(world.outside)
        try:
            reference = naive(world, client)
            print(line("reference: three pings, one a second", reference), flush=True)
            for name, times in speakers(world, client, Path(folder)):
                ratio = statistics.median(times) / statistics.median(reference)
                print(f"{line(name, times)}   {ratio:.2f} of the reference", flush=True)
        finally:
            client.stop()


if __name__ == "__main__":
    main()
