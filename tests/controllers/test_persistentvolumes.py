# ruff: noqa: E501 - whole sentences are easier to compare
"""What becomes of claims and volumes, by tables; and in a world where all happens in any order."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buoy.api import meta, volumes
from buoy.api.meta import Object
from buoy.controllers.localpath import plan as localpath
from buoy.controllers.localpath.folders import Folders, NoSuchNode
from buoy.controllers.persistentvolume.plan import (
    ClaimPlan,
    Surroundings,
    VolumePlan,
    bound_claim,
    claim_status,
    plan_claim,
    plan_volume,
    unbound,
)
from buoy.controllers.pvcprotection import uses
from buoy.controllers.statefulset import retention


def claim(size: str = "1Gi", name: str = "c", phase: str = "Pending", **more: Any) -> Object:
    annotations = more.pop("annotations", {})
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}", "annotations": annotations},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **more},
        "status": {"phase": phase},
    }


def volume(size: str = "1Gi", name: str = "v", phase: str = "Available", **more: Any) -> Object:
    annotations = more.pop("annotations", {})
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, **more},
        "status": {"phase": phase},
    }


def storage_class(name: str = "fast", mode: str = "Immediate", provisioner: str = "p.io/p") -> Object:
    return {"metadata": {"name": name}, "volumeBindingMode": mode, "provisioner": provisioner}


MINE = {"namespace": "ns", "name": "c", "uid": "uid-c"}
OTHERS = {"namespace": "ns", "name": "other", "uid": "uid-other"}
DONE = {"pv.kubernetes.io/bind-completed": "yes"}
FAST = storage_class()
LATE = storage_class("late", "WaitForFirstConsumer")
SELECTED = {"volume.kubernetes.io/selected-node": "node-1"}
BY_CONTROLLER = {"pv.kubernetes.io/bound-by-controller": "yes"}
PROVISIONED = {"pv.kubernetes.io/provisioned-by": "p.io/p"}


def judged(subject: Object, *there: Object, **more: Any) -> tuple[str, str, str, str, str]:
    """What is bound, assigned and provisioned, the phase, and what is said."""
    by_name = {meta.name(each): each for each in there}
    found = plan_claim(subject, Surroundings(by_name.get, there, **more))
    said = f"{found.event.type} {found.event.reason}: {found.event.message}" if found.event else ""
    bound = meta.name(found.bind) if found.bind else ""
    return bound, found.assign, found.provision, found.phase, said


@pytest.mark.parametrize(
    ("subject", "there", "more", "expected"),
    [
        (claim(), [volume()], {}, ("v", "", "", "Pending", "")),
        (
            claim(),
            [],
            {},
            (
                "",
                "",
                "",
                "Pending",
                "Normal FailedBinding: no persistent volumes available for this claim and no storage class is set",
            ),
        ),
        (claim(), [], {"default_class": FAST}, ("", "fast", "", "Pending", "")),
        (
            claim(storageClassName=""),
            [],
            {"default_class": FAST},
            (
                "",
                "",
                "",
                "Pending",
                "Normal FailedBinding: no persistent volumes available for this claim and no storage class is set",
            ),
        ),
        (
            claim(storageClassName="fast"),
            [],
            {"storage_class": FAST},
            ("", "", "p.io/p", "Pending", ""),
        ),
        (
            claim(storageClassName="fast"),
            [volume(storageClassName="fast")],
            {"storage_class": FAST},
            ("v", "", "", "Pending", ""),
        ),
        (
            claim(storageClassName="gone"),
            [],
            {},
            (
                "",
                "",
                "",
                "Pending",
                'Warning ProvisioningFailed: storageclass.storage.k8s.io "gone" not found',
            ),
        ),
        (
            claim(storageClassName="none"),
            [],
            {"storage_class": storage_class("none", provisioner="kubernetes.io/no-provisioner")},
            (
                "",
                "",
                "",
                "Pending",
                "Warning ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner",
            ),
        ),
        (
            claim(storageClassName="late"),
            [volume(storageClassName="late")],
            {"storage_class": LATE},
            (
                "",
                "",
                "",
                "Pending",
                "Normal WaitForFirstConsumer: waiting for first consumer to be created before binding",
            ),
        ),
        (
            claim(storageClassName="late"),
            [],
            {"storage_class": LATE, "users": ["web-0"]},
            ("", "", "", "Pending", "Normal WaitForPodScheduled: waiting for pod web-0 to be scheduled"),
        ),
        (
            claim(storageClassName="late"),
            [],
            {"storage_class": LATE, "users": ["b", "a"]},
            ("", "", "", "Pending", "Normal WaitForPodScheduled: waiting for pods a,b to be scheduled"),
        ),
        (
            claim(storageClassName="late", annotations=SELECTED),
            [],
            {"storage_class": LATE},
            ("", "", "p.io/p", "Pending", ""),
        ),
        (
            claim(storageClassName="late"),
            [volume(storageClassName="late", claimRef=MINE)],
            {"storage_class": LATE},
            ("v", "", "", "Pending", ""),
        ),
        (claim(volumeName="v"), [], {}, ("", "", "", "Pending", "")),
        (claim(volumeName="v"), [volume("9Gi")], {}, ("v", "", "", "Pending", "")),
        (
            claim("2Gi", volumeName="v"),
            [volume()],
            {},
            (
                "",
                "",
                "",
                "Pending",
                'Warning VolumeMismatch: Cannot bind to requested volume "v": requested PV is too small',
            ),
        ),
        (claim(volumeName="v"), [volume(claimRef=MINE)], {}, ("v", "", "", "Pending", "")),
        (
            claim(volumeName="v"),
            [volume(claimRef=OTHERS)],
            {},
            ("", "", "", "Pending", 'Warning FailedBinding: volume "v" already bound to a different claim.'),
        ),
        (
            claim(volumeName="v", annotations=DONE, phase="Bound"),
            [volume(claimRef=MINE)],
            {},
            ("v", "", "", "Pending", ""),
        ),
        (
            claim(volumeName="v", annotations=DONE, phase="Bound"),
            [],
            {},
            (
                "",
                "",
                "",
                "Lost",
                "Warning ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!",
            ),
        ),
        (claim(volumeName="v", annotations=DONE, phase="Lost"), [], {}, ("", "", "", "Lost", "")),
        (
            claim(volumeName="v", annotations=DONE, phase="Bound"),
            [volume(claimRef=OTHERS)],
            {},
            (
                "",
                "",
                "",
                "Lost",
                "Warning ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly",
            ),
        ),
    ],
)
def test_a_claim(subject: Object, there: list[Object], more: Object, expected: tuple[str, ...]) -> None:
    assert judged(subject, *there, **more) == expected


NO_DELETER = 'error getting deleter volume plugin for volume "v": no deletable volume plugin matched'


@pytest.mark.parametrize(
    ("subject", "its_claim", "expected"),
    [
        (volume(phase="Pending"), None, VolumePlan("Available")),
        (volume(claimRef={"namespace": "ns", "name": "c"}), None, VolumePlan("Available", wake=True)),
        (volume(claimRef=MINE), claim(volumeName="v"), VolumePlan("Bound")),
        (volume(claimRef=MINE), claim(), VolumePlan(wake=True)),
        (volume(claimRef=MINE), None, VolumePlan("Released")),
        (volume(claimRef=MINE | {"uid": "earlier"}), claim(), VolumePlan("Released")),
        (
            volume(claimRef=MINE, annotations=PROVISIONED, persistentVolumeReclaimPolicy="Delete"),
            None,
            VolumePlan("Released"),
        ),
        (volume(claimRef=MINE, phase="Failed"), None, VolumePlan()),
        (volume(claimRef=MINE), claim(volumeName="w"), VolumePlan("Available", unbind=True)),
        (
            volume(claimRef=MINE, annotations=PROVISIONED, persistentVolumeReclaimPolicy="Delete"),
            claim(volumeName="w"),
            VolumePlan("Released"),
        ),
    ],
)
def test_a_volume(subject: Object, its_claim: Object | None, expected: VolumePlan) -> None:
    assert plan_volume(subject, its_claim) == expected


@pytest.mark.parametrize(
    ("policy", "message", "reason"),
    [
        ("Delete", NO_DELETER, "VolumeFailedDelete"),
        ("Recycle", "No recycler plugin found for the volume!", "VolumeFailedRecycle"),
    ],
)
def test_nobody_reclaims_what_was_made_by_hand(policy: str, message: str, reason: str) -> None:
    found = plan_volume(volume(claimRef=MINE, persistentVolumeReclaimPolicy=policy), None)
    assert (found.phase, found.message) == ("Failed", message)
    assert found.event == ("Warning", reason, message)


def test_unbinding_leaves_what_the_user_wrote() -> None:
    assert "claimRef" not in unbound(volume(claimRef=MINE, annotations=BY_CONTROLLER))["spec"]
    kept = unbound(volume(claimRef=MINE))["spec"]["claimRef"]
    assert kept == {"namespace": "ns", "name": "c"}


def test_both_sides_of_a_binding() -> None:
    one, other = volumes.bound_volume(volume("2Gi"), claim()), bound_claim(claim(), volume("2Gi"))
    assert one is not None
    assert other is not None
    assert one["spec"]["claimRef"]["uid"] == "uid-c"
    assert one["metadata"]["annotations"] == BY_CONTROLLER
    assert other["spec"]["volumeName"] == "v"
    assert other["metadata"]["annotations"] == DONE | BY_CONTROLLER
    assert bound_claim(other, one) is None
    assert claim_status(other, "Bound", one)["capacity"] == {"storage": "2Gi"}
    asked = bound_claim(claim(volumeName="v"), volume())
    assert asked is not None
    assert asked["metadata"]["annotations"] == DONE, "the user has bound it"


class World:
    """Claims, volumes, and the binder's steps one by one, each of which may come at any time or not at all."""

    def __init__(self) -> None:
        self.claims: dict[str, Object] = {}
        self.volumes: dict[str, Object] = {}
        self.made = 0

    def add_claim(self, name: int, size: int, wanted: int | None = None) -> None:
        self.made += 1
        made = claim(f"{size}Gi", f"c{name}", **({} if wanted is None else {"volumeName": f"v{wanted}"}))
        made["metadata"]["uid"] = f"claim-{self.made}"
        self.claims.setdefault(f"c{name}", made)

    def add_volume(self, name: int, size: int, reserved: int | None = None) -> None:
        reference = {} if reserved is None else {"claimRef": {"namespace": "ns", "name": f"c{reserved}"}}
        self.volumes.setdefault(f"v{name}", volume(f"{size}Gi", f"v{name}", "Pending", **reference))

    def remove_claim(self, name: int) -> None:
        self.claims.pop(f"c{name}", None)

    def step_claim(self, name: int, steps: int = 3) -> None:
        """Look at a claim and do the first *steps* of what is to be done: then the binder is killed."""
        subject = self.claims.get(f"c{name}")
        if subject is None:
            return
        found: ClaimPlan = plan_claim(subject, Surroundings(self.volumes.get, list(self.volumes.values())))
        if found.bind is None:
            return
        actions: list[Callable[[], None]] = [
            lambda: self._write_volume(volumes.bound_volume(found.bind or {}, subject)),
            lambda: self._write_claim(bound_claim(subject, found.bind or {})),
        ]
        for action in actions[:steps]:
            action()

    def _write_volume(self, new: Object | None) -> None:
        if new is not None:
            self.volumes[meta.name(new)] = copy.deepcopy(new)

    def _write_claim(self, new: Object | None) -> None:
        if new is not None:
            self.claims[meta.name(new)] = copy.deepcopy(new)

    def step_volume(self, name: int) -> None:
        subject = self.volumes.get(f"v{name}")
        if subject is None:
            return
        reference = volumes.spec(subject).get("claimRef") or {}
        found = plan_volume(subject, self.claims.get(reference.get("name", "")))
        if found.unbind:
            subject = unbound(subject)
        if found.phase:
            subject = {**subject, "status": {"phase": found.phase}}
        self.volumes[f"v{name}"] = subject

    def check(self) -> None:
        holders: dict[str, str] = {}
        for each in self.claims.values():
            if not volumes.is_fully_bound(each):
                continue
            name = volumes.spec(each)["volumeName"]
            assert name not in holders, f"{name} is bound twice"
            holders[name] = meta.name(each)
            its = self.volumes[name]
            assert its["spec"]["claimRef"]["uid"] == meta.uid(each)
            if any(volumes.BOUND_BY_CONTROLLER in meta.annotations(side) for side in (each, its)):
                # Otherwise the user has written it on both sides, which Kubernetes takes as it is.
                assert volumes.storage_of(its) >= volumes.storage_for(each)


