"""Mistakes near those of the tutorial: kubectl shows what it shows on Kubernetes 1.36."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local_cluster import Namespace

pytestmark = pytest.mark.e2e


def refused(namespace: Namespace, manifest: str) -> str:
    """What kubectl writes when it applies a manifest that is refused."""
    result = namespace.kubectl("apply", "-f", "-", input=manifest, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    return result.stderr


def service(name: str, **spec: Any) -> str:
    spec = {"selector": {"app": "x"}, "ports": [{"port": 8080, "targetPort": 80}], **spec}
    return json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})


def test_a_duplicate_port(namespace: Namespace) -> None:
    manifest = service("twice", ports=[{"name": "a", "port": 8080}, {"name": "b", "port": 8080}])
    message = refused(namespace, manifest)
    assert message.startswith('The Service "twice" is invalid: spec.ports[1]: Duplicate value: {')
    assert '"Protocol":"TCP"' in message
    assert '"Port":8080' in message


def test_a_duplicate_node_port(namespace: Namespace) -> None:
    first = {"name": "a", "port": 1, "nodePort": 30911}
    manifest = service("twice", type="NodePort", ports=[first, {**first, "name": "b", "port": 2}])
    assert refused(namespace, manifest) == (
        'The Service "twice" is invalid: spec.ports[1].nodePort: Invalid value: 30911: '
        "provided port is already allocated\n"
    )


def test_a_cluster_ip_outside_the_range(namespace: Namespace) -> None:
    assert refused(namespace, service("far", clusterIP="10.0.171.12")) == (
        'The Service "far" is invalid: spec.clusterIPs: Invalid value: ["10.0.171.12"]: '
        "failed to allocate IP 10.0.171.12: the provided network does not match the current range\n"
    )


def test_a_cluster_ip_already_taken(namespace: Namespace) -> None:
    namespace.kubectl("apply", "-f", "-", input=service("first", clusterIP="10.96.77.7"))
    assert refused(namespace, service("second", clusterIP="10.96.77.7")) == (
        'The Service "second" is invalid: spec.clusterIPs: Invalid value: ["10.96.77.7"]: '
        "failed to allocate IP 10.96.77.7: provided IP is already allocated\n"
    )


def test_a_node_port_already_taken(namespace: Namespace) -> None:
    ports = [{"port": 8080, "nodePort": 30977}]
    namespace.kubectl("apply", "-f", "-", input=service("first", type="NodePort", ports=ports))
    assert refused(namespace, service("second", type="NodePort", ports=ports)) == (
        'The Service "second" is invalid: spec.ports[0].nodePort: Invalid value: 30977: '
        "provided port is already allocated\n"
    )


def test_several_faults_are_shown_one_a_line(namespace: Namespace) -> None:
    manifest = service("many", ports=[{"port": 0}, {"name": "b", "port": 70000}])
    assert refused(namespace, manifest) == (
        'The Service "many" is invalid: \n'
        "* spec.ports[0].name: Required value\n"
        "* spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive\n"
        "* spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive\n"
        "* spec.ports[1].port: Invalid value: 70000: must be between 1 and 65535, inclusive\n"
        "* spec.ports[1].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive\n"
    )


def test_an_unknown_field(namespace: Namespace) -> None:
    assert refused(namespace, service("odd", clusterIp="10.96.77.8")) == (
        'Error from server (BadRequest): error when creating "STDIN": Service in version "v1" cannot be '
        'handled as a Service: strict decoding error: unknown field "spec.clusterIp"\n'
    )
