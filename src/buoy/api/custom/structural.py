"""Whether a schema is structural, and all else that is asked of an ``openAPIV3Schema``.

After k8s.io/apiextensions-apiserver's ``schema/validation.go``, ``schema/defaulting/validation.go`` and
``apis/apiextensions/validation``. Paths and texts are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from ..schema import TypeMismatch
from ..status import FieldError, forbidden_field, invalid, not_supported, required
from .fitting import copy, default, prune
from .patterns import BadPattern, searcher
from .schema import Schema
from .validation import validate

Level = Literal["root", "item", "field"]
Json = Mapping[str, Any]

_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_REASONS = ("FieldValueRequired", "FieldValueForbidden", "FieldValueInvalid", "FieldValueDuplicate")
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED = "x-kubernetes-embedded-resource"
_EITHER = "x-kubernetes-int-or-string"
_LIST_TYPE = "x-kubernetes-list-type"
_MAP_KEYS = "x-kubernetes-list-map-keys"
_MAP_TYPE = "x-kubernetes-map-type"
_RULES = "x-kubernetes-validations"


def check(schema: Json, path: str, check_rule: Callable[[str], str]) -> list[FieldError]:
    """The faults of an ``openAPIV3Schema`` at *path*. *check_rule* says what is wrong with a CEL text."""
    errors = list(_plain(schema, path, check_rule, root=True))
    errors += sorted(_invariants(schema, "root", path), key=str)
    errors += sorted(_complete(schema, schema, path), key=str)
    return errors or list(_defaults(schema, path))


# Each node for itself


def _plain(schema: Json, path: str, check_rule: Callable[[str], str], *, root: bool) -> Iterator[FieldError]:
    for name in ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"):
        if schema.get(name):
            yield forbidden_field(f"{path}.{name}", f"{name} is not supported")
    if schema.get("uniqueItems"):
        yield forbidden_field(
            f"{path}.uniqueItems",
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        )
    if schema.get("properties") and schema.get("additionalProperties") not in (None, True):
        yield forbidden_field(
            f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive"
        )
    kind = schema.get("type") or ""
    if kind == "null":
        yield forbidden_field(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    elif kind and kind not in _TYPES:
        yield not_supported(f"{path}.type", kind, _TYPES)
    if isinstance(schema.get("items"), list):
        yield forbidden_field(f"{path}.items", "items must be a schema object and not an array")
    if schema.get(_PRESERVE) is False:
        yield invalid(f"{path}.{_PRESERVE}", False, "must be true or undefined")
    if root and schema.get("nullable"):
        yield forbidden_field(f"{path}.nullable", "nullable cannot be true at the root")
    yield from _lists(schema, path)
    yield from _rules(schema, path, check_rule)
    for here, inner in _inside(schema, path):
        yield from _plain(inner, here, check_rule, root=False)


def _inside(schema: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Every schema directly within, with its path."""
    for name in ("additionalProperties", "items", "not"):
        inner = schema.get(name)
        if isinstance(inner, dict):
            yield f"{path}.{name}", inner
    for name, inner in (schema.get("properties") or {}).items():
        yield f"{path}.properties[{name}]", inner
    for junctor in ("allOf", "oneOf", "anyOf"):
        for index, inner in enumerate(schema.get(junctor) or ()):
            yield f"{path}.{junctor}[{index}]", inner


