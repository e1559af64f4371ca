"""The way out of the cluster: pasta, a user-mode network stack, between the world and the host's network.

It opens ordinary sockets on the host; nothing of the host's network is changed
(https://passt.top/passt/about/#pasta-pack-a-subtle-tap-abstraction).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

from . import linux
from .supervisor import execute

INTERFACE = "uplink0"
DNS_FORWARDER = "169.254.77.3"
"""Where the host's own resolver answers inside the cluster, also one that listens on the host's loopback."""

_ADDRESS = "169.254.77.2"
_PEER = "169.254.77.1"


def available() -> bool:
    return shutil.which("pasta") is not None


def translate(lan: str) -> None:
    """In the world: what leaves through the uplink takes the uplink's address. Blocks."""
    rules = f"""
table ip buoy-uplink {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {lan} oifname "{INTERFACE}" masquerade
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


def connect(host_network: int, world_network: Path) -> NoReturn:
    """Become pasta, with its sockets in *host_network* (a descriptor) and its interface in *world_network*.

    No port is forwarded into the cluster, and the host's loopback is not reachable from it.
    """
    linux.setns(host_network, linux.CLONE_NEWNET)
    options = (
        "--foreground --stderr --quiet --runas 0 --config-net --ipv4-only --no-map-gw "
        "--tcp-ports none --udp-ports none --tcp-ns none --udp-ns none "
        f"--ns-ifname {INTERFACE} --address {_ADDRESS} --netmask 29 --gateway {_PEER} "
        f"--dns-forward {DNS_FORWARDER} --netns"
    )
    execute(["pasta", *options.split(), str(world_network)])