_few = st.integers(0, 3)
_sizes = st.integers(1, 4)
_step = st.one_of(
    st.tuples(st.just("add_claim"), _few, _sizes, st.none() | _few),
    st.tuples(st.just("add_volume"), _few, _sizes, st.none() | _few),
    st.tuples(st.just("remove_claim"), _few),
    st.tuples(st.just("step_claim"), _few, st.integers(1, 2)),
    st.tuples(st.just("step_volume"), _few),
)


@settings(max_examples=300)
@given(st.lists(_step, max_size=40))
def test_whatever_happens_no_volume_has_two_claims_nor_one_too_large(steps: list[tuple[Any, ...]]) -> None:
    world = World()
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
        world.check()
    # Left alone, every claim that can have a volume gets one.
    for _ in range(3):
        for number in range(4):
            world.step_volume(number)
            world.step_claim(number)
    world.check()
    for each in world.claims.values():
        if not volumes.spec(each).get("volumeName"):
            assert volumes.find_volume(each, world.volumes.values()) is None


# Local folders

ASKED = {
    "volume.kubernetes.io/storage-provisioner": "rancher.io/local-path",
    **SELECTED,
}


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (claim(annotations=ASKED), ""),
        (claim(), "configuration error, no node was specified"),
        (
            claim(annotations=ASKED, selector={"matchLabels": {"a": "b"}}),
            "claim.Spec.Selector is not supported",
        ),
        (claim(annotations=ASKED, volumeMode="Block"), "block volumes are not supported"),
        (
            claim(annotations=ASKED, accessModes=["ReadWriteMany"]),
            "NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes",
        ),
        (claim(annotations=ASKED, accessModes=["ReadWriteOncePod"]), ""),
    ],
)
def test_which_claims_get_a_folder(subject: Object, expected: str) -> None:
    assert localpath.refusal(subject) == expected


