"""The metrics of one DNS server, in the manner of CoreDNS's."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from .address import Address

_TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    65: "HTTPS",
}
_SECONDS = tuple(0.00025 * 2**power for power in range(16))


class Tally:
    """How many answers of one sort there were; cheaper to count in than a Counter."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class _Answers(Collector):
    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str, str, str], Tally] = {}

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "buoy_dns_responses", "Answers by what was asked", labels=["proto", "source", "type", "rcode"]
        )
        for labels, tally in self.tallies.items():
            family.add_metric(labels, tally.count)
        yield family


class Metrics:
    """Counts of everything; *source* is ``cluster``, ``hosts``, ``forward`` or ``none``."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._answers = _Answers()
        registry.register(self._answers)
        self.cache_hits = Counter("buoy_dns_cache_hits", "Answers out of the cache", registry=registry)
        self.cache_misses = Counter("buoy_dns_cache_misses", "Questions not in the cache", registry=registry)
        self.cache_stale = Counter(
            "buoy_dns_cache_served_stale", "Expired answers given as there was no other", registry=registry
        )
        self.cache_entries = Gauge("buoy_dns_cache_entries", "Answers in the cache", registry=registry)
        self.dropped = Counter("buoy_dns_dropped", "Messages that got no answer", registry=registry)
        self.names = Gauge("buoy_dns_zone_names", "Names that the cluster's zone has", registry=registry)
        self.connections = Gauge("buoy_dns_tcp_connections", "Open TCP connections", registry=registry)
        self.reloads = Counter(
            "buoy_dns_config_reloads", "Configurations read", ["result"], registry=registry
        )
        self.programming = Histogram(
            "buoy_dns_programming_duration_seconds",
            "Time from the change of a Pod or Service to the change of the zone",
            buckets=(*_SECONDS, 16, 32, 64, 128),
            registry=registry,
        )
        self._forwarded = Histogram(
            "buoy_dns_forward_request_duration_seconds",
            "Time that an upstream server took, by its answer",
            ["to", "rcode"],
            buckets=_SECONDS,
            registry=registry,
        )

    def tally(self, proto: str, source: str, kind: int, rcode: int) -> Tally:
        """Where to count answers of this sort."""
        labels = (proto, source, _TYPES.get(kind, "other"), rcode_name(rcode))
        tallies = self._answers.tallies
        if labels not in tallies:
            tallies[labels] = Tally()
        return tallies[labels]

    def forwarded(self, to: Address, rcode: str, seconds: float) -> None:
        self._forwarded.labels(str(to), rcode).observe(seconds)


_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS"}


def rcode_name(rcode: int) -> str:
    """The name of a response code as tools print it."""
    return _RCODES.get(rcode, str(rcode))
