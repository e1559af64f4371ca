"""What becomes of nodes: ranges of addresses, silence, taints; and of the Pods on them."""

import datetime
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.controllers.nodeipam import RangeFull, allocate, plan, pod_cidrs
from buoy.controllers.nodelifecycle import health
from buoy.controllers.podgc import disrupted
from buoy.controllers.tainteviction import eviction_time

from .objects import NOW, ago, metadata, pod

CLUSTER = ipaddress.ip_network("10.244.0.0/16")


def test_the_lowest_free_range_is_given():
    used = [ipaddress.ip_network(text) for text in ("10.244.0.0/24", "10.244.2.0/24", "10.0.0.0/24")]
    assert str(allocate(CLUSTER, 24, used)) == "10.244.1.0/24"
    assert str(allocate(CLUSTER, 24, [ipaddress.ip_network("10.244.0.0/17")])) == "10.244.128.0/24"
    assert str(allocate(ipaddress.ip_network("fd00::/48"), 64, [])) == "fd00::/64"


def test_a_full_range_says_so():
    with pytest.raises(RangeFull):
        allocate(CLUSTER, 24, [ipaddress.ip_network("10.0.0.0/8")])
    with pytest.raises(RangeFull):
        allocate(ipaddress.ip_network("10.0.0.0/24"), 24, [ipaddress.ip_network("10.0.0.128/25")])


def test_two_families():
    clusters = [(CLUSTER, 24), (ipaddress.ip_network("fd00::/48"), 64)]
    assert [str(each) for each in plan(clusters, [])] == ["10.244.0.0/24", "fd00::/64"]


def test_ranges_of_a_node():
    assert pod_cidrs({"spec": {"podCIDR": "10.0.0.0/24"}}) == [ipaddress.ip_network("10.0.0.0/24")]
    assert pod_cidrs({"spec": {"podCIDRs": ["what", "10.0.0.0/24"]}}) == [ipaddress.ip_network("10.0.0.0/24")]
    assert pod_cidrs({}) == []


@given(st.integers(1, 16))
def test_no_two_nodes_share_a_range(count):
    cluster = ipaddress.ip_network("10.244.0.0/20")
    given_out = []
    for _ in range(count):
        given_out.append(allocate(cluster, 24, given_out))
    assert len(set(given_out)) == count
    assert all(each.subnet_of(cluster) for each in given_out)


def node(name="node-1", ready="True", taints=(), zone="", **spec):
    conditions = []
    if ready:
        conditions = [
            {
                "type": "Ready",
                "status": ready,
                "lastHeartbeatTime": ago(60),
                "lastTransitionTime": ago(600),
            }
        ]
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    return {
        "metadata": metadata(name, labels=labels),
        "spec": {"taints": list(taints), **spec},
        "status": {"conditions": conditions},
    }


def test_a_silent_node_is_unknown():
    found = {each["type"]: each for each in health.gone_quiet(node(), NOW)}
    ready = found["Ready"]
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "Unknown",
        "NodeStatusUnknown",
        "Kubelet stopped posting node status.",
    )
    assert (ready["lastHeartbeatTime"], ready["lastTransitionTime"]) == (ago(60), ago(0))
    assert found["PIDPressure"]["reason"] == "NodeStatusNeverUpdated"
    assert found["PIDPressure"]["message"] == "Kubelet never posted node status."
    silent = node()
    silent["status"]["conditions"] = list(found.values())
    assert health.gone_quiet(silent, NOW) is None


NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"


def shown(taints):
    return sorted(f"{each['key'].removeprefix('node.kubernetes.io/')}:{each['effect']}" for each in taints)


