"""Cluster DNS: questions a second and their time, beside a bare UDP echo in the same run.

Run it with ``python bench/cluster_dns.py``. The server knows 5,000 Services; server, upstream, reference and
client share the machine. Everything is measured several times, in turn with the echo, and the best of each is
shown: that is least disturbed by whatever else the machine does. The client sends and receives many messages
with one system call each, so that it is not what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import multiprocessing
import os
import random
import resource
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop

from buoy.dns import wire
from buoy.dns.address import Address
from buoy.dns.cache import Cache
from buoy.dns.forward import Forwarder
from buoy.dns.metrics import Metrics
from buoy.dns.records import Endpoint, Form, Port, Service, Slice, pack
from buoy.dns.resolver import Resolver
from buoy.dns.server import Server, open_sockets
from buoy.dns.zone import Zone

SERVICES = 5000
ENDPOINTS = 10
WINDOW = 64
SECONDS = 0.5
ALONE = 1000
ONCE = 5000
ROUNDS = 5
CHANGES = 50
HTTP = (Port("http", "TCP", 80),)


def question(ident: int, name: str, kind: int = wire.A) -> bytes:
    return (
        struct.pack("!HHHHHH", ident, wire.RD, 1, 0, 0, 0)
        + wire.encode_name(name)
        + struct.pack("!HH", kind, 1)
    )


def unique(form: str) -> Iterator[bytes]:
    return (question(number & 0xFFFF, form.format(number)) for number in itertools.count())


# The servers, each a process.


def echo(sock: socket.socket) -> None:
    while True:
        data, peer = sock.recvfrom(4096)
        sock.sendto(data, peer)


def upstream(sock: socket.socket) -> None:
    """One address for every name, ready to be sent."""
    record = b"\xc0\x0c" + struct.pack("!HHIH", wire.A, 1, 60, 4) + bytes((192, 0, 2, 1))
    while True:
        data, peer = sock.recvfrom(4096)
        sock.sendto(data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + data[12:-11] + record, peer)


def piece(service: int, shift: int = 0) -> Slice:
    addresses = (f"10.244.{service % 250}.{shift + number + 1}" for number in range(ENDPOINTS))
    return Slice(f"default/service-{service}", HTTP, tuple(Endpoint((pack(one),)) for one in addresses))


def make_zone() -> Zone:
    zone = Zone("cluster.local", servers=[pack("10.96.0.10")])
    zone.set_namespace("default", True)
    for number in range(SERVICES):
        headless = number % 10 == 0
        ip = (
            () if headless else (pack(f"10.{96 + number // 60000}.{number // 250 % 250}.{number % 250 + 1}"),)
        )
        form = Form.HEADLESS if headless else Form.ADDRESS
        key = f"default/service-{number}"
        zone.set_service(key, Service("default", f"service-{number}", form, ip, HTTP))
        zone.set_slice(f"{key}-abcde", piece(number))
    return zone


def ours(report: multiprocessing.connection.Connection, up: Address) -> None:
    started = time.process_time()
    zone = make_zone()
    seconds = time.process_time() - started
    started = time.process_time()
    for number in range(1000):
        zone.set_slice(f"default/service-{number}-abcde", piece(number, shift=100))
    change = (time.process_time() - started) / 1000

    async def main() -> None:
        metrics = Metrics()
        cache = Cache(100_000)
        resolver = Resolver(zone, {}, Forwarder([up], {}, cache, metrics), metrics)
        resolver.synced = True
        async with Server(resolver, open_sockets([Address("127.0.0.1", 0)]), metrics) as server:
            await server.start()
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            report.send((server.bound[0], seconds, change, memory))
            number = 0
            while True:
                if not report.poll():
                    await asyncio.sleep(0.05)
                    continue
                churn = report.recv()
                while churn and not report.poll():
                    number += 1
                    zone.set_slice(
                        f"default/service-{number % SERVICES}-abcde", piece(number % SERVICES, number % 9)
                    )
                    resolver.changed()
                    await asyncio.sleep(1 / CHANGES)

    uvloop.run(main())


# The client.


class _IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.POINTER(_IoVec)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Message(ctypes.Structure):
    _fields_ = [("header", _Header), ("length", ctypes.c_uint)]


_libc = ctypes.CDLL(None, use_errno=True)


class Batch:
    """Messages in memory, as sendmmsg(2) and recvmmsg(2) want them."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self._buffers = [ctypes.create_string_buffer(one, max(len(one), 1)) for one in messages]
        self._vectors = (_IoVec * len(messages))()
        self._headers = (_Message * len(messages))()
        for index, buffer in enumerate(self._buffers):
            self._vectors[index].base = ctypes.cast(buffer, ctypes.c_char_p)
            self._vectors[index].length = len(messages[index])
            self._headers[index].header.vectors = ctypes.pointer(self._vectors[index])
            self._headers[index].header.vector_count = 1
        self._size = ctypes.sizeof(_Message)

    def send(self, fd: int, first: int, count: int) -> None:
        while count:
            done = _libc.sendmmsg(fd, ctypes.byref(self._headers, first * self._size), count, 0)
            if done < 0:
                raise OSError(ctypes.get_errno(), "sendmmsg")
            first, count = first + done, count - done

    def receive(self, fd: int, count: int) -> int:
        """How many arrived: at least one, at most *count*; 0 after a second without any."""
        done = _libc.recvmmsg(fd, self._headers, count, 0x10000, None)  # MSG_WAITFORONE
        return max(done, 0)


