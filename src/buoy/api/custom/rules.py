"""``x-kubernetes-validations``: rules in the Common Expression Language, run where the schema has them.

After k8s.io/apiextensions-apiserver's ``schema/cel``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..meta import Object
from ..status import FieldError, duplicate, forbidden_field, invalid, required
from .schema import MISSING, TYPE_META, Schema
from .validation import earlier, identity, same

_OLD = re.compile(r"\boldSelf\b")
_KEYWORDS = """as break const continue else false for function if import in let loop namespace null package
return true var void while"""
_RESERVED = frozenset(_KEYWORDS.split())
_ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))


def fault_of(expression: str) -> str:
    """What is wrong with the text of a rule, "" if nothing is."""
    from . import cel

    try:
        cel.program(expression)
    except cel.BadRule as error:
        return str(error)
    return ""


def check_rules(obj: Object, schema: Schema, old: Any) -> Sequence[FieldError]:
    """The rules of *schema* that *obj* breaks; *old* is what it was before, or MISSING."""
    errors: list[FieldError] = []
    if schema.ruled:
        _check(obj, schema, "", old, errors)
    return errors


def _check(value: Any, schema: Schema, path: str, old: Any, errors: list[FieldError]) -> None:
    if value is None or not schema.ruled:
        return
    unchanged = old is not MISSING and same(value, old)
    for rule in schema.rules:
        # An unchanged value is judged by what it may become only.
        if not unchanged or _OLD.search(rule["rule"]):
            errors += _broken(rule, value, schema, path, old)
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for name, element in value.items():
            known = schema.child(name)
            if known is not None:
                here = f"{path}.{name}" if name in schema.properties and path else name
                if name not in schema.properties:
                    here = f"{path}[{name}]"
                _check(element, known, here, before.get(name, MISSING), errors)
    elif isinstance(value, list) and schema.items is not None:
        known_before = earlier(schema, old)
        for index, element in enumerate(value):
            was = known_before.get(identity(schema, element), MISSING) if known_before else MISSING
            _check(element, schema.items, f"{path}[{index}]", was, errors)


def _broken(rule: Mapping[str, Any], value: Any, schema: Schema, path: str, old: Any) -> list[FieldError]:
    from . import cel

    expression = rule["rule"]
    variables = {"self": to_cel(value, schema)}
    if _OLD.search(expression):
        if rule.get("optionalOldSelf"):
            variables["oldSelf"] = cel.Maybe(*(() if old is MISSING else (to_cel(old, schema),)))
        elif old is MISSING:
            return []
        else:
            variables["oldSelf"] = to_cel(old, schema)
    shown = rule.get("message") or f"failed rule: {expression.strip()}"
    try:
        if cel.evaluate(expression, variables):
            return []
    except cel.Failed as error:
        fault = f"{error} evaluating rule: {rule.get('message') or expression.strip()}"
        return [invalid(path, _type_shown(schema), fault)]
    if rule.get("messageExpression"):
        shown = _message(rule["messageExpression"], variables) or shown
    return [_error(rule, path, value, schema, shown.strip())]


def _message(expression: str, variables: Mapping[str, Any]) -> str:
    """What a messageExpression says; nothing if it fails, or says nothing that fits into a line."""
    from . import cel

    try:
        text = cel.evaluate(expression, variables)
    except cel.Failed:
        return ""
    return str(text) if isinstance(text, str) and text.strip() and "\n" not in text else ""


def _error(rule: Mapping[str, Any], path: str, value: Any, schema: Schema, message: str) -> FieldError:
    here = f"{path}{rule.get('fieldPath') or ''}".removeprefix(".") or "<nil>"
    match rule.get("reason"):
        case "FieldValueRequired":
            return required(here, message)
        case "FieldValueForbidden":
            return forbidden_field(here, message)
        case "FieldValueDuplicate":
            return duplicate(here, value)
    return invalid(here, _type_shown(schema), message)


def _type_shown(schema: Schema) -> str:
    return schema.type or "object"


def escape(name: str) -> str:
    """How a rule writes a property's name."""
    if name in _RESERVED:
        return f"__{name}__"
    for plain, escaped in _ESCAPES:
        name = name.replace(plain, escaped)
    return name


def to_cel(value: Any, schema: Schema | None) -> Any:
    """A value as rules see it: with the types that the schema gives, and without what it does not know."""
    from celpy import celtypes

    if isinstance(value, dict):
        return celtypes.MapType(dict(_members(value, schema)))
    if isinstance(value, list):
        items = schema.items if schema is not None else None
        return celtypes.ListType([to_cel(each, items) for each in value])
    if isinstance(value, bool):
        return celtypes.BoolType(value)
    if isinstance(value, int | float):
        if isinstance(value, float) or (schema is not None and schema.type == "number"):
            whole = schema is not None and schema.type == "integer"
            return celtypes.IntType(int(value)) if whole else celtypes.DoubleType(value)
        return celtypes.IntType(value)
    if isinstance(value, str):
        return _text(value, schema)
    return None


def _members(value: Mapping[str, Any], schema: Schema | None) -> list[tuple[Any, Any]]:
    from celpy import celtypes

    found = []
    for name, element in value.items():
        key, known = name, None
        if schema is not None and schema.resource and name in TYPE_META:
            if name == "metadata" and isinstance(element, dict):
                element = {each: element[each] for each in ("name", "generateName") if each in element}
        elif schema is not None:
            known = schema.child(name)
            if known is None:
                continue
            if name in schema.properties:
                key = escape(name)
        # A null that may be is, for a rule, not there.
        if element is not None:
            found.append((celtypes.StringType(key), to_cel(element, known)))
    return found


def _text(value: str, schema: Schema | None) -> Any:
    from celpy import celtypes

    fmt = schema.source.get("format") if schema is not None else ""
    try:
        match fmt:
            case "date-time" | "date":
                return celtypes.TimestampType(value if fmt == "date-time" else f"{value}T00:00:00Z")
            case "duration":
                return celtypes.DurationType(value)
    except ValueError:
        # It passed the format's check, but is written in a way of Go's only.
        return celtypes.StringType(value)
    return celtypes.StringType(value)
