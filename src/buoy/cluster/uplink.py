"""The way out of the cluster: pasta, a user-mode network stack, between the world and the host's network.

It opens ordinary sockets on the host; nothing of the host's network is changed
(https://passt.top/passt/about/#pasta-pack-a-subtle-tap-abstraction).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from . import linux
from .config import FamilyNetwork, Version
from .supervisor import execute

INTERFACE = "uplink0"
DNS_FORWARDER: dict[Version, str] = {4: "169.254.77.3", 6: "fd00:169:254:77::3"}
"""Where the host's own resolver answers inside the cluster, also one that listens on the host's loopback."""

_ADDRESSING: dict[Version, str] = {
    4: "--address 169.254.77.2 --netmask 29 --gateway 169.254.77.1",
    6: "--address fd00:169:254:77::2 --gateway fd00:169:254:77::1",
}
_ONLY: dict[Version, str] = {4: "--ipv4-only", 6: "--ipv6-only"}


def available() -> bool:
    return shutil.which("pasta") is not None


def translate(networks: Iterable[FamilyNetwork]) -> None:
    """In the world: what leaves through the uplink takes the uplink's address. Blocks."""
    lans = [f"{'ip' if network.version == 4 else 'ip6'} saddr {network.lan}" for network in networks]
    rules = f"""
table inet buoy-uplink {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    {"; ".join(f'{lan} oifname "{INTERFACE}" masquerade' for lan in lans)}
  }}
}}
"""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def pin_network(path: Path) -> None:
    """Give this network namespace a name in the file system, for `connect`.

    pasta cannot use /proc/1/ns/net: it gives up its right to look into other processes first.
    """
    path.touch()
    linux.mount("/proc/self/ns/net", str(path), flags=linux.MS_BIND)


def connect(host_network: int, world_network: Path, networks: Sequence[FamilyNetwork]) -> NoReturn:
    """Become pasta, with its sockets in *host_network* (a descriptor) and its interface in *world_network*.

    No port is forwarded into the cluster, and the host's loopback is not reachable from it. Of two IP
    families, one that the host itself has no way out for is left alone.
    """
    linux.setns(host_network, linux.CLONE_NEWNET)
    versions = [network.version for network in networks]
    families = [f"{_ADDRESSING[version]} --dns-forward {DNS_FORWARDER[version]} " for version in versions]
    if len(versions) == 1:
        families.append(f"{_ONLY[versions[0]]} ")
    options = (
        "--foreground --stderr --quiet --runas 0 --config-net --no-map-gw --no-ra --no-dhcpv6 "
        "--tcp-ports none --udp-ports none --tcp-ns none --udp-ns none "
        f"--ns-ifname {INTERFACE} {''.join(families)}--netns"
    )
    execute(["pasta", *options.split(), str(world_network)])
