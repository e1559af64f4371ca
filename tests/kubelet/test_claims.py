"""From claims to folders, whose they become, and what a subPath cannot do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from buoy.api.meta import Object
from buoy.kubelet.claims import ClaimError, check_claim, claim_name, resolved
from buoy.kubelet.mounts import open_beneath
from buoy.kubelet.volume_owner import set_ownership
from buoy.kubelet.volumes import PodDirectories

POD: Object = {"metadata": {"name": "p", "namespace": "ns", "uid": "uid-p"}, "spec": {}}
VOLUME: Object = {"name": "data", "persistentVolumeClaim": {"claimName": "c"}}
SCRATCH: Object = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}
CLAIM: Object = {
    "metadata": {"name": "c", "namespace": "ns", "uid": "uid-c"},
    "spec": {"volumeName": "v"},
    "status": {"phase": "Bound"},
}
PERSISTENT: Object = {
    "metadata": {"name": "v"},
    "spec": {"hostPath": {"path": "/data"}, "claimRef": {"uid": "uid-c"}, "capacity": {"storage": "1Gi"}},
}


def test_which_claim() -> None:
    assert claim_name(POD, VOLUME) == "c"
    assert claim_name(POD, SCRATCH) == "p-scratch"
    assert claim_name(POD, {"name": "x", "emptyDir": {}}) is None


@pytest.mark.parametrize(
    ("volume", "claim", "fault"),
    [
        (VOLUME, CLAIM, ""),
        (VOLUME, CLAIM | {"status": {"phase": "Pending"}}, "PVC is not bound"),
        (VOLUME, CLAIM | {"spec": {}}, "PVC is not bound"),
        (
            VOLUME,
            CLAIM | {"metadata": CLAIM["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
            "PVC is being deleted",
        ),
        (SCRATCH, CLAIM, "PVC ns/c was not created for pod ns/p (pod is not owner)"),
    ],
)
def test_claims_that_will_do(volume: Object, claim: Object, fault: str) -> None:
    try:
        check_claim(POD, volume, claim)
    except ClaimError as error:
        assert str(error) == fault
    else:
        assert not fault


def test_the_volume_behind_a_claim() -> None:
    assert resolved(VOLUME, CLAIM, PERSISTENT) == {
        "name": "data",
        "hostPath": {"path": "/data"},
        "persistentVolume": "v",
        "readOnly": False,
    }
    read_only = {"name": "data", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}}
    assert resolved(read_only, CLAIM, PERSISTENT)["readOnly"]


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (
            {"claimRef": None},
            "found PV object v but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim",
        ),
        (
            {"claimRef": {"uid": "other"}},
            "found PV object v but its pv.Spec.ClaimRef.UID other does not point to claim.UID uid-c",
        ),
        ({"volumeMode": "Block"}, "volume data has volumeMode Block"),
    ],
)
def test_a_volume_that_is_not_the_claim_s(spec: Object, fault: str) -> None:
    with pytest.raises(ClaimError) as error:
        resolved(VOLUME, CLAIM, {**PERSISTENT, "spec": PERSISTENT["spec"] | spec})
    assert str(error.value) == fault


def test_what_is_read_only_stays_so() -> None:
    container = {"name": "c", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}
    pod = {**POD, "spec": {"volumes": [VOLUME]}}
    claimed = {"data": {"name": "data", "hostPath": {"path": "/data"}, "readOnly": True}}
    (mount,) = PodDirectories("/nowhere").container_mounts(pod, container, {}, claimed)
    assert (mount.host_path, mount.container_path, mount.read_only) == ("/data", "/d", True)


def test_who_has_a_local_volume_keeps_its_group(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    volume = {"name": "data", "persistentVolume": "v", "local": {"path": str(source)}}
    directories = PodDirectories(str(tmp_path))
    target = Path(directories.volume_path(POD, volume))
    target.parent.mkdir(parents=True)
    target.mkdir()
    assert not directories.in_use(volume), "an empty folder where it will be mounted"
    target.rmdir()
    target.symlink_to(source)  # for a folder and what is mounted there are one and the same
    assert directories.in_use(volume)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to a group")
def test_a_volume_is_given_to_a_group(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.touch(0o600)
    (root / "folder").mkdir(0o700)
    (root / "folder" / "file").touch(0o600)
    (root / "link").symlink_to(outside)
    set_ownership(str(root), 2000, None)
    for path, mode in ((root, 0o2775), (root / "folder", 0o2770), (root / "folder" / "file", 0o660)):
        assert path.stat().st_gid == 2000
        assert stat.S_IMODE(path.stat().st_mode) & mode == mode
    assert os.lstat(root / "link").st_gid == 2000
    assert (outside.stat().st_gid, stat.S_IMODE(outside.stat().st_mode)) == (0, 0o600)
    os.chown(root / "folder", 0, 0)
    set_ownership(str(root), 2000, "OnRootMismatch")
    assert (root / "folder").stat().st_gid == 0, "the root says that all is done"
    set_ownership(str(root), 2000, "Always")
    assert (root / "folder").stat().st_gid == 2000


def test_missing_folders_of_a_sub_path_are_made(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "inside").mkdir()
    (root / "way").symlink_to("inside")
    (root / "out").symlink_to(outside)
    os.close(open_beneath(str(root), "a/b", 0o750))
    assert stat.S_IMODE((root / "a" / "b").stat().st_mode) == 0o750
    os.close(open_beneath(str(root), "way/new", 0o750))
    assert (root / "inside" / "new").is_dir()
    with pytest.raises(OSError, match="leads out"):
        open_beneath(str(root), "out/new", 0o750)
    assert not list(outside.iterdir())


def test_a_link_that_comes_in_the_way_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a container had put it there after the path was looked at."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    for place in ("last", "middle/last"):
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        first = root / place.split("/")[0]
        if first.is_dir():
            first.rmdir()
        first.symlink_to(outside)
        monkeypatch.setattr(os.path, "realpath", os.path.abspath)
        with pytest.raises(OSError, match=r"a link is in the way|Not a directory"):
            open_beneath(str(root), place, 0o750)
        monkeypatch.undo()
        assert not list(outside.iterdir())
