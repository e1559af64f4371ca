import copy
from typing import Any

import pytest

from buoy.api.meta import Object
from buoy.api.service import SERVICE
from buoy.api.status import invalid_object

from .kinds import faults, made

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
ONLY_LB = "may only be used when `type` is 'LoadBalancer'"


def service(**spec: Any) -> Object:
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": [{"port": 80}], **spec}}


def test_defaults() -> None:
    assert made(SERVICE, service(selector={"a": "b"}))["spec"] == {
        "selector": {"a": "b"},
        "type": "ClusterIP",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
    }
    balanced = made(SERVICE, service(type="LoadBalancer", sessionAffinity="ClientIP"))
    assert balanced["spec"]["externalTrafficPolicy"] == "Cluster"
    assert balanced["spec"]["allocateLoadBalancerNodePorts"] is True
    assert balanced["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    assert balanced["status"] == {"loadBalancer": {}}
    external = made(SERVICE, service(type="ExternalName", externalName="a.example", ports=[]))
    assert external["spec"] == {
        "type": "ExternalName",
        "externalName": "a.example",
        "ports": [],
        "sessionAffinity": "None",
    }
    assert made(SERVICE, service(externalIPs=["192.168.1.80"]))["spec"]["externalTrafficPolicy"] == "Cluster"
    named = made(SERVICE, service(ports=[{"port": 80, "targetPort": "http"}]))
    assert named["spec"]["ports"][0]["targetPort"] == "http"
    assert made(SERVICE, service(clusterIP="None"))["spec"]["clusterIPs"] == ["None"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        (
            {"type": "loadBalancer"},
            [
                'spec.type: Unsupported value: "loadBalancer": supported values: '
                '"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'
            ],
        ),
        ({"ports": []}, ["spec.ports: Required value"]),
        ({"ports": [], "clusterIP": "None"}, []),
        (
            {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]},
            [
                'spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,'
                '"Port":80,"TargetPort":0,"NodePort":0}'
            ],
        ),
        ({"ports": [{"name": "a", "port": 53}, {"name": "b", "port": 53, "protocol": "UDP"}]}, []),
        (
            {"ports": [{"port": 80}, {"port": 81}]},
            ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
        ),
        (
            {"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]},
            ['spec.ports[1].name: Duplicate value: "a"'],
        ),
        (
            {"ports": [{"name": "A", "port": 80}]},
            [f'spec.ports[0].name: Invalid value: "A": {LABEL}'],
        ),
        (
            {"ports": [{"port": 0, "targetPort": 1}]},
            ["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
        ),
        (
            {"ports": [{"port": 80, "targetPort": 70000}]},
            ["spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
        ),
        (
            {"ports": [{"port": 80, "targetPort": "80"}]},
            ['spec.ports[0].targetPort: Invalid value: "80": must contain at least one letter (a-z)'],
        ),
        (
            {"ports": [{"port": 80, "protocol": "tcp"}]},
            [
                'spec.ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"',
            ],
        ),
        (
            {"ports": [{"port": 80, "appProtocol": "a b"}]},
            [
                'spec.ports[0].appProtocol: Invalid value: "a b": name part must consist of alphanumeric '
                "characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. "
                "'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
                "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ],
        ),
        (
            {"ports": [{"port": 80, "nodePort": 30001}]},
            ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            {
                "type": "NodePort",
                "ports": [
                    {"name": "a", "port": 1, "nodePort": 30001},
                    {"name": "b", "port": 2, "nodePort": 30001},
                ],
            },
            ["spec.ports[1].nodePort: Duplicate value: 30001"],
        ),
        (
            {"type": "NodePort", "clusterIP": "None"},
            ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
        ),
        ({"clusterIP": "10.96.0.300"}, [f'spec.clusterIPs[0]: Invalid value: "10.96.0.300": {IP}']),
        (
            {"clusterIP": "10.96.000.1"},
            ['spec.clusterIPs[0]: Invalid value: "10.96.000.1": must not have leading 0s'],
        ),
        (
            {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.2"]},
            ['spec.clusterIPs: Invalid value: ["10.96.0.2"]: first value must match `clusterIP`'],
        ),
        (
            {"clusterIPs": ["10.96.0.2"]},
            [
                'spec.clusterIPs: Invalid value: ["10.96.0.2"]: '
                "must be empty when `clusterIP` is not specified"
            ],
        ),
        (
            {"clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2", "10.96.0.3"]},
            [
                'spec.clusterIPs: Invalid value: ["10.96.0.2","10.96.0.3"]: '
                "may specify no more than one IP for each IP family"
            ],
        ),
        (
            {"clusterIP": "None", "clusterIPs": ["None", "10.96.0.3"]},
            [
                'spec.clusterIPs: Invalid value: ["None","10.96.0.3"]: '
                "'None' must be the first and only value"
            ],
        ),
        (
            {"clusterIP": "10.96.0.2", "ipFamilies": ["IPv6"]},
            [
                'spec.clusterIPs[0]: Invalid value: "10.96.0.2": '
                "expected an IPv6 value as indicated by `ipFamilies[0]`"
            ],
        ),
        (
            {"ipFamilies": ["IPv4", "IPv4", "ipv6"]},
            [
                'spec.ipFamilies[1]: Duplicate value: "IPv4"',
                'spec.ipFamilies[2]: Unsupported value: "ipv6": supported values: "IPv4", "IPv6"',
            ],
        ),
        (
            {"ipFamilyPolicy": "Dual"},
            [
                'spec.ipFamilyPolicy: Unsupported value: "Dual": supported values: '
                '"PreferDualStack", "RequireDualStack", "SingleStack"'
            ],
        ),
        (
            {"sessionAffinity": "Cookie"},
            ['spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"'],
        ),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
            [
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: "
                "must be greater than 0 and less than 86400"
            ],
        ),
        (
            {
                "externalIPs": [
                    "1.2.3",
                    "127.0.0.1",
                    "0.0.0.0",
                    "169.254.1.1",
                    "fe80::1",
                    "224.0.0.5",
                    "1.2.3.4",
                ]
            },
            [
                f'spec.externalIPs[0]: Invalid value: "1.2.3": {IP}',
                'spec.externalIPs[1]: Invalid value: "127.0.0.1": '
                "may not be in the loopback range (127.0.0.0/8, ::1/128)",
                'spec.externalIPs[2]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)',
                'spec.externalIPs[3]: Invalid value: "169.254.1.1": '
                "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
                'spec.externalIPs[4]: Invalid value: "fe80::1": '
                "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
                'spec.externalIPs[5]: Invalid value: "224.0.0.5": '
                "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
            ],
        ),
        ({"type": "ExternalName", "ports": []}, ["spec.externalName: Required value"]),
        ({"type": "ExternalName", "externalName": "www.example.com."}, []),
        (
            {"type": "ExternalName", "externalName": "a", "clusterIP": "10.96.0.1", "ipFamilies": ["IPv4"]},
            [
                "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
                "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
            ],
        ),
        (
            {"loadBalancerSourceRanges": ["10.0.0.0/8"]},
            [f"spec.LoadBalancerSourceRanges: Forbidden: {ONLY_LB}"],
        ),
        (
            {
                "type": "LoadBalancer",
                "loadBalancerSourceRanges": [" 10.0.0.0/8 ", "10.0.0.1/8", "10.0.0.0/33", "010.0.0.0/8"],
            },
            [
                'spec.LoadBalancerSourceRanges[1]: Invalid value: "10.0.0.1/8": '
                "must not have bits set beyond the prefix length",
                'spec.LoadBalancerSourceRanges[2]: Invalid value: "10.0.0.0/33": '
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                'spec.LoadBalancerSourceRanges[3]: Invalid value: "010.0.0.0/8": '
                "must not have leading 0s in IP or prefix length",
            ],
        ),
        (
            {"allocateLoadBalancerNodePorts": False, "loadBalancerClass": "a"},
            [
                f"spec.allocateLoadBalancerNodePorts: Forbidden: {ONLY_LB}",
                f"spec.loadBalancerClass: Forbidden: {ONLY_LB}",
            ],
        ),
        (
            {"externalTrafficPolicy": "Local"},
            [
                'spec.externalTrafficPolicy: Invalid value: "Local": '
                "may only be set for externally-accessible services"
            ],
        ),
        (
            {"type": "NodePort", "externalTrafficPolicy": "local"},
            [
                'spec.externalTrafficPolicy: Unsupported value: "local": '
                'supported values: "Cluster", "Local"',
            ],
        ),
        (
            {"internalTrafficPolicy": "Near"},
            ['spec.internalTrafficPolicy: Unsupported value: "Near": supported values: "Cluster", "Local"'],
        ),
        (
            {"healthCheckNodePort": 30000},
            [
                "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is "
                "'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            ],
        ),
        (
            {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
            ["spec.healthCheckNodePort: Required value"],
        ),
        (
            {"trafficDistribution": "Anywhere"},
            [
                'spec.trafficDistribution: Unsupported value: "Anywhere": supported values: '
                '"PreferClose", "PreferSameNode", "PreferSameZone"'
            ],
        ),
        ({"trafficDistribution": "PreferSameZone"}, []),
    ],
)
def test_faults(spec: Object, expected: list[str]) -> None:
    assert faults(SERVICE, service(**spec)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1st", []),
        ("a.b", ['metadata.name: Invalid value: "a.b": must not contain dots']),
        ("My", [f'metadata.name: Invalid value: "My": {LABEL}']),
        ("a" * 64, [f'metadata.name: Invalid value: "{"a" * 64}": must be no more than 63 bytes']),
    ],
)
def test_names(name: str, expected: list[str]) -> None:
    obj = service()
    obj["metadata"]["name"] = name
    assert faults(SERVICE, obj) == expected


def test_the_whole_answer() -> None:
    obj = made(SERVICE, service(ports=[{"port": 80}, {"port": 80, "protocol": "UDP"}]))
    status = invalid_object("", "Service", "web", SERVICE.validate(obj, None)).to_object()
    assert status == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'Service "web" is invalid: [spec.ports[0].name: Required value, '
        "spec.ports[1].name: Required value]",
        "reason": "Invalid",
        "details": {
            "name": "web",
            "kind": "Service",
            "causes": [
                {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.ports[0].name"},
                {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.ports[1].name"},
            ],
        },
        "code": 422,
    }


def stored(**spec: Any) -> Object:
    spec = {"clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", **spec}
    return made(SERVICE, service(**spec))


FIXED = "may not change once set"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"clusterIP": "10.96.0.8"}, [f'spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: {FIXED}']),
        ({}, {"clusterIP": ...}, []),
        ({}, {"clusterIP": ..., "clusterIPs": ...}, []),
        ({}, {"clusterIPs": ...}, []),
        (
            {"clusterIP": "None"},
            {"clusterIP": "10.96.0.8"},
            [
                f'spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: {FIXED}',
            ],
        ),
        (
            {},
            {"ipFamilies": ["IPv6"]},
            [
                f'spec.ipFamilies[0]: Invalid value: ["IPv6"]: {FIXED}',
                'spec.clusterIPs[0]: Invalid value: "10.96.0.7": '
                "expected an IPv6 value as indicated by `ipFamilies[0]`",
            ],
        ),
        (
            {
                "clusterIPs": ["10.96.0.7", "fd00::7"],
                "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "PreferDualStack",
            },
            {"clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"]},
            [
                'spec.ipFamilyPolicy: Invalid value: "PreferDualStack": '
                "must be set to 'SingleStack' when releasing the secondary clusterIP",
                'spec.ipFamilyPolicy: Invalid value: "PreferDualStack": '
                "must be set to 'SingleStack' when releasing the secondary ipFamily",
            ],
        ),
        (
            {"type": "LoadBalancer", "loadBalancerClass": "example.com/a"},
            {"loadBalancerClass": "example.com/b"},
            [f'spec.loadBalancerClass: Invalid value: "example.com/b": {FIXED}'],
        ),
        (
            {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30100},
            {"healthCheckNodePort": 30101},
            ["spec.healthCheckNodePort: Forbidden: field is immutable"],
        ),
        ({}, {"type": "ExternalName", "externalName": "a.example"}, []),
        ({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]}, {"type": "ClusterIP"}, []),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]},
            {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 30002}]},
            ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        ({"externalIPs": ["010.1.1.1"]}, {"externalIPs": ["010.1.1.1", "1.2.3.4"]}, []),
    ],
)
def test_updates(before: Object, after: Object, expected: list[str]) -> None:
    old = stored(**before)
    new = copy.deepcopy(old)
    for field, value in after.items():
        if value is ...:
            new["spec"].pop(field)
        else:
            new["spec"][field] = value
    assert faults(SERVICE, new, old) == expected


