import copy
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api.allocation import IPRange, PortRange
from buoy.api.meta import Object
from buoy.api.service import SERVICE
from buoy.api.service_allocation import ServiceAllocator
from buoy.api.status import StatusError


def service(name: str = "web", **spec: Any) -> Object:
    spec.setdefault("ports", [{"port": 80}])
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def allocator(*cidrs: str, last_port: int = 32767) -> ServiceAllocator:
    rng = random.Random(7)
    ranges = [IPRange(cidr, rng=rng) for cidr in cidrs or ("10.96.0.0/12",)]
    return ServiceAllocator(ranges, PortRange(30000, last_port, rng=rng))


def write(pool: ServiceAllocator, new: Object, old: Object | None = None) -> Object:
    """What the API server does with a Service, all but storing it."""
    new = copy.deepcopy(new)
    SERVICE.default(new)
    SERVICE.prepare(new, old)
    reservation = pool.reserve(new, old)
    errors = SERVICE.validate(new, old)
    if errors:
        reservation.rollback()
        raise AssertionError([str(error) for error in errors])
    reservation.commit()
    return new


def refused(pool: ServiceAllocator, new: Object, old: Object | None = None) -> StatusError:
    with pytest.raises(StatusError) as error:
        write(pool, new, old)
    return error.value


def held(pool: ServiceAllocator) -> tuple[int, int]:
    return sum(each.used for each in pool.ranges.values()), pool.ports.used


def test_single_stack() -> None:
    pool = allocator()
    created = write(pool, service())
    spec = created["spec"]
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert spec["clusterIP"] in pool.ranges["IPv4"]
    assert spec["ipFamilies"] == ["IPv4"]
    assert spec["ipFamilyPolicy"] == "SingleStack"
    assert held(pool) == (1, 0)
    pool.release(created)
    assert held(pool) == (0, 0)


def test_the_tutorials_mistakes() -> None:
    pool = allocator()
    outside = refused(pool, service("my-service", type="loadBalancer", clusterIP="10.0.171.12"))
    assert outside.code == 422
    assert outside.message == (
        'Service "my-service" is invalid: spec.clusterIPs: Invalid value: ["10.0.171.12"]: failed to '
        "allocate IP 10.0.171.12: the provided network does not match the current range"
    )
    low_port = refused(pool, service(type="NodePort", ports=[{"port": 80, "nodePort": 80}]))
    assert low_port.message == (
        'Service "web" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the '
        "valid range. The range of valid ports is 30000-32767"
    )
    assert held(pool) == (0, 0)
    first = write(pool, service(type="NodePort", ports=[{"port": 80, "nodePort": 30001}]))
    second = refused(pool, service("other", type="NodePort", ports=[{"port": 80, "nodePort": 30001}]))
    assert second.message == (
        'Service "other" is invalid: spec.ports[0].nodePort: Invalid value: 30001: '
        "provided port is already allocated"
    )
    taken = first["spec"]["clusterIP"]
    third = refused(pool, service("third", clusterIP=taken))
    assert third.message == (
        f'Service "third" is invalid: spec.clusterIPs: Invalid value: ["{taken}"]: failed to allocate IP '
        f"{taken}: provided IP is already allocated"
    )
    assert held(pool) == (1, 1)


def test_full_ranges() -> None:
    pool = allocator("10.0.0.0/30", last_port=30000)
    write(pool, service("a", type="NodePort"))
    error = refused(pool, service("b", type="NodePort"))
    assert error.code == 500
    assert error.message == "Internal error occurred: failed to allocate a nodePort: range is full"
    assert held(pool) == (1, 1)
    write(pool, service("c"))
    error = refused(pool, service("d"))
    assert error.message == "Internal error occurred: failed to allocate a serviceIP: range is full"


def test_one_node_port_for_both_protocols_of_a_port() -> None:
    pool = allocator()
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "metrics", "port": 9153},
    ]
    created = write(pool, service(type="NodePort", ports=ports))
    udp, tcp, metrics = (port["nodePort"] for port in created["spec"]["ports"])
    assert udp == tcp != metrics
    assert held(pool) == (1, 2)


def test_load_balancer_without_node_ports_but_with_a_health_check_port() -> None:
    pool = allocator()
    created = write(
        pool,
        service(type="LoadBalancer", allocateLoadBalancerNodePorts=False, externalTrafficPolicy="Local"),
    )
    assert "nodePort" not in created["spec"]["ports"][0]
    assert created["spec"]["healthCheckNodePort"] in pool.ports
    assert held(pool) == (1, 1)
    fresh = allocator()
    assert fresh.rebuild([created]) == []
    assert held(fresh) == (1, 1)
    fresh.release(created)
    assert held(fresh) == (0, 0)
    changed = copy.deepcopy(created)
    changed["spec"]["externalTrafficPolicy"] = "Cluster"
    changed = write(pool, changed, created)
    assert "healthCheckNodePort" not in changed["spec"]
    assert held(pool) == (1, 0)