def test_the_volume_of_a_folder() -> None:
    made = localpath.volume_of(claim(annotations=ASKED), storage_class(), "/volumes")
    assert made["spec"]["hostPath"] == {"path": "/volumes/pvc-uid-c_ns_c", "type": "DirectoryOrCreate"}
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert made["metadata"]["finalizers"] == [localpath.FINALIZER]
    assert volumes.reachable(made, {"metadata": {"labels": {"kubernetes.io/hostname": "node-1"}}})
    assert not volumes.reachable(made, {"metadata": {"labels": {"kubernetes.io/hostname": "node-2"}}})
    assert localpath.folder_of(made, "/volumes") == ("node-1", "pvc-uid-c_ns_c")
    kept = localpath.volume_of(
        claim(annotations=ASKED | {"volumeType": "local"}),
        {**storage_class(), "reclaimPolicy": "Retain"},
        "/volumes",
    )
    assert kept["spec"]["local"] == {"path": "/volumes/pvc-uid-c_ns_c"}
    assert kept["metadata"]["finalizers"] == []


@pytest.mark.parametrize(
    ("path", "node"),
    [
        ("/etc", "node-1"),
        ("/volumes", "node-1"),
        ("/volumes/..", "node-1"),
        ("/volumes/a/b", "node-1"),
        ("/volumes/../etc", "node-1"),
        ("/volumes/a", ".."),
        ("/volumes/a", "x/y"),
        ("/volumes/a", ""),
    ],
)
def test_nothing_but_a_folder_of_its_own_is_ever_removed(path: str, node: str) -> None:
    found = volume(hostPath={"path": path}, annotations={"local.path.provisioner/selected-node": node})
    assert localpath.folder_of(found, "/volumes") is None


