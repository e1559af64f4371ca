from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from buoy.cluster.images import STAND_IN_LABEL, Image, archive, layer


def _members(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: member for member in tar}


def test_a_layer_holds_files_links_and_folders(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!")
    program.chmod(0o700)
    secretive = tmp_path / "module"
    secretive.touch(mode=0o600)
    content = layer(
        directories=["tmp", "usr"],
        links={"bin": "usr/bin"},
        files={"etc/passwd": b"root"},
        copies={"usr/program": program, "usr/module": secretive},
    )
    members = _members(content)
    assert members["tmp"].mode == 0o1777
    assert members["bin"].issym()
    assert members["bin"].linkname == "usr/bin"
    assert members["usr/program"].mode == 0o755, "whoever the image runs as may read it"
    assert members["usr/module"].mode == 0o644
    assert members["usr/program"].mtime == int(program.stat().st_mtime)


def test_an_archive_is_an_oci_layout_whose_digests_hold() -> None:
    image = Image(
        "docker.io/library/a:1", (layer(files={"f": b"x"}),), command=("a",), labels={STAND_IN_LABEL: "a"}
    )
    content = archive([image])
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        blobs = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    for name, blob in blobs.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}"

    def blob_of(descriptor: dict) -> bytes:
        found = blobs["blobs/" + descriptor["digest"].replace(":", "/")]
        assert len(found) == descriptor["size"]
        return found

    (descriptor,) = json.loads(blobs["index.json"])["manifests"]
    assert descriptor["annotations"]["io.containerd.image.name"] == "docker.io/library/a:1"
    manifest = json.loads(blob_of(descriptor))
    configuration = json.loads(blob_of(manifest["config"]))
    assert configuration["config"]["Cmd"] == ["a"]
    assert configuration["config"]["Labels"] == {STAND_IN_LABEL: "a"}
    assert configuration["rootfs"]["diff_ids"] == [item["digest"] for item in manifest["layers"]]
    assert _members(blob_of(manifest["layers"][0])).keys() == {"f"}
