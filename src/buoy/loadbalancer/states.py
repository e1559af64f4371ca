"""ConfigurationState objects: whether a component can use the configuration, one a component."""

from __future__ import annotations

from collections.abc import Sequence

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.status import StatusError
from buoy.client import Client

from .config import Problem
from .config.resources import CONFIGURATION_STATES

_LONGEST_MESSAGE = 32768


def configuration_status(problems: Sequence[Problem], before: Object, now: str) -> Object:
    """Of a ConfigurationState, whose status was *before*; *now* is a time as Kubernetes writes it. Pure."""
    summary = "; ".join(map(str, problems))
    condition = {
        "type": "poolReconcilerValid",
        "status": "False" if problems else "True",
        "reason": "ConfigError" if problems else "SyncStateSuccess",
        "message": summary[:_LONGEST_MESSAGE],
        "lastTransitionTime": now,
    }
    for old in before.get("conditions") or ():
        if (old.get("type"), old.get("status")) == (condition["type"], condition["status"]):
            condition["lastTransitionTime"] = old["lastTransitionTime"]
    return {
        "result": "Invalid" if problems else "Valid",
        "errorSummary": summary,
        "conditions": [condition],
    }


class ConfigurationState:
    """The one of a *component* in *namespace*; of those that run on every node, the one of *node*."""

    def __init__(self, client: Client, namespace: str, component: str, node: str = "") -> None:
        self._client = client
        self._namespace = namespace
        self._name = f"{component}-{node}" if node else component
        self._labels = {"metallb.io/component-type": component}
        if node:
            self._labels["metallb.io/node-name"] = node

    async def tell(self, problems: Sequence[Problem]) -> None:
        """Have it show *problems*. Its kind must be served. Raises StatusError and ConnectionFailed."""
        try:
            state = await self._client.get(CONFIGURATION_STATES, self._name, self._namespace)
        except StatusError as error:
            if error.code != 404:
                raise
            metadata = {"name": self._name, "namespace": self._namespace, "labels": self._labels}
            kind = {"apiVersion": CONFIGURATION_STATES.api_version, "kind": CONFIGURATION_STATES.kind}
            state = await self._client.create(CONFIGURATION_STATES, {**kind, "metadata": metadata})
        before = state.get("status") or {}
        status = configuration_status(problems, before, meta.now())
        if status != before:
            await self._client.patch(
                CONFIGURATION_STATES, self._name, self._namespace, {"status": status}, subresource="status"
            )
