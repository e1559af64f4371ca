"""The server's metrics, under Kubernetes' names."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from buoy import KUBERNETES_VERSION

from .requestinfo import RequestInfo

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (
    0.005,
    0.025,
    0.05,
    0.1,
    0.2,
    0.4,
    0.6,
    0.8,
    1.0,
    1.25,
    1.5,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    15,
    20,
    30,
    45,
    60,
)
_LABELS = ("verb", "group", "version", "resource", "subresource", "scope", "component")
_STREAMS = frozenset({"exec", "attach", "portforward", "log", "proxy"})


class Metrics:
    """*is_known* tells whether a request is on a resource that there is: no other has labels of its own."""

    def __init__(self, is_known: Callable[[RequestInfo], bool]) -> None:
        self._is_known = is_known
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, group, version, resource, scope, "
            "component, and HTTP response code.",
            (*_LABELS, "code"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, group, version, resource, subresource, "
            "scope and component.",
            _LABELS,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._long = Gauge(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running apiserver requests broken out by verb, group, version, "
            "resource, scope and component.",
            _LABELS,
            registry=self.registry,
        )
        self._inflight = Gauge(
            "apiserver_current_inflight_requests",
            "Maximal number of currently used inflight request limit of this apiserver per request kind.",
            ("request_kind",),
            registry=self.registry,
        )
        build = Gauge(
            "kubernetes_build_info",
            "A metric with a constant '1' value labeled by version.",
            ("git_version",),
            registry=self.registry,
        )
        build.labels(KUBERNETES_VERSION).set(1)
        self._by_kind = {kind: self._inflight.labels(kind) for kind in ("readOnly", "mutating")}
        self._counters: dict[tuple[Any, ...], Any] = {}
        self._histograms: dict[tuple[str, ...], Any] = {}

    def request(self, method: str) -> Measured:
        return Measured(self, self._by_kind["readOnly" if method in ("GET", "HEAD") else "mutating"])

    def count(self, info: RequestInfo, code: int, seconds: float) -> None:
        labels = self._labels(info)
        counter = self._counters.get((*labels, code))
        if counter is None:
            counter = self._counters[(*labels, code)] = self._requests.labels(*labels, str(code))
        counter.inc()
        if labels[0] in ("WATCH", "CONNECT"):
            return
        histogram = self._histograms.get(labels)
        if histogram is None:
            histogram = self._histograms[labels] = self._seconds.labels(*labels)
        histogram.observe(seconds)

    def long_running(self, info: RequestInfo) -> Any:
        """The gauge of such requests, if *info* is one that stays; else None."""
        labels = self._labels(info)
        return self._long.labels(*labels) if labels[0] in ("WATCH", "CONNECT") else None

    def _labels(self, info: RequestInfo) -> tuple[str, ...]:
        if info.is_resource and not self._is_known(info):
            return _UNKNOWN
        return labels_of(info)

    def expose(self) -> bytes:
        return generate_latest(self.registry)


class Measured:
    """Measures one request: a context manager. Call `began` and set *code* in it."""

    __slots__ = ("_gauge", "_info", "_long", "_metrics", "_started", "code")

    def __init__(self, metrics: Metrics, gauge: Any) -> None:
        self._metrics = metrics
        self._gauge = gauge
        self._started = time.perf_counter()
        self._info: RequestInfo | None = None
        self._long: Any = None
        self.code = 500

    def began(self, info: RequestInfo) -> None:
        """It is known now what the request is."""
        self._info = info
        self._long = self._metrics.long_running(info)
        if self._long is not None:
            self._gauge.dec()
            self._gauge = self._long
            self._gauge.inc()

    def __enter__(self) -> Measured:
        self._gauge.inc()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gauge.dec()
        if self._info is not None:
            self._metrics.count(self._info, self.code, time.perf_counter() - self._started)


def labels_of(info: RequestInfo) -> tuple[str, ...]:
    if not info.is_resource:
        first = f"/{info.path.split('/', 2)[1]}" if 0 < info.path.count("/") < 3 else ""
        method = info.method if info.method in _METHODS else ""
        return method, "", "", "", first if first in _PATHS else "", "", "apiserver"
    verb = "CONNECT" if info.subresource in _STREAMS else _SHOWN.get(info.verb, info.verb.upper())
    scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
    return verb, info.group, info.version, info.resource, info.subresource, scope, "apiserver"


_UNKNOWN = ("", "", "", "", "", "", "apiserver")
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"))
_PATHS = frozenset(
    (
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/readyz",
        "/metrics",
        "/openapi",
        "/version",
        "/.well-known",
        "/openid",
    )
)
_SHOWN = {"create": "POST", "update": "PUT", "deletecollection": "DELETECOLLECTION"}
