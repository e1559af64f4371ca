"""Cluster DNS as programs in Pods, in host-network Pods and on nodes use it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import manifests
from buoy.cluster import images
from local_cluster import LocalCluster, Namespace, until

pytestmark = pytest.mark.e2e

ADDRESS = "10.96.0.10"
NODES = ("node-1", "node-2", "node-3")
CLIENTS = "docker.io/example/dns-clients:1"
OUTSIDE = "192.168.1.200"
ZONE = "@ SOA ns admin 1 7200 1800 86400 60\n@ NS ns\nns A 192.0.2.1\nwww 60 A 192.168.1.200\n"

Asker = Callable[..., str]
"""Runs dig with some words somewhere."""


@pytest.fixture(scope="module")
def pods(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """Every kind of name, and who asks: ``clients`` and ``host`` on node-2, and the tutorial's ``box``."""
    archive = tmp_path_factory.mktemp("clients") / "clients.tar"
    archive.write_bytes(images.archive([_clients(archive.parent)]))
    cluster.buoy("image load", str(archive))
    idle = {"name": "main", "image": CLIENTS, "command": ["sleep", "9999"]}
    unready = manifests.shell("exec sleep 999", readinessProbe={"exec": {"command": ["false"]}})
    own = {
        "nameservers": [ADDRESS],
        "searches": ["svc.cluster.local"],
        "options": [{"name": "ndots", "value": "2"}],
    }

    def member(number: int, **more: object) -> manifests.Object:
        spec = manifests.pod_spec(
            manifests.server_container(), hostname=f"member-{number}", subdomain="db", **more
        )
        return manifests.pod(f"member-{number}", spec, labels={"app": "member"})

    def pod(name: str, container: manifests.Object = idle, **more: object) -> manifests.Object:
        return manifests.pod(name, manifests.pod_spec(container, **more))

    def service(name: str, selector: str = "", **more: object) -> manifests.Object:
        made = manifests.service(name, port=80, **more)
        made["spec"]["selector"] = {"app": selector} if selector else None
        return made

    named = [{"name": "http", "port": 80}]
    with cluster.namespace() as namespace:
        namespace.apply(
            member(0, setHostnameAsFQDN=True),
            member(1),
            pod("late", unready),
            pod("clients", nodeName="node-2"),
            pod("host", hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet", nodeName="node-2"),
            pod("own", dnsPolicy="None", dnsConfig=own),
            pod("box", {"name": "main", "image": "appropriate/curl", "command": ["sleep", "9999"]}),
            service("web", "member", ports=named),
            service("db", "member", clusterIP="None", ports=named),
            service("early", "late", clusterIP="None", publishNotReadyAddresses=True),
            service("empty", "late", clusterIP="None"),
            service("inside", type="ExternalName", externalName=f"web.{namespace.name}.svc.cluster.local"),
            service("abroad", type="ExternalName", externalName="www.example.test"),
        )
        ready = ("member-0", "member-1", "clients", "host", "own", "box")
        namespace.wait("condition=Ready", *(f"pod/{name}" for name in ready))
        namespace.until_endpoints("db", 2)
        until(lambda: _dig_in(namespace, "clients")("+short", f"early.{_zone(namespace)}"))
        yield namespace


def _clients(folder: Path) -> images.Image:
    source = Path(__file__).parent.parent / "dns" / "client.c"
    copies = {"usr/bin/dig": Path(shutil.which("dig") or "dig").resolve()}
    for library, compiler in (("glibc", ["gcc"]), ("musl", ["musl-gcc", "-static"])):
        copies[f"usr/bin/{library}"] = folder / library
        subprocess.run([*compiler, "-o", folder / library, source], check=True)
    copies |= images.libraries([copies["usr/bin/dig"]])
    return images.Image(CLIENTS, (images.base_layer(), images.layer(copies=copies)))


def _zone(namespace: Namespace) -> str:
    return f"{namespace.name}.svc.cluster.local."


def _dig_in(namespace: Namespace, pod: str) -> Asker:
    return lambda *words: namespace.exec(pod, "dig", "+tries=1", "+timeout=2", *words, check=False).stdout


def _dig_on(cluster: LocalCluster, node: str) -> Asker:
    command = ("dig", f"@{ADDRESS}", "+tries=1", "+timeout=2")
    return lambda *words: cluster.on_node(node, *command, *words, check=False).stdout


def _everywhere(cluster: LocalCluster, namespace: Namespace) -> dict[str, Asker]:
    return {
        "in a Pod": _dig_in(namespace, "clients"),
        "in a host-network Pod": _dig_in(namespace, "host"),
        **{f"on {node}": _dig_on(cluster, node) for node in NODES},
    }


@contextmanager
def _configured(cluster: LocalCluster, **data: str) -> Iterator[None]:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": "kube-system", "name": "buoy-dns"},
        "data": data,
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(config))
    try:
        yield
    finally:
        cluster.kubectl("delete", "configmap", "--namespace", "kube-system", "buoy-dns")


def test_every_record_from_every_viewpoint(cluster: LocalCluster, pods: Namespace) -> None:
    zone = _zone(pods)
    members = [pods.get("pod", f"member-{number}")["status"]["podIP"] for number in (0, 1)]
    late = until(lambda: pods.get("pod", "late")["status"].get("podIP", ""))
    web = pods.get("service", "web")["spec"]["clusterIP"]

    def backwards(address: str) -> str:
        return ".".join(reversed(address.split("."))) + ".in-addr.arpa."

    table = [
        (f"web.{zone}", "A", [web]),
        (f"_http._tcp.web.{zone}", "SRV", [f"0 100 80 web.{zone}"]),
        (backwards(web), "PTR", [f"web.{zone}"]),
        (f"db.{zone}", "A", members),
        (f"member-1.db.{zone}", "A", members[1:]),
        (f"_http._tcp.db.{zone}", "SRV", [f"0 50 80 member-{number}.db.{zone}" for number in (0, 1)]),
        (backwards(members[0]), "PTR", [f"member-0.db.{zone}"]),
        (f"early.{zone}", "A", [late]),
        (f"empty.{zone}", "A", []),
        (f"nothing.{zone}", "A", []),
        (f"abroad.{zone}", "CNAME", ["www.example.test."]),
        (f"inside.{zone}", "CNAME", [f"web.{zone}"]),
        (f"{members[0].replace('.', '-')}.{pods.name}.pod.cluster.local.", "A", members[:1]),
        ("dns-version.cluster.local.", "TXT", ['"1.1.0"']),
        ("kubernetes.default.svc.cluster.local.", "A", ["10.96.0.1"]),
        (backwards(ADDRESS), "PTR", ["kube-dns.kube-system.svc.cluster.local."]),
    ]
    expected = {f"{name} {kind} {value}" for name, kind, values in table for value in values}
    questions = [word for name, kind, _ in table for word in (name, kind)]
    for viewpoint, dig in _everywhere(cluster, pods).items():
        for transport in ("+notcp", "+tcp"):
            printed = dig("+noall", "+answer", transport, *questions)
            found = {re.sub(r"\s+\d+\s+IN\s+", " ", line, count=1) for line in printed.splitlines()}
            assert {re.sub(r"\s+", " ", line) for line in found} == expected, f"{viewpoint}, {transport}"


@pytest.mark.parametrize("library", ["glibc", "musl"])
def test_search_domains_in_c_libraries(pods: Namespace, library: str) -> None:
    members = [pods.get("pod", f"member-{number}")["status"]["podIP"] for number in (0, 1)]
    web = pods.get("service", "web")["spec"]["clusterIP"]
    names = {
        "web": [web],
        f"Web.{pods.name}": [web],
        f"web.{pods.name}.svc": [web],
        "inside": [web],
        "db": members,
        "member-0.db": members[:1],
        "kubernetes.default": ["10.96.0.1"],
        f"nothing.{_zone(pods)}": ["none"],
        members[1]: [f"member-1.db.{_zone(pods)[:-1]}"],
    }
    printed = pods.exec("clients", library, *names).stdout.splitlines()
    assert sorted(printed) == sorted(f"{name}: {value}" for name, values in names.items() for value in values)


def test_the_tools_of_the_tutorial(pods: Namespace) -> None:
    members = [pods.get("pod", f"member-{number}")["status"]["podIP"] for number in (0, 1)]
    web = pods.get("service", "web")["spec"]["clusterIP"]

    def nslookup(*words: str) -> str:
        return pods.exec("box", "nslookup", *words, check=False).stdout

    assert f"Server:\t\t{ADDRESS}\n" in nslookup(f"db.{_zone(pods)}")
    for name, addresses in ((f"db.{_zone(pods)}", members), (f"web.{_zone(pods)}", [web]), ("web", [web])):
        assert set(re.findall(r"^Address: (\S+)$", nslookup(name), re.M)) == set(addresses)
    assert f"name = member-1.db.{_zone(pods)[:-1]}\n" in nslookup(members[1])
    for name in ("web", "db", "inside", f"web.{pods.name}"):
        assert pods.exec("box", "curl", "-s", name).stdout.startswith("member-")


def test_what_a_pod_asks_for_itself(pods: Namespace) -> None:
    assert pods.exec("member-0", "hostname").stdout == f"member-0.db.{_zone(pods)[:-1]}\n"
    assert pods.exec("member-1", "hostname").stdout == "member-1\n"
    assert pods.exec("own", "cat", "/etc/resolv.conf").stdout.splitlines() == [
        "search svc.cluster.local",
        f"nameserver {ADDRESS}",
        "options ndots:2",
    ]
    assert pods.exec("own", "glibc", "kubernetes.default").stdout == "kubernetes.default: 10.96.0.1\n"


