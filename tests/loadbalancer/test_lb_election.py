"""The winner is the one that MetalLB elects, and only what happens to the winner moves an address."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buoy.loadbalancer.election import rank, winner

NODES = st.sets(st.from_regex(r"[a-z]{1,3}-[0-9]{1,2}", fullmatch=True), max_size=8)
EVEN = {"node-1": 0, "node-2": 0, "node-3": 0}


@pytest.mark.parametrize(
    ("scores", "key", "expected"),
    [
        # printf 'node-1#192.168.1.251' | sha256sum: d86aa3af, 06797eed, caf3031f
        (EVEN, "192.168.1.251", ("node-2", "node-3", "node-1")),
        # e22af888, 95ac9332, e9297831
        (EVEN, "192.168.1.252", ("node-2", "node-1", "node-3")),
        # 6b62f78c, d690cb1e, 3400f801
        (EVEN, "fd00:192:168:1::fb", ("node-3", "node-1", "node-2")),
        # preference comes first, the hash decides among equals
        ({"node-1": 100, "node-2": 0, "node-3": 100}, "192.168.1.251", ("node-3", "node-1", "node-2")),
        ({"node-1": 110, "node-2": 0, "node-3": 100}, "192.168.1.251", ("node-1", "node-3", "node-2")),
        ({}, "192.168.1.251", ()),
    ],
)
def test_order(scores, key, expected):
    assert rank(scores, key) == expected


@settings(deadline=None)
@given(NODES, NODES, st.ip_addresses())
def test_only_the_loss_of_the_winner_moves_an_address(candidates, alive, address):
    ranking = rank(dict.fromkeys(candidates, 0), str(address))
    first = winner(ranking, alive)
    assert bool(first) == bool(candidates & alive)
    for node in alive - {first}:
        assert winner(ranking, alive - {node}) == first
    for node in candidates - alive:
        assert winner(ranking, alive | {node}) in (first, node)
