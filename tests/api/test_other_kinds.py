# ruff: noqa: E501 - whole sentences are easier to compare

import base64
import datetime
from typing import Any

import pytest

from buoy.api import KINDS, meta
from buoy.api.config import CONFIG_MAP, SECRET
from buoy.api.coordination import LEASE
from buoy.api.event import CORE_EVENT, EVENT, from_events_v1, to_events_v1
from buoy.api.kind import Kind
from buoy.api.meta import Object
from buoy.api.namespace import NAMESPACE
from buoy.api.node import NODE, roles
from buoy.api.rbac import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING
from buoy.api.serviceaccount import SERVICE_ACCOUNT

from .kinds import faults, made, put


def cells(kind: Kind, obj: Object) -> dict[str, Any]:
    return {column.name: column.value(obj) for column in kind.columns if column.name != "Age"}


KEY = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
    "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
FROZEN = "Forbidden: field is immutable when `immutable` is set"


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        ({"data": {"a": "b"}}, []),
        ({"data": {"a/b": ""}}, [f'data[a/b]: Invalid value: "a/b": {KEY}']),
        ({"data": {"..": ""}}, ["data[..]: Invalid value: \"..\": must not be '..'"]),
        (
            {"data": {"a": ""}, "binaryData": {"a": ""}},
            ['data[a]: Invalid value: "a": duplicate of key present in binaryData'],
        ),
        ({"data": {"a": "x" * 1048577}}, [": Too long: may not be more than 1048576 bytes"]),
        ({"data": {"a": "x" * 1048576}}, []),
    ],
)
def test_config_map(obj: Object, expected: list[str]) -> None:
    assert faults(CONFIG_MAP, obj) == expected


def test_frozen_config_map() -> None:
    old = made(CONFIG_MAP, {"data": {"a": "b"}, "immutable": True})
    assert faults(CONFIG_MAP, {"data": {"a": "c"}}, old) == [f"immutable: {FROZEN}", f"data: {FROZEN}"]
    assert cells(CONFIG_MAP, old) == {"Name": "a", "Data": 1}


def test_secret() -> None:
    obj = made(SECRET, {"stringData": {"a": "b"}, "data": {"c": "ZA=="}})
    assert obj["data"] == {"a": base64.b64encode(b"b").decode(), "c": "ZA=="}
    assert obj["type"] == "Opaque"
    assert "stringData" not in obj
    assert cells(SECRET, obj) == {"Name": "a", "Type": "Opaque", "Data": 2}
    assert faults(SECRET, {"type": "kubernetes.io/tls"}) == [
        "data[tls.crt]: Required value",
        "data[tls.key]: Required value",
    ]
    assert faults(SECRET, {"type": "kubernetes.io/service-account-token"}) == [
        "metadata.annotations[kubernetes.io/service-account.name]: Required value"
    ]
    assert faults(SECRET, {"type": "kubernetes.io/basic-auth"}) == [
        "data[username]: Required value",
        "data[password]: Required value",
    ]
    assert faults(SECRET, {**obj, "type": "other"}, obj) == [
        'type: Invalid value: "other": field is immutable'
    ]
    big = base64.b64encode(b"x" * 1048577).decode()
    assert faults(SECRET, {"data": {"a": big}}) == ["data: Too long: may not be more than 1048576 bytes"]


