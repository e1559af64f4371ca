"""The thin half of the speaker: from the API's changes to orders, routes, statuses and events."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import ENDPOINT_SLICES, NODES, SECRETS, SERVICES
from buoy.api.status import StatusError
from buoy.client import Client, EventRecorder, Informer, WorkQueue, serve

from .. import SpeakerOptions, announcements, request
from ..announcements import BGP, LAYER2, SHARED_AND_SELECTED, Plan
from ..bgp.daemons import BgpError, Daemons
from ..bgp.frr import configuration, router_id
from ..config.resources import SERVICE_BGP_STATUSES, SERVICE_L2_STATUSES
from ..following import Configs
from ..layer2 import links
from ..layer2.interfaces import Interface
from ..model import Config
from ..states import ConfigurationState
from .child import Child
from .metrics import Metrics
from .orders import Contest, Orders, Report
from .statuses import Statuses

log = logging.getLogger(__name__)

_OPENELB_NODE = "layer2.openelb.kubesphere.io/v1alpha1"
_SECRET = "memberlist"  # noqa: S105
_SECRET_KEY = "secretkey"  # noqa: S105
_LINKS_RETRY_SECONDS = 2.0
_SHARED_AND_SELECTED = (
    'not announced with protocol "layer2": metallb.io/allow-shared-ip cannot be used together with an '
    "L2Advertisement that has serviceSelectors; remove the annotation or the selectors"
)


class Speaker:
    """The speaker of one node. While the API has nothing to say, what is known goes on being announced."""

    def __init__(self, options: SpeakerOptions, client: Client, configs: Configs) -> None:
        self._options = options
        self._client = client
        self._configs = configs
        node = options.node_name
        folder = Path(options.folder)
        self._key_file = folder / "key"
        self._child = Child(node, options.port, self._reported)
        self._on_wire = False
        self._daemons = Daemons(folder / "frr")
        self._metrics = Metrics(node)
        self._events = EventRecorder(client, "metallb-speaker", node)
        self._statuses = {
            LAYER2: Statuses(client, SERVICE_L2_STATUSES, options.namespace, node),
            BGP: Statuses(client, SERVICE_BGP_STATUSES, options.namespace, node),
        }
        self._annotations = WorkQueue()
        self._services = Informer(client, SERVICES, transform=self._small_service)
        self._slices = Informer(client, ENDPOINT_SLICES, transform=_small_slice)
        self._slices.add_index("service", lambda obj: [obj["service"]])
        self._nodes = Informer(client, NODES, transform=self._small_node)
        self._config: Config | None = None
        self._interfaces: tuple[Interface, ...] | None = None
        self._changed = asyncio.Event()
        self._plan = Plan()
        self._decided = False
        self._report = Report()
        self._announced: dict[str, dict[str, Object]] = {LAYER2: {}, BGP: {}}
        self._refused: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Announce for ever; when cancelled, tell the others to take over."""
        informers = (self._services, self._slices, self._nodes)
        self._key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        async with asyncio.TaskGroup() as tasks:
            for informer in informers:
                informer.subscribe(self._object_changed)
                tasks.create_task(informer.run())
            for work in (
                self._events.run(),
                self._configs.run(self._config_changed),
                self._follow_links(),
                self._get_key(),
                self._child.run(),
                self._daemons.run(),
                *(statuses.run() for statuses in self._statuses.values()),
                self._annotations.run(self._annotate, name="services"),
                self._serve_metrics(),
            ):
                tasks.create_task(work)
            for informer in informers:
                await informer.synced()
            while True:
                await self._changed.wait()
                await asyncio.sleep(0)  # whatever else came in this turn goes with it
                self._changed.clear()
                if self._config is not None and self._interfaces is not None:
                    self._decide(self._config, self._interfaces)

    # What is observed.

    def _object_changed(self, _: Object | None, __: Object | None) -> None:
        self._metrics.updates += 1
        self._changed.set()

    def _config_changed(self, config: Config) -> None:
        self._config = config
        self._metrics.config_loaded = True
        self._changed.set()

    async def _follow_links(self) -> None:
        while True:
            try:
                async for interfaces in links.follow(self._options.excluded_interfaces):
                    self._interfaces = interfaces
                    self._changed.set()
            except OSError as error:
                log.error("cannot follow the network interfaces: %s; trying again", error)
            await asyncio.sleep(_LINKS_RETRY_SECONDS)

    def _small_service(self, obj: Object) -> Object:
        ours = request.is_ours(obj, self._options.load_balancer_class)
        asked = request.read(obj, {}) if ours else None
        shares = bool(asked and asked.sharing.key)
        return {
            "metadata": _identity(obj),
            "facts": announcements.service(obj, asked.protocol, shares=shares) if asked else None,
            "openelb": meta.annotations(obj).get(_OPENELB_NODE, "") if asked and asked.openelb else None,
        }

    def _small_node(self, obj: Object) -> Object:
        facts = announcements.node(obj, ignore_exclusion=self._options.ignore_exclude_lb)
        return {"metadata": _identity(obj), "facts": facts}

    # The key that speakers share.

    async def _get_key(self) -> None:
        if self._options.key_file:
            self._child.start(Path(self._options.key_file))
            return
        secrets = Informer(
            self._client,
            SECRETS,
            namespace=self._options.namespace,
            field_selector=f"metadata.name={_SECRET}",
        )
        secrets.subscribe(self._secret_changed)
        log.info("waiting for the key in Secret %s/%s", self._options.namespace, _SECRET)
        await secrets.run()

    def _secret_changed(self, _: Object | None, new: Object | None) -> None:
        try:
            key = base64.b64decode(((new or {}).get("data") or {}).get(_SECRET_KEY, ""), validate=True)
        except binascii.Error as error:
            log.error("Secret %s: %s is not base64: %s", _SECRET, _SECRET_KEY, error)
            return
        if not key:
            log.error("Secret %s has no %s; the key known before goes on", _SECRET, _SECRET_KEY)
            return
        descriptor = os.open(self._key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(key)
        self._child.start(self._key_file)

    # What follows.

    def _decide(self, config: Config, interfaces: tuple[Interface, ...]) -> None:
        services = [facts for obj in self._services.items() if (facts := obj["facts"])]
        self._plan = announcements.plan(
            self._options.node_name,
            config,
            [obj["facts"] for obj in self._nodes.items()],
            services,
            {facts.key: self._serving(facts.key) for facts in services},
        )
        self._decided = True
        # On all nodes alike, or those that are on the wire would take the others for dead.
        self._on_wire = self._on_wire or bool(config.layer2 or config.bgp)
        if self._on_wire:
            self._child.order(self._orders(interfaces))
        name = self._options.node_name
        node = self._nodes.get(name)
        default_id = router_id(name, node["facts"].addresses if node else ())
        self._daemons.want(configuration(self._plan.peers, self._plan.routes, default_id), config.listen_port)
        self._tell()

    def _serving(self, service: str) -> frozenset[str]:
        slices = self._slices.by_index("service", service)
        return announcements.serving_nodes(endpoint for piece in slices for endpoint in piece["endpoints"])

    def _orders(self, interfaces: tuple[Interface, ...]) -> Orders:
        nodes = {obj["facts"].name: obj["facts"].addresses for obj in self._nodes.items()}
        candidates: dict[int, int] = {}
        scores: list[dict[str, int]] = []
        contests = {}
        for address, contest in self._plan.contests.items():
            index = candidates.setdefault(id(contest.scores), len(scores))
            if index == len(scores):
                scores.append(dict(contest.scores))
            chosen = None if contest.interfaces is None else tuple(sorted(contest.interfaces))
            contests[str(address)] = Contest(contest.key, index, chosen)
        return Orders(
            addresses=nodes.pop(self._options.node_name, ()),
            peers=nodes,
            interfaces=interfaces,
            candidates=tuple(scores),
            contests=contests,
        )

    # What is told of it.

    def _reported(self, report: Report) -> None:
        self._report = report
        self._metrics.traffic = report.traffic
        self._tell()

    def _tell(self) -> None:
        self._tell_refused()
        layer2: dict[str, Object] = {}
        for address, contest in self._plan.contests.items():
            names = self._report.announced.get(str(address))
            if names is not None:
                status = (
                    {} if contest.interfaces is None else {"interfaces": [{"name": name} for name in names]}
                )
                layer2.update(dict.fromkeys(contest.services, status))
        bgp: dict[str, Object] = {key: {"peers": list(peers)} for key, peers in self._plan.peers_of.items()}
        for protocol, now in ((LAYER2, layer2), (BGP, bgp)):
            for key in now.keys() - self._announced[protocol].keys():
                self._assigned(key, protocol, now[key])
            self._announced[protocol] = now
            self._statuses[protocol].want(now, self._report.alive)
        self._metrics.announced = [
            (key, protocol, str(address))
            for protocol, now in self._announced.items()
            for key in now
            if (obj := self._services.get(key)) and obj["facts"]
            for address in obj["facts"].addresses
        ]

    def _assigned(self, key: str, protocol: str, status: Mapping[str, object]) -> None:
        obj = self._services.get(key)
        if obj is None:
            return
        node = self._options.node_name
        about = {"apiVersion": "v1", "kind": "Service", **obj}
        if status.get("interfaces") == []:
            message = f"the interfaces specified by LB IP doesn't exist in assigned node {_quoted(node)}"
            message += f" with protocol {_quoted(protocol)}"
            self._events.event(about, "Warning", "announceFailed", message)
            return
        message = f"announcing from node {_quoted(node)} with protocol {_quoted(protocol)}"
        self._events.event(about, "Normal", "nodeAssigned", message)
        if protocol == LAYER2 and obj["openelb"] is not None:
            self._annotations.add(key)

    def _tell_refused(self) -> None:
        refused = frozenset(
            key for (key, _), reason in self._plan.reasons.items() if reason == SHARED_AND_SELECTED
        )
        for key in refused - self._refused:
            if obj := self._services.get(key):
                about = {"apiVersion": "v1", "kind": "Service", **obj}
                self._events.event(about, "Warning", "announceFailed", _SHARED_AND_SELECTED)
        self._refused = refused

    async def _annotate(self, key: str) -> None:
        """Say on an OpenELB Service which node it is announced from."""
        obj = self._services.get(key)
        node = self._options.node_name
        if obj is None or key not in self._announced[LAYER2] or obj["openelb"] == node:
            return
        namespace, name = meta.split_key(key)
        patch: Object = {"metadata": {"annotations": {_OPENELB_NODE: node}}}
        try:
            await self._client.patch(SERVICES, name, namespace, patch)
        except StatusError as error:
            if error.code != 404:
                raise

    async def _serve_metrics(self) -> None:
        if not self._options.metrics_bind:
            return

        async def metrics(_: web.Request) -> web.Response:
            try:
                self._metrics.sessions = await self._daemons.sessions()
                self._metrics.bfd = await self._daemons.bfd_sessions()
            except BgpError as error:
                log.warning("no news of BGP sessions: %s", error)
            self._metrics.config_stale = bool(self._configs.problems)
            return web.Response(body=self._metrics.text(), content_type="text/plain", charset="utf-8")

        async def healthz(_: web.Request) -> web.Response:
            return web.Response(text="ok")

        async def readyz(_: web.Request) -> web.Response:
            if self._decided and (not self._plan.contests or self._options.node_name in self._report.alive):
                return web.Response(text="ok")
            return web.Response(text="this node takes no part in announcing yet", status=503)

        application = web.Application()
        routes = {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz}
        application.add_routes([web.get(path, handler) for path, handler in routes.items()])
        await serve(application, self._options.metrics_bind, "metrics")


def _small_slice(obj: Object) -> Object:
    service, endpoints = announcements.endpoints(obj) or ("", ())
    return {"metadata": _identity(obj), "service": service, "endpoints": endpoints}


def _identity(obj: Object) -> Object:
    metadata = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion")
    return {name: metadata[name] for name in kept if name in metadata}


def _quoted(text: str) -> str:
    return f'"{text}"'


async def run(options: SpeakerOptions) -> None:
    async with Client.from_kubeconfig(options.kubeconfig, user_agent="metallb-speaker") as client:
        state = ConfigurationState(client, options.namespace, "speaker", options.node_name)
        await Speaker(options, client, Configs(client, options.namespace, state)).run()
