"""Asking a cluster's Services from a Pod, from a node, and from the machine outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import manifests
from local_cluster import LocalCluster, Namespace, Object

ASK = manifests.PROGRAMS / "ask.py"
WHOAMI = manifests.PROGRAMS / "whoami.py"


def whoami(name: str, app: str, node: str, *ports: int, **more: object) -> Object:
    """A Pod that says who it is, and who asks, at each of *ports* over TCP and UDP."""
    container = {
        "name": "whoami",
        "image": manifests.IMAGE,
        "command": ["python", "-c", WHOAMI.read_text(), *map(str, ports)],
        "ports": [{"name": "web", "containerPort": ports[0]}],
        **more,
    }
    spec = manifests.pod_spec(container, nodeName=node)
    return manifests.pod(name, spec, labels={"app": app})


def both(port: int, target: object) -> list[Object]:
    """A port on TCP and on UDP."""
    return [
        {"name": protocol.lower(), "protocol": protocol, "port": port, "targetPort": target}
        for protocol in ("TCP", "UDP")
    ]


def ask(namespace: Namespace, viewpoint: str, *questions: str) -> list[str]:
    """What each question gets, in the words of ask.py. *viewpoint*: a node, ``outside``, or else a Pod."""
    if viewpoint == "outside":
        asked = namespace.cluster.buoy("outside", "--", "/usr/bin/python3", str(ASK), *questions)
    elif viewpoint.startswith("node-"):
        asked = namespace.cluster.on_node(viewpoint, "/usr/bin/python3", str(ASK), *questions)
    else:
        asked = namespace.exec(viewpoint, "python", "-c", ASK.read_text(), *questions)
    return asked.stdout.splitlines()


@contextmanager
def refused_each_time(cluster: LocalCluster, *nodes: str) -> Iterator[None]:
    """Meanwhile *nodes* refuse a client as often as it asks; by default, soon no more than once a second."""

    def limit(milliseconds: int) -> None:
        for node in nodes:
            cluster.on_node(node, "sysctl", "-q", "-w", f"net.ipv4.icmp_ratelimit={milliseconds}")

    limit(0)
    yield
    limit(1000)
