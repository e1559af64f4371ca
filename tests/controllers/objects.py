"""Objects to plan about, as the API server would show them."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

from buoy.api import meta
from buoy.api.meta import Object

NOW = datetime.datetime(2026, 5, 1, 12, 0, 0, tzinfo=datetime.UTC)
_numbers = itertools.count(1)


def ago(seconds: float) -> str:
    return meta.format_time(NOW - datetime.timedelta(seconds=seconds))


def metadata(name: str, **more: Any) -> Object:
    return {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "resourceVersion": str(next(_numbers)),
        "generation": 1,
        "creationTimestamp": ago(3600),
        **more,
    }


def template(image: str = "web:1") -> Object:
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": image}]},
    }


def deployment(
    replicas: int = 3, surge: int | str = "25%", unavailable: int | str = "25%", **spec: Any
) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata("web"),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
            },
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            **spec,
        },
        "status": {},
    }


def pod(name: str, *, owner: Object | None = None, ready: bool = True, **more: Any) -> Object:
    made: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(name, labels={"app": "web"}),
        "spec": {"containers": [{"name": "web"}], "nodeName": "node-1"},
        "status": {
            "phase": "Running",
            "podIP": "10.244.0.2",
            "podIPs": [{"ip": "10.244.0.2"}],
            "conditions": [
                {"type": "Ready", "status": str(ready), "lastTransitionTime": ago(600)},
            ],
        },
    }
    if owner is not None:
        made["metadata"]["ownerReferences"] = [meta.owner_reference(owner)]
    for path, value in more.items():
        made[path] = {**made[path], **value}
    return made
