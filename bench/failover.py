"""For how long an address is not answered when the node that announces it is lost, on a whole cluster.

bench/failover.py [--cuts N] [--only FAULT...] [--ways WAY...]: a client on the LAN, or behind a router, asks
every 20 ms over a new connection, through N faults of each kind. Nothing befalls the node of the endpoint, so
it is only the announcement that has to move. What is measured is the longest time without any answer from
the fault on, how many requests took longer than half a second, and how many were never answered; then the
same from when the fault is mended. The reference, in the same run, is the longest such time while nothing
happens.

With BGP the router, BIRD, has equal routes to all three nodes, so two of three connections don't notice. It
misses a lost node by BFD (100 ms, three times), or by the hold time of 3 s.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import balancer  # noqa: E402
import router  # noqa: E402
from balancer import EXCLUDE_LABEL, NODES, PORT, Site, process_of, resource, silent, won_by  # noqa: E402
from lan import Asking, late, longest_silence, lost  # noqa: E402
from local_cluster import LocalCluster, until  # noqa: E402
from router import ROUTER, Routed, session  # noqa: E402
from topology import Namespace  # noqa: E402

VICTIM = "node-3"
ON_LAN = won_by(VICTIM, [f"192.168.1.{last}" for last in range(240, 250)])
BEHIND_ROUTER = "203.0.113.65"
WATCHED, WATCHED_WITHOUT_BFD = 1.5, 5.0
"""Seconds after a fault in which the longest silence is looked for, more than any fault takes."""

REFERENCE_TIMES = 10

HEADING = (
    "longest time without an answer: p50, p99, max; requests late (over 0.5 s), lost; when all is mended"
)
METALLB = "MetalLB, the announcing node's link cut, 5 cuts on a machine like this: 5.4 to 7.0 s, median 5.7 s"

Fault = Callable[[Site], AbstractContextManager[None]]


@contextmanager
def nothing(site: Site) -> Iterator[None]:
    yield


@contextmanager
def node_cut(site: Site) -> Iterator[None]:
    site.cluster.in_world("ip", "link", "set", VICTIM, "down")
    yield
    site.cluster.in_world("ip", "link", "set", VICTIM, "up")


@contextmanager
def node_killed(site: Site) -> Iterator[None]:
    site.cluster.buoy("node stop", VICTIM)
    yield
    site.cluster.buoy("node start", VICTIM)


@contextmanager
def node_killed_without_api_server(site: Site) -> Iterator[None]:
    with silent(process_of(site.cluster, "apiserver")):
        site.cluster.buoy("node stop", VICTIM)
        yield
    site.cluster.buoy("node start", VICTIM)


@contextmanager
def speaker_killed(site: Site) -> Iterator[None]:
    site.cluster.buoy("kill", "speaker", "--node", VICTIM)
    yield


@contextmanager
def node_excluded(site: Site) -> Iterator[None]:
    site.cluster.kubectl("label", "node", VICTIM, f"{EXCLUDE_LABEL}=")
    yield
    site.cluster.kubectl("label", "node", VICTIM, f"{EXCLUDE_LABEL}-")


@contextmanager
def speaker_ended(site: Site) -> Iterator[None]:
    os.kill(process_of(site.cluster, "speaker", VICTIM), signal.SIGTERM)
    yield


FAULTS: dict[str, Fault] = {
    "nothing": nothing,
    "node cut off": node_cut,
    "node killed": node_killed,
    "API server down, node killed": node_killed_without_api_server,
    "speaker killed": speaker_killed,
    "drained: node excluded": node_excluded,
    "drained: speaker ended": speaker_ended,
}


@dataclass
class Figures:
    silences: list[float] = field(default_factory=list)
    late: int = 0
    lost: int = 0
    after: list[float] = field(default_factory=list)
    lost_after: int = 0


def measured(
    site: Site,
    client: Namespace,
    address: str,
    fault: Fault,
    is_home: Callable[[], bool],
    count: int,
    watched: float = WATCHED,
) -> Figures:
    figures = Figures()
    for _ in range(count):
        until(is_home, within=90, what=f"{address} at {VICTIM}")
        until(lambda: balancer.all_ready(site.cluster), within=90, every=0.3)
        with Asking(client, address, PORT) as asking:
            asking.is_answered_again()
            time.sleep(0.5)
            begin = time.monotonic()
            with fault(site):
                time.sleep(watched)
            mended = time.monotonic()
            until(is_home, within=90)
            time.sleep(1)
            end = time.monotonic()
            time.sleep(0.1)
        figures.silences.append(longest_silence(asking.requests, begin, mended))
        figures.late += late(asking.requests, begin, mended)
        figures.lost += lost(asking.requests, begin, mended)
        figures.after.append(longest_silence(asking.requests, mended, end))
        figures.lost_after += lost(asking.requests, mended, end)
    return figures


def line(name: str, figures: Figures, reference: float) -> str:
    ordered = sorted(figures.silences)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    p50 = statistics.median(ordered)
    return (
        f"{name:<44}{len(ordered):>4} x{p50 * 1000:8.0f}{p99 * 1000:8.0f}{ordered[-1] * 1000:8.0f} ms"
        f"{figures.late:5d} late{figures.lost:4d} lost   {p50 / reference:5.1f} x nothing;"
        f"   mended: {max(figures.after) * 1000:5.0f} ms{figures.lost_after:4d} lost"
    )


def layer2(site: Site, cases: list[str], count: int) -> None:
    site.serve("web", ON_LAN, selector={"who-1": "here"})
    reference = 0.0
    for name in cases:
        times = count if reference else min(count, REFERENCE_TIMES)
        figures = measured(
            site, site.machine, ON_LAN, FAULTS[name], lambda: site.announcer(ON_LAN) == VICTIM, times
        )
        reference = reference or statistics.median(figures.silences)
        print(line(f"layer 2, {name}", figures, reference), flush=True)


def bgp(site: Site, folder: Path, cases: list[str], count: int, *, bfd: bool) -> None:
    site.serve("web", BEHIND_ROUTER, selector={"who-1": "here"})
    peer = {"peerAddress": ROUTER, "peerASN": 64513, "myASN": 64512, "connectTime": "1s", "holdTime": "3s"}
    site.apply(resource("BGPPeer", "router", **peer, **({"bfdProfile": "quick"} if bfd else {})))
    more = "bfd { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; };" if bfd else ""
    sessions = {f"n{node[-1]}": session(address, more) for node, address in NODES.items()}
    watched = WATCHED if bfd else WATCHED_WITHOUT_BFD
    with router.routed(site.cluster, folder, sessions) as routed:
        reference = 0.0
        for name in cases:
            times = count if reference else min(count, REFERENCE_TIMES)
            home = partial(all_announce, routed)
            figures = measured(site, routed.client, BEHIND_ROUTER, FAULTS[name], home, times, watched)
            reference = reference or statistics.median(figures.silences)
            print(line(f"BGP with{'' if bfd else 'out'} BFD, {name}", figures, reference), flush=True)


def all_announce(routed: Routed) -> bool:
    shown = routed.router.run("ip", "route", "show", BEHIND_ROUTER)
    return shown.count("nexthop") == len(NODES)


def main() -> None:
    parser = argparse.ArgumentParser(description="How long an address is unanswered when its node is lost.")
    parser.add_argument("--cuts", type=int, default=10, help="faults of each kind")
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), default=list(FAULTS), metavar="FAULT")
    parser.add_argument(
        "--ways", nargs="+", choices=("layer2", "bgp", "bgp-without-bfd"), default=("layer2", "bgp")
    )
    options = parser.parse_args()
    cases = ["nothing", *(name for name in options.only if name != "nothing")]
    with tempfile.TemporaryDirectory(prefix="buoy-bench-") as name, ExitStack() as stack:
        cluster = LocalCluster(f"bench-{os.getpid()}", Path(name))
        stack.callback(cluster.buoy, "down", check=False)
        cluster.up()
        site = stack.enter_context(balancer.site(cluster, f"{ON_LAN}/32", "203.0.113.64/28"))
        site.advertise()
        site.advertise("BGPAdvertisement")
        site.apply(
            resource("BFDProfile", "quick", receiveInterval=100, transmitInterval=100, detectMultiplier=3)
        )
        print(HEADING, METALLB, sep="\n", flush=True)
        if "layer2" in options.ways:
            layer2(site, cases, options.cuts)
        for way in ("bgp", "bgp-without-bfd"):
            if way in options.ways:
                folder = Path(name) / way
                folder.mkdir()
                bgp(site, folder, cases, options.cuts, bfd=way == "bgp")


if __name__ == "__main__":
    main()
