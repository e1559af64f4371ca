"""The four ways to reach a Pod at a node's address: hostNetwork, hostPort, NodePort, externalIPs.

Each is tried from a machine outside the cluster, from the node, from another node, and from Pods on both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local_cluster import LocalCluster, Namespace, until
from manifests import PROGRAMS, Object, pod, pod_spec, server_container, shell

pytestmark = pytest.mark.e2e

NODE, OTHER = "node-2", "node-3"
ON_NODE = {"kubernetes.io/hostname": NODE}
FOREVER = "exec sleep 3600"
UDP_CLIENT = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.connect((sys.argv[1], int(sys.argv[2])))
s.send(b"hello")
print(s.recv(100).decode())
"""
VIEWPOINTS = ("outside", "the node", "another node", "a Pod there", "a Pod elsewhere", "the Pod itself")


def with_port(name: str, *, number: int = 80, selector: Object | None = None, **port: Any) -> Object:
    """A server that says its Pod's name, with a port of its node's."""
    container = server_container(port=number, ports=[{"containerPort": number, **port}])
    return pod(name, pod_spec(container, nodeSelector=selector or ON_NODE))


def udp_server(name: str, **port: Any) -> Object:
    container = {
        "name": "server",
        "image": "python:3.7",
        "command": ["python", "-u", "-c", (PROGRAMS / "udp_server.py").read_text(), "5353"],
        "ports": [{"containerPort": 5353, "protocol": "UDP", **port}],
    }
    return pod(name, pod_spec(container, nodeSelector=ON_NODE))


@pytest.fixture(scope="module")
def pods(cluster: LocalCluster) -> Iterator[Namespace]:
    with cluster.namespace() as namespace:
        address = node_address(cluster, NODE)
        host_network = pod_spec(
            server_container(port=9090),
            nodeSelector=ON_NODE,
            hostNetwork=True,
            dnsPolicy="ClusterFirstWithHostNet",
        )
        service: Object = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {
                "type": "NodePort",
                "selector": {"app": "plain"},
                "ports": [{"port": 8088, "targetPort": 80, "nodePort": 30456}],
                "externalIPs": ["192.168.1.77", address],
            },
        }
        namespace.apply(
            pod("host-network", host_network),
            with_port("host-port", hostPort=8081),
            with_port("one-address", hostPort=8082, hostIP=address),
            with_port("loopback", hostPort=8082, hostIP="127.0.0.1"),
            udp_server("udp", hostPort=8081),
            pod("plain", pod_spec(server_container(), nodeSelector=ON_NODE)),
            pod("near", pod_spec(shell(FOREVER), nodeSelector=ON_NODE)),
            pod("far", pod_spec(shell(FOREVER), nodeSelector={"kubernetes.io/hostname": OTHER})),
            service,
        )
        namespace.wait("condition=Ready", "pod", "--all")
        yield namespace


def node_address(cluster: LocalCluster, node: str) -> str:
    path = '{.status.addresses[?(@.type=="InternalIP")].address}'
    return cluster.kubectl("get", "node", node, "-o", f"jsonpath={path}").stdout


def run_from(pods: Namespace, viewpoint: str, itself: str, *command: str) -> str:
    """What the command says where a user types it; what goes wrong is in the answer too."""
    cluster = pods.cluster
    places: dict[str, Callable[[], Any]] = {
        "outside": lambda: cluster.buoy("outside", "--", *command, check=False),
        "the node": lambda: cluster.on_node(NODE, *command, check=False),
        "another node": lambda: cluster.on_node(OTHER, *command, check=False),
        "a Pod there": lambda: pods.exec("near", *command, check=False),
        "a Pod elsewhere": lambda: pods.exec("far", *command, check=False),
        "the Pod itself": lambda: pods.exec(itself, *command, check=False),
    }
    answer = places[viewpoint]()
    return f"{answer.stdout}{answer.stderr}".strip()


def until_answer(pods: Namespace, wanted: str, viewpoint: str, itself: str, *command: str) -> None:
    """The command says *wanted*; a rule may come a moment after the Pod is ready."""
    said: list[str] = []

    def ask() -> bool:
        said[:] = [run_from(pods, viewpoint, itself, *command)]
        return said == [wanted]

    until(ask, within=15, what=f"{wanted} of {command[-1]} from {viewpoint}, not {said}")


def curl(at: str) -> tuple[str, ...]:
    return ("curl", "-sS", "-m", "3", at)


@pytest.mark.parametrize("viewpoint", VIEWPOINTS)
def test_every_way_from(pods: Namespace, viewpoint: str) -> None:
    address, elsewhere = (node_address(pods.cluster, node) for node in (NODE, OTHER))
    for itself, at in (
        ("host-network", f"{address}:9090"),
        ("host-port", f"{address}:8081"),
        ("one-address", f"{address}:8082"),
        ("plain", f"{address}:30456"),
        ("plain", f"{elsewhere}:30456"),
        ("plain", "192.168.1.77:8088"),
        ("plain", f"{address}:8088"),
    ):
        if (viewpoint, at) == ("outside", "192.168.1.77:8088"):
            continue  # nobody has told the LAN where that is
        says = NODE if itself == "host-network" else itself
        until_answer(pods, says, viewpoint, itself, *curl(at))
    until_answer(pods, "udp", viewpoint, "udp", "python3", "-c", UDP_CLIENT, address, "8081")


