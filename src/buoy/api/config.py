"""ConfigMap and Secret: data for Pods."""

from __future__ import annotations

import base64

from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .models import core_v1
from .resource import CONFIG_MAPS, SECRETS


def default_secret(secret: Object) -> None:
    """``stringData`` is write-only: it overrides ``data``."""
    texts = secret.pop("stringData", None)
    if texts:
        data = secret.get("data") or {}
        data.update({key: base64.b64encode(text.encode()).decode() for key, text in texts.items()})
        secret["data"] = data
    if not secret.get("type"):
        secret["type"] = "Opaque"


CONFIG_MAP = Kind(
    resource=CONFIG_MAPS,
    model=core_v1.ConfigMap,
    singular="configmap",
    short_names=("cm",),
    columns=(
        NAME_COLUMN,
        Column("Data", lambda obj: len(obj.get("data") or ()) + len(obj.get("binaryData") or ())),
        AGE_COLUMN,
    ),
)

SECRET = Kind(
    resource=SECRETS,
    model=core_v1.Secret,
    singular="secret",
    columns=(
        NAME_COLUMN,
        Column("Type", lambda secret: secret.get("type", "")),
        Column("Data", lambda secret: len(secret.get("data") or ())),
        AGE_COLUMN,
    ),
    default=default_secret,
    selectable_fields={"type": lambda secret: str(secret.get("type") or "")},
)
