"""docs/tutorial.md, from its first command to its last, in a fresh cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from walk import PAGE, ROOT, environment, walk

from local_cluster import LocalCluster

pytestmark = pytest.mark.e2e


def test_each_command_writes_what_the_page_shows(buoy_home: Path) -> None:
    cluster = LocalCluster("buoy", buoy_home)  # the page takes the default name
    try:
        walk(PAGE.read_text(), environment(buoy_home, cluster.kubeconfig))
    finally:
        cluster.buoy("down", check=False)


def test_the_page_speaks_of_every_file() -> None:
    page = PAGE.read_text()
    files = [path.name for path in (ROOT / "examples" / "tutorial").iterdir() if path.is_file()]
    assert [name for name in files if name not in page] == []
