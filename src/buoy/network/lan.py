"""The LAN of a local cluster: a bridge, and a veth for each machine on it.

These run once, in short-lived processes, before any event loop; they block.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

BRIDGE = "lan0"
_LOWEST_PRIORITY = 4294967295


def make(addresses: Iterable[str], prefix_length: int, unreachable: Iterable[str]) -> None:
    """In this network namespace: the bridge with *addresses*, and ranges that are answered as unreachable.

    The namespace forwards for the machines on the LAN; what it has no route for is refused at once.
    """
    _ip(
        "link set lo up",
        f"link add {BRIDGE} type bridge forward_delay 0 stp_state 0",
        f"link set {BRIDGE} up",
        *(f"addr add {address}/{prefix_length} dev {BRIDGE}" for address in addresses),
        *(f"route add unreachable {destination} metric {_LOWEST_PRIORITY}" for destination in unreachable),
    )
    _sysctl("net/ipv4/ip_forward", "1")
    _sysctl("net/ipv4/conf/all/send_redirects", "0")
    _sysctl(f"net/ipv4/conf/{BRIDGE}/send_redirects", "0")
    _sysctl("net/ipv4/icmp_ratemask", "0")  # every refused packet is told so, not one a second
    for family in ("iptables", "ip6tables", "arptables"):
        _sysctl(f"net/bridge/bridge-nf-call-{family}", "0")


def attach(machine: str, pid: int, interface: str = "eth0") -> None:
    """Plug the network namespace of process *pid* into the bridge; the bridge port is named *machine*.

    A port of that name may be left of a machine that has just ended: the kernel takes its time.
    """
    if os.path.exists(f"/proc/sys/net/ipv4/conf/{machine}"):
        subprocess.run(["ip", "link", "del", machine], check=False, capture_output=True)
    _ip(
        f"link add {machine} type veth peer name {interface} netns {pid}",
        f"link set {machine} master {BRIDGE} up",
    )


def configure(address: str, prefix_length: int, gateway: str, interface: str = "eth0") -> None:
    """In a machine's own network namespace: its address on the LAN and its default route."""
    _ip(
        "link set lo up",
        f"addr add {address}/{prefix_length} dev {interface}",
        f"link set {interface} up",
        f"route add default via {gateway}",
    )


def _ip(*commands: str) -> None:
    """Run commands of ip(8), all in one go. subprocess.CalledProcessError if one fails; it says why."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n", text=True, check=True)


def _sysctl(name: str, value: str) -> None:
    path = f"/proc/sys/{name}"
    if os.path.exists(path):
        with open(path, "w") as file:
            file.write(value)