def _lists(schema: Json, path: str) -> Iterator[FieldError]:
    kind, list_type, keys = schema.get("type") or "", schema.get(_LIST_TYPE), schema.get(_MAP_KEYS) or ()
    map_type = schema.get(_MAP_TYPE)
    if list_type is not None:
        if kind != "array":
            if kind:
                yield invalid(f"{path}.type", kind, f"must be array if {_LIST_TYPE} is set")
            else:
                yield required(f"{path}.type", f"must be array if {_LIST_TYPE} is set")
        if list_type not in ("atomic", "set", "map"):
            yield not_supported(f"{path}.{_LIST_TYPE}", list_type, ("atomic", "map", "set"))
    if list_type == "map":
        if not keys:
            yield required(f"{path}.{_MAP_KEYS}", "must not be empty if x-kubernetes-list-type is map")
        yield from _map_keys(schema.get("items"), keys, path)
    elif keys:
        if list_type is None:
            yield required(f"{path}.{_LIST_TYPE}", f"must be map if {_MAP_KEYS} is non-empty")
        else:
            yield invalid(f"{path}.{_LIST_TYPE}", list_type, f"must be map if {_MAP_KEYS} is non-empty")
    if list_type == "set" and isinstance(schema.get("items"), dict):
        yield from _set_items(schema["items"], path)
    if map_type is not None:
        if map_type not in ("atomic", "granular"):
            yield not_supported(f"{path}.{_MAP_TYPE}", map_type, ("atomic", "granular"))
        if kind != "object":
            if kind:
                yield invalid(f"{path}.type", kind, f"must be object if {_MAP_TYPE} is specified")
            else:
                yield required(f"{path}.type", f"must be object if {_MAP_TYPE} is specified")


def _set_items(items: Json, path: str) -> Iterator[FieldError]:
    if items.get("nullable"):
        yield forbidden_field(
            f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is set"
        )
    kind = items.get("type")
    if kind == "array" and items.get(_LIST_TYPE) not in (None, "atomic"):
        yield invalid(
            f"{path}.items.{_LIST_TYPE}",
            items.get(_LIST_TYPE),
            "must be atomic as item of a list with x-kubernetes-list-type=set",
        )
    if kind == "object" and items.get(_MAP_TYPE) != "atomic":
        yield invalid(
            f"{path}.items.{_MAP_TYPE}",
            items.get(_MAP_TYPE),
            "must be atomic as item of a list with x-kubernetes-list-type=set",
        )


def _map_keys(items: Any, keys: Sequence[str], path: str) -> Iterator[FieldError]:
    if not isinstance(items, dict):
        return
    here = f"{path}.items"
    if items.get("type") != "object":
        yield invalid(
            f"{here}.type",
            items.get("type") or "",
            f"must be object if parent array's {_LIST_TYPE} is map",
        )
    properties = items.get("properties") or {}
    demanded = items.get("required") or ()
    seen = set()
    for index, key in enumerate(keys):
        if key in seen:
            yield invalid(f"{path}.{_MAP_KEYS}[{index}]", key, "must not be duplicate")
        seen.add(key)
        if key not in properties:
            yield invalid(f"{path}.{_MAP_KEYS}", key, "entries must all be names of item properties")
            continue
        known = properties[key]
        if known.get("type") in ("array", "object"):
            yield invalid(
                f"{here}.properties[{key}].type",
                known["type"],
                f"must be a scalar type if parent array's {_LIST_TYPE} is map",
            )
        if known.get("nullable"):
            yield forbidden_field(
                f"{here}.properties[{key}].nullable",
                f"this property is in {_MAP_KEYS}, so it cannot be nullable",
            )
        if key not in demanded and "default" not in known:
            yield required(
                f"{here}.properties[{key}].default",
                f"this property is in {_MAP_KEYS}, so it must have a default or be a required property",
            )
    if items.get("nullable"):
        yield forbidden_field(f"{here}.nullable", f"cannot be nullable when {_LIST_TYPE} is map")


def _rules(schema: Json, path: str, check_rule: Callable[[str], str]) -> Iterator[FieldError]:
    for index, rule in enumerate(schema.get(_RULES) or ()):
        here = f"{path}.{_RULES}[{index}]"
        text, message = rule.get("rule") or "", rule.get("message") or ""
        if not text.strip():
            yield required(f"{here}.rule", "rule is not specified")
        elif fault := check_rule(text):
            yield invalid(f"{here}.rule", text, f"compilation failed: {fault}")
        if "message" in rule and not message.strip():
            yield invalid(f"{here}.message", message, "message must be non-empty if specified")
        if "\n" in message.strip():
            yield invalid(f"{here}.message", message, "message must not contain line breaks")
        if "\n" in text.strip() and not message:
            yield required(f"{here}.message", "message must be specified if rule contains line breaks")
        expression = rule.get("messageExpression")
        if expression is not None:
            if not expression.strip():
                yield required(
                    f"{here}.messageExpression", "messageExpression must be non-empty if specified"
                )
            elif fault := check_rule(expression):
                yield invalid(
                    f"{here}.messageExpression", expression, f"messageExpression compilation failed: {fault}"
                )
        reason = rule.get("reason")
        if reason is not None and reason not in _REASONS:
            yield not_supported(f"{here}.reason", reason, _REASONS)


