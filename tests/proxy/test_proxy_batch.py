"""The input for iptables-restore, run by an interpreter that knows its rules: by difference or from scratch,
the end is the same, and no step on the way is one that iptables would refuse."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buoy.proxy.iptables import batch, render
from buoy.proxy.model import Change, Destination, Family, PortName, PortRules, Ruleset, Settings

SETTINGS = Settings(Family.IPV4, ("192.168.1.80",), "10.244.0.0/16")
BUILT_IN = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
KERNEL_TARGETS = {"ACCEPT", "DROP", "RETURN", "REJECT", "DNAT", "MARK", "MASQUERADE"}


def empty():
    return {table: {chain: [] for chain in chains} for table, chains in BUILT_IN.items()}


def target(rule):
    words = rule.split(" ")
    return words[words.index("-j") + 1] if "-j" in words else ""


def restore(tables, script):
    """What ``iptables-restore --noflush`` does. Refuses what it refuses."""
    chains, led_to = {}, set()
    for line in script.decode().splitlines():
        command, _, rest = line.partition(" ")
        name, _, rule = rest.partition(" ")
        if line[0] == "*":
            chains, led_to = tables[line[1:]], None
        elif line[0] == ":":
            chains[line[1:].split(" ")[0]] = []
        elif command in ("-A", "-I"):
            assert target(rule) in KERNEL_TARGETS | {""} or target(rule) in chains, line
            chains[name].insert(len(chains[name]) if command == "-A" else 0, rule)
        elif command == "-D":
            chains[name].remove(rule)
        elif command == "-X":
            assert not chains.pop(name), line
            if led_to is None:  # in our input, nothing is added after the first -X of a table
                led_to = {target(one) for rules in chains.values() for one in rules}
            assert name not in led_to, line
        else:
            assert line == "COMMIT"


def canonical(tables):
    """Tables with the order gone where order means nothing."""
    free = {(place.table, place.chain) for place in render.SHARED_PLACES}
    last = render.last_rules(SETTINGS)
    for rules in [tables["nat"].get(render.SERVICES)]:
        assert rules is None or rules[-len(last) :] == last
    return {
        table: {chain: sorted(rules) if (table, chain) in free else rules for chain, rules in chains.items()}
        for table, chains in tables.items()
    }


def built(ports):
    tables = empty()
    restore(tables, batch.for_saved({}, Ruleset(SETTINGS, ports)).encode())
    return tables


def count(tables):
    """Rules of ours by table."""
    own = {
        table: sum(len(rules) for chain, rules in chains.items() if chain not in BUILT_IN[table])
        for table, chains in tables.items()
    }
    return {table: number for table, number in own.items() if number}


destinations = st.lists(
    st.builds(Destination, st.integers(1, 6).map(lambda number: f"10.244.1.{number}"), st.just(80)),
    max_size=4,
    unique=True,
).map(lambda found: tuple(sorted(found)))


@st.composite
def port_rules(draw, name):
    cluster, local = draw(destinations), draw(destinations)
    external_local, internal_local = draw(st.booleans()), draw(st.booleans())
    node_port = draw(st.sampled_from([0, 30080 + len(name.service)]))
    load_balancer_ips = draw(st.sampled_from([(), ("203.0.113.1",)]))
    bare = PortRules(
        name,
        draw(st.sampled_from(["10.96.0.10", "10.96.0.11"])),
        draw(st.sampled_from([80, 81])),
        node_port=node_port,
        external_ips=draw(st.sampled_from([(), ("192.0.2.7",), ("192.0.2.7", "192.0.2.8")])),
        load_balancer_ips=load_balancer_ips,
        source_ranges=draw(st.sampled_from([(), ("192.168.0.0/16",)])),
        internal_local=internal_local,
        external_local=external_local,
        affinity_seconds=draw(st.sampled_from([0, 60])),
        health_check_node_port=draw(st.sampled_from([0, 31000])),
    )
    usable = bool(cluster)
    return replace(
        bare,
        cluster=cluster if bare.uses_cluster else (),
        local=local if usable and bare.uses_local else (),
        usable=usable,
    )


NAMES = [PortName(f"default/{name}", "http", "TCP") for name in ("a", "bb", "ccc")]
rulesets = st.lists(
    st.sampled_from(NAMES).flatmap(port_rules), max_size=3, unique_by=lambda rules: rules.name
).map(lambda found: {rules.name: rules for rules in found})


@settings(max_examples=100, deadline=None)
@given(st.lists(rulesets, min_size=1, max_size=5))
def test_differences_lead_where_a_rebuild_leads(history):
    tables = built(history[0])
    total = batch.for_saved({}, Ruleset(SETTINGS, history[0])).rules
    for old, new in itertools.pairwise(history):
        changes = {
            name: Change(old.get(name), new.get(name)) for name in NAMES if old.get(name) != new.get(name)
        }
        script = batch.for_changes(changes, SETTINGS)
        restore(tables, script.encode())
        total.update(script.rules)
    assert canonical(tables) == canonical(built(history[-1]))
    assert {table: number for table, number in total.items() if number} == count(tables)


@settings(max_examples=100, deadline=None)
@given(rulesets, rulesets)
def test_any_state_of_an_earlier_run_is_adopted(before, after):
    tables = built(before)
    restore(tables, batch.for_saved(tables, Ruleset(SETTINGS, after)).encode())
    assert canonical(tables) == canonical(built(after))
    assert batch.for_saved(tables, Ruleset(SETTINGS, after)).encode() == b"", "nothing is left to do"
    restore(tables, batch.for_removal(tables, SETTINGS).encode())
    assert tables == empty()


@settings(max_examples=100, deadline=None)
@given(rulesets, st.data())
def test_any_damage_is_repaired(ports, data):
    tables = built(ports)
    theirs = "-s 192.0.2.1/32 -j ACCEPT"
    tables["filter"]["INPUT"].insert(0, theirs)
    for _ in range(data.draw(st.integers(1, 4))):
        table = data.draw(st.sampled_from(sorted(tables)))
        chain = data.draw(st.sampled_from(sorted(tables[table])))
        if data.draw(st.booleans()):
            tables[table][chain] = [rule for rule in tables[table][chain] if rule == theirs]
        else:
            tables[table][chain] = [*tables[table][chain], "-s 192.0.2.9/32 -j RETURN"]
    restore(tables, batch.for_saved(tables, Ruleset(SETTINGS, ports)).encode())
    tables["filter"]["INPUT"] = [rule for rule in tables["filter"]["INPUT"] if rule != theirs]
    for table, chains in BUILT_IN.items():
        for chain in chains:
            tables[table][chain] = [rule for rule in tables[table][chain] if "192.0.2.9" not in rule]
    assert canonical(tables) == canonical(built(ports))


def service(number, endpoints=2):
    cluster = tuple(Destination(f"10.244.1.{last}", 80) for last in range(endpoints))
    name = PortName(f"default/svc-{number}", "", "TCP")
    return PortRules(name, f"10.96.{number // 256}.{number % 256}", 80, cluster=cluster, usable=True)


def test_one_endpoint_more_touches_its_service_only():
    before, after = service(7), service(7, 3)
    text = batch.for_changes({before.name: Change(before, after)}, SETTINGS).encode().decode()
    assert [line for line in text.splitlines() if line[0] == ":"] == [
        f":{render.endpoint_chain_name(after, after.cluster[2])} - [0:0]",
        f":{render.chain_name('SVC', after)} - [0:0]",
    ]
    assert "-D" not in text
    assert render.SERVICES not in text


def test_many_services_come_in_several_commits_and_the_way_in_last():
    ports = {one.name: one for one in map(service, range(2000))}
    script = batch.for_saved({}, Ruleset(SETTINGS, ports)).encode().decode()
    commits = script.split("COMMIT\n")
    assert max(commit.count("\n") for commit in commits) < 6000
    assert "-I PREROUTING" in commits[-2]
    assert sum("-I PREROUTING" in commit for commit in commits) == 1
    tables = empty()
    restore(tables, script.encode())
    assert len(tables["nat"][render.SERVICES]) == 2001


def test_a_wholly_different_ruleset_replaces_chains_as_a_whole():
    tables = built({one.name: one for one in map(service, range(500))})
    after = {one.name: one for one in map(service, range(400, 900))}
    script = batch.for_saved(tables, Ruleset(SETTINGS, after)).encode()
    assert b"-D KUBE-SERVICES" not in script
    restore(tables, script)
    assert canonical(tables) == canonical(built(after))


def test_saved_text_is_understood():
    saved = b"""# Generated by iptables-save v1.8.9 (nf_tables) on Mon Jan  1 00:00:00 2026
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-EMPTY - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING
COMMIT
*filter
:INPUT DROP [12:34]
COMMIT
"""
    assert batch.parse(saved) == {
        "nat": {
            "PREROUTING": ['-m comment --comment "kubernetes service portals" -j KUBE-SERVICES', ""],
            "KUBE-EMPTY": [],
        },
        "filter": {"INPUT": []},
    }


@pytest.mark.parametrize("prefix", ["SVC", "SVL", "SEP", "EXT", "FW", "XLB"])
def test_stale_chains_go(prefix):
    tables = built({})
    tables["nat"][f"KUBE-{prefix}-AAAAAAAAAAAAAAAA"] = ["-j RETURN"]
    tables["nat"]["KUBE-KUBELET-CANARY"] = []
    restore(tables, batch.for_saved(tables, Ruleset(SETTINGS, {})).encode())
    del tables["nat"]["KUBE-KUBELET-CANARY"]
    assert tables == built({})