@pytest.mark.parametrize(
    ("phase", "policy", "provisioner", "expected"),
    [
        ("Released", "Delete", "rancher.io/local-path", True),
        ("Bound", "Delete", "rancher.io/local-path", False),
        ("Released", "Retain", "rancher.io/local-path", False),
        ("Released", "Delete", "somebody/else", False),
    ],
)
def test_which_folders_go(phase: str, policy: str, provisioner: str, expected: bool) -> None:
    annotations = {"pv.kubernetes.io/provisioned-by": provisioner}
    subject = volume(phase=phase, annotations=annotations, persistentVolumeReclaimPolicy=policy)
    assert localpath.is_deletable(subject) is expected


def test_folders(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "nodes" / "node-1").mkdir(parents=True)
    folders = Folders(str(tmp_path / "nodes"))
    folders.make("node-1", "a")
    folders.make("node-1", "a")
    made = tmp_path / "nodes" / "node-1" / "volumes" / "a"
    assert made.stat().st_mode & 0o777 == 0o777
    assert made.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(NoSuchNode):
        folders.make("node-2", "a")
    (made / "link").symlink_to(kept)
    folders.remove("node-1", "a")
    folders.remove("node-1", "a")
    assert kept.is_dir()
    assert not made.exists()
    made.symlink_to(kept)
    with pytest.raises(OSError, match="symbolic link"):
        folders.remove("node-1", "a")
    assert kept.is_dir()


