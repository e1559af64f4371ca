"""What somebody has who has taken over a node: the credentials that lie there, used from there."""

from __future__ import annotations

import json

import pytest

from local_cluster import KUBECTL, Completed, LocalCluster, Namespace
from manifests import Object, pod, pod_spec, shell

pytestmark = pytest.mark.e2e

COMPONENTS = ("kubelet", "network", "proxy", "dns")


def with_key_of(cluster: LocalCluster, component: str, *arguments: str, node: str = "node-1") -> Completed:
    """kubectl on a node, as one of the node's components."""
    key = f"/run/buoy/pki/{component}.kubeconfig"
    return cluster.on_node(node, str(KUBECTL), "--kubeconfig", key, *arguments, check=False)


def secret(name: str) -> Object:
    metadata = {"name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"word": name}}


def pod_with_secret(name: str, node: str) -> Object:
    spec = pod_spec(
        shell("exec sleep 3600", volumeMounts=[{"name": "v", "mountPath": "/v"}]),
        volumes=[
            {
                "name": "v",
                "projected": {
                    "sources": [
                        {"secret": {"name": name}},
                        {"serviceAccountToken": {"path": "token", "audience": "vault"}},
                    ]
                },
            }
        ],
    )
    return pod(name, {**spec, "nodeName": node})


def test_a_node_reads_the_secrets_of_its_pods(cluster: LocalCluster, namespace: Namespace) -> None:
    namespace.apply(*(secret(name) for name in ("here", "there", "nowhere")))
    namespace.apply(pod_with_secret("here", "node-1"), pod_with_secret("there", "node-2"))
    namespace.wait("condition=Ready", "pod/here", "pod/there")
    assert namespace.exec("here", "cat", "/v/word").stdout == "here"

    def get(component: str, *arguments: str) -> Completed:
        return with_key_of(cluster, component, "get", "-n", namespace.name, *arguments)

    assert get("kubelet", "secret/here").returncode == 0
    for name in ("there", "nowhere"):
        assert (
            "no relationship found between node 'node-1' and this object"
            in get("kubelet", f"secret/{name}").stderr
        )
    mine = json.loads(
        get("kubelet", "pods", "-A", "--field-selector=spec.nodeName=node-1", "-o", "json").stdout
    )
    assert {each["spec"]["nodeName"] for each in mine["items"]} == {"node-1"}
    for component in COMPONENTS:
        for what in ("secrets", "secrets/nowhere", "pods"):
            assert "is forbidden" in get(component, what).stderr, (component, what)
        assert "is forbidden" in with_key_of(cluster, component, "get", "secrets", "-A").stderr, component


def test_a_node_writes_what_is_its_own(cluster: LocalCluster, namespace: Namespace) -> None:
    namespace.apply(secret("there"), pod_with_secret("there", "node-2"))
    namespace.wait("condition=Ready", "pod/there")

    def refused(reason: str, *arguments: str) -> None:
        result = with_key_of(cluster, "kubelet", *arguments)
        assert result.returncode
        assert reason in result.stderr

    patched = ("patch", "--type=merge", "-p")
    labels = '{"metadata":{"labels":{"node-restriction.kubernetes.io/x":"y"}}}'
    refused("is not allowed to modify labels", *patched, labels, "node/node-1")
    refused("node 'node-1' cannot read 'node-2', only its own Node object", *patched, labels, "node/node-2")
    on_other = ("-n", namespace.name, "there")
    refused("can only delete pods with spec.nodeName set to itself", "delete", "pod", *on_other)
    refused("is forbidden", "exec", *on_other, "--", "true")
    token = ("create", "token", "-n", namespace.name, "default")
    refused("no relationship found between node 'node-1' and this object", *token)
    result = with_key_of(cluster, "kubelet", *token, node="node-2")
    assert "node requested token not bound to a pod" in result.stderr
