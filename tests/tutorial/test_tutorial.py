"""Pages of docs/, from their first command to their last, each in a fresh cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from walk import PAGE, ROOT, environment, walk

from local_cluster import LocalCluster

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("page", [PAGE, ROOT / "docs" / "load-balancer.md"], ids=lambda page: page.stem)
def test_each_command_writes_what_the_page_shows(page: Path, buoy_home: Path) -> None:
    cluster = LocalCluster("buoy", buoy_home)  # the pages take the default name
    try:
        walk(page.read_text(), environment(buoy_home, cluster.kubeconfig))
    finally:
        cluster.buoy("down", check=False)


def test_the_page_speaks_of_every_file() -> None:
    page = PAGE.read_text()
    files = [path.name for path in (ROOT / "examples" / "tutorial").iterdir() if path.is_file()]
    assert [name for name in files if name not in page] == []
