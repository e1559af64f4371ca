"""kube-proxy's metrics (k8s.io/kubernetes/pkg/proxy/metrics)."""

from __future__ import annotations

import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from .model import Family, PortRules

_SYNC_BUCKETS = tuple(0.001 * 2**power for power in range(15))
# kube-proxy's, and finer ones below 0.25 s, by which time most is done here.
_PROGRAMMING_BUCKETS = (
    *(0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5),
    *range(1, 60),
    *range(60, 120, 5),
    *range(120, 330, 30),
)


class Metrics:
    """The metrics of one proxy, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        family = ["ip_family"]
        sync = "kubeproxy_sync_proxy_rules"
        self._sync = Histogram(
            f"{sync}_duration_seconds",
            "SyncProxyRules latency in seconds",
            family,
            buckets=_SYNC_BUCKETS,
            registry=registry,
        )
        self._full = Histogram(
            "kubeproxy_sync_full_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds for full resyncs",
            family,
            buckets=_SYNC_BUCKETS,
            registry=registry,
        )
        self._partial = Histogram(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds for partial resyncs",
            family,
            buckets=_SYNC_BUCKETS,
            registry=registry,
        )
        self._programming = Histogram(
            "kubeproxy_network_programming_duration_seconds",
            "In Cluster Network Programming Latency in seconds",
            family,
            buckets=_PROGRAMMING_BUCKETS,
            registry=registry,
        )
        self._last = Gauge(
            f"{sync}_last_timestamp_seconds",
            "The last time proxy rules were successfully synced",
            family,
            registry=registry,
        )
        self._queued = Gauge(
            f"{sync}_last_queued_timestamp_seconds",
            "The last time a sync of proxy rules was queued",
            family,
            registry=registry,
        )
        self._services = Counter(
            f"{sync}_service_changes",
            "Cumulative proxy rules Service changes",
            family,
            registry=registry,
        )
        self._endpoints = Counter(
            f"{sync}_endpoint_changes",
            "Cumulative proxy rules Endpoint changes",
            family,
            registry=registry,
        )
        self._rules = Gauge(
            f"{sync}_iptables_total",
            "Total number of iptables rules owned by kube-proxy",
            ["table", *family],
            registry=registry,
        )
        self._failures = Counter(
            f"{sync}_iptables_restore_failures",
            "Cumulative proxy iptables restore failures",
            family,
            registry=registry,
        )
        self._partial_failures = Counter(
            f"{sync}_iptables_partial_restore_failures",
            "Cumulative proxy iptables partial restore failures",
            family,
            registry=registry,
        )
        self._no_local = Gauge(
            f"{sync}_no_local_endpoints_total",
            "Number of services with a Local traffic policy and no endpoints",
            ["traffic_policy", *family],
            registry=registry,
        )
        self._conntrack = Counter(
            "kubeproxy_conntrack_reconciler_deleted_entries",
            "Cumulative conntrack flows deleted by conntrack reconciler",
            family,
            registry=registry,
        )

        self._probes = {
            name: Counter(
                f"kubeproxy_proxy_{name}",
                f"Cumulative proxy {name} HTTP status",
                ["code"],
                registry=registry,
            )
            for name in ("healthz", "livez")
        }

    def probed(self, name: str, status: int) -> None:
        """``healthz`` or ``livez`` was answered."""
        self._probes[name].labels(status).inc()

    def queued(self, family: Family, *, services: int = 0, endpoints: int = 0) -> None:
        """Something changed that has yet to reach the kernel."""
        self._queued.labels(family).set_to_current_time()
        if services:
            self._services.labels(family).inc(services)
        if endpoints:
            self._endpoints.labels(family).inc(endpoints)

    def synced(self, family: Family, seconds: float, *, full: bool) -> None:
        self._sync.labels(family).observe(seconds)
        (self._full if full else self._partial).labels(family).observe(seconds)
        self._last.labels(family).set_to_current_time()

    def failed(self, family: Family, *, full: bool) -> None:
        (self._failures if full else self._partial_failures).labels(family).inc()

    def programmed(self, family: Family, triggered: float) -> None:
        """The change of Unix time *triggered* is in the kernel."""
        self._programming.labels(family).observe(max(0.0, time.time() - triggered))

    def forgot(self, family: Family, flows: int) -> None:
        self._conntrack.labels(family).inc(flows)

    def rules(self, family: Family, counts: Mapping[str, int]) -> None:
        for table, count in counts.items():
            self._rules.labels(table, family).set(count)

    def no_local(self, family: Family, old: PortRules | None, new: PortRules | None) -> None:
        """Count Service ports that drop traffic because of their policy."""
        for policy in ("internal", "external"):
            difference = _drops(new, policy) - _drops(old, policy)
            if difference:
                self._no_local.labels(policy, family).inc(difference)


def _drops(rules: PortRules | None, policy: str) -> int:
    if rules is None:
        return 0
    fate = rules.internal_fate if policy == "internal" else rules.external_fate
    return int(fate == "drop" and (policy == "internal" or rules.externally_accessible))
