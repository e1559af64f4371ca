"""The table of Kubernetes Services: who reaches which kind from where, by TCP and UDP, and as whom."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import manifests
from local_cluster import LocalCluster, Namespace, Object, until
from viewpoints import ask, both, refused_each_time, whoami

pytestmark = pytest.mark.e2e

NODE = "192.168.1.80"  # node-1: the asking Pod is there, and its address is asked
OUTSIDE = "192.168.1.200"
PLACES = {"here": "node-1", "there": "node-2", "nowhere": ""}  # of the endpoint
PORTS = {"here": 8101, "there": 8102, "nowhere": 8103}  # of the Services
DNS = "10.96.0.10"

# As whom the endpoint sees who asks: the client's own address, or its node's, for packets that a node has
# translated so that the answer comes back to it. Or why nobody is reached.
TABLE = {
    #                     in a Pod    on its node     outside
    "cluster IP":        ("client",  "node",         "refused"),
    "its name":          ("client",  "nobody knows", "nobody knows"),
    "node port":         ("node",    "node",         "node"),
    "external IP":       ("node",    "node",         "node"),
    "headless":          ("client",  "nobody knows", "nobody knows"),
    "headless, by port": ("refused", "nobody knows", "nobody knows"),
    "ExternalName":      ("client",  "nobody knows", "nobody knows"),
}  # fmt: skip
VIEWPOINTS = ("client", "node-1", "outside")


def expected(door: str, viewpoint: str, place: str) -> str:
    found = TABLE[door][VIEWPOINTS.index(viewpoint)]
    if place == "nowhere" and found in ("client", "node", "refused"):
        return "no such name" if door.startswith("headless") else "refused"
    return found


@pytest.fixture(scope="module")
def services(cluster: LocalCluster) -> Iterator[Namespace]:
    """For each place a Service of every kind, and a client on node-1."""
    sleeper = manifests.pod_spec(manifests.shell("exec sleep 999"), nodeName="node-1")
    with cluster.namespace() as namespace:
        objects = [manifests.pod("client", sleeper)]
        for place, node in PLACES.items():
            kinds: dict[str, Object] = {
                place: {"type": "NodePort", "externalIPs": [NODE]},
                f"{place}-headless": {"clusterIP": "None"},
                f"{place}-outside": {"type": "ExternalName", "externalName": f"{place}.{zone(namespace)}"},
            }
            objects += [
                manifests.service(name, selector={"app": place}, ports=both(PORTS[place], 80), **kind)
                for name, kind in kinds.items()
            ]
            if node:
                objects.append(whoami(place, place, node, 80))
        namespace.apply(*objects)
        namespace.wait("condition=Ready", "pod/client", "pod/here", "pod/there")
        until(lambda: all(" 80" in answer for answer in ask(namespace, "client", *reached(namespace))))
        with refused_each_time(cluster, "node-1"):
            yield namespace


def reached(namespace: Namespace) -> list[str]:
    """Questions that are answered once rules and names are there."""
    doors = ("node port", "headless")
    return [
        question for place in ("here", "there") for door in doors for question in of(door, place, namespace)
    ]


def zone(namespace: Namespace) -> str:
    return f"{namespace.name}.svc.cluster.local"


def of(door: str, place: str, namespace: Namespace) -> list[str]:
    """The two questions, over TCP and UDP, at a door of the Service whose endpoint is at *place*."""
    port = PORTS[place]
    spec = namespace.get("service", place)["spec"]
    address = {
        "cluster IP": f"{spec['clusterIP']}:{port}",
        "its name": f"{place}.{zone(namespace)}:{port}",
        "node port": f"{NODE}:{spec['ports'][0]['nodePort']}",
        "external IP": f"{NODE}:{port}",
        "headless": f"{place}-headless.{zone(namespace)}:80",
        "headless, by port": f"{place}-headless.{zone(namespace)}:{port}",
        "ExternalName": f"{place}-outside.{zone(namespace)}:{port}",
    }[door]
    return [f"tcp:{address}", f"udp:{address}"]


def seen(namespace: Namespace, viewpoint: str, place: str) -> dict[str, list[str]]:
    """What each door gives *viewpoint*, over TCP and UDP, in the words of the table."""
    pod = namespace.get("pod", viewpoint)["status"]["podIP"] if viewpoint in ("client", "here") else ""
    own = {pod or OUTSIDE: "client"}
    gateway = namespace.get("pod", "client")["status"]["podIP"].rpartition(".")[0] + ".1"
    own |= {NODE: "node", gateway: "node"}
    questions = [question for door in TABLE for question in of(door, place, namespace)]
    answers = [
        own.get(answer.split()[1], answer) if answer.startswith(f"{place} ") else answer
        for answer in ask(namespace, viewpoint, *questions)
    ]
    return {door: answers[2 * number : 2 * number + 2] for number, door in enumerate(TABLE)}


@pytest.mark.parametrize("viewpoint", VIEWPOINTS)
@pytest.mark.parametrize("place", PLACES)
def test_table(services: Namespace, viewpoint: str, place: str) -> None:
    assert seen(services, viewpoint, place) == {
        door: [expected(door, viewpoint, place)] * 2 for door in TABLE
    }


def test_the_endpoint_asks_for_itself(services: Namespace) -> None:
    """What was translated comes back as from the node; or the answer would go by a shorter way."""
    found = seen(services, "here", "here")
    assert found.pop("headless, by port") == ["refused"] * 2
    assert found.pop("headless") == ["client"] * 2
    assert found == dict.fromkeys(found, ["node"] * 2)


def test_only_the_cluster_reaches_its_dns(cluster: LocalCluster, services: Namespace) -> None:
    """A node's own resolver does not know the cluster's names, but who asks the cluster's DNS is told."""
    question = ["busybox", "nslookup", "-type=a", f"here.{zone(services)}.", DNS]
    told = f"Address: {services.get('service', 'here')['spec']['clusterIP']}\n"
    assert told in cluster.on_node("node-1", *question).stdout
    assert told in services.exec("client", *question).stdout
    assert ask(services, "outside", f"udp:{DNS}:53", f"tcp:{DNS}:53") == ["refused"] * 2
