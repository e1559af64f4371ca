"""The iptables rules for a Service port, and those that every node has: pure text.

Chains, comments and hashes are kube-proxy's (k8s.io/kubernetes/pkg/proxy/iptables). Rules are written as
``iptables-save`` prints them, so that what is in the kernel can be compared with what is wanted.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from ..model import Destination, Family, PortRules, Settings

SERVICES = "KUBE-SERVICES"
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
POSTROUTING = "KUBE-POSTROUTING"
MARK_MASQ = "KUBE-MARK-MASQ"
FORWARD = "KUBE-FORWARD"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
MARTIANS = "KUBE-FIREWALL"
CANARY = "KUBE-PROXY-CANARY"

OWN_PREFIXES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-")
"""Chains of single Services, which only this backend makes (XLB: releases before 1.25 did)."""


class Place(NamedTuple):
    """A chain that rules of many Services share."""

    table: str
    chain: str


NAT_SERVICES = Place("nat", SERVICES)
NAT_NODE_PORTS = Place("nat", NODE_PORTS)
FILTER_SERVICES = Place("filter", SERVICES)
FILTER_EXTERNAL = Place("filter", EXTERNAL_SERVICES)
FILTER_NODE_PORTS = Place("filter", NODE_PORTS)
FILTER_FIREWALL = Place("filter", PROXY_FIREWALL)

SHARED_PLACES = (
    NAT_SERVICES,
    NAT_NODE_PORTS,
    FILTER_SERVICES,
    FILTER_EXTERNAL,
    FILTER_NODE_PORTS,
    FILTER_FIREWALL,
)


class SharedRule(NamedTuple):
    place: Place
    rule: str


class Rendered(NamedTuple):
    """One Service port: its own chains in the nat table, and its rules in chains that it shares."""

    chains: dict[str, list[str]]
    shared: list[SharedRule]


class Jump(NamedTuple):
    """A rule in a built-in chain that leads to one of ours."""

    table: str
    chain: str
    rule: str


def _hash(text: str) -> str:
    return b32encode(sha256(text.encode()).digest())[:16].decode()


def chain_name(prefix: str, rules: PortRules) -> str:
    """``KUBE-SVC-…`` and its likes: *prefix* is SVC, SVL, EXT or FW."""
    return f"KUBE-{prefix}-{_hash(f'{rules.name}{rules.name.protocol.lower()}')}"


def endpoint_chain_name(rules: PortRules, destination: Destination) -> str:
    return f"KUBE-SEP-{_hash(f'{rules.name}{rules.name.protocol.lower()}{destination}')}"


def probability(remaining: int) -> str:
    """The chance that one of *remaining* equal endpoints is taken, as the kernel keeps it: in units of 2^-31.

    Through n rules each endpoint then gets its n-th part, to 9 digits.
    """
    return f"{round(2**31 / remaining) / 2**31:.11f}"


def render(rules: PortRules, settings: Settings) -> Rendered:
    """All rules of one Service port."""
    return Rendered(dict(_chains(rules, settings)), list(_shared(rules, settings)))


def _shared(rules: PortRules, settings: Settings) -> Iterator[SharedRule]:
    name = rules.name
    protocol = name.protocol.lower()
    external = chain_name("EXT", rules)
    verdict = {"reject": _reject(settings.family), "drop": "DROP", "balance": ""}
    why = f'"{name} has no endpoints"' if not rules.usable else f'"{name} has no local endpoints"'

    def to(address: str, port: int, comment: str, target: str) -> str:
        where = f"-d {address}/{settings.family.bits} " if address else ""
        return f"{where}-p {protocol} -m comment --comment {comment} -m {protocol} --dport {port} -j {target}"

    if rules.internal_fate == "balance":
        target = chain_name("SVL" if rules.internal_local else "SVC", rules)
        rule = to(rules.cluster_ip, rules.port, f'"{name} cluster IP"', target)
        yield SharedRule(NAT_SERVICES, rule)
    else:
        rule = to(rules.cluster_ip, rules.port, why, verdict[rules.internal_fate])
        yield SharedRule(FILTER_SERVICES, rule)

    firewall = chain_name("FW", rules) if rules.firewalled else ""
    if rules.usable:
        for address in rules.external_ips:
            yield SharedRule(NAT_SERVICES, to(address, rules.port, f'"{name} external IP"', external))
        for address in rules.load_balancer_ips:
            rule = to(address, rules.port, f'"{name} loadbalancer IP"', firewall or external)
            yield SharedRule(NAT_SERVICES, rule)
            if firewall:
                comment = f'"{name} traffic not accepted by {firewall}"'
                yield SharedRule(FILTER_FIREWALL, to(address, rules.port, comment, "DROP"))
        if rules.node_port:
            yield SharedRule(NAT_NODE_PORTS, to("", rules.node_port, f'"{name}"', external))
    if rules.external_fate != "balance":
        target = verdict[rules.external_fate]
        for address in (*rules.external_ips, *rules.load_balancer_ips):
            yield SharedRule(FILTER_EXTERNAL, to(address, rules.port, why, target))
        if rules.node_port:
            rule = (
                f"-p {protocol} -m comment --comment {why} -m addrtype --dst-type LOCAL"
                f" -m {protocol} --dport {rules.node_port} -j {target}"
            )
            yield SharedRule(FILTER_EXTERNAL, rule)
    if rules.health_check_node_port:
        rule = (
            f'-p tcp -m comment --comment "{name} health check node port"'
            f" -m tcp --dport {rules.health_check_node_port} -j ACCEPT"
        )
        yield SharedRule(FILTER_NODE_PORTS, rule)


def _reject(family: Family) -> str:
    return f"REJECT --reject-with icmp{'6' if family is Family.IPV6 else ''}-port-unreachable"


def _chains(rules: PortRules, settings: Settings) -> Iterator[tuple[str, list[str]]]:
    cluster_chain = chain_name("SVC", rules)
    local_chain = chain_name("SVL", rules)
    if rules.usable and rules.externally_accessible:
        external_chain = chain_name("EXT", rules)
        yield external_chain, list(_external(rules, settings, cluster_chain, local_chain))
        if rules.firewalled:
            yield chain_name("FW", rules), list(_firewall(rules, settings, external_chain))
    names = {destination: endpoint_chain_name(rules, destination) for destination in rules.destinations}
    entry = local_chain if rules.internal_local else cluster_chain
    for chain, endpoints in ((cluster_chain, rules.cluster), (local_chain, rules.local)):
        if not endpoints:
            continue
        first = _masquerade_foreign(rules, settings) if chain == entry else []
        yield chain, [*first, *_balance(rules, settings.family, endpoints, names)]
    for destination, chain in names.items():
        yield chain, _endpoint(rules, settings.family, destination, chain)


def _masquerade_foreign(rules: PortRules, settings: Settings) -> list[str]:
    """What reaches the cluster IP from outside may have to leave this node again: answers must come back."""
    if not settings.masquerade_all and not settings.local_cidr:
        return []
    foreign = "" if settings.masquerade_all else f"! -s {settings.local_cidr} "
    protocol = rules.name.protocol.lower()
    return [
        f"{foreign}-d {rules.cluster_ip}/{settings.family.bits} -p {protocol}"
        f' -m comment --comment "{rules.name} cluster IP"'
        f" -m {protocol} --dport {rules.port} -j {MARK_MASQ}"
    ]


def _external(rules: PortRules, settings: Settings, cluster: str, local: str) -> Iterator[str]:
    def comment(before: str) -> str:
        return f'-m comment --comment "{before} {rules.name} external destinations"'

    if not rules.external_local:
        yield f"{comment('masquerade traffic for')} -j {MARK_MASQ}"
        yield f"-j {cluster}"
        return
    # What starts here goes as if out to a load balancer and back in: the policy does not bind it.
    if settings.local_cidr:
        yield f"-s {settings.local_cidr} {comment('pod traffic for')} -j {cluster}"
    yield f"{comment('masquerade LOCAL traffic for')} -m addrtype --src-type LOCAL -j {MARK_MASQ}"
    yield f"{comment('route LOCAL traffic for')} -m addrtype --src-type LOCAL -j {cluster}"
    if rules.local:
        yield f"-j {local}"


def _firewall(rules: PortRules, settings: Settings, external: str) -> Iterator[str]:
    comment = f'-m comment --comment "{rules.name} loadbalancer IP"'
    ranges = [ip_network(text) for text in rules.source_ranges]
    for allowed in ranges:
        source = f"-s {allowed} " if allowed.prefixlen else ""
        yield f"{source}{comment} -j {external}"
    if any(ip_address(own) in allowed for own in settings.node_ips for allowed in ranges):
        # The address may be one of the node's own, and then a request from here has it as its source.
        for address in rules.load_balancer_ips:
            yield f"-s {address}/{settings.family.bits} {comment} -j {external}"
    yield (f'-m comment --comment "other traffic to {rules.name} will be dropped by {PROXY_FIREWALL}"')


def _balance(
    rules: PortRules, family: Family, endpoints: Sequence[Destination], names: dict[Destination, str]
) -> Iterator[str]:
    if rules.affinity_seconds:
        for destination in endpoints:
            yield (
                f'-m comment --comment "{rules.name} -> {destination}"'
                f" -m recent --rcheck --seconds {rules.affinity_seconds} --reap"
                f" {_recent(family, names[destination])} -j {names[destination]}"
            )
    for index, destination in enumerate(endpoints):
        remaining = len(endpoints) - index
        chance = f"-m statistic --mode random --probability {probability(remaining)} "
        yield (
            f'-m comment --comment "{rules.name} -> {destination}" {chance if remaining > 1 else ""}'
            f"-j {names[destination]}"
        )


def _recent(family: Family, name: str) -> str:
    mask = ":".join(["ffff"] * 8) if family is Family.IPV6 else "255.255.255.255"
    return f"--name {name} --mask {mask} --rsource"


def _endpoint(rules: PortRules, family: Family, destination: Destination, chain: str) -> list[str]:
    protocol = rules.name.protocol.lower()
    comment = f'-m comment --comment "{rules.name}"'
    remember = f" -m recent --set {_recent(family, chain)}" if rules.affinity_seconds else ""
    return [
        f"-s {destination.address}/{family.bits} {comment} -j {MARK_MASQ}",
        f"-p {protocol} {comment}{remember} -m {protocol} -j DNAT --to-destination {destination}",
    ]


def fixed_chains(settings: Settings) -> dict[Place, list[str]]:
    """The chains that are there whatever the Services are, without those that Services share."""
    mark = f"{1 << settings.masquerade_bit:#x}"
    forward = [
        f'-m comment --comment "kubernetes forwarding rules" -m mark --mark {mark}/{mark} -j ACCEPT',
        '-m comment --comment "kubernetes forwarding conntrack rule"'
        " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ]
    if not settings.tcp_be_liberal:
        # An invalid packet is not translated back; its receiver would answer with a reset.
        forward.insert(0, "-m conntrack --ctstate INVALID -j DROP")
    chains = {
        Place("nat", MARK_MASQ): [f"-j MARK --set-xmark {mark}/{mark}"],
        Place("nat", POSTROUTING): [
            f"-m mark ! --mark {mark}/{mark} -j RETURN",
            f"-j MARK --set-xmark {mark}/0x0",
            '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
        ],
        Place("filter", FORWARD): forward,
    }
    if _guards_loopback(settings):
        chains[Place("filter", MARTIANS)] = [
            "! -s 127.0.0.0/8 -d 127.0.0.0/8"
            ' -m comment --comment "block incoming localnet connections"'
            " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
        ]
    for table in ("mangle", "nat", "filter"):
        chains[Place(table, CANARY)] = []
    return chains


def _guards_loopback(settings: Settings) -> bool:
    return settings.family is Family.IPV4 and settings.localhost_node_ports


def last_rules(settings: Settings) -> list[str]:
    """The end of the nat table's KUBE-SERVICES: what no Service address took may be for a node port."""
    comment = (
        '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"'
    )
    if settings.node_port_addresses is not None:
        return [
            f"-d {address}/{settings.family.bits} {comment} -j {NODE_PORTS}"
            for address in settings.node_port_addresses
        ]
    without = ""
    if settings.family is Family.IPV6:
        without = "! -d ::1/128 "
    elif not settings.localhost_node_ports:
        without = "! -d 127.0.0.0/8 "
    return [f"{without}{comment} -m addrtype --dst-type LOCAL -j {NODE_PORTS}"]


