"""Hints by the zones' shares of the CPUs."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.controllers.endpointslice.desired import endpoint_key, wants_shares
from buoy.controllers.endpointslice.topology import NoHints, assign, zone_shares

EVEN = {"a": 0.5, "b": 0.5}
TOO_FEW = "Insufficient number of endpoints ({} endpoints, 2 zones)"


def node(zone, cpu="4", *, ready="True", **labels):
    if zone:
        labels["topology.kubernetes.io/zone"] = zone
    status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": {"cpu": cpu}}
    return {"metadata": {"name": "n", "labels": labels}, "status": status}


def endpoints(zones, *, ready=True):
    return [
        {"addresses": [f"10.244.0.{number}"], "conditions": {"ready": ready}, "zone": zone}
        for number, zone in enumerate(zones)
    ]


def hinted(each):
    return each["hints"]["forZones"][0]["name"]


def counts(found):
    return Counter(map(hinted, found))


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("a"), node("b")], EVEN),
        ([node("a", "3"), node("b", "500m"), node("b", "500m")], {"a": 0.75, "b": 0.25}),
        ([node("a"), node("b"), node("", ready="False")], EVEN),
        ([node("a"), node("b"), node("c", **{"node-role.kubernetes.io/control-plane": ""})], EVEN),
        ([node("a"), node("b"), node("")], {}),
        ([node("a"), node("b", "0")], {}),
        ([node("a"), node("a")], {}),
        ([], {}),
    ],
)
def test_shares(nodes, expected):
    assert zone_shares(nodes) == expected


@pytest.mark.parametrize(
    ("zones", "shares", "expected"),
    [
        ("ab", EVEN, {"a": 1, "b": 1}),
        ("aaab", EVEN, {"a": 2, "b": 2}),
        ("aaaa", {"a": 0.75, "b": 0.25}, {"a": 3, "b": 1}),
        ("aaabbb", {"a": 0.5, "b": 0.25, "c": 0.25}, None),
        ("aaaabbbb", {"a": 0.5, "b": 0.25, "c": 0.25}, {"a": 4, "b": 2, "c": 2}),
    ],
)
def test_zones_with_too_many_give_to_those_with_too_few(zones, shares, expected):
    found = endpoints(zones)
    if expected is None:
        with pytest.raises(NoHints, match="overload threshold"):
            assign(found, {}, shares)
        assert not any("hints" in each for each in found)
        return
    assign(found, {}, shares)
    assert counts(found) == expected
    assert sum(hinted(each) != each["zone"] for each in found) == max(
        0, sum(max(0, count - expected.get(zone, 0)) for zone, count in Counter(zones).items())
    ), "no more than needed are sent elsewhere"


@pytest.mark.parametrize(
    ("found", "shares", "reason"),
    [
        (endpoints("ab"), {}, "Insufficient Node information"),
        (endpoints("a"), EVEN, TOO_FEW.format(1)),
        (endpoints("ab", ready=False), EVEN, TOO_FEW.format(0)),
        (
            [*endpoints("aabb"), *endpoints([""] * 2)],
            EVEN,
            "One or more endpoints do not have a zone specified",
        ),
    ],
)
def test_reasons_against(found, shares, reason):
    with pytest.raises(NoHints) as error:
        assign(found, {}, shares)
    assert str(error.value).startswith(reason)
    assert not any("hints" in each for each in found)


def test_hints_stay_while_they_overload_nobody():
    found = endpoints("aaaaab")
    assign(found, {}, EVEN)
    former = {endpoint_key(each): hinted(each) for each in found}
    more = endpoints("aaaaab" + "a")
    assign(more, former, EVEN)
    assert {endpoint_key(each): hinted(each) for each in more}.items() >= former.items()


def test_what_is_not_ready_has_no_hint():
    found = [*endpoints("ab"), {**endpoints("a", ready=False)[0], "addresses": ["10.244.9.9"]}]
    assign(found, {}, EVEN)
    assert ["hints" in each for each in found] == [True, True, False]


@given(st.lists(st.sampled_from("abc"), max_size=40), st.lists(st.integers(1, 64), min_size=2, max_size=3))
def test_nobody_has_to_serve_more_than_a_fifth_above_its_share(zones, cpus):
    shares = {zone: cpu / sum(cpus) for zone, cpu in zip("abc", cpus, strict=False)}
    found = endpoints(zones)
    try:
        assign(found, {}, shares)
    except NoHints:
        return
    number = counts(found)
    assert number.keys() == shares.keys()
    for zone, share in shares.items():
        assert share * len(found) / number[zone] <= 1.2 + 1e-9


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, False),
        ({"service.kubernetes.io/topology-mode": "Auto"}, True),
        ({"service.kubernetes.io/topology-mode": "auto"}, True),
        ({"service.kubernetes.io/topology-mode": "Disabled"}, False),
        ({"service.kubernetes.io/topology-aware-hints": "auto"}, True),
    ],
)
def test_who_wants_them(annotations, expected):
    assert wants_shares({"metadata": {"annotations": annotations}}) is expected
