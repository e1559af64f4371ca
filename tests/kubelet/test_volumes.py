"""Files in volumes: what is in them, how they change, and that nothing leads out of them."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api.meta import Object
from buoy.kubelet.atomic_writer import File, write
from buoy.kubelet.environment import ConfigError, Sources
from buoy.kubelet.mounts import open_beneath, remove_tree
from buoy.kubelet.volume_files import TokenRequest, token_requests, volume_files

SOURCES = Sources(
    config_maps={
        "cm": {"data": {"a": "1", "b": "2"}, "binaryData": {"raw": base64.b64encode(b"\xff").decode()}}
    },
    secrets={"s": {"word": b"sesame"}},
)
POD: Object = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
    "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]},
}
TOKEN = TokenRequest("vault", 600)


def files(pod: Object = POD, **volume: Any) -> dict[str, File]:
    return volume_files(pod, {"name": "v", **volume}, SOURCES, {TOKEN: "t0ken"})


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        (
            {"configMap": {"name": "cm"}},
            {"a": File(b"1", 0o644), "b": File(b"2", 0o644), "raw": File(b"\xff", 0o644)},
        ),
        (
            {
                "configMap": {
                    "name": "cm",
                    "defaultMode": 0o400,
                    "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 0}],
                }
            },
            {"x/y": File(b"1", 0o400), "z": File(b"2", 0)},
        ),
        ({"configMap": {"name": "no", "optional": True}}, {}),
        ({"configMap": {"name": "cm", "optional": True, "items": [{"key": "no", "path": "x"}]}}, {}),
        ({"secret": {"secretName": "s"}}, {"word": File(b"sesame", 0o644)}),
        (
            {
                "downwardAPI": {
                    "items": [
                        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
                        {
                            "path": "cpu",
                            "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"},
                            "mode": 0o600,
                        },
                    ]
                }
            },
            {"name": File(b"p", 0o644), "cpu": File(b"2", 0o600)},
        ),
        (
            {
                "projected": {
                    "defaultMode": 0o440,
                    "sources": [
                        {
                            "serviceAccountToken": {
                                "path": "token",
                                "audience": "vault",
                                "expirationSeconds": 600,
                            }
                        },
                        {"secret": {"name": "s", "items": [{"key": "word", "path": "token2"}]}},
                    ],
                }
            },
            {"token": File(b"t0ken", 0o440), "token2": File(b"sesame", 0o440)},
        ),
    ],
)
def test_what_is_in_a_volume(volume: Object, expected: dict[str, File]) -> None:
    assert files(**volume) == expected


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        ({"secret": {"secretName": "no"}}, 'secret "no" not found'),
        (
            {"configMap": {"name": "cm", "items": [{"key": "no", "path": "x"}]}},
            "configmap references non-existent config key: no",
        ),
        (
            {"secret": {"secretName": "s", "items": [{"key": "no", "path": "x"}]}},
            "references non-existent secret key: no",
        ),
    ],
)
def test_what_is_missing(volume: Object, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        files(**volume)
    assert str(raised.value) == message


def test_a_token_is_private_to_the_only_user() -> None:
    volume = {
        "projected": {
            "sources": [{"serviceAccountToken": {"path": "t", "audience": "vault", "expirationSeconds": 600}}]
        }
    }
    assert list(token_requests(volume)) == [TOKEN]
    one_user = {**POD, "spec": {**POD["spec"], "securityContext": {"runAsUser": 1000}}}
    assert files(one_user, **volume)["t"] == File(b"t0ken", 0o600, 1000)
    two = {
        **one_user["spec"],
        "containers": [{"name": "a", "securityContext": {"runAsUser": 1}}, {"name": "b"}],
    }
    assert files({**POD, "spec": two}, **volume)["t"].owner is None


CONTENT = st.dictionaries(
    st.sampled_from(["a", "b", "c", "dir/one", "dir/two", "dir/deep/three"]),
    st.builds(File, st.binary(max_size=5), st.sampled_from([0o644, 0o400]), st.none()),
    max_size=5,
)


def seen(directory: Path) -> dict[str, bytes]:
    found = {}
    for parent, folders, names in os.walk(directory, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith("..")]
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".."):
                found[str(path.relative_to(directory))] = path.read_bytes()
    return found


@given(st.lists(CONTENT, min_size=1, max_size=4))
def test_what_was_written_last_is_seen_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[dict[str, File]]
) -> None:
    directory = tmp_path_factory.mktemp("volume")
    for content in rounds:
        write(str(directory), content)
        assert seen(directory) == {path: file.content for path, file in content.items()}
        assert not write(str(directory), content)
    # One directory of data, and the link to it.
    assert len([name for name in os.listdir(directory) if name.startswith("..")]) == 2


def test_an_open_file_is_not_changed_under_its_reader(tmp_path: Path) -> None:
    write(str(tmp_path), {"f": File(b"old", 0o644)})
    with (tmp_path / "f").open() as reader:
        write(str(tmp_path), {"f": File(b"new", 0o644)})
        assert reader.read() == "old"
    assert (tmp_path / "f").read_text() == "new"


@pytest.mark.parametrize("path", ["out", "link/x", "..", "a/../../x"])
def test_nothing_leads_out_of_a_volume(tmp_path: Path, path: str) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    (tmp_path / "x").touch()
    (other / "x").touch()
    (root / "out").symlink_to("/etc/passwd")
    (root / "link").symlink_to(other)
    (root / "a").mkdir()
    with pytest.raises(OSError, match="leads out"):
        open_beneath(str(root), path)


def test_links_inside_a_volume_are_followed(tmp_path: Path) -> None:
    write(str(tmp_path), {"dir/file": File(b"x", 0o644)})
    fd = open_beneath(str(tmp_path), "dir/file")
    try:
        assert Path(f"/proc/self/fd/{fd}").read_bytes() == b"x"
    finally:
        os.close(fd)


def test_removing_does_not_follow_links(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    doomed = tmp_path / "doomed"
    (doomed / "deep").mkdir(parents=True)
    (doomed / "deep" / "link").symlink_to(kept)
    remove_tree(str(doomed))
    assert not doomed.exists()
    assert (kept / "file").exists()
    remove_tree(str(doomed))
