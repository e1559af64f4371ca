"""Structural schemas: pruning, defaulting, validation of objects by them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buoy.api.custom.fitting import default, prune
from buoy.api.custom.jsonpath import BadPath, compile_path
from buoy.api.custom.schema import MISSING, Schema
from buoy.api.custom.validation import validate

STRING: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}
PRESERVE = {"x-kubernetes-preserve-unknown-fields": True}


def struct(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def array(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def mapping(values: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


@pytest.mark.parametrize(
    ("schema", "value", "left", "unknown"),
    [
        (struct(a=STRING), {"a": "x", "b": 1}, {"a": "x"}, ["spec.b"]),
        (struct(a=struct(b=STRING)), {"a": {"c": 1}}, {"a": {}}, ["spec.a.c"]),
        (array(struct(a=STRING)), [{"a": "x"}, {"b": 1}], [{"a": "x"}, {}], ["spec[1].b"]),
        (mapping(struct(a=STRING)), {"k": {"b": 1}}, {"k": {}}, ["spec.k.b"]),
        (mapping(True), {"k": {"b": 1}}, {"k": {}}, ["spec.k.b"]),
        (mapping(True), {"k": 1}, {"k": 1}, []),
        ({"type": "object", **PRESERVE}, {"k": {"b": [1]}}, {"k": {"b": [1]}}, []),
        # What is known of an open object is pruned nevertheless.
        (
            {**struct(a=struct(b=STRING)), **PRESERVE},
            {"a": {"c": 1}, "d": {"e": 1}},
            {"a": {}, "d": {"e": 1}},
            ["spec.a.c"],
        ),
        ({"type": "object"}, {"a": 1}, {}, ["spec.a"]),
        (
            {"type": "object", "x-kubernetes-embedded-resource": True, **PRESERVE},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "nme": "b"}, "spec": {"c": 1}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"c": 1}},
            ["spec.metadata.nme"],
        ),
    ],
)
def test_pruning(schema: Any, value: Any, left: Any, unknown: list[str]) -> None:
    obj = {"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a"}, "spec": value}
    assert prune(obj, Schema(struct(spec=schema), root=True)) == unknown
    assert obj == {"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a"}, "spec": left}


@pytest.mark.parametrize(
    ("schema", "value", "filled"),
    [
        (struct(a={**INTEGER, "default": 1}), {}, {"a": 1}),
        (struct(a={**INTEGER, "default": 1}), {"a": 2}, {"a": 2}),
        (struct(a={**INTEGER, "default": 1}), {"a": None}, {"a": 1}),
        (struct(a={**INTEGER, "default": 1, "nullable": True}), {"a": None}, {"a": None}),
        (struct(a=INTEGER), {"a": None}, {}),
        (struct(a={**INTEGER, "nullable": True}), {"a": None}, {"a": None}),
        # A default is only looked for where there is something to put it into.
        (struct(a=struct(b={**INTEGER, "default": 1})), {}, {}),
        (struct(a={**struct(b={**INTEGER, "default": 1}), "default": {}}), {}, {"a": {"b": 1}}),
        (array(struct(a={**INTEGER, "default": 1})), [{}, {"a": 2}], [{"a": 1}, {"a": 2}]),
        (mapping({**INTEGER, "default": 1}), {"k": None}, {"k": 1}),
        (mapping(struct(a={**STRING, "default": "x"})), {"k": {}}, {"k": {"a": "x"}}),
    ],
)
def test_defaulting(schema: Any, value: Any, filled: Any) -> None:
    default(value, Schema(schema))
    assert value == filled


def test_defaults_are_not_shared() -> None:
    schema = Schema(struct(a={**array(INTEGER), "default": [1]}))
    one: dict[str, Any] = {}
    default(one, schema)
    one["a"].append(2)
    other: dict[str, Any] = {}
    default(other, schema)
    assert other == {"a": [1]}


@pytest.mark.parametrize(
    ("schema", "value", "faults"),
    [
        (STRING, "x", []),
        (STRING, 1, ['spec: Invalid value: "integer": spec in body must be of type string: "integer"']),
        (STRING, None, ['spec: Invalid value: "null": spec in body must be of type string: "null"']),
        ({**STRING, "nullable": True}, None, []),
        (INTEGER, 1.0, []),
        (INTEGER, 1.5, ['spec: Invalid value: "number": spec in body must be of type integer: "number"']),
        (INTEGER, True, ['spec: Invalid value: "boolean": spec in body must be of type integer: "boolean"']),
        ({"type": "number"}, 1, []),
        ({**STRING, "enum": ["a", "b"]}, "c", ['spec: Unsupported value: "c": supported values: "a", "b"']),
        ({**INTEGER, "enum": [1, 2]}, 3, ['spec: Unsupported value: 3: supported values: "1", "2"']),
        (
            {**STRING, "pattern": "^a+$"},
            "ab",
            ["spec: Invalid value: \"ab\": spec in body should match '^a+$'"],
        ),
        ({**STRING, "pattern": "b"}, "abc", []),
        (
            {**STRING, "pattern": "^a$"},
            "a\n",
            ["spec: Invalid value: \"a\\n\": spec in body should match '^a$'"],
        ),
        ({**STRING, "maxLength": 2}, "äöü", ["spec: Too long: may not be more than 2 bytes"]),
        ({**STRING, "maxLength": 3}, "äöü", []),
        (
            {**STRING, "minLength": 2},
            "a",
            ['spec: Invalid value: "a": spec in body should be at least 2 chars long'],
        ),
        (
            {**INTEGER, "minimum": 1, "maximum": 5},
            0,
            ["spec: Invalid value: 0: spec in body should be greater than or equal to 1"],
        ),
        (
            {**INTEGER, "maximum": 5},
            6,
            ["spec: Invalid value: 6: spec in body should be less than or equal to 5"],
        ),
        (
            {**INTEGER, "minimum": 1, "exclusiveMinimum": True},
            1,
            ["spec: Invalid value: 1: spec in body should be greater than 1"],
        ),
        (
            {**INTEGER, "multipleOf": 3},
            4,
            ["spec: Invalid value: 4: spec in body should be a multiple of 3"],
        ),
        ({"type": "number", "multipleOf": 0.5}, 1.5, []),
        (array(STRING, maxItems=1), ["a", "b"], ["spec: Too many: 2: must have at most 1 item"]),
        (
            array(STRING, minItems=1),
            [],
            ["spec: Invalid value: 0: spec in body should have at least 1 items"],
        ),
        (
            array(INTEGER),
            [1, "a"],
            ['spec[1]: Invalid value: "string": spec[1] in body must be of type integer: "string"'],
        ),
        (
            array(STRING, **{"x-kubernetes-list-type": "set"}),
            ["a", "b", "a"],
            ['spec[2]: Duplicate value: "a"'],
        ),
        (
            array(
                struct(port=INTEGER, protocol=STRING, name=STRING),
                **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"]},
            ),
            [{"port": 1, "protocol": "TCP"}, {"port": 1, "protocol": "TCP", "name": "x"}],
            ['spec[1]: Duplicate value: {"port":1,"protocol":"TCP"}'],
        ),
        ({**struct(a=STRING), "required": ["a"]}, {}, ["spec.a: Required value"]),
        (
            {**mapping(STRING), "maxProperties": 1},
            {"a": "", "b": ""},
            ["spec: Too many: 2: must have at most 1 item"],
        ),
        (
            mapping(INTEGER),
            {"k": "x"},
            ['spec.k: Invalid value: "string": spec.k in body must be of type integer: "string"'],
        ),
        ({"x-kubernetes-int-or-string": True}, 1, []),
        ({"x-kubernetes-int-or-string": True}, "1", []),
        (
            {"x-kubernetes-int-or-string": True},
            True,
            ['spec: Invalid value: "boolean": spec in body must be of type integer,string: "boolean"'],
        ),
        (
            {**struct(a=STRING, b=STRING), "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {},
            [
                '<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). '
                "Found none valid",
                "spec.a: Required value",
            ],
        ),
        (
            {**struct(a=STRING, b=STRING), "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {"a": "", "b": ""},
            [
                '<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). '
                "Found 2 valid alternatives"
            ],
        ),
        (
            {**STRING, "anyOf": [{"pattern": "^a"}, {"pattern": "^b"}]},
            "c",
            [
                '<nil>: Invalid value: "": "spec" must validate at least one schema (anyOf)',
                "spec: Invalid value: \"c\": spec in body should match '^a'",
            ],
        ),
        (
            {**STRING, "allOf": [{"minLength": 2}, {"maxLength": 5}]},
            "a",
            [
                'spec: Invalid value: "a": spec in body should be at least 2 chars long',
                '<nil>: Invalid value: "": "spec" must validate all the schemas (allOf)',
            ],
        ),
        (
            {**STRING, "not": {"enum": ["a"]}},
            "a",
            ['<nil>: Invalid value: "": "spec" must not validate the schema (not)'],
        ),
        (
            {"type": "object", "x-kubernetes-embedded-resource": True, **PRESERVE},
            {"metadata": {}},
            [
                "spec.apiVersion: Required value: must not be empty",
                "spec.kind: Required value: must not be empty",
            ],
        ),
    ],
)
def test_validation(schema: Any, value: Any, faults: list[str]) -> None:
    assert [str(each) for each in validate(value, Schema(schema), "spec")] == faults


@pytest.mark.parametrize(
    ("format", "good", "bad"),
    [
        ("date-time", "2024-01-02T03:04:05Z", "2024-01-02 03:04"),
        ("date", "2024-01-02", "2024-1-2"),
        ("duration", "1h30m", "long"),
        ("ipv4", "10.0.0.1", "::1"),
        ("ipv6", "::1", "10.0.0.1"),
        ("cidr", "10.0.0.1/8", "10.0.0.1"),
        ("mac", "00:11:22:33:44:55", "00:11"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
        ("email", "a@example.com", "a"),
        ("hostname", "a.example.com", "a..b"),
        ("uri", "https://example.com/a", ""),
        ("byte", "YQ==", "Y"),
        ("int32", 2**31 - 1, 2**31),
        ("int64", 2**63 - 1, 2**63),
    ],
)
def test_formats(format: str, good: Any, bad: Any) -> None:
    schema = Schema({"type": "string" if isinstance(good, str) else "integer", "format": format})
    assert not validate(good, schema, "spec")
    (fault,) = validate(bad, schema, "spec")
    assert f"spec in body must be of type {format}: {json.dumps(bad)}" in fault.detail


def test_what_is_as_it_was_is_not_judged_again() -> None:
    """So that a stricter schema does not keep users from changing something else."""
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    schema = Schema(
        struct(
            a={**STRING, "maxLength": 1},
            b=STRING,
            keyed=array(struct(name=STRING, size={**INTEGER, "maximum": 1}), **keyed),
            plain=array({**INTEGER, "maximum": 1}),
        )
    )
    old = {"a": "long", "keyed": [{"name": "x", "size": 5}], "plain": [5]}
    assert not validate({**old, "b": "new"}, schema, old=old)
    assert validate({**old, "a": "longer"}, schema, old=old)
    moved = {"name": "y", "size": 1}
    assert not validate({**old, "keyed": [moved, *old["keyed"]]}, schema, old=old)
    # Elements that have no identity are judged whenever their list changes.
    assert [each.path for each in validate({**old, "plain": [1, 5]}, schema, old=old)] == ["plain[1]"]


# Properties


def schemas(depth: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    """Structural schemas whose defaults fit them."""
    leaves = st.sampled_from(
        [
            STRING,
            INTEGER,
            {"type": "boolean"},
            {**STRING, "default": "x"},
            {**INTEGER, "default": 3},
            {**INTEGER, "nullable": True},
            {"x-kubernetes-int-or-string": True},
            {"type": "object", **PRESERVE},
        ]
    )
    if not depth:
        return leaves
    inner = st.deferred(lambda: schemas(depth - 1))
    objects = st.dictionaries(st.sampled_from("abcd"), inner, max_size=4).map(lambda found: struct(**found))
    return st.one_of(
        leaves,
        objects,
        st.tuples(objects, st.just({"default": {}})).map(lambda both: {**both[0], **both[1]}),
        objects.map(lambda found: {**found, **PRESERVE}),
        inner.map(array),
        inner.map(mapping),
    )


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text("abx", max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abcdef"), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(schemas(), JSON)
@settings(max_examples=150, deadline=None)
def test_pruning_and_defaulting_settle_at_once(source: dict[str, Any], value: Any) -> None:
    schema = Schema(struct(spec=source))
    obj = {"spec": value}
    prune(obj, schema)
    once = copy.deepcopy(obj)
    assert prune(obj, schema) == []
    assert obj == once
    default(obj, schema)
    filled = copy.deepcopy(obj)
    default(obj, schema)
    assert obj == filled
    assert prune(obj, schema) == []


@given(schemas(), JSON)
@settings(max_examples=150, deadline=None)
def test_defaults_break_nothing(source: dict[str, Any], value: Any) -> None:
    """What was valid stays so when defaults are filled in, and unknown fields are no fault."""
    schema = Schema(struct(spec=source))
    obj = {"spec": value}
    valid = not validate(obj, schema)
    prune(obj, schema)
    default(obj, schema)
    if valid:
        assert validate(obj, schema) == []
    assert validate(obj, schema, old=obj) == []
    assert validate(obj, schema, old=MISSING) == validate(copy.deepcopy(obj), schema)


# JSON paths

OBJECT = {
    "spec": {"replicas": 3, "a.b": "dotted", "list": [1, 2, 3], "names": [{"n": "x"}, {"n": "y"}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.replicas", [3]),
        (".spec.missing", []),
        (".spec.a\\.b", ["dotted"]),
        (".spec['a.b']", ["dotted"]),
        (".spec.list[0]", [1]),
        (".spec.list[-1]", [3]),
        (".spec.list[0:2]", [1, 2]),
        (".spec.list[*]", [1, 2, 3]),
        (".spec.names[*].n", ["x", "y"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Old')].status", ["False"]),
        ('.status.conditions[?(@.type=="None")].status', []),
        ("..n", ["x", "y"]),
        ("{.spec.replicas}", [3]),
    ],
)
def test_json_paths(path: str, found: list[Any]) -> None:
    assert compile_path(path)(OBJECT) == found


@pytest.mark.parametrize("path", [".spec[", ".a[?(@.b=~c)]", "a b", ".a["])
def test_bad_json_paths(path: str) -> None:
    with pytest.raises(BadPath):
        compile_path(path)
