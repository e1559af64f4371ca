"""The controller's metrics, under MetalLB's names."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..allocation import Allocator


class Metrics:
    """Of one controller; the gauges of pools read *allocator* when they are asked for."""

    def __init__(self, allocator: Allocator) -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(_Pools(allocator))
        self.updates = Counter(
            "metallb_k8s_client_updates", "Number of Kubernetes object updates processed", registry=registry
        )
        self.update_errors = Counter(
            "metallb_k8s_client_update_errors",
            "Number of Kubernetes object updates that failed",
            registry=registry,
        )
        self.config_loaded = Gauge(
            "metallb_k8s_client_config_loaded_bool",
            "1 if the configuration was successfully loaded at least once",
            registry=registry,
        )
        self.config_stale = Gauge(
            "metallb_k8s_client_config_stale_bool",
            "1 if running on a stale configuration, because the latest config failed to load",
            registry=registry,
        )


class _Pools(Collector):
    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, what, versions, used in _GAUGES:
            family = GaugeMetricFamily(
                f"metallb_allocator_{name}_total", f"Number of {what}, per pool", labels=["pool"]
            )
            for pool in self._allocator.pools():
                usage = self._allocator.usage(pool)
                value = sum(usage.assigned(version) for version in versions)
                if not used:
                    value += sum(usage.available(version) for version in versions)
                family.add_metric([pool], value)
            yield family


_GAUGES = (
    ("addresses", "usable IP addresses", (4, 6), False),
    ("ipv4_addresses", "usable IPv4 addresses", (4,), False),
    ("ipv6_addresses", "usable IPv6 addresses", (6,), False),
    ("addresses_in_use", "IP addresses in use", (4, 6), True),
    ("ipv4_addresses_in_use", "IPv4 addresses in use", (4,), True),
    ("ipv6_addresses_in_use", "IPv6 addresses in use", (6,), True),
)
