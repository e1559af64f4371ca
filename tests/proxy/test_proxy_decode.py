"""From API objects to facts."""

import pytest

from buoy.proxy import decode
from buoy.proxy.decode import Endpoint, Node, Service, ServicePort, SlicePort
from buoy.proxy.model import Family


def service(status=None, labels=None, **spec):
    spec = {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.10",
        "clusterIPs": ["10.96.0.10"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        **spec,
    }
    metadata = {"namespace": "default", "name": "web", "labels": labels or {}}
    return decode.service({"metadata": metadata, "spec": spec, "status": status or {}})


def test_plain_service():
    assert service() == Service("default/web", ("10.96.0.10",), (ServicePort("http", "TCP", 80, 0),))


@pytest.mark.parametrize(
    "changes",
    [
        {"clusterIP": "None", "clusterIPs": ["None"]},
        {"type": "ExternalName", "clusterIP": "", "clusterIPs": []},
        {"clusterIP": "", "clusterIPs": []},
        {"labels": {"service.kubernetes.io/service-proxy-name": "other"}},
    ],
    ids=["headless", "external name", "no address yet", "another proxy's"],
)
def test_not_for_this_proxy(changes):
    assert service(**changes) is None


INGRESS = {
    "loadBalancer": {
        "ingress": [
            {"ip": "203.0.113.1"},
            {"ip": "203.0.113.2", "ipMode": "VIP"},
            {"ip": "203.0.113.3", "ipMode": "Proxy"},
            {"hostname": "lb.example.com"},
        ]
    }
}


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"clusterIPs": ["10.96.0.10", "FD00:0::0A"]}, "cluster_ips", ("10.96.0.10", "fd00::a")),
        ({"clusterIPs": None}, "cluster_ips", ("10.96.0.10",)),
        ({"externalIPs": ["192.0.2.7"]}, "external_ips", ("192.0.2.7",)),
        (
            {"type": "LoadBalancer", "status": INGRESS},
            "load_balancer_ips",
            ("203.0.113.1", "203.0.113.2"),
        ),
        ({"type": "ClusterIP", "status": INGRESS}, "load_balancer_ips", ()),
        (
            {"type": "LoadBalancer", "loadBalancerSourceRanges": [" 192.0.2.9/24"]},
            "source_ranges",
            ("192.0.2.0/24",),
        ),
        ({"internalTrafficPolicy": "Local"}, "internal_local", True),
        ({"type": "NodePort", "externalTrafficPolicy": "Local"}, "external_local", True),
        ({"type": "ClusterIP", "externalTrafficPolicy": "Local"}, "external_local", False),
        ({"externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.7"]}, "external_local", True),
        ({"sessionAffinity": "ClientIP"}, "affinity_seconds", 10800),
        (
            {
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 7}},
            },
            "affinity_seconds",
            7,
        ),
        ({"sessionAffinity": "None"}, "affinity_seconds", 0),
        (
            {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000},
            "health_check_node_port",
            31000,
        ),
        (
            {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "healthCheckNodePort": 31000},
            "health_check_node_port",
            0,
        ),
        (
            {"ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 53}]},
            "ports",
            (ServicePort("", "UDP", 53, 30053), ServicePort("", "TCP", 53, 0)),
        ),
    ],
)
def test_service_fields(changes, field, expected):
    assert getattr(service(**changes), field) == expected


def endpoint_slice(**changes):
    obj = {
        "metadata": {
            "namespace": "default",
            "name": "web-abc",
            "labels": {"kubernetes.io/service-name": "web"},
            "annotations": {},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": [],
    }
    obj.update(changes)
    return decode.endpoint_slice(obj)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"addresses": ["10.244.1.2"]}, Endpoint("10.244.1.2")),
        (
            {"addresses": ["10.244.1.2"], "conditions": {"ready": None, "serving": None}},
            Endpoint("10.244.1.2"),
        ),
        (
            {
                "addresses": ["10.244.1.2", "10.244.1.9"],
                "conditions": {"ready": False, "serving": True, "terminating": True},
                "nodeName": "node-1",
            },
            Endpoint("10.244.1.2", False, True, True, "node-1"),
        ),
        (
            {
                "addresses": ["10.244.1.2"],
                "hints": {"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "node-1"}]},
            },
            Endpoint("10.244.1.2", zone_hints=frozenset("ab"), node_hints=frozenset({"node-1"})),
        ),
    ],
)
def test_endpoint(entry, expected):
    assert endpoint_slice(endpoints=[entry]).endpoints == (expected,)


def test_slice():
    piece = endpoint_slice(
        metadata={
            "namespace": "default",
            "name": "web-abc",
            "labels": {"kubernetes.io/service-name": "web"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:01.5Z"},
        },
        ports=[{"name": None, "port": 80}, {"name": "any", "port": None}],
    )
    assert (piece.key, piece.service, piece.family) == ("default/web-abc", "default/web", Family.IPV4)
    assert piece.ports == (SlicePort("", "TCP", 80),)
    assert piece.triggered == 1767225601.5


def test_slice_of_names_or_of_nobody():
    assert endpoint_slice(addressType="FQDN") is None
    assert endpoint_slice(metadata={"namespace": "default", "name": "x"}) is None


def test_nonsense_in_the_annotation_is_not_fatal():
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": "yesterday"}
    labels = {"kubernetes.io/service-name": "web"}
    metadata = {"namespace": "default", "name": "x", "labels": labels, "annotations": annotations}
    assert endpoint_slice(metadata=metadata).triggered == 0


@pytest.mark.parametrize("address", ["10.244.1", "10.244.01.2", "10.244.1.2 -j ACCEPT", "fd00::zz"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError):
        endpoint_slice(endpoints=[{"addresses": [address]}])


def test_node():
    obj = {
        "metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "a"}},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"]},
        "status": {
            "addresses": [
                {"type": "Hostname", "address": "node-1"},
                {"type": "ExternalIP", "address": "198.51.100.1"},
                {"type": "InternalIP", "address": "192.168.1.80"},
            ]
        },
    }
    assert decode.node(obj) == Node("node-1", ("192.168.1.80",), ("10.244.1.0/24", "fd00:10:244:1::/64"), "a")
    assert decode.node({"metadata": {"name": "n"}}) == Node("n")
