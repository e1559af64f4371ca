"""The serviceaccount controller: in each namespace the ServiceAccount ``default``."""

from __future__ import annotations

from typing import ClassVar

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import NAMESPACES, SERVICE_ACCOUNTS, Resource
from buoy.api.status import StatusError
from buoy.client import WorkQueue

from .context import Context
from .namespace import is_active, is_namespace_terminating

_NAME = "default"


class ServiceAccountController:
    name: ClassVar[str] = "serviceaccount-controller"
    resources: ClassVar[tuple[Resource, ...]] = (NAMESPACES, SERVICE_ACCOUNTS)

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = WorkQueue()
        self._namespaces = context.informers.of(NAMESPACES)
        self._accounts = context.informers.of(SERVICE_ACCOUNTS)
        self._namespaces.subscribe(self._on_namespace)
        self._accounts.subscribe(self._on_account)

    async def run(self) -> None:
        await self._queue.run(self.reconcile, name=self.name)

    def _on_namespace(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add(meta.name(new))

    def _on_account(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None and meta.name(old) == _NAME:
            self._queue.add(meta.namespace(old))

    async def reconcile(self, key: str) -> None:
        namespace = self._namespaces.get(key)
        if namespace is None or not is_active(namespace) or self._accounts.get(f"{key}/{_NAME}"):
            return
        account: Object = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": _NAME, "namespace": key},
        }
        try:
            await self._client.create(SERVICE_ACCOUNTS, account)
        except StatusError as error:
            if error.reason != "AlreadyExists" and not is_namespace_terminating(error):
                raise
