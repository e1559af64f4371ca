"""Clusters of two IP families and of IPv6 alone: Pods, Services of every policy, names, what nobody has."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import balancer
import manifests
import router
from bird import Bird
from buoy.api.formats import host_port
from lan import LanMachine
from local_cluster import LocalCluster, Namespace, Object, until
from neighbours import arping, ndisc, neighbour
from viewpoints import ASK, ask, both, whoami

pytestmark = pytest.mark.e2e

LAN = {4: "192.168.1.", 6: "fd00:192:168:1::"}
OUTSIDE = {4: "192.168.1.200", 6: "fd00:192:168:1::200"}
EXTERNAL = {4: "198.51.100.7", 6: "2001:db8::7"}


def of(host: str, port: int) -> list[str]:
    """Questions to an address over TCP and UDP."""
    address = host_port(host, port)
    return [f"tcp:{address}", f"udp:{address}"]


def answered(answers: list[str]) -> bool:
    return all(answer.startswith("who-") for answer in answers)


@pytest.fixture(scope="module")
def cluster(buoy_home: Path) -> Iterator[LocalCluster]:
    options = ("--stand-in-images", "--no-uplink", "--ip-family", "dual")
    cluster = LocalCluster(f"dual-{os.getpid()}", buoy_home, nodes=2, options=options)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def world(cluster: LocalCluster) -> Iterator[Namespace]:
    """A Pod of ``who`` on each node, a client on the first, and two Services of both families."""
    with cluster.namespace() as namespace:
        on_one_address = {"containerPort": 9000, "hostPort": 8089, "hostIP": f"{LAN[6]}81"}
        dual: Object = {"ipFamilyPolicy": "RequireDualStack", "selector": {"app": "who"}}
        namespace.apply(
            whoami("who-1", "who", "node-1", 9000, ports=[{"containerPort": 9000, "hostPort": 8088}]),
            whoami("who-2", "who", "node-2", 9000, ports=[on_one_address]),
            manifests.pod("client", manifests.pod_spec(manifests.shell("exec sleep 999"), nodeName="node-1")),
            manifests.service(
                "who", type="NodePort", externalIPs=list(EXTERNAL.values()), ports=both(8080, 9000), **dual
            ),
            manifests.service("headless", clusterIP="None", ports=both(9000, 9000), **dual),
        )
        namespace.wait("condition=Ready", "pod/who-1", "pod/who-2", "pod/client")
        asked = [question for address in addresses(namespace, "who") for question in of(address, 8080)]
        for viewpoint in ("node-1", "node-2"):
            until(lambda viewpoint=viewpoint: answered(ask(namespace, viewpoint, *asked)))  # type: ignore[misc]
        yield namespace


def addresses(namespace: Namespace, service: str) -> list[str]:
    found: list[str] = namespace.get("service", service)["spec"]["clusterIPs"]
    return found


def pod_ips(namespace: Namespace, pod: str) -> list[str]:
    return [entry["ip"] for entry in namespace.get("pod", pod)["status"]["podIPs"]]


def test_nodes_and_pods_have_an_address_of_each_family(cluster: LocalCluster, world: Namespace) -> None:
    listed = [line.split() for line in cluster.buoy("node list").stdout.splitlines()]
    assert listed == [[f"node-{n}", f"{LAN[4]}{79 + n},{LAN[6]}{79 + n}", "running"] for n in (1, 2)]
    status = world.get("pod", "who-1")["status"]
    ipv4, ipv6 = pod_ips(world, "who-1")
    assert status["podIP"] == ipv4
    assert re.fullmatch(r"10\.244\.\d+\.\d+", ipv4)
    assert re.fullmatch(r"fd00:10:244:(\d+:)?:[0-9a-f]+", ipv6)
    assert [entry["ip"] for entry in status["hostIPs"]] == [f"{LAN[4]}80", f"{LAN[6]}80"]
    described = world.kubectl("describe", "pod", "who-1").stdout
    assert re.search(rf"^IP: +{ipv4}\nIPs:\n  IP: +{ipv4}\n  IP: +{ipv6}\n", described, re.M)
    hosts = world.exec("who-1", "cat", "/etc/hosts").stdout
    assert f"{ipv4}\twho-1\n{ipv6}\twho-1\n" in hosts
    shown = cluster.kubectl("describe", "node", "node-1").stdout
    assert re.search(rf"InternalIP: +{re.escape(LAN[4])}80\n +InternalIP: +{LAN[6]}80\n", shown)
    assert re.search(r"^PodCIDRs: +10\.244\.\d+\.0/24,fd00:10:244:(\d+:)?:/64$", shown, re.M)


def test_pods_see_each_other_untranslated(world: Namespace) -> None:
    for name in ("who-1", "who-2"):
        for own, address in zip(pod_ips(world, "client"), pod_ips(world, name), strict=True):
            assert ask(world, "client", *of(address, 9000)) == [f"{name} {own} 9000"] * 2


def test_every_way_to_a_service_from_everywhere(cluster: LocalCluster, world: Namespace) -> None:
    spec = world.get("service", "who")["spec"]
    node_port = spec["ports"][0]["nodePort"]
    assert spec["ports"][1]["nodePort"] == node_port, "one number for TCP and UDP"
    inside = [question for address in spec["clusterIPs"] for question in of(address, 8080)]
    anywhere = [question for lan in LAN.values() for n in (80, 81) for question in of(f"{lan}{n}", node_port)]
    for version, address in EXTERNAL.items():
        cluster.buoy("outside", "--", "ip", "route", "add", address, "via", f"{LAN[version]}80")
        anywhere += of(address, 8080)
    kinds = ("tcp", "udp", "tcp6", "udp6")
    names = [f"{kind}:{name}" for kind in kinds for name in ("who:8080", "headless:9000")]
    for viewpoint, asked in (
        ("outside", anywhere),
        ("node-1", anywhere + inside),
        ("client", anywhere + inside + names),
    ):
        answers = dict(zip(asked, ask(world, viewpoint, *asked), strict=True))
        assert {asked: answer for asked, answer in answers.items() if not answered([answer])} == {}
    rules = cluster.on_node("node-1", "ip6tables-save", "-t", "nat").stdout
    assert f"-A KUBE-SERVICES -d {spec['clusterIPs'][1]}/128 -p udp" in rules
    assert spec["clusterIPs"][0] not in rules
    assert EXTERNAL[4] not in rules


def test_the_local_policy_keeps_the_client_and_stays_on_the_node(world: Namespace) -> None:
    local: Object = {"externalTrafficPolicy": "Local", "selector": {"app": "who"}, "ports": both(8080, 9000)}
    world.apply(manifests.service("local", type="NodePort", ipFamilyPolicy="PreferDualStack", **local))
    number = world.get("service", "local")["spec"]["ports"][0]["nodePort"]
    asked = [question for lan in LAN.values() for n in (80, 81) for question in of(f"{lan}{n}", number)]
    kept = [f"who-{n} {client} 9000" for client in OUTSIDE.values() for n in (1, 1, 2, 2)]
    until(lambda: ask(world, "outside", *asked) == kept)


def test_host_ports(world: Namespace) -> None:
    """That of who-1 is on all addresses of its node, that of who-2 on one."""
    for viewpoint in ("outside", "node-1", "node-2", "client"):
        doors = [f"tcp:{host_port(address, 8088)}" for address in (f"{LAN[4]}80", f"{LAN[6]}80")]
        doors += [f"tcp:{host_port(address, 8089)}" for address in (f"{LAN[6]}81", f"{LAN[4]}81")]
        answers = [answer.partition(" ")[0] for answer in ask(world, viewpoint, *doors)]
        assert answers == ["who-1", "who-1", "who-2", "refused"], viewpoint
    (answer,) = ask(world, "outside", f"tcp:{host_port(f'{LAN[6]}80', 8088)}")
    assert answer == f"who-1 {OUTSIDE[6]} 9000"


def test_session_affinity(world: Namespace) -> None:
    sticky: Object = {"sessionAffinity": "ClientIP", "selector": {"app": "who"}, "ports": both(8080, 9000)}
    world.apply(manifests.service("sticky", ipFamilies=["IPv6"], **sticky))
    (address,) = addresses(world, "sticky")
    assert address.startswith("fd00:10:96::")
    for question in of(address, 8080):
        until(lambda question=question: answered(ask(world, "client", question)))  # type: ignore[misc]
        assert len(set(ask(world, "client", *[question] * 12))) == 1


def test_policies_change(world: Namespace) -> None:
    selector = {"app": "who"}
    world.apply(manifests.service("changing", ports=both(8080, 9000), selector=selector))

    def change(**spec: object) -> str:
        """What kubectl says of a change that is refused."""
        patch = json.dumps({"spec": spec})
        return world.kubectl("patch", "service", "changing", "-p", patch, check=False).stderr

    def is_now(policy: str, families: str) -> list[str]:
        described = world.kubectl("describe", "service", "changing").stdout
        assert f"IP Family Policy:         {policy}\nIP Families:              {families}\n" in described
        held = addresses(world, "changing")
        assert f"IPs:                      {','.join(held)}\n" in described
        assert ["IPv6" if ":" in address else "IPv4" for address in held] == families.split(",")
        return held

    def slices() -> list[str]:
        found = world.list("endpointslices", "kubernetes.io/service-name=changing")
        return sorted(piece["addressType"] for piece in found)

    (ipv4,) = is_now("SingleStack", "IPv4")
    assert change(ipFamilyPolicy="PreferDualStack") == ""
    first, ipv6 = is_now("PreferDualStack", "IPv4,IPv6")
    assert first == ipv4
    until(lambda: slices() == ["IPv4", "IPv6"])
    until(lambda: answered(ask(world, "client", *of(ipv4, 8080), *of(ipv6, 8080))))
    for wish, message in (
        (
            {"ipFamilies": ["IPv4"]},
            'spec.ipFamilyPolicy: Invalid value: "PreferDualStack": '
            "must be 'SingleStack' to release the secondary IP family",
        ),
        (
            {"ipFamilies": ["IPv6", "IPv4"]},
            f'spec.clusterIPs[0]: Invalid value: "{ipv4}": '
            "expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
        (
            {"clusterIPs": [ipv4]},
            'spec.ipFamilyPolicy: Invalid value: "PreferDualStack": '
            "must be 'SingleStack' to release the secondary cluster IP",
        ),
    ):
        assert message in change(**wish)
    assert change(ipFamilyPolicy="SingleStack") == ""
    assert is_now("SingleStack", "IPv4") == [ipv4]
    until(lambda: slices() == ["IPv4"])
    until(lambda: ask(world, "client", of(ipv6, 8080)[0]) == ["refused"])
    assert change(ipFamilyPolicy="RequireDualStack") == ""
    assert is_now("RequireDualStack", "IPv4,IPv6")[0] == ipv4
    assert answered(ask(world, "client", *of(ipv4, 8080)))


def test_families_in_either_order_and_without_addresses(world: Namespace) -> None:
    reverse = manifests.service("reverse", ipFamilyPolicy="PreferDualStack", ipFamilies=["IPv6", "IPv4"])
    lone = manifests.service("lone", clusterIP="None")
    del lone["spec"]["selector"]
    world.apply(reverse, lone)
    ipv6, ipv4 = addresses(world, "reverse")
    shown = world.kubectl("get", "service", "reverse").stdout
    assert shown.splitlines()[1].split()[2] == ipv6
    assert ":" not in ipv4
    spec = world.get("service", "lone")["spec"]
    assert (spec["ipFamilyPolicy"], spec["ipFamilies"]) == ("RequireDualStack", ["IPv4", "IPv6"])


def test_names_in_both_families(world: Namespace) -> None:
    resolver = world.exec("client", "cat", "/etc/resolv.conf").stdout
    assert "nameserver 10.96.0.10\nnameserver fd00:10:96::a\n" in resolver
    ipv4, ipv6 = addresses(world, "who")
    headless = {pod["status"]["podIPs"][1]["ip"] for pod in world.list("pods", "app=who")}
    domain = f"{world.name}.svc.cluster.local"
    for server in ("10.96.0.10", "fd00:10:96::a"):

        def dig(*question: str, server: str = server) -> set[str]:
            found = world.cluster.on_node("node-2", "dig", f"@{server}", "+short", *question)
            return set(found.stdout.split())

        assert dig("A", f"who.{domain}") == {ipv4}
        assert dig("AAAA", f"who.{domain}") == {ipv6}
        assert dig("-x", ipv6) == {f"who.{domain}."}
        assert dig("+tcp", "AAAA", f"headless.{domain}") == headless


def test_what_nobody_has_is_refused_and_never_waited_for(world: Namespace) -> None:
    """Over TCP. A UDP socket is told of closed ports only, whatever the IP family."""
    nobody = ("fd00:10:96::dead", "fd00:10:244:77::7", "fd00:10:244::77", "2001:db8::99", "10.244.77.7")
    asked = [of(address, 80)[0] for address in nobody]
    for viewpoint in ("client", "node-1", "outside"):
        assert ask(world, viewpoint, *asked) == ["refused"] * len(nobody)
    world.apply(manifests.service("empty", ipFamilyPolicy="RequireDualStack", ports=both(8080, 9000)))
    closed = [question for address in addresses(world, "empty") for question in of(address, 8080)]
    for viewpoint in ("client", "node-1"):
        until(lambda viewpoint=viewpoint: ask(world, viewpoint, *closed) == ["refused"] * 4)  # type: ignore[misc]


def test_the_api_server_has_both_addresses(cluster: LocalCluster) -> None:
    for host in ("192.168.1.10", "[fd00:192:168:1::10]"):
        check = ("curl", "-s", "--cacert", "/run/buoy/pki/ca.crt", f"https://{host}:6443/livez")
        assert cluster.on_node("node-1", *check).stdout == "ok"
    health = cluster.on_node("node-1", "curl", "-s", f"[{LAN[6]}81]:10256/healthz").stdout
    assert json.loads(health)["nodeEligible"]


def test_a_load_balancer_in_both_families(cluster: LocalCluster, world: Namespace, tmp_path: Path) -> None:
    """One node answers for both addresses, by ARP and by NDP; all announce the IPv6 route over IPv6."""
    machine_at = {4: f"{LAN[4]}210", 6: f"{LAN[6]}210"}
    pool = {4: f"{LAN[4]}240", 6: f"{LAN[6]}240"}
    peer = {"peerAddress": machine_at[6], "peerASN": 64513, "myASN": 64512, "connectTime": "1s"}
    Namespace(cluster, balancer.NAMESPACE).apply(
        balancer.resource("IPAddressPool", "both", addresses=[f"{pool[4]}/32", f"{pool[6]}/128"]),
        balancer.resource("L2Advertisement", "both"),
        balancer.resource("BGPAdvertisement", "both"),
        balancer.resource("BGPPeer", "router", **peer),
    )
    dual: Object = {"ipFamilyPolicy": "RequireDualStack", "selector": {"app": "who"}}
    world.apply(balancer.service("balanced", ports=both(8080, 9000), **dual))
    winner = balancer.ranking(pool[4], ["node-1", "node-2"])[0]
    sessions = {f"n{n}": router.session(f"{LAN[6]}{79 + n}") for n in (1, 2)}
    with LanMachine(cluster, "client", machine_at[4], machine_at[6]) as machine:
        (mac,) = arping(machine, f"{LAN[4]}{79 + int(winner[-1])}")
        until(lambda: arping(machine, pool[4]) == [mac])
        until(lambda: ndisc(machine, pool[6]) == [mac])

        def serves(address: str) -> bool:
            return answered([machine.run("python3", str(ASK), of(address, 8080)[0])])

        for address in pool.values():
            until(lambda address=address: serves(address))  # type: ignore[misc]
            assert neighbour(machine, address) == mac
        with Bird(machine, machine_at[4], tmp_path, sessions) as bird:
            until(lambda: bird.routes() == {f"{pool[6]}/128": {"n1", "n2"}}, within=40)


def test_a_cluster_of_ipv6_alone(buoy_home: Path) -> None:
    options = ("--stand-in-images", "--no-uplink", "--ip-family", "ipv6")
    cluster = LocalCluster(f"six-{os.getpid()}", buoy_home, nodes=2, options=options)
    try:
        cluster.up()
        with cluster.namespace() as namespace:
            probe = {"httpGet": {"port": "http"}, "periodSeconds": 1}
            spec = manifests.pod_spec(manifests.server_container(readinessProbe=probe))
            namespace.apply(manifests.deployment("web", 2, spec), manifests.service("web", type="NodePort"))
            namespace.rolled_out("deployment/web")
            service = namespace.get("service", "web")["spec"]
            assert (service["ipFamilyPolicy"], service["ipFamilies"]) == ("SingleStack", ["IPv6"])
            pods = namespace.list("pods", "app=web")
            assert all(len(pod["status"]["podIPs"]) == 1 for pod in pods)
            assert all(pod["status"]["podIP"].startswith("fd00:10:244:") for pod in pods)
            name = pods[0]["metadata"]["name"]
            fetch = ("curl", "-s", "--retry", "5", "--retry-all-errors", "--max-time", "5")
            assert namespace.exec(name, *fetch, "http://web:8080").stdout.startswith("web-")
            variables = namespace.exec(name, "env").stdout
            assert "KUBERNETES_PORT=tcp://[fd00:10:96::1]:443\n" in variables
            port = service["ports"][0]["nodePort"]
            address = f"http://[{LAN[6]}81]:{port}"
            assert cluster.on_node("node-1", *fetch, address).stdout.startswith("web-")
            assert cluster.buoy("outside", "--", *fetch, address).stdout.startswith("web-")
            assert "inet 10." not in cluster.on_node("node-1", "ip", "address").stdout
            required = manifests.service("both", ipFamilyPolicy="RequireDualStack")
            refusal = namespace.kubectl("create", "-f", "-", input=json.dumps(required), check=False).stderr
            assert (
                'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": '
                "this cluster is not configured for dual-stack services" in refusal
            )
    finally:
        cluster.down()
