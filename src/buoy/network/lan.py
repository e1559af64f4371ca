"""The LAN of a local cluster: a bridge, and a veth for each machine on it.

These run once, in short-lived processes, before any event loop; they block.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from pyroute2 import IPRoute

BRIDGE = "lan0"
_RTN_UNREACHABLE = 7
_LOWEST_PRIORITY = 4294967295


def make(addresses: Iterable[str], prefix_length: int, unreachable: Iterable[str]) -> None:
    """In this network namespace: the bridge with *addresses*, and ranges that are answered as unreachable.

    The namespace forwards for the machines on the LAN; what it has no route for is refused at once.
    """
    with IPRoute() as ip:
        _up(ip, "lo")
        ip.link("add", ifname=BRIDGE, kind="bridge", br_forward_delay=0, br_stp_state=0)
        index = _up(ip, BRIDGE)
        for address in addresses:
            ip.addr("add", index=index, address=address, prefixlen=prefix_length)
        for destination in unreachable:
            ip.route("add", dst=destination, type=_RTN_UNREACHABLE, priority=_LOWEST_PRIORITY)
    _sysctl("net/ipv4/ip_forward", "1")
    _sysctl("net/ipv4/conf/all/send_redirects", "0")
    _sysctl(f"net/ipv4/conf/{BRIDGE}/send_redirects", "0")
    _sysctl("net/ipv4/icmp_ratemask", "0")  # every refused packet is told so, not one a second
    for family in ("iptables", "ip6tables", "arptables"):
        _sysctl(f"net/bridge/bridge-nf-call-{family}", "0")


def attach(machine: str, pid: int, interface: str = "eth0") -> None:
    """Plug the network namespace of process *pid* into the bridge; the bridge port is named *machine*."""
    with IPRoute() as ip:
        bridge = ip.link_lookup(ifname=BRIDGE)[0]
        ip.link("add", ifname=machine, kind="veth", peer={"ifname": interface, "net_ns_pid": pid})
        index = ip.link_lookup(ifname=machine)[0]
        ip.link("set", index=index, master=bridge, state="up")


def configure(address: str, prefix_length: int, gateway: str, interface: str = "eth0") -> None:
    """In a machine's own network namespace: its address on the LAN and its default route."""
    with IPRoute() as ip:
        _up(ip, "lo")
        index = ip.link_lookup(ifname=interface)[0]
        ip.addr("add", index=index, address=address, prefixlen=prefix_length)
        ip.link("set", index=index, state="up")
        ip.route("add", dst="default", gateway=gateway)


def _up(ip: IPRoute, name: str) -> int:
    index: int = ip.link_lookup(ifname=name)[0]
    ip.link("set", index=index, state="up")
    return index


def _sysctl(name: str, value: str) -> None:
    path = f"/proc/sys/{name}"
    if os.path.exists(path):
        with open(path, "w") as file:
            file.write(value)
