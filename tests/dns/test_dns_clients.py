"""The resolvers that programs in Pods use, each with its own ways, against the server on a node.

Each is in a Pod whose resolv.conf is what a kubelet writes; the server listens at the Service address, which
the node's loopback has.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dns_world import Upstream, serving

from buoy.dns.address import Address
from topology import Host, Node

pytestmark = pytest.mark.kernel

RESOLV_CONF = """\
search default.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
options ndots:5
"""
RECORDS = {
    "www.example.com. A": (60, ["192.0.2.1", "192.0.2.2"]),
    "www.example.com. AAAA": (60, ["2001:db8::1"]),
}
_IN_A_POD = """
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/hosts" /etc/hosts
[ ! -e /etc/nsswitch.conf ] || mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
shift
exec "$@"
"""


class Pod:
    def __init__(self, host: Host, folder: Path) -> None:
        self._host = host
        self._folder = folder

    def run(self, *command: str) -> str:
        """Output and errors of a program in the Pod."""
        words = ["unshare", "--mount", "sh", "-ec", _IN_A_POD, "sh", str(self._folder), *command]
        done = self._host.call(
            subprocess.run, words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
        )
        return str(done.stdout)

    def refuse(self, *destinations: str) -> None:
        self._host.ip(*(f"route add unreachable {one}" for one in destinations))


async def _start() -> contextlib.AsyncExitStack:
    stack = contextlib.AsyncExitStack()
    up = await stack.enter_async_context(Upstream(RECORDS))
    await stack.enter_async_context(serving(None, up.address, listen=Address("10.96.0.10", 53)))
    return stack


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    folder = tmp_path_factory.mktemp("pod")
    (folder / "resolv.conf").write_text(RESOLV_CONF)
    (folder / "hosts").write_text("127.0.0.1 localhost\n")
    (folder / "nsswitch.conf").write_text("hosts: files dns\n")
    with contextlib.ExitStack() as stack:
        node = Node(1)
        stack.callback(node.close)
        host = node.add_pod("client")
        stack.callback(host.close)
        running = asyncio.run(node.do(_start()))  # before its address is there
        stack.callback(lambda: asyncio.run(node.do(running.aclose())))
        node.ip("address add 10.96.0.10/32 dev lo")
        yield Pod(host, folder)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same C program linked with each C library."""
    folder = tmp_path_factory.mktemp("programs")
    source = Path(__file__).with_name("client.c")
    made = {}
    for library, compiler in (("glibc", "gcc"), ("musl", "musl-gcc")):
        if shutil.which(compiler):
            made[library] = str(folder / library)
            subprocess.run([compiler, "-o", made[library], source], check=True)
    return made


WEB = {"10.96.0.20"}
LOOKUPS = [
    ("web", WEB),
    ("WEB.Default", WEB),
    ("web.default.svc", WEB),
    ("web.default.svc.cluster.local", WEB),
    ("web.default.svc.cluster.local.", WEB),
    ("web.other", {"10.96.0.23"}),
    ("dual", {"10.96.0.21", "fd00:96::21"}),
    ("six", {"fd00:96::22"}),
    ("db", {"10.244.1.10", "10.244.1.11", "fd00:244::12"}),
    ("db-0.db", {"10.244.1.10"}),
    ("in", WEB),
    ("out", {"192.0.2.1", "192.0.2.2", "2001:db8::1"}),
    ("www.example.com", {"192.0.2.1", "192.0.2.2", "2001:db8::1"}),
    ("10-244-9-9.default.pod.cluster.local", {"10.244.9.9"}),
    ("nothing", set()),
    ("empty", set()),
    ("astray", set()),
    ("digits", set()),
    ("default.svc.cluster.local", set()),
]
REVERSE = {"10.96.0.20": "web.default.svc.cluster.local", "10.244.1.10": "db-0.db.default.svc.cluster.local"}


def needs(programs: dict[str, str], library: str) -> str:
    if library not in programs:
        reason = f"no compiler for {library}: install gcc and musl-tools"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return programs[library]