def test_headless() -> None:
    pool = allocator()
    selecting = write(pool, service(clusterIP="None", selector={"a": "b"}))
    assert selecting["spec"]["clusterIPs"] == ["None"]
    assert selecting["spec"]["ipFamilies"] == ["IPv4"]
    alone = write(pool, service(clusterIP="None", ports=[]))
    assert alone["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    assert alone["spec"]["ipFamilyPolicy"] == "RequireDualStack"
    assert held(pool) == (0, 0)


def test_changes_of_type() -> None:
    pool = allocator()
    cluster_ip = write(pool, service())
    node_port = copy.deepcopy(cluster_ip)
    node_port["spec"]["type"] = "NodePort"
    node_port = write(pool, node_port, cluster_ip)
    assert node_port["spec"]["ports"][0]["nodePort"] in pool.ports
    assert node_port["spec"]["clusterIP"] == cluster_ip["spec"]["clusterIP"]
    # A client that leaves out what it was given keeps it.
    again = write(pool, service(type="NodePort"), node_port)
    assert again["spec"] == node_port["spec"]
    back = copy.deepcopy(node_port)
    back["spec"]["type"] = "ClusterIP"
    back = write(pool, back, node_port)
    assert "nodePort" not in back["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in back["spec"]
    assert held(pool) == (1, 0)
    away = copy.deepcopy(back)
    away["spec"] |= {"type": "ExternalName", "externalName": "www.example.com"}
    away = write(pool, away, back)
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & away["spec"].keys()
    assert held(pool) == (0, 0)
    home = copy.deepcopy(away)
    home["spec"]["type"] = "ClusterIP"
    home = write(pool, home, away)
    assert home["spec"]["clusterIP"] in pool.ranges["IPv4"]


def test_dual_stack_comes_and_goes() -> None:
    pool = allocator("10.96.0.0/16", "fd00::/108")
    single = write(pool, service())
    assert single["spec"]["ipFamilies"] == ["IPv4"]
    dual = copy.deepcopy(single)
    dual["spec"]["ipFamilyPolicy"] = "PreferDualStack"
    dual = write(pool, dual, single)
    assert dual["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    assert len(dual["spec"]["clusterIPs"]) == 2
    assert dual["spec"]["clusterIP"] == single["spec"]["clusterIP"]
    assert held(pool) == (2, 0)
    less = copy.deepcopy(dual)
    less["spec"]["ipFamilyPolicy"] = "SingleStack"
    less = write(pool, less, dual)
    assert less["spec"]["clusterIPs"] == [single["spec"]["clusterIP"]]
    assert held(pool) == (1, 0)
    only_six = write(pool, service("six", ipFamilies=["IPv6"]))
    assert only_six["spec"]["clusterIP"] in pool.ranges["IPv6"]
    chosen = write(pool, service("chosen", clusterIP="fd00::7"))
    assert chosen["spec"]["ipFamilies"] == ["IPv6"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"ipFamilyPolicy": "RequireDualStack"},
            'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": '
            "this cluster is not configured for dual-stack services",
        ),
        (
            {"ipFamilies": ["IPv6"]},
            'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster',
        ),
        (
            {"clusterIP": "fd00::1"},
            'spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster',
        ),
        (
            {"ipFamilies": ["IPv4", "IPv6"]},
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or "
            "'PreferDualStack' when multiple IP families are specified",
        ),
        (
            {"clusterIP": "10.96.0.300"},
            'spec.clusterIPs[0]: Invalid value: "10.96.0.300": '
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
    ],
)
def test_families_that_the_cluster_lacks(spec: Object, message: str) -> None:
    pool = allocator()
    assert refused(pool, service(**spec)).message == f'Service "web" is invalid: {message}'
    assert held(pool) == (0, 0)


def test_a_rolled_back_update_leaves_everything_with_the_old_service() -> None:
    pool = allocator()
    old = write(pool, service(type="NodePort"))
    new = copy.deepcopy(old)
    new["spec"]["type"] = "ClusterIP"
    SERVICE.prepare(new, old)
    reservation = pool.reserve(new, old)
    assert pool.ports.is_used(old["spec"]["ports"][0]["nodePort"])
    reservation.rollback()
    assert held(pool) == (1, 1)


types = st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"])


@given(st.lists(st.tuples(st.integers(0, 3), types, st.integers(29999, 30006), st.booleans()), max_size=30))
def test_no_address_or_port_belongs_to_two_services(steps: list[tuple[int, str, int, bool]]) -> None:
    pool = allocator("10.0.0.0/29", last_port=30005)
    stored: dict[int, Object] = {}
    for key, kind, port, delete in steps:
        if delete and key in stored:
            pool.release(stored.pop(key))
            continue
        wanted = {"port": 80} if kind in ("ClusterIP", "ExternalName") else {"port": 80, "nodePort": port}
        new = service(str(key), type=kind, ports=[wanted], externalName="a.example")
        new["metadata"]["name"] = f"s{key}"
        try:
            stored[key] = write(pool, new, stored.get(key))
        except StatusError as error:
            assert error.code in (422, 500)
        ips = [ip for each in stored.values() for ip in each["spec"].get("clusterIPs") or ()]
        ports = [
            p["nodePort"] for each in stored.values() for p in each["spec"]["ports"] if p.get("nodePort")
        ]
        assert len(ips) == len(set(ips))
        assert len(ports) == len(set(ports))
        assert held(pool) == (len(ips), len(ports))
    fresh = allocator("10.0.0.0/29", last_port=30005)
    assert fresh.rebuild(stored.values()) == []
    assert held(fresh) == held(pool)


def test_rebuild_tells_of_conflicts() -> None:
    pool = allocator()
    first = write(pool, service("a", type="NodePort"))
    fresh = allocator()
    complaints = fresh.rebuild([first, first])
    assert complaints == [
        f"cluster IP {first['spec']['clusterIP']} is out of range or held twice",
        f"node port {first['spec']['ports'][0]['nodePort']} is out of range or held twice",
    ]
