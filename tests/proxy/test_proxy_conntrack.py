"""Which UDP flows a change makes suspect."""

from dataclasses import replace

import pytest

from buoy.proxy.conntrack import Frontend, suspects
from buoy.proxy.model import Change, Destination, PortName, PortRules

DNS = PortName("default/dns", "dns", "UDP")
ONE, TWO = Destination("10.244.1.2", 53), Destination("10.244.1.3", 53)
CLUSTER, NODE_PORT = Frontend("10.96.0.10", 53), Frontend("", 30053)


def rules(*serving, **changes):
    return replace(PortRules(DNS, "10.96.0.10", 53, cluster=serving, usable=True, serving=serving), **changes)


ADDED = rules(ONE, node_port=30053)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, rules(ONE), {CLUSTER: {ONE}}),
        (rules(ONE), None, {CLUSTER: set()}),
        (rules(), rules(ONE), {CLUSTER: {ONE}}),
        (rules(ONE), rules(ONE, TWO), {}),
        (rules(ONE, TWO), rules(TWO), {CLUSTER: {TWO}}),
        (rules(ONE), rules(), {CLUSTER: set()}),
        (rules(ONE), ADDED, {NODE_PORT: {ONE}}),
        (ADDED, rules(ONE), {NODE_PORT: set()}),
        (ADDED, rules(TWO), {NODE_PORT: set(), CLUSTER: {TWO}}),
        (rules(ONE), rules(ONE, cluster=(), usable=False), {}),
        (
            rules(ONE),
            rules(TWO, external_ips=("192.0.2.7",), load_balancer_ips=("203.0.113.7",)),
            {CLUSTER: {TWO}, Frontend("192.0.2.7", 53): {TWO}, Frontend("203.0.113.7", 53): {TWO}},
        ),
    ],
    ids=[
        "new",
        "deleted",
        "first endpoint",
        "one more",
        "one less",
        "last one gone",
        "node port added",
        "node port taken away",
        "both",
        "still serving",
        "all forms",
    ],
)
def test_suspects(old, new, expected):
    assert suspects({DNS: Change(old, new)}) == expected


def test_only_udp():
    web = replace(rules(ONE), name=DNS._replace(protocol="TCP"))
    assert suspects({web.name: Change(web, None)}) == {}


@pytest.mark.parametrize("turned", [False, True])
def test_an_address_that_goes_over_to_another_service_belongs_to_that(turned):
    other = PortName("default/other", "dns", "UDP")
    changes = [
        (DNS, Change(rules(ONE), None)),
        (other, Change(None, replace(rules(TWO), name=other))),
    ]
    assert suspects(dict(reversed(changes) if turned else changes)) == {CLUSTER: {TWO}}
