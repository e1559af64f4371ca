from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api.apply import Conflicts, Manager, apply, fields_of, read, show, track, value_at, write
from buoy.api.models import core_v1
from buoy.api.schema import struct_of

POD = struct_of(core_v1.Pod)


def pod(**containers: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": name, "image": image} for name, image in containers.items()]},
    }


def by(name: str) -> Manager:
    return Manager(name, "Apply", "v1", time="2026-01-01T00:00:00Z")


def applied(
    live: dict[str, Any], wanted: dict[str, Any], name: str, *, force: bool = False
) -> dict[str, Any]:
    import copy

    return apply(copy.deepcopy(live), wanted, POD, by(name), force=force, normalise=copy.deepcopy)


def images(obj: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["image"] for each in obj.get("spec", {}).get("containers", ())}


def test_fields() -> None:
    obj = {
        "apiVersion": "v1",
        "metadata": {"name": "p", "uid": "u", "labels": {"a": "b"}, "finalizers": ["f"]},
        "spec": {
            "nodeSelector": {"x": "y"},
            "tolerations": [{"key": "k"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "ports": [{"containerPort": 80}]}],
        },
    }
    assert sorted(map(show, fields_of(obj, POD))) == [
        '.metadata.finalizers[="f"]',
        ".metadata.labels.a",
        '.spec.containers[name="c"]',
        '.spec.containers[name="c"].name',
        '.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"]',
        '.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].containerPort',
        ".spec.nodeSelector",
        ".spec.tolerations",
        '.spec.volumes[name="v"]',
        '.spec.volumes[name="v"].emptyDir',
        '.spec.volumes[name="v"].name',
    ]


names = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz"), max_size=4)


@given(names)
def test_managed_fields_are_read_as_they_were_written(containers: dict[str, str]) -> None:
    fields = fields_of(pod(**containers), POD)
    (entry,) = write([Manager("m", "Update", "v1", "scale", "2026-01-01T00:00:00Z", fields)]) or [None]
    if entry is None:
        assert not fields
    else:
        (manager,) = read([entry])
        assert manager.fields == fields
        assert manager.identity == ("m", "Update", "v1", "scale")


@given(names)
def test_every_field_of_an_object_is_found_in_it(containers: dict[str, str]) -> None:
    obj = pod(**containers)
    for path in fields_of(obj, POD):
        assert value_at(obj, path) not in (None, {})


@given(st.lists(names.filter(bool), min_size=1, max_size=5))
def test_the_last_apply_of_one_manager_counts(history: list[dict[str, str]]) -> None:
    live: dict[str, Any] = {"metadata": {"name": "p", "managedFields": write([by("nobody")])}}
    # An object that was applied from its beginning has nobody else's fields.
    live["metadata"]["managedFields"] = [
        {"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsV1": {"f:status": {}}}
    ]
    for containers in history:
        live = applied(live, pod(**containers), "one")
    assert images(live) == history[-1]


@given(names.filter(bool), names.filter(bool))
def test_two_managers(first: dict[str, str], second: dict[str, str]) -> None:
    start = {
        "metadata": {
            "name": "p",
            "managedFields": [
                {"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsV1": {"f:status": {}}}
            ],
        }
    }
    live = applied(start, pod(**first), "one")
    disputed = {name for name in first.keys() & second.keys() if first[name] != second[name]}
    if disputed:
        with pytest.raises(Conflicts) as caught:
            applied(live, pod(**second), "two")
        assert {show(path) for _, path in caught.value.found} == {
            f'.spec.containers[name="{name}"].image' for name in disputed
        }
    both = applied(live, pod(**second), "two", force=True)
    assert images(both) == {**first, **second}
    # When the first gives up, the second's stay; and the other way round, what was not taken over.
    only = applied(both, {"metadata": {"name": "p"}}, "one")
    assert images(only) == second


def test_track_gives_a_changed_field_to_who_changed_it() -> None:
    old = pod(a="x", b="x")
    old["metadata"]["managedFields"] = write([Manager("one", "Apply", "v1", fields=fields_of(old, POD))])
    new = pod(a="y")
    entries = read(track(new, old, POD, Manager("ed", "Update", "v1", time="2026-01-01T00:00:00Z")))
    found = {entry.name: {show(path) for path in entry.fields} for entry in entries}
    assert found == {
        "ed": {'.spec.containers[name="a"].image'},
        "one": {'.spec.containers[name="a"]', '.spec.containers[name="a"].name'},
    }
    assert track(new, pod(a="x"), POD, by("ed")) == []
