"""What a controller is given to work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from buoy.api.resource import Resource
from buoy.client import Client, EventRecorder

from .discovery import Discovery
from .informers import Informers
from .options import Options


@dataclass(frozen=True)
class Context:
    """Shared by the controllers of a process.

    *metadata_client* asks for metadata only. *discovery* is what the server served when this process started.
    """

    client: Client
    metadata_client: Client
    discovery: Discovery
    informers: Informers
    options: Options
    recorders: list[EventRecorder] = field(default_factory=list)

    def recorder(self, component: str) -> EventRecorder:
        recorder = EventRecorder(self.client, component)
        self.recorders.append(recorder)
        return recorder


class Controller(Protocol):
    """Asks for its caches when it is made, works when it runs.

    *name* is what ``--controllers`` calls it in Kubernetes; *resources* must be served for it to start.
    """

    name: ClassVar[str]
    resources: ClassVar[tuple[Resource, ...]]

    async def run(self) -> None:
        """Work for ever; the caches are full when this is called."""
        ...
