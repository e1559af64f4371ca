"""The LAN of a local cluster: a bridge, and a veth for each machine on it.

These run once, in short-lived processes, before any event loop; they block.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

BRIDGE = "lan0"
_HARDWARE_ADDRESS = "02:00:00:00:00:01"
_LOWEST_PRIORITY = 4294967295

# A route that says "unreachable" tells a client so five times, and then once a second, whatever icmp_ratemask
# says; a rule tells it each time.
_REFUSE_AT_ONCE = """
table inet buoy-lan {
  chain prerouting {
    type filter hook prerouting priority filter; policy accept;
    fib daddr type { unicast, unreachable } fib daddr oif missing reject
  }
}
"""


def make(addresses: Iterable[str], unreachable: Iterable[str]) -> None:
    """In this network namespace: the bridge with *addresses*, each with the length of its prefix.

    The namespace forwards for the machines on the LAN. The ranges *unreachable* are refused at once, unless
    there is a route to them that prevails.
    """
    # Left alone, a bridge takes the lowest hardware address of its ports. A machine that comes or goes would
    # change the gateway's, and the others send to the old one until they ask again: some ten seconds.
    _ip(
        "link set lo up",
        f"link add {BRIDGE} address {_HARDWARE_ADDRESS} type bridge forward_delay 0 stp_state 0",
        f"link set {BRIDGE} up",
        *(_add(address, BRIDGE) for address in addresses),
        *(f"route add unreachable {destination} metric {_LOWEST_PRIORITY}" for destination in unreachable),
    )
    _sysctl("net/ipv4/ip_forward", "1")
    _sysctl("net/ipv4/conf/all/send_redirects", "0")
    _sysctl(f"net/ipv4/conf/{BRIDGE}/send_redirects", "0")
    _sysctl("net/ipv6/conf/all/forwarding", "1")
    _sysctl("net/ipv4/icmp_ratemask", "0")
    _sysctl("net/ipv6/icmp/ratelimit", "0")
    for family in ("iptables", "ip6tables", "arptables"):
        _sysctl(f"net/bridge/bridge-nf-call-{family}", "0")
    subprocess.run(["nft", "-f", "-"], input=_REFUSE_AT_ONCE, text=True, check=True)


def route_apart(addresses: Iterable[str], table: str) -> None:
    """What this namespace itself sends from *addresses* goes by *table* first; not what it forwards."""
    for address in addresses:
        family = "-6" if ":" in address else "-4"
        rule = f"rule add from {address} iif lo lookup {table}\n"
        script = f"{rule}route add throw default table {table}\n"  # or there would be no such table
        subprocess.run(["ip", family, "-batch", "-"], input=script, text=True, check=True)


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


def configure(addresses: Iterable[str], gateways: Iterable[str], interface: str = "eth0") -> None:
    """In a machine's own network namespace: *addresses* on the LAN, with prefixes, and default routes."""
    _sysctl(f"net/ipv6/conf/{interface}/accept_ra", "0")
    _ip(
        "link set lo up",
        f"link set {interface} up",
        *(_add(address, interface) for address in addresses),
        *(f"route add default via {gateway}" for gateway in gateways),
    )


def _add(address: str, interface: str) -> str:
    """The command that gives an address. Nobody else has it: to ask the LAN would take a second in IPv6."""
    return f"addr add {address} dev {interface}" + (" nodad" if ":" in address else "")


def _ip(*commands: str) -> None:
    """Run commands of ip(8), all in one go. subprocess.CalledProcessError if one fails; it says why."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n", text=True, check=True)


def _sysctl(name: str, value: str) -> None:
    path = f"/proc/sys/{name}"
    if os.path.exists(path):
        with open(path, "w") as file:
            file.write(value)
