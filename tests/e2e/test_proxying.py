"""Servers in the cluster as seen through the API server: by ``kubectl get --raw`` and ``kubectl proxy``."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from local_cluster import KUBECTL, LocalCluster, Namespace, until
from manifests import IMAGE, PROGRAMS, pod, pod_spec, service

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def mirror(cluster: LocalCluster) -> Iterator[Namespace]:
    """A Pod and a Service ``mirror``, with a port named ``http``; ``nobody`` is a Service without Pods."""
    with cluster.namespace() as namespace:
        probe = {"tcpSocket": {"port": 8000}, "periodSeconds": 1}
        container = {
            "name": "mirror",
            "image": IMAGE,
            "command": ["python", "-c", (PROGRAMS / "mirror.py").read_text(), "8000"],
            "ports": [{"name": "web", "containerPort": 8000}],
            "readinessProbe": probe,
        }
        named = service("mirror")
        named["spec"]["ports"] = [{"name": "http", "port": 80, "targetPort": "web"}]
        namespace.apply(pod("mirror", pod_spec(container)), named, service("nobody"))
        namespace.wait("condition=Ready", "pod/mirror")
        namespace.until_endpoints("mirror", 1)
        until(lambda: "nobody" in namespace.kubectl("get", "endpoints", "-o", "name").stdout)
        until(lambda: asked(namespace, "services/mirror:http/proxy/"))
        yield namespace


def path_of(namespace: Namespace, path: str) -> str:
    return f"/api/v1/namespaces/{namespace.name}/{path}"


def asked(namespace: Namespace, path: str) -> Any:
    """What the mirror saw; nothing if it did not."""
    result = namespace.kubectl("get", "--raw", path_of(namespace, path), check=False)
    return json.loads(result.stdout) if result.returncode == 0 else {}


@pytest.mark.parametrize(
    "name",
    [
        "services/mirror:80",
        "services/mirror:http",
        "services/http:mirror:http",
        "pods/mirror",
        "pods/mirror:8000",
        "pods/http:mirror:8000",
    ],
)
def test_every_name(mirror: Namespace, name: str) -> None:
    seen = asked(mirror, f"{name}/proxy/a/b?c=d")
    assert (seen["method"], seen["path"]) == ("GET", "/a/b?c=d")
    assert seen["headers"]["x-forwarded-uri"] == path_of(mirror, f"{name}/proxy/a/b")
    assert "authorization" not in seen["headers"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("services/nobody:8080/proxy/", '(ServiceUnavailable): no endpoints available for service "nobody"'),
        ("services/mirror:81/proxy/", '(ServiceUnavailable): no service port 81 found for service "mirror"'),
        ("services/none/proxy/", '(NotFound): endpoints "none" not found'),
        ("pods/none/proxy/", '(NotFound): pods "none" not found'),
        ("pods/mirror:9/proxy/", "connect: connection refused"),
        ("pods/https:mirror:8000/proxy/", "(ServiceUnavailable): error trying to reach service: "),
    ],
)
def test_what_is_not_there(mirror: Namespace, path: str, message: str) -> None:
    refused = mirror.kubectl("get", "--raw", path_of(mirror, path), check=False)
    assert refused.returncode == 1
    assert message in refused.stderr


def test_who_may(mirror: Namespace) -> None:
    """Whoever may see a Service may not speak to it."""
    someone = ("--as", "alice")
    path = path_of(mirror, "services/mirror:80/proxy/")
    refused = mirror.kubectl(*someone, "get", "--raw", path, check=False)
    assert 'User "alice" cannot get resource "services/proxy" in API group ""' in refused.stderr
    mirror.kubectl("create", "rolebinding", "view", "--clusterrole=view", "--user=alice")
    until(lambda: mirror.kubectl(*someone, "get", "service", "mirror", check=False).returncode == 0)
    assert mirror.kubectl(*someone, "get", "--raw", path, check=False).returncode == 1
    mirror.kubectl("create", "rolebinding", "edit", "--clusterrole=edit", "--user=alice")
    until(lambda: mirror.kubectl(*someone, "get", "--raw", path, check=False).returncode == 0)


@pytest.fixture(scope="module")
def door(mirror: Namespace) -> Iterator[int]:
    """The port of a ``kubectl proxy``."""
    command = [KUBECTL, "proxy", "--port=0"]
    process = subprocess.Popen(command, env=mirror.cluster.environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        announced = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert announced
        yield int(announced[1])
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_through_kubectl_proxy(mirror: Namespace, door: int, method: str) -> None:
    url = f"http://127.0.0.1:{door}{path_of(mirror, 'services/mirror:http/proxy')}"
    request = urllib.request.Request(f"{url}/x?y=z", data=b"content", method=method, headers={"X-Own": "1"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        seen = json.load(answer)
    assert (seen["method"], seen["path"], seen["body"]) == (method, "/x?y=z", "content")
    assert seen["headers"]["x-own"] == "1"


@pytest.mark.parametrize("name", ["services/mirror:http", "pods/mirror:8000"])
def test_a_stream_through_kubectl_proxy(mirror: Namespace, door: int, name: str) -> None:
    head = (
        f"GET {path_of(mirror, name)}/proxy/stream HTTP/1.1\r\nHost: localhost\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    with (
        socket.create_connection(("127.0.0.1", door), timeout=20) as connection,
        connection.makefile("rwb") as file,
    ):
        file.write(head.encode())
        file.flush()
        assert file.readline().startswith(b"HTTP/1.1 101 ")
        while file.readline() != b"\r\n":
            pass
        for said in (b"one\n", b"two\n"):
            file.write(said)
            file.flush()
            assert file.readline() == said


def test_nodes(mirror: Namespace) -> None:
    node = mirror.get("pod", "mirror")["spec"]["nodeName"]

    def raw(path: str) -> str:
        return mirror.kubectl("get", "--raw", f"/api/v1/nodes/{path}").stdout

    assert raw(f"{node}/proxy/healthz") == "ok"
    assert f'kubelet_node_name{{node="{node}"}} 1' in raw(f"{node}/proxy/metrics")
    assert '"nodeEligible":true' in raw(f"http:{node}:10256/proxy/healthz")
    assert f"{mirror.name}_mirror_" in raw(f"{node}/proxy/logs/pods/")


def test_a_pod_on_the_nodes_network(mirror: Namespace) -> None:
    node = mirror.get("pod", "mirror")["spec"]["nodeName"]
    container = {"name": "c", "image": IMAGE, "command": ["python", "-m", "http.server", "8123"]}
    mirror.apply(pod("plain", pod_spec(container, hostNetwork=True, nodeName=node)))
    path = path_of(mirror, "pods/plain:8123/proxy/")
    until(lambda: "Directory listing" in mirror.kubectl("get", "--raw", path, check=False).stdout)