def test_namespace() -> None:
    obj = made(NAMESPACE, {"metadata": {"name": "shop"}})
    assert obj == {
        "metadata": {"name": "shop", "labels": {"kubernetes.io/metadata.name": "shop"}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }
    assert faults(NAMESPACE, {"metadata": {"name": "shop"}}) == []
    assert faults(NAMESPACE, {"metadata": {"name": "a.b"}}) == [
        'metadata.name: Invalid value: "a.b": must not contain dots'
    ]
    assert cells(NAMESPACE, obj) == {"Name": "shop", "Status": "Active"}
    stripped = made(NAMESPACE, put(obj, "spec.finalizers", []), obj)
    assert stripped["spec"]["finalizers"] == ["kubernetes"]
    assert NAMESPACE.validate_status is not None
    ended = {**obj, "status": {"phase": "Terminating"}}
    assert [str(error) for error in NAMESPACE.validate_status(ended, obj)] == [
        "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
    ]


def node(**spec: Any) -> Object:
    return {"metadata": {"name": "node-1"}, "spec": spec}


CIDR = 'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'


def test_node() -> None:
    assert faults(NODE, node(podCIDR="10.244.1.0/24", podCIDRs=["10.244.1.0/24"])) == []
    assert faults(NODE, node(podCIDRs=["10.244.1.0/24", "10.244.2.0/24"])) == [
        'spec.podCIDRs: Invalid value: ["10.244.1.0/24","10.244.2.0/24"]: may specify no more than one CIDR for each IP family'
    ]
    assert faults(
        NODE, node(taints=[{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}])
    ) == [
        'metadata.taints[1]: Duplicate value: {"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}: '
        "taints must be unique by key and effect pair"
    ]
    assert faults(NODE, node(taints=[{"key": "a"}])) == ["metadata.taints[0].effect: Required value"]
    old = made(NODE, node(podCIDRs=["10.244.1.0/24"]))
    assert faults(NODE, node(podCIDRs=["10.244.2.0/24"]), old) == [CIDR]
    assert faults(NODE, node(), old) == [CIDR]
    assert faults(NODE, node(podCIDRs=["10.244.2.0/24"]), made(NODE, node())) == []


def test_node_columns() -> None:
    obj = made(NODE, node(unschedulable=True))
    assert cells(NODE, obj) == {
        "Name": "node-1",
        "Status": "Unknown,SchedulingDisabled",
        "Roles": "<none>",
        "Version": "",
        "Internal-IP": "<none>",
        "External-IP": "<none>",
        "OS-Image": "<unknown>",
        "Kernel-Version": "<unknown>",
        "Container-Runtime": "<unknown>",
    }
    obj = {
        "metadata": {
            "name": "node-1",
            "labels": {
                "node-role.kubernetes.io/": "",
                "node-role.kubernetes.io/worker": "",
                "kubernetes.io/role": "b",
            },
        },
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "addresses": [{"type": "InternalIP", "address": "192.168.1.80"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian"},
        },
    }
    shown = cells(NODE, obj)
    assert (shown["Status"], shown["Roles"], shown["Internal-IP"]) == ("NotReady", "b,worker", "192.168.1.80")
    assert roles(obj) == ["b", "worker"]


def test_lease() -> None:
    assert faults(LEASE, {"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}) == []
    assert faults(
        LEASE, {"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "b"}}
    ) == [
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
        "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
        "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
    ]
    assert cells(LEASE, made(LEASE, {"spec": {"holderIdentity": "me"}})) == {"Name": "a", "Holder": "me"}


def test_service_account() -> None:
    assert faults(SERVICE_ACCOUNT, {}) == []
    assert list(cells(SERVICE_ACCOUNT, made(SERVICE_ACCOUNT, {}))) == ["Name"]


RBAC = "rbac.authorization.k8s.io"


@pytest.mark.parametrize(
    ("kind", "obj", "expected"),
    [
        (ROLE, {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}, []),
        (
            ROLE,
            {"rules": [{"nonResourceURLs": ["/x"]}]},
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                'rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs',
            ],
        ),
        (
            CLUSTER_ROLE,
            {"rules": [{"verbs": ["*"]}]},
            [
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ],
        ),
        (CLUSTER_ROLE, {"metadata": {"name": "system:node"}}, []),
        (
            CLUSTER_ROLE,
            {"metadata": {"name": "a/b"}},
            ["metadata.name: Invalid value: \"a/b\": may not contain '/'"],
        ),
        (
            ROLE_BINDING,
            {"roleRef": {"kind": "Role"}, "subjects": [{"kind": "Robot", "name": "x"}, {"kind": "User"}]},
            [
                "roleRef.name: Required value",
                'subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"',
                "subjects[1].name: Required value",
                'subjects[1].name: Invalid value: "": user name cannot be empty',
            ],
        ),
        (
            CLUSTER_ROLE_BINDING,
            {"roleRef": {"kind": "Role", "name": "a"}, "subjects": [{"kind": "ServiceAccount", "name": "b"}]},
            [
                'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"',
                "subjects[0].namespace: Required value",
            ],
        ),
    ],
)
def test_rbac(kind: Kind, obj: Object, expected: list[str]) -> None:
    assert faults(kind, obj) == expected


def test_bindings() -> None:
    obj = made(
        CLUSTER_ROLE_BINDING,
        {
            "roleRef": {"kind": "ClusterRole", "name": "admin"},
            "subjects": [
                {"kind": "User", "name": "eve"},
                {"kind": "Group", "name": "g"},
                {"kind": "ServiceAccount", "name": "default", "namespace": "shop"},
            ],
        },
    )
    assert obj["roleRef"]["apiGroup"] == RBAC
    assert [subject.get("apiGroup") for subject in obj["subjects"]] == [RBAC, RBAC, None]
    assert cells(CLUSTER_ROLE_BINDING, obj) == {
        "Name": "a",
        "Role": "ClusterRole/admin",
        "Users": "eve",
        "Groups": "g",
        "ServiceAccounts": "shop/default",
    }
    changed = put(obj, "roleRef.name", "view")
    assert faults(CLUSTER_ROLE_BINDING, changed, obj) == [
        'roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"ClusterRole","Name":"view"}: cannot change roleRef'
    ]


def ago(**span: int) -> str:
    return meta.format_time(datetime.datetime.now(datetime.UTC) - datetime.timedelta(**span))


def event(**fields: Any) -> Object:
    return {
        "metadata": {"name": "web.1", "namespace": "default"},
        "involvedObject": {
            "kind": "Pod",
            "name": "web",
            "namespace": "default",
            "fieldPath": "spec.containers{c}",
        },
        "type": "Normal",
        "reason": "Started",
        "message": "Started container c\n",
        "source": {"component": "kubelet", "host": "node-1"},
        **fields,
    }


def test_event_columns() -> None:
    obj = event(firstTimestamp=ago(minutes=20), lastTimestamp=ago(minutes=12), count=3)
    assert cells(CORE_EVENT, obj) == {
        "Last Seen": "12m",
        "Type": "Normal",
        "Reason": "Started",
        "Object": "pod/web",
        "Subobject": "spec.containers{c}",
        "Source": "kubelet, node-1",
        "Message": "Started container c",
        "First Seen": "20m",
        "Count": 3,
        "Name": "web.1",
    }
    series = event(eventTime=ago(minutes=50), series={"count": 7, "lastObservedTime": ago(minutes=11)})
    shown = cells(CORE_EVENT, series)
    assert (shown["Last Seen"], shown["First Seen"], shown["Count"]) == ("11m", "50m", 7)
    assert cells(EVENT, to_events_v1(series)) == shown


def test_two_views_of_one_event() -> None:
    obj = event(apiVersion="v1", kind="Event", count=2, reportingComponent="kubelet")
    view = to_events_v1(obj)
    assert view["apiVersion"] == "events.k8s.io/v1"
    assert view["note"] == obj["message"]
    assert view["regarding"] == obj["involvedObject"]
    assert view["deprecatedCount"] == 2
    assert view["reportingController"] == "kubelet"
    assert "message" not in view
    assert from_events_v1(view) == obj


def test_event_faults() -> None:
    assert faults(CORE_EVENT, event()) == []
    assert faults(CORE_EVENT, put(event(), "involvedObject.namespace", "other")) == [
        'involvedObject.namespace: Invalid value: "other": does not match event.namespace'
    ]
    now = "2026-01-01T00:00:00.000000Z"
    assert faults(CORE_EVENT, event(eventTime=now, reportingInstance="n")) == [
        "reportingController: Required value",
        'reportingController: Invalid value: "": name part must be non-empty',
        "reportingController: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must "
        "start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation "
        "is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        "action: Required value",
    ]
    strict = to_events_v1(event(eventTime=now, reportingComponent="k", reportingInstance="n", action="a"))
    assert faults(EVENT, strict) == ['source: Invalid value: "": needs to be unset']
    strict.pop("deprecatedSource")
    assert faults(EVENT, strict) == []
    assert faults(EVENT, {**strict, "note": "x"}, strict) == [
        'message: Invalid value: "x": field is immutable'
    ]
    assert faults(EVENT, {**strict, "series": {"count": 1}}, strict) == [
        'series.count: Invalid value: "": should be at least 2',
        "series.lastObservedTime: Required value",
    ]


def test_every_kind_is_declared_once() -> None:
    assert len({kind.resource for kind in KINDS}) == len(KINDS) == 27
    for kind in KINDS:
        assert kind.singular == kind.name.lower()
        assert kind.struct.name == kind.name
        assert sum(column.format == "name" for column in kind.columns) == 1
        assert (kind.validate_status is None) or kind.has_status


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.resource.group}.{kind.name}")
def test_an_empty_object_has_faults_but_breaks_nothing(kind: Kind) -> None:
    obj = made(kind, {"metadata": {"name": "a"}})
    for error in kind.validate(obj, None):
        assert error.path
    kind.validate(obj, made(kind, obj))
    for column in kind.columns:
        column.value(obj)
    for get in kind.selectable_fields.values():
        assert isinstance(get(obj), str)
    again = made(kind, obj)
    assert again == obj
