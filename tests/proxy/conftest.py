"""Fixtures for tests with a real kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from programmed import BACKENDS, Programmed, settings_of

from buoy.proxy.backend import Backend
from buoy.proxy.model import Family
from topology import Answering, Node, World


@pytest.fixture
def world():
    with World() as world:
        yield world


@pytest.fixture
def servers():
    with Answering() as servers:
        yield servers


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn."""
    return str(request.param)


@pytest.fixture
async def programmed():
    """Make a `Programmed` with a node, a backend's maker and a family; closed at the end."""
    made = []

    def make(node: Node, maker: Callable[[Family], Backend], family: Family, **changes: object) -> Programmed:
        one = Programmed(node, maker(family), settings_of(node, family, **changes))
        made.append(one)
        return one

    yield make
    for one in made:
        await one.close()