# Who holds a claim, and who takes it along


def pod(name: str, *mounted: Object, node: str = "node-1", owner: str = "") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}"},
        "spec": {"nodeName": node, "volumes": list(mounted)},
    }


CLAIMED = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}


def test_who_uses_a_claim() -> None:
    assert uses(pod("p", CLAIMED), claim())
    assert not uses(pod("p", CLAIMED, node=""), claim()), "nor will it ever come to a node"
    assert not uses(pod("p"), claim())
    ephemeral = {"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}
    its = claim(name="p-v")
    assert not uses(pod("p", ephemeral), its), "it is a stranger's"
    its["metadata"]["ownerReferences"] = [{"kind": "Pod", "name": "p", "uid": "uid-p", "controller": True}]
    assert uses(pod("p", ephemeral), its)


def stateful_set(replicas: int, **policy: str) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "ns", "uid": "uid-set"},
        "spec": {"replicas": replicas, "persistentVolumeClaimRetentionPolicy": policy},
    }


@pytest.mark.parametrize(
    ("deleted", "scaled", "replicas", "expected"),
    [
        ("Retain", "Retain", 1, []),
        ("Retain", "Retain", 0, []),
        ("Delete", "Retain", 1, ["uid-set"]),
        ("Delete", "Retain", 0, ["uid-set"]),
        ("Retain", "Delete", 1, []),
        ("Retain", "Delete", 0, ["uid-db-0"]),
        ("Delete", "Delete", 1, ["uid-set"]),
        ("Delete", "Delete", 0, ["uid-db-0"]),
    ],
)
@pytest.mark.parametrize("before", ["", "uid-set", "uid-db-0"])
def test_with_whom_a_claim_goes(
    deleted: str, scaled: str, replicas: int, expected: list[str], before: str
) -> None:
    subject = stateful_set(replicas, whenDeleted=deleted, whenScaled=scaled)
    its = claim()
    other = {"kind": "ConfigMap", "name": "x", "uid": "x"}
    its["metadata"]["ownerReferences"] = [other]
    if before:
        its["metadata"]["ownerReferences"].append(
            {"kind": "?", "name": "?", "uid": before, "controller": True}
        )
    found = retention.owners(subject, pod("db-0"), its)
    assert [each["uid"] for each in found] == ["x", *expected]


def test_a_stranger_s_claim_is_left_alone() -> None:
    its = claim()
    stranger = {"kind": "Foo", "name": "x", "uid": "x", "controller": True}
    its["metadata"]["ownerReferences"] = [stranger]
    subject = stateful_set(1, whenDeleted="Delete", whenScaled="Delete")
    assert retention.conflicts(subject, pod("db-0"), its)
    assert retention.owners(subject, pod("db-0"), its) == [stranger]


def test_a_claim_that_goes_with_an_earlier_pod() -> None:
    its = claim()
    assert not retention.is_stale(its, "db-0")
    its["metadata"]["ownerReferences"] = [{"kind": "Pod", "name": "db-0", "uid": "earlier"}]
    assert retention.is_stale(its, "db-0")
