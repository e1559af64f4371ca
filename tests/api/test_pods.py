from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api import pods
from buoy.api.meta import Object


def container(name: str = "c", **fields: Any) -> Object:
    return {"name": name, "image": "a", **fields}


def asks(cpu: str, memory: str = "0", limit: bool = False) -> Object:
    amounts = {"cpu": cpu, "memory": memory}
    return {"resources": {"requests": amounts, **({"limits": amounts} if limit else {})}}


def pod(*containers: Object, **spec: Any) -> Object:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}}


@pytest.mark.parametrize(
    ("obj", "cpu"),
    [
        (pod(container()), None),
        (pod(container(**asks("100m")), container(**asks("0.2"))), "0.3"),
        (pod(container(**asks("1")), initContainers=[container("i", **asks("3"))]), "3"),
        (pod(container(**asks("2")), initContainers=[container("i", **asks("1"))]), "2"),
        (
            pod(container(**asks("1")), initContainers=[container("s", restartPolicy="Always", **asks("1"))]),
            "2",
        ),
        (
            pod(
                container(**asks("1")),
                initContainers=[
                    container("s", restartPolicy="Always", **asks("1")),
                    container("i", **asks("2")),
                ],
            ),
            "3",
        ),
        (
            pod(
                container(**asks("1")),
                initContainers=[
                    container("i", **asks("2")),
                    container("s", restartPolicy="Always", **asks("1")),
                ],
            ),
            "2",
        ),
        (pod(container(**asks("1")), overhead={"cpu": "250m"}), "1.25"),
        (pod(container(**asks("1")), resources={"requests": {"cpu": "4"}}), "4"),
    ],
)
def test_requests(obj: Object, cpu: str | None) -> None:
    assert pods.requests(obj).get("cpu") == (None if cpu is None else Decimal(cpu))


def test_limits_count_overhead_only_where_there_is_a_limit() -> None:
    obj = pod(container(resources={"limits": {"cpu": "1"}}), overhead={"cpu": "1", "memory": "1Gi"})
    assert pods.limits(obj) == {"cpu": Decimal(2)}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (pod(container()), "BestEffort"),
        (pod(container(**asks("1", "1Gi", limit=True))), "Guaranteed"),
        (pod(container(**asks("1", "1Gi", limit=True)), container("d")), "Burstable"),
        (pod(container(**asks("1"))), "Burstable"),
        (pod(container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1"}})), "Burstable"),
        (pod(container(resources={"limits": {"example.com/gpu": "1"}})), "BestEffort"),
        (pod(container(), resources=asks("1", "1Gi", limit=True)["resources"]), "Guaranteed"),
    ],
)
def test_qos_class(obj: Object, expected: str) -> None:
    assert pods.qos_class(obj) == expected


def test_conditions_and_phases() -> None:
    obj = pod(container())
    assert not pods.is_ready(obj)
    assert pods.is_active(obj)
    obj["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    assert pods.is_ready(obj)
    obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not pods.is_active(obj)
    assert pods.is_terminal({"status": {"phase": "Succeeded"}})


def test_ports() -> None:
    obj = pod(
        container(ports=[{"name": "dns", "containerPort": 53, "protocol": "UDP", "hostPort": 53}]),
        initContainers=[
            container("s", restartPolicy="Always", ports=[{"name": "http", "containerPort": 80}])
        ],
    )
    assert pods.named_port(obj, 8080) == 8080
    assert pods.named_port(obj, "dns", "UDP") == 53
    assert pods.named_port(obj, "dns") is None
    assert pods.named_port(obj, "http") == 80
    assert pods.host_ports(obj) == {("0.0.0.0", "UDP", 53)}


def test_addresses_and_restarts() -> None:
    obj = pod(container(), initContainers=[container("i"), container("s", restartPolicy="Always")])
    obj["status"] = {
        "podIP": "10.0.0.1",
        "containerStatuses": [{"name": "c", "restartCount": 2}],
        "initContainerStatuses": [{"name": "i", "restartCount": 5}, {"name": "s", "restartCount": 1}],
    }
    assert pods.ips(obj) == ["10.0.0.1"]
    assert pods.restarts(obj) == 3
    assert pods.container_status(obj, "s") == {"name": "s", "restartCount": 1}
    assert pods.container_status(obj, "x") is None
    assert pods.service_variable_prefix("my-service") == "MY_SERVICE"


json = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(each) for each in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(max_size=5), json, max_size=4))
def test_the_template_hash_does_not_depend_on_the_order_of_keys(template: Object) -> None:
    found = pods.template_hash(template)
    assert found == pods.template_hash(reversed_keys(template))
    assert len(found) == 10
    assert set(found) <= set(pods.SAFE_ALPHABET)
    assert found == pods.template_hash(template, 0)
    assert found != pods.template_hash(template, 1)
    assert found != pods.template_hash({**template, "one more": 1})
