"""The kernel settings of this network namespace that Service traffic needs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from .model import Family, Settings

log = logging.getLogger(__name__)

_ROOT = Path("/proc/sys")


def needed(settings: Iterable[Settings]) -> dict[str, str]:
    """Paths below /proc/sys and their values."""
    found: dict[str, str] = {}
    for one in settings:
        if one.family is Family.IPV6:
            found["net/ipv6/conf/all/forwarding"] = "1"
            continue
        found["net/ipv4/ip_forward"] = "1"
        if one.localhost_node_ports and one.node_port_addresses is None:
            # 127.0.0.1 as a source must survive until masquerading; KUBE-FIREWALL keeps others from using it.
            found["net/ipv4/conf/all/route_localnet"] = "1"
        if one.tcp_be_liberal:
            found["net/netfilter/nf_conntrack_tcp_be_liberal"] = "1"
    return found


def ensure(values: Mapping[str, str]) -> None:
    """Set what differs. Raises OSError if it cannot be written, as on a read-only /proc/sys."""
    for name, value in values.items():
        path = _ROOT / name
        if path.read_text().strip() != value:
            path.write_text(value)
            log.info("set %s = %s", name.replace("/", "."), value)
