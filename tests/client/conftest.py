import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from buoy.client import Client
from buoy.client.credentials import Credential, Fixed
from buoy.client.kubeconfig import Access

from .small_api_server import SmallApiServer


@pytest.fixture
async def server() -> AsyncIterator[SmallApiServer]:
    server = SmallApiServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: SmallApiServer) -> AsyncIterator[Client]:
    async with Client(Access(server.url, Fixed(Credential("token")))) as client:
        yield client


@pytest.fixture
def until() -> Callable[..., object]:
    """``await until(condition)``: it becomes true within some seconds, or the test fails."""

    async def until(condition: Callable[[], object], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.002)

    return until