def throughput(address: Address, messages: Sequence[bytes], seconds: float) -> tuple[float, int]:
    """Answers a second, and in all, with *WINDOW* questions under way: each once if *seconds* is 0."""
    batch, space = Batch(messages), Batch([bytes(2048)] * WINDOW)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))
        sock.connect(address)
        fd = sock.fileno()
        sent = answered = lost = 0
        started = time.perf_counter()
        while time.perf_counter() - started < seconds if seconds else answered + lost < len(messages):
            first = sent % len(messages)
            left = len(messages) - (first if seconds else sent)
            count = min(WINDOW - (sent - answered - lost), left)
            batch.send(fd, first, count)
            sent += count
            received = space.receive(fd, WINDOW)
            answered += received
            if not received:
                lost = sent - answered
        elapsed = time.perf_counter() - started
    assert lost < answered / 100, f"{lost} lost, {answered} answered"
    return answered / elapsed, answered


def processor_seconds(pid: int) -> float:
    """The processor time that the process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def latency(address: Address, messages: Sequence[bytes], count: int) -> tuple[float, float]:
    """p50 and p99 in microseconds, one question after the other."""
    times = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.connect(address)
        for index in range(count):
            started = time.perf_counter()
            sock.send(messages[index % len(messages)])
            sock.recv(4096)
            times.append(time.perf_counter() - started)
    times.sort()
    return times[count // 2] * 1e6, times[count * 99 // 100] * 1e6


class Result(NamedTuple):
    """Answers a second, processor µs for each, and the time of one asked alone: p50 and p99 in µs."""

    rate: float
    cost: float
    half: float
    most: float


def measure(pid: int, address: Address, names: list[bytes] | Iterator[bytes]) -> Result:
    """Ask the server at *address*, process *pid*: a list again and again, of an iterator each name once."""
    once = not isinstance(names, list)
    messages = list(itertools.islice(names, ONCE)) if once else names
    before = processor_seconds(pid)
    rate, count = throughput(address, messages, 0 if once else SECONDS)
    cost = (processor_seconds(pid) - before) / count * 1e6
    return Result(rate, cost, *latency(address, list(itertools.islice(names, ALONE)), ALONE))


def best(results: Sequence[Result]) -> Result:
    rates, *times = zip(*results, strict=True)
    return Result(max(rates), *(min(some) for some in times))


def show(title: str, found: Result, echoed: Result) -> None:
    print(
        f"{title:34}{found.rate:12,.0f}{found.rate / echoed.rate:9.2f}{found.cost:9.1f}"
        f"{found.half:9.0f}{found.most:9.0f}{found.most / echoed.most:9.2f}"
    )


@contextlib.contextmanager
def process(work: Callable[..., None], *args: object) -> Iterator[int]:
    child = multiprocessing.get_context("fork").Process(target=work, args=args, daemon=True)
    child.start()
    try:
        assert child.pid
        yield child.pid
    finally:
        child.terminate()
        child.join()


def udp() -> tuple[socket.socket, Address]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", 0))
    return sock, Address(*sock.getsockname())


def main() -> None:
    started = time.perf_counter()
    rng = random.Random(1)
    cluster = [
        question(n & 0xFFFF, f"service-{rng.randrange(SERVICES)}.default.svc.cluster.local")
        for n in range(2000)
    ]
    missing = unique("www-{}.example.com.default.svc.cluster.local")
    cached = [question(n, f"www-{n}.example.com") for n in range(1000)]
    fresh = unique("fresh-{}.example.com")
    echo_socket, echo_address = udp()
    up_socket, up_address = udp()
    here, there = multiprocessing.Pipe()
    with (
        process(echo, echo_socket) as echo_pid,
        process(upstream, up_socket),
        process(ours, there, up_address) as pid,
    ):
        address, seconds, change, memory = here.recv()
        print(
            f"{SERVICES} Services of {ENDPOINTS} endpoints: zone in {seconds:.2f} s, "
            f"one changed slice {change * 1e6:.0f} µs, {memory:.0f} MiB\n"
        )
        print(
            f"{'':34}{'questions/s':>12}{'of echo':>9}{'CPU µs':>9}{'p50 µs':>9}{'p99 µs':>9}{'of echo':>9}"
        )
        for title, names in (
            ("cluster names", cluster),
            (f"... {CHANGES} changed slices a second", cluster),
            ("cluster names never asked before", missing),
            ("forwarded names, in the cache", cached),
            ("forwarded names, asked upstream", fresh),
        ):
            here.send(title.startswith("..."))
            if isinstance(names, list):
                throughput(address, names, 0.2)
            rounds = []
            for _ in range(ROUNDS):
                echoed = measure(echo_pid, echo_address, cluster)
                rounds.append((echoed, measure(pid, address, names)))
            echoed, found = (best(results) for results in zip(*rounds, strict=True))
            if title == "cluster names":
                show("bare UDP echo", echoed, echoed)
            show(title, found, echoed)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
