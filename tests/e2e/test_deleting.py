"""Deleting in all its ways: what depends on an object goes with it, or is left alone, as asked."""

from __future__ import annotations

import pytest

import manifests
from local_cluster import LocalCluster, Namespace, until

pytestmark = pytest.mark.e2e

KINDS = "deployments,replicasets,pods,services,endpoints,endpointslices,configmaps,secrets,events"


@pytest.fixture
def web(namespace: Namespace) -> Namespace:
    spec = manifests.pod_spec(manifests.shell("trap 'exit 0' TERM; sleep 999 & wait"))
    namespace.apply(manifests.deployment("web", 2, spec), manifests.service("web"))
    namespace.rolled_out("deployment/web")
    namespace.until_endpoints("web", 2)
    return namespace


def names(namespace: Namespace, kind: str) -> set[str]:
    return {item["metadata"]["name"] for item in namespace.list(kind, "app=web")}


def test_in_the_background(web: Namespace) -> None:
    web.kubectl("delete", "deployment", "web")
    assert not web.get("deployment", "web")
    until(lambda: not names(web, "replicasets") and not names(web, "pods"), what="its Pods are gone")
    web.until_endpoints("web", 0)


def test_in_the_foreground(web: Namespace) -> None:
    web.kubectl("delete", "deployment", "web", "--cascade=foreground")
    assert not names(web, "replicasets")
    assert not [pod for pod in web.list("pods", "app=web") if "deletionTimestamp" not in pod["metadata"]]


def test_orphans_are_adopted_again(web: Namespace) -> None:
    pods, (replica_set,) = names(web, "pods"), names(web, "replicasets")
    web.kubectl("delete", "deployment", "web", "--cascade=orphan")
    assert names(web, "pods") == pods
    assert "ownerReferences" not in web.get("replicaset", replica_set)["metadata"]
    spec = manifests.pod_spec(manifests.shell("trap 'exit 0' TERM; sleep 999 & wait"))
    web.apply(manifests.deployment("web", 2, spec))
    web.rolled_out("deployment/web")
    assert names(web, "replicasets") == {replica_set}
    assert names(web, "pods") == pods


def test_a_namespace_and_all_in_it(cluster: LocalCluster) -> None:
    with cluster.namespace() as namespace:
        spec = manifests.pod_spec(manifests.shell("trap 'exit 0' TERM; sleep 999 & wait"))
        held = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "held", "finalizers": ["example.com/hold"]},
        }
        namespace.apply(manifests.deployment("web", 2, spec), manifests.service("web"), held)
        namespace.rolled_out("deployment/web")
        cluster.kubectl("delete", "namespace", namespace.name, "--wait=false")
        until(lambda: not namespace.list("pods"), what="the Pods are gone")
        (status,) = cluster.kubectl("get", "namespace", namespace.name, "--no-headers").stdout.split()[1:2]
        assert status == "Terminating", "something is held in it"
        refused = namespace.kubectl("create", "configmap", "late", check=False)
        assert "because it is being terminated" in refused.stderr
        namespace.kubectl(
            "patch", "configmap", "held", "--type=merge", "-p", '{"metadata": {"finalizers": null}}'
        )
        cluster.kubectl("wait", "--for=delete", f"namespace/{namespace.name}", "--timeout=30s")
        left = namespace.kubectl("get", KINDS, "-o", "name").stdout
        assert left == ""


def test_all_of_a_kind_by_selector(namespace: Namespace) -> None:
    for number in range(6):
        colour = "red" if number % 2 else "blue"
        namespace.kubectl("create", "configmap", f"number-{number}")
        namespace.kubectl("label", "configmap", f"number-{number}", f"colour={colour}")
    namespace.kubectl("delete", "configmaps", "-l", "colour=red")
    left = {item["metadata"]["name"] for item in namespace.list("configmaps", "colour")}
    assert left == {"number-0", "number-2", "number-4"}
