"""Who answers on the wire, asked with arping, ndisc6 and tcpdump, and when it moves."""

from __future__ import annotations

import dataclasses
import os
import signal
import time

import pytest
from wire_processes import Wires, interfaces, wait_until

from buoy.loadbalancer.election import rank
from neighbours import Capture, arping, mac, ndisc, neighbour
from topology import Answering, World, ask

pytestmark = pytest.mark.kernel

IPV4 = "192.168.1.251"
IPV6 = "fd00:192:168:1::fb"
ALL = ("node-1", "node-2", "node-3")
RANKING = {address: rank(dict.fromkeys(ALL, 0), address) for address in (IPV4, IPV6)}


@pytest.fixture
def world():
    with World(nodes=3) as world:
        yield world


@pytest.fixture
def wires(world, tmp_path):
    with Wires(world, [IPV4, IPV6], tmp_path) as wires:
        wait_until(lambda: wires.agreed(*ALL))
        yield wires


@pytest.fixture
def nodes(world):
    return {node.name: node for node in world.nodes}


def on_lan(nodes, name):
    return mac(nodes[name])


def test_the_elected_node_answers_and_no_other(world, wires, nodes):
    """arping and ndisc6 are answered by the node that MetalLB's rule elects, and by no other."""
    assert arping(world.outside, IPV4) == [on_lan(nodes, RANKING[IPV4][0])]
    assert set(ndisc(world.outside, IPV6)) == {on_lan(nodes, RANKING[IPV6][0])}
    assert wires.owners(IPV4) == [RANKING[IPV4][0]]
    assert wires.owners(IPV6) == [RANKING[IPV6][0]]
    # other addresses are nobody's
    assert arping(world.outside, "192.168.1.252") == []
    assert ndisc(world.outside, "fd00:192:168:1::fc", wait=500) == []


def test_unicast_questions_are_answered_and_probes_too(world, wires, nodes):
    """A neighbour cache that looks whether its entry still holds asks the node itself; a newcomer asks from
    no address at all whether an address is taken."""
    owner = nodes[RANKING[IPV4][0]]
    world.outside.ip(f"neigh replace {IPV4} lladdr {mac(owner)} dev eth0 nud probe")
    wait_until(lambda: "REACHABLE" in world.outside.run("ip", "neigh", "show", IPV4))
    owner = nodes[RANKING[IPV6][0]]
    world.outside.ip(f"neigh replace {IPV6} lladdr {mac(owner)} dev eth0 nud probe")
    wait_until(lambda: "REACHABLE" in world.outside.run("ip", "neigh", "show", IPV6))
    assert "received 0" not in world.outside.run(
        "arping", "-D", "-c1", "-w1", "-I", "eth0", IPV4, check=False
    )
    world.outside.ip(f"address add {IPV6}/64 dev eth0")
    wait_until(lambda: "dadfailed" in world.outside.run("ip", "address", "show", "dev", "eth0"))


def test_a_killed_speaker_is_replaced_and_the_caches_follow(world, wires, nodes):
    first, second, _ = RANKING[IPV4]
    client = world.add_host("client", "192.168.1.201", "fd00:192:168:1::c9")
    for one in (world.outside, client):
        arping(one, IPV4)
        one.ip(f"neigh replace {IPV4} lladdr {on_lan(nodes, first)} dev eth0 nud reachable")
    with Capture(client, f"arp and arp host {IPV4}") as capture:
        wires.running.pop(first).kill()
        wait_until(lambda: wires.owners(IPV4) == [second])
        for one in (world.outside, client):
            wait_until(lambda one=one: neighbour(one, IPV4) == on_lan(nodes, second))
        wait_until(lambda: len(capture.lines) >= 4)
    assert on_lan(nodes, second) in capture.lines[-1]
    assert any("Request who-has" in line for line in capture.lines)
    assert any("Reply" in line for line in capture.lines)
    # it comes back, and takes back what it wins: nothing else moves
    wires.start(first)
    wait_until(lambda: wires.agreed(*ALL))
    assert wires.owners(IPV4) == [first]
    wait_until(lambda: neighbour(client, IPV4) == on_lan(nodes, first))


