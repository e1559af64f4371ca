"""Services found by environment variables: only those that were there before the Pod, of its namespace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local_cluster import LocalCluster, Namespace
from manifests import Object, pod, pod_spec, shell

pytestmark = pytest.mark.e2e

FOREVER = "exec sleep 3600"


def service(name: str, **spec: object) -> Object:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def pods(cluster: LocalCluster) -> Iterator[Namespace]:
    """First Services, then Pods, then another Service, which comes too late for them."""
    with cluster.namespace() as namespace:
        namespace.apply(
            service(
                "my-web",
                ports=[
                    {"name": "http", "port": 8080, "targetPort": 80},
                    {"name": "dns-udp", "port": 53, "protocol": "UDP"},
                ],
            ),
            service("plain", ports=[{"port": 80}]),
            service("headless", clusterIP="None", ports=[{"port": 80}]),
            service("alias", type="ExternalName", externalName="www.example.com"),
        )
        own = [
            {"name": "PLAIN_SERVICE_HOST", "value": "mine"},
            {"name": "URL", "value": "http://$(MY_WEB_SERVICE_HOST):$(MY_WEB_SERVICE_PORT)"},
        ]
        namespace.apply(
            pod("linked", pod_spec(shell(FOREVER))),
            pod("unlinked", pod_spec(shell(FOREVER), enableServiceLinks=False)),
            pod("composing", pod_spec(shell(FOREVER, env=own))),
        )
        namespace.wait("condition=Ready", "pod/linked", "pod/unlinked", "pod/composing")
        namespace.apply(service("too-late", ports=[{"port": 80}]))
        yield namespace


def environment(pods: Namespace, name: str) -> dict[str, str]:
    """All variables but those of the image."""
    lines = pods.exec(name, "printenv").stdout.splitlines()
    found = dict(line.split("=", 1) for line in lines)
    return {key: value for key, value in found.items() if key not in ("PATH", "HOME", "HOSTNAME")}


def variables(name: str, address: str, ports: list[tuple[str, int, str]]) -> dict[str, str]:
    """As `Kubernetes and Docker`__ write them; *ports* are (name, number, protocol).

    __ https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    (_, first, protocol), *_ = ports
    found = {
        f"{name}_SERVICE_HOST": address,
        f"{name}_SERVICE_PORT": str(first),
        f"{name}_PORT": f"{protocol.lower()}://{address}:{first}",
    }
    for port, number, protocol in ports:
        if port:
            found[f"{name}_SERVICE_PORT_{port}"] = str(number)
        link = f"{name}_PORT_{number}_{protocol}"
        found[link] = f"{protocol.lower()}://{address}:{number}"
        found[f"{link}_PROTO"] = protocol.lower()
        found[f"{link}_PORT"] = str(number)
        found[f"{link}_ADDR"] = address
    return found


KUBERNETES = variables("KUBERNETES", "10.96.0.1", [("HTTPS", 443, "TCP")])


def expected(pods: Namespace) -> dict[str, str]:
    web, plain = (pods.get("service", name)["spec"]["clusterIP"] for name in ("my-web", "plain"))
    return {
        **KUBERNETES,
        **variables("MY_WEB", web, [("HTTP", 8080, "TCP"), ("DNS_UDP", 53, "UDP")]),
        **variables("PLAIN", plain, [("", 80, "TCP")]),
    }


def test_services_that_are_older_than_the_pod(pods: Namespace) -> None:
    """Exactly these: none of a Service without an address, of another namespace, or that came later."""
    assert environment(pods, "linked") == expected(pods)


def test_without_links_only_the_api_server_is_told(pods: Namespace) -> None:
    assert environment(pods, "unlinked") == KUBERNETES


def test_ones_own_variables_win_and_may_refer_to_services(pods: Namespace) -> None:
    found = environment(pods, "composing")
    assert found["PLAIN_SERVICE_HOST"] == "mine"
    assert found["URL"] == f"http://{found['MY_WEB_SERVICE_HOST']}:8080"


def test_a_pod_made_anew_finds_the_later_service(pods: Namespace) -> None:
    pods.apply(pod("latecomer", pod_spec(shell(FOREVER))))
    pods.wait("condition=Ready", "pod/latecomer")
    assert "TOO_LATE_SERVICE_HOST" in environment(pods, "latecomer")
