"""The objects that whole-cluster tests create. Pods run the stand-in image, so no registry is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Object = dict[str, Any]

IMAGE = "python:3.7"
PROGRAMS = Path(__file__).parent / "e2e" / "programs"


def server_container(*, linger: float = 0.0, port: int = 80, **more: Any) -> Object:
    """An HTTP server that answers with its Pod's name, and serves *linger* seconds after SIGTERM."""
    return {
        "name": "server",
        "image": IMAGE,
        "command": ["python", "-u", "-c", (PROGRAMS / "server.py").read_text(), str(port), str(linger)],
        "ports": [{"name": "http", "containerPort": port}],
        **more,
    }


def pod_spec(*containers: Object, grace: int = 1, **more: Any) -> Object:
    return {"terminationGracePeriodSeconds": grace, "containers": list(containers), **more}


def pod(name: str, spec: Object, **metadata: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}, **metadata},
        "spec": spec,
    }


def shell(script: str, *, name: str = "main", **more: Any) -> Object:
    """A container that runs a shell script."""
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **more}


def deployment(name: str, replicas: int, spec: Object, **more: Any) -> Object:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **more},
    }


def service(name: str, *, port: int = 8080, target: int | str = 80, **more: Any) -> Object:
    """A ClusterIP Service for the Pods labelled ``app: NAME``."""
    spec: Object = {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}], **more}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def endpoint_slice(service: str, name: str, addresses: Sequence[str], port: int) -> Object:
    """A hand-made slice of a Service without selector; its endpoints are always ready."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": [{"name": "", "port": port, "protocol": "TCP"}],
    }
