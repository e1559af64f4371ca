"""An OpenAPI 2 document in protobuf, as gnostic's ``openapi.v2.Document``: what old kubectl reads.

Only what kubectl looks at is written: definitions with their types, references and extensions, and of the
paths the operations with their parameters and extensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from buoy.api.meta import Object

from .encoding import to_json

CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _bytes(number: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _true(number: int) -> bytes:
    return _varint(number << 3) + b"\x01"


def _named(number: int, name: str, value: bytes) -> bytes:
    """A ``Named…`` message: gnostic's way to keep a map in order."""
    return _bytes(number, _bytes(1, name) + _bytes(2, value))


def _extensions(number: int, document: Object) -> Iterator[bytes]:
    for name, value in document.items():
        if name.startswith("x-"):
            # JSON is YAML, which is what gnostic keeps here.
            yield _named(number, name, _bytes(2, to_json(value)))


def _schema(document: Object) -> bytes:
    parts = []
    for field, number in (("$ref", 1), ("format", 2), ("description", 4)):
        if document.get(field):
            parts.append(_bytes(number, document[field]))
    parts += [_bytes(19, name) for name in document.get("required", ())]
    if "additionalProperties" in document:
        parts.append(_bytes(21, _bytes(1, _schema(document["additionalProperties"]))))
    if "type" in document:
        parts.append(_bytes(22, _bytes(1, document["type"])))
    if "items" in document:
        parts.append(_bytes(23, _bytes(1, _schema(document["items"]))))
    if "properties" in document:
        named = (_named(1, name, _schema(value)) for name, value in document["properties"].items())
        parts.append(_bytes(25, b"".join(named)))
    parts += _extensions(31, document)
    return b"".join(parts)


def _parameter(document: Object) -> bytes:
    if document["in"] == "body":
        body = _bytes(2, "body") + _bytes(3, "body") + _true(4) + _bytes(5, _schema(document["schema"]))
        return _bytes(1, _bytes(1, body))
    path = document["in"] == "path"
    kind = 5 if path else 6
    plain = b"".join(
        (
            _true(1) if document.get("required") else b"",
            _bytes(2, document["in"]),
            _bytes(3, document["description"]),
            _bytes(4, document["name"]),
            _bytes(kind, document["type"]),
        )
    )
    return _bytes(1, _bytes(2, _bytes(4 if path else 3, plain)))


def _operation(document: Object) -> bytes:
    parts = [_bytes(3, document["description"]), _bytes(5, document["operationId"])]
    parts += [_bytes(6, each) for each in document["produces"]]
    parts += [_bytes(7, each) for each in document["consumes"]]
    parts += [_bytes(8, _parameter(each)) for each in document["parameters"]]
    responses = b"".join(
        _named(1, code, _bytes(1, _response(response))) for code, response in document["responses"].items()
    )
    parts.append(_bytes(9, responses))
    parts += _extensions(13, document)
    return b"".join(parts)


def _response(document: Object) -> bytes:
    schema = document.get("schema")
    return _bytes(1, document["description"]) + (_bytes(2, _bytes(1, _schema(schema))) if schema else b"")


def _path(document: Object) -> bytes:
    parts = [
        _bytes(number, _operation(document[name])) for name, number in _METHODS.items() if name in document
    ]
    parts += [_bytes(9, _parameter(each)) for each in document.get("parameters", ())]
    return b"".join(parts)


def encode(document: dict[str, Any]) -> bytes:
    """*document* is a whole OpenAPI 2 document as JSON."""
    info = document["info"]
    return b"".join(
        (
            _bytes(1, document["swagger"]),
            _bytes(2, _bytes(1, info["title"]) + _bytes(2, info["version"])),
            _bytes(8, b"".join(_named(2, name, _path(item)) for name, item in document["paths"].items())),
            _bytes(
                9,
                b"".join(_named(1, name, _schema(item)) for name, item in document["definitions"].items()),
            ),
        )
    )
