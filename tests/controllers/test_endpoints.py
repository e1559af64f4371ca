from buoy.controllers import endpoints as subject
from buoy.controllers import endpointslicemirroring as mirroring
from buoy.controllers.endpointslice.packing import plan as pack
from buoy.controllers.triggertime import TriggerTimes

from .objects import ago, metadata, pod
from .test_endpointslice import service


def at(number, **more):
    ip = f"10.244.{number // 250}.{number % 250 + 1}"
    return pod(f"p{number}", status={"podIP": ip, "podIPs": [{"ip": ip}]}, **more)


def unready(number):
    made = at(number)
    made["status"]["conditions"] = []
    return made


def test_ready_and_not():
    found, truncated = subject.subsets(service(), [at(1), at(2), unready(3)])
    assert not truncated
    assert [
        [address["ip"] for address in found[0]["addresses"]],
        [address["ip"] for address in found[0]["notReadyAddresses"]],
        found[0]["ports"],
    ] == [
        ["10.244.0.2", "10.244.0.3"],
        ["10.244.0.4"],
        [{"name": "http", "protocol": "TCP", "port": 8080}],
    ]
    assert found[0]["addresses"][0] == {
        "ip": "10.244.0.2",
        "nodeName": "node-1",
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "p1", "uid": "uid-p1"},
    }


def test_terminating_pods_are_left_out():
    going = at(1)
    going["metadata"]["deletionTimestamp"] = ago(1)
    assert subject.subsets(service(), [going]) == ([], False)
    assert subject.subsets(service(publishNotReadyAddresses=True), [going])[0]


def test_headless_without_ports():
    found, _ = subject.subsets(service(clusterIP="None", ports=[]), [at(1)])
    assert "ports" not in found[0]
    assert subject.subsets(service(ports=[{"port": 80, "targetPort": "nowhere"}]), [at(1)]) == ([], False)


def test_over_capacity_keeps_the_ready():
    pods = [at(number) for number in range(700)] + [unready(number) for number in range(700, 1400)]
    found, truncated = subject.subsets(service(), pods)
    assert truncated
    assert (len(found[0]["addresses"]), len(found[0]["notReadyAddresses"])) == (700, 300)
    found, truncated = subject.subsets(service(), [at(number) for number in range(1001)])
    assert truncated
    assert len(found[0]["addresses"]) == 1000
    found, truncated = subject.subsets(service(), [*map(at, range(1001)), unready(1001)])
    assert truncated
    assert "notReadyAddresses" not in found[0]


def test_plan_writes_only_what_differs():
    first = subject.plan(service(), [at(1)], None, ago(10))
    assert first["metadata"]["labels"] == {
        "team": "a",
        "endpoints.kubernetes.io/managed-by": "endpoint-controller",
    }
    assert first["metadata"]["annotations"] == {"endpoints.kubernetes.io/last-change-trigger-time": ago(10)}
    assert subject.plan(service(), [at(1)], first, ago(5)) is None
    many = subject.plan(service(), [at(number) for number in range(1001)], first, "")
    assert many["metadata"]["annotations"] == {"endpoints.kubernetes.io/over-capacity": "truncated"}
    assert subject.plan(service(), [at(number) for number in range(1001)], many, "") is None
    alike = service()
    alike["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    assert subject.plan(alike, [at(1)], first, "") is None  # a user's word does not make it headless
    headless = subject.plan(service(clusterIP="None"), [at(1)], first, "")
    assert headless["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_trigger_times():
    times = TriggerTimes()
    web = service()
    one = at(1)
    assert times.next(web, [one]) == web["metadata"]["creationTimestamp"]
    assert times.next(web, [one]) == ""
    changed = at(1)
    changed["status"]["conditions"] = [{"type": "Ready", "status": "False", "lastTransitionTime": ago(30)}]
    other = at(2)
    other["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": ago(20)}]
    assert times.next(web, [changed, other]) == ago(30)


def by_hand(**more):
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": metadata("web", **more),
        "subsets": [
            {
                "addresses": [{"ip": "192.0.2.1", "nodeName": "n"}, {"ip": "2001:db8::1"}],
                "notReadyAddresses": [{"ip": "192.0.2.2"}],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            }
        ],
    }


def test_endpoints_kept_by_hand_are_mirrored():
    found = {each.address_type: each for each in mirroring.groups(by_hand(), 1000)}
    assert [
        (each["addresses"], each["conditions"], each.get("nodeName"))
        for each in found["IPv4"].endpoints.values()
    ] == [(["192.0.2.1"], {"ready": True}, "n"), (["192.0.2.2"], {"ready": False}, None)]
    assert len(found["IPv6"].endpoints) == 1
    assert found["IPv4"].ports == [{"name": "http", "protocol": "TCP", "port": 80}]
    assert sum(len(each.endpoints) for each in mirroring.groups(by_hand(), 2)) == 2
    assert [mirroring.skipped(by_hand(), limit) for limit in (1000, 2)] == [0, 1]


def test_the_mirror_carries_labels_and_owner():
    endpoints = by_hand(
        labels={"a": "b"}, annotations={"c": "d", "kubectl.kubernetes.io/last-applied-configuration": ""}
    )
    todo = pack(mirroring.template(endpoints), mirroring.groups(endpoints, 1000), [], 100)
    made = next(each for each in todo.create if each["addressType"] == "IPv4")
    assert made["metadata"]["labels"] == {
        "a": "b",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    }
    assert made["metadata"]["annotations"] == {"c": "d"}
    assert made["metadata"]["ownerReferences"][0]["kind"] == "Endpoints"


def test_what_is_not_mirrored():
    plain = {"spec": {}}
    assert mirroring.is_mirrored(by_hand(), plain)
    assert not mirroring.is_mirrored(by_hand(), service())
    assert not mirroring.is_mirrored(
        by_hand(labels={"endpointslice.kubernetes.io/skip-mirror": "true"}), plain
    )
    leader = {"control-plane.alpha.kubernetes.io/leader": "x"}
    assert not mirroring.is_mirrored(by_hand(annotations=leader), plain)
