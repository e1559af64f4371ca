"""Request bodies in Kubernetes' protobuf encoding, which newer kubectl and Go clients send.

Only reading: each such client also accepts JSON as the answer. The envelope is ``runtime.Unknown`` behind the
bytes ``k8s\\0``; shapes come from the models, field numbers from `buoy.api.field_numbers`.
"""

from __future__ import annotations

import base64
import datetime
import functools
import importlib
import json
from collections.abc import Iterator
from struct import unpack
from typing import Any, NamedTuple

from buoy.api import models as _models  # noqa: F401  (lets lightkube's modules be imported)
from buoy.api.field_numbers import FIELD_NUMBERS
from buoy.api.meta import Object
from buoy.api.schema import Field, Struct, struct_of

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\0"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Malformed(ValueError):
    """Not the protobuf of a kind that is known; the text says why."""


def knows(struct: Struct) -> bool:
    """Whether objects of the type can come in protobuf: custom resources cannot."""
    return f"{struct.module}.{struct.name}" in FIELD_NUMBERS


def decode(body: bytes) -> Object:
    """The object in *body*. Raises Malformed."""
    if not body.startswith(_MAGIC):
        raise Malformed(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
        )
    try:
        api_version, kind, raw = _envelope(memoryview(body)[len(_MAGIC) :])
        obj = _message(raw, _numbers(f"{_module(api_version)}.{kind}"), _struct(api_version, kind))
    except (IndexError, UnicodeDecodeError, OverflowError) as error:
        raise Malformed(f"the message is cut short or damaged: {error}") from None
    obj["apiVersion"], obj["kind"] = api_version, kind
    return obj


class _Named(NamedTuple):
    name: str
    pointer: bool = False
    binary: bool = False
    inlined: str = ""


def _module(api_version: str) -> str:
    group, _, version = api_version.rpartition("/")
    return f"{group.partition('.')[0] or 'core'}_{version}"


def _struct(api_version: str, kind: str) -> Struct:
    try:
        model = getattr(importlib.import_module(f"lightkube.models.{_module(api_version)}"), kind)
    except (ImportError, AttributeError):
        raise Malformed(f'no kind "{kind}" is registered for version "{api_version}"') from None
    return struct_of(model)


