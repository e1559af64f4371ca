"""A router on the LAN of a local cluster, BIRD, with a client behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bird import Bird
from lan import LanMachine
from local_cluster import LocalCluster
from topology import Namespace

ROUTER = "192.168.1.220"
BEHIND = "198.51.100.0/24"
CLIENT = "198.51.100.2"


@dataclass(frozen=True)
class Routed:
    """*bird* runs on *router*; *client* is on the router's other side, in the network BEHIND."""

    bird: Bird
    router: LanMachine
    client: Namespace


def session(neighbor: str, more: str = "") -> str:
    """A BIRD protocol's contents for a session with a node of the AS 64512."""
    family, own = ("ipv6", "") if ":" in neighbor else ("ipv4", ROUTER)
    return (
        f"local {own} as 64513; neighbor {neighbor} as 64512; connect delay time 1; connect retry time 1;"
        f" error wait time 1,2; {more} {family} {{ import all; export none; }};"
    )


@contextmanager
def routed(
    cluster: LocalCluster, folder: Path, sessions: dict[str, str], addresses: Iterable[str] = ()
) -> Iterator[Routed]:
    """The router with more *addresses* of its own and these *sessions*, a protocol's contents by name.

    Nodes reach what is behind it by way of their gateway. New connections spread over equal routes.
    """
    back = ("route", "add", BEHIND, "via", ROUTER)
    with LanMachine(cluster, "router", ROUTER) as router:
        client = Namespace("client")
        try:
            client.ip(
                f"link add eth0 type veth peer name behind netns {router.path}",
                "link set eth0 up",
                f"address add {CLIENT}/24 dev eth0",
                "route add default via 198.51.100.1",
            )
            router.ip(
                "link set behind up",
                "address add 198.51.100.1/24 dev behind",
                *(f"address add {address}/32 dev eth0" for address in addresses),
            )
            router.sysctl(
                ipv4__ip_forward=1, ipv4__fib_multipath_hash_policy=1, ipv4__conf__all__send_redirects=0
            )
            cluster.in_world("ip", *back)
            with Bird(router, ROUTER, folder, sessions) as bird:
                yield Routed(bird, router, client)
        finally:
            cluster.in_world("ip", "route", "del", BEHIND, check=False)
            client.close()