def test_ipv6_moves_with_unsolicited_advertisements(world, wires, nodes):
    first, second, _ = RANKING[IPV6]
    world.outside.ip(f"neigh replace {IPV6} lladdr {on_lan(nodes, first)} dev eth0 nud reachable")
    with Capture(world.outside, "icmp6 and ip6[40] == 136") as capture:
        wires.running.pop(first).leave()
        wait_until(lambda: neighbour(world.outside, IPV6) == on_lan(nodes, second))
        wait_until(lambda: len(capture.lines) >= 1)
    text = " ".join(capture.lines)
    assert "ff02::1" in text
    assert "Flags [override]" in text
    assert "icmp6 sum ok" in text


def test_other_nodes_take_nothing_when_one_that_owns_nothing_goes(world, wires, nodes):
    gone = next(name for name in ALL if name not in (RANKING[IPV4][0], RANKING[IPV6][0]))
    left = tuple(name for name in ALL if name != gone)
    with Capture(world.outside, f"(arp and arp host {IPV4}) or (icmp6 and ip6[40] == 136)") as capture:
        wires.running.pop(gone).kill()
        wait_until(lambda: wires.agreed(*left))
    assert wires.owners(IPV4) == [RANKING[IPV4][0]]
    assert {line.split()[1] for line in capture.lines if IPV4 in line} <= {on_lan(nodes, RANKING[IPV4][0])}


@pytest.mark.parametrize("cable", [True, False], ids=["cable pulled", "switch split"])
def test_partition_and_healing(world, wires, nodes, cable):
    """Both sides are served while apart; together again there is one answer, and caches follow it."""
    first, second, _ = RANKING[IPV4]
    rest = [nodes[name] for name in ALL if name != first]
    near = world.add_host("near", "192.168.1.201", "fd00:192:168:1::c9")
    if cable:
        world.cut(nodes[first])
    else:
        world.split(nodes[first], near)
    wait_until(lambda: wires.running[second].report.alive == tuple(node.name for node in rest))
    assert arping(world.outside, IPV4) == [on_lan(nodes, second)]
    wait_until(lambda: wires.running[first].report.alive == (first,))
    assert IPV4 in wires.running[first].report.announced
    world.outside.ip(f"neigh replace {IPV4} lladdr {on_lan(nodes, second)} dev eth0 nud reachable")
    if not cable:
        assert arping(near, IPV4) == [on_lan(nodes, first)]
        world.join(nodes[first], near)
    else:
        world.heal(nodes[first])
    wait_until(lambda: wires.agreed(*ALL))
    assert arping(world.outside, IPV4, count=2, wait=3) == [on_lan(nodes, first)] * 2
    wait_until(lambda: neighbour(world.outside, IPV4) == on_lan(nodes, first))


def test_a_speaker_that_stood_still_does_not_make_the_others_flap(world, wires):
    """One that is stopped for a while loses its addresses, and has them back when it goes on."""
    first, second, _ = RANKING[IPV4]
    os.kill(wires.running[first].pid, signal.SIGSTOP)
    wait_until(lambda: IPV4 in wires.running[second].report.announced)
    os.kill(wires.running[first].pid, signal.SIGCONT)
    wait_until(lambda: wires.agreed(*ALL))
    assert wires.owners(IPV4) == [first]


def test_one_with_another_key_is_nobody(world, wires, tmp_path):
    first, second, _ = RANKING[IPV4]
    wires.running.pop(first).leave()
    left = tuple(name for name in ALL if name != first)
    wait_until(lambda: wires.agreed(*left))
    wires.key.write_bytes(b"of somebody else")
    wires.start(first)
    wait_until(lambda: wires.running[first].report.alive == (first,))
    assert wires.running[second].report.alive == left


def test_interfaces_are_chosen_and_followed(world, wires, nodes):
    """An address is answered for on the interfaces it is for, on a new one as soon as it is there."""
    owner = nodes[RANKING[IPV4][0]]
    process = wires.running[owner.name]
    contest = process.orders.contests[IPV4]
    elsewhere = dataclasses.replace(contest, interfaces=("eth7",))
    process.tell(dataclasses.replace(process.orders, contests={IPV4: elsewhere}))
    wait_until(lambda: process.report.announced.get(IPV4) == ())
    assert arping(world.outside, IPV4) == []

    owner.ip("link add eth7 type veth peer name far7", "link set eth7 up", "link set far7 up")
    process.tell(dataclasses.replace(process.orders, interfaces=interfaces(owner)))
    wait_until(lambda: process.report.announced.get(IPV4) == ("eth7",))
    assert arping(world.outside, IPV4) == []
    process.tell(dataclasses.replace(process.orders, contests={IPV4: contest}))
    wait_until(lambda: set(process.report.announced.get(IPV4, ())) >= {"eth0", "eth7"})
    assert arping(world.outside, IPV4) == [mac(owner)]


