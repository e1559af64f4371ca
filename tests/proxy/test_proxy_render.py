"""The text of rules, as kube-proxy's users know them."""

from fractions import Fraction

import pytest

from buoy.proxy.iptables import render
from buoy.proxy.iptables.render import SharedRule
from buoy.proxy.model import Destination, Family, PortName, PortRules, Settings

SETTINGS = Settings(Family.IPV4, ("192.168.1.80",), "10.244.0.0/16")
WEB = PortName("default/web", "http", "TCP")


def at(*numbers):
    return tuple(Destination(f"10.244.1.{number}", 80) for number in numbers)


def rules(**changes):
    base = {"name": WEB, "cluster_ip": "10.96.0.10", "port": 80, "cluster": at(2, 3), "usable": True}
    return PortRules(**{**base, **changes})


def shared(rules, settings=SETTINGS):
    return [
        f"{one.place.table} {one.place.chain} {one.rule}" for one in render.render(rules, settings).shared
    ]


def test_hashes_are_kube_proxys():
    """Those of the API server's own Service, to be found in any cluster and in many a bug report."""
    kubernetes = PortRules(PortName("default/kubernetes", "https", "TCP"), "10.96.0.1", 443)
    assert render.chain_name("SVC", kubernetes) == "KUBE-SVC-NPX46M4PTMTKRN6Y"
    dns = PortRules(PortName("kube-system/kube-dns", "dns", "UDP"), "10.96.0.10", 53)
    assert render.chain_name("SVC", dns) == "KUBE-SVC-TCOU7JCQXEZGVUNU"


def test_the_tutorials_service():
    """ClusterIP without a port name, three endpoints."""
    tutorial = PortRules(
        PortName("default/my-service", "", "TCP"),
        "10.97.17.3",
        8000,
        cluster=tuple(Destination(f"10.244.{node}.2", 8000) for node in (1, 2, 3)),
        usable=True,
    )
    chains, shared = render.render(tutorial, SETTINGS)
    service, *endpoints = chains
    assert shared == [
        SharedRule(
            render.NAT_SERVICES,
            '-d 10.97.17.3/32 -p tcp -m comment --comment "default/my-service cluster IP"'
            f" -m tcp --dport 8000 -j {service}",
        )
    ]
    to = "-m statistic --mode random --probability"
    assert chains[service] == [
        '! -s 10.244.0.0/16 -d 10.97.17.3/32 -p tcp -m comment --comment "default/my-service cluster IP"'
        " -m tcp --dport 8000 -j KUBE-MARK-MASQ",
        f'-m comment --comment "default/my-service -> 10.244.1.2:8000" {to} 0.33333333349 -j {endpoints[0]}',
        f'-m comment --comment "default/my-service -> 10.244.2.2:8000" {to} 0.50000000000 -j {endpoints[1]}',
        f'-m comment --comment "default/my-service -> 10.244.3.2:8000" -j {endpoints[2]}',
    ]
    assert chains[endpoints[0]] == [
        '-s 10.244.1.2/32 -m comment --comment "default/my-service" -j KUBE-MARK-MASQ',
        '-p tcp -m comment --comment "default/my-service" -m tcp -j DNAT --to-destination 10.244.1.2:8000',
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100, 1000])
def test_shares_are_equal(count):
    """Exactly as the kernel counts: a 31-bit random number is compared with the probability's numerator."""
    left = Fraction(1)
    for remaining in range(count, 0, -1):
        chance = Fraction(round(float(render.probability(remaining)) * 2**31), 2**31) if remaining > 1 else 1
        share = left * chance
        assert abs(share * count - 1) < Fraction(1, 10**6)
        left -= share
    assert left == 0


def test_no_endpoints_is_rejected_wherever_it_is_asked():
    empty = rules(cluster=(), usable=False, node_port=30080, external_ips=("192.0.2.7",))
    why = '-m comment --comment "default/web:http has no endpoints"'
    reject = "-j REJECT --reject-with icmp-port-unreachable"
    assert shared(empty) == [
        f"filter KUBE-SERVICES -d 10.96.0.10/32 -p tcp {why} -m tcp --dport 80 {reject}",
        f"filter KUBE-EXTERNAL-SERVICES -d 192.0.2.7/32 -p tcp {why} -m tcp --dport 80 {reject}",
        f"filter KUBE-EXTERNAL-SERVICES -p tcp {why} -m addrtype --dst-type LOCAL"
        f" -m tcp --dport 30080 {reject}",
    ]
    assert render.render(empty, SETTINGS).chains == {}


def test_local_policies_drop_what_others_can_serve():
    away = rules(external_local=True, node_port=30080)
    assert shared(away)[-1] == (
        'filter KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "default/web:http has no local endpoints"'
        " -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j DROP"
    )
    inner = rules(internal_local=True, cluster=())
    assert shared(inner) == [
        'filter KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http has no local'
        ' endpoints" -m tcp --dport 80 -j DROP'
    ]


def test_external_traffic_with_cluster_policy_is_masqueraded():
    everything = rules(node_port=30080, external_ips=("192.0.2.7",), load_balancer_ips=("203.0.113.1",))
    external = render.chain_name("EXT", everything)
    assert shared(everything)[1:] == [
        'nat KUBE-SERVICES -d 192.0.2.7/32 -p tcp -m comment --comment "default/web:http external IP"'
        f" -m tcp --dport 80 -j {external}",
        "nat KUBE-SERVICES -d 203.0.113.1/32 -p tcp"
        f' -m comment --comment "default/web:http loadbalancer IP" -m tcp --dport 80 -j {external}',
        'nat KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http"'
        f" -m tcp --dport 30080 -j {external}",
    ]
    assert render.render(everything, SETTINGS).chains[external] == [
        '-m comment --comment "masquerade traffic for default/web:http external destinations"'
        " -j KUBE-MARK-MASQ",
        f"-j {render.chain_name('SVC', everything)}",
    ]


