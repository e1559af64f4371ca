"""Being a node of the cluster: the Node object, its status, and the Lease that says that the node lives."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from ..api import meta
from ..api.meta import Object
from ..api.resource import LEASES, NODES
from ..api.status import StatusError
from ..client import Client, ConnectionFailed, EventRecorder, Informer
from . import Options
from .cri import Condition, Runtime, RuntimeFailure
from .node import (
    STARTING,
    Machine,
    node_conditions,
    node_object,
    node_status,
    pressures,
    readiness,
    status_differs,
)

log = logging.getLogger(__name__)

_RETRY_FIRST, _RETRY_LONGEST = 0.05, 2.0
_EAGER = 10.0
_CHECK = 10.0
_QUICK_CHECK, _SLOWEST_QUICK_CHECK = 0.01, 1.0
_HEARTBEAT = 300.0
_DOWN_AFTER = 30.0
_LEASE_NAMESPACE = "kube-node-lease"


class Registration:
    """Registers the node and keeps its status and Lease true."""

    def __init__(
        self, options: Options, client: Client, runtime: Runtime, machine: Machine, events: EventRecorder
    ) -> None:
        self._options = options
        self._client = client
        self._runtime = runtime
        self._machine = machine
        self._events = events
        self._node: Object = {}
        self._version = ""
        self._answered_at = time.monotonic()
        self._check_now = asyncio.Event()
        self._quick = _QUICK_CHECK
        self.ready = False

    @property
    def node(self) -> Object:
        """The Node as last heard of; before that, as it registers."""
        return self._node or node_object(self._options, self._machine)

    def check(self) -> None:
        """Look at the runtime again, soon and often: something has changed."""
        self._quick = _QUICK_CHECK
        self._check_now.set()

    async def run(self) -> None:
        """Never returns."""
        await self._register()
        self._events.event(self._node, "Normal", "Starting", "Starting kubelet.")
        own = Informer(self._client, NODES, field_selector=f"metadata.name={self._options.node_name}")
        own.subscribe(self._node_changed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(own.run())
            tasks.create_task(self._keep_lease())
            tasks.create_task(self._keep_status())

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._node = {}  # somebody deleted the node while it lives: register again
            self._check_now.set()
            return
        if int(new["metadata"]["resourceVersion"]) > int(
            (self._node.get("metadata") or {}).get("resourceVersion") or 0
        ):
            self._node = new
        if new["spec"].get("podCIDR") != ((old or {}).get("spec") or {}).get("podCIDR"):
            self.check()

    async def _register(self) -> None:
        wanted = node_object(self._options, self._machine)
        wanted["status"] = self._status(STARTING, {}, ())
        begun = time.monotonic()
        while True:
            try:
                try:
                    self._node = await self._client.create(NODES, wanted)
                except StatusError as error:
                    if error.code != 409:
                        raise
                    metadata = {
                        "labels": wanted["metadata"]["labels"],
                        "annotations": wanted["metadata"]["annotations"],
                    }
                    self._node = await self._client.patch(
                        NODES, self._options.node_name, "", {"metadata": metadata}
                    )
            except (StatusError, ConnectionFailed) as error:
                patient = time.monotonic() - begun > _EAGER
                log.log(logging.WARNING if patient else logging.DEBUG, "cannot register: %s", error)
                await asyncio.sleep(_RETRY_LONGEST if patient else _RETRY_FIRST)
            else:
                log.info("registered node %s", self._options.node_name)
                return

    def _status(self, ready: Condition, old: Object, images: Any) -> Object:
        conditions = node_conditions(
            ready, pressures(self._options.root_dir), old.get("conditions") or (), meta.now()
        )
        return node_status(
            self._options,
            self._machine,
            runtime_version=self._version,
            conditions=conditions,
            images=images,
        )

    async def _keep_status(self) -> None:
        posted_at = 0.0
        while True:
            ready = await self._look()
            if not self._node:
                await self._register()
                posted_at = 0.0
            images = await self._images() if ready.ok else ()
            wanted = self._status(ready, self._node.get("status") or {}, images)
            due = time.monotonic() - posted_at >= _HEARTBEAT
            if due or status_differs(self._node.get("status") or {}, wanted):
                try:
                    await self._post(wanted)
                    posted_at = time.monotonic()
                except (StatusError, ConnectionFailed) as error:
                    log.warning("node status: %s", error)
                    if isinstance(error, StatusError) and error.code == 404:
                        self._node = {}
                    ready = STARTING  # come back soon
            if ready.ok != self.ready:
                self.ready = ready.ok
                log.info("node %s: %s", self._options.node_name, ready.message)
                word = "NodeReady" if ready.ok else "NodeNotReady"
                message = f"Node {self._options.node_name} status is now: {word}"
                self._events.event(self.node, "Normal", word, message)
            if ready.ok:
                pause = _CHECK
                self._quick = _QUICK_CHECK
            else:
                pause = self._quick
                self._quick = min(2 * self._quick, _SLOWEST_QUICK_CHECK)
            try:
                async with asyncio.timeout(pause):
                    await self._check_now.wait()
            except TimeoutError:
                pass
            self._check_now.clear()

    async def _look(self) -> Condition:
        """Ask the runtime; one that is silent is given some time before the node counts as not ready."""
        try:
            if not self._version:
                self._version = await self._runtime.version()
            conditions = await self._runtime.status()
        except RuntimeFailure as error:
            log.debug("runtime: %s", error)
            if self.ready and time.monotonic() - self._answered_at < _DOWN_AFTER:
                self._quick = max(self._quick, 0.1)
                return Condition(True, "KubeletReady", "kubelet is posting ready status")
            return readiness(None)
        self._answered_at = time.monotonic()
        return readiness(conditions)

    async def _images(self) -> list[tuple[tuple[str, ...], int]]:
        try:
            return await self._runtime.images()
        except RuntimeFailure:
            return []

    async def _post(self, wanted: Object) -> None:
        old = self._node.get("status") or {}
        change = {
            name: value
            for name, value in wanted.items()
            if name == "conditions" or (old.get(name) or None) != (value or None)
        }
        if "addresses" in change:
            change["addresses"] = [{"$patch": "replace"}, *wanted["addresses"]]
        stored = await self._client.patch(
            NODES, self._options.node_name, "", {"status": change}, type="strategic", subresource="status"
        )
        self._node = stored

    async def _keep_lease(self) -> None:
        interval = self._options.lease_duration_seconds / 4
        delay = _RETRY_FIRST
        while True:
            try:
                await self._renew_lease()
                delay = _RETRY_FIRST
                await asyncio.sleep(interval)
            except (StatusError, ConnectionFailed) as error:
                log.log(logging.WARNING if delay >= _RETRY_LONGEST else logging.DEBUG, "lease: %s", error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_LONGEST)

    async def _renew_lease(self) -> None:
        name = self._options.node_name
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": self._options.lease_duration_seconds,
            "renewTime": meta.now_micro(),
        }
        try:
            await self._client.patch(LEASES, name, _LEASE_NAMESPACE, {"spec": spec})
        except StatusError as error:
            if error.code != 404:
                raise
            lease: Object = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": _LEASE_NAMESPACE},
                "spec": spec,
            }
            uid = (self._node.get("metadata") or {}).get("uid")
            if uid:
                lease["metadata"]["ownerReferences"] = [
                    {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
                ]
            await self._client.create(LEASES, lease)