# Structural


def _invariants(schema: Json, level: Level, path: str) -> Iterator[FieldError]:
    kind = schema.get("type") or ""
    properties: Mapping[str, Json] = schema.get("properties") or {}
    additional, items = schema.get("additionalProperties"), schema.get("items")
    embedded, preserve = bool(schema.get(_EMBEDDED)), bool(schema.get(_PRESERVE))
    either = bool(schema.get(_EITHER))
    if kind == "array" and not isinstance(items, dict):
        yield required(f"{path}.items", "must be specified")
    if isinstance(items, dict):
        yield from _invariants(items, "item", f"{path}.items")
    for name, inner in properties.items():
        yield from _invariants(inner, "field", f"{path}.properties[{name}]")
    if additional is not None:
        if level == "root":
            yield forbidden_field(f"{path}.additionalProperties", "must not be used at the root")
        if isinstance(additional, dict):
            yield from _invariants(additional, "field", f"{path}.additionalProperties")
        if embedded:
            yield forbidden_field(f"{path}.additionalProperties", f"must not be used if {_EMBEDDED} is set")
    if either and preserve:
        yield invalid(f"{path}.{_PRESERVE}", True, f"must be false if {_EITHER} is true")
    if either and embedded:
        yield invalid(f"{path}.{_EMBEDDED}", True, f"must be false if {_EITHER} is true")
    yield from _values(schema, path, either=True)
    if embedded and kind != "object":
        fault = f"must be object if {_EMBEDDED} is true"
        yield invalid(f"{path}.type", kind, fault) if kind else required(f"{path}.type", fault)
    elif not kind and not either and not preserve:
        yield required(f"{path}.type", f"must not be empty {_WHERE[level]}")
    if level == "root" and kind not in ("", "object"):
        yield invalid(f"{path}.type", kind, "must be object at the root")
    if level == "root" or embedded:
        for name, wanted in (("kind", "string"), ("apiVersion", "string"), ("metadata", "object")):
            if name in properties and properties[name].get("type") != wanted:
                yield invalid(
                    f"{path}.properties[{name}].type", properties[name].get("type") or "", f"must be {wanted}"
                )
    if level == "root" and "metadata" in properties and not _only_names(properties["metadata"]):
        yield forbidden_field(
            f"{path}.properties[metadata]",
            "must not specify anything other than name and generateName, "
            "but metadata is implicitly specified",
        )
    if embedded and not preserve and not properties:
        yield required(f"{path}.properties", f"must not be empty if {_EMBEDDED} is true without {_PRESERVE}")


_WHERE: Mapping[Level, str] = {
    "root": "at the root",
    "item": "for specified array items",
    "field": "for specified object fields",
}


def _only_names(metadata: Json) -> bool:
    return metadata.keys() <= {"type", "properties", "description"} and (
        (metadata.get("properties") or {}).keys() <= {"name", "generateName"}
    )


def _values(schema: Json, path: str, *, either: bool = False) -> Iterator[FieldError]:
    """Value validations; *either*: where the two patterns of an int-or-string may say types."""
    first: Json = next(iter(schema.get("allOf") or ()), {})
    if not (either and schema.get("anyOf") == _INT_OR_STRING):
        for index, inner in enumerate(schema.get("anyOf") or ()):
            yield from _nested(inner, f"{path}.anyOf[{index}]")
    for index, inner in enumerate(schema.get("allOf") or ()):
        pattern = either and not index and first.get("anyOf") == _INT_OR_STRING
        yield from _nested(inner, f"{path}.allOf[{index}]", either=pattern)
    for index, inner in enumerate(schema.get("oneOf") or ()):
        yield from _nested(inner, f"{path}.oneOf[{index}]")
    if isinstance(schema.get("not"), dict):
        yield from _nested(schema["not"], f"{path}.not")
    pattern_text = schema.get("pattern")
    if pattern_text:
        try:
            searcher(pattern_text)
        except BadPattern as error:
            yield invalid(
                f"{path}.pattern", pattern_text, f"must be a valid regular expression, but isn't: {error}"
            )


