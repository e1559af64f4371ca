"""The way out of the cluster, with a host and an outside world that the test makes."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from buoy.cluster import uplink

pytestmark = pytest.mark.e2e

BUOY = Path(sys.executable).with_name("buoy")


def _run(*command: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **more)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def host() -> Iterator[str]:
    """A network namespace that stands for the host: beyond its one interface are web servers, and no more."""
    mark = uuid.uuid4().hex[:6]
    host, beyond = f"host-{mark}", f"beyond-{mark}"
    server = None
    try:
        for name in (host, beyond):
            _run("ip", "netns", "add", name, check=True)
            _run("ip", "-n", name, "link", "set", "lo", "up", check=True)
        _run(
            "ip",
            "link",
            "add",
            "up0",
            "netns",
            host,
            "type",
            "veth",
            "peer",
            "name",
            "up1",
            "netns",
            beyond,
            check=True,
        )
        for name, link, number in ((host, "up0", 2), (beyond, "up1", 1)):
            _run("ip", "-n", name, "link", "set", link, "up", check=True)
            for address in ([f"198.51.100.{number}/24"], [f"2001:db8::{number}/64", "nodad"]):
                _run("ip", "-n", name, "addr", "add", "dev", link, *address, check=True)
        for gateway in ("198.51.100.1", "2001:db8::1"):
            _run("ip", "-n", host, "route", "add", "default", "via", gateway, check=True)
        server = subprocess.Popen(
            [
                "nsenter",
                f"--net=/run/netns/{beyond}",
                sys.executable,
                "-m",
                "http.server",
                "8000",
                "-b",
                "::",
                "-d",
                "/usr/share/doc/base-files",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        yield host
    finally:
        if server is not None:
            server.kill()
            server.wait()
        for name in (host, beyond):
            _run("ip", "netns", "del", name)


def test_nodes_and_the_outside_machine_reach_what_the_host_reaches(host: str, tmp_path: Path) -> None:
    environment = {**os.environ, "BUOY_HOME": str(tmp_path / "home"), "KUBECONFIG": str(tmp_path / "config")}

    def buoy(*arguments: str) -> subprocess.CompletedProcess[str]:
        return _run("nsenter", f"--net=/run/netns/{host}", str(BUOY), *arguments, env=environment)

    before = _run("nsenter", f"--net=/run/netns/{host}", "nft", "list", "ruleset").stdout
    started = buoy("up", "--name", "up", "--ip-family", "dual")
    try:
        assert started.returncode == 0, started.stderr
        fetch = (
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--retry",
            "30",
            "--retry-connrefused",
        )
        fetch = (
            *fetch,
            "--retry-all-errors",
            "--retry-delay",
            "1",
            "--max-time",
            "5",
        )
        for server in ("http://198.51.100.1:8000/", "http://[2001:db8::1]:8000/"):
            for answer in (
                buoy("node", "exec", "--name", "up", "node-1", "--", *fetch, server),
                buoy("outside", "--name", "up", "--", *fetch, server),
            ):
                assert answer.stdout == "200", answer.stderr
        resolver = buoy("node", "exec", "--name", "up", "node-1", "--", "cat", "/etc/resolv.conf").stdout
        assert resolver == f"nameserver {uplink.DNS_FORWARDER[4]}\n"
        # The host's loopback stays closed: the API server listens there.
        closed = buoy(
            "node", "exec", "--name", "up", "node-1", "--", "curl", "-sS", "-m", "3", "http://127.0.0.1:6443"
        )
        assert closed.returncode != 0
        assert _run("nsenter", f"--net=/run/netns/{host}", "nft", "list", "ruleset").stdout == before
    finally:
        ended = buoy("down", "--name", "up")
    assert ended.returncode == 0, ended.stderr
