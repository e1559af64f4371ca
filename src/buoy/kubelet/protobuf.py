"""Protocol buffer messages declared by their fields, for the few that come without generated code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Proto = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "string": _Proto.TYPE_STRING,
    "strings": _Proto.TYPE_STRING,
    "bytes": _Proto.TYPE_BYTES,
    "int32": _Proto.TYPE_INT32,
}


def declare(package: str, messages: Mapping[str, Sequence[tuple[str, int, str]]]) -> dict[str, Any]:
    """Message classes by name; each field is ``(name, number, type)``.

    The types are string, strings (repeated), bytes, int32, or the name of another message declared with it.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for message, members in messages.items():
        declared = file.message_type.add(name=message)
        for name, number, kind in members:
            label = _Proto.LABEL_REPEATED if kind == "strings" else _Proto.LABEL_OPTIONAL
            field = declared.field.add(
                name=name, number=number, type=_TYPES.get(kind, _Proto.TYPE_MESSAGE), label=label
            )
            if kind not in _TYPES:
                field.type_name = f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }
