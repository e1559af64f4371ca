"""The iptables backend in a real kernel: what it writes and recognizes, other hands, refusals."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace

import pytest
from programmed import pods, rules, to

from buoy.proxy.backend import BackendError
from buoy.proxy.iptables import IptablesBackend, batch
from buoy.proxy.model import Change, Destination, Family, PortName, PortRules, Ruleset
from topology import ask

pytestmark = pytest.mark.kernel


class Rich:
    """Rules that use everything there is."""

    def __init__(self, family):
        v6 = family is Family.IPV6

        def at(number, port=8080):
            return Destination(f"fd00:10:244:1::{number}" if v6 else f"10.244.1.{number}", port)

        def address(net, number):
            return (
                {"service": "fd00:10:96::", "lb": "fd00:203::"}[net] + str(number)
                if v6
                else ({"service": "10.96.0.", "lb": "203.0.113."}[net] + str(number))
            )

        def one(number, **changes):
            name = PortName(
                f"default/svc-{number}", "" if number % 2 else "p", ["TCP", "UDP", "SCTP"][number % 3]
            )
            base = PortRules(name, address("service", 10 + number), 80, cluster=(at(2), at(3)), usable=True)
            return replace(base, **changes)

        self.all = [
            one(0),
            one(1, cluster=(), usable=False, node_port=30081),
            one(2, node_port=30082, external_ips=(address("lb", 1),)),
            one(3, node_port=30083, external_local=True, local=(at(2),), health_check_node_port=31000),
            one(4, internal_local=True, local=(), cluster=()),
            one(5, affinity_seconds=60),
            one(
                6,
                node_port=30086,
                load_balancer_ips=(address("lb", 2),),
                source_ranges=(("fd00:192:168:1::/64", "::/0") if v6 else ("192.168.1.0/24", "0.0.0.0/0")),
            ),
            one(7, node_port=30087, external_local=True, internal_local=True, local=(at(3),)),
        ]
        self.at = at


def saved_script(node, one, command):
    saved = batch.parse(node.run(command).encode())
    return batch.for_saved(saved, Ruleset(one.settings, one.ports)).encode().decode()


@pytest.fixture(params=["nft", "legacy"])
def flavour(request, tmp_path, monkeypatch):
    """Both kinds of iptables, where they are installed side by side."""
    for program in ("iptables", "ip6tables"):
        for suffix in ("", "-save", "-restore"):
            (tmp_path / f"{program}{suffix}").symlink_to(f"/usr/sbin/{program}-{request.param}{suffix}")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    return request.param


@pytest.mark.parametrize("family", list(Family))
async def test_what_is_written_is_recognized_again(world, programmed, flavour, family):
    (node,) = world.nodes
    one = programmed(node, IptablesBackend, family)
    command = "ip6tables-save" if family is Family.IPV6 else "iptables-save"
    before = node.run(command)
    await one.rebuild(Rich(family).all)
    assert saved_script(node, one, command) == ""
    assert await node.do(one.backend.verify())
    await node.do(one.backend.remove())
    assert not await node.do(one.backend.verify())
    assert "KUBE" not in node.run(command)
    assert "KUBE" not in before


async def test_differences_end_as_a_rebuild_does(world, programmed, flavour):
    """A walk through random states, each step by difference; then nothing is left to do."""
    (node,) = world.nodes
    one = programmed(node, IptablesBackend, Family.IPV4)
    rich = Rich(Family.IPV4)
    dice = random.Random(7)
    await one.rebuild(rich.all)
    for _ in range(12):
        state = []
        for some in dice.sample(rich.all, dice.randrange(len(rich.all) + 1)):
            if some.usable and some.cluster and dice.random() < 0.5:
                some = replace(some, cluster=tuple(rich.at(n) for n in range(2, 2 + dice.randrange(1, 6))))
            state.append(some)
        await one.apply(state)
        assert saved_script(node, one, "iptables-save") == ""
    counts = Counter(one.backend.rule_counts())
    await one.rebuild(one.ports.values())
    assert +counts == +Counter(one.backend.rule_counts())


async def test_remove_leaves_what_others_made(world, programmed):
    (node,) = world.nodes
    node.run("iptables", "-N", "OTHERS")
    node.run("iptables", "-A", "FORWARD", "-j", "OTHERS")
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild(Rich(Family.IPV4).all)
    await node.do(one.backend.remove())
    assert node.run("iptables", "-S").splitlines()[3:] == ["-N OTHERS", "-A FORWARD -j OTHERS"]


async def test_a_refused_change_says_why_and_changes_nothing(world, servers, programmed):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1)
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([rules(to(pod))])
    ghost = rules(name=PortName("default/ghost", "", "TCP"), cluster_ip="10.96.0.99")
    changes = {ghost.name: Change(ghost, None)}
    with pytest.raises(BackendError, match=r"10\.96\.0\.99"):
        await node.do(one.backend.apply(changes))
    assert (await node.acall(ask, "10.96.0.10", 80)).name == pod.name
    with pytest.raises(RuntimeError):
        await node.do(one.backend.apply({}))
    await one.rebuild([rules(to(pod))])
    await node.do(one.backend.apply({}))


async def test_without_iptables_it_says_what_to_install(world, programmed, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="apt-get install iptables"):
        await programmed(world.nodes[0], IptablesBackend, Family.IPV4).rebuild([])


@pytest.mark.parametrize(
    "hand",
    [
        "iptables -t nat -F",
        "iptables -F",
        "nft flush ruleset",
        "nft delete table ip nat",
        "iptables -t nat -D PREROUTING 1",
        "iptables -t nat -F KUBE-SERVICES",
        "iptables -t nat -F {service}",
        "iptables -t nat -I KUBE-SERVICES -j RETURN",
        "iptables -F KUBE-FORWARD",
    ],
)
async def test_another_hand_is_noticed(world, servers, programmed, hand):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1)
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([rules(to(pod))])
    service = node.run("iptables-save", "-t", "nat").partition("KUBE-SVC-")[2][:16]
    disturbed = asyncio.create_task(node.do(one.backend.disturbed()))
    node.run(*hand.format(service=f"KUBE-SVC-{service}").split())
    async with asyncio.timeout(5):
        await disturbed
    await one.rebuild(one.ports.values())
    assert saved_script(node, one, "iptables-save") == ""
    assert (await node.acall(ask, "10.96.0.10", 80)).name == pod.name


async def test_own_changes_and_those_to_others_rules_are_no_disturbance(world, servers, programmed):
    (node,) = world.nodes
    (pod,) = pods(node, servers, 1)
    one = programmed(node, IptablesBackend, Family.IPV4)
    await one.rebuild([rules(to(pod))])
    disturbed = asyncio.create_task(node.do(one.backend.disturbed()))
    for command in ("-A PREROUTING -j ACCEPT", "-D PREROUTING -j ACCEPT", "-N OTHERS", "-A OTHERS -j RETURN"):
        node.run("iptables", "-t", "nat", *command.split())
    await one.apply([rules()])
    await one.apply([])
    await one.rebuild([rules(to(pod))])
    # What has been sent by then has been looked at: this one is the last in the queue.
    node.run("iptables", "-t", "nat", "-F", "KUBE-SERVICES")
    async with asyncio.timeout(5):
        await disturbed
    again = asyncio.create_task(node.do(one.backend.disturbed()))
    await one.rebuild([rules(to(pod))])
    done, _ = await asyncio.wait([again], timeout=0.3)
    assert not done
    again.cancel()
