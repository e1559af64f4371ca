"""Ordinary changes under a running loop of requests: not one request fails.

The servers keep to Kubernetes' manners: after SIGTERM they serve a while longer, until the news of their end
has reached every node.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import load
import manifests
from local_cluster import LocalCluster, Namespace, until

pytestmark = pytest.mark.e2e

LINGER = 3.0
HTTP = {"name": "http", "port": 8080, "targetPort": 80}
READY = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}


@pytest.fixture
def web(namespace: Namespace) -> Namespace:
    """A Deployment and Service called web, of three Pods.

    The port has a name from the start: one that is renamed has no endpoints for a moment, on Kubernetes too.
    """
    container = manifests.server_container(linger=LINGER, readinessProbe=READY)
    namespace.apply(
        manifests.deployment("web", 3, manifests.pod_spec(container, grace=15)),
        manifests.service("web", ports=[HTTP]),
    )
    namespace.rolled_out("deployment/web")
    namespace.until_endpoints("web", 3)
    return namespace


@contextmanager
def under_load(cluster: LocalCluster, namespace: Namespace) -> Iterator[tuple[load.Result, load.Result]]:
    """Requests to web through its ClusterIP, from a node and from a Pod; none of them may fail."""
    address = namespace.get("service", "web")["spec"]["clusterIP"]
    until(lambda: cluster.on_node("node-1", "curl", "-sf", f"{address}:8080", check=False).returncode == 0)
    with (
        load.from_pod(namespace, address, 8080) as inside,
        load.from_node(cluster, "node-1", address, 8080) as outside,
    ):
        yield outside, inside
    for result in (outside, inside):
        result.assert_flawless(at_least=100)


def gone(namespace: Namespace, names: set[str]) -> bool:
    return not names & {pod["metadata"]["name"] for pod in namespace.list("pods")}


def test_deleting_pods(cluster: LocalCluster, web: Namespace) -> None:
    first = {pod["metadata"]["name"] for pod in web.list("pods", "app=web")}
    with under_load(cluster, web) as (outside, _):
        for name in sorted(first):
            web.kubectl("delete", "pod", name, "--wait=true")
            web.until_endpoints("web", 3)
        assert gone(web, first)
    later = {pod["metadata"]["name"] for pod in web.list("pods", "app=web")}
    assert set(outside.answers) == first | later, "each Pod, old and new, has answered"


def test_scaling_up_and_down(cluster: LocalCluster, web: Namespace) -> None:
    with under_load(cluster, web) as (outside, _):
        for count in (7, 2):
            web.kubectl("scale", "deployment/web", f"--replicas={count}")
            web.until_endpoints("web", count)
            until(lambda count=count: len(web.list("pods", "app=web")) == count, every=0.3)
    assert len(outside.answers) >= 7


def test_rolling_update_restart_and_rollback(cluster: LocalCluster, web: Namespace) -> None:
    with under_load(cluster, web):
        # An update that succeeds, a restart, an update that never will, and the way back from it.
        web.kubectl("set", "env", "deployment/web", "VERSION=2")
        web.rolled_out("deployment/web")
        web.kubectl("rollout", "restart", "deployment/web")
        web.rolled_out("deployment/web")
        web.kubectl("set", "image", "deployment/web", "server=no.registry.invalid/nothing:1")
        web.kubectl("rollout", "status", "deployment/web", "--timeout=3s", check=False)
        assert len(web.until_endpoints("web", 3)) == 3, "the old Pods serve on"
        web.kubectl("rollout", "undo", "deployment/web")
        web.rolled_out("deployment/web")
        web.kubectl("rollout", "undo", "deployment/web", "--to-revision=1")
        web.rolled_out("deployment/web")
    history = web.kubectl("rollout", "history", "deployment/web").stdout.split()
    assert history[:2] == ["deployment.apps/web", "REVISION"]
    assert [word for word in history if word.isdigit()] == ["2", "4", "5", "6"]
    (container,) = web.get("deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert "env" not in container
    assert container["image"] == manifests.IMAGE


def test_a_change_of_the_service_itself(cluster: LocalCluster, web: Namespace) -> None:
    """Ports come and go, the selector moves to other Pods; the old port serves all the while."""
    container = manifests.server_container(linger=LINGER, readinessProbe=READY)
    other = manifests.deployment("other", 2, manifests.pod_spec(container, grace=15))
    web.apply(other)
    web.rolled_out("deployment/other")
    with under_load(cluster, web) as (outside, _):
        more = {"name": "more", "port": 9090, "targetPort": "http"}
        ports = json.dumps({"spec": {"ports": [HTTP, more]}})
        web.kubectl("patch", "service", "web", "--type=merge", "-p", ports)
        address = web.get("service", "web")["spec"]["clusterIP"]
        until(
            lambda: cluster.on_node("node-2", "curl", "-sf", f"{address}:9090", check=False).returncode == 0
        )
        web.kubectl("patch", "service", "web", "-p", '{"spec": {"selector": {"app": "other"}}}')
        web.until_endpoints("web", 2)
        until(lambda: cluster.on_node("node-1", "curl", "-sf", f"{address}:8080").stdout.startswith("other-"))
    assert any(name.startswith("other-") for name in outside.answers)
