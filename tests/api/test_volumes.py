# ruff: noqa: E501 - whole sentences are easier to compare
"""PersistentVolumes, their claims and classes: defaults, faults, columns; and which volume a claim gets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api.kind import Kind
from buoy.api.meta import Object
from buoy.api.persistentvolume import PERSISTENT_VOLUME
from buoy.api.persistentvolumeclaim import PERSISTENT_VOLUME_CLAIM
from buoy.api.pod import POD
from buoy.api.storageclass import STORAGE_CLASS
from buoy.api.volumes import (
    bound_volume,
    default_class,
    find_volume,
    is_claim_of,
    misfit,
    storage_for,
    storage_of,
)

from .kinds import faults, made, put

CLAIM: Object = {
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
AFFINITY: Object = {
    "required": {
        "nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]}]}
        ]
    }
}
VOLUME: Object = {
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/data"},
    }
}
CLASS: Object = {"provisioner": "rancher.io/local-path"}
MODES = '"ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"'


def cells(kind: Kind, obj: Object) -> list[Any]:
    return [column.value(obj) for column in kind.columns if column.name != "Age"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"spec.accessModes": []}, ["spec.accessModes: Required value: at least 1 access mode is required"]),
        (
            {"spec.accessModes": ["RWO"]},
            [f'spec.accessModes: Unsupported value: "RWO": supported values: {MODES}'],
        ),
        (
            {"spec.accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]},
            ["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
        ),
        ({"spec.resources": ...}, ["spec.resources[storage]: Required value"]),
        (
            {"spec.resources.requests.storage": "0"},
            ['spec.resources[storage]: Invalid value: "0": must be greater than zero'],
        ),
        (
            {"spec.volumeMode": "Tape"},
            ['spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"'],
        ),
        ({"spec.storageClassName": ""}, []),
    ],
)
def test_claim(change: Object, expected: list[str]) -> None:
    obj = CLAIM
    for path, value in change.items():
        obj = put(obj, path, value)
    assert faults(PERSISTENT_VOLUME_CLAIM, obj) == expected


IMMUTABLE = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
BOUND: Object = {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}


@pytest.mark.parametrize(
    ("before", "path", "value", "expected"),
    [
        ({}, "spec.volumeName", "v", []),
        ({}, "spec.storageClassName", "standard", []),
        ({"storageClassName": "a"}, "spec.storageClassName", "b", [IMMUTABLE]),
        ({"volumeName": "v"}, "spec.volumeName", "w", [IMMUTABLE]),
        ({}, "spec.resources.requests.storage", "2Gi", [IMMUTABLE]),
        ({}, "spec.accessModes", ["ReadWriteMany"], [IMMUTABLE]),
        ({"bound": True}, "spec.resources.requests.storage", "2Gi", []),
        (
            {"bound": True},
            "spec.resources.requests.storage",
            "1Mi",
            [
                "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity",
            ],
        ),
    ],
)
def test_changes_of_a_claim(before: Object, path: str, value: Any, expected: list[str]) -> None:
    old = made(PERSISTENT_VOLUME_CLAIM, CLAIM)
    bound = before.pop("bound", False) if (before := dict(before)) else False
    old["spec"].update(before)
    if bound:
        old["spec"]["volumeName"] = "v"
        old["status"] = BOUND
    assert faults(PERSISTENT_VOLUME_CLAIM, put(old, path, value), old) == expected


def test_claim_is_shown() -> None:
    obj = made(PERSISTENT_VOLUME_CLAIM, CLAIM)
    assert obj["status"] == {"phase": "Pending"}
    assert obj["spec"]["volumeMode"] == "Filesystem"
    assert cells(PERSISTENT_VOLUME_CLAIM, obj) == ["a", "Pending", "", "", "", "", "<unset>", "Filesystem"]
    obj["spec"] |= {"volumeName": "v", "storageClassName": "standard"}
    obj["status"] = BOUND
    assert cells(PERSISTENT_VOLUME_CLAIM, obj) == [
        "a",
        "Bound",
        "v",
        "1Gi",
        "RWO",
        "standard",
        "<unset>",
        "Filesystem",
    ]
    obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert cells(PERSISTENT_VOLUME_CLAIM, obj)[1] == "Terminating"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"spec.accessModes": []}, ["spec.accessModes: Required value"]),
        (
            {"spec.capacity": {}},
            [
                "spec.capacity: Required value",
                'spec.capacity: Unsupported value: {}: supported values: "storage"',
            ],
        ),
        (
            {"spec.capacity.storage": "-1"},
            [
                'spec.capacity[storage]: Invalid value: "-1": must be greater than or equal to 0',
                'spec.capacity[storage]: Invalid value: "-1": must be greater than zero',
            ],
        ),
        ({"spec.hostPath": ...}, ["spec: Required value: must specify a volume type"]),
        ({"spec.hostPath.path": ""}, ["spec.hostPath.path: Required value"]),
        (
            {"spec.hostPath.path": "/a/../b"},
            ["spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
        ),
        (
            {"spec.nfs": {"server": "s", "path": "/"}},
            ["spec.nfs: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            {"spec.persistentVolumeReclaimPolicy": "Burn"},
            [
                'spec.persistentVolumeReclaimPolicy: Unsupported value: "Burn": supported values: "Delete", "Recycle", "Retain"'
            ],
        ),
        (
            {"spec.hostPath.path": "/", "spec.persistentVolumeReclaimPolicy": "Recycle"},
            [
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"
            ],
        ),
        (
            {"spec.hostPath": ..., "spec.local": {"path": "/mnt"}},
            ["spec.nodeAffinity: Required value: Local volume requires node affinity"],
        ),
        (
            {"spec.nodeAffinity": {}},
            ["spec.nodeAffinity.required: Required value: must specify required node constraints"],
        ),
        (
            {"spec.nodeAffinity": {"required": {"nodeSelectorTerms": []}}},
            [
                "spec.nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term"
            ],
        ),
    ],
)
def test_volume(change: Object, expected: list[str]) -> None:
    obj = VOLUME
    for path, value in change.items():
        obj = put(obj, path, value)
    assert faults(PERSISTENT_VOLUME, obj) == expected


def test_changes_of_a_volume() -> None:
    old = made(PERSISTENT_VOLUME, put(VOLUME, "spec.nodeAffinity", AFFINITY))
    assert faults(PERSISTENT_VOLUME, put(old, "spec.capacity.storage", "2Gi"), old) == []
    assert faults(PERSISTENT_VOLUME, put(old, "spec.hostPath.path", "/other"), old) == [
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"
    ]
    assert faults(PERSISTENT_VOLUME, put(old, "spec.volumeMode", "Block"), old) == [
        'volumeMode: Invalid value: "Block": field is immutable'
    ]
    (fault,) = faults(PERSISTENT_VOLUME, put(old, "spec.nodeAffinity", ...), old)
    assert fault == "nodeAffinity: Invalid value: null: field is immutable"
    free = made(PERSISTENT_VOLUME, VOLUME)
    assert faults(PERSISTENT_VOLUME, put(free, "spec.nodeAffinity", AFFINITY), free) == []


def test_volume_is_shown() -> None:
    obj = made(PERSISTENT_VOLUME, put(VOLUME, "spec.accessModes", ["ReadWriteMany", "ReadWriteOnce"]))
    assert obj["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    obj["spec"]["claimRef"] = {"namespace": "ns", "name": "c"}
    obj["status"]["phase"] = "Released"
    shown = ["a", "1Gi", "RWO,RWX", "Retain", "Released", "ns/c", "", "<unset>", "", "Filesystem"]
    assert cells(PERSISTENT_VOLUME, obj) == shown


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"provisioner": ""}, ["provisioner: Required value"]),
        ({"parameters": {"": "a"}}, ['parameters: Invalid value: "": field can not be empty.']),
        (
            {"reclaimPolicy": "Recycle"},
            ['reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"'],
        ),
        (
            {"volumeBindingMode": "Later"},
            [
                'volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"'
            ],
        ),
        (
            {"allowedTopologies": [{"matchLabelExpressions": [{"key": "zone"}]}]},
            ["allowedTopologies[0].matchLabelExpressions[0].values: Required value"],
        ),
    ],
)
def test_storage_class(change: Object, expected: list[str]) -> None:
    assert faults(STORAGE_CLASS, CLASS | change) == expected


def test_changes_of_a_storage_class() -> None:
    old = made(STORAGE_CLASS, CLASS)
    assert (old["reclaimPolicy"], old["volumeBindingMode"]) == ("Delete", "Immediate")
    changed = old | {"provisioner": "b", "reclaimPolicy": "Retain", "parameters": {"a": "b"}}
    assert faults(STORAGE_CLASS, changed | {"volumeBindingMode": "WaitForFirstConsumer"}, old) == [
        "parameters: Forbidden: updates to parameters are forbidden.",
        "provisioner: Forbidden: updates to provisioner are forbidden.",
        "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
        'volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable',
    ]
    assert faults(STORAGE_CLASS, old | {"allowVolumeExpansion": True}, old) == []
    old["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    assert cells(STORAGE_CLASS, old) == [
        "a (default)",
        "rancher.io/local-path",
        "Delete",
        "Immediate",
        "false",
    ]


def test_the_default_class_is_the_newest() -> None:
    marked = {"storageclass.kubernetes.io/is-default-class": "true"}

    def of(name: str, since: str, annotations: Object = marked) -> Object:
        return {"metadata": {"name": name, "creationTimestamp": since, "annotations": annotations}}

    assert default_class([of("a", "2026-01-01T00:00:00Z", {})]) is None
    found = default_class(
        [of("b", "2026-01-02T00:00:00Z"), of("a", "2026-01-02T00:00:00Z"), of("c", "2026-01-01T00:00:00Z")]
    )
    assert found is not None
    assert found["metadata"]["name"] == "a"


def test_an_ephemeral_volume_has_a_claim_in_it() -> None:
    pod: Object = {
        "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}],
        }
    }
    path = "spec.volumes[0].ephemeral.volumeClaimTemplate"
    assert faults(POD, pod) == [
        f"{path}.spec.accessModes: Required value: at least 1 access mode is required",
        f"{path}.spec.resources[storage]: Required value",
    ]
    pod["spec"]["volumes"][0]["ephemeral"] = {}
    assert faults(POD, pod) == [f"{path}: Required value"]


# Which volume a claim gets


def claim(size: str = "1Gi", name: str = "c", labels: Object | None = None, **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            **({"selector": {"matchLabels": labels}} if labels else {}),
            **spec,
        },
    }


def volume(size: str = "1Gi", name: str = "v", labels: Object | None = None, **spec: Any) -> Object:
    phase = spec.pop("phase", "Available")
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, **spec},
        "status": {"phase": phase},
    }


NODE: Object = {"metadata": {"name": "node-1", "labels": {"kubernetes.io/hostname": "node-1"}}}
OTHER: Object = {"metadata": {"name": "node-2", "labels": {"kubernetes.io/hostname": "node-2"}}}
RESERVED: Object = {"namespace": "ns", "name": "c"}


@pytest.mark.parametrize(
    ("wanted", "there", "more", "found"),
    [
        (claim(), [], {}, None),
        (claim(), [volume()], {}, "v"),
        (claim("2Gi"), [volume("1Gi", "a"), volume("5Gi", "b"), volume("3Gi", "c")], {}, "c"),
        (claim(), [volume(name="b"), volume(name="a")], {}, "a"),
        (claim(), [volume(phase="Released")], {}, None),
        (claim(), [volume(phase="Pending")], {}, None),
        (claim(), [volume(storageClassName="fast")], {}, None),
        (claim(storageClassName="fast"), [volume(), volume(name="f", storageClassName="fast")], {}, "f"),
        (claim(volumeMode="Block"), [volume()], {}, None),
        (claim(accessModes=["ReadWriteMany"]), [volume()], {}, None),
        (claim(), [volume(accessModes=["ReadWriteMany", "ReadWriteOnce"])], {}, "v"),
        (claim(labels={"a": "b"}), [volume(), volume(name="l", labels={"a": "b"})], {}, "l"),
        (claim(), [volume(claimRef={"namespace": "ns", "name": "other"})], {}, None),
        (claim(), [volume(name="a"), volume("9Gi", claimRef=RESERVED, storageClassName="x")], {}, "v"),
        (claim("10Gi"), [volume(claimRef=RESERVED)], {}, None),
        (claim(), [volume(claimRef={**RESERVED, "uid": "uid-c"}, phase="Pending")], {}, "v"),
        (claim(), [volume(claimRef={**RESERVED, "uid": "another"})], {}, None),
        (claim(), [volume()], {"taken": {"v"}}, None),
        (claim(), [volume()], {"prebound_only": True}, None),
        (claim(), [volume(claimRef=RESERVED)], {"prebound_only": True}, "v"),
        (claim(), [volume(nodeAffinity=AFFINITY)], {"node": NODE}, "v"),
        (claim(), [volume(nodeAffinity=AFFINITY)], {"node": OTHER}, None),
        (claim(), [volume(nodeAffinity=AFFINITY, claimRef=RESERVED)], {"node": OTHER}, None),
    ],
)
def test_which_volume_a_claim_gets(
    wanted: Object, there: list[Object], more: Object, found: str | None
) -> None:
    got = find_volume(wanted, there, **more)
    assert (got["metadata"]["name"] if got else None) == found


def test_a_volume_that_goes_is_given_to_nobody() -> None:
    going = volume()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert find_volume(claim(), [going]) is None


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (claim(), ""),
        (claim("2Gi"), "requested PV is too small"),
        (claim(storageClassName="x"), "storageClassName does not match"),
        (claim(volumeMode="Block"), "incompatible volumeMode"),
        (claim(accessModes=["ReadWriteMany"]), "incompatible accessMode"),
    ],
)
def test_asked_for_by_name(wanted: Object, expected: str) -> None:
    assert misfit(volume(), wanted) == expected


@given(
    st.lists(st.integers(1, 20), max_size=8),
    st.lists(st.integers(1, 20), max_size=8),
    st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_no_volume_is_given_twice_nor_to_a_claim_that_is_too_large(
    sizes: list[int], wishes: list[int], classes: list[bool]
) -> None:
    volumes = {
        f"v{number}": volume(f"{size}Gi", f"v{number}", storageClassName="x" if classes[number] else "")
        for number, size in enumerate(sizes)
    }
    given_to: dict[str, str] = {}
    for number, size in enumerate(wishes):
        wanted = claim(f"{size}Gi", f"c{number}", storageClassName="x" if classes[number] else "")
        found = find_volume(wanted, volumes.values())
        fitting = [
            each
            for name, each in volumes.items()
            if name not in given_to
            and storage_of(each) >= storage_for(wanted)
            and each["spec"]["storageClassName"] == wanted["spec"]["storageClassName"]
        ]
        if found is None:
            assert not fitting
            continue
        name = found["metadata"]["name"]
        assert name not in given_to
        assert storage_of(found) == min(map(storage_of, fitting)) >= storage_for(wanted)
        given_to[name] = f"c{number}"
        bound = bound_volume(found, wanted)
        assert bound is not None
        assert is_claim_of(bound, wanted)
        assert bound_volume(bound, wanted) is None
        volumes[name] = {**bound, "status": {"phase": "Bound"}}
