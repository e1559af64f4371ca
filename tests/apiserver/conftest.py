"""One server for the tests of a module; each test keeps to names, or a namespace, of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from .api_server import Running, running

_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(tmp_path_factory.mktemp("apiserver")) as found:
        account = {"metadata": {"name": "default"}}
        await found.post("/api/v1/namespaces/default/serviceaccounts", account)
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def namespace(server: Running) -> str:
    """A new namespace, with the service account that a controller would make."""
    name = f"test-{next(_numbers)}"
    reply = await server.post("/api/v1/namespaces", {"metadata": {"name": name}})
    assert reply.status == 201, reply.body
    account = {"metadata": {"name": "default"}}
    await server.post(f"/api/v1/namespaces/{name}/serviceaccounts", account)
    return name
