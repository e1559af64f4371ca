"""Small networks of namespaces for tests of kernel rules: nodes, Pods and an outside machine on a LAN.

A namespace here has no name and no file: it is held open by this process alone, so nothing is left behind
even by a test that is killed. Addresses are those of a local cluster; nothing leads out.

    with World(nodes=2) as world:
        pod = world.nodes[0].add_pod("web-1")
        with Answering() as servers:
            servers.listen(pod, "web-1", 80)
            name, source = world.outside.call(ask, "10.96.0.10", 80)
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import selectors
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)} (kernel tests need root)")


def _enter(fd: int) -> None:
    _checked(_libc.setns(fd, _CLONE_NEWNET))


class Namespace:
    """A network namespace with loopback up, and threads that live in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fd = -1
        thread = threading.Thread(target=self._make)
        thread.start()
        thread.join()
        if self.fd < 0:
            raise OSError("cannot make a network namespace: kernel tests need root")
        self._threads = ThreadPoolExecutor(16, f"in-{name}", _enter, (self.fd,))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None
        self.ip("link set lo up")

    def _make(self) -> None:
        _checked(_libc.unshare(_CLONE_NEWNET))
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def path(self) -> str:
        """A path by which other programs find the namespace."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run *function* in a thread of the namespace; its sockets stay there."""
        return self._threads.submit(function, *args, **kwargs).result()

    async def acall(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The same from an event loop, without blocking it."""
        return await asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))

    def run(self, *command: str, input: str | None = None, check: bool = True) -> str:
        """Run a program there; its output."""
        done = self.call(subprocess.run, command, input=input, capture_output=True, text=True)
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {' '.join(command)}: {done.stderr.strip()}")
        return str(done.stdout)

    def ip(self, *commands: str) -> None:
        """Run ``ip`` commands, all at once."""
        self.run("ip", "-batch", "-", input="\n".join(commands) + "\n")

    def sysctl(self, **values: int) -> None:
        """Set parameters below /proc/sys/net; ``__`` stands for a slash."""

        def write() -> None:
            for name, value in values.items():
                with open(f"/proc/sys/net/{name.replace('__', '/')}", "w") as file:
                    file.write(str(value))

        self.call(write)

    async def do(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine on an event loop of the namespace, which goes on running between calls."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop_thread = threading.Thread(target=self._run_loop, args=(self._loop,), daemon=True)
            self._loop_thread.start()
        future: Future[R] = Future()
        task: asyncio.Task[R] | None = None

        def report(done: asyncio.Task[R]) -> None:
            if done.cancelled():
                future.set_exception(asyncio.CancelledError())
            elif error := done.exception():
                future.set_exception(error)
            else:
                future.set_result(done.result())

        def start() -> None:
            nonlocal task
            task = loop.create_task(work)
            task.add_done_callback(report)

        loop = self._loop
        loop.call_soon_threadsafe(start)
        result = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            if not result.done():
                loop.call_soon_threadsafe(lambda: task and task.cancel())
                await asyncio.wait([result])
                result.exception()
            raise

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        _enter(self.fd)
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    def close(self) -> None:
        if self._loop and self._loop_thread:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop_thread.join()
        self._threads.shutdown()
        os.close(self.fd)


class Host(Namespace):
    """A namespace with an IPv4 and an IPv6 address of its own."""

    def __init__(self, name: str, ipv4: str, ipv6: str) -> None:
        super().__init__(name)
        self.addresses = {"IPv4": ipv4, "IPv6": ipv6}

    @property
    def address(self) -> str:
        return self.addresses["IPv4"]


class Node(Host):
    """A node on the LAN with a range of Pod addresses."""

    def __init__(self, number: int) -> None:
        super().__init__(f"node-{number}", f"192.168.1.{79 + number}", f"fd00:192:168:1::{number}")
        self.number = number
        self.pod_cidrs = {"IPv4": f"10.244.{number}.0/24", "IPv6": f"fd00:10:244:{number}::/64"}
        self.pods: list[Host] = []

    def add_pod(self, name: str) -> Host:
        """A Pod, routed to without a bridge."""
        last = len(self.pods) + 2
        pod = Host(name, f"10.244.{self.number}.{last}", f"fd00:10:244:{self.number}::{last}")
        self.pods.append(pod)
        gateway4, gateway6 = f"10.244.{self.number}.1", f"fd00:10:244:{self.number}::1"
        link = f"pod{last}"
        pod.ip(
            f"link add eth0 type veth peer name {link} netns {self.path}",
            "link set eth0 up",
            f"address add {pod.addresses['IPv4']}/32 dev eth0",
            f"address add {pod.addresses['IPv6']}/128 dev eth0 nodad",
        )
        self.ip(
            f"link set {link} up",
            f"address add {gateway4}/32 dev {link}",
            f"address add {gateway6}/128 dev {link} nodad",
            f"route add {pod.addresses['IPv4']}/32 dev {link}",
            f"route add {pod.addresses['IPv6']}/128 dev {link}",
        )
        pod.ip(
            f"route add {gateway4}/32 dev eth0",
            f"route add default via {gateway4} dev eth0",
            f"route add {gateway6}/128 dev eth0",
            f"route add default via {gateway6} dev eth0",
        )
        return pod


class World:
    """A LAN with *nodes* nodes, numbered from 1, and a machine outside the cluster.

    Outside, addresses in 203.0.113.0/24 and fd00:203::/64 (load balancers', external IPs) are routed to
    node 1.
    """

    service_cidrs = ("10.96.0.0/12", "fd00:10:96::/112")
    pod_cidrs = ("10.244.0.0/16", "fd00:10:244::/48")

    def __init__(self, nodes: int = 1) -> None:
        with ExitStack() as stack:
            self.lan = Namespace("lan")
            stack.callback(self.lan.close)
            self.lan.ip(*(f"link add {bridge} type bridge" for bridge in ("lan", "other")))
            self.lan.ip("link set lan up", "link set other up")
            self.outside = Host("outside", "192.168.1.200", "fd00:192:168:1::c8")
            stack.callback(self.outside.close)
            self.nodes: list[Node] = []
            for number in range(1, nodes + 1):
                node = Node(number)
                stack.callback(node.close)
                self.nodes.append(node)
            for host in (self.outside, *self.nodes):
                self._plug_in(host)
            for protocol in ("ipv4", "ipv6"):  # a node may say that an address is on the LAN itself
                self.outside.sysctl(
                    **{f"{protocol}__conf__{name}__accept_redirects": 0 for name in ("all", "eth0")}
                )
            for node in self.nodes:
                self._route(node)
            self.outside.ip(
                f"route add 203.0.113.0/24 via {self.nodes[0].addresses['IPv4']}",
                f"route add fd00:203::/64 via {self.nodes[0].addresses['IPv6']}",
            )
            self._stack = stack.pop_all()

    def add_host(self, name: str, ipv4: str, ipv6: str) -> Host:
        """One more machine on the LAN."""
        host = Host(name, ipv4, ipv6)
        self._stack.callback(host.close)
        self._plug_in(host)
        return host

    def cut(self, host: Host) -> None:
        """Pull the host's cable."""
        self.lan.ip(f"link set {_port(host)} down")

    def heal(self, host: Host) -> None:
        self.lan.ip(f"link set {_port(host)} up")

    def split(self, *hosts: Host) -> None:
        """Put *hosts* on a LAN of their own. No link goes down: they don't notice at once."""
        self.lan.ip(*(f"link set {_port(host)} master other" for host in hosts))

    def join(self, *hosts: Host) -> None:
        """Put *hosts* back where they were."""
        self.lan.ip(*(f"link set {_port(host)} master lan" for host in hosts))

    def _plug_in(self, host: Host) -> None:
        port = _port(host)
        host.ip(
            f"link add eth0 type veth peer name {port} netns {self.lan.path}",
            "link set eth0 up",
            f"address add {host.addresses['IPv4']}/24 dev eth0",
            f"address add {host.addresses['IPv6']}/64 dev eth0 nodad",
        )
        self.lan.ip(f"link set {port} master lan up")

    def _route(self, node: Node) -> None:
        node.sysctl(
            ipv4__ip_forward=1,
            ipv4__conf__all__route_localnet=1,
            ipv6__conf__all__forwarding=1,
            ipv4__icmp_ratelimit=0,  # a test asks for many refusals in a short time
            ipv6__icmp__ratelimit=0,
        )
        for other in self.nodes:
            if other is not node:
                node.ip(
                    *(
                        f"route add {other.pod_cidrs[family]} via {other.addresses[family]}"
                        for family in ("IPv4", "IPv6")
                    )
                )
        # A cluster IP needs a route, or the kernel refuses before any rule is asked.
        node.ip(
            *(f"route add {cidr} dev eth0" for cidr in self.service_cidrs),
            "route add 203.0.113.0/24 dev eth0",
            "route add fd00:203::/64 dev eth0",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            for pod in node.pods:
                pod.close()
        self._stack.close()


def _port(host: Host) -> str:
    """The LAN's end of the host's cable."""
    return f"port-{host.name}"[:15]


@dataclass(frozen=True)
class _Server:
    name: str
    is_stream: bool


class Answering:
    """Servers in one thread that say their name, the client's address, and the address that was asked.

    Each answer is one line. TCP closes after it.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._stopping = False
        self._thread.start()

    def listen(
        self, host: Namespace, name: str, port: int, *, protocol: str = "TCP", family: str = "IPv4"
    ) -> socket.socket:
        """Serve on all addresses of *host*; the socket, to be given to `silence`."""
        sock = host.call(_listener, port, protocol, family)
        self._selector.register(sock, selectors.EVENT_READ, _Server(name, protocol == "TCP"))
        self._waker.send(b"x")
        return sock

    def silence(self, sock: socket.socket) -> None:
        """Serve there no more."""
        self._selector.unregister(sock)
        sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._waker.send(b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        self._waker.close()

    def _serve(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if not isinstance(key.data, _Server):
                    sock.recv(4096)
                    continue
                try:
                    self._answer(sock, key.data)
                except OSError:
                    continue  # the client went away, or the server was silenced

    def _answer(self, sock: socket.socket, server: _Server) -> None:
        if server.is_stream:
            connection, peer = sock.accept()
            with connection:
                line = f"{server.name} {peer[0]} {connection.getsockname()[0]}\n"
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\x01\0\0\0")
                connection.send(line.encode())
        else:
            _, peer = sock.recvfrom(2048)
            sock.sendto(f"{server.name} {peer[0]} -\n".encode(), peer)


def _listener(port: int, protocol: str, family: str) -> socket.socket:
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET6 if family == "IPv6" else socket.AF_INET, kind)
    if family == "IPv6":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", port))
    if protocol == "TCP":
        sock.listen(1024)
    sock.setblocking(False)
    return sock


@dataclass(frozen=True)
class Answer:
    """Who answered, whose address it saw, and at which of its own addresses it was asked (TCP)."""

    name: str
    client: str
    server: str


def ask(address: str, port: int, *, protocol: str = "TCP", timeout: float = 3.0, source: str = "") -> Answer:
    """One request, for `Namespace.call`. Raises ConnectionRefusedError, TimeoutError or another OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as sock:
        sock.settimeout(timeout)
        if source:
            sock.bind((source, 0))
        sock.connect((address, port))
        if protocol == "UDP":
            # The node's own rules may stop the packet at once; if they also refuse it, that is heard below.
            with suppress(PermissionError):
                sock.send(b"?")
        line = sock.recv(256)
        if not line:
            raise ConnectionResetError("closed without an answer")
        return Answer(*line.decode().split())
