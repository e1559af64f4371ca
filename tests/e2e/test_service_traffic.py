"""What a ClusterIP Service does with packets, beyond spreading them."""

from __future__ import annotations

import json

import pytest

import load
import manifests
from local_cluster import LocalCluster, Namespace, until
from viewpoints import ask

pytestmark = pytest.mark.e2e


def curl(cluster: LocalCluster, node: str, address: str) -> tuple[int, str]:
    """curl's exit status (0: answered, 7: refused) and what was answered."""
    result = cluster.on_node(node, "curl", "-s", "--max-time", "5", address, check=False)
    return result.returncode, result.stdout.strip()


@pytest.fixture
def web(cluster: LocalCluster, namespace: Namespace) -> Namespace:
    spec = manifests.pod_spec(manifests.server_container())
    namespace.apply(manifests.deployment("web", 3, spec), manifests.service("web", target="http"))
    namespace.rolled_out("deployment/web")
    address = f"{namespace.get('service', 'web')['spec']['clusterIP']}:8080"
    until(lambda: curl(cluster, "node-1", address)[0] == 0)
    return namespace


def test_session_affinity(cluster: LocalCluster, web: Namespace) -> None:
    address = web.get("service", "web")["spec"]["clusterIP"]
    web.kubectl("patch", "service", "web", "-p", '{"spec": {"sessionAffinity": "ClientIP"}}')
    seconds = web.get("service", "web")["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
    assert seconds == 10800
    until(lambda: len(load.measure(cluster, "node-1", address, 8080, 40).answers) == 1)
    first = set(load.measure(cluster, "node-1", address, 8080, 40).answers)
    # The one it is bound to ends: another takes over, and keeps the client.
    web.kubectl("delete", "pod", *first, "--wait=true")
    web.until_endpoints("web", 3)
    until(lambda: not first & set(load.measure(cluster, "node-1", address, 8080, 40).answers))
    assert len(load.measure(cluster, "node-1", address, 8080, 40).answers) == 1
    web.kubectl("patch", "service", "web", "-p", '{"spec": {"sessionAffinity": "None"}}')
    until(lambda: len(load.measure(cluster, "node-1", address, 8080, 60).answers) == 3)


def test_a_service_without_endpoints_refuses_at_once(cluster: LocalCluster, web: Namespace) -> None:
    address = f"{web.get('service', 'web')['spec']['clusterIP']}:8080"
    web.apply(manifests.pod("box", manifests.pod_spec(manifests.shell("exec sleep 999"))))
    web.kubectl("scale", "deployment/web", "--replicas=0")
    web.wait("condition=Ready", "pod/box")
    until(lambda: curl(cluster, "node-2", address)[0] == 7, what="refused on a node")
    inside = web.exec("box", "curl", "-s", "--max-time", "5", address, check=False)
    assert "exit code 7" in inside.stderr, "refused in a Pod, too"
    web.kubectl("scale", "deployment/web", "--replicas=1")
    until(lambda: curl(cluster, "node-2", address)[0] == 0, what="answers again")


@pytest.mark.parametrize("viewpoint", ["node-1", "outside"])
def test_what_nobody_has_is_refused_at_once(namespace: Namespace, viewpoint: str) -> None:
    """An address of the Service or Pod range that nobody has is refused, however often: not sent on, not
    waited for. The same goes for any other, as the cluster has no way out."""
    nobodys = ("10.111.255.254:80", "10.244.77.7:80", "192.0.2.1:80")
    questions = [f"{protocol}:{address}" for protocol in ("tcp", "udp") for address in nobodys] * 10
    assert ask(namespace, viewpoint, *questions) == ["refused"] * len(questions)


def test_udp_goes_to_those_who_are_there(cluster: LocalCluster, namespace: Namespace) -> None:
    """A UDP flow that goes on finds another Pod when its own has ended: no stale entry keeps it."""
    program = (manifests.PROGRAMS / "udp_server.py").read_text()
    container = {"name": "udp", "image": manifests.IMAGE, "command": ["python", "-c", program, "5353"]}
    ports = [{"name": "udp", "port": 5300, "targetPort": 5353, "protocol": "UDP"}]
    namespace.apply(
        manifests.deployment("udp", 2, manifests.pod_spec(container)), manifests.service("udp", ports=ports)
    )
    namespace.until_endpoints("udp", 2)
    address = namespace.get("service", "udp")["spec"]["clusterIP"]
    client = manifests.PROGRAMS / "udp_client.py"
    process = cluster.start_on_node("node-1", "/usr/bin/python3", client, address, "5300")
    assert process.stdin
    assert process.stdout

    def ask() -> str:
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        return process.stdout.readline().strip()  # type: ignore[union-attr]

    try:
        first = until(lambda: answer if (answer := ask()) != "none" else "", what="a first answer")
        assert {ask() for _ in range(10)} == {first}, "one flow, one Pod"
        namespace.kubectl("delete", "pod", first, "--wait=true")
        later = until(lambda: answer if (answer := ask()) not in ("none", first) else "", within=20)
        assert later.startswith("udp-")
    finally:
        process.communicate(timeout=10)


def test_rules_that_somebody_flushed_come_back(cluster: LocalCluster, web: Namespace) -> None:
    address = f"{web.get('service', 'web')['spec']['clusterIP']}:8080"
    before = cluster.on_node("node-2", "iptables-save", "-t", "nat").stdout
    for table in ("nat", "filter", "mangle"):
        cluster.on_node("node-2", "iptables", "-t", table, "-F")
    until(lambda: curl(cluster, "node-2", address)[0] == 0, within=60, what="the Service answers again")

    def rules(text: str) -> set[str]:
        return {line for line in text.splitlines() if line.startswith("-A KUBE") and str(web.name) in line}

    assert rules(before)

    def restored() -> bool:
        return rules(before) <= rules(cluster.on_node("node-2", "iptables-save", "-t", "nat").stdout)

    until(restored, within=60, what="all rules are there again")


def test_host_port_and_named_port(cluster: LocalCluster, web: Namespace) -> None:
    container = manifests.server_container(ports=[{"name": "http", "containerPort": 80, "hostPort": 8088}])
    web.apply(manifests.pod("exposed", manifests.pod_spec(container, nodeName="node-3")))
    web.wait("condition=Ready", "pod/exposed")
    until(lambda: curl(cluster, "node-1", "192.168.1.82:8088") == (0, "exposed"))
    outside = cluster.buoy("outside", "--", "curl", "-s", "--max-time", "5", "192.168.1.82:8088")
    assert outside.stdout == "exposed\n"
    (part,) = web.list("endpointslices", "kubernetes.io/service-name=web")
    assert part["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]


def test_pods_reach_each_other_without_translation(cluster: LocalCluster, web: Namespace) -> None:
    """A Pod on another node sees the client Pod's own address."""
    program = (
        "import socket; s = socket.create_server(('', 7000)); "
        "[(c.recv(4096), c.sendall(a[0].encode()), c.close()) for c, a in iter(s.accept, None)]"
    )
    whoami = {"name": "whoami", "image": manifests.IMAGE, "command": ["python", "-c", program]}
    sleeper = manifests.shell("exec sleep 999")
    web.apply(
        manifests.pod("whoami", manifests.pod_spec(whoami, nodeName="node-1")),
        manifests.pod("near", manifests.pod_spec(sleeper, nodeName="node-1")),
        manifests.pod("far", manifests.pod_spec(sleeper, nodeName="node-2")),
        manifests.service("whoami", port=7000, target=7000),
    )
    web.wait("condition=Ready", "pod/whoami", "pod/near", "pod/far")
    web.until_endpoints("whoami", 1)
    addresses = {name: web.get("pod", name)["status"]["podIP"] for name in ("whoami", "near", "far")}
    cluster_ip = web.get("service", "whoami")["spec"]["clusterIP"]
    for name in ("near", "far"):
        for target in (addresses["whoami"], cluster_ip):
            ask = ["curl", "-s", "--http0.9", "--retry-connrefused", "--retry", "5", f"{target}:7000"]
            assert web.exec(name, *ask).stdout == addresses[name]
    # A Pod that reaches itself through the Service is the one that has to be masqueraded.
    script = f"for i in 1 2 3; do curl -s --http0.9 {cluster_ip}:7000; echo; done"
    answers = set(web.exec("whoami", "sh", "-c", script).stdout.split())
    assert len(answers) == 1
    assert addresses["whoami"] not in answers


def test_endpoints_tell_node_and_target(web: Namespace) -> None:
    pods = {pod["metadata"]["name"]: pod for pod in web.list("pods", "app=web")}
    (part,) = web.list("endpointslices", "kubernetes.io/service-name=web")
    assert {endpoint["targetRef"]["name"] for endpoint in part["endpoints"]} == set(pods)
    for endpoint in part["endpoints"]:
        pod = pods[endpoint["targetRef"]["name"]]
        assert endpoint["addresses"] == [pod["status"]["podIP"]]
        assert endpoint["nodeName"] == pod["spec"]["nodeName"]
        assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
    endpoints = web.get("endpoints", "web")
    (subset,) = endpoints["subsets"]
    assert {entry["ip"] for entry in subset["addresses"]} == {pod["status"]["podIP"] for pod in pods.values()}
    assert json.dumps(subset["ports"]) == '[{"port": 80, "protocol": "TCP"}]'
