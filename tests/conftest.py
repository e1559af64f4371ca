"""Fixtures that several packages' tests share."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_cluster import LocalCluster, Namespace

ROOT = Path(__file__).parent.parent


async def eventually(
    condition: Callable[[], Awaitable[Any] | Any], *, within: float = 30.0, what: str = ""
) -> Any:
    """The first true value of *condition*, asked again and again until *within* seconds have passed."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or condition}")
        await asyncio.sleep(0.02)


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