@pytest.mark.parametrize("library", ["glibc", "musl"])
def test_c_libraries(pod: Pod, programs: dict[str, str], library: str) -> None:
    program = needs(programs, library)
    started = time.monotonic()
    output = pod.run(program, *(name for name, _ in LOOKUPS), *REVERSE)
    found: dict[str, set[str]] = {}
    for line in output.splitlines():
        name, result = line.split(": ", 1)
        found.setdefault(name, set()).add(result)
    expected = {name: addresses or {"none"} for name, addresses in LOOKUPS}
    assert found == expected | {address: {name} for address, name in REVERSE.items()}
    assert time.monotonic() - started < 5, "somebody waited for an answer"


def test_large_answers_in_c_libraries(pod: Pod, programs: dict[str, str]) -> None:
    output = pod.run(needs(programs, "glibc"), "large")
    assert len(output.splitlines()) == 100  # over TCP
    output = pod.run(needs(programs, "musl"), "large")
    assert len(output.splitlines()) > 20  # musl 1.2.3 does without


_PYTHON = """
import socket, sys
for name in sys.argv[1:]:
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)}
    except socket.gaierror:
        addresses = set()
    print(name, *sorted(addresses))
"""


def test_python(pod: Pod) -> None:
    output = pod.run(sys.executable, "-c", _PYTHON, *(name for name, _ in LOOKUPS))
    found = {words[0]: set(words[1:]) for line in output.splitlines() if (words := line.split())}
    assert found == dict(LOOKUPS)
    output = pod.run(sys.executable, "-c", "import socket; print(socket.gethostbyaddr('10.96.0.20')[0])")
    assert output.strip() == REVERSE["10.96.0.20"]


@pytest.mark.parametrize(
    ("words", "expected", "unexpected"),
    [
        (["web.default.svc.cluster.local"], ["Address: 10.96.0.20"], ["NXDOMAIN", "can't", "error"]),
        (
            ["db.default.svc.cluster.local"],
            ["Address: 10.244.1.10", "Address: 10.244.1.11", "fd00:244::12"],
            [],
        ),
        (["10.96.0.20"], ["name = web.default.svc.cluster.local"], ["can't"]),
        (["-type=cname", "out.default.svc.cluster.local"], ["canonical name = www.example.com"], ["error"]),
        (["out.default.svc.cluster.local"], ["Address: 192.0.2.1", "Address: 192.0.2.2"], ["error"]),
        (["www.example.com"], ["Address: 192.0.2.1", "Address: 192.0.2.2"], ["error"]),
        (
            ["-type=srv", "_sql._tcp.db.default.svc.cluster.local"],
            ["service = 0 33 15432 db-0.db.default"],
            [],
        ),
        (["-type=txt", "dns-version.cluster.local"], ['text = "1.1.0"'], []),
        (["nothing.default.svc.cluster.local"], ["NXDOMAIN"], ["timed out"]),
    ],
)
def test_nslookup_of_busybox(pod: Pod, words: list[str], expected: list[str], unexpected: list[str]) -> None:
    output = pod.run("busybox", "nslookup", *words)
    assert "10.96.0.10:53" in output
    for text in expected:
        assert text in output, output
    for text in unexpected:
        assert text not in output, output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["+search", "web"], ["10.96.0.20"]),
        (["+search", "web.other"], ["10.96.0.23"]),
        (["+search", "db", "AAAA"], ["fd00:244::12"]),
        (["+tcp", "web.default.svc.cluster.local"], ["10.96.0.20"]),
        (["-x", "10.96.0.20"], ["web.default.svc.cluster.local."]),
        (["+search", "nothing"], []),
    ],
)
def test_dig(pod: Pod, words: list[str], expected: list[str]) -> None:
    assert pod.run("dig", "+short", *words).split() == expected


def test_go(pod: Pod) -> None:
    """Go programs do without a C library; kubectl is one."""
    kubectl = str(Path(sys.executable).with_name("kubectl"))
    pod.refuse("10.96.0.20/32", "10.244.1.10/32", "fd00:96::22/128")  # an error then names the address
    for name, address in (("web", "10.96.0.20"), ("db-0.db", "10.244.1.10"), ("six", "fd00:96::22")):
        output = pod.run(kubectl, "--request-timeout=2s", f"--server=http://{name}:1", "get", "--raw=/")
        assert address in output, output
    output = pod.run(kubectl, "--request-timeout=5s", "--server=http://nothing:1", "get", "--raw=/")
    assert "no such host" in output, output