def test_multicast_groups_are_joined_and_left(world, wires, nodes):
    owner = nodes[RANKING[IPV6][0]]
    process = wires.running[owner.name]

    def groups():
        return owner.run("ip", "maddress", "show", "dev", "eth0")

    assert "ff02::1:ff00:fb" in groups()
    assert "33:33:ff:00:00:fb" in groups()
    process.tell(dataclasses.replace(process.orders, contests={}))
    wait_until(lambda: "ff02::1:ff00:fb" not in groups())


def test_packets_are_counted(world, wires):
    process = wires.running[RANKING[IPV4][0]]
    before = process.report.traffic.get(IPV4)
    assert before is None or before.requests == 0
    arping(world.outside, IPV4, count=3, wait=4)
    traffic = wait_until(lambda: (t := process.report.traffic.get(IPV4)) and t.requests == 3 and t)
    assert traffic.responses == 3
    assert traffic.gratuitous >= 2


def test_a_drained_node_loses_no_request(world, wires, nodes):
    """A client that asks all the time, over new connections, is always answered."""
    first, second, _ = RANKING[IPV4]
    with Answering() as servers:
        for node in world.nodes:
            node.run(*f"iptables -t nat -A PREROUTING -d {IPV4} -p tcp -j REDIRECT --to-ports 80".split())
            servers.listen(node, node.name, 80)
        wait_until(lambda: world.outside.call(ask, IPV4, 80).name == first)
        answers = []
        drained = False
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and answers.count(second) < 20:
            answers.append(world.outside.call(ask, IPV4, 80, timeout=0.5).name)
            if len(answers) == 10 and not drained:
                wires.running.pop(first).leave()
                drained = True
        assert set(answers) == {first, second}


def test_speakers_that_start_together_do_not_all_take_an_address(world, tmp_path, nodes):
    """Nobody but the elected node ever announces it."""
    with (
        Capture(world.outside, f"arp and arp host {IPV4}") as capture,
        Wires(world, [IPV4], tmp_path, told=False) as wires,
    ):
        for node in world.nodes:
            wait_until(lambda node=node: node.run("cat", "/proc/net/packet").count("\n") > 1)
        for node in world.nodes:
            wires.running[node.name].tell(wires.orders(node))
        wait_until(lambda: wires.agreed(*ALL))
        wait_until(lambda: len(capture.lines) >= 2)
    assert {line.split()[1] for line in capture.lines if "ARP" in line} == {on_lan(nodes, RANKING[IPV4][0])}


def test_a_node_whose_lan_is_back_takes_nothing_before_it_knows_who_is_there(world, wires, nodes):
    """Others answer for what was here. One who hears nobody for a second is alone, and answers again."""
    first, second, _ = RANKING[IPV4]
    victim = wires.running[first]
    whole = victim.orders
    world.split(nodes[first])
    victim.tell(dataclasses.replace(whole, interfaces=()))
    wait_until(lambda: victim.report.alive == (first,))
    wait_until(lambda: wires.owners(IPV4) == sorted([first, second]))
    victim.tell(whole)
    wait_until(lambda: IPV4 not in victim.report.announced, within=0.9)
    wait_until(lambda: IPV4 in victim.report.announced)
    world.join(nodes[first])
    wait_until(lambda: wires.agreed(*ALL))
    assert wires.owners(IPV4) == [first]


def test_a_peer_that_is_back_at_another_hardware_address_is_found(world, wires, nodes):
    first, second, _ = RANKING[IPV4]
    world.split(nodes[first])
    wait_until(lambda: first not in wires.running[second].report.alive)
    # Whatever the kernel is told meanwhile, it asks the peer itself.
    nodes[second].ip(f"neigh replace {nodes[first].address} lladdr 02:00:00:00:00:01 dev eth0 nud reachable")
    world.join(nodes[first])
    wait_until(lambda: wires.agreed(*ALL))
    assert neighbour(nodes[second], nodes[first].address) == on_lan(nodes, first)
