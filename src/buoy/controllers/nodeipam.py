"""The nodeipam controller: a range of Pod addresses for each node, written once into its spec."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import ClassVar

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import NODES, Resource
from buoy.client import WorkQueue

from .context import Context

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RangeFull(Exception):
    """No range is left; the argument is the cluster's range."""


def allocate(cluster: Network, mask_size: int, used: Iterable[Network]) -> Network:
    """The lowest range with *mask_size* within *cluster* that overlaps none of *used*. Raises RangeFull."""
    bits = cluster.max_prefixlen - mask_size
    first = int(cluster.network_address) >> bits
    count = 1 << max(0, mask_size - cluster.prefixlen)
    taken: set[int] = set()
    for network in used:
        if network.version == cluster.version and network.overlaps(cluster):
            low = max(int(network.network_address) >> bits, first)
            high = min(int(network.broadcast_address) >> bits, first + count - 1)
            taken.update(range(low, high + 1))
    # Of any n + 1 numbers at least one is not among n.
    for number in range(first, first + min(count, len(taken) + 1)):
        if number not in taken:
            return type(cluster)((number << bits, mask_size))
    raise RangeFull(str(cluster))


def pod_cidrs(node: Object) -> list[Network]:
    """The node's ranges. What is no range is left out."""
    spec = node.get("spec") or {}
    texts = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    return found


def plan(clusters: Sequence[tuple[Network, int]], used: Iterable[Network]) -> list[Network]:
    """One range of each of *clusters* (with its mask size) for one more node. Raises RangeFull."""
    used = list(used)
    return [allocate(cluster, mask_size, used) for cluster, mask_size in clusters]


class NodeIPAMController:
    name: ClassVar[str] = "node-ipam-controller"
    resources: ClassVar[tuple[Resource, ...]] = (NODES,)

    def __init__(self, context: Context) -> None:
        options = context.options
        self._client = context.client
        self._events = context.recorder("cidrAllocator")
        self._clusters: list[tuple[Network, int]] = []
        for text in options.cluster_cidrs:
            network = ipaddress.ip_network(text)
            size = (
                options.node_cidr_mask_size_ipv4 if network.version == 4 else options.node_cidr_mask_size_ipv6
            )
            self._clusters.append((network, size))
        self._service_ranges: list[Network] = [ipaddress.ip_network(text) for text in options.service_cidrs]
        self._reserved: dict[str, list[Network]] = {}
        self._written: set[str] = set()
        self._queue = WorkQueue()
        self._nodes = context.informers.of(NODES)
        self._nodes.subscribe(self._on_node)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, name=self.name)

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if new is not None and not pod_cidrs(new):
            self._queue.add(meta.name(new))
            return
        name = meta.name(new or old or {})
        self._reserved.pop(name, None)
        self._written.discard(name)
        if new is None:
            for node in self._nodes.items():  # one may have waited for what is free now
                if not pod_cidrs(node):
                    self._queue.add(meta.name(node))

    async def reconcile(self, key: str) -> None:
        node = self._nodes.get(key)
        if node is None or pod_cidrs(node) or key in self._written:
            return
        if key in self._reserved:
            # An earlier write may have been done for all we know, and the cache may be behind.
            node = await self._client.get(NODES, key)
            if found := pod_cidrs(node):
                self._reserved[key] = found
                self._written.add(key)
                return
        else:
            try:
                self._reserved[key] = plan(self._clusters, self._used())
            except RangeFull:
                self._events.event(
                    node, "Normal", "CIDRNotAvailable", f"Node {key} status is now: CIDRNotAvailable"
                )
                return
        ranges = [str(network) for network in self._reserved[key]]
        patch: Object = {
            "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
            "spec": {"podCIDR": ranges[0], "podCIDRs": ranges},
        }
        await self._client.patch(NODES, key, "", patch)
        self._written.add(key)

    def _used(self) -> list[Network]:
        """What must not be given out: what nodes have, and what is on its way to one."""
        return [
            *self._service_ranges,
            *(network for each in self._nodes.items() for network in pod_cidrs(each)),
            *(network for networks in self._reserved.values() for network in networks),
        ]