def test_names_of_the_world_outside(cluster: LocalCluster, pods: Namespace) -> None:
    """An ExternalName leads to an address that only another server knows, and that address answers."""
    programs = Path(__file__).parent / "programs"
    with (
        cluster.start_outside(
            sys.executable, programs / "nameserver.py", OUTSIDE, "example.test.", ZONE
        ) as server,
        cluster.start_outside("/usr/bin/python3", programs / "server.py", "8053", "0") as web,
    ):
        try:
            assert server.stdout
            assert server.stdout.readline() == "ready\n"
            dig = _dig_in(pods, "clients")
            found = f"www.example.test.\n{OUTSIDE}\n"
            with _configured(cluster, stubDomains=json.dumps({"example.test": [OUTSIDE]})):
                until(lambda: dig("+short", f"abroad.{_zone(pods)}") == found, within=10)
                until(lambda: pods.exec("box", "curl", "-s", "abroad:8053").stdout == "outside\n")
                assert "status: NXDOMAIN" in dig("nothing.example.test")
                assert "status: SERVFAIL" in dig("www.example.org"), "is for nobody to say"
            until(lambda: dig("+short", f"abroad.{_zone(pods)}") == "www.example.test.\n", within=10)
            with _configured(cluster, upstreamNameservers=OUTSIDE):
                until(lambda: dig("+short", "www.example.test") == f"{OUTSIDE}\n", within=10)
                server.kill()
                server.wait()
                assert dig("+short", "www.example.test") == f"{OUTSIDE}\n", "is remembered"
        finally:
            server.kill()
            web.kill()


def test_nobody_comes_between_a_client_and_its_own_server(cluster: LocalCluster, pods: Namespace) -> None:
    """Neither the proxy's rules nor an external IP nor a host port touch the queries."""
    rules = cluster.on_node("node-2", "iptables-save").stdout
    assert "10.96.0.1/32" in rules
    assert ADDRESS not in rules
    ports = [{"name": p.lower(), "protocol": p, "port": 53, "targetPort": 80} for p in ("UDP", "TCP")]
    greedy = manifests.service("member", ports=ports, externalIPs=[ADDRESS])
    host_ports = [{"hostPort": 53, "containerPort": 99, "protocol": p} for p in ("UDP", "TCP")]
    idle = {"name": "main", "image": CLIENTS, "command": ["sleep", "9999"], "ports": host_ports}
    taking = manifests.pod("taking", manifests.pod_spec(idle, nodeName="node-2"))
    pods.apply(greedy, taking)
    pods.wait("condition=Ready", "pod/taking")
    until(lambda: f"-d {ADDRESS}/32 -p udp" in cluster.on_node("node-2", "iptables-save").stdout)
    try:
        for viewpoint, dig in _everywhere(cluster, pods).items():
            for transport in ("+notcp", "+tcp"):
                answer = dig("+short", transport, "kubernetes.default.svc.cluster.local")
                assert answer == "10.96.0.1\n", f"{viewpoint}, {transport}"
    finally:
        pods.kubectl("delete", "service/member", "pod/taking")


def test_its_service_is_where_people_look_for_it(cluster: LocalCluster) -> None:
    shown = cluster.kubectl("get", "service", "--namespace", "kube-system", "kube-dns").stdout.split("\n")[1]
    assert shown.split()[:5] == ["kube-dns", "ClusterIP", ADDRESS, "<none>", "53/UDP,53/TCP,9153/TCP"]
    described = cluster.kubectl("describe", "service", "--namespace", "kube-system", "kube-dns").stdout
    assert f"Endpoints:                {ADDRESS}:53\n" in described
    assert "buoy_dns_zone_names" in cluster.on_node("node-3", "curl", "-s", f"{ADDRESS}:9153/metrics").stdout


def test_without_the_api_server_what_is_known_is_answered(cluster: LocalCluster) -> None:
    found = re.search(r"^apiserver +(\d+)", cluster.buoy("status").stdout, re.M)
    assert found
    os.kill(int(found[1]), signal.SIGSTOP)
    try:
        for node in NODES:
            assert _dig_on(cluster, node)("+short", "kubernetes.default.svc.cluster.local") == "10.96.0.1\n"
    finally:
        os.kill(int(found[1]), signal.SIGCONT)


def _starts(cluster: LocalCluster) -> int:
    return cluster.buoy("logs", "dns", "--node", "node-2").stdout.count("serving cluster.local")


def test_a_killed_server_loses_no_question(cluster: LocalCluster) -> None:
    program = Path(__file__).parent / "programs" / "keep_asking.py"
    with cluster.start_on_node("node-2", "/usr/bin/python3", program, ADDRESS) as asking:
        assert asking.stdout
        assert asking.stdout.readline() == "asking\n"
        starts = _starts(cluster)
        cluster.buoy("kill", "dns", "--node", "node-2")
        until(lambda: _starts(cluster) == starts + 1)
        answered, problems = json.loads(asking.communicate()[0])
    assert problems == []
    assert answered > 100
