"""What is wrong with an object by its schema, in the words of k8s.io/kube-openapi's validator.

An update is judged by what it changes (KEP-4008): a part that is as it was is not looked at again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..status import FieldError, duplicate, invalid, not_supported, required, too_many
from . import formats
from .patterns import searcher
from .schema import MISSING, TYPE_META, Schema

Errors = list[FieldError]

_NOWHERE = "<nil>"


def validate(value: Any, schema: Schema, path: str = "", old: Any = MISSING) -> Errors:
    """The faults of *value* at *path*; with *old*, only those that come of a change."""
    errors: Errors = []
    _validate(value, schema, path, old, errors)
    return errors


def same(left: Any, right: Any) -> bool:
    """Equal as JSON, where 1 is 1.0 but not true."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


_WORDS: Mapping[type, str] = {str: "string", list: "array", dict: "object"}


def type_of(value: Any) -> str:
    """The JSON type, as a schema names it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    if isinstance(value, float):
        return "number"
    return _WORDS[value.__class__]


def _validate(value: Any, schema: Schema, path: str, old: Any, errors: Errors) -> None:
    if old is not MISSING and same(value, old):
        return
    if value is None:
        if not schema.nullable:
            _check_type(value, schema, path, errors)
        _check_enum(value, schema, path, errors)
        return
    _check_type(value, schema, path, errors)
    _check_combined(value, schema, path, errors)
    _check_enum(value, schema, path, errors)
    if isinstance(value, str):
        _check_string(value, schema, path, errors)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, schema, path, errors)
    elif isinstance(value, list):
        _check_list(value, schema, path, old, errors)
    elif isinstance(value, dict):
        _check_object(value, schema, path, old, errors)


def _body(path: str) -> str:
    return f"{path} in body"


def _check_type(value: Any, schema: Schema, path: str, errors: Errors) -> None:
    wanted = ("integer", "string") if schema.int_or_string else (schema.type,) if schema.type else ()
    if not wanted:
        return
    given = type_of(value)
    fmt = schema.source.get("format") or ""
    if given not in wanted and not (given == "integer" and "number" in wanted):
        _wrong_type(path, ",".join(wanted), given, errors)
    elif fmt and not formats.fits(value, fmt):
        _wrong_type(path, fmt, value, errors)


def _wrong_type(path: str, wanted: str, given: Any, errors: Errors) -> None:
    shown = json.dumps(given, ensure_ascii=False)
    fault = f"{_body(path)} must be of type {wanted}: {shown}"
    errors.append(FieldError("FieldValueTypeInvalid", path or _NOWHERE, f"Invalid value: {shown}: {fault}"))


def _check_enum(value: Any, schema: Schema, path: str, errors: Errors) -> None:
    if schema.enum is not None and not any(same(value, each) for each in schema.enum):
        choices = [each if isinstance(each, str) else json.dumps(each) for each in schema.enum]
        errors.append(not_supported(path, value, choices))


def _check_combined(value: Any, schema: Schema, path: str, errors: Errors) -> None:
    def say(fault: str) -> None:
        errors.append(invalid(_NOWHERE, "", f"{json.dumps(path)} {fault}"))

    if schema.any_of:
        failed = [validate(value, each, path) for each in schema.any_of]
        if all(failed):
            say("must validate at least one schema (anyOf)")
            errors += _fewest(failed)
    if schema.one_of:
        failed = [validate(value, each, path) for each in schema.one_of]
        valid = sum(not each for each in failed)
        if not valid:
            say("must validate one and only one schema (oneOf). Found none valid")
            errors += _fewest(failed)
        elif valid > 1:
            say(f"must validate one and only one schema (oneOf). Found {valid} valid alternatives")
    if schema.all_of:
        failed = [validate(value, each, path) for each in schema.all_of]
        for each in failed:
            errors += each
        if all(failed):
            say("must validate all the schemas (allOf). None validated")
        elif any(failed):
            say("must validate all the schemas (allOf)")
    if schema.negated is not None and not validate(value, schema.negated, path):
        say("must not validate the schema (not)")


def _fewest(failed: Sequence[Errors]) -> Errors:
    return min(failed, key=lambda found: len(found))


def _check_string(value: str, schema: Schema, path: str, errors: Errors) -> None:
    source = schema.source
    longest, shortest, pattern = source.get("maxLength"), source.get("minLength"), source.get("pattern")
    if longest is not None and len(value) > longest:
        noun = "byte" if longest == 1 else "bytes"
        errors.append(
            FieldError("FieldValueTooLong", path, f"Too long: may not be more than {longest} {noun}")
        )
    if shortest is not None and len(value) < shortest:
        fault = f"{_body(path)} should be at least {shortest} chars long"
        errors.append(invalid(path, value, fault))
    if pattern and not searcher(pattern)(value):
        errors.append(invalid(path, value, f"{_body(path)} should match '{pattern}'"))


def _check_number(value: float, schema: Schema, path: str, errors: Errors) -> None:
    source = schema.source
    highest, lowest, factor = source.get("maximum"), source.get("minimum"), source.get("multipleOf")

    def say(fault: str, bound: float) -> None:
        errors.append(invalid(path, value, f"{_body(path)} should be {fault} {_plain(bound)}"))

    if factor is not None and not _divides(factor, value):
        say("a multiple of", factor)
    if highest is not None:
        if source.get("exclusiveMaximum"):
            if value >= highest:
                say("less than", highest)
        elif value > highest:
            say("less than or equal to", highest)
    if lowest is not None:
        if source.get("exclusiveMinimum"):
            if value <= lowest:
                say("greater than", lowest)
        elif value < lowest:
            say("greater than or equal to", lowest)


def _divides(factor: float, value: float) -> bool:
    if isinstance(factor, int) and isinstance(value, int):
        return value % factor == 0
    return (value / factor).is_integer()


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else repr(number)


def _check_list(value: list[Any], schema: Schema, path: str, old: Any, errors: Errors) -> None:
    source = schema.source
    most, fewest = source.get("maxItems"), source.get("minItems")
    if most is not None and len(value) > most:
        errors.append(too_many(path, len(value), most))
    if fewest is not None and len(value) < fewest:
        errors.append(invalid(path, len(value), f"{_body(path)} should have at least {fewest} items"))
    if schema.items is not None:
        before = earlier(schema, old)
        for index, element in enumerate(value):
            known = before.get(identity(schema, element), MISSING) if before else MISSING
            _validate(element, schema.items, f"{path}[{index}]", known, errors)
    errors += _duplicates(value, schema, path)


def identity(schema: Schema, element: Any) -> Any:
    """What an element of a set or keyed list is known by, hashable; None where elements have no identity."""
    if schema.list_type == "set":
        return json.dumps(element, sort_keys=True)
    if schema.list_type == "map" and isinstance(element, dict):
        return json.dumps([element.get(key) for key in schema.map_keys], sort_keys=True)
    return None


def earlier(schema: Schema, old: Any) -> Mapping[Any, Any]:
    """The elements of an older list by their identity, if they have any."""
    if not isinstance(old, list) or schema.list_type not in ("set", "map"):
        return {}
    return {identity(schema, element): element for element in old}


def _duplicates(value: Sequence[Any], schema: Schema, path: str) -> Iterator[FieldError]:
    if schema.list_type not in ("set", "map"):
        return
    seen = set()
    for index, element in enumerate(value):
        known = identity(schema, element)
        if known is None:
            continue
        if known in seen:
            shown = element
            if schema.list_type == "map":
                shown = {key: element[key] for key in sorted(schema.map_keys) if key in element}
            yield duplicate(f"{path}[{index}]", shown)
        seen.add(known)


def _check_object(value: Mapping[str, Any], schema: Schema, path: str, old: Any, errors: Errors) -> None:
    source = schema.source
    most, fewest = source.get("maxProperties"), source.get("minProperties")
    if most is not None and len(value) > most:
        errors.append(too_many(path, len(value), most))
    if fewest is not None and len(value) < fewest:
        errors.append(invalid(path, value, f"{_body(path)} should have at least {fewest} properties"))
    prefix = f"{path}." if path else ""
    before = old if isinstance(old, dict) else {}
    for name in schema.required:
        if name not in value:
            errors.append(required(f"{prefix}{name}"))
    for name, element in value.items():
        if schema.resource and name in TYPE_META:
            if name == "metadata" and not isinstance(element, dict):
                _wrong_type(f"{prefix}{name}", "object", type_of(element), errors)
            elif name in schema.properties:
                _validate(element, schema.properties[name], f"{prefix}{name}", MISSING, errors)
            continue
        known = schema.child(name)
        if known is not None:
            _validate(element, known, f"{prefix}{name}", before.get(name, MISSING), errors)
        elif schema.closed:
            errors.append(invalid(path or _NOWHERE, "", f"{prefix}{name} in body is a forbidden property"))
    if schema.resource and path:
        for name in ("apiVersion", "kind"):
            if not value.get(name):
                errors.append(required(f"{prefix}{name}", "must not be empty"))
