"""The shapes of Kubernetes' kinds: the dataclasses of lightkube-models, module by module.

The package leans on lightkube's client for a base class and two re-exports of `dataclasses`. Buoy has no
use for that client, nor for the HTTP library that it brings; where it is absent `dataclasses` stands in.
"""

import dataclasses
import importlib.util
import sys
import types


def _stand_in() -> None:
    schema = types.ModuleType("lightkube.core.schema")
    schema.__dict__.update(
        DictMixin=type("DictMixin", (), {}), dataclass=dataclasses.dataclass, field=dataclasses.field
    )
    sys.modules.setdefault("lightkube.core", types.ModuleType("lightkube.core"))
    sys.modules["lightkube.core.schema"] = schema


if importlib.util.find_spec("lightkube.core") is None:
    _stand_in()

from lightkube.models import (  # noqa: E402
    apiextensions_v1,
    apps_v1,
    batch_v1,
    coordination_v1,
    core_v1,
    discovery_v1,
    events_v1,
    meta_v1,
    rbac_v1,
    storage_v1,
)

__all__ = [
    "apiextensions_v1",
    "apps_v1",
    "batch_v1",
    "coordination_v1",
    "core_v1",
    "discovery_v1",
    "events_v1",
    "meta_v1",
    "rbac_v1",
    "storage_v1",
]
