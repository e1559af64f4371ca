"""The load balancer of a local cluster: its custom resources and rights, and a pool if one was asked for."""

from __future__ import annotations

import asyncio
import importlib.resources
from collections.abc import Coroutine, Iterator
from typing import Any

import yaml

from .. import loadbalancer
from ..api.meta import Object
from ..api.resource import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    Resource,
)
from ..client import Client
from ..loadbalancer.config.resources import IP_ADDRESS_POOLS, L2_ADVERTISEMENTS
from .seeding import create

NAMESPACE = "metallb-system"
CONTROLLER = f"system:serviceaccount:{NAMESPACE}:controller"
SPEAKER = f"system:serviceaccount:{NAMESPACE}:speaker"
"""Who the components are: the accounts that the manifests give their rights to."""

_IN_ORDER: tuple[tuple[Resource, ...], ...] = (
    (NAMESPACES, CUSTOM_RESOURCE_DEFINITIONS, CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS),
    (SERVICE_ACCOUNTS, ROLES, ROLE_BINDINGS, IP_ADDRESS_POOLS, L2_ADVERTISEMENTS),
)
"""What may be made at once; the rest of the manifests runs the components as Pods, and is not for here."""


def objects(pool: str) -> list[Object]:
    """What a cluster has from its start. *pool*: addresses to give out, as ``buoy up`` takes them, if any."""
    found: list[Object] = []
    folder = importlib.resources.files(loadbalancer) / "manifests"
    for name in ("namespace.yaml", "metallb.yaml"):
        found += yaml.load_all((folder / name).read_text(), _LOADER)
    if pool:
        addresses = [part.strip() for part in pool.split(",")]
        found.append(_configuration("IPAddressPool", {"addresses": addresses}))
        found.append(_configuration("L2Advertisement", {"ipAddressPools": ["default"]}))
    return found


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # several times as fast where it is built in


def _configuration(kind: str, spec: Object) -> Object:
    return {
        "apiVersion": IP_ADDRESS_POOLS.api_version,
        "kind": kind,
        "metadata": {"name": "default", "namespace": NAMESPACE},
        "spec": spec,
    }


async def install(client: Client, pool: str) -> None:
    """Make what is not there. Raises StatusError and ConnectionFailed."""
    wanted = objects(pool)

    def creations(group: tuple[Resource, ...]) -> Iterator[Coroutine[Any, Any, None]]:
        by_kind = {resource.kind: resource for resource in group}
        return (create(client, by_kind[obj["kind"]], obj) for obj in wanted if obj["kind"] in by_kind)

    for group in _IN_ORDER:
        await asyncio.gather(*creations(group))