def test_ports_keep_their_node_ports_by_name() -> None:
    ports = [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}]
    old = stored(type="NodePort", ports=ports)
    new = copy.deepcopy(old)
    new["spec"]["ports"] = [
        {"name": "b", "port": 82},
        {"name": "c", "port": 80, "nodePort": 30001},
        {"name": "a", "port": 83},
    ]
    kept = made(SERVICE, new, old)["spec"]["ports"]
    assert [port.get("nodePort") for port in kept] == [30002, 30001, None]


def test_annotations_of_source_ranges() -> None:
    note = "service.beta.kubernetes.io/load-balancer-source-ranges"
    obj = service(type="LoadBalancer")
    obj["metadata"]["annotations"] = {note: "10.0.0.0/8, x"}
    assert faults(SERVICE, obj) == [
        f'metadata.annotations[{note}]: Invalid value: "x": '
        "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
    ]


@pytest.mark.parametrize(
    ("kind", "ingress", "expected"),
    [
        ("LoadBalancer", {"ip": "192.168.1.251", "ipMode": "VIP"}, []),
        (
            "LoadBalancer",
            {"ip": "192.168.1.251"},
            ["status.loadBalancer.ingress[0].ipMode: Required value: must be specified when `ip` is set"],
        ),
        (
            "LoadBalancer",
            {"ip": "1.2.3", "ipMode": "Vip"},
            [
                f'status.loadBalancer.ingress[0].ip: Invalid value: "1.2.3": {IP}',
                'status.loadBalancer.ingress[0].ipMode: Unsupported value: "Vip": '
                'supported values: "Proxy", "VIP"',
            ],
        ),
        (
            "LoadBalancer",
            {"hostname": "1.2.3.4", "ipMode": "VIP"},
            [
                "status.loadBalancer.ingress[0].ipMode: Forbidden: may not be specified when `ip` is not set",
                'status.loadBalancer.ingress[0].hostname: Invalid value: "1.2.3.4": '
                "must be a DNS name, not an IP address",
            ],
        ),
        (
            "ClusterIP",
            {"ip": "1.2.3.4"},
            ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"],
        ),
    ],
)
def test_status(kind: str, ingress: Object, expected: list[str]) -> None:
    obj = stored(type=kind)
    new = {**obj, "status": {"loadBalancer": {"ingress": [ingress]}}}
    assert SERVICE.validate_status is not None
    assert [str(error) for error in SERVICE.validate_status(new, obj)] == expected


