"""What FRR says of its sessions, read from its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_COUNTERS = {
    "opens_sent": "opensSent",
    "opens_received": "opensRecv",
    "notifications_sent": "notificationsSent",
    "updates_total": "updatesSent",
    "updates_total_received": "updatesRecv",
    "keepalives_sent": "keepalivesSent",
    "keepalives_received": "keepalivesRecv",
    "route_refresh_sent": "routeRefreshSent",
    "total_sent": "totalSent",
    "total_received": "totalRecv",
}

_BFD_COUNTERS = {
    "control_packet_input": "control-packet-input",
    "control_packet_output": "control-packet-output",
    "echo_packet_input": "echo-packet-input",
    "echo_packet_output": "echo-packet-output",
    "session_up_events": "session-up",
    "session_down_events": "session-down",
    "zebra_notifications": "zebra-notifications",
}


@dataclass(frozen=True, slots=True)
class Session:
    """One neighbor. *counters* are by the last part of MetalLB's names for them."""

    neighbor: str
    vrf: str = ""
    state: str = "Idle"
    announced: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_up(self) -> bool:
        return self.state == "Established"


@dataclass(frozen=True, slots=True)
class BfdSession:
    peer: str
    is_up: bool
    counters: Mapping[str, int] = field(default_factory=dict)


def sessions(answer: Mapping[str, Any]) -> Iterator[Session]:
    """Those in the answer to ``show bgp vrf all neighbors json``."""
    for vrf, neighbors in answer.items():
        for name, told in neighbors.items():
            if not isinstance(told, dict) or "bgpState" not in told:
                continue
            families = (told.get("addressFamilyInfo") or {}).values()
            messages = told.get("messageStats") or {}
            yield Session(
                name,
                "" if vrf == "default" else vrf,
                told["bgpState"],
                sum(family.get("sentPrefixCounter", 0) for family in families),
                {ours: messages.get(theirs, 0) for ours, theirs in _COUNTERS.items()},
            )


def bfd_sessions(peers: list[Mapping[str, Any]], counters: list[Mapping[str, Any]]) -> Iterator[BfdSession]:
    """Those in the answers to ``show bfd peers json`` and ``show bfd peers counters json``."""
    counted = {one["peer"]: one for one in counters}
    for one in peers:
        counts = counted.get(one["peer"], {})
        yield BfdSession(
            one["peer"],
            one.get("status") == "up",
            {ours: counts.get(theirs, 0) for ours, theirs in _BFD_COUNTERS.items()},
        )
