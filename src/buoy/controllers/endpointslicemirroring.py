"""The endpointslicemirroring controller: Endpoints that users keep by hand, as the slices that proxies read.

Follows KEP-0752: Endpoints of Services without a selector are mirrored, unless labelled
``endpointslice.kubernetes.io/skip-mirror: "true"``.
"""

from __future__ import annotations

from typing import ClassVar

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import ENDPOINT_SLICES, ENDPOINTS, SERVICES, Resource
from buoy.client import WorkQueue

from .context import Context
from .endpointslice.desired import Group, endpoint_key, family_of, port_key
from .endpointslice.packing import TRIGGER_TIME, Template, plan
from .endpointslice.slices import (
    MANAGED_BY,
    SERVICE_NAME,
    SliceIndex,
    SliceWriter,
    generate_name,
    service_key,
)

SKIP = "endpointslice.kubernetes.io/skip-mirror"
_MANAGER = "endpointslicemirroring-controller.k8s.io"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_NOT_MIRRORED = frozenset({TRIGGER_TIME, "kubectl.kubernetes.io/last-applied-configuration"})


def is_mirrored(endpoints: Object, service: Object) -> bool:
    """Whether slices are to be made of these Endpoints."""
    return (
        meta.labels(endpoints).get(SKIP) != "true"
        and _LEADER not in meta.annotations(endpoints)
        and not service["spec"].get("selector")
    )


def skipped(endpoints: Object, limit: int) -> int:
    """How many addresses are too many, with at most *limit* of each subset."""
    return sum(
        max(0, len(subset.get("addresses") or ()) + len(subset.get("notReadyAddresses") or ()) - limit)
        for subset in endpoints.get("subsets") or ()
    )


def groups(endpoints: Object, limit: int) -> list[Group]:
    """What the slices have to hold; of each subset's addresses at most *limit*, ready ones first."""
    found: dict[tuple[str, object], Group] = {}
    for subset in endpoints.get("subsets") or ():
        ports = [
            {"name": "", "protocol": "TCP", **{key: value for key, value in port.items() if value}}
            for port in subset.get("ports") or ()
        ]
        addresses = [(True, each) for each in subset.get("addresses") or ()]
        addresses += [(False, each) for each in subset.get("notReadyAddresses") or ()]
        for ready, address in addresses[:limit]:
            family = family_of(address["ip"])
            made: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
            for field in ("hostname", "nodeName", "targetRef"):
                if address.get(field):
                    made[field] = address[field]
            group = found.setdefault((family, port_key(ports)), Group(family, ports, {}))
            group.endpoints.setdefault(endpoint_key(made), made)
    return list(found.values())


def template(endpoints: Object) -> Template:
    labels = {
        key: value
        for key, value in meta.labels(endpoints).items()
        if key not in (SERVICE_NAME, MANAGED_BY, SKIP)
    }
    annotations = {
        key: value for key, value in meta.annotations(endpoints).items() if key not in _NOT_MIRRORED
    }
    return Template(
        namespace=meta.namespace(endpoints),
        generate_name=generate_name(meta.name(endpoints)),
        labels={**labels, SERVICE_NAME: meta.name(endpoints), MANAGED_BY: _MANAGER},
        owner=meta.owner_reference(endpoints),
        annotations=annotations,
    )


class EndpointSliceMirroringController:
    name: ClassVar[str] = "endpointslice-mirroring-controller"
    resources: ClassVar[tuple[Resource, ...]] = (SERVICES, ENDPOINTS, ENDPOINT_SLICES)

    def __init__(self, context: Context) -> None:
        self._workers = context.options.concurrent_syncs
        self._limit = context.options.mirroring_max_endpoints_per_subset
        self._queue = WorkQueue()
        self._services = context.informers.of(SERVICES)
        self._endpoints = context.informers.of(ENDPOINTS)
        self._index = SliceIndex(context.informers)
        self._events = context.recorder("endpoint-slice-mirroring-controller")
        self._writer = SliceWriter(context.client, self._events, self._index, _MANAGER)
        self._services.subscribe(self._on_change)
        self._endpoints.subscribe(self._on_change)
        self._index.informer.subscribe(self._on_slice)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, workers=self._workers, name=self.name)

    def _on_change(self, old: Object | None, new: Object | None) -> None:
        self._queue.add(meta.key(new or old or {}))

    def _on_slice(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            if obj is not None and (key := service_key(obj, _MANAGER)):
                self._queue.add(key)

    async def reconcile(self, key: str) -> None:
        endpoints, service = self._endpoints.get(key), self._services.get(key)
        slices = self._index.of(key, _MANAGER)
        if endpoints is None:
            self._writer.forget(key)
            return  # the slices go with their owner
        mirrored = service is not None and is_mirrored(endpoints, service)
        if wait := await self._writer.settled(key):
            self._queue.add_after(key, wait)
            return
        if mirrored and (left_out := skipped(endpoints, self._limit)):
            self._events.event(
                endpoints,
                "Warning",
                "TooManyAddressesToMirror",
                f"A max of {self._limit} addresses can be mirrored to EndpointSlices per Endpoints subset."
                f" {left_out} addresses were skipped",
            )
        wanted = groups(endpoints, self._limit) if mirrored else []
        # A slice has room for a whole subset, so that a small change makes no slice come or go.
        await self._writer.write(key, endpoints, plan(template(endpoints), wanted, slices, self._limit))