@pytest.mark.parametrize(
    ("spec", "status", "cells"),
    [
        ({}, {}, ["web", "ClusterIP", "10.96.0.7", "<none>", "80/TCP", "<none>"]),
        (
            {
                "type": "NodePort",
                "ports": [{"port": 8080, "nodePort": 30001}],
                "selector": {"b": "c", "a": "b"},
            },
            {},
            ["web", "NodePort", "10.96.0.7", "<none>", "8080:30001/TCP", "a=b,b=c"],
        ),
        ({"clusterIP": "None"}, {}, ["web", "ClusterIP", "None", "<none>", "80/TCP", "<none>"]),
        ({"type": "LoadBalancer"}, {}, ["web", "LoadBalancer", "10.96.0.7", "<pending>", "80/TCP", "<none>"]),
        (
            {"type": "LoadBalancer", "externalIPs": ["1.2.3.4"]},
            {"loadBalancer": {"ingress": [{"ip": "192.168.1.252"}, {"ip": "192.168.1.251"}]}},
            ["web", "LoadBalancer", "10.96.0.7", "192.168.1.251,192.168.1.252,1.2.3.4", "80/TCP", "<none>"],
        ),
        (
            {"type": "ExternalName", "externalName": "www.example.com", "ports": [], "clusterIP": ""},
            {},
            ["web", "ExternalName", "<none>", "www.example.com", "<none>", "<none>"],
        ),
        (
            {"externalIPs": ["192.168.1.80"]},
            {},
            ["web", "ClusterIP", "10.96.0.7", "192.168.1.80", "80/TCP", "<none>"],
        ),
    ],
)
def test_columns(spec: Object, status: Object, cells: list[str]) -> None:
    obj = {**stored(**spec), "status": status}
    shown = {column.name: column.value(obj) for column in SERVICE.columns}
    assert [column.name for column in SERVICE.columns if column.wide] == ["Selector"]
    assert [
        shown[name] for name in ("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Selector")
    ] == cells
