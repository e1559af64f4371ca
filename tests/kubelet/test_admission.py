"""What a node takes and what it refuses, beside what it has already: a table."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from buoy.api.meta import Object
from buoy.kubelet.admission import refusal

ALLOCATABLE = {"cpu": Decimal(2), "memory": Decimal(1000), "pods": Decimal(3)}
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
        (pod(**{"example.com/gpu": "1"}), [], "OutOfexample.com/gpu", short("example.com/gpu", 1, 0, 0)),
        (pod(), [pod()] * 3, "OutOfpods", short("pods", 1, 3, 3)),
        (pod(port(80)), [pod(port(80))], "NodePorts", NO_PORT),
        (pod(port(80, hostIP="127.0.0.1")), [pod(port(80))], "NodePorts", NO_PORT),
        (pod(port(80, hostIP="127.0.0.1")), [pod(port(80, hostIP="127.0.0.2"))], "", ""),
        (pod(port(80, protocol="UDP")), [pod(port(80))], "", ""),
        (pod(port(81)), [pod(port(80))], "", ""),
    ],
)
def test_what_a_node_takes(new: Object, others: list[Object], reason: str, message: str) -> None:
    found = refusal(new, others, ALLOCATABLE)
    assert ((found.reason, found.message) if found else ("", "")) == (reason, message)
