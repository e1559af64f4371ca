"""CustomResourceDefinitions: their faults, the names they get, the kinds they make."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from apiserver.crds import IP_ADDRESS_POOL, definition
from buoy.api.custom.definition import CUSTOM_RESOURCE_DEFINITION
from buoy.api.custom.kinds import kinds_of
from buoy.api.custom.naming import accept
from buoy.api.custom.rules import check_rules, fault_of
from buoy.api.custom.schema import MISSING, Schema

SCHEMA = "spec.versions[0].schema.openAPIV3Schema"
SPEC = f"{SCHEMA}.properties[spec]"
PRESERVE = {"x-kubernetes-preserve-unknown-fields": True}
STRING = {"type": "string"}


def faults(wanted: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    kind, new = CUSTOM_RESOURCE_DEFINITION, copy.deepcopy(wanted)
    kind.struct.conform(new)
    kind.default(new)
    kind.prepare(new, old)
    return [str(each) for each in kind.validate(new, old)]


def established(wanted: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    new = copy.deepcopy(wanted)
    CUSTOM_RESOURCE_DEFINITION.default(new)
    CUSTOM_RESOURCE_DEFINITION.prepare(new, None)
    new["metadata"]["generation"] = 1
    return {**new, "status": accept(new, others)}


def struct(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def array(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **{name.replace("_", "-"): each for name, each in more.items()}}


def test_good_ones_have_no_faults() -> None:
    assert faults(IP_ADDRESS_POOL) == []
    assert faults(definition("Boat")) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (
            "spec.group",
            "example",
            'spec.group: Invalid value: "example": should be a domain with at least one dot',
        ),
        (
            "spec.scope",
            "Global",
            'spec.scope: Unsupported value: "Global": supported values: "Cluster", "Namespaced"',
        ),
        ("spec.names.kind", "", "spec.names.kind: Required value"),
        (
            "spec.names.listKind",
            "Boat",
            'spec.names.listKind: Invalid value: "Boat": kind and listKind may not be the same',
        ),
        (
            "metadata.name",
            "ships.example.com",
            'metadata.name: Invalid value: "ships.example.com": must be spec.names.plural+"."+spec.group',
        ),
        ("spec.versions.0.name", "V1", 'spec.versions[0].name: Invalid value: "V1"'),
        ("spec.versions.0.storage", False, "must have exactly one version marked as storage version"),
        ("spec.versions.0.schema", None, f"{SCHEMA}: Required value: schemas are required"),
        (
            "spec.preserveUnknownFields",
            True,
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true",
        ),
        ("spec.conversion", {"strategy": "Webhook"}, "spec.conversion.strategy: Forbidden"),
        (
            "spec.versions.0.additionalPrinterColumns",
            [{"name": "A", "type": "text", "jsonPath": "spec"}],
            'additionalPrinterColumns[0].type: Invalid value: "text": must be one of '
            "boolean,date,integer,number,string",
        ),
        (
            "spec.versions.0.subresources",
            {"scale": {"specReplicasPath": ".status.n", "statusReplicasPath": ".status.n"}},
            'scale.specReplicasPath: Invalid value: ".status.n": should be a json path under .spec',
        ),
        (
            "spec.versions.0.selectableFields",
            [{"jsonPath": ".spec.nothing"}],
            'selectableFields[0].jsonPath: Invalid value: ".spec.nothing": is an invalid path',
        ),
        (
            "spec.versions.0.deprecationWarning",
            "old",
            'deprecationWarning: Invalid value: "old": can only be set for deprecated versions',
        ),
    ],
)
def test_faults(path: str, value: Any, fault: str) -> None:
    wanted: Any = definition("Boat")
    *parents, last = path.split(".")
    node = wanted
    for name in parents:
        node = node[int(name)] if name.isdigit() else node.setdefault(name, {})
    node[last] = value
    assert fault in "\n".join(faults(wanted))


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({}, f"{SPEC}.type: Required value: must not be empty for specified object fields"),
        ({"type": "array"}, f"{SPEC}.items: Required value: must be specified"),
        (array({}), f"{SPEC}.items.type: Required value: must not be empty for specified array items"),
        (
            {"type": "text"},
            f'{SPEC}.type: Unsupported value: "text": supported values: "array", "boolean", "integer", '
            '"number", "object", "string"',
        ),
        (
            {**STRING, "anyOf": [{"type": "string"}]},
            f"{SPEC}.anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            {**struct(), "anyOf": [{"properties": {"a": {"minLength": 1}}}]},
            f"{SPEC}.properties[a]: Required value: because it is defined in {SPEC}.anyOf[0].properties[a]",
        ),
        (
            {**struct(a=STRING), "additionalProperties": STRING},
            f"{SPEC}.additionalProperties: Forbidden: additionalProperties and properties are mutual "
            "exclusive",
        ),
        (
            array(STRING, uniqueItems=True),
            f"{SPEC}.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity "
            "becomes quadratic",
        ),
        (
            {**STRING, "pattern": "("},
            f'{SPEC}.pattern: Invalid value: "(": must be a valid regular expression, but isn\'t: ',
        ),
        (
            {"x-kubernetes-int-or-string": True, **PRESERVE},
            f"{SPEC}.x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if "
            "x-kubernetes-int-or-string is true",
        ),
        (
            {"type": "object", "x-kubernetes-embedded-resource": True},
            f"{SPEC}.properties: Required value: must not be empty if x-kubernetes-embedded-resource is true "
            "without x-kubernetes-preserve-unknown-fields",
        ),
        (
            array(struct(a=STRING), x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["a"]),
            f"{SPEC}.items.properties[a].default: Required value: this property is in "
            "x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
        (
            array(struct(a=STRING), x_kubernetes_list_type="map"),
            f"{SPEC}.x-kubernetes-list-map-keys: Required value: must not be empty if "
            "x-kubernetes-list-type is map",
        ),
        (
            {**STRING, "x-kubernetes-list-type": "set"},
            f'{SPEC}.type: Invalid value: "string": must be array if x-kubernetes-list-type is set',
        ),
        (
            struct(a={"type": "integer", "default": "x"}),
            f'{SPEC}.properties[a].default: Invalid value: "string":',
        ),
        (
            struct(a={**struct(b=STRING), "default": {"c": 1}}),
            f'{SPEC}.properties[a].default: Invalid value: {{"c":1}}: must not have unknown fields',
        ),
        (
            {**STRING, "x-kubernetes-validations": [{"rule": "self.size( > 1"}]},
            f'{SPEC}.x-kubernetes-validations[0].rule: Invalid value: "self.size( > 1": compilation failed: ',
        ),
    ],
)
def test_what_is_not_structural(schema: Any, fault: str) -> None:
    assert fault in "\n".join(faults(definition("Boat", schema)))


@pytest.mark.parametrize(
    "schema",
    [
        {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        {**struct(a=STRING, b=STRING), "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {**struct(a=STRING), "anyOf": [{"properties": {"a": {"enum": ["x"]}}}]},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        array(
            {**struct(a={**STRING, "default": "x"})},
            x_kubernetes_list_type="map",
            x_kubernetes_list_map_keys=["a"],
        ),
        {"type": "object", "x-kubernetes-embedded-resource": True, **PRESERVE},
        PRESERVE,
    ],
)
def test_what_is_structural(schema: Any) -> None:
    assert faults(definition("Boat", schema)) == []


def test_the_groups_of_the_community_want_approval() -> None:
    wanted = definition("Boat", group="boats.k8s.io")
    assert "api-approved.kubernetes.io" in faults(wanted)[0]
    wanted["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, a test"}
    assert faults(wanted) == []


def test_changes() -> None:
    old = established(definition("Boat"))
    new = copy.deepcopy(old)
    new["spec"]["scope"] = "Cluster"
    assert faults(new, old) == ['spec.scope: Invalid value: "Cluster": field is immutable']
    new = copy.deepcopy(old)
    new["spec"]["versions"][0]["name"] = "v2"
    assert "v1 was previously a storage version, and must remain in spec.versions" in faults(new, old)[0]
    both = copy.deepcopy(old)
    both["spec"]["versions"].append({**old["spec"]["versions"][0], "name": "v2"})
    both["spec"]["versions"][0] = {**old["spec"]["versions"][0], "storage": False}
    CUSTOM_RESOURCE_DEFINITION.prepare(both, old)
    assert both["status"]["storedVersions"] == ["v1", "v2"]


def test_names() -> None:
    boat = definition("Boat")
    boat["spec"]["names"]["shortNames"] = ["bo"]
    first = established(boat)
    other = definition("Vessel")
    other["spec"]["names"].update({"shortNames": ["bo"], "kind": "Boat"})
    status = established(other, first["status"]["acceptedNames"])["status"]
    accepted, is_established = status["conditions"]
    assert (accepted["type"], accepted["status"], accepted["reason"]) == (
        "NamesAccepted",
        "False",
        "ShortNamesConflict",
    )
    assert accepted["message"] == '"bo" is already in use'
    assert (is_established["status"], is_established["reason"]) == ("False", "NotAccepted")
    assert status["acceptedNames"]["kind"] == ""
    # A conflict that comes later changes nothing about what is served.
    later = {**first, "status": accept(first, [{"singular": "boat"}])}
    assert {each["type"]: each["status"] for each in later["status"]["conditions"]} == {
        "NamesAccepted": "False",
        "Established": "True",
    }
    assert later["status"]["acceptedNames"]["singular"] == "boat"
    unchanged = accept(first, [])
    assert unchanged == first["status"]


def test_kinds() -> None:
    (kind,) = kinds_of(established(IP_ADDRESS_POOL))
    assert kind.custom
    assert kind.resource.path("default", "a") == (
        "/apis/metallb.io/v1beta1/namespaces/default/ipaddresspools/a"
    )
    assert [column.name for column in kind.columns] == [
        "Name",
        "Auto Assign",
        "Avoid Buggy IPs",
        "Addresses",
        "Free",
    ]
    obj: dict[str, Any] = {
        "metadata": {"name": "a"},
        "spec": {"addresses": ["10.0.0.0/8"], "autoAssign": False},
    }
    assert [column.value(obj) for column in kind.columns] == ["a", False, None, '["10.0.0.0/8"]', None]


# Rules

RULED = struct(
    low={"type": "integer"},
    high={"type": "integer"},
    name=STRING,
    ranges=array(STRING),
    wait={**STRING, "format": "duration"},
    **{"a-b": STRING},
)
FAILED = 'spec: Invalid value: "object": failed rule: {}'


@pytest.mark.parametrize(
    ("rule", "spec", "faults"),
    [
        ("self.low <= self.high", {"low": 1, "high": 2}, []),
        ("self.low <= self.high", {"low": 3, "high": 2}, [FAILED.format("self.low <= self.high")]),
        (
            {"rule": "self.low <= self.high", "message": "turned", "reason": "FieldValueForbidden"},
            {"low": 3, "high": 2},
            ["spec: Forbidden: turned"],
        ),
        (
            {
                "rule": "self.low > 1",
                "fieldPath": ".low",
                "messageExpression": "'low is ' + string(self.low)",
            },
            {"low": 1},
            ['spec.low: Invalid value: "object": low is 1'],
        ),
        ("self.ranges.all(each, isIP(each) || isCIDR(each))", {"ranges": ["10.0.0.1", "10.0.0.0/8"]}, []),
        ("cidr('10.0.0.0/8').containsIP(ip(self.name))", {"name": "10.1.1.1"}, []),
        ("self.a__dash__b.split(',').size() == 2", {"a-b": "x,y"}, []),
        ("self.wait >= duration('1m')", {"wait": "90s"}, []),
        ("has(self.name) && self.name.lowerAscii() == 'x'", {"name": "X"}, []),
        ("quantity(self.name).isGreaterThan(quantity('1Mi'))", {"name": "1Gi"}, []),
        ("!has(self.name) || self.name.matches('^[a-z]+$')", {}, []),
        (
            "self.low > 1",
            {},
            [
                "spec: Invalid value: \"object\": no such member in mapping: 'low' "
                "evaluating rule: self.low > 1"
            ],
        ),
        # Without an older object there is nothing that a transition could be judged by.
        ("self.name == oldSelf.name", {"name": "x"}, []),
        ({"rule": "oldSelf.hasValue()", "optionalOldSelf": True}, {}, [FAILED.format("oldSelf.hasValue()")]),
    ],
)
def test_rules(rule: Any, spec: dict[str, Any], faults: list[str]) -> None:
    rule = rule if isinstance(rule, dict) else {"rule": rule}
    assert fault_of(rule["rule"]) == ""
    schema = Schema(struct(spec={**RULED, "x-kubernetes-validations": [rule]}), root=True)
    assert [str(each) for each in check_rules({"spec": spec}, schema, MISSING)] == faults


def test_rules_about_changes() -> None:
    rule = {"rule": "self == oldSelf", "message": "is immutable"}
    schema = Schema(struct(spec=struct(name={**STRING, "x-kubernetes-validations": [rule]})), root=True)
    old = {"spec": {"name": "x"}}
    assert not check_rules({"spec": {"name": "x"}}, schema, old)
    (fault,) = check_rules({"spec": {"name": "y"}}, schema, old)
    assert str(fault) == 'spec.name: Invalid value: "string": is immutable'


@pytest.mark.parametrize("rule", ["self.", "nothing(self)", "this.name == 'x'", "self.odd()", "self.?name"])
def test_rules_that_cannot_be(rule: str) -> None:
    assert fault_of(rule)
