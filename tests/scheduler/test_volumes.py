"""Where a Pod's claims let it go, by tables."""

from __future__ import annotations

from typing import Any

import pytest

from buoy.api import meta
from buoy.api.meta import Object
from buoy.scheduler.decide import schedule, unfit
from buoy.scheduler.state import ClusterState, PodInfo
from buoy.scheduler.volumes import (
    BIND_CONFLICT,
    IN_USE,
    NO_VOLUME,
    NODE_CONFLICT,
    PodVolumes,
    Unfit,
    VolumeWorld,
)

DONE = {"pv.kubernetes.io/bind-completed": "yes"}


def node(name: str, **labels: str) -> Object:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    }


def claim(name: str = "c", size: str = "1Gi", **spec: Any) -> Object:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", **spec.pop("metadata", {})}
    phase = spec.pop("phase", "Pending")
    resources = {"requests": {"storage": size}}
    return {
        "metadata": metadata,
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": resources,
            "storageClassName": "late",
            **spec,
        },
        "status": {"phase": phase},
    }


def bound(name: str = "c", volume: str = "v", **spec: Any) -> Object:
    return claim(name, volumeName=volume, metadata={"annotations": DONE}, phase="Bound", **spec)


def volume(name: str = "v", size: str = "1Gi", on: str = "", **spec: Any) -> Object:
    if on:
        expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [on]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    return {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": size},
            "storageClassName": "late",
            **spec,
        },
        "status": {"phase": "Available"},
    }


def storage_class(name: str = "late", provisioner: str = "p.io/p", **more: Any) -> Object:
    return {
        "metadata": {"name": name},
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer",
        **more,
    }


def pod(*claims: str, ephemeral: str = "") -> Object:
    mounted: list[Object] = [
        {"name": f"v{number}", "persistentVolumeClaim": {"claimName": name}}
        for number, name in enumerate(claims)
    ]
    if ephemeral:
        mounted.append({"name": ephemeral, "ephemeral": {"volumeClaimTemplate": {}}})
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": "uid-p"},
        "spec": {"containers": [{"name": "c"}], "volumes": mounted},
    }


def examine(
    subject: Object,
    *there: Object,
    classes: tuple[Object, ...] = (storage_class(),),
    promised: tuple[str, ...] = (),
    users: tuple[str, ...] = (),
) -> PodVolumes:
    claims = {meta.key(each): each for each in there if "namespace" in each["metadata"]}
    volumes = {meta.name(each): each for each in there if "namespace" not in each["metadata"]}
    by_name = {meta.name(each): each for each in classes}

    def of_class(name: str) -> list[Object]:
        return [each for each in volumes.values() if each["spec"]["storageClassName"] == name]

    world = VolumeWorld(claims.get, volumes.get, of_class, by_name.get, promised)
    return PodVolumes.of(subject, world, lambda key: users)


GOING = claim(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})


@pytest.mark.parametrize(
    ("subject", "there", "message"),
    [
        (pod("c"), [], 'persistentvolumeclaim "c" not found'),
        (
            pod(ephemeral="scratch"),
            [],
            'waiting for ephemeral volume controller to create the persistentvolumeclaim "p-scratch"',
        ),
        (
            pod(ephemeral="scratch"),
            [claim("p-scratch")],
            "PVC default/p-scratch was not created for pod default/p (pod is not owner)",
        ),
        (pod("c"), [GOING], 'persistentvolumeclaim "c" is being deleted'),
        (
            pod("c"),
            [bound() | {"status": {"phase": "Lost"}}],
            'persistentvolumeclaim "c" bound to non-existent persistentvolume "v"',
        ),
        (pod("c"), [claim(storageClassName="")], "pod has unbound immediate PersistentVolumeClaims"),
        (pod("c"), [claim(volumeName="v")], "pod has unbound immediate PersistentVolumeClaims"),
    ],
)
def test_no_node_will_do(subject: Object, there: list[Object], message: str) -> None:
    with pytest.raises(Unfit) as error:
        examine(subject, *there)
    assert str(error.value) == message