def test_an_external_address_that_the_lan_routes_to_a_node(pods: Namespace) -> None:
    """That is the user's part; the node then takes what comes for the address."""
    command = ("curl", "-sS", "-m", "3", "--connect-to", f"::{node_address(pods.cluster, OTHER)}:")
    refused = pods.cluster.buoy("outside", "--", *command, "http://192.168.1.77:8088", check=False)
    assert refused.returncode != 0, "no rule takes the port at the node's own address"
    route = ("ip", "route", "replace", "192.168.1.77", "via", node_address(pods.cluster, OTHER))
    pods.cluster.buoy("outside", "--", *route)
    try:
        until_answer(pods, "plain", "outside", "", *curl("192.168.1.77:8088"))
    finally:
        pods.cluster.buoy("outside", "--", "ip", "route", "del", "192.168.1.77")


def test_a_port_of_one_address_is_not_on_others(pods: Namespace) -> None:
    until_answer(pods, "loopback", "the node", "", *curl("127.0.0.1:8082"))
    elsewhere = node_address(pods.cluster, OTHER)
    for at in (f"{elsewhere}:8081", f"{elsewhere}:9090"):
        assert "connect" in run_from(pods, "outside", "", *curl(at)).lower()


def test_on_the_nodes_network(pods: Namespace) -> None:
    found = pods.get("pod", "host-network")
    address = node_address(pods.cluster, NODE)
    assert found["status"]["podIP"] == found["status"]["hostIP"] == address
    (port,) = found["spec"]["containers"][0]["ports"]
    assert port == {"name": "http", "containerPort": 9090, "hostPort": 9090, "protocol": "TCP"}
    assert pods.exec("host-network", "hostname").stdout.strip() == NODE
    asked = pods.exec("host-network", "cat", "/etc/resolv.conf").stdout
    assert "nameserver 10.96.0.10" in asked
    assert f"search {pods.name}.svc.cluster.local svc.cluster.local cluster.local" in asked
    of_the_node = pods.cluster.on_node(NODE, "cat", "/etc/hosts").stdout
    assert of_the_node == (
        f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{NODE}\n"
    )
    hosts = pods.exec("host-network", "cat", "/etc/hosts").stdout
    assert hosts == f"# Kubernetes-managed hosts file (host network).\n{of_the_node}"
    wanted = "socket.gethostbyname('web')"
    resolved = pods.exec("host-network", "python3", "-c", f"import socket; print({wanted})").stdout
    assert resolved.strip() == pods.get("service", "web")["spec"]["clusterIP"]


NO_PORT = "didn't have free ports for the requested pod ports"


def test_ports_that_are_taken(pods: Namespace) -> None:
    """The same port of the same protocol at the same address is taken; any difference makes room."""
    address = node_address(pods.cluster, NODE)
    pods.apply(
        with_port("taken", hostPort=8081),
        with_port("taken-at-one", hostPort=8081, hostIP=address),
        with_port("taken-at-all", hostPort=8082),
        with_port("by-host-network", hostPort=9090),
        with_port("free", hostPort=8082, hostIP="127.0.0.2"),
        with_port("moved", selector={"kubernetes.io/hostname": OTHER}, hostPort=8081),
    )
    pods.wait("condition=Ready", "pod/free", "pod/moved")
    for name in ("taken", "taken-at-one", "taken-at-all", "by-host-network"):
        (event, *_) = until(lambda name=name: pods.events("FailedScheduling", name))
        assert event["message"].startswith(f"0/3 nodes are available: 1 node(s) {NO_PORT}, 2 node(s) didn't")
        assert pods.get("pod", name)["status"]["phase"] == "Pending"
    # Nor does a node take what somebody has put on it past the scheduler.
    late = with_port("late", hostPort=8081)
    late["spec"]["nodeName"] = NODE
    pods.apply(late)
    (event, *_) = until(lambda: pods.events("NodePorts", "late"))
    assert event["message"] == f"Predicate NodePorts failed: node(s) {NO_PORT}"
    pods.wait("jsonpath={.status.phase}=Failed", "pod/late")
    status = pods.get("pod", "late")["status"]
    assert status["message"] == f"Pod was rejected: {event['message']}"
    assert pods.kubectl("get", "pod", "late", "--no-headers").stdout.split()[1:3] == ["0/1", "NodePorts"]
    # The port is free again as soon as its owner is gone.
    pods.kubectl("delete", "pod", "taken-at-one", "taken-at-all", "by-host-network", "host-port")
    pods.wait("condition=Ready", "pod/taken")
    until_answer(pods, "taken", "outside", "", *curl(f"{address}:8081"))
