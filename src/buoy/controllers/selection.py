"""Which Pods a Service selects, and which Services select a Pod, without asking all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from buoy.api import meta, pods
from buoy.api.meta import Object
from buoy.api.resource import PODS, SERVICES

from .informers import Informers

_BY_LABEL = "namespace/label"


def has_selector(service: Object) -> bool:
    """Whether the controllers give it endpoints: it selects Pods and is no mere alias."""
    spec = service["spec"]
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


class Selection:
    """Calls *changed* with the key of each Service whose Pods may look different now."""

    def __init__(self, informers: Informers, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._services = informers.of(SERVICES)
        self._pods = informers.of(PODS)
        self._services.add_index(_BY_LABEL, _service_labels)
        self._pods.add_index(_BY_LABEL, _pod_labels)
        self._pods.subscribe(self._on_pod)

    def pods(self, service: Object) -> list[Object]:
        selector = service["spec"].get("selector") or {}
        value = next(iter(_service_labels(service)), None)
        if value is None:
            return []
        return [
            pod
            for pod in self._pods.by_index(_BY_LABEL, value)
            if selector.items() <= meta.labels(pod).items()
        ]

    def services(self, pod: Object) -> Iterable[str]:
        labels = meta.labels(pod).items()
        for value in _pod_labels(pod):
            for service in self._services.by_index(_BY_LABEL, value):
                if service["spec"]["selector"].items() <= labels:
                    yield meta.key(service)

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _matters(old) == _matters(new):
            return
        for pod in (old, new):
            for key in self.services(pod) if pod is not None else ():
                self._changed(key)


def _matters(pod: Object) -> tuple[Any, ...]:
    """What of a Pod shows in an endpoint."""
    spec = pod["spec"]
    return (
        meta.labels(pod),
        pods.ips(pod),
        pods.is_ready(pod),
        pods.is_terminal(pod),
        meta.is_terminating(pod),
        spec.get("nodeName"),
        spec.get("hostname"),
        spec.get("subdomain"),
    )


def _pod_labels(pod: Object) -> Iterable[str]:
    namespace = meta.namespace(pod)
    return [f"{namespace}/{key}={value}" for key, value in meta.labels(pod).items()]


def _service_labels(service: Object) -> Iterable[str]:
    """One pair is enough: what matches all of the selector matches that too."""
    selector = service["spec"].get("selector")
    if not selector or not has_selector(service):
        return ()
    key = min(selector)
    return (f"{meta.namespace(service)}/{key}={selector[key]}",)
