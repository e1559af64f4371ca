"""The thin half: from the API's changes to the allocator, from its decisions to the API.

Killed at any line and started again, it goes on from what Services show. It reads all of them before it gives
anything, and every write is of the version that it was decided from.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import NAMESPACES, SECRETS, SERVICES, Resource
from buoy.api.status import StatusError
from buoy.client import Client, EventRecorder, Informer, WorkQueue, serve

from .. import ControllerOptions, request
from ..allocation import Allocator, Outcome
from ..config import NOTHING, Problem, read
from ..config.resources import CONFIGURATION_STATES, EIPS, IP_ADDRESS_POOLS
from ..following import Followed
from ..model import Address
from ..states import ConfigurationState
from .metrics import Metrics
from .status import differs, eip_status, pool_status, service_patch

log = logging.getLogger(__name__)

_NAME = "metallb-controller"
_WORKERS = 8
_CONFIGURATION = "configuration"
_PROBLEMS = "the problems of the configuration"
_KEY = "the speakers' key"
_KEY_SECRET = "memberlist"  # noqa: S105 - a name
_KEY_BYTES = 128


class Controller:
    """Gives addresses to the Services of one cluster."""

    def __init__(self, options: ControllerOptions, client: Client) -> None:
        self._options = options
        self._client = client
        self._events = EventRecorder(client, _NAME)
        self._state = ConfigurationState(client, options.namespace, "controller")
        self._allocator = Allocator()
        self._metrics = Metrics(self._allocator)
        self._reading = NOTHING
        self._ready = False
        self._complaints: dict[tuple[str, str], str] = {}
        self._written: dict[str, Object] = {}
        """What the server answered to a write, until the watch shows it."""
        self._told: dict[str, Object] = {}
        """The status last written, by uid; a watch may lag behind."""
        self._services = Informer(client, SERVICES)
        self._namespaces = Informer(client, NAMESPACES)
        self._followed = Followed(client, options.namespace, self._configuration_changed)
        self._queue = WorkQueue()
        self._configurations = WorkQueue()
        self._statuses = WorkQueue()
        self._services.add_index("namespace", lambda service: (meta.namespace(service),))
        self._services.subscribe(self._service_changed)
        self._namespaces.subscribe(self._namespace_changed)

    async def run(self) -> None:
        """Serve for ever."""
        async with asyncio.TaskGroup() as tasks:
            for follow in (self._services, self._namespaces, self._followed, self._events):
                tasks.create_task(follow.run())
            if self._options.metrics_bind:
                tasks.create_task(serve(self._application(), self._options.metrics_bind, "metrics"))
            for source in (self._services, self._namespaces, self._followed):
                await source.synced()
            self._ready = True
            await self._configure(_CONFIGURATION)
            tasks.create_task(self._configurations.run(self._configure, name="configuration"))
            tasks.create_task(self._queue.run(self._settle, workers=_WORKERS, name="service"))
            tasks.create_task(self._statuses.run(self._report, name="status"))

    # What changes.

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        key = meta.key(new or old or {})
        self._written.pop(key, None)
        if new is None:
            self._allocator.forget(key)
            self._enqueue_affected()
        elif self._ready:
            self._queue.add(key)

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None and new and meta.name(new) == self._options.namespace:
            self._statuses.add(_KEY)
        if self._ready and new and (old is None or meta.labels(old) != meta.labels(new)):
            for service in self._services.by_index("namespace", meta.name(new)):
                self._queue.add(meta.key(service))

    def _configuration_changed(self) -> None:
        if self._ready:
            self._configurations.add(_CONFIGURATION)

    def _enqueue_affected(self) -> None:
        for key in self._allocator.woken():
            self._queue.add(key)
        for pool in self._allocator.touched():
            self._statuses.add(pool)

    # The configuration.

    async def _configure(self, _: str) -> None:
        before, self._reading = self._reading, read(self._followed.sources(), self._reading)
        if self._reading.parts:
            self._metrics.config_loaded.set(1)
        self._metrics.config_stale.set(bool(self._reading.problems))
        for problem in set(self._reading.problems) - set(before.problems):
            log.error("configuration: %s", problem)
        if (
            before is NOTHING
            or self._reading.config.pools != before.config.pools
            or self._reading.complete != before.complete
        ):
            self._reallocate()
        self._complain()
        for pool in self._allocator.pools():
            self._statuses.add(pool)
        self._statuses.add(_PROBLEMS)

    def _reallocate(self) -> None:
        """Settle all Services under the pools as they are now, those first that have addresses already."""
        pools = self._reading.config.pools
        log.info("pools: %s", ", ".join(pool.name for pool in pools) or "none")
        self._allocator.configure(pools, complete=self._reading.complete)
        services = sorted(
            (self._current(meta.key(service)) for service in self._services.items()),
            key=lambda service: (service["metadata"].get("creationTimestamp") or "", meta.key(service)),
        )
        for service in services:
            key = meta.key(service)
            if request.is_ours(service, self._options.load_balancer_class):
                self._allocator.adopt(self._request(service), self._shown(service))
            else:
                self._allocator.release(key, request.current(service))
            self._queue.add(key)

    def _complain(self) -> None:
        """An event on each object that has come to be at fault, or ceased to be."""
        found: dict[tuple[str, str], list[Problem]] = {}
        for problem in self._reading.problems:
            found.setdefault((problem.kind, problem.name), []).append(problem)
        messages = {
            where: "; ".join(f"{problem.field}: {problem.message}" for problem in problems)
            for where, problems in found.items()
        }
        for where, message in messages.items():
            obj = self._followed.find(*where)
            if obj and self._complaints.get(where) != message:
                text = f"Not used, the configuration before it goes on: {message}"
                self._events.event(obj, "Warning", "InvalidConfiguration", text)
        for where in self._complaints.keys() - messages.keys():
            if obj := self._followed.find(*where):
                self._events.event(
                    obj, "Normal", "ConfigurationLoaded", "The configuration is valid and used"
                )
        self._complaints = messages

    # Services.

    def _current(self, key: str) -> Object:
        return self._written.get(key) or self._services.get(key) or {}

    def _shown(self, service: Object) -> tuple[Address, ...]:
        """The addresses that *service* shows, as far as they may be from here.

        Without any pool, what no controller of this kind has written is left to whoever has.
        """
        if self._allocator.pools() or request.ALLOCATED_FROM in meta.annotations(service):
            return request.current(service)
        return ()

    def _request(self, service: Object) -> request.Request:
        namespace = self._namespaces.get(meta.namespace(service))
        return request.read(service, meta.labels(namespace) if namespace else {})

    async def _settle(self, key: str) -> None:
        service = self._current(key)
        if not service or self._namespaces.get(meta.namespace(service)) is None:
            return  # the namespace comes yet, and says which pools it may use
        shown = self._shown(service)
        if not request.is_ours(service, self._options.load_balancer_class):
            if _is_load_balancer(service):  # another's; what it shows must not be given here, too
                self._allocator.forget(key)
                self._allocator.release(key, request.current(service))
            elif self._allocator.held(key) or request.ALLOCATED_FROM in meta.annotations(service):
                self._allocator.release(key, shown)
                await self._show(key, service, Outcome())
        elif shown or self._allocator.pools() or not request.is_balanced(service):
            outcome = self._allocator.settle(self._request(service), shown)
            self._enqueue_affected()
            if outcome:
                for notice in outcome.notices:
                    log.info("%s: %s: %s", key, notice.reason, notice.message)
                    self._events.event(service, notice.type, notice.reason, notice.message)
                await self._show(key, service, outcome)
        self._enqueue_affected()

    async def _show(self, key: str, service: Object, outcome: Outcome) -> None:
        """Have the API show *outcome*; only then, what the Service had before is free."""
        patch = service_patch(service, outcome)
        if patch:
            name, namespace = meta.name(service), meta.namespace(service)
            written = await self._write(SERVICES, name, namespace, patch)
            if written is None:
                return  # gone; the watch will tell
            if self._services.get(key) is service or self._written.get(key) is service:
                self._written[key] = written
        self._allocator.confirm(key)

    async def _write(self, resource: Resource, name: str, namespace: str, patch: Object) -> Object | None:
        """Patch the status; None if the object is gone."""
        self._metrics.updates.inc()
        try:
            return await self._client.patch(resource, name, namespace, patch, subresource="status")
        except StatusError as error:
            if error.code == 404:
                return None
            self._metrics.update_errors.inc()
            raise
        except OSError:
            self._metrics.update_errors.inc()
            raise

    # What else is written.

    async def _report(self, what: str) -> None:
        if what == _KEY:
            await self._make_key()
        elif what == _PROBLEMS:
            if self._followed.has(CONFIGURATION_STATES):
                await self._state.tell(self._reading.problems)
            await self._report_faulty_eips()
        elif pool := self._reading.config.pool(what):
            usage = self._allocator.usage(what)
            obj = self._followed.find(pool.source, what)
            if pool.source == "IPAddressPool":
                await self._update(IP_ADDRESS_POOLS, obj, pool_status(usage))
            elif pool.source == "Eip" and obj:
                holders = self._allocator.holders(what)
                await self._update(EIPS, obj, eip_status(pool, usage, holders, self._status_of(obj)))

    async def _report_faulty_eips(self) -> None:
        for problem in self._reading.problems:
            if problem.kind == "Eip":
                await self._update(EIPS, self._followed.find("Eip", problem.name), {"ready": False})

    async def _update(self, resource: Resource, obj: Object | None, status: Object) -> None:
        if obj and differs(status, self._status_of(obj)):
            patch = {"status": status}
            written = await self._write(resource, meta.name(obj), meta.namespace(obj), patch)
            self._told[meta.uid(obj)] = (written or {}).get("status") or {}

    def _status_of(self, obj: Object) -> Object:
        found: Object = self._told.get(meta.uid(obj)) or obj.get("status") or {}
        return found

    async def _make_key(self) -> None:
        """The key by which speakers know each other, if they have none yet."""
        key = base64.b64encode(secrets.token_bytes(_KEY_BYTES))
        secret = {
            "metadata": {"name": _KEY_SECRET, "namespace": self._options.namespace},
            "data": {"secretkey": base64.b64encode(key).decode()},
        }
        try:
            await self._client.create(SECRETS, secret)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise

    def _application(self) -> web.Application:
        async def metrics(_: web.Request) -> web.Response:
            body = generate_latest(self._metrics.registry)
            return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

        async def healthz(_: web.Request) -> web.Response:
            return web.Response(text="ok")

        async def readyz(_: web.Request) -> web.Response:
            if self._ready:
                return web.Response(text="ok")
            return web.Response(text="the cluster's Services are not known yet", status=503)

        application = web.Application()
        routes: dict[str, Callable[[web.Request], Awaitable[web.Response]]] = {
            "/metrics": metrics,
            "/healthz": healthz,
            "/readyz": readyz,
        }
        application.add_routes([web.get(path, handler) for path, handler in routes.items()])
        return application


def _is_load_balancer(service: Object) -> bool:
    return bool((service.get("spec") or {}).get("type") == "LoadBalancer")


async def run(options: ControllerOptions) -> None:
    async with Client.from_kubeconfig(options.kubeconfig, user_agent=_NAME) as client:
        await Controller(options, client).run()