NONE = (storage_class(provisioner="kubernetes.io/no-provisioner"),)
ZONED = (storage_class(allowedTopologies=[{"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}]),)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (examine(pod()), None),
        (examine(pod("c"), bound(), volume(on="node-1")), None),
        (examine(pod("c"), bound(), volume(on="node-2")), NODE_CONFLICT),
        (examine(pod("c"), bound()), NO_VOLUME),
        (examine(pod("c"), claim()), None),
        (examine(pod("c"), claim(), classes=ZONED), BIND_CONFLICT),
        (examine(pod("c"), claim(), classes=NONE), BIND_CONFLICT),
        (examine(pod("c"), claim(), volume(on="node-1"), classes=NONE), None),
        (examine(pod("c"), claim(), volume(on="node-2"), classes=NONE), BIND_CONFLICT),
        (examine(pod("c"), claim(), volume(), classes=NONE, promised=("v",)), BIND_CONFLICT),
        (examine(pod("c", "d"), claim(), claim("d"), volume(), classes=NONE), BIND_CONFLICT),
        (examine(pod("c", "d"), claim(), claim("d"), volume(), volume("w"), classes=NONE), None),
        (
            examine(
                pod("c"),
                claim(metadata={"annotations": {"volume.kubernetes.io/selected-node": "node-2"}}),
            ),
            BIND_CONFLICT,
        ),
        (
            examine(pod("c"), bound(accessModes=["ReadWriteOncePod"]), volume(), users=("other",)),
            IN_USE,
        ),
        (examine(pod("c"), bound(accessModes=["ReadWriteOncePod"]), volume(), users=("uid-p",)), None),
    ],
)
def test_what_a_node_is_refused_for(found: PodVolumes, expected: str | None) -> None:
    refusal = found(node("node-1"))
    assert (refusal.reasons if refusal else None) == ((expected,) if expected else None)


def test_the_small_claims_leave_the_large_volumes_to_the_large_ones() -> None:
    there = (claim("large", "5Gi"), claim("small"), volume("v5", "5Gi"), volume("v1", "1Gi"))
    choice = examine(pod("large", "small"), *there, classes=NONE).choose(node("node-1"))
    assert choice is not None
    pairs = {meta.name(its): meta.name(volume) for volume, its in choice.bind}
    assert pairs == {"large": "v5", "small": "v1"}
    assert not choice.provision


def test_what_there_is_is_taken_and_the_rest_is_provisioned() -> None:
    choice = examine(pod("c", "d"), claim(), claim("d", "9Gi"), volume()).choose(node("node-1"))
    assert choice is not None
    assert [meta.name(its) for _, its in choice.bind] == ["c"]
    assert [meta.name(each) for each in choice.provision] == ["d"]


def test_the_message() -> None:
    state = ClusterState()
    for name in ("node-1", "node-2", "node-3"):
        state.set_node(name, node(name))
    info = PodInfo(pod("c"))
    found = examine(pod("c"), bound(), volume(on="node-4"))
    assert schedule(info, state.nodes(), found).message == (
        "0/3 nodes are available: 3 node(s) didn't match PersistentVolume's node affinity. "
        "no new claims to deallocate, preemption: 0/3 nodes are available: "
        "3 Preemption is not helpful for scheduling."
    )
    assert schedule(info, state.nodes(), examine(pod("c"), bound(), volume(on="node-2"))).node == "node-2"
    assert unfit(info, state.nodes(), "pod has unbound immediate PersistentVolumeClaims").message == (
        "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. "
        "no new claims to deallocate, preemption: 0/3 nodes are available: "
        "3 Preemption is not helpful for scheduling."
    )


def test_who_uses_a_claim_on_a_node() -> None:
    state = ClusterState()
    state.set_node("node-1", node("node-1"))
    info = PodInfo(pod("c"))
    state.assume(info, "node-1")
    assert state.claim_users("default/c") == ["uid-p"]
    state.give_up("uid-p")
    assert state.claim_users("default/c") == []
