"""What an image of Buoy itself holds."""

from __future__ import annotations

import io
import tarfile

from buoy.cluster import own_image


def test_it_holds_what_components_need_and_no_more() -> None:
    image = own_image.image()
    names = set()
    for layer in image.layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            names.update(tar.getnames())
    wanted = {
        "usr/bin/buoy",
        "usr/bin/ip",
        "usr/bin/python3",
        "opt/buoy/buoy/cli/main.py",
        "opt/buoy/buoy/loadbalancer/manifests/metallb.yaml",
        "opt/buoy/aiohttp/__init__.py",
    }
    assert wanted <= names
    assert [name for name in names if name.endswith((".c", ".h", ".pyx", ".pyi"))] == []
    assert [name for name in names if name.startswith(("opt/buoy/grpc/", "opt/buoy/cryptography/"))] == []
    compiled = {name for name in names if name.startswith("opt/buoy/buoy/") and name.endswith(".pyc")}
    assert len(compiled) == len(
        [name for name in names if name.startswith("opt/buoy/buoy/") and name.endswith(".py")]
    )
    assert image.entrypoint == ("/usr/bin/buoy",)
