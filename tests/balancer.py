"""A cluster's load balancer as tests configure it, by MetalLB's resources, and who announces an address."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256

import manifests
from lan import LanMachine
from local_cluster import LocalCluster, Namespace, Object, until
from neighbours import arping
from topology import Namespace as Machine
from viewpoints import ASK, whoami

NAMESPACE = "metallb-system"
POOL = "test"
PORT = 8080
CLIENT = "192.168.1.210"
NODES = {"node-1": "192.168.1.80", "node-2": "192.168.1.81", "node-3": "192.168.1.82"}
VICTIM = "node-3"
"""The node that comes to harm."""
EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"

_VERSIONS = {"BGPPeer": "v1beta2"}


def resource(kind: str, name: str, **spec: object) -> Object:
    """One of MetalLB's custom resources."""
    version = f"metallb.io/{_VERSIONS.get(kind, 'v1beta1')}"
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


def service(
    name: str, address: str = "", *, annotations: dict[str, str] | None = None, **more: object
) -> Object:
    """A Service of type LoadBalancer for the Pods labelled ``app: NAME``, at *address* if it is given."""
    made = manifests.service(name, type="LoadBalancer", **more)
    wished = {"metallb.io/loadBalancerIPs": address} if address else {}
    made["metadata"]["annotations"] = {**wished, **(annotations or {})}
    return made


def on(*nodes: str) -> list[Object]:
    """Node selectors for *nodes*."""
    return [{"matchLabels": {"kubernetes.io/hostname": node}} for node in nodes]


def ranking(address: str, nodes: Iterable[str] = NODES) -> list[str]:
    """The nodes in the order in which MetalLB's rule gives them the address."""
    return sorted(nodes, key=lambda node: sha256(f"{node}#{address}".encode()).digest())


def won_by(node: str, addresses: Iterable[str]) -> str:
    """The first of *addresses* that the rule gives to *node*."""
    return next(address for address in addresses if ranking(address)[0] == node)


class Site:
    """A cluster whose load balancer is configured for tests, seen from *machine* on its LAN.

    There are Pods ``who-N`` on each node-N, labelled ``app: who`` and ``who-N: here``.
    """

    def __init__(self, cluster: LocalCluster, namespace: Namespace, machine: LanMachine) -> None:
        self.cluster, self.namespace, self.machine = cluster, namespace, machine
        self._applied: dict[tuple[str, str], None] = {}
        self._nodes: dict[str, str] = {}

    def apply(self, *objects: Object) -> None:
        """Apply custom resources, which go with the site."""
        Namespace(self.cluster, NAMESPACE).apply(*objects)
        self._applied |= {(each["kind"], each["metadata"]["name"]): None for each in objects}

    def remove(self, kind: str, name: str) -> None:
        self.cluster.kubectl("delete", kind, name, "--namespace", NAMESPACE)
        del self._applied[kind, name]

    def advertise(self, kind: str = "L2Advertisement", name: str = "test", **spec: object) -> None:
        self.apply(resource(kind, name, ipAddressPools=[POOL], **spec))

    def serve(self, name: str, address: str = "", **more: object) -> None:
        """A Service for all the Pods, or for those of *selector*."""
        more.setdefault("selector", {"app": "who"})
        self.namespace.apply(service(name, address, **more))

    def withdraw_all(self) -> None:
        self.namespace.kubectl("delete", "services", "--all")

    def address_of(self, name: str) -> str:
        def given() -> str:
            status = self.namespace.get("service", name)["status"]
            return "".join(each["ip"] for each in status["loadBalancer"].get("ingress") or ())

        return until(given, what=f"an address for {name}")

    def ask(self, *addresses: str, protocol: str = "tcp", port: int = PORT) -> list[str]:
        """Who answers the machine, and whom the server sees."""
        return ask(self.machine, *addresses, protocol=protocol, port=port)

    def events(self, about: str, reason: str) -> list[str]:
        return [event["message"] for event in self.namespace.events(reason, about)]

    def announcer(self, address: str) -> str:
        """The node that is the first to answer for *address*, empty for none."""
        return next(map(self.node_at, arping(self.machine, address)), "")

    def announcers(self, address: str) -> set[str]:
        """All nodes that answer for *address* within a second."""
        return set(map(self.node_at, arping(self.machine, address, count=9)))

    def moves_to(self, address: str, node: str, within: float = 30) -> None:
        """Wait until *node* is the one to answer for *address*; empty for nobody."""
        until(lambda: self.announcer(address) == node, within=within, what=f"{address} at {node or 'nobody'}")

    def node_at(self, mac: str) -> str:
        """The node with this hardware address, as it says itself."""
        if mac not in self._nodes:
            self._nodes = {
                found: node for node, address in NODES.items() for found in arping(self.machine, address)
            }
        return self._nodes[mac]

    def mac_of(self, node: str) -> str:
        return arping(self.machine, NODES[node])[0]

    def close(self) -> None:
        for kind, name in reversed(self._applied):
            self.cluster.kubectl("delete", kind, name, "--namespace", NAMESPACE, check=False)


@contextmanager
def site(cluster: LocalCluster, *addresses: str) -> Iterator[Site]:
    """A site with a pool of *addresses*."""
    with cluster.namespace() as namespace, LanMachine(cluster, "client", CLIENT) as machine:
        made = Site(cluster, namespace, machine)
        try:
            made.apply(resource("IPAddressPool", POOL, addresses=addresses))
            pods = [whoami(f"who-{node[-1]}", "who", node, 80) for node in NODES]
            for pod in pods:
                pod["metadata"]["labels"][pod["metadata"]["name"]] = "here"
            namespace.apply(*pods)
            namespace.wait("condition=Ready", *(f"pod/who-{node[-1]}" for node in NODES))
            yield made
        finally:
            made.close()


def ask(machine: Machine, *addresses: str, protocol: str = "tcp", port: int = PORT) -> list[str]:
    """Who answers *machine* at each of *addresses*, and whom the server sees."""
    questions = [f"{protocol}:{address}:{port}" for address in addresses]
    return machine.run("python3", str(ASK), *questions).splitlines()


def process_of(cluster: LocalCluster, component: str, node: str = "") -> int:
    """The host's number of a component's process, as ``buoy status`` shows it."""
    for line in cluster.buoy("status").stdout.splitlines():
        words = line.split()
        if words[:1] == [component] and (not node or words[1] == node):
            return int(words[2 if node else 1])
    raise AssertionError(f"{component} does not run {f'on {node}' if node else ''}")


@contextmanager
def silent(pid: int) -> Iterator[None]:
    """A process that does nothing for as long as the context lasts, and does not know it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def all_ready(cluster: LocalCluster) -> bool:
    template = "jsonpath={range .items[*]}{.status.conditions[?(@.type=='Ready')].status} {end}"
    return set(cluster.kubectl("get", "nodes", "-o", template).stdout.split()) == {"True"}


@contextmanager
def stopped(site: Site) -> Iterator[None]:
    site.cluster.buoy("node stop", VICTIM)
    try:
        yield
    finally:
        site.cluster.buoy("node start", VICTIM)


@contextmanager
def cut(site: Site) -> Iterator[None]:
    site.cluster.buoy("node cut", VICTIM)
    try:
        yield
    finally:
        site.cluster.buoy("node heal", VICTIM)
