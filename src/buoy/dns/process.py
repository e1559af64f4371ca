"""The thin half: from the API's changes to the zone, from the ConfigMap to the settings."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import CONFIG_MAPS, ENDPOINT_SLICES, NAMESPACES, SERVICES
from buoy.client import Client, EventRecorder, Informer, serve
from buoy.inotify import FileWatch

from . import Options
from .address import Address
from .cache import Cache
from .config import Config, ConfigError, parse, parse_resolv_conf
from .forward import Forwarder
from .metrics import Metrics
from .records import Slice, decode_service, decode_slice, pack
from .resolver import Resolver
from .server import Server, open_sockets
from .zone import Zone

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 2.0


class DnsServer:
    """The DNS server of one node. While *client* has no server to talk to, what is known is still served."""

    def __init__(self, options: Options, client: Client, sockets: tuple[socket.socket, ...] = ()) -> None:
        self._options = options
        self._metrics = Metrics()
        self._events = EventRecorder(client, "buoy-dns", options.node_name)
        self._config = Config()
        self._resolv_conf: tuple[Address, ...] = ()
        self._resolv_conf_version = _version(options.resolv_conf)
        self._started = time.time()
        namespace, name = meta.split_key(options.config_map)
        self._services = Informer(client, SERVICES, transform=lambda obj: _small(obj, decode_service(obj)))
        self._slices = Informer(client, ENDPOINT_SLICES, transform=lambda obj: _small(obj, decode_slice(obj)))
        self._namespaces = Informer(client, NAMESPACES, transform=lambda obj: _small(obj, None))
        self._config_maps = Informer(
            client, CONFIG_MAPS, namespace=namespace, field_selector=f"metadata.name={name}"
        )
        self._zone = self._new_zone()
        self._cache = self._new_cache()
        self.resolver = Resolver(self._zone, {}, self._new_forwarder(), self._metrics)
        self.server = Server(self.resolver, sockets or open_sockets(options.addresses), self._metrics)
        self._services.subscribe(self._service_changed)
        self._slices.subscribe(self._slice_changed)
        self._namespaces.subscribe(self._namespace_changed)
        self._config_maps.subscribe(self._config_changed)

    async def run(self) -> None:
        """Serve for ever. Raises OSError if an address is taken."""
        self._read_resolv_conf()
        async with self.server, asyncio.TaskGroup() as tasks:
            informers = (self._services, self._slices, self._namespaces, self._config_maps)
            for informer in informers:
                tasks.create_task(informer.run())
            tasks.create_task(self._events.run())
            tasks.create_task(self._follow_resolv_conf())
            for bind in self._options.http_bind:
                tasks.create_task(self._serve_http(bind))
            known = tasks.create_task(self._know(informers[:3]))
            # Most resolvers take a failure for an answer, and would sooner wait a little.
            await asyncio.wait([known], timeout=_PATIENCE_SECONDS)
            await self.server.start()
            log.info("serving %s at %s", self._options.cluster_domain, ", ".join(map(str, self.server.bound)))

    async def _know(self, informers: Iterable[Informer]) -> None:
        """Answers about the cluster begin when all that they rest on is known."""
        for informer in informers:
            await informer.synced()
        gc.collect()
        gc.freeze()  # what is known mostly stays: to look through it time and again would hold up answers
        self.resolver.synced = True
        self.resolver.changed()
        log.info("the cluster's %d names are known", len(self._zone.records))

    # The cluster's names.

    def _new_zone(self) -> Zone:
        servers = [pack(address.host) for address in self._options.addresses]
        zone = Zone(
            self._options.cluster_domain.strip("."),
            ttl=self._config.ttl,
            pods=self._config.pods,
            servers=[one for one in servers if not _is_loopback(one)] or servers,
            serial=int(time.time()),
        )
        for namespace in self._namespaces.items():
            zone.set_namespace(meta.name(namespace), True)
        for service in self._services.items():
            zone.set_service(meta.key(service), service["decoded"])
        for piece in self._slices.items():
            zone.set_slice(meta.key(piece), piece["decoded"])
        return zone

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None:
            self._zone.set_namespace(meta.name(new or old or {}), new is not None)
            self._zone_changed()

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        if self._zone.set_service(meta.key(new or old or {}), new["decoded"] if new else None):
            self._zone_changed()

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        piece: Slice | None = new["decoded"] if new else None
        if self._zone.set_slice(meta.key(new or old or {}), piece):
            self._zone_changed()
            if piece is not None and piece.triggered > self._started:
                self._metrics.programming.observe(max(0.0, time.time() - piece.triggered))

    def _zone_changed(self) -> None:
        self._metrics.names.set(len(self._zone.records))
        self.resolver.changed()

    # Settings.

    def _config_changed(self, _: Object | None, new: Object | None) -> None:
        try:
            config = parse((new or {}).get("data") or {})
        except ConfigError as error:
            assert new is not None
            self._metrics.reloads.labels("failed").inc()
            message = f"Not used, the configuration before it goes on: {error}"
            log.error("ConfigMap %s: %s", self._options.config_map, message)
            about = {"apiVersion": "v1", "kind": "ConfigMap", **new}
            self._events.event(about, "Warning", "InvalidConfiguration", message)
            return
        self._metrics.reloads.labels("success").inc()
        old, self._config = self._config, config
        if config == old:
            return
        log.info("ConfigMap %s: configuration read", self._options.config_map)
        if (config.ttl, config.pods) != (old.ttl, old.pods):
            self._zone = self.resolver.zone = self._new_zone()
        self._cache = self._new_cache()
        self.resolver.hosts = config.hosts
        self._set_forwarder()

    def _new_cache(self) -> Cache:
        config = self._config
        return Cache(
            config.cache_size,
            ttl=config.cache_ttl,
            negative_ttl=config.negative_cache_ttl,
            stale=config.stale,
        )

    def _set_forwarder(self) -> None:
        self.resolver.forwarder = self._new_forwarder()
        self.resolver.changed()

    def _new_forwarder(self) -> Forwarder:
        config = self._config
        upstreams = self._resolv_conf if config.upstreams is None else config.upstreams
        return Forwarder(
            self._without_self(upstreams),
            {domain: self._without_self(servers) for domain, servers in config.stubs.items()},
            self._cache,
            self._metrics,
            prefetch=config.prefetch,
        )

    def _without_self(self, servers: tuple[Address, ...]) -> tuple[Address, ...]:
        """*servers* without this one: asking ourselves would never end."""
        own = set(self._options.addresses)
        for address in own.intersection(servers):
            log.warning("%s is this server itself, and is not asked", address)
        return tuple(address for address in servers if address not in own)

    def _read_resolv_conf(self) -> None:
        path = self._options.resolv_conf
        try:
            servers = parse_resolv_conf(Path(path).read_text()) if path else ()
        except (OSError, UnicodeDecodeError) as error:
            log.warning("%s: %s; no upstream servers from it", path, error)
            servers = ()
        if servers != self._resolv_conf:
            self._resolv_conf = servers
            log.info("upstream servers of %s: %s", path, ", ".join(map(str, servers)) or "none")
            self._set_forwarder()

    async def _follow_resolv_conf(self) -> None:
        path = self._options.resolv_conf
        while path:
            try:
                with FileWatch(path) as watch:
                    version = _version(path)
                    if version != self._resolv_conf_version:
                        self._resolv_conf_version = version
                        self._read_resolv_conf()
                    await watch.changed()
            except FileNotFoundError:
                continue  # a part of its path went away just now
            except OSError as error:
                log.error(
                    "changes of %s come into force only by a restart: %s; "
                    "the limits are the sysctls fs.inotify.max_user_instances and max_user_watches",
                    path,
                    error,
                )
                return

    # Health and metrics.

    async def _serve_http(self, bind: str) -> None:
        async def health(_: web.Request) -> web.Response:
            return web.Response(text="OK")

        async def ready(_: web.Request) -> web.Response:
            if self.resolver.synced:
                return web.Response(text="OK")
            return web.Response(text="the cluster's Services are not known yet", status=503)

        async def metrics(_: web.Request) -> web.Response:
            self._metrics.cache_entries.set(len(self._cache))
            body = generate_latest(self._metrics.registry)
            return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

        application = web.Application()
        application.add_routes(
            [web.get("/health", health), web.get("/ready", ready), web.get("/metrics", metrics)]
        )
        await serve(application, bind, "health and metrics")


def _small(obj: Object, decoded: object) -> Object:
    """What an informer needs, and the facts that we do."""
    metadata = obj["metadata"]
    kept = {
        name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion") if name in metadata
    }
    return {"metadata": kept, "decoded": decoded}


def _is_loopback(packed: bytes) -> bool:
    return packed[0] == 127 if len(packed) == 4 else packed == b"\0" * 15 + b"\1"


def _version(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


async def run(options: Options, sockets: tuple[socket.socket, ...]) -> None:
    async with Client.from_kubeconfig(options.kubeconfig, user_agent="buoy-dns") as client:
        await DnsServer(options, client, sockets).run()
