"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_cluster import LocalCluster, Namespace

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def buoy_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder of all the clusters of this run: images are prepared once."""
    home = tmp_path_factory.mktemp("buoy-home")
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def cluster(buoy_home: Path) -> Iterator[LocalCluster]:
    """Three nodes, shared by all tests that do not ask for a cluster of their own."""
    cluster = LocalCluster(f"test-{os.getpid()}", buoy_home)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def namespace(cluster: LocalCluster) -> Iterator[Namespace]:
    with cluster.namespace() as namespace:
        yield namespace


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A failed whole-cluster test shows the ends of the components' logs."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, LocalCluster):
        report.sections += [(f"log of {name}", text) for name, text in cluster.log_ends()]
    return report
