"""The thin half: from the API's changes to the backends, one family each."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import ENDPOINT_SLICES, NODES, SERVICES
from buoy.client import Client, EventRecorder, Informer, serve

from . import Options, conntrack, decode, sysctl
from .backend import Backend, BackendError
from .health import Health, ServiceHealth, health_application, metrics_application
from .iptables import IptablesBackend
from .metrics import Metrics
from .model import Change, Family, Ruleset, Settings
from .plan import HealthCheck, Planner

log = logging.getLogger(__name__)

_FIRST_RETRY = 0.1
_LONGEST_RETRY = 30.0
_LEAST_BETWEEN_REPAIRS = 1.0

_FULL_PERIOD = 3600.0

# What decoding raises for an object that has been through no, or another, server's validation.
_MALFORMED = (AttributeError, KeyError, TypeError, ValueError)

_BACKENDS: dict[str, Callable[[Family], Backend]] = {"iptables": IptablesBackend}


class FamilySync:
    """Keeps the kernel at what the planner says, one family. All of it happens on one event loop."""

    def __init__(
        self,
        planner: Planner,
        settings: Settings,
        backend: Backend,
        metrics: Metrics,
        health: Health,
        *,
        check_period: float,
        least_period: float,
        failed: Callable[[str], None],
        done: Callable[[], None],
    ) -> None:
        self.planner = planner
        self._settings = settings
        self._backend = backend
        self._metrics = metrics
        self._health = health
        self._check_period = check_period
        self._least_period = least_period
        self._failed = failed
        self._done = done
        self._family = settings.family
        self._wake = asyncio.Event()
        self._rebuild = True
        self._triggers: list[float] = []
        self._started = time.time()

    @property
    def settings(self) -> Settings:
        return self._settings

    def configure(self, settings: Settings) -> None:
        """Use other settings from now on."""
        if settings != self._settings:
            self._settings = settings
            self.rebuild()

    def rebuild(self) -> None:
        """Compare all that is in the kernel with what should be."""
        self._rebuild = True
        self._wake.set()

    def changed(self, *, services: int = 0, endpoints: int = 0, triggered: float = 0.0) -> None:
        """The planner has been told something new. *triggered* is when the change began in the cluster."""
        if triggered > self._started:  # before that, it was not for us to do
            self._triggers.append(triggered)
        self._metrics.queued(self._family, services=services, endpoints=endpoints)
        self._health.queued(self._family)
        self._wake.set()

    async def run(self) -> None:
        """Work for ever. The first thing is a comparison with what is there."""
        self._wake.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            await self._work()

    async def _work(self) -> None:
        delay = 0.0
        looked = time.monotonic()
        while True:
            if await self._woken(delay or self._check_period) or delay:
                started = time.monotonic()
                delay = 0.0 if await self._sync() else min(max(2 * delay, _FIRST_RETRY), _LONGEST_RETRY)
                rest = self._least_period - (time.monotonic() - started)
                if rest > 0:
                    await asyncio.sleep(rest)
            elif not await self._backend.verify():
                self._disturbed()
            elif time.monotonic() - looked > _FULL_PERIOD:
                looked = time.monotonic()
                self.rebuild()

    async def _woken(self, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(0)  # whatever else came in this turn goes with it
        self._wake.clear()
        return True

    async def _watch(self) -> None:
        while True:
            try:
                await self._backend.disturbed()
            except BackendError as error:
                log.warning("cannot watch the %s rules: %s", self._family, error)
                await asyncio.sleep(_LONGEST_RETRY)
                continue
            self._disturbed()
            await asyncio.sleep(_LEAST_BETWEEN_REPAIRS)  # should two proxies fight for the rules

    def _disturbed(self) -> None:
        log.warning("%s Service rules have been changed or removed by others; restoring", self._family)
        self.rebuild()

    async def _sync(self) -> bool:
        full, self._rebuild = self._rebuild, False
        triggers, self._triggers = self._triggers, []
        changes = self.planner.changes()
        for old, new in changes.values():
            self._metrics.no_local(self._family, old, new)
        started = time.monotonic()
        try:
            if full:
                await self._backend.rebuild(Ruleset(self._settings, self.planner.current))
            elif changes:
                await self._backend.apply(changes)
        except BackendError as error:
            self._metrics.failed(self._family, full=full)
            self._rebuild = True
            self._triggers[:0] = triggers
            self._failed(f"cannot write {self._family} Service rules: {error}")
            return False
        self._metrics.synced(self._family, time.monotonic() - started, full=full)
        for triggered in triggers:
            self._metrics.programmed(self._family, triggered)
        self._metrics.rules(self._family, self._backend.rule_counts())
        self._health.updated(self._family)
        self._done()
        if full:  # what happened before, nobody knows
            changes = {name: Change(None, rules) for name, rules in self.planner.current.items()}
        suspects = conntrack.suspects(changes)
        if suspects:
            await self._forget(suspects)
        return True

    async def _forget(self, suspects: conntrack.Serving) -> None:
        try:
            flows = await asyncio.to_thread(
                conntrack.forget, self._family, suspects, frozenset(self._settings.node_ips)
            )
        except OSError as error:
            self._failed(f"cannot remove stale UDP conntrack entries: {error}; old flows may hang until idle")
        else:
            self._metrics.forgot(self._family, flows)


class Proxy:
    """The proxy of one node."""

    def __init__(self, options: Options, client: Client) -> None:
        self._options = options
        self._client = client
        self._node = decode.Node(options.node_name, options.node_ips)
        self._node_object: Object | None = None
        self._addresses: tuple[str, ...] = ()
        self._families = tuple(Family(name) for name in options.families)
        self._metrics = Metrics()
        self._health = Health(self._families, 2 * options.sync_period)
        self._service_health = ServiceHealth(self._health, self._health_port_failed)
        self._checks_due = asyncio.Event()
        self._events = EventRecorder(client, "kube-proxy", options.node_name)
        make = _BACKENDS[options.mode]
        self._backends = {family: make(family) for family in self._families}
        self._syncs: dict[Family, FamilySync] = {}
        self._services = Informer(
            client,
            SERVICES,
            label_selector=f"!{decode.PROXY_NAME_LABEL},!{decode.HEADLESS_LABEL}",
            field_selector="spec.clusterIP!=None",
            transform=lambda obj: _small(obj, decode.service),
        )
        self._slices = Informer(
            client,
            ENDPOINT_SLICES,
            label_selector=f"!{decode.PROXY_NAME_LABEL},!{decode.HEADLESS_LABEL}",
            transform=lambda obj: _small(obj, decode.endpoint_slice),
        )
        self._nodes = Informer(client, NODES, field_selector=f"metadata.name={options.node_name}")

    async def run(self) -> None:
        """Serve for ever. Nothing in the kernel is touched before all informers have their first list."""
        await self._look_at_addresses()
        for family in self._families:
            self._syncs[family] = FamilySync(
                Planner(family, self._node),
                self._settings(family),
                self._backends[family],
                self._metrics,
                self._health,
                check_period=self._options.sync_period,
                least_period=self._options.min_sync_period,
                failed=self._report,
                done=self._checks_due.set,
            )
        self._services.subscribe(self._service_changed)
        self._slices.subscribe(self._slice_changed)
        self._nodes.subscribe(self._node_changed)
        informers = (self._services, self._slices, self._nodes)
        try:
            async with asyncio.TaskGroup() as tasks:
                for informer in informers:
                    tasks.create_task(informer.run())
                tasks.create_task(self._events.run())
                for application, bind, purpose in (
                    (
                        health_application(self._health, self._metrics.probed),
                        self._options.healthz_bind,
                        "health",
                    ),
                    (
                        metrics_application(self._metrics.registry, self._options.mode),
                        self._options.metrics_bind,
                        "metrics",
                    ),
                ):
                    if bind:
                        tasks.create_task(serve(application, bind, purpose))
                for informer in informers:
                    await informer.synced()
                self._ensure_sysctls()
                self._events.event(self._about_node(), "Normal", "Starting", "")
                for sync in self._syncs.values():
                    tasks.create_task(sync.run())
                tasks.create_task(self._keep_health_checks())
        finally:
            await self._service_health.close()
            for backend in self._backends.values():
                backend.close()

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        either = new or old
        assert either is not None
        key = meta.key(either)
        for sync in self._syncs.values():
            if sync.planner.set_service(key, new["decoded"] if new else None):
                sync.changed(services=1)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        either = new or old
        assert either is not None
        key = meta.key(either)
        piece: decode.Slice | None = new["decoded"] if new else None
        before: decode.Slice | None = old["decoded"] if old else None
        triggered = piece.triggered if piece and (not before or before.triggered != piece.triggered) else 0.0
        for sync in self._syncs.values():
            if sync.planner.set_slice(key, piece):
                sync.changed(endpoints=1, triggered=triggered)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        self._health.see_node(new)
        self._node_object = new or self._node_object
        if new is None:
            return  # what is known of it still holds as long as this runs
        try:
            node = decode.node(new)
        except _MALFORMED as error:
            self._report(f"Node {self._options.node_name} cannot be understood: {error!r}")
            return
        if self._options.node_ips:
            node = replace(node, ips=self._options.node_ips)
        if node == self._node:
            return
        self._node = node
        for family, sync in self._syncs.items():
            sync.configure(self._settings(family))
            if sync.planner.set_node(node):
                sync.changed()

    def _settings(self, family: Family) -> Settings:
        options = self._options
        cidrs = options.cluster_cidrs or self._node.pod_cidrs
        return Settings(
            family=family,
            node_ips=tuple(ip for ip in self._node.ips if Family.of(ip) is family),
            local_cidr=next((str(ip_network(cidr)) for cidr in cidrs if Family.of(cidr) is family), ""),
            masquerade_all=options.masquerade_all,
            masquerade_bit=options.masquerade_bit,
            node_port_addresses=self._node_port_addresses(family),
            localhost_node_ports=options.localhost_node_ports,
            tcp_be_liberal=options.tcp_be_liberal,
        )

    def _node_port_addresses(self, family: Family) -> tuple[str, ...] | None:
        chosen = self._options.node_port_addresses
        if chosen == ("primary",):
            return tuple(ip for ip in self._node.ips if Family.of(ip) is family)
        ranges = [ip_network(cidr) for cidr in chosen if Family.of(cidr) is family]
        if not ranges or any(one.prefixlen == 0 for one in ranges):
            return None
        return tuple(
            address
            for address in self._addresses
            if Family.of(address) is family and any(ip_address(address) in one for one in ranges)
        )

    async def _look_at_addresses(self) -> None:
        """Learn this machine's addresses, where node ports are limited to ranges of them."""
        if self._options.node_port_addresses in ((), ("primary",)):
            return
        process = await asyncio.create_subprocess_exec(
            "ip", "-json", "address", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        self._addresses = tuple(
            entry["local"] for link in json.loads(out or "[]") for entry in link.get("addr_info", ())
        )

    def _ensure_sysctls(self) -> None:
        try:
            sysctl.ensure(sysctl.needed(sync.settings for sync in self._syncs.values()))
        except OSError as error:
            self._report(f"cannot set a kernel parameter that Services need: {error}; set it on the node")

    async def _keep_health_checks(self) -> None:
        while True:
            await self._checks_due.wait()
            self._checks_due.clear()
            settings = [sync.settings for sync in self._syncs.values()]
            hosts: list[str] | None = [ip for one in settings for ip in one.node_port_addresses or ()]
            if any(one.node_port_addresses is None for one in settings):
                hosts = None
            await self._service_health.update(self._health_checks(), hosts)

    def _health_checks(self) -> Iterable[HealthCheck]:
        checks: dict[str, HealthCheck] = {}
        for sync in self._syncs.values():
            for service, check in sync.planner.health_checks.items():
                other = checks.get(service)
                if other is None or check.endpoints > other.endpoints:
                    checks[service] = check
        return checks.values()

    def _health_port_failed(self, check: HealthCheck, reason: str) -> None:
        namespace, name = meta.split_key(check.service)
        message = (
            f"node {self._options.node_name} failed to start healthcheck {check.service!r}"
            f" on port {check.port}: {reason}"
        )
        log.error("%s", message)
        service: Object = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": namespace, "name": name},
        }
        self._events.event(service, "Warning", "FailedToStartServiceHealthcheck", message)

    def _report(self, message: str) -> None:
        log.error("%s", message)
        self._events.event(self._about_node(), "Warning", "ServiceRulesFailed", message)

    def _about_node(self) -> Object:
        return self._node_object or {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self._options.node_name},
        }


def _small(obj: Object, facts: Callable[[Object], decode.Service | decode.Slice | None]) -> Object:
    """What an informer needs, and the facts that we do. An object that makes no sense has none."""
    try:
        decoded = facts(obj)
    except _MALFORMED as error:
        log.error("%s %s cannot be understood: %r", obj.get("kind"), meta.key(obj), error)
        decoded = None
    metadata = obj["metadata"]
    kept = {
        name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion") if name in metadata
    }
    return {"metadata": kept, "decoded": decoded}


async def run(options: Options) -> None:
    async with Client.from_kubeconfig(options.kubeconfig, user_agent="kube-proxy") as client:
        await Proxy(options, client).run()