_FORBIDDEN: Sequence[tuple[str, str]] = (
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("externalDocs", "must be undefined to be structural"),
    (_PRESERVE, "must be false to be structural"),
    (_EMBEDDED, "must be false to be structural"),
    (_EITHER, "must be false to be structural"),
    (_MAP_KEYS, "must be empty to be structural"),
    (_LIST_TYPE, "must be undefined to be structural"),
    (_MAP_TYPE, "must be undefined to be structural"),
    (_RULES, "must be empty to be structural"),
)


def _nested(schema: Json, path: str, *, either: bool = False) -> Iterator[FieldError]:
    yield from _values(schema, path, either=either)
    if isinstance(schema.get("items"), dict):
        yield from _nested(schema["items"], f"{path}.items")
    for name, inner in (schema.get("properties") or {}).items():
        yield from _nested(inner, f"{path}.properties[{name}]")
    for name, fault in _FORBIDDEN:
        if schema.get(name) is not None and schema[name] not in (False, "", []):
            yield forbidden_field(f"{path}.{name}", fault)
    if "metadata" in (schema.get("properties") or {}):
        yield forbidden_field(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _complete(schema: Json, outer: Json | None, path: str, where: str = "") -> Iterator[FieldError]:
    """Every field that a value validation speaks of must be specified outside of it, too."""
    if schema is outer:
        for junctor in ("allOf", "anyOf", "oneOf"):
            for index, inner in enumerate(schema.get(junctor) or ()):
                yield from _complete(inner, outer, f"{path}.{junctor}[{index}]", path)
        if isinstance(schema.get("not"), dict):
            yield from _complete(schema["not"], outer, f"{path}.not", path)
        for here, inner in _inside(schema, path):
            if not here.removeprefix(path).startswith((".allOf", ".anyOf", ".oneOf", ".not")):
                yield from _complete(inner, inner, here)
        return
    known = outer or {}
    if known.get(_PRESERVE) and not known.get("properties"):
        return
    for name, inner in (schema.get("properties") or {}).items():
        there = f"{where}.properties[{name}]"
        known_inner = (known.get("properties") or {}).get(name)
        if known_inner is None and isinstance(known.get("additionalProperties"), dict):
            known_inner = known["additionalProperties"]
        if known_inner is None:
            if not known.get(_PRESERVE):
                yield required(there, f"because it is defined in {path}.properties[{name}]")
            continue
        yield from _complete(inner, known_inner, f"{path}.properties[{name}]", there)
    items = schema.get("items")
    if isinstance(items, dict):
        if not isinstance(known.get("items"), dict):
            yield required(f"{where}.items", f"because it is defined in {path}.items")
        else:
            yield from _complete(items, known["items"], f"{path}.items", f"{where}.items")
    for junctor in ("allOf", "anyOf", "oneOf"):
        for index, inner in enumerate(schema.get(junctor) or ()):
            yield from _complete(inner, known, f"{path}.{junctor}[{index}]", where)
    if isinstance(schema.get("not"), dict):
        yield from _complete(schema["not"], known, f"{path}.not", where)


def _defaults(schema: Json, path: str) -> Iterator[FieldError]:
    """Defaults must be what they would make of nothing: pruned, defaulted and valid."""
    if "default" in schema:
        compiled = Schema(schema)
        value = copy(schema["default"])
        default(value, compiled)
        pruned = {"it": copy(value)}
        try:
            prune(pruned, Schema({"properties": {"it": schema}}))
        except TypeMismatch as error:
            yield invalid(f"{path}.default", schema["default"], str(error))
        if pruned["it"] != value:
            yield invalid(f"{path}.default", schema["default"], "must not have unknown fields")
        for fault in validate(value, compiled):
            inner = f".{fault.path}" if fault.path and fault.path != "<nil>" else ""
            yield FieldError(fault.type, f"{path}.default{inner}", fault.detail)
    for here, within in _inside(schema, path):
        yield from _defaults(within, here)