@pytest.mark.parametrize(
    ("ready", "may_evict", "before", "expected"),
    [
        ("True", True, [], []),
        ("False", True, [], ["not-ready:NoExecute", "not-ready:NoSchedule"]),
        ("Unknown", True, [], ["unreachable:NoExecute", "unreachable:NoSchedule"]),
        ("Unknown", False, [], ["unreachable:NoSchedule"]),
        # It has been given up already: only the name of the reason changes, at once.
        ("Unknown", False, [(NOT_READY, "NoExecute")], ["unreachable:NoExecute", "unreachable:NoSchedule"]),
        ("True", False, [(UNREACHABLE, "NoExecute"), (UNREACHABLE, "NoSchedule")], []),
        # Just registered, nothing reported yet.
        ("", True, [(NOT_READY, "NoSchedule")], ["not-ready:NoSchedule"]),
        ("True", True, [("dedicated", "NoSchedule")], ["dedicated:NoSchedule"]),
    ],
)
def test_taints_follow_readiness(ready, may_evict, before, expected):
    subject = node(ready=ready, taints=[{"key": key, "effect": effect} for key, effect in before])
    found = health.wanted_taints(subject, may_evict=may_evict, now=NOW)
    assert shown(found) == expected
    assert all(("timeAdded" in each) or each["effect"] == "NoSchedule" for each in found if not before)
    again = node(ready=ready, taints=found)
    assert health.same_taints(health.wanted_taints(again, may_evict=False, now=NOW), found)


def test_taints_follow_pressure_and_cordon():
    subject = node(unschedulable=True)
    subject["status"]["conditions"].append({"type": "DiskPressure", "status": "True"})
    assert shown(health.wanted_taints(subject, may_evict=True, now=NOW)) == [
        "disk-pressure:NoSchedule",
        "unschedulable:NoSchedule",
    ]


@pytest.mark.parametrize(
    ("bad", "good", "state"),
    [
        (0, 3, health.Zone.NORMAL),
        (2, 1, health.Zone.NORMAL),  # two are never a disruption
        (3, 3, health.Zone.NORMAL),
        (3, 2, health.Zone.PARTIAL),
        (1, 0, health.Zone.FULL),
    ],
)
def test_states_of_a_zone(bad, good, state):
    nodes = [node(str(number), "Unknown", zone="a") for number in range(bad)]
    nodes += [node(str(number), zone="a") for number in range(good)]
    found = health.zones([*nodes, node("else", zone="b")], 0.55)
    assert found["/a"] == health.ZoneState(state, bad + good)
    assert found["/b"].state is health.Zone.NORMAL


def test_nodes_are_given_up_at_a_pace():
    pace = health.Pace()
    assert pace.wait(0.1, 100) == 0
    pace.take(100)
    assert pace.wait(0.1, 104) == 6
    assert pace.wait(0.1, 111) == 0


def tolerant(*tolerations):
    return pod("p", spec={"tolerations": list(tolerations)})


TAINT = {"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": ago(100)}
OTHER = {"key": "other", "value": "v", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("tolerations", "taints", "seconds"),
    [
        ([], [TAINT], 0),
        ([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 300}], [TAINT], 200),
        ([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 50}], [TAINT], -50),
        ([{"key": UNREACHABLE, "operator": "Exists"}], [TAINT], None),
        ([{"operator": "Exists"}], [TAINT, OTHER], None),
        ([{"key": "other", "value": "v", "tolerationSeconds": 10}], [OTHER], 10),
        ([{"key": "other", "value": "w", "tolerationSeconds": 10}], [OTHER], 0),
        (
            [
                {"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 300},
                {"key": "other", "operator": "Exists", "tolerationSeconds": 30},
            ],
            [TAINT, OTHER],
            30,
        ),
        ([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoSchedule"}], [TAINT], 0),
        ([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": -1}], [TAINT], 0),
    ],
)
def test_when_a_pod_has_to_leave(tolerations, taints, seconds):
    expected = None if seconds is None else NOW + datetime.timedelta(seconds=seconds)
    assert eviction_time(tolerant(*tolerations), taints, NOW) == expected


def test_why_a_pod_goes_is_said_once():
    subject = pod("p")
    patch = disrupted(subject, "DeletionByPodGC", "PodGC: node no longer exists", failed=True)
    assert patch["phase"] == "Failed"
    assert [each["type"] for each in patch["conditions"]] == ["Ready", "DisruptionTarget"]
    subject["status"] |= patch
    assert disrupted(subject, "DeletionByPodGC", "PodGC: node no longer exists", failed=True) is None
    assert "phase" not in disrupted(pod("q"), "DeletionByTaintManager", "x", failed=False)
