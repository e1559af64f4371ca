"""The interfaces of a machine on which addresses can be announced: MetalLB's choice."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from buoy.api.meta import Object

EXCLUDED = (
    *("^docker.*", "^cbr.*", "^dummy.*", "^virbr.*", "^lxcbr.*", "^veth.*", "^lo$", "^cali.*", "^tunl.*"),
    *("^flannel.*", "^kube-ipvs.*", "^cni.*", "^nodelocaldns.*", "^lxc.*"),
)
"""Interfaces that lead to Pods or nowhere, as MetalLB's ConfigMap ``metallb-excludel2`` has them."""


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    index: int
    mac: bytes


def usable(links: Iterable[Object], excluded: Iterable[str] = EXCLUDED) -> tuple[Interface, ...]:
    """Those of *links*, which is what ``ip -json link`` says, on which neighbours ask for addresses.

    They are Ethernet, up, not part of a bridge or bond, and no pattern of *excluded* is found in their name.
    """
    patterns = [re.compile(pattern) for pattern in excluded]
    return tuple(
        Interface(link["ifname"], link["ifindex"], bytes.fromhex(link["address"].replace(":", "")))
        for link in links
        if link.get("link_type") == "ether"
        and {"UP", "LOWER_UP", "BROADCAST"} <= set(link["flags"])
        and "NOARP" not in link["flags"]
        and "master" not in link
        and not any(pattern.search(link["ifname"]) for pattern in patterns)
    )
