"""Following everything that configures the load balancer, as far as the API server has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import CONFIG_MAPS, CUSTOM_RESOURCE_DEFINITIONS, SECRETS, Resource
from buoy.client import Client, Informer, WorkQueue

from .config import NOTHING, RESOURCES, Problem, Sources, read
from .config.resources import CONFIGURATION_STATES
from .model import Config
from .states import ConfigurationState

log = logging.getLogger(__name__)

CONFIG_MAP = "config"
_STATE = "state"
_FIELDS = {
    (resource.group, resource.plural, resource.version): field for field, resource in RESOURCES.items()
}


class Followed:
    """The objects of `Sources`, kept current; *changed* is called whenever they are others.

    Custom resources come and go with their definitions. Those of namespaces are of *namespace*, as are the
    ConfigMap and the Secrets.
    """

    def __init__(self, client: Client, namespace: str, changed: Callable[[], None]) -> None:
        self._client = client
        self._namespace = namespace
        self._changed = changed
        self._definitions = Informer(client, CUSTOM_RESOURCE_DEFINITIONS, transform=_small)
        self._config_maps = Informer(
            client, CONFIG_MAPS, namespace=namespace, field_selector=f"metadata.name={CONFIG_MAP}"
        )
        self._secrets = Informer(
            client, SECRETS, namespace=namespace, field_selector="type=kubernetes.io/basic-auth"
        )
        self._resources: dict[str, Informer] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._established: set[tuple[str, str, str]] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._definitions.subscribe(self._definition_changed)
        for informer in (self._config_maps, self._secrets):
            informer.subscribe(self._object_changed)

    def has(self, resource: Resource) -> bool:
        """Whether the API server has this custom resource now."""
        return (resource.group, resource.plural, resource.version) in self._established

    def sources(self) -> Sources:
        """What there is now."""
        found: dict[str, Any] = {
            field: tuple(sorted(informer.items(), key=meta.key))
            for field, informer in self._resources.items()
        }
        return Sources(
            **found,
            config_map=self._config_maps.get(f"{self._namespace}/{CONFIG_MAP}"),
            secrets={meta.name(secret): secret for secret in self._secrets.items()},
        )

    def find(self, kind: str, name: str) -> Object | None:
        """One of these objects, as it is now."""
        for informer in (self._config_maps, *self._resources.values()):
            if informer.resource.kind == kind:
                return informer.get(f"{self._namespace}/{name}" if informer.resource.namespaced else name)
        return None

    async def run(self) -> None:
        """Follow for ever."""
        async with asyncio.TaskGroup() as self._tasks:
            for informer in (self._definitions, self._config_maps, self._secrets):
                self._tasks.create_task(informer.run())
            await asyncio.get_running_loop().create_future()

    async def synced(self) -> None:
        """Wait until all that was there at first is known."""
        await self._definitions.synced()
        for informer in (self._config_maps, self._secrets, *self._resources.values()):
            await informer.synced()

    def _object_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or _content(old) != _content(new):
            self._changed()

    def _definition_changed(self, old: Object | None, new: Object | None) -> None:
        served = set(new["served"]) if new else set()
        for one in served - self._established:
            self._established.add(one)
            if field := _FIELDS.get(one):
                self._follow(field)
        for one in (set(old["served"]) if old else set()) - served:
            self._established.discard(one)
            if (field := _FIELDS.get(one)) and field in self._running:
                self._running.pop(field).cancel()
                del self._resources[field]
        self._changed()

    def _follow(self, field: str) -> None:
        resource = RESOURCES[field]
        log.info("following %s.%s", resource.plural, resource.group)
        namespace = self._namespace if resource.namespaced else ""
        informer = Informer(self._client, resource, namespace=namespace)
        informer.subscribe(self._object_changed)
        self._resources[field] = informer
        assert self._tasks is not None
        self._running[field] = self._tasks.create_task(informer.run())


class Configs:
    """The configuration in force, for those who need no more than that. *state* is to say how it is."""

    def __init__(self, client: Client, namespace: str, state: ConfigurationState) -> None:
        self._state = state
        self._reading = NOTHING
        self._woken = asyncio.Event()
        self._followed = Followed(client, namespace, self._woken.set)
        self._told: object = None
        self._telling = WorkQueue()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What keeps the newest configuration from being in force."""
        return self._reading.problems

    async def run(self, changed: Callable[[Config], None]) -> None:
        """Call *changed* with each configuration, for ever; one at fault leaves the one before in force."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._followed.run())
            tasks.create_task(self._telling.run(self._tell, name="configuration states"))
            await self._followed.synced()
            while True:
                self._woken.clear()
                before, self._reading = self._reading, read(self._followed.sources(), self._reading)
                for problem in set(self.problems) - set(before.problems):
                    log.error("configuration: %s", problem)
                if before is NOTHING or self._reading.config != before.config:
                    changed(self._reading.config)
                if self._told != (self.problems, self._followed.has(CONFIGURATION_STATES)):
                    self._telling.add(_STATE)
                await self._woken.wait()
                await asyncio.sleep(0)  # whatever else came in this turn goes with it

    async def _tell(self, _: str) -> None:
        told = self.problems, self._followed.has(CONFIGURATION_STATES)
        if self._followed.has(CONFIGURATION_STATES):
            await self._state.tell(self.problems)
        self._told = told


def _small(definition: Object) -> Object:
    """The metadata of a CustomResourceDefinition, and the group, plural and version of all it serves."""
    spec, metadata = definition["spec"], definition["metadata"]
    established = any(
        condition["type"] == "Established" and condition["status"] == "True"
        for condition in (definition.get("status") or {}).get("conditions") or ()
    )
    served = [
        (spec["group"], spec["names"]["plural"], version["name"])
        for version in spec["versions"]
        if established and version.get("served")
    ]
    kept = {name: metadata[name] for name in ("name", "uid", "resourceVersion") if name in metadata}
    return {"metadata": kept, "served": served}


def _content(obj: Object) -> tuple[object, ...]:
    """All of an object that configures something: neither its status nor who wrote it when."""
    return (meta.labels(obj), meta.annotations(obj), obj.get("spec"), obj.get("data"))
