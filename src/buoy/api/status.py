"""API errors: the ``Status`` object that the server answers and the client raises.

Wording follows k8s.io/apimachinery's ``api/errors`` and ``util/validation/field``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .meta import Object
from .resource import Resource


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault in an object: *path* is a JSON path such as ``spec.ports[0].nodePort``.

    Build it with the functions below, which give each type its wording.
    """

    type: str
    path: str
    detail: str

    @property
    def cause(self) -> Object:
        return {"reason": self.type, "message": self.detail, "field": self.path}

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


def _show(value: Any) -> str:
    return json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":"))


def _ordered(value: Any) -> Any:
    """Maps of texts in the order of their keys, as Go writes them; objects as they are."""
    if isinstance(value, dict):
        items = value.items()
        if all(isinstance(each, str) for each in value.values()):
            return dict(sorted(items))
        return {key: _ordered(each) for key, each in items}
    if isinstance(value, list | tuple):
        return [_ordered(each) for each in value]
    return value


def required(path: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", path, "Required value" + (f": {detail}" if detail else ""))


def invalid(path: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", path, f"Invalid value: {_show(value)}: {detail}")


def not_supported(path: str, value: Any, supported: Iterable[str]) -> FieldError:
    """*supported* are shown in their order, a set's sorted."""
    if isinstance(supported, set | frozenset):
        supported = sorted(supported)
    choices = ", ".join(_show(choice) for choice in supported)
    return FieldError(
        "FieldValueNotSupported", path, f"Unsupported value: {_show(value)}: supported values: {choices}"
    )


def forbidden_field(path: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", path, f"Forbidden: {detail}")


def duplicate(path: str, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", path, f"Duplicate value: {_show(value)}")


def not_found_field(path: str, value: Any) -> FieldError:
    """*value* refers to something that is not there."""
    return FieldError("FieldValueNotFound", path, f"Not found: {_show(value)}")


def too_long(path: str, limit: int) -> FieldError:
    return FieldError(
        "FieldValueTooLong", path, f"Too long: may not be more than {limit} {_s(limit, 'byte')}"
    )


def too_many(path: str, actual: int, limit: int) -> FieldError:
    return FieldError(
        "FieldValueTooMany", path, f"Too many: {actual}: must have at most {limit} {_s(limit, 'item')}"
    )


def _s(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


class StatusError(Exception):
    """An API failure. *code* is the HTTP status, *reason* Kubernetes' machine-readable word for it."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def to_object(self) -> Object:
        """The ``Status`` that goes over the wire."""
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status

    @classmethod
    def from_object(cls, status: Object, code: int) -> StatusError:
        return cls(
            int(status.get("code") or code),
            str(status.get("reason") or ""),
            str(status.get("message") or f"the server answered {code}"),
            status.get("details"),
        )


def _qualified(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _details(resource: Resource, name: str, **more: Any) -> Object:
    details: Object = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.plural
    details.update(more)
    return details


def not_found(resource: Resource, name: str) -> StatusError:
    return StatusError(
        404, "NotFound", f'{_qualified(resource)} "{name}" not found', _details(resource, name)
    )


def already_exists(resource: Resource, name: str) -> StatusError:
    return StatusError(
        409, "AlreadyExists", f'{_qualified(resource)} "{name}" already exists', _details(resource, name)
    )


def conflict(resource: Resource, name: str, detail: str = "") -> StatusError:
    detail = detail or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {_qualified(resource)} "{name}": {detail}',
        _details(resource, name),
    )


def invalid_object(group: str, kind: str, name: str, errors: Sequence[FieldError]) -> StatusError:
    """422: *errors* must not be empty. One error is shown plain, several in brackets."""
    unique = list(dict.fromkeys(errors))
    text = str(unique[0]) if len(unique) == 1 else "[" + ", ".join(map(str, unique)) + "]"
    qualified = f"{kind}.{group}" if group else kind
    details: Object = {"name": name} if name else {}
    if group:
        details["group"] = group
    details["kind"] = kind
    details["causes"] = [error.cause for error in errors]
    return StatusError(422, "Invalid", f'{qualified} "{name}" is invalid: {text}', details)


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: Resource, name: str, detail: str) -> StatusError:
    return StatusError(
        403,
        "Forbidden",
        f'{_qualified(resource)} "{name}" is forbidden: {detail}'
        if name
        else f"{_qualified(resource)} is forbidden: {detail}",
        _details(resource, name),
    )


def expired(message: str) -> StatusError:
    """410: the resource version asked for has been compacted; list again."""
    return StatusError(410, "Expired", message)
