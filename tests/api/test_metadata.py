# ruff: noqa: E501 - whole sentences are easier to compare

from typing import Any

import pytest

from buoy.api import formats
from buoy.api.config import CONFIG_MAP
from buoy.api.meta import Object
from buoy.api.metadata import equivalent, validate_label_selector
from buoy.api.namespace import NAMESPACE
from buoy.api.status import FieldError, duplicate, invalid, not_supported, required, too_long, too_many

from .kinds import made

SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u"}


def faults(metadata: Object, old: Object | None = None) -> list[str]:
    obj = {"metadata": {"name": "a", "namespace": "default", **metadata}}
    before = None if old is None else {"metadata": {"name": "a", "namespace": "default", **old}}
    return [str(error) for error in CONFIG_MAP.validate(obj, before)]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, []),
        ({"name": ""}, ["metadata.name: Required value: name or generateName is required"]),
        ({"name": "A_b"}, [f'metadata.name: Invalid value: "A_b": {SUBDOMAIN}']),
        (
            {"name": "a" * 254},
            [f'metadata.name: Invalid value: "{"a" * 254}": must be no more than 253 bytes'],
        ),
        ({"generateName": "web-"}, []),
        ({"generateName": "Web-"}, [f'metadata.generateName: Invalid value: "Web-": {SUBDOMAIN}']),
        ({"namespace": ""}, ["metadata.namespace: Required value"]),
        ({"namespace": "a.b"}, ['metadata.namespace: Invalid value: "a.b": must not contain dots']),
        (
            {"labels": {"a/b/c": "", "ok": "-"}},
            [
                "metadata.labels: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', "
                "'_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or "
                "'123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS "
                "subdomain prefix and '/' (e.g. 'example.com/MyName')",
                'metadata.labels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric '
                "characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or "
                "'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ],
        ),
        ({"annotations": {"Example.COM/Key": "any text / at all"}}, []),
        (
            {"annotations": {"a": "x" * 262144}},
            ["metadata.annotations: Too long: may not be more than 262144 bytes"],
        ),
        ({"ownerReferences": [OWNER, {**OWNER, "controller": True}]}, []),
        (
            {"ownerReferences": [{"apiVersion": "apps/", "kind": "", "name": "r", "uid": "u"}]},
            [
                'metadata.ownerReferences.apiVersion: Invalid value: "apps/": version must not be empty',
                'metadata.ownerReferences.kind: Invalid value: "": must not be empty',
            ],
        ),
        (
            {"ownerReferences": [{**OWNER, "controller": True}] * 2},
            [
                'metadata.ownerReferences: Invalid value: [{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"u",'
                '"controller":true},{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"u","controller":true}]: '
                'Only one reference can have Controller set to true. Found "true" in references for ReplicaSet/r and ReplicaSet/r'
            ],
        ),
        (
            {"finalizers": ["mine"]},
            [
                'metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified'
            ],
        ),
        (
            {"finalizers": ["orphan", "foregroundDeletion", "example.com/a"]},
            [
                'metadata.finalizers: Invalid value: ["orphan","foregroundDeletion","example.com/a"]: '
                "finalizer orphan and foregroundDeletion cannot be both set"
            ],
        ),
        (
            {"managedFields": [{"operation": "Do", "fieldsType": "V2", "manager": "m" * 129}]},
            [
                'metadata.managedFields[0].operation: Invalid value: "Do": must be `Apply` or `Update`',
                'metadata.managedFields[0].fieldsType: Invalid value: "V2": must be `FieldsV1`',
                "metadata.managedFields[0].manager: Too long: may not be more than 128 bytes",
            ],
        ),
    ],
)
def test_metadata(metadata: Object, expected: list[str]) -> None:
    assert faults(metadata) == expected


def test_updates() -> None:
    old = {"uid": "u", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z"}
    assert faults(old, old) == []
    assert faults({**old, "uid": "v", "generation": 1}, old) == [
        "metadata.generation: Invalid value: 1: must not be decremented",
        'metadata.uid: Invalid value: "v": field is immutable',
    ]
    ending = {**old, "deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": ["example.com/a"]}
    assert faults({**ending, "finalizers": []}, ending) == []
    assert faults({**ending, "finalizers": ["example.com/a", "example.com/b"]}, ending) == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"example.com/b"}'
    ]


def test_cluster_scoped_objects_have_no_namespace() -> None:
    obj = made(NAMESPACE, {"metadata": {"name": "a", "namespace": "b"}})
    assert [str(error) for error in NAMESPACE.validate(obj, None)] == [
        "metadata.namespace: Forbidden: not allowed on this type"
    ]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, []),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}, []),
        (
            {"matchExpressions": [{"key": "a", "operator": "In"}]},
            [
                "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            ],
        ),
        (
            {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
            [
                "s.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            ],
        ),
    ],
)
def test_label_selectors(selector: Object | None, expected: list[str]) -> None:
    assert [str(error) for error in validate_label_selector(selector, "s")] == expected


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (required("a"), "a: Required value"),
        (invalid("a", None, "no"), "a: Invalid value: null: no"),
        (invalid("a", True, "no"), "a: Invalid value: true: no"),
        (invalid("a", {"b": "1", "a": "2"}, "no"), 'a: Invalid value: {"a":"2","b":"1"}: no'),
        (invalid("a", 'say "ä"', "no"), 'a: Invalid value: "say \\"ä\\"": no'),
        (not_supported("a", "x", {"c", "b"}), 'a: Unsupported value: "x": supported values: "b", "c"'),
        (not_supported("a", "x", ("c", "b")), 'a: Unsupported value: "x": supported values: "c", "b"'),
        (duplicate("a", ["x", 1]), 'a: Duplicate value: ["x",1]'),
        (too_long("a", 1), "a: Too long: may not be more than 1 byte"),
        (too_many("a", 2, 1), "a: Too many: 2: must have at most 1 item"),
    ],
)
def test_how_errors_show_values(error: FieldError, shown: str) -> None:
    assert str(error) == shown


@pytest.mark.parametrize(
    ("new", "old", "same"),
    [
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1, "b": False, "c": "", "d": [], "e": {}}, {"a": 1}, True),
        ({"a": {"b": 0}}, {}, True),
        ({"a": [{"b": None}]}, {"a": [{}]}, True),
        ({"a": [{}]}, {}, False),
        ({"a": 1}, {"a": 2}, False),
        (None, "", True),
        (None, {"a": 1}, False),
    ],
)
def test_equivalence(new: Any, old: Any, same: bool) -> None:
    assert equivalent(new, old) is same
    assert equivalent(old, new) is same


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("10.0.0.1", True),
        ("fd00::1", True),
        ("fe80::1%eth0", False),
        ("::ffff:1.2.3.4", False),
        ("1.2.3", False),
        ("1.2.3.04", False),
        ("", False),
    ],
)
def test_addresses(text: str, good: bool) -> None:
    assert (formats.ip(text) == ()) is good


@pytest.mark.parametrize(
    ("text", "good"), [("10.0.0.0/8", True), ("fd00::/64", True), ("10.0.0.0", False), ("10.0.0.0/08", False)]
)
def test_prefixes(text: str, good: bool) -> None:
    assert (formats.cidr(text) == ()) is good


def test_paths() -> None:
    assert formats.file_path("a/b..c") == ()
    assert formats.file_path("..data") == ("must not start with '..'",)
    assert formats.file_path("/a/../b") == ("must be a relative path", "must not contain '..'")
    assert formats.c_identifier("a_1") == ()
    assert formats.http_header_name("X-A") == ()
    assert formats.http_header_name("a b") != ()
