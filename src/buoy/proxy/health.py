"""The HTTP sides of the proxy: its own health, its metrics, and the health-check node ports of Services.

Sources: k8s.io/kubernetes/pkg/proxy/healthcheck; KEP-3458 and KEP-3836.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from buoy.api import meta
from buoy.api.meta import Object

from .plan import HealthCheck

_DELETION_TAINT = "ToBeDeletedByClusterAutoscaler"


class Health:
    """Whether rules are kept up to date: no change, nor the start, waits longer than *timeout* seconds."""

    def __init__(self, families: Iterable[str], timeout: float) -> None:
        self._timeout = timeout
        self._updated: dict[str, float] = dict.fromkeys(families, 0.0)
        self._queued: dict[str, float] = dict.fromkeys(self._updated, time.time())
        self.eligible = True

    def queued(self, family: str) -> None:
        self._queued.setdefault(family, time.time())

    def updated(self, family: str) -> None:
        self._updated[family] = time.time()
        self._queued.pop(family, None)

    def see_node(self, node: Object | None) -> None:
        """A node on its way out must not get new connections from load balancers."""
        taints = (node or {}).get("spec", {}).get("taints") or ()
        leaving = node is not None and meta.is_terminating(node)
        self.eligible = not leaving and all(taint["key"] != _DELETION_TAINT for taint in taints)

    def _late(self) -> list[str]:
        now = time.time()
        return [family for family, since in self._queued.items() if now - since >= self._timeout]

    @property
    def healthy(self) -> bool:
        return not self._late()

    @property
    def last_updated(self) -> float:
        """Unix time at which the rules were last right: now, as long as all is well."""
        return min((self._updated[family] for family in self._late()), default=time.time())


def _timestamp(moment: float) -> str:
    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment))
    return f"{whole}.{int(moment % 1 * 1e9):09d} +0000 UTC"


def _json(body: Object, *, ok: bool, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        status=HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE,
        headers={"X-Content-Type-Options": "nosniff", **(headers or {})},
        content_type="application/json",
    )


def health_application(health: Health, answered: Callable[[str, int], None]) -> web.Application:
    """``/healthz``, which a load balancer asks, and ``/livez``, which says whether to restart the proxy.

    *answered* is told the name and the status of each answer.
    """

    def answer(name: str, ok: bool, **more: bool) -> web.Response:
        body: Object = {
            "lastUpdated": _timestamp(health.last_updated),
            "currentTime": _timestamp(time.time()),
            **more,
        }
        response = _json(body, ok=ok)
        answered(name, response.status)
        return response

    async def healthz(_: web.Request) -> web.Response:
        return answer("healthz", health.healthy and health.eligible, nodeEligible=health.eligible)

    async def livez(_: web.Request) -> web.Response:
        return answer("livez", health.healthy)

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/livez", livez)])
    return application


def metrics_application(registry: CollectorRegistry, mode: str) -> web.Application:
    """``/metrics``, ``/proxyMode`` and ``/healthz``."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def proxy_mode(_: web.Request) -> web.Response:
        return web.Response(text=mode)

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    application = web.Application()
    application.add_routes(
        [web.get("/metrics", metrics), web.get("/proxyMode", proxy_mode), web.get("/healthz", healthz)]
    )
    return application


class ServiceHealth:
    """The health-check node ports: each answers whether this node has ready endpoints of its Service.

    *failed* is told of a Service whose port cannot be opened, with the reason.
    """

    def __init__(self, health: Health, failed: Callable[[HealthCheck, str], None]) -> None:
        self._health = health
        self._failed = failed
        self._runner: web.AppRunner | None = None
        self._sites: dict[int, list[web.TCPSite]] = {}
        self._checks: dict[int, HealthCheck] = {}

    async def update(self, checks: Iterable[HealthCheck], hosts: Iterable[str] | None) -> None:
        """Serve *checks*, and no others, at the addresses *hosts* (None: all)."""
        wanted = {check.port: check for check in checks}
        if not wanted and not self._sites:
            return
        if self._runner is None:
            application = web.Application()
            application.add_routes([web.get("/{path:.*}", self._answer)])
            self._runner = web.AppRunner(application, access_log=None)
            await self._runner.setup()
        for port in [port for port in self._sites if port not in wanted]:
            for site in self._sites.pop(port):
                await site.stop()
        self._checks = wanted
        for port, check in wanted.items():
            if port not in self._sites:
                await self._open(self._runner, check, [None] if hosts is None else list(hosts))

    async def _open(self, runner: web.AppRunner, check: HealthCheck, hosts: Iterable[str | None]) -> None:
        sites = []
        for host in hosts:
            site = web.TCPSite(runner, host, check.port)
            try:
                await site.start()
            except OSError as error:
                self._failed(check, error.strerror or str(error))
                continue
            sites.append(site)
        if sites:
            self._sites[check.port] = sites

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        check = self._checks[request.transport.get_extra_info("sockname")[1]]
        namespace, name = meta.split_key(check.service)
        body: Object = {
            "service": {"namespace": namespace, "name": name},
            "localEndpoints": check.endpoints,
            "serviceProxyHealthy": self._health.healthy,
        }
        return _json(
            body,
            ok=check.endpoints > 0 and self._health.healthy,
            headers={"X-Load-Balancing-Endpoint-Weight": str(check.endpoints)},
        )
