"""Putting into the store what every cluster has; done at each start, changing only what is not right."""

from __future__ import annotations

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import ENDPOINT_SLICES, ENDPOINTS, NAMESPACES, SERVICES, Resource
from buoy.api.status import StatusError

from . import Options
from .authentication import MASTERS
from .bootstrap import SYSTEM_NAMESPACES, kubernetes_endpoints, kubernetes_service, policy
from .registry import Registry, User, Write

SELF = User("system:apiserver", (MASTERS,))


async def bootstrap(registry: Registry, options: Options) -> None:
    """Raises StatusError if the store's content stands against it."""
    for name in SYSTEM_NAMESPACES:
        await _ensure(registry, NAMESPACES, {"metadata": {"name": name}})
    for resource, obj in policy():
        if resource in registry.served:
            await _ensure(registry, resource, obj, update=True)
    if SERVICES not in registry.served:
        return
    await _ensure(registry, SERVICES, kubernetes_service(options.service_cidrs, options.advertise_port))
    endpoints, endpoint_slice = kubernetes_endpoints(options.advertise_address, options.advertise_port)
    for resource, obj in ((ENDPOINTS, endpoints), (ENDPOINT_SLICES, endpoint_slice)):
        if resource in registry.served:
            await _ensure(registry, resource, obj, update=True)


async def _ensure(registry: Registry, resource: Resource, wanted: Object, *, update: bool = False) -> None:
    """Create the object if it is missing; with *update*, bring its content to what is wanted."""
    served = registry.served[resource]
    namespace, name = meta.namespace(wanted), meta.name(wanted)
    found = await registry.find(resource, namespace, name)
    write = Write(SELF)
    if found is None:
        await registry.create(served, namespace, wanted, write)
        return
    if not update or _has_opted_out(found):
        return

    def bring(old: Object) -> Object:
        return {**old, **{field: value for field, value in wanted.items() if field != "metadata"}}

    try:
        await registry.change(served, namespace, name, bring, write)
    except StatusError as error:
        if error.code != 422:
            raise
        # What cannot be changed, such as a binding's role, was made by somebody for a reason.


def _has_opted_out(obj: Object) -> bool:
    return meta.annotations(obj).get("rbac.authorization.kubernetes.io/autoupdate") == "false"
