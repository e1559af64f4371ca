"""Which Service gets which address: MetalLB's rules, one by one."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from load_balancer_objects import DUAL, IPV6, asked, ips, pool, request

from buoy.api import selectors
from buoy.loadbalancer.allocation import Allocator, Outcome, Usage
from buoy.loadbalancer.model import Pool
from buoy.loadbalancer.request import Port, Request, Sharing

THREE = pool("default", "192.168.1.251-192.168.1.253")
BOTH = pool("both", "10.0.0.0/30", "fc00::/126")


def make(*pools: Pool) -> Allocator:
    allocator = Allocator()
    allocator.configure(pools)
    return allocator


def settle(allocator: Allocator, wanted: Request, *current: str) -> Outcome:
    """Decide, and have the API show it at once."""
    outcome = allocator.settle(wanted, ips(*current))
    assert outcome is not None
    allocator.confirm(wanted.service)
    return outcome


def addresses(outcome: Outcome) -> list[str]:
    return [str(address) for address in outcome.addresses]


def said(outcome: Outcome) -> list[tuple[str, str]]:
    return [(notice.reason, notice.message) for notice in outcome.notices]


def give(allocator: Allocator, wanted: Request, *current: str) -> list[str]:
    return addresses(settle(allocator, wanted, *current))


def refusal(allocator: Allocator, wanted: Request, *current: str) -> str:
    """The message of the one event of a refusal."""
    outcome = settle(allocator, wanted, *current)
    assert outcome.addresses == ()
    ((kind, reason, message),) = outcome.notices
    assert (kind, reason) == ("Warning", "AllocationFailed")
    return message.removeprefix(f'Failed to allocate IP for "{wanted.service}": ')


def test_first_addresses_first_and_an_event_for_each() -> None:
    allocator = make(THREE)
    outcome = settle(allocator, request("a"))
    assert outcome.pool == "default"
    assert said(outcome) == [("IPAllocated", 'Assigned IP ["192.168.1.251"]')]
    assert give(allocator, request("b")) == ["192.168.1.252"]
    assert settle(allocator, request("a")).notices == ()


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ([pool("p", "10.0.0.0/24")], "10.0.0.0"),
        ([pool("p", "10.0.0.0/24", avoid_buggy_ips=True)], "10.0.0.1"),
        ([pool("p", "10.0.0.255-10.0.1.2", avoid_buggy_ips=True)], "10.0.1.1"),
        ([pool("p", "10.0.1.0/32", "10.0.0.7/32")], "10.0.1.0"),
        ([pool("a", "10.0.1.0/32", auto_assign=False), pool("p", "10.0.0.7/32")], "10.0.0.7"),
        ([pool("a", "10.0.1.0/32", closed=True), pool("p", "10.0.0.7/32")], "10.0.0.7"),
        ([pool("a", "fc00::/120"), pool("p", "10.0.0.7/32")], "10.0.0.7"),
        ([pool("p", "10.0.0.7/32"), pool("a", "10.0.1.0/32", pinned=True)], "10.0.1.0"),
        ([pool("p", "10.0.0.7/32"), pool("a", "10.0.1.0/32", pinned=True, auto_assign=False)], "10.0.0.7"),
        (
            [
                pool("zero", "10.0.0.0/32", pinned=True),
                pool("two", "10.0.0.2/32", pinned=True, priority=2),
                pool("one", "10.0.0.1/32", pinned=True, priority=1),
            ],
            "10.0.0.1",
        ),
        (
            [
                pool("other", "10.0.0.1/32", pinned=True, namespaces=frozenset({"other"})),
                pool("mine", "10.0.0.2/32", pinned=True, namespaces=frozenset({"default"})),
            ],
            "10.0.0.2",
        ),
        (
            [
                pool("other", "10.0.0.1/32", pinned=True, namespace_selectors=(selectors.parse("team=b"),)),
                pool("mine", "10.0.0.2/32", pinned=True, namespace_selectors=(selectors.parse("team=a"),)),
            ],
            "10.0.0.2",
        ),
        (
            [
                pool("other", "10.0.0.1/32", pinned=True, service_selectors=(selectors.parse("app=db"),)),
                pool("mine", "10.0.0.2/32", pinned=True, service_selectors=(selectors.parse("app=web"),)),
            ],
            "10.0.0.2",
        ),
        (
            [
                pool(
                    "half",
                    "10.0.0.1/32",
                    pinned=True,
                    namespaces=frozenset({"default"}),
                    service_selectors=(selectors.parse("app=db"),),
                ),
                pool("all", "10.0.0.2/32"),
            ],
            "10.0.0.2",
        ),
        ([pool("eip", "10.0.0.1/32", source="Eip"), pool("mine", "10.0.0.2/32")], "10.0.0.2"),
    ],
)
def test_which_pool(pools: list[Pool], expected: str) -> None:
    wanted = request("a", labels={"app": "web"}, namespace_labels={"team": "a"})
    assert give(make(*pools), wanted) == [expected]


def test_a_pinned_pool_that_is_full_leaves_the_others() -> None:
    allocator = make(pool("all", "10.0.0.2/32"), pool("pinned", "10.0.0.1/32", pinned=True))
    assert [give(allocator, request(name)) for name in "abc"] == [["10.0.0.1"], ["10.0.0.2"], []]


@pytest.mark.parametrize(
    ("annotations", "spec", "expected"),
    [
        ({"metallb.io/loadBalancerIPs": "192.168.1.252"}, {}, "192.168.1.252"),
        ({"metallb.universe.tf/loadBalancerIPs": " 192.168.1.252"}, {}, "192.168.1.252"),
        (
            {"metallb.universe.tf/loadBalancerIPs": "1.1.1.1", "metallb.io/loadBalancerIPs": "192.168.1.253"},
            {},
            "192.168.1.253",
        ),
        ({}, {"loadBalancerIP": "192.168.1.253"}, "192.168.1.253"),
        ({"metallb.io/address-pool": "extra"}, {}, "10.0.0.0"),
        ({"metallb.universe.tf/address-pool": "extra"}, {}, "10.0.0.0"),
        ({"metallb.io/address-pool": "extra", "metallb.io/loadBalancerIPs": "10.0.0.1"}, {}, "10.0.0.1"),
    ],
)
def test_what_is_asked_for(annotations: dict[str, str], spec: dict[str, Any], expected: str) -> None:
    allocator = make(THREE, pool("extra", "10.0.0.0/30", auto_assign=False))
    assert give(allocator, asked("a", annotations, **spec)) == [expected]


IPS = "metallb.io/loadBalancerIPs"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (request("x", pool="nowhere"), 'unknown pool "nowhere"'),
        (request("x", pool="private"), "pool private not compatible for ip assignment"),
        (request("x", addresses=ips("8.8.8.8")), '["8.8.8.8"] is not allowed in config'),
        (request("x", addresses=ips("10.1.0.1")), "pool private not compatible for ip assignment"),
        (request("x", addresses=ips("10.2.0.1")), 'pool "closed" is disabled'),
        (
            request("x", addresses=ips("192.168.1.251"), pool="private"),
            'requested loadBalancer IP(s) ["192.168.1.251"] is not compatible '
            "with requested address pool private",
        ),
        (
            request("x", addresses=ips("192.168.1.251"), cluster_ips=IPV6),
            'requested loadBalancer IP(s) ["192.168.1.251"] does not match the ipFamily of the service',
        ),
        (
            request("x", addresses=ips("192.168.1.251")),
            'can\'t change sharing key for "default/x", address also in use by default/taken: '
            "existing service does not allow sharing",
        ),
        (
            asked("x", {IPS: "192.168.1.252"}, loadBalancerIP="192.168.1.252"),
            "service can not have both metallb.io/loadBalancerIPs and svc.Spec.LoadBalancerIP",
        ),
        (asked("x", {IPS: "192.168.1"}), 'invalid metallb.io/loadBalancerIPs: "192.168.1"'),
        (asked("x", {IPS: "1.1.1.1,1.1.1.2"}), '["1.1.1.1" "1.1.1.2"] has the same family'),
        (
            asked("x", {IPS: "1.1.1.1,1.1.1.2,::1"}),
            'more than two addresses ["1.1.1.1" "1.1.1.2" "::1"]',
        ),
        (asked("x", loadBalancerIP="here"), 'invalid spec.loadBalancerIP "here"'),
        (
            request("x", dual="RequireDualStack"),
            "Service requires dual stack but not enough clusterips [10.96.0.1]",
        ),
        (request("x", cluster_ips=()), "invalid ClusterIPs, can't determine family"),
        (
            request("x", cluster_ips=IPV6),
            'no available IPs: pool "default" has no IPv6 addresses',
        ),
        (
            request("x", pool="closed"),
            'no available IPs in pool "closed": pool "closed" is disabled',
        ),
        (
            request("x", openelb=True),
            'no available IPs: pool "default" is for Services without OpenELB\'s annotation; '
            'pool "private" is for Services without OpenELB\'s annotation; '
            'pool "closed" is for Services without OpenELB\'s annotation',
        ),
    ],
)
def test_refusals(wanted: Request, message: str) -> None:
    allocator = make(
        THREE,
        pool("private", "10.1.0.0/24", pinned=True, namespaces=frozenset({"other"})),
        pool("closed", "10.2.0.0/24", closed=True, auto_assign=False),
    )
    give(allocator, request("taken"))
    assert refusal(allocator, wanted) == message


def test_exhaustion_names_the_pool_and_what_would_help() -> None:
    allocator = make(THREE, pool("by-request", "10.0.0.0/30", auto_assign=False))
    for name in "abc":
        give(allocator, request(name))
    assert refusal(allocator, request("d")) == (
        'no available IPs: pool "default" is full, its 3 IPv4 addresses are in use by '
        "default/a,default/b,default/c; to free one, delete a Service of these or add addresses to the pool"
    )


def test_without_a_pool_services_are_told_so() -> None:
    assert refusal(make(), request("a")) == "no available IPs: no address pool is configured"
    only_by_request = make(pool("p", "10.0.0.0/30", auto_assign=False))
    assert refusal(only_by_request, request("a")) == (
        'no available IPs: pool "p" is not assigned automatically, only when it is asked for'
    )


def test_a_refusal_is_said_once() -> None:
    allocator = make(pool("p", "10.0.0.1/32"))
    give(allocator, request("a"))
    assert len(settle(allocator, request("b")).notices) == 1
    assert settle(allocator, request("b")).notices == ()
    assert len(settle(allocator, request("b", pool="other")).notices) == 1


# Sharing.


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (request("b", 81, key="k"), ""),
        (request("b", 80, key="k"), 'port TCP/80 is already in use on "192.168.1.251"'),
        (request("b", 81, key="other"), 'sharing key "other" does not match existing sharing key "k"'),
        (request("b", 81), "new service does not allow sharing"),
        (
            request("b", 81, key="k", backend="app=b"),
            'backend key "app=b" does not match existing sharing key ""',
        ),
        (request("b/b", 81, key="k"), ""),
    ],
)
def test_sharing_an_address(second: Request, why: str) -> None:
    allocator = make(pool("p", "192.168.1.251/32"))
    give(allocator, request("a", 80, key="k"))
    asking = replace(second, addresses=ips("192.168.1.251"))
    if why:
        assert refusal(allocator, asking).endswith(why)
        assert refusal(allocator, second).startswith("no available IPs")
    else:
        assert give(allocator, second) == ["192.168.1.251"]
        assert allocator.usage("p") == Usage(1, 0, 0, 0)


def test_protocols_tell_ports_apart() -> None:
    allocator = make(pool("p", "10.0.0.1/32"))
    tcp = Request("a/tcp", ips("10.96.0.1"), ports=frozenset({Port("TCP", 53)}), sharing=Sharing("dns"))
    udp = Request("a/udp", ips("10.96.0.2"), ports=frozenset({Port("UDP", 53)}), sharing=Sharing("dns"))
    assert give(allocator, tcp) == give(allocator, udp) == ["10.0.0.1"]


def test_local_policies_share_with_the_same_selector_only() -> None:
    local = {"externalTrafficPolicy": "Local", "selector": {"app": "web"}}
    key = {"metallb.universe.tf/allow-shared-ip": "k"}
    allocator = make(pool("p", "10.0.0.1/32"))
    assert give(allocator, asked("a", key, ports=[{"port": 80}], **local)) == ["10.0.0.1"]
    assert give(allocator, asked("b", key, ports=[{"port": 81}], **local)) == ["10.0.0.1"]
    assert give(allocator, asked("c", key, ports=[{"port": 82}])) == []


def test_sharing_takes_the_first_address_that_is_free_or_fits() -> None:
    allocator = make(THREE)
    give(allocator, request("a", 80, key="k", addresses=ips("192.168.1.252")))
    assert give(allocator, request("b", 81, key="k")) == ["192.168.1.251"]
    assert give(allocator, request("c", 81, key="k")) == ["192.168.1.252"]
    assert give(allocator, request("d", 82, key="k")) == ["192.168.1.251"]


def test_the_only_user_of_an_address_may_change_its_key() -> None:
    allocator = make(pool("p", "10.0.0.1/32"))
    give(allocator, request("a", 80, key="k"))
    give(allocator, request("b", 81, key="other"))
    assert give(allocator, request("a", 80, key="other")) == ["10.0.0.1"]
    assert allocator.woken() == ["default/b"]
    assert give(allocator, request("b", 81, key="other")) == ["10.0.0.1"]
    outcome = settle(allocator, request("a", 80, key="third"))
    assert outcome.addresses == ()
    assert [reason for reason, _ in said(outcome)] == ["ClearAssignment", "AllocationFailed"]


def test_a_port_that_is_given_up_is_for_others() -> None:
    allocator = make(pool("p", "10.0.0.1/32"))
    give(allocator, request("a", 80, 443, key="k"))
    assert give(allocator, request("b", 443, key="k")) == []
    give(allocator, request("a", 80, key="k"))
    assert allocator.woken() == ["default/b"]
    assert give(allocator, request("b", 443, key="k")) == ["10.0.0.1"]


# Families.


@pytest.mark.parametrize(
    ("pools", "dual", "expected"),
    [
        ([BOTH], "RequireDualStack", ["10.0.0.0", "fc00::"]),
        ([BOTH], "PreferDualStack", ["10.0.0.0", "fc00::"]),
        ([THREE, BOTH], "PreferDualStack", ["10.0.0.0", "fc00::"]),
        ([THREE], "PreferDualStack", ["192.168.1.251"]),
        ([pool("six", "fc00::/120")], "PreferDualStack", ["fc00::"]),
        ([pool("six", "fc00::/120"), THREE], "PreferDualStack", ["192.168.1.251"]),
        ([pool("six", "fc00::/120"), THREE], "RequireDualStack", []),
    ],
)
def test_dual_stack(pools: list[Pool], dual: str, expected: list[str]) -> None:
    assert give(make(*pools), request("a", dual=dual, cluster_ips=DUAL)) == expected


def test_single_stack_gets_its_own_family() -> None:
    assert give(make(BOTH), request("a", cluster_ips=IPV6)) == ["fc00::"]


def test_the_first_family_of_the_service_comes_first() -> None:
    wanted = request("a", dual="PreferDualStack", cluster_ips=DUAL[::-1])
    assert give(make(BOTH), wanted) == ["fc00::", "10.0.0.0"]
    assert give(make(THREE, pool("six", "fc00::/120")), wanted) == ["fc00::"]


def test_a_family_that_is_missing_is_added_when_there_is_one() -> None:
    allocator = make(pool("p", "10.0.0.0/30", "fc00::1/128"))
    give(allocator, request("six", cluster_ips=IPV6))
    wanted = request("a", dual="PreferDualStack", cluster_ips=DUAL)
    outcome = settle(allocator, wanted)
    assert addresses(outcome) == ["10.0.0.0"]
    ((reason, message),) = said(settle(allocator, wanted))
    assert reason == "AdditionalAssignFailed"
    assert message.startswith(
        "cannot assign additional IP in PreferDualStack: no available IPs in pool p for ipv6 IPFamily"
    )
    assert settle(allocator, wanted).notices == ()
    allocator.forget("default/six")
    assert allocator.woken() == ["default/a"]
    outcome = settle(allocator, wanted)
    assert addresses(outcome) == ["10.0.0.0", "fc00::1"]
    assert said(outcome) == [("IPAllocated", 'Assigned additional IP "fc00::1"')]


def test_a_service_that_becomes_dual_stack_or_ceases_to_be_keeps_what_fits() -> None:
    allocator = make(BOTH)
    give(allocator, request("other"))
    assert give(allocator, request("a")) == ["10.0.0.1"]
    both = request("a", dual="RequireDualStack", cluster_ips=DUAL)
    assert give(allocator, both) == ["10.0.0.1", "fc00::"]
    assert give(allocator, request("a", cluster_ips=IPV6)) == ["fc00::"]
    assert allocator.usage("both") == Usage(1, 1, 3, 3)
    assert give(allocator, request("a")) == ["10.0.0.1"]


# What a Service has already.


def test_what_the_status_shows_is_kept() -> None:
    allocator = make(THREE)
    outcome = settle(allocator, request("a"), "192.168.1.253")
    assert (addresses(outcome), outcome.pool, outcome.notices) == (["192.168.1.253"], "default", ())


def test_adopted_addresses_are_not_given_to_others() -> None:
    allocator = make(THREE)
    allocator.adopt(request("b"), ips("192.168.1.251"))
    allocator.adopt(request("c"), ips("192.168.1.251"))
    assert give(allocator, request("a")) == ["192.168.1.252"]
    assert give(allocator, request("b"), "192.168.1.251") == ["192.168.1.251"]
    outcome = settle(allocator, request("c"), "192.168.1.251")
    assert addresses(outcome) == ["192.168.1.253"]
    assert said(outcome)[0] == (
        "ClearAssignment",
        'current IP for "default/c" not allowed by config, will attempt for new IP assignment: '
        'can\'t change sharing key for "default/c", address also in use by default/b: '
        "existing service does not allow sharing",
    )


def test_what_was_decided_wins_over_what_somebody_wrote() -> None:
    allocator = make(THREE)
    give(allocator, request("a"))
    assert give(allocator, request("a"), "8.8.8.8") == ["192.168.1.251"]
    assert give(allocator, request("a")) == ["192.168.1.251"]


def test_a_status_that_makes_no_sense_is_cleared() -> None:
    outcome = settle(make(THREE), request("a"), "192.168.1.252", "192.168.1.253")
    assert addresses(outcome) == ["192.168.1.251"]
    assert [reason for reason, _ in said(outcome)] == ["nolbIPsIPFamily", "IPAllocated"]


@pytest.mark.parametrize(
    ("changed", "expected", "why"),
    [
        (
            request("a", addresses=ips("192.168.1.253")),
            ["192.168.1.253"],
            "user requested a different IP than the one currently assigned",
        ),
        (
            request("a", pool="extra"),
            ["10.0.0.0"],
            "user requested a different pool than the one currently assigned",
        ),
        (
            request("a", addresses=ips("8.8.8.8")),
            [],
            "user requested a different IP than the one currently assigned",
        ),
        (
            request("a", cluster_ips=IPV6),
            [],
            '["192.168.1.251"] does not match the ipFamily of the service',
        ),
    ],
)
def test_what_is_asked_for_may_change(changed: Request, expected: list[str], why: str) -> None:
    allocator = make(THREE, pool("extra", "10.0.0.0/30", auto_assign=False))
    give(allocator, request("a"))
    outcome = settle(allocator, changed)
    assert addresses(outcome) == expected
    reason, message = said(outcome)[0]
    assert reason == "ClearAssignment"
    assert message.endswith(why)


def test_a_request_that_cannot_be_understood_changes_nothing() -> None:
    allocator = make(THREE)
    give(allocator, request("a"))
    outcome = settle(allocator, asked("a", {IPS: "nonsense"}))
    assert addresses(outcome) == ["192.168.1.251"]
    assert said(outcome) == [
        (
            "LoadBalancerFailed",
            'invalid requested loadbalancer IPs: invalid metallb.io/loadBalancerIPs: "nonsense"',
        )
    ]


def test_a_pool_that_goes_takes_its_addresses_along() -> None:
    allocator = make(THREE)
    give(allocator, request("a"))
    allocator.configure([pool("new", "10.0.0.0/30")])
    outcome = settle(allocator, request("a"), "192.168.1.251")
    assert addresses(outcome) == ["10.0.0.0"]
    assert said(outcome) == [
        (
            "ClearAssignment",
            'current IP for "default/a" not allowed by config, will attempt for new IP assignment: '
            '["192.168.1.251"] is not allowed in config',
        ),
        ("IPAllocated", 'Assigned IP ["10.0.0.0"]'),
    ]


def test_an_address_that_may_be_of_a_pool_that_is_not_known_stays() -> None:
    allocator = Allocator()
    allocator.configure([THREE], complete=False)
    allocator.adopt(request("a"), ips("10.0.0.1"))
    assert allocator.settle(request("a"), ips("10.0.0.1")) is None
    assert give(allocator, request("b")) == ["192.168.1.251"]
    allocator.configure([THREE, pool("more", "10.0.0.0/30")])
    assert give(allocator, request("a"), "10.0.0.1") == ["10.0.0.1"]


def test_pools_that_are_cut_otherwise_keep_their_services() -> None:
    allocator = make(THREE)
    give(allocator, request("a"))
    give(allocator, request("b"))
    allocator.configure([pool("low", "192.168.1.251/32"), pool("high", "192.168.1.252-192.168.1.253")])
    outcome = settle(allocator, request("a"))
    assert (outcome.pool, outcome.notices) == ("low", ())
    assert give(allocator, request("c")) == ["192.168.1.253"]
    assert allocator.usage("high") == Usage(2, 0, 0, 0)


def test_a_namespace_that_may_not_use_the_pool_any_more_gets_another() -> None:
    team = pool("team", "10.0.0.0/30", pinned=True, namespace_selectors=(selectors.parse("team=a"),))
    allocator = make(team, THREE)
    assert give(allocator, request("a", namespace_labels={"team": "a"})) == ["10.0.0.0"]
    assert give(allocator, request("a", namespace_labels={"team": "b"})) == ["192.168.1.251"]


# Freeing.


def test_who_waits_is_woken_in_order_when_an_address_becomes_free() -> None:
    allocator = make(pool("p", "10.0.0.1/32"), pool("other", "10.0.1.1/32", auto_assign=False))
    give(allocator, request("a"))
    give(allocator, request("else", pool="other"))
    for name in ("b", "c"):
        give(allocator, request(name))
    allocator.forget("default/else")
    assert allocator.woken() == []
    allocator.forget("default/a")
    assert allocator.woken() == ["default/b", "default/c"]
    assert give(allocator, request("b")) == ["10.0.0.1"]
    assert give(allocator, request("c")) == []
    allocator.release("default/b")
    assert allocator.woken() == []
    allocator.confirm("default/b")
    assert allocator.woken() == ["default/c"]


def test_an_address_is_not_free_before_the_api_shows_it_no_more() -> None:
    allocator = make(pool("p", "10.0.0.1-10.0.0.2"))
    give(allocator, request("a"))
    allocator.settle(request("a", addresses=ips("10.0.0.2")), ())
    assert allocator.held("default/a") == ips("10.0.0.2")
    assert give(allocator, request("b")) == []
    allocator.confirm("default/a")
    assert give(allocator, request("b")) == ["10.0.0.1"]


def test_a_shared_address_is_not_joined_while_somebody_still_shows_it() -> None:
    allocator = make(pool("p", "10.0.0.1-10.0.0.2"))
    give(allocator, request("a", 80, key="k"))
    give(allocator, request("b", 81, key="k"))
    allocator.settle(request("a", 80, key="k", addresses=ips("10.0.0.2")), ())
    wanted = request("c", 80, key="k", addresses=ips("10.0.0.1"))
    assert refusal(allocator, wanted) == '"10.0.0.1" is still shown by default/a'
    assert give(allocator, request("d", 80, key="k")) == []
    allocator.confirm("default/a")
    assert allocator.woken() == ["default/c", "default/d"]
    assert give(allocator, wanted) == ["10.0.0.1"]


def test_a_service_may_come_back_to_what_it_is_about_to_leave() -> None:
    allocator = make(pool("p", "10.0.0.1-10.0.0.2"))
    give(allocator, request("a"))
    allocator.settle(request("a", addresses=ips("10.0.0.2")), ())
    allocator.settle(request("a", addresses=ips("10.0.0.1")), ())
    allocator.confirm("default/a")
    assert give(allocator, request("b")) == ["10.0.0.2"]
    assert allocator.usage("p") == Usage(2, 0, 0, 0)


# OpenELB.

OPENELB = {"lb.kubesphere.io/v1alpha1": "openelb"}


def test_openelb_services_get_their_eip() -> None:
    eips = (
        pool("first", "10.0.0.0/30", source="Eip", protocol="bgp"),
        pool("l2", "10.0.1.0/30", source="Eip", protocol="layer2", auto_assign=False),
    )
    allocator = make(THREE, *eips)
    assert give(allocator, asked("a", OPENELB)) == ["10.0.0.0"]
    named = OPENELB | {
        "protocol.openelb.kubesphere.io/v1alpha1": "layer2",
        "eip.openelb.kubesphere.io/v1alpha2": "l2",
    }
    assert give(allocator, asked("b", named)) == ["10.0.1.0"]
    assert give(allocator, asked("c", OPENELB | {"eip.openelb.kubesphere.io/v1alpha1": "10.0.0.2"})) == [
        "10.0.0.2"
    ]
    wrong = named | {"protocol.openelb.kubesphere.io/v1alpha1": "bgp"}
    assert refusal(allocator, asked("d", wrong)) == "pool l2 not compatible for ip assignment"


def test_openelb_services_share_what_they_ask_for_by_address() -> None:
    allocator = make(pool("eip", "10.0.0.1-10.0.0.2", source="Eip"))
    assert give(allocator, asked("a", OPENELB)) == ["10.0.0.1"]
    assert give(allocator, asked("b", OPENELB, ports=[{"port": 81}])) == ["10.0.0.2"]
    wanted = OPENELB | {"eip.openelb.kubesphere.io/v1alpha1": "10.0.0.1"}
    assert give(allocator, asked("c", wanted, ports=[{"port": 81}])) == ["10.0.0.1"]
    assert refusal(allocator, asked("d", wanted)) == 'port TCP/80 is already in use on "10.0.0.1"'


# Size.


def test_the_size_of_a_pool_costs_nothing() -> None:
    allocator = make(pool("huge", "10.0.0.0/8", "fc00::/8", avoid_buggy_ips=True))
    started = time.monotonic()
    for number in range(2000):
        give(allocator, request(f"s{number}", dual="RequireDualStack", cluster_ips=DUAL))
    for number in range(0, 2000, 2):
        allocator.forget(f"default/s{number}")
    assert give(allocator, request("again", cluster_ips=ips("10.96.0.1"))) == ["10.0.0.1"]
    assert time.monotonic() - started < 60  # a scan of the pool would take days
    assert allocator.usage("huge").available_ipv4 == 2**24 - 2**17 - 1001
