"""The thin half: watches, and has the slices written as planned."""

from __future__ import annotations

from typing import ClassVar

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import ENDPOINT_SLICES, NODES, PODS, SERVICES, Resource
from buoy.client import WorkQueue

from ..context import Context
from ..selection import Selection, has_selector
from ..triggertime import TriggerTimes
from .desired import HEADLESS, ZONE, EndpointKey, Group, desired, endpoint_key, is_headless, wants_shares
from .packing import TRIGGER_TIME, Template, plan
from .slices import MANAGED_BY, SERVICE_NAME, SliceIndex, SliceWriter, generate_name, service_key
from .topology import DISABLED, ENABLED, NoHints, assign, capacity, zone_shares

_MANAGER = "endpointslice-controller.k8s.io"


class EndpointSliceController:
    name: ClassVar[str] = "endpointslice-controller"
    resources: ClassVar[tuple[Resource, ...]] = (SERVICES, PODS, NODES, ENDPOINT_SLICES)

    def __init__(self, context: Context) -> None:
        self._workers = context.options.concurrent_syncs
        self._limit = context.options.max_endpoints_per_slice
        self._queue = WorkQueue()
        self._services = context.informers.of(SERVICES)
        self._nodes = context.informers.of(NODES)
        self._index = SliceIndex(context.informers)
        self._events = context.recorder("endpoint-slice-controller")
        self._writer = SliceWriter(context.client, self._events, self._index, _MANAGER)
        self._times = TriggerTimes()
        self._hinting: dict[str, dict[str, str]] = {}  # by Service and family: what was last said of hints
        self._services.subscribe(self._on_service)
        self._nodes.subscribe(self._on_node)
        self._index.informer.subscribe(self._on_slice)
        self._selection = Selection(context.informers, self._queue.add)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=self._workers, name=self.name)

    def _on_service(self, old: Object | None, new: Object | None) -> None:
        self._queue.add(meta.key(new or old or {}))

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _zone(old) == _zone(new):
            if capacity(old) == capacity(new):
                return
            affected = wants_shares
        else:
            affected = has_selector
        for service in self._services.items():
            if affected(service):
                self._queue.add(meta.key(service))

    def _on_slice(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            if obj is not None and (key := service_key(obj, _MANAGER)):
                self._queue.add(key)

    async def reconcile(self, key: str) -> None:
        service = self._services.get(key)
        if service is None:
            self._times.forget(key)
            self._writer.forget(key)
            self._hinting.pop(key, None)
            return  # the slices go with their owner
        if not has_selector(service) or meta.is_terminating(service):
            return
        if wait := await self._writer.settled(key):
            self._queue.add_after(key, wait)
            return
        found = self._selection.pods(service)
        moment = self._times.next(service, found)
        template = Template(
            namespace=meta.namespace(service),
            generate_name=generate_name(meta.name(service)),
            labels=labels(service),
            owner=meta.owner_reference(service),
            annotations={TRIGGER_TIME: moment} if moment else {},
        )
        groups = desired(service, found, self._zone_of)
        existing = self._index.of(key, _MANAGER)
        self._hint(key, service, groups, existing)
        todo = plan(template, groups, existing, self._limit)
        await self._writer.write(key, service, todo)

    def _hint(self, key: str, service: Object, groups: list[Group], existing: list[Object]) -> None:
        """Hints by the zones' shares, if the Service asks for them; an event tells when that changes."""
        before = self._hinting.pop(key, {})
        now: dict[str, str] = {}
        if wants_shares(service):
            shares, former = zone_shares(self._nodes.items()), _hinted_zones(existing)
            by_family: dict[str, list[Object]] = {}
            for group in groups:
                by_family.setdefault(group.address_type, []).extend(group.endpoints.values())
            for family, endpoints in by_family.items():
                try:
                    assign(endpoints, former, shares)
                    now[family] = ENABLED
                except NoHints as reason:
                    now[family] = str(reason)
            self._hinting[key] = now
        for family, said in now.items():
            if said != before.get(family):
                self._tell(service, said, family)
        for family, said in before.items():
            if said == ENABLED and family not in now:
                self._tell(service, DISABLED, family)

    def _tell(self, service: Object, said: str, family: str) -> None:
        message = f"{said}, addressType: {family}"
        if said == ENABLED:
            self._events.event(service, "Normal", "TopologyAwareHintsEnabled", message)
        else:
            self._events.event(service, "Warning", "TopologyAwareHintsDisabled", message)

    def _zone_of(self, name: str) -> str | None:
        node = self._nodes.get(name)
        return None if node is None else _zone(node)


def labels(service: Object) -> dict[str, str]:
    """The Service's own labels, and what marks a slice as its."""
    found = {
        key: value
        for key, value in meta.labels(service).items()
        if key not in (SERVICE_NAME, MANAGED_BY, HEADLESS)
    }
    found[SERVICE_NAME] = meta.name(service)
    found[MANAGED_BY] = _MANAGER
    if is_headless(service):
        found[HEADLESS] = ""
    return found


def _hinted_zones(slices: list[Object]) -> dict[EndpointKey, str]:
    return {
        endpoint_key(endpoint): zones[0]["name"]
        for obj in slices
        for endpoint in obj.get("endpoints") or ()
        if (zones := (endpoint.get("hints") or {}).get("forZones"))
    }


def _zone(node: Object) -> str:
    return meta.labels(node).get(ZONE, "")
