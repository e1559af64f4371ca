"""Fixtures of the controllers' tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from apiserver.api_server import running
from buoy.client import Client

from .together import Cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(tmp_path) as server, Client.from_kubeconfig(server.kubeconfig) as client:
        cluster = Cluster(server, client)
        cluster.start_controllers()
        cluster.start_scheduler()
        try:
            yield cluster
        finally:
            await cluster.stop()


@pytest.fixture
async def three(cluster: Cluster) -> Cluster:
    await asyncio.gather(*(cluster.add_node(f"node-{number}") for number in (1, 2, 3)))
    return cluster