def test_external_traffic_with_local_policy_keeps_the_clients_address():
    local = rules(node_port=30080, external_local=True, local=at(2))
    chains = render.render(local, SETTINGS).chains
    service, here = render.chain_name("SVC", local), render.chain_name("SVL", local)
    for_external = "default/web:http external destinations"
    assert chains[render.chain_name("EXT", local)] == [
        f'-s 10.244.0.0/16 -m comment --comment "pod traffic for {for_external}" -j {service}',
        f'-m comment --comment "masquerade LOCAL traffic for {for_external}"'
        " -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
        f'-m comment --comment "route LOCAL traffic for {for_external}"'
        f" -m addrtype --src-type LOCAL -j {service}",
        f"-j {here}",
    ]
    (only,) = chains[here]
    assert only.endswith(f"-j {render.endpoint_chain_name(local, at(2)[0])}")


def test_source_ranges():
    limited = rules(
        load_balancer_ips=("203.0.113.1",), source_ranges=("192.168.0.0/16", "0.0.0.0/0"), node_port=30080
    )
    firewall, external = render.chain_name("FW", limited), render.chain_name("EXT", limited)
    comment = '-m comment --comment "default/web:http loadbalancer IP"'
    assert render.render(limited, SETTINGS).chains[firewall] == [
        f"-s 192.168.0.0/16 {comment} -j {external}",
        f"{comment} -j {external}",
        f"-s 203.0.113.1/32 {comment} -j {external}",
        '-m comment --comment "other traffic to default/web:http will be dropped by KUBE-PROXY-FIREWALL"',
    ]
    assert (
        "filter KUBE-PROXY-FIREWALL -d 203.0.113.1/32 -p tcp -m comment --comment"
        f' "default/web:http traffic not accepted by {firewall}" -m tcp --dport 80 -j DROP'
    ) in shared(limited)
    elsewhere = Settings(Family.IPV4, ("172.16.0.1",))
    no_node = rules(load_balancer_ips=("203.0.113.1",), source_ranges=("192.168.0.0/16",))
    assert len(render.render(no_node, elsewhere).chains[firewall]) == 2


def test_the_health_checks_port_is_open_whatever_else_is_filtered():
    assert shared(rules(node_port=30080, health_check_node_port=31000))[-1] == (
        'filter KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http health check node port"'
        " -m tcp --dport 31000 -j ACCEPT"
    )


def test_affinity():
    sticky = rules(affinity_seconds=60)
    chains = render.render(sticky, SETTINGS).chains
    first = render.endpoint_chain_name(sticky, at(2)[0])
    recent = f"--name {first} --mask 255.255.255.255 --rsource"
    assert chains[render.chain_name("SVC", sticky)][1] == (
        '-m comment --comment "default/web:http -> 10.244.1.2:80"'
        f" -m recent --rcheck --seconds 60 --reap {recent} -j {first}"
    )
    assert f"-m recent --set {recent} -m tcp -j DNAT" in chains[first][1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(Family.IPV4), None),
        (Settings(Family.IPV4, local_cidr="10.244.1.0/24"), "! -s 10.244.1.0/24 -d"),
        (Settings(Family.IPV4, local_cidr="10.244.1.0/24", masquerade_all=True), "-d"),
    ],
    ids=["nothing known", "not from Pods", "everybody"],
)
def test_who_is_masqueraded_on_the_way_to_a_cluster_ip(settings, expected):
    first = render.render(rules(), settings).chains[render.chain_name("SVC", rules())][0]
    if expected is None:
        assert "KUBE-MARK-MASQ" not in first
    else:
        assert first.startswith(expected)
        assert first.endswith("KUBE-MARK-MASQ")


def test_ipv6():
    six = PortRules(
        WEB, "fd00::a", 80, affinity_seconds=9, cluster=(Destination("fd00:1::2", 80),), usable=True
    )
    settings = Settings(Family.IPV6, local_cidr="fd00:1::/48")
    (_, lines), (_, endpoint) = render.render(six, settings).chains.items()
    assert lines[0].startswith("! -s fd00:1::/48 -d fd00::a/128 -p tcp ")
    assert "--mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource" in lines[1]
    assert endpoint[1].endswith("--to-destination [fd00:1::2]:80")
    assert (
        render.render(PortRules(WEB, "fd00::a", 80), settings)
        .shared[0]
        .rule.endswith("REJECT --reject-with icmp6-port-unreachable")
    )
    assert render.last_rules(settings)[0].startswith("! -d ::1/128 ")


def test_the_mark_is_a_setting():
    chains = render.fixed_chains(Settings(Family.IPV4, masquerade_bit=3))
    assert chains[render.Place("nat", "KUBE-MARK-MASQ")] == ["-j MARK --set-xmark 0x8/0x8"]
    with pytest.raises(ValueError, match="32"):
        Settings(Family.IPV4, masquerade_bit=32)


def test_node_ports_on_some_addresses_only():
    some = Settings(Family.IPV4, node_port_addresses=("192.168.1.80",))
    assert [rule.split(" -m ")[0] for rule in render.last_rules(some)] == ["-d 192.168.1.80/32"]
    without = Settings(Family.IPV4, localhost_node_ports=False)
    assert render.last_rules(without)[0].startswith("! -d 127.0.0.0/8 ")
    assert not any(jump.rule.endswith("KUBE-FIREWALL") for jump in render.jumps(without))
