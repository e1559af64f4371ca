"""What a node takes and what it refuses, beside what it has already: a table."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from buoy.api.meta import Object
from buoy.kubelet.admission import refusal

ALLOCATABLE = {"cpu": Decimal(2), "memory": Decimal(1000), "pods": Decimal(3), "example.com/nic": Decimal(1)}
NODE: Object = {"metadata": {"name": "n", "labels": {"disk": "fast"}}}
NOT_HERE = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
NO_PORT = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"


def pod(*ports: Object, **requests: str) -> Object:
    container: Object = {"name": "c", "ports": list(ports), "resources": {"requests": requests}}
    return {"metadata": {"name": "p"}, "spec": {"containers": [container]}}


def port(number: int, **more: Any) -> Object:
    return {"containerPort": 80, "hostPort": number, "protocol": "TCP", **more}


def short(resource: str, requested: int, used: int, capacity: int) -> str:
    return (
        f"Node didn't have enough resource: {resource}, requested: {requested}, used: {used},"
        f" capacity: {capacity}"
    )


@pytest.mark.parametrize(
    ("new", "others", "reason", "message"),
    [
        (pod(), [], "", ""),
        (pod(cpu="500m"), [pod(cpu="1500m")], "", ""),
        (pod(cpu="501m"), [pod(cpu="1500m")], "OutOfcpu", short("cpu", 501, 1500, 2000)),
        (pod(memory="1001"), [], "OutOfmemory", short("memory", 1001, 0, 1000)),
        (pod(), [pod(memory="2000")], "", ""),
        (pod(**{"example.com/gpu": "1"}), [], "", ""),  # no node's, so perhaps the cluster's
        (pod(**{"example.com/nic": "2"}), [], "OutOfexample.com/nic", short("example.com/nic", 2, 0, 1)),
        (pod(), [pod()] * 3, "OutOfpods", short("pods", 1, 3, 3)),
        (pod(port(80)), [pod(port(80))], "NodePorts", NO_PORT),
        (pod(port(80, hostIP="127.0.0.1")), [pod(port(80))], "NodePorts", NO_PORT),
        (pod(port(80, hostIP="127.0.0.1")), [pod(port(80, hostIP="127.0.0.2"))], "", ""),
        (pod(port(80, protocol="UDP")), [pod(port(80))], "", ""),
        (pod(port(81)), [pod(port(80))], "", ""),
    ],
)
def test_what_a_node_takes(new: Object, others: list[Object], reason: str, message: str) -> None:
    found = refusal(new, others, NODE, ALLOCATABLE)
    assert ((found.reason, found.message) if found else ("", "")) == (reason, message)


def required(key: str, *values: str) -> Object:
    terms = [{"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


@pytest.mark.parametrize(
    ("spec", "reason", "message"),
    [
        ({"nodeSelector": {"disk": "fast"}}, "", ""),
        ({"nodeSelector": {"disk": "slow"}}, "NodeAffinity", NOT_HERE),
        ({"affinity": required("disk", "fast", "slow")}, "", ""),
        ({"affinity": required("disk", "slow")}, "NodeAffinity", NOT_HERE),
        ({"os": {"name": "linux"}}, "", ""),
        (
            {"os": {"name": "windows"}, "nodeSelector": {"disk": "slow"}},
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        ),
        ({"securityContext": {"supplementalGroupsPolicy": "Merge"}}, "", ""),
        (
            {"securityContext": {"supplementalGroupsPolicy": "Strict"}},
            "SupplementalGroupsPolicyNotSupported",
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        ),
    ],
)
def test_who_wants_to_be_elsewhere(spec: Object, reason: str, message: str) -> None:
    new = pod()
    new["spec"] |= spec
    found = refusal(new, [], NODE, ALLOCATABLE)
    assert ((found.reason, found.message) if found else ("", "")) == (reason, message)


@pytest.mark.parametrize(
    ("effect", "tolerations", "taken"),
    [
        ("NoSchedule", [], True),
        ("PreferNoSchedule", [], True),
        ("NoExecute", [], False),
        ("NoExecute", [{"key": "mine", "operator": "Exists"}], True),
        ("NoExecute", [{"key": "mine", "operator": "Exists", "effect": "NoSchedule"}], False),
    ],
)
def test_only_taints_that_evict_refuse(effect: str, tolerations: list[Object], taken: bool) -> None:
    new = pod()
    new["spec"]["tolerations"] = tolerations
    tainted = {**NODE, "spec": {"taints": [{"key": "mine", "effect": effect}]}}
    found = refusal(new, [], tainted, ALLOCATABLE)
    assert (found is None) == taken
    if found:
        why = "node(s) had taints that the pod didn't tolerate"
        assert (found.reason, found.message) == (
            "TaintToleration", f"Predicate TaintToleration failed: {why}"
        )  # fmt: skip
