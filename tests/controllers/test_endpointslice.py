"""Endpoints of Pods, and how they are packed into slices."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buoy.api import meta
from buoy.controllers.endpointslice.controller import labels
from buoy.controllers.endpointslice.desired import Group, desired, endpoint_key
from buoy.controllers.endpointslice.packing import Template, plan
from buoy.controllers.endpointslice.slices import generate_name

from .objects import ago, metadata, pod


def service(**spec):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata("web", labels={"team": "a"}),
        "spec": {
            "clusterIP": "10.96.0.7",
            "ipFamilies": ["IPv4"],
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            **spec,
        },
    }


def zone(name):
    return {"node-1": "a", "node-2": "b", "node-3": ""}.get(name)


def only(groups):
    (group,) = groups
    return group


def one(subject, each):
    (endpoint,) = only(desired(subject, [each], zone)).endpoints.values()
    return endpoint


def test_an_endpoint():
    group = only(desired(service(), [pod("p")], zone))
    assert group.address_type == "IPv4"
    assert group.ports == [{"name": "http", "protocol": "TCP", "port": 8080}]
    assert list(group.endpoints.values()) == [
        {
            "addresses": ["10.244.0.2"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node-1",
            "zone": "a",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "p", "uid": "uid-p"},
        }
    ]


@pytest.mark.parametrize(
    ("ready", "going", "publish", "expected"),
    [
        (True, False, False, (True, True, False)),
        (False, False, False, (False, False, False)),
        (True, True, False, (False, True, True)),
        (False, True, False, (False, False, True)),
        (False, False, True, (True, False, False)),
        (True, True, True, (True, True, True)),
    ],
)
def test_conditions(ready, going, publish, expected):
    subject = pod("p", ready=ready)
    if going:
        subject["metadata"]["deletionTimestamp"] = ago(1)
    found = one(service(publishNotReadyAddresses=publish), subject)["conditions"]
    assert (found["ready"], found["serving"], found["terminating"]) == expected


@pytest.mark.parametrize(
    "each",
    [
        pod("p", status={"podIP": "", "podIPs": []}),
        pod("p", status={"phase": "Succeeded"}),
        pod("p", status={"phase": "Failed"}),
        pod("p", spec={"nodeName": "gone"}),
    ],
)
def test_what_is_no_endpoint(each):
    assert only(desired(service(), [each], zone)) == Group("IPv4", [], {})


def test_named_ports_that_differ_make_groups():
    def with_port(name, number):
        container = {"name": "web", "ports": [{"name": "http", "containerPort": number}]}
        return pod(name, spec={"containers": [container]}, status={"podIPs": [{"ip": f"10.244.0.{number}"}]})

    subject = service(ports=[{"port": 80, "targetPort": "http"}])
    groups = desired(subject, [with_port("a", 80), with_port("b", 81), with_port("c", 81), pod("d")], zone)
    found = {tuple(port["port"] for port in each.ports): len(each.endpoints) for each in groups}
    assert found == {(80,): 1, (81,): 2, (): 1}


def test_two_families():
    both = pod("p", status={"podIPs": [{"ip": "10.244.0.2"}, {"ip": "fd00::2"}]})
    subject = service(ipFamilies=["IPv6", "IPv4"])
    groups = desired(subject, [both, pod("q")], zone)
    assert {each.address_type: len(each.endpoints) for each in groups} == {"IPv4": 2, "IPv6": 1}
    assert {each.address_type: len(each.endpoints) for each in desired(subject, [], zone)} == {
        "IPv4": 0,
        "IPv6": 0,
    }


def test_host_names_are_for_pods_of_the_subdomain():
    named = pod("p", spec={"hostname": "web-0", "subdomain": "web"})
    assert one(service(), named)["hostname"] == "web-0"
    assert "hostname" not in one(service(), pod("p", spec={"hostname": "web-0", "subdomain": "other"}))


@pytest.mark.parametrize(
    ("distribution", "node", "ready", "hints"),
    [
        ("PreferClose", "node-1", True, {"forZones": [{"name": "a"}]}),
        ("PreferSameZone", "node-1", True, {"forZones": [{"name": "a"}]}),
        ("PreferSameNode", "node-2", True, {"forZones": [{"name": "b"}], "forNodes": [{"name": "node-2"}]}),
        ("PreferSameNode", "node-3", True, {"forNodes": [{"name": "node-3"}]}),
        ("PreferClose", "node-3", True, None),
        ("PreferClose", "node-1", False, None),
        (None, "node-1", True, None),
    ],
)
def test_hints(distribution, node, ready, hints):
    subject = service(**({"trafficDistribution": distribution} if distribution else {}))
    assert one(subject, pod("p", ready=ready, spec={"nodeName": node})).get("hints") == hints


def test_labels_of_a_slice():
    assert labels(service(clusterIP="None")) == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "service.kubernetes.io/headless": "",
    }
    assert "service.kubernetes.io/headless" not in labels(service())


def test_generated_names():
    assert generate_name("web") == "web-"


# Packing

TEMPLATE = Template("default", "web-", {"a": "b"}, {**meta.owner_reference(service())})
PORTS = [{"name": "", "protocol": "TCP", "port": 80}]


def endpoints(numbers, ready=True):
    made = [
        {
            "addresses": [f"10.244.{number // 250}.{number % 250 + 1}"],
            "conditions": {"ready": ready},
            "targetRef": {"name": f"p{number}", "uid": f"u{number}"},
        }
        for number in numbers
    ]
    return {endpoint_key(each): each for each in made}


class Slices:
    """The slices of one Service, as the API server would keep them."""

    def __init__(self, limit):
        self.limit = limit
        self.stored = {}
        self.made = 0

    def apply(self, *groups):
        todo = plan(TEMPLATE, groups, self.stored.values(), self.limit)
        for obj in todo.create:
            self.made += 1
            name = f"web-{self.made:04}"
            self.stored[name] = {**obj, "metadata": {**obj["metadata"], "name": name}}
        for obj in todo.update:
            assert obj["addressType"] == self.stored[meta.name(obj)]["addressType"]
            self.stored[meta.name(obj)] = obj
        for obj in todo.delete:
            del self.stored[meta.name(obj)]
        return len(todo.create) + len(todo.update) + len(todo.delete)

    def sizes(self):
        return sorted(len(each["endpoints"]) for each in self.stored.values())


def test_slices_hold_at_most_the_limit():
    slices = Slices(100)
    assert slices.apply(Group("IPv4", PORTS, endpoints(range(250)))) == 3
    assert slices.sizes() == [50, 100, 100]
    assert slices.apply(Group("IPv4", PORTS, endpoints(range(250)))) == 0


def test_one_change_is_one_write():
    slices = Slices(100)
    slices.apply(Group("IPv4", PORTS, endpoints(range(1000))))
    assert slices.apply(Group("IPv4", PORTS, endpoints(range(999)))) == 1
    assert slices.apply(Group("IPv4", PORTS, endpoints(range(1000)))) == 1
    found = endpoints(range(1000))
    key = next(iter(found))
    found[key] = {**found[key], "conditions": {"ready": False}}
    assert slices.apply(Group("IPv4", PORTS, found)) == 1


def test_a_replaced_pod_is_one_write():
    slices = Slices(100)
    slices.apply(Group("IPv4", PORTS, endpoints(range(300))))
    assert slices.apply(Group("IPv4", PORTS, endpoints([*range(299), 500]))) == 1


def test_a_service_without_endpoints_keeps_an_empty_slice():
    slices = Slices(100)
    assert slices.apply(Group("IPv4", [], {})) == 1
    assert slices.apply(Group("IPv4", [], {})) == 0
    slices.apply(Group("IPv4", PORTS, endpoints(range(1))))
    assert slices.sizes() == [1]
    assert slices.apply(Group("IPv4", [], {})) == 1
    (left,) = slices.stored.values()
    assert (left["endpoints"], left["ports"]) == ([], [])


def test_changed_ports_reuse_the_slice():
    slices = Slices(100)
    slices.apply(Group("IPv4", PORTS, endpoints(range(5))))
    assert (
        slices.apply(Group("IPv4", [{"name": "", "protocol": "TCP", "port": 81}], endpoints(range(5)))) == 1
    )
    assert len(slices.stored) == 1


def test_an_address_type_that_is_gone_goes():
    slices = Slices(100)
    slices.apply(Group("IPv4", PORTS, endpoints(range(5))), Group("IPv6", PORTS, endpoints(range(5))))
    assert slices.apply(Group("IPv4", PORTS, endpoints(range(5)))) == 1
    assert {each["addressType"] for each in slices.stored.values()} == {"IPv4"}


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    limit=st.integers(1, 12),
)
def test_every_endpoint_stands_in_exactly_one_slice(steps, limit):
    slices = Slices(limit)
    before = {}
    for first, second, ready in steps:
        groups = [
            Group("IPv4", PORTS, endpoints(first - second, ready)),
            Group("IPv4", [{"name": "x", "protocol": "UDP", "port": 1}], endpoints(second)),
        ]
        groups = [each for each in groups if each.endpoints] or [Group("IPv4", [], {})]
        writes = slices.apply(*groups)
        found = [
            (
                each["ports"][0]["port"] if each["ports"] else 0,
                endpoint_key(endpoint),
                endpoint["conditions"]["ready"],
            )
            for each in slices.stored.values()
            for endpoint in each["endpoints"]
        ]
        wanted = [
            (each.ports[0]["port"] if each.ports else 0, key, endpoint["conditions"]["ready"])
            for each in groups
            for key, endpoint in each.endpoints.items()
        ]
        assert sorted(found) == sorted(wanted)
        assert all(len(each["endpoints"]) <= limit for each in slices.stored.values())
        assert slices.stored
        assert slices.apply(*groups) == 0, "what is right is left alone"
        changed = len(set(found) ^ set(before))
        assert writes <= changed + 2, "no more writes than changes (and the empty slice's coming and going)"
        before = found
