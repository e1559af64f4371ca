"""Equal shares: each endpoint of a Service is as likely as any other."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence

import pytest

import load
import manifests
from local_cluster import LocalCluster, Namespace, until

pytestmark = pytest.mark.e2e

REQUESTS = 10_000

CRITICAL = {2: 13.816, 99: 148.230}
"""By degrees of freedom: the value that chi-square exceeds by chance once in a thousand times."""

LENT = ipaddress.IPv4Network("172.30.0.0/21")
"""Addresses that a server on node-2 answers at, which stand for as many machines."""
PORT = 7080


def chi_square(counts: Sequence[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def assert_uniform(sample: Callable[[], load.Result], names: Sequence[str]) -> None:
    """One fair sample in a thousand is rejected; so a rejected one gets a second, independent, last try."""
    measured = []
    for _ in range(2):
        result = sample()
        result.assert_flawless(at_least=REQUESTS)
        assert set(result.answers) <= set(names)
        measured.append(chi_square([result.answers.get(name, 0) for name in names]))
        if measured[-1] < CRITICAL[len(names) - 1]:
            return
    raise AssertionError(f"not uniform: chi-square {measured}, critical {CRITICAL[len(names) - 1]}")


def test_the_statistic_itself() -> None:
    """It accepts what is even, and rejects a share that is off by a few in a hundred."""
    assert chi_square([3334, 3333, 3333]) < 0.01
    assert chi_square([3600, 3200, 3200]) > CRITICAL[2]
    assert chi_square([100] * 100) == 0
    assert chi_square([50] * 10 + [105] * 80 + [110] * 10) > CRITICAL[99]


def test_three_pods(cluster: LocalCluster, namespace: Namespace) -> None:
    spec = manifests.pod_spec(manifests.server_container())
    namespace.apply(manifests.deployment("web", 3, spec), manifests.service("web"))
    namespace.until_endpoints("web", 3)
    names = [pod["metadata"]["name"] for pod in namespace.list("pods", "app=web")]
    address = namespace.get("service", "web")["spec"]["clusterIP"]
    until(lambda: cluster.on_node("node-1", "curl", "-sf", f"{address}:8080", check=False).returncode == 0)
    until(lambda: len(load.measure(cluster, "node-1", address, 8080, 60).answers) == 3)
    assert_uniform(lambda: load.measure(cluster, "node-1", address, 8080, REQUESTS), names)


@pytest.fixture(scope="module")
def lent_addresses(cluster: LocalCluster) -> Iterator[list[str]]:
    """2,046 addresses, all node-2's: one server there answers at each of them, with the address itself."""
    cluster.on_node("node-2", "ip", "route", "add", "local", str(LENT), "dev", "lo")
    cluster.on_node("node-1", "ip", "route", "add", str(LENT), "via", "192.168.1.81")
    program = manifests.PROGRAMS / "server.py"
    server = cluster.start_on_node("node-2", "/usr/bin/python3", program, str(PORT), "0", "by-address")
    try:
        assert server.stdout
        assert server.stdout.readline() == "serving\n"
        yield [str(address) for address in LENT.hosts()]
    finally:
        cluster.on_node("node-2", "pkill", "-TERM", "-f", f"server.py {PORT}", check=False)
        server.communicate(timeout=10)
        cluster.on_node("node-1", "ip", "route", "del", str(LENT))
        cluster.on_node("node-2", "ip", "route", "del", "local", str(LENT), "dev", "lo")


def service_of(namespace: Namespace, name: str, addresses: Sequence[str]) -> str:
    """A Service without selector, its endpoints written by hand in slices of 100; its ClusterIP."""
    objects = [manifests.service(name, target=PORT)]
    del objects[0]["spec"]["selector"]
    for start in range(0, len(addresses), 100):
        part = addresses[start : start + 100]
        objects.append(manifests.endpoint_slice(name, f"{name}-{start}", part, PORT))
    namespace.apply(*objects)
    address: str = namespace.get("service", name)["spec"]["clusterIP"]
    return address


def test_a_hundred_endpoints(cluster: LocalCluster, namespace: Namespace, lent_addresses: list[str]) -> None:
    endpoints = lent_addresses[:100]
    address = service_of(namespace, "hundred", endpoints)
    until(lambda: cluster.on_node("node-1", "curl", "-sf", f"{address}:8080", check=False).returncode == 0)
    assert_uniform(lambda: load.measure(cluster, "node-1", address, 8080, REQUESTS), endpoints)


def test_a_thousand_endpoints(cluster: LocalCluster, namespace: Namespace, lent_addresses: list[str]) -> None:
    endpoints = lent_addresses[:1000]
    address = service_of(namespace, "thousand", endpoints)
    # Slices arrive one after the other; when all are in, all ten hundreds answer.
    hundreds = {endpoint: number // 100 for number, endpoint in enumerate(endpoints)}

    def all_in() -> load.Result | None:
        result = load.measure(cluster, "node-1", address, 8080, 200)
        return result if {hundreds[name] for name in result.answers} == set(range(10)) else None

    until(all_in, within=60, what="endpoints of all slices answer", every=0.5)
    result = load.measure(cluster, "node-1", address, 8080, 3000)
    result.assert_flawless(at_least=3000)
    # 3,000 requests leave each of 1,000 unasked with probability e^-3: about 950 are reached, sigma 7.
    assert len(result.answers) > 900
    described = namespace.kubectl("describe", "service", "thousand").stdout
    assert " + 997 more..." in described
