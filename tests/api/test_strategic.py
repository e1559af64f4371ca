from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api.models import apiextensions_v1, apps_v1, core_v1
from buoy.api.schema import struct_of
from buoy.api.strategic import BadPatch, merge

POD = struct_of(core_v1.Pod)
SERVICE = struct_of(core_v1.Service)
DEPLOYMENT = struct_of(apps_v1.Deployment)


def containers(*names: str, **images: str) -> list[dict[str, Any]]:
    return [{"name": name, "image": images.get(name, name)} for name in names]


def patched(present: list[Any], patch: dict[str, Any]) -> list[Any]:
    result: list[Any] = merge({"spec": {"containers": present}}, {"spec": patch}, POD)["spec"]["containers"]
    return result


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"containers": [{"name": "b", "image": "new"}]}, containers("a", "b", b="new")),
        ({"containers": [{"name": "c", "image": "c"}]}, containers("c", "a", "b")),
        ({"containers": [{"name": "a", "$patch": "delete"}]}, containers("b")),
        ({"containers": [{"$patch": "replace"}, {"name": "z", "image": "z"}]}, containers("z")),
        (
            {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]},
            containers("b", "a"),
        ),
        (
            {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}],
                "containers": [{"name": "c", "image": "c"}],
            },
            containers("c", "a", "b"),
        ),
        (
            {
                "$setElementOrder/containers": [{"name": "a"}, {"name": "c"}],
                "containers": [{"name": "b", "$patch": "delete"}, {"name": "c", "image": "c"}],
            },
            containers("a", "c"),
        ),
        ({"containers": [{"name": "a", "image": None}]}, [{"name": "a"}, {"name": "b", "image": "b"}]),
    ],
)
def test_keyed_list(patch: dict[str, Any], expected: list[Any]) -> None:
    assert patched(containers("a", "b"), patch) == expected


def test_ports_of_a_service_are_keyed_by_number() -> None:
    old = {"spec": {"ports": [{"port": 80, "nodePort": 30080, "name": "web"}]}}
    new = merge(old, {"spec": {"ports": [{"port": 80, "name": "http"}]}}, SERVICE)
    assert new == {"spec": {"ports": [{"port": 80, "nodePort": 30080, "name": "http"}]}}


def test_atomic_list_is_replaced() -> None:
    old = {"spec": {"tolerations": [{"key": "a"}]}}
    assert merge(old, {"spec": {"tolerations": [{"key": "b"}]}}, POD) == {
        "spec": {"tolerations": [{"key": "b"}]}
    }


def test_primitive_set() -> None:
    old = {"metadata": {"finalizers": ["a", "b"]}}
    assert merge(old, {"metadata": {"finalizers": ["c"]}}, POD)["metadata"]["finalizers"] == ["c", "a", "b"]
    removed = merge(old, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}, POD)
    assert removed["metadata"]["finalizers"] == ["b"]


def test_retain_keys_switch_the_strategy() -> None:
    old = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert merge(old, patch, DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_map_directives() -> None:
    old = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    replaced = merge(old, {"metadata": {"labels": {"$patch": "replace", "c": "3"}}}, POD)
    assert replaced == {"metadata": {"labels": {"c": "3"}}}
    assert merge(old, {"metadata": {"labels": {"a": None}}}, POD) == {"metadata": {"labels": {"b": "2"}}}
    assert merge(old, {"metadata": {"labels": {"$patch": "delete"}}}, POD) == {"metadata": {"labels": {}}}


@pytest.mark.parametrize(
    "patch",
    [
        {"$patch": "sideways"},
        {"spec": {"containers": [{"image": "no name"}]}},
        {"spec": {"containers": ["a"]}},
        {"spec": {"$retainKeys": ["a"], "b": 1}},
    ],
)
def test_contradictions(patch: dict[str, Any]) -> None:
    with pytest.raises(BadPatch):
        merge({"spec": {"containers": containers("a")}}, patch, POD)


names = st.lists(st.sampled_from("abcdef"), unique=True)


@given(names, names)
def test_merging_by_key_keeps_each_name_once(present: list[str], wanted: list[str]) -> None:
    old = containers(*present)
    new = patched(old, {"containers": containers(*wanted, **dict.fromkeys(wanted, "new"))})
    found = [container["name"] for container in new]
    assert sorted(found) == sorted(set(present) | set(wanted))
    # What the patch does not name keeps its order; so does what it does.
    assert [name for name in found if name not in wanted] == [name for name in present if name not in wanted]
    assert [name for name in found if name in wanted] == wanted
    assert {container["name"]: container["image"] for container in new} == {
        **{name: name for name in present},
        **dict.fromkeys(wanted, "new"),
    }
    assert patched(new, {"containers": containers(*wanted, **dict.fromkeys(wanted, "new"))}) == new


@given(names)
def test_an_empty_patch_changes_nothing(present: list[str]) -> None:
    old = {"metadata": {"name": "x"}, "spec": {"containers": containers(*present)}}
    assert merge(old, {}, POD) == old


def test_types_in_maps_are_known() -> None:
    """The schemas in a definition: each has lists of its own."""
    rules = [{"rule": "a", "message": "x"}, {"rule": "b"}]
    schema = {"properties": {"spec": {"type": "object", "x-kubernetes-validations": rules}}}
    patch = {"properties": {"spec": {"x-kubernetes-validations": [{"rule": "a", "message": "y"}]}}}
    merged = merge(schema, patch, struct_of(apiextensions_v1.JSONSchemaProps))
    assert merged["properties"]["spec"]["x-kubernetes-validations"] == [
        {"rule": "a", "message": "y"},
        {"rule": "b"},
    ]
