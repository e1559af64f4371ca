"""The endpoints controller: for each Service, one Endpoints object, for those who still read them.

Endpoints carry one IP family, no terminating Pods, and at most 1000 addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from buoy.api import meta, pods
from buoy.api.meta import Object
from buoy.api.resource import ENDPOINTS, PODS, SERVICES, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .context import Context
from .endpointslice.desired import (
    HEADLESS,
    families,
    family_of,
    has_endpoint,
    hostname,
    is_headless,
    port_key,
    ports_of,
    publishes_not_ready,
    target_ref,
)
from .endpointslice.packing import TRIGGER_TIME
from .namespace import is_namespace_terminating
from .selection import Selection, has_selector
from .triggertime import TriggerTimes

CAPACITY = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"


@dataclass(slots=True)
class _Subset:
    ports: list[Object]
    ready: list[Object] = field(default_factory=list)
    not_ready: list[Object] = field(default_factory=list)


def subsets(service: Object, found: Iterable[Object]) -> tuple[list[Object], bool]:
    """The subsets for a Service's Pods, one for each set of ports, and whether some had to be left out."""
    family = families(service)[0]
    tolerant = publishes_not_ready(service)
    groups: dict[object, _Subset] = {}
    for pod in sorted(found, key=meta.name):
        address = next((ip for ip in pods.ips(pod) if family_of(ip) == family), "")
        if not address or not has_endpoint(pod, terminating=tolerant):
            continue
        ports = [{key: value for key, value in port.items() if value} for port in ports_of(service, pod)]
        if not ports and not (is_headless(service) and not service["spec"].get("ports")):
            continue
        made: Object = {"ip": address}
        if name := hostname(service, pod):
            made["hostname"] = name
        if node := pod["spec"].get("nodeName"):
            made["nodeName"] = node
        made["targetRef"] = target_ref(pod)
        subset = groups.setdefault(port_key(ports), _Subset(ports))
        (subset.ready if tolerant or pods.is_ready(pod) else subset.not_ready).append(made)
    ordered = [groups[key] for key in sorted(groups, key=repr)]
    truncated = _truncate(ordered, CAPACITY)
    result = []
    for subset in ordered:
        made = {}
        if subset.ready:
            made["addresses"] = sorted(subset.ready, key=_order)
        if subset.not_ready:
            made["notReadyAddresses"] = sorted(subset.not_ready, key=_order)
        if made:
            result.append({**made, "ports": subset.ports} if subset.ports else made)
    return result, truncated


def _order(address: Object) -> tuple[str, str]:
    return address["ip"], address["targetRef"]["uid"]


def _truncate(found: Sequence[_Subset], capacity: int) -> bool:
    """Leave out the unready first, from each subset in proportion."""
    ready = sum(len(subset.ready) for subset in found)
    not_ready = sum(len(subset.not_ready) for subset in found)
    if ready + not_ready <= capacity:
        return False
    if ready > capacity:
        for subset in found:
            subset.not_ready = []
        _share([subset.ready for subset in found], capacity)
    else:
        _share([subset.not_ready for subset in found], capacity - ready)
    return True


def _share(lists: Sequence[list[Object]], room: int) -> None:
    total, left = sum(map(len, lists)), room
    for each in lists:
        kept = min(-(-len(each) * room // total), left)
        del each[kept:]
        left -= kept


def plan(
    service: Object, found: Iterable[Object], current: Object | None, trigger_time: str
) -> Object | None:
    """The Endpoints to write, None if *current* is right already."""
    wanted, truncated = subsets(service, found)
    labels = {**meta.labels(service), MANAGED_BY: MANAGER}
    labels.pop(HEADLESS, None)
    if is_headless(service):
        labels[HEADLESS] = ""
    annotations = dict(meta.annotations(current)) if current is not None else {}
    over = annotations.pop(OVER_CAPACITY, None) is not None
    if (
        current is not None
        and (current.get("subsets") or []) == wanted
        and meta.labels(current) == labels
        and over == truncated
    ):
        return None
    annotations.pop(TRIGGER_TIME, None)
    if trigger_time:
        annotations[TRIGGER_TIME] = trigger_time
    if truncated:
        annotations[OVER_CAPACITY] = "truncated"
    metadata = (
        dict(current["metadata"])
        if current is not None
        else {"name": meta.name(service), "namespace": meta.namespace(service)}
    )
    metadata["labels"] = labels
    metadata["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": wanted}


class EndpointsController:
    name: ClassVar[str] = "endpoints-controller"
    resources: ClassVar[tuple[Resource, ...]] = (SERVICES, PODS, ENDPOINTS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._workers = context.options.concurrent_syncs
        self._events = context.recorder("endpoint-controller")
        self._queue = WorkQueue()
        self._services = context.informers.of(SERVICES)
        self._endpoints = context.informers.of(ENDPOINTS)
        self._times = TriggerTimes()
        self._services.subscribe(self._on_service)
        self._endpoints.subscribe(self._on_endpoints)
        self._selection = Selection(context.informers, self._queue.add)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=self._workers, name=self.name)

    def _on_service(self, old: Object | None, new: Object | None) -> None:
        self._queue.add(meta.key(new or old or {}))

    def _on_endpoints(self, old: Object | None, new: Object | None) -> None:
        """What a user keeps by hand, for a Service without selector, is none of our business."""
        obj = new or old or {}
        if meta.labels(obj).get(MANAGED_BY) == MANAGER:
            self._queue.add(meta.key(obj))

    async def reconcile(self, key: str) -> None:
        service = self._services.get(key)
        current = self._endpoints.get(key)
        if service is None:
            self._times.forget(key)
            if current is not None:
                await self._delete(current)
            return
        if not has_selector(service) or meta.is_terminating(service):
            return
        found = self._selection.pods(service)
        wanted = plan(service, found, current, self._times.next(service, found))
        if wanted is None:
            return
        try:
            if current is None:
                await self._client.create(ENDPOINTS, wanted)
            else:
                await self._client.update(ENDPOINTS, wanted)
        except StatusError as error:
            if is_namespace_terminating(error):
                return
            if error.code != 409:
                reason, verb = (
                    ("FailedToCreateEndpoint", "create")
                    if current is None
                    else (
                        "FailedToUpdateEndpoint",
                        "update",
                    )
                )
                what = f"endpoint for service {key}" if current is None else f"endpoint {key}"
                self._events.event(service, "Warning", reason, f"Failed to {verb} {what}: {error}")
            raise

    async def _delete(self, current: Object) -> None:
        name, namespace = meta.name(current), meta.namespace(current)
        try:
            await self._client.get(SERVICES, name, namespace)
        except StatusError as error:
            if error.code != 404:
                raise
        else:
            return  # made anew: the cache will show it
        try:
            await self._client.delete(ENDPOINTS, name, namespace, uid=meta.uid(current))
        except StatusError as error:
            if error.code != 404:
                raise