@functools.cache
def _numbers(type_name: str) -> dict[int, _Named]:
    try:
        text = FIELD_NUMBERS[type_name]
    except KeyError:
        raise Malformed(f"the type {type_name} is not known in protobuf") from None
    found = {}
    for entry in text.split():
        name, _, number = entry.rpartition("=")
        mark = name[0]
        plain = name.lstrip("*~+")
        if mark == "+":
            found[int(number)] = _Named("", inlined=plain)
        else:
            found[int(number)] = _Named(plain, "*" in name[:2], "~" in name[:2])
    return found


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise OverflowError("a number is too long")


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type and value of each field: an int, or the bytes."""
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        wire = key & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield key >> 3, wire, value
            continue
        if wire == _BYTES:
            length, position = _varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise OverflowError(f"wire type {wire} is not known")
        if position + length > end:
            raise IndexError("a field ends behind its message")
        yield key >> 3, wire, data[position : position + length]
        position += length


def _text(value: memoryview) -> str:
    return str(value, "utf-8")


def _envelope(data: memoryview) -> tuple[str, str, memoryview]:
    api_version = kind = ""
    raw = memoryview(b"")
    for number, wire, value in _fields(data):
        if wire != _BYTES:
            continue
        if number == 1:
            for inner, _, text in _fields(value):
                if inner == 1:
                    api_version = _text(text)
                elif inner == 2:
                    kind = _text(text)
        elif number == 2:
            raw = value
    return api_version, kind, raw


def _message(data: memoryview, numbers: dict[int, _Named], struct: Struct) -> Object:
    obj: Object = {}
    _read_into(obj, data, numbers, struct)
    return obj


def _read_into(obj: Object, data: memoryview, numbers: dict[int, _Named], struct: Struct) -> None:
    for number, wire, value in _fields(data):
        named = numbers.get(number)
        if named is None:
            continue
        if named.inlined:
            _read_into(obj, value, _numbers(named.inlined), struct)
            continue
        field = struct.fields.get(named.name)
        if field is None:
            continue
        if field.base == "list":
            assert field.item is not None
            items = obj.setdefault(named.name, [])
            if wire == _BYTES and field.item.base in ("integer", "boolean"):
                position = 0
                while position < len(value):
                    number, position = _varint(value, position)
                    items.append(_scalar(field.item, number))
            else:
                items.append(_value(field.item, wire, value, named))
        elif field.base == "map" or named.name == "extra":
            key, element = _entry(field, value, named)
            obj.setdefault(named.name, {})[key] = element
        else:
            decoded = _value(field, wire, value, named)
            # Go writes the zero value of what is not a pointer, too: there it means that nothing was set.
            if decoded is not None and (named.pointer or decoded not in ("", 0, {})):
                obj[named.name] = decoded


def _entry(field: Field, data: memoryview, named: _Named) -> tuple[str, Any]:
    key, element = "", memoryview(b"")
    for number, wire, value in _fields(data):
        if wire != _BYTES:
            continue
        if number == 1:
            key = _text(value)
        elif number == 2:
            element = value
    if field.item is None:
        # A map of lists of texts (``extra`` of a user).
        return key, [_text(value) for number, _, value in _fields(element) if number == 1]
    return key, _value(field.item, _BYTES, element, named)


def _scalar(field: Field, value: int) -> Any:
    if field.base == "boolean":
        return bool(value)
    return value - (1 << 64) if value >> 63 else value


def _value(field: Field, wire: int, value: Any, named: _Named) -> Any:
    if wire == _VARINT:
        return _scalar(field, value)
    if field.base == "string":
        return base64.b64encode(value).decode() if named.binary else _text(value)
    if field.base == "struct":
        assert field.struct is not None
        struct = field.struct
        return _message(value, _numbers(f"{struct.module}.{struct.name}"), struct)
    if field.base == "quantity":
        return next((_text(text) for number, _, text in _fields(value) if number == 1), "0")
    if field.base == "time":
        return _time(value, micro=field.go == "v1.MicroTime")
    if field.int_or_string:
        parts = {number: part for number, _, part in _fields(value)}
        if parts.get(1):
            return _text(parts.get(3, memoryview(b"")))
        number = parts.get(2, 0)
        return number - (1 << 64) if number >> 63 else number
    if wire == _FIXED64:
        (found,) = unpack("<d", value)
        return found
    if field.struct is not None:
        return _schema_or_other(field.struct, value, named)
    if named.pointer and not len(value):
        return {}
    # A raw extension: JSON in bytes.
    raw = next((part for number, _, part in _fields(value) if number == 1), memoryview(b"null"))
    try:
        return json.loads(bytes(raw))
    except ValueError as error:
        raise Malformed(f"{named.name}: {error}") from None


def _schema_or_other(shape: Struct, data: memoryview, named: _Named) -> Any:
    """``JSONSchemaPropsOrBool`` or ``JSONSchemaPropsOrArray``."""
    numbers = _numbers(f"{shape.module}.{shape.name}")
    parts = list(_fields(data))
    schemas = [(number, _message(part, numbers, shape)) for number, wire, part in parts if wire == _BYTES]
    if named.name == "items" and any(number == 2 for number, _ in schemas):
        return [schema for _, schema in schemas]
    if schemas:
        return schemas[0][1]
    return any(part for _, wire, part in parts if wire == _VARINT)


def _time(data: memoryview, *, micro: bool) -> str | None:
    parts = {number: value for number, wire, value in _fields(data) if wire == _VARINT}
    if not parts:
        return None
    seconds = parts.get(1, 0)
    seconds = seconds - (1 << 64) if seconds >> 63 else seconds
    moment = _EPOCH + datetime.timedelta(seconds=seconds, microseconds=parts.get(2, 0) // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")
