"""The thin half: listens for Leases and statuses, and writes conditions, taints and the Pods' readiness."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from typing import ClassVar

from buoy.api import meta, pods, taints
from buoy.api.meta import Object
from buoy.api.resource import LEASES, NODES, PODS, Resource
from buoy.api.status import StatusError
from buoy.client import Informer, WorkQueue

from ..context import Context
from ..podgc import by_node
from . import health

LEASE_NAMESPACE = "kube-node-lease"
_BY_NODE = "node"


@dataclass(slots=True)
class _Heard:
    """When a node was last heard of, by this machine's clock, and by what sign."""

    at: float
    renewed: str = ""
    heartbeat: str = ""


class NodeLifecycleController:
    name: ClassVar[str] = "node-lifecycle-controller"
    resources: ClassVar[tuple[Resource, ...]] = (NODES, PODS, LEASES)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._options = context.options
        self._events = context.recorder("node-controller")
        self._queue = WorkQueue()
        self._heard: dict[str, _Heard] = {}
        self._paces: dict[str, health.Pace] = {}
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._leases = Informer(context.client, LEASES, namespace=LEASE_NAMESPACE)
        context.informers.add(self._leases)
        self._pods.add_index(_BY_NODE, by_node)
        self._nodes.subscribe(self._on_node)
        self._leases.subscribe(self._on_lease)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, name=self.name)

    # Signs of life

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                name = meta.name(old)
                self._heard.pop(name, None)
                self._tell(old, "RemovingNode", f"Node {name} event: Removing Node {name} from Controller")
            return
        name = meta.name(new)
        if old is None:
            self._tell(new, "RegisteredNode", f"Node {name} event: Registered Node {name} in Controller")
        elif health.readiness(old) != health.readiness(new):
            self._requeue_unready()
        heard = self._heard.setdefault(name, _Heard(time.monotonic()))
        heartbeat = _heartbeat(new)
        if heartbeat != heard.heartbeat:
            heard.at, heard.heartbeat = time.monotonic(), heartbeat
        self._queue.add(name)

    def _on_lease(self, old: Object | None, new: Object | None) -> None:
        heard = self._heard.get(meta.name(new)) if new is not None else None
        if new is None or heard is None:
            return
        self._note(heard, new)

    def _note(self, heard: _Heard, lease: Object) -> bool:
        renewed = str((lease.get("spec") or {}).get("renewTime") or "")
        if not renewed or renewed == heard.renewed:
            return False
        heard.at, heard.renewed = time.monotonic(), renewed
        return True

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        """A Pod must not say that it is ready while its node cannot."""
        node_name = new["spec"].get("nodeName") if new is not None else None
        if new is None or not node_name or not pods.is_ready(new):
            return
        node = self._nodes.get(node_name)
        if node is not None and health.readiness(node) != "True":
            self._queue.add(node_name)

    def _requeue_unready(self) -> None:
        """The state of a whole zone may have changed."""
        for node in self._nodes.items():
            if health.readiness(node) != "True":
                self._queue.add(meta.name(node))

    def _tell(self, node: Object, reason: str, message: str) -> None:
        self._events.event(node, "Normal", reason, message)

    # Consequences

    async def reconcile(self, key: str) -> None:
        node = self._nodes.get(key)
        if node is None:
            return
        node = await self._judge(node)
        node = await self._taint(node)
        if health.readiness(node) != "True" and pods.condition(node, "Ready"):
            for pod in self._pods.by_index(_BY_NODE, key):
                await self._mark_unready(pod)

    async def _judge(self, node: Object) -> Object:
        """Its conditions become Unknown if it has been quiet for too long."""
        name = meta.name(node)
        heard = self._heard.setdefault(name, _Heard(time.monotonic()))
        reported = pods.condition(node, "Ready") is not None
        grace = (
            self._options.node_monitor_grace_period if reported else self._options.node_startup_grace_period
        )
        left = heard.at + grace - time.monotonic()
        if left > 0:
            self._queue.add_after(name, left)
            return node
        conditions = health.gone_quiet(node, datetime.datetime.now(datetime.UTC))
        if conditions is None or await self._lives(name, heard):
            return node
        was = health.readiness(node)
        status = {**(node.get("status") or {}), "conditions": conditions}
        node = await self._client.update(NODES, {**node, "status": status}, subresource="status")
        if was == "True":
            self._tell(node, "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        return node

    async def _lives(self, name: str, heard: _Heard) -> bool:
        """Ask the server before giving up a node: the cache may be what has gone quiet.

        While nobody can reach the server, nodes cannot either, and their silence says nothing.
        """
        try:
            lease = await self._client.get(LEASES, name, LEASE_NAMESPACE)
        except StatusError as error:
            if error.code == 404:
                return False
            raise
        except OSError:
            heard.at = time.monotonic()
            raise
        if self._note(heard, lease):
            self._queue.add(name)
            return True
        return False

    async def _taint(self, node: Object) -> Object:
        now = datetime.datetime.now(datetime.UTC)
        wait = self._wait_to_evict(node)
        wanted = health.wanted_taints(node, may_evict=wait == 0, now=now)
        if self._all_disrupted():
            wanted = health.without_eviction(wanted)
        if wait:
            self._queue.add_after(meta.name(node), wait)
        if health.same_taints(wanted, taints.of(node)):
            return node
        patch: Object = {
            "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
            "spec": {"taints": wanted or None},
        }
        tainted = await self._client.patch(NODES, meta.name(node), "", patch)
        if health.is_evicting(tainted) and not health.is_evicting(node):
            self._pace(node).take(time.monotonic())
        return tainted

    def _all_disrupted(self) -> bool:
        states = self._zones().values()
        return all(zone.state is health.Zone.FULL for zone in states)

    def _zones(self) -> dict[str, health.ZoneState]:
        return health.zones(self._nodes.items(), self._options.unhealthy_zone_threshold)

    def _pace(self, node: Object) -> health.Pace:
        return self._paces.setdefault(health.zone_of(node), health.Pace())

    def _wait_to_evict(self, node: Object) -> float | None:
        """Seconds until Pods may be made to leave this node, None if they may not as things are."""
        if health.readiness(node) == "True" or health.is_evicting(node):
            return 0
        zone = self._zones().get(health.zone_of(node))
        rate = self._options.node_eviction_rate
        if zone is not None and zone.state is health.Zone.PARTIAL:
            large = zone.size > self._options.large_cluster_size_threshold
            rate = self._options.secondary_node_eviction_rate if large else 0.0
        return self._pace(node).wait(rate, time.monotonic()) if rate else None

    async def _mark_unready(self, pod: Object) -> None:
        """So that its endpoints are taken out of Services, without a word from its kubelet."""
        if not pods.is_ready(pod):
            return
        condition = {
            **(pods.condition(pod, "Ready") or {}),
            "status": "False",
            "lastTransitionTime": meta.now(),
        }
        patch: Object = {"metadata": {"uid": meta.uid(pod)}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(
                PODS, meta.name(pod), meta.namespace(pod), patch, type="strategic", subresource="status"
            )
        except StatusError as error:
            if error.code not in (404, 409):
                raise
        else:
            self._events.event(pod, "Warning", "NodeNotReady", "Node is not ready")


def _heartbeat(node: Object) -> str:
    """What changes whenever the kubelet posts a status."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return max((each.get("lastHeartbeatTime") or "" for each in conditions), default="")
