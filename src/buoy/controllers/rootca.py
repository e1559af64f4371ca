"""The root-ca-certificate-publisher: in each namespace the ConfigMap that Pods verify the API server with."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import CONFIG_MAPS, NAMESPACES, Resource
from buoy.api.status import StatusError
from buoy.client import Informer, WorkQueue

from .context import Context
from .namespace import is_active, is_namespace_terminating

NAME = "kube-root-ca.crt"
_DESCRIPTION = "kubernetes.io/description"
_TEXT = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints "
    "such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across "
    "distributions of Kubernetes clusters."
)


def desired(namespace: str, certificate: str, current: Object | None) -> Object | None:
    """The ConfigMap to write, None if *current* is right."""
    data = {"ca.crt": certificate}
    if current is None:
        metadata: Object = {"name": NAME, "namespace": namespace, "annotations": {_DESCRIPTION: _TEXT}}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    annotations = meta.annotations(current)
    if current.get("data") == data and annotations.get(_DESCRIPTION):
        return None
    metadata = {**current["metadata"], "annotations": {**annotations, _DESCRIPTION: _TEXT}}
    return {**current, "metadata": metadata, "data": data}


class RootCAPublisher:
    name: ClassVar[str] = "root-ca-certificate-publisher-controller"
    resources: ClassVar[tuple[Resource, ...]] = (NAMESPACES, CONFIG_MAPS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._certificate = Path(context.options.root_ca_file).read_text()
        self._queue = WorkQueue()
        self._namespaces = context.informers.of(NAMESPACES)
        # Of all ConfigMaps only these: users' own may be large and many.
        self._maps = Informer(context.client, CONFIG_MAPS, field_selector=f"metadata.name={NAME}")
        context.informers.add(self._maps)
        self._namespaces.subscribe(self._on_namespace)
        self._maps.subscribe(self._on_map)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, name=self.name)

    def _on_namespace(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add(meta.name(new))

    def _on_map(self, old: Object | None, new: Object | None) -> None:
        self._queue.add(meta.namespace(new or old or {}))

    async def reconcile(self, key: str) -> None:
        namespace = self._namespaces.get(key)
        if namespace is None or not is_active(namespace):
            return
        current = self._maps.get(f"{key}/{NAME}")
        wanted = desired(key, self._certificate, current)
        if wanted is None:
            return
        try:
            if current is None:
                await self._client.create(CONFIG_MAPS, wanted)
            else:
                await self._client.update(CONFIG_MAPS, wanted)
        except StatusError as error:
            if error.reason != "AlreadyExists" and not is_namespace_terminating(error):
                raise
