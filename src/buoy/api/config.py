"""ConfigMap and Secret: data for Pods."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

import msgspec

from . import formats, meta
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .metadata import faults, immutable, validating
from .models import core_v1
from .resource import CONFIG_MAPS, SECRETS
from .status import FieldError, forbidden_field, invalid, required, too_long

SIZE_LIMIT = 1024 * 1024
ACCOUNT_NAME_ANNOTATION = "kubernetes.io/service-account.name"
ACCOUNT_TOKEN = "kubernetes.io/service-account-token"  # noqa: S105 - a type's name
_FROZEN = "field is immutable when `immutable` is set"
_REDACTED = "<secret contents redacted>"


def default_secret(secret: Object) -> None:
    """``stringData`` is write-only: it overrides ``data``."""
    texts = secret.pop("stringData", None)
    if texts:
        data = secret.get("data") or {}
        data.update({key: base64.b64encode(text.encode()).decode() for key, text in texts.items()})
        secret["data"] = data
    if not secret.get("type"):
        secret["type"] = "Opaque"


def _binary_size(values: Iterable[str]) -> int:
    """The size of base64 texts once decoded."""
    return sum(len(value) * 3 // 4 - value.count("=", -2) for value in values)


def _validate_frozen(new: Object, old: Object | None, fields: Iterable[str]) -> list[FieldError]:
    if old is None or not old.get("immutable"):
        return []
    errors: list[FieldError] = []
    if not new.get("immutable"):
        errors.append(forbidden_field("immutable", _FROZEN))
    for field in fields:
        if (new.get(field) or {}) != (old.get(field) or {}):
            errors.append(forbidden_field(field, _FROZEN))
    return errors


def _validate_keys(data: Mapping[str, str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in data:
        errors += faults(f"{path}[{key}]", key, formats.config_key(key))
    return errors


def _validate_config_map(config_map: Object, old: Object | None) -> list[FieldError]:
    data, binary = config_map.get("data") or {}, config_map.get("binaryData") or {}
    errors = _validate_frozen(config_map, old, ("data", "binaryData"))
    errors += _validate_keys(data, "data")
    errors += [
        invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
        for key in data
        if key in binary
    ]
    errors += _validate_keys(binary, "binaryData")
    if sum(map(formats.size, data.values())) + _binary_size(binary.values()) > SIZE_LIMIT:
        # The fault is the whole object's.
        errors.append(too_long("", SIZE_LIMIT))
    return errors


# What secrets of a type must hold: all of one of these groups of keys.
_NEEDED = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def _validate_secret(secret: Object, old: Object | None) -> list[FieldError]:
    kind, data = secret.get("type") or "", secret.get("data") or {}
    errors: list[FieldError] = []
    if old is not None:
        errors += immutable("type", kind, old.get("type") or "")
    errors += _validate_frozen(secret, old, ("data",))
    errors += _validate_keys(data, "data")
    if _binary_size(data.values()) > SIZE_LIMIT:
        errors.append(too_long("data", SIZE_LIMIT))
    errors += [required(f"data[{key}]") for key in _NEEDED.get(kind, ()) if key not in data]
    if kind == ACCOUNT_TOKEN:
        if not meta.annotations(secret).get(ACCOUNT_NAME_ANNOTATION):
            errors.append(required(f"metadata.annotations[{ACCOUNT_NAME_ANNOTATION}]"))
    elif kind in ("kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson"):
        errors += [
            error
            for key in _NEEDED[kind]
            if key in data
            for error in _validate_json(data[key], f"data[{key}]")
        ]
    elif kind == "kubernetes.io/basic-auth":
        if "username" not in data and "password" not in data:
            errors += [required("data[username]"), required("data[password]")]
    elif kind == "kubernetes.io/ssh-auth" and not data.get("ssh-privatekey"):
        errors.append(required("data[ssh-privatekey]"))
    return errors


def _validate_json(encoded: str, path: str) -> list[FieldError]:
    try:
        msgspec.json.decode(base64.b64decode(encoded), type=dict)
    except (ValueError, msgspec.DecodeError) as error:
        return [invalid(path, _REDACTED, str(error))]
    return []


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
    validate=validating(formats.dns_subdomain, _validate_config_map),
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
    validate=validating(formats.dns_subdomain, _validate_secret),
    selectable_fields={"type": lambda secret: str(secret.get("type") or "")},
)