def jumps(settings: Settings) -> list[Jump]:
    """The rules in built-in chains, each to stand before what others have there; first ones first."""
    new = "-m conntrack --ctstate NEW "

    def rules(table: str, built_in: str, *targets: tuple[str, str, str]) -> Iterator[Jump]:
        for state, comment, target in targets:
            text = f'-m comment --comment "{comment}" ' if comment else ""
            # iptables-save shows matches in the order in which they were given: kube-proxy gives state first.
            yield Jump(table, built_in, f"{state}{text}-j {target}")

    balancer = (new, "kubernetes load balancer firewall", PROXY_FIREWALL)
    portals = (new, "kubernetes service portals", SERVICES)
    visible = (new, "kubernetes externally-visible service portals", EXTERNAL_SERVICES)
    martians = [("", "", MARTIANS)] if _guards_loopback(settings) else []
    health = ("", "kubernetes health check service ports", NODE_PORTS)
    forwarding = ("", "kubernetes forwarding rules", FORWARD)
    return [
        *rules("filter", "INPUT", balancer, health, visible, *martians),
        *rules("filter", "FORWARD", balancer, forwarding, portals, visible),
        *rules("filter", "OUTPUT", balancer, portals, visible, *martians),
        *rules("nat", "PREROUTING", ("", "kubernetes service portals", SERVICES)),
        *rules("nat", "OUTPUT", ("", "kubernetes service portals", SERVICES)),
        *rules("nat", "POSTROUTING", ("", "kubernetes postrouting rules", POSTROUTING)),
    ]
