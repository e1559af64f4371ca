"""The speaker's metrics, under the names of MetalLB's (internal/layer2/stats.go, internal/bgp/frr)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, UntypedMetricFamily
from prometheus_client.registry import Collector

from ..bgp.sessions import BfdSession, Session
from .orders import Traffic


class Metrics(Collector):
    """What is known now; set by the speaker before each scrape.

    *announced* are ``(service, protocol, address)``.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.announced: Iterable[tuple[str, str, str]] = ()
        self.traffic: Mapping[str, Traffic] = {}
        self.sessions: Iterable[Session] = ()
        self.bfd: Iterable[BfdSession] = ()
        self.updates = 0
        self.update_errors = 0
        self.config_loaded = False
        self.config_stale = False

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        yield self._announced()
        yield from self._layer2()
        yield from self._bgp()
        yield from self._bfd()
        client = "metallb_k8s_client"
        for name, text, count in (
            ("updates_total", "Number of k8s object updates that have been processed.", self.updates),
            (
                "update_errors_total",
                "Number of k8s object updates that failed for some reason.",
                self.update_errors,
            ),
        ):
            yield CounterMetricFamily(f"{client}_{name}", text, value=count)
        for name, text, state in (
            (
                "config_loaded_bool",
                "1 if the MetalLB configuration was successfully loaded once.",
                self.config_loaded,
            ),
            ("config_stale_bool", "1 if running on a stale configuration.", self.config_stale),
        ):
            yield GaugeMetricFamily(f"{client}_{name}", text, value=float(state))

    def _announced(self) -> Metric:
        family = GaugeMetricFamily(
            "metallb_speaker_announced",
            "Services being announced from this node. This is desired state, it does not guarantee that the"
            " routing protocols have converged.",
            labels=["service", "protocol", "node", "ip"],
        )
        for service, protocol, address in self.announced:
            family.add_metric([service, protocol, self._node, address], 1)
        return family

    def _layer2(self) -> Iterable[Metric]:
        # Counters, but their names lack the suffix without which this library makes none.
        for name, text, attribute in (
            ("requests_received", "Number of layer2 requests received for owned IPs", "requests"),
            (
                "responses_sent",
                "Number of layer2 responses sent for owned IPs in response to requests",
                "responses",
            ),
            (
                "gratuitous_sent",
                "Number of gratuitous layer2 packets sent for owned IPs as a result of failovers",
                "gratuitous",
            ),
        ):
            family = UntypedMetricFamily(f"metallb_layer2_{name}", text, labels=["ip"])
            for address, traffic in self.traffic.items():
                family.add_metric([address], getattr(traffic, attribute))
            yield family

    def _bgp(self) -> Iterable[Metric]:
        sessions = list(self.sessions)
        labels = ["peer", "vrf"]
        up = GaugeMetricFamily(
            "metallb_bgp_session_up", "BGP session state (1 is up, 0 is down)", labels=labels
        )
        announced = GaugeMetricFamily(
            "metallb_bgp_announced_prefixes_total",
            "Number of prefixes currently being advertised on the BGP session",
            labels=labels,
        )
        counters: dict[str, Metric] = {}
        for session in sessions:
            values = [session.neighbor, session.vrf or "default"]
            up.add_metric(values, float(session.is_up))
            announced.add_metric(values, session.announced)
            for name, count in session.counters.items():
                _counter(counters, f"metallb_bgp_{name}", labels).add_metric(values, count)
        yield from (up, announced, *counters.values())

    def _bfd(self) -> Iterable[Metric]:
        up = GaugeMetricFamily(
            "metallb_bfd_session_up", "BFD session state (1 is up, 0 is down)", labels=["peer"]
        )
        counters: dict[str, Metric] = {}
        for session in self.bfd:
            up.add_metric([session.peer], float(session.is_up))
            for name, count in session.counters.items():
                _counter(counters, f"metallb_bfd_{name}", ["peer"]).add_metric([session.peer], count)
        yield from (up, *counters.values())


def _counter(
    families: dict[str, Metric], name: str, labels: list[str]
) -> CounterMetricFamily | UntypedMetricFamily:
    if name not in families:
        kind = CounterMetricFamily if name.endswith("_total") else UntypedMetricFamily
        families[name] = kind(name, name.removeprefix("metallb_").replace("_", " "), labels=labels)
    family = families[name]
    assert isinstance(family, CounterMetricFamily | UntypedMetricFamily)
    return family
