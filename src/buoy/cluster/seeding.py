"""Objects that a local cluster has from its start."""

from __future__ import annotations

from ..api.meta import Object
from ..api.resource import Resource
from ..api.status import StatusError
from ..client import Client


async def create(client: Client, resource: Resource, obj: Object) -> None:
    """Create *obj* unless it is there. Raises StatusError and ConnectionFailed."""
    try:
        await client.create(resource, obj)
    except StatusError as refusal:
        if refusal.reason != "AlreadyExists":
            raise
