"""The decision, by tables: what refuses a node, in what words, and what makes one better than another."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api.meta import Object
from buoy.scheduler.decide import Decision, schedule
from buoy.scheduler.filters import Refusal, refusals
from buoy.scheduler.state import ClusterState, PodInfo


def node(
    name: str, *, labels: dict[str, str] | None = None, taints: Any = (), cordoned: bool = False, **more: str
):
    allocatable = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    allocatable |= {key.replace("_", "-"): value for key, value in more.items()}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"taints": list(taints), "unschedulable": cordoned},
        "status": {"allocatable": allocatable},
    }


def pod(
    name: str = "p", *, owner: str = "", labels: Any = None, namespace: str = "default", **more: Any
) -> PodInfo:
    """*cpu*, *memory*, *hostPort* make its one container; anything else is of its spec."""
    requests = {key: more.pop(key) for key in ("cpu", "memory", "example") if key in more}
    if "example" in requests:
        requests["example.com/thing"] = requests.pop("example")
    container: Object = {"name": "c", "resources": {"requests": requests}}
    if "hostPort" in more:
        container["ports"] = [{"containerPort": 1, **more.pop("hostPort")}]
    metadata: Object = {"name": name, "namespace": namespace, "uid": name, "labels": labels or {}}
    if owner:
        metadata["ownerReferences"] = [
            {"uid": owner, "controller": True, "kind": "ReplicaSet", "name": owner}
        ]
    return PodInfo({"metadata": metadata, "spec": {"containers": [container], **more}})


def cluster(*nodes: Object, **placed: list[PodInfo]) -> ClusterState:
    state = ClusterState()
    for each in nodes:
        state.set_node(each["metadata"]["name"], each)
    for name, found in placed.items():
        for each in found:
            state.assume(each, name)
    return state


def decide(wanted: PodInfo, state: ClusterState) -> Decision:
    return schedule(wanted, state.nodes())


def affinity(*terms: Object) -> Object:
    return {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    }


UNFIT = "node(s) didn't match Pod's node affinity/selector"
NO_PORTS = "node(s) didn't have free ports for the requested pod ports"
TAINT = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}
DISK = {"key": "disk", "operator": "In", "values": ["ssd"]}
NO_DISK = {"key": "disk", "operator": "In", "values": ["none"]}


@pytest.mark.parametrize(
    ("wanted", "there", "reasons", "resolvable"),
    [
        (pod(), node("n", cordoned=True), ["node(s) were unschedulable"], False),
        (pod(nodeName="other"), node("n"), ["node(s) didn't match the requested node name"], False),
        (pod(), node("n", taints=[TAINT]), ["node(s) had untolerated taint(s)"], False),
        (pod(nodeSelector={"a": "b"}), node("n"), [UNFIT], False),
        (pod(affinity=affinity({"matchExpressions": [DISK]})), node("n"), [UNFIT], False),
        (pod(affinity=affinity({})), node("n"), [UNFIT], False),
        (pod(cpu="5"), node("n"), ["Insufficient cpu"], False),
        (pod(cpu="3500m", memory="7Gi"), node("n"), ["Insufficient cpu", "Insufficient memory"], True),
        (pod(example="1"), node("n"), ["Insufficient example.com/thing"], False),
        (pod(cpu="1"), node("n", pods="2"), ["Too many pods"], True),
        (pod(hostPort={"hostPort": 80}), node("n"), [NO_PORTS], True),
    ],
)
def test_refusals(wanted, there, reasons, resolvable):
    state = cluster(
        there, n=[pod("a", cpu="1", memory="2Gi"), pod("b", hostPort={"hostPort": 80, "hostIP": "10.0.0.1"})]
    )
    assert refusals(wanted, state.nodes()) == {"n": Refusal(tuple(reasons), resolvable)}


@pytest.mark.parametrize(
    "wanted",
    [
        pod(nodeName="n"),
        pod(tolerations=[{"key": "dedicated", "operator": "Exists"}]),
        pod(tolerations=[{"operator": "Exists"}]),
        pod(tolerations=[{"operator": "Exists"}], nodeSelector={"disk": "ssd"}),
        pod(affinity=affinity({"matchExpressions": [NO_DISK]}, {"matchExpressions": [DISK]})),
        pod(
            affinity=affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]})
        ),
        pod(affinity=affinity({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["3"]}]})),
        pod(hostPort={"hostPort": 80, "protocol": "UDP"}),
        pod(hostPort={"hostPort": 80, "hostIP": "10.0.0.2"}),
        pod(cpu="3", memory="6Gi"),
    ],
)
def test_what_fits(wanted):
    there = node(
        "n", labels={"disk": "ssd", "size": "5"}, taints=[TAINT] if wanted.spec.get("tolerations") else ()
    )
    state = cluster(
        there, n=[pod("a", cpu="1", memory="2Gi"), pod("b", hostPort={"hostPort": 80, "hostIP": "10.0.0.1"})]
    )
    assert decide(wanted, state).node == "n"


def test_a_cordon_can_be_tolerated():
    toleration = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}
    assert decide(pod(tolerations=[toleration]), cluster(node("n", cordoned=True))).node == "n"


def test_the_message():
    state = cluster(
        node("a", taints=[TAINT]),
        node("b"),
        node("c"),
        node("d", cordoned=True),
        b=[pod("x", cpu="3")],
        c=[pod("y", cpu="3")],
    )
    assert decide(pod(cpu="2"), state).message == (
        "0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, "
        "2 Insufficient cpu. no new claims to deallocate, preemption: 0/4 nodes are available: "
        "2 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    )
    assert decide(pod(cpu="2", preemptionPolicy="Never"), state).message.endswith(
        "preemption: not eligible due to preemptionPolicy=Never."
    )
    assert decide(pod(), cluster()).message == "no nodes available to schedule pods"


def test_three_pods_of_one_set_land_on_three_nodes():
    state = cluster(node("a"), node("b"), node("c"))
    for number in range(6):
        each = pod(f"p{number}", owner="rs")
        state.assume(each, decide(each, state).node)
    assert [len(each.pods) for each in state.nodes()] == [2, 2, 2]


def test_they_do_so_also_where_others_are():
    """A new set is spread by itself, not only by how full nodes are."""
    state = cluster(node("a"), node("b"), node("c"), a=[pod(f"x{number}") for number in range(5)])
    for number in range(3):
        each = pod(f"p{number}", owner="rs")
        state.assume(each, decide(each, state).node)
    assert [each.owners["rs"] for each in state.nodes()] == [1, 1, 1]


def test_zones_count_too():
    zones = {"a": "z1", "b": "z1", "c": "z1", "d": "z2"}
    state = cluster(
        *(node(name, labels={"topology.kubernetes.io/zone": zone}) for name, zone in zones.items())
    )
    for number in range(2):
        each = pod(f"p{number}", owner="rs")
        state.assume(each, decide(each, state).node)
    assert {zones[each.name] for each in state.nodes() if each.pods} == {"z1", "z2"}


def test_the_emptier_node_is_better():
    state = cluster(node("a"), node("b"), a=[pod("x", cpu="2", memory="2Gi")])
    assert decide(pod(cpu="1", memory="1Gi"), state).node == "b"


def test_balance_counts():
    state = cluster(
        node("a"), node("b"), a=[pod("x", cpu="2", memory="64Mi")], b=[pod("y", cpu="64m", memory="4Gi")]
    )
    assert decide(pod(cpu="64m", memory="3Gi"), state).node == "a"
    assert decide(pod(cpu="1900m", memory="64Mi"), state).node == "b"


def test_preferences():
    soft = {"key": "x", "effect": "PreferNoSchedule"}
    assert decide(pod(), cluster(node("a", taints=[soft]), node("b"))).node == "b"
    liked = {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [DISK]}}
            ]
        }
    }
    assert decide(pod(affinity=liked), cluster(node("a"), node("b", labels={"disk": "ssd"}))).node == "b"


def company(kind: str, strength: str, app: str, key: str = "kubernetes.io/hostname", **more: Any) -> Object:
    term = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key, **more}
    if strength == "preferred":
        return {
            kind: {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]
            }
        }
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


WEB, DB = {"app": "web"}, {"app": "db"}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (pod(affinity=company("podAffinity", "required", "db")), "a"),
        (pod(affinity=company("podAntiAffinity", "required", "db")), "b"),
        (pod(affinity=company("podAffinity", "preferred", "db")), "a"),
        (pod(affinity=company("podAntiAffinity", "preferred", "db")), "b"),
        (pod(labels=WEB, affinity=company("podAffinity", "required", "web")), "a"),  # the first of its set
        (pod(affinity=company("podAffinity", "required", "web")), None),
        (pod(namespace="other", affinity=company("podAffinity", "required", "db")), None),
        (
            pod(namespace="other", affinity=company("podAffinity", "required", "db", namespaces=["default"])),
            "a",
        ),
        (
            pod(namespace="other", affinity=company("podAffinity", "required", "db", namespaceSelector={})),
            "a",
        ),
        (pod(affinity=company("podAffinity", "required", "db", key="missing")), None),
        (pod(labels={"app": "loner"}), "a"),
    ],
)
def test_company(wanted, expected):
    lonely = pod("z", affinity=company("podAntiAffinity", "required", "loner"))
    state = cluster(node("a"), node("b"), a=[pod("x", labels=DB)], b=[lonely])
    assert decide(wanted, state).node == expected


def test_words_about_company():
    lonely = pod("z", labels=DB, affinity=company("podAntiAffinity", "required", "web"))
    state = cluster(node("a"), a=[lonely])
    assert (
        "node(s) didn't satisfy existing pods anti-affinity rules" in decide(pod(labels=WEB), state).message
    )
    assert (
        "node(s) didn't match pod anti-affinity rules"
        in decide(pod(affinity=company("podAntiAffinity", "required", "db")), state).message
    )
    assert (
        "node(s) didn't match pod affinity rules"
        in decide(pod(affinity=company("podAffinity", "required", "none")), state).message
    )


def spread(when: str = "DoNotSchedule", skew: int = 1, key: str = "zone", **more: Any) -> list[Object]:
    return [
        {
            "maxSkew": skew,
            "topologyKey": key,
            "whenUnsatisfiable": when,
            "labelSelector": {"matchLabels": WEB},
            **more,
        }
    ]


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        (spread(), "b"),
        (spread(skew=2), "b"),
        (spread(key="missing"), None),
        (spread("ScheduleAnyway"), "b"),
        (spread(minDomains=3), None),
    ],
)
def test_topology_spread(constraints, expected):
    state = cluster(
        node("a", labels={"zone": "1"}),
        node("b", labels={"zone": "2"}),
        a=[pod("x", labels=WEB), pod("y", labels=WEB)],
        b=[pod("z", labels=WEB)],
    )
    decision = decide(pod(labels=WEB, topologySpreadConstraints=constraints), state)
    assert decision.node == expected
    if constraints[0]["topologyKey"] == "missing":
        assert "topology spread constraints (missing required label)" in decision.message


def test_sums_follow_what_comes_and_goes():
    state = cluster(node("a"))
    (there,) = state.nodes()
    first, second = pod("x", cpu="1", hostPort={"hostPort": 80}, owner="rs"), pod("y", memory="1Gi")
    state.assume(first, "a")
    state.assume(second, "a")
    bound = {**first.obj, "spec": {**first.spec, "nodeName": "a"}}
    state.set_pod(bound)
    assert there.requested == {"cpu": 1000, "memory": 2**30}
    assert there.owners == {"rs": 1}
    state.give_up("x")
    assert "x" in there.pods, "it has been seen there"
    state.give_up("y")
    state.set_pod({**bound, "status": {"phase": "Succeeded"}})
    assert not there.pods
    assert not +there.requested
    assert (there.cpu_weight, there.memory_weight) == (0, 0)
    assert not there.ports
    assert not there.owners


def test_pods_of_a_node_not_seen_yet_count_when_it_comes():
    state = cluster()
    state.assume(pod("x", cpu="3"), "late")
    assert state.nodes() == []
    state.set_node("late", node("late"))
    assert decide(pod(cpu="2"), state).node is None
    state.remove_pod("x")
    assert decide(pod(cpu="2"), state).node == "late"


@given(
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 8)), max_size=12),
    st.integers(1, 4),
)
def test_no_node_is_ever_overcommitted(requests, count):
    state = cluster(*(node(f"n{number}", pods="4") for number in range(count)))
    placed: Counter[str] = Counter()
    for number, (cpu, memory) in enumerate(requests):
        each = pod(f"p{number}", cpu=f"{cpu}m", memory=f"{memory}Gi")
        decision = decide(each, state)
        if decision.node is None:
            assert len(decision.refusals) == count
        else:
            state.assume(each, decision.node)
            placed[decision.node] += 1
    for there in state.nodes():
        assert len(there.pods) == placed[there.name] <= 4
        assert there.requested["cpu"] <= 4000
        assert there.requested["memory"] <= 8 * 2**30
