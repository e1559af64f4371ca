import pytest

from buoy.apiserver.requestinfo import parse


@pytest.mark.parametrize(
    ("method", "target", "verb", "group", "namespace", "resource", "name", "subresource"),
    [
        ("GET", "/api/v1/pods", "list", "", "", "pods", "", ""),
        ("GET", "/api/v1/pods?watch=1", "watch", "", "", "pods", "", ""),
        ("GET", "/api/v1/pods?watch=false", "list", "", "", "pods", "", ""),
        ("GET", "/api/v1/namespaces/a/pods", "list", "", "a", "pods", "", ""),
        ("GET", "/api/v1/namespaces/a/pods/b", "get", "", "a", "pods", "b", ""),
        ("GET", "/api/v1/namespaces/a/pods/b/log?follow=true", "get", "", "a", "pods", "b", "log"),
        ("POST", "/api/v1/namespaces/a/pods", "create", "", "a", "pods", "", ""),
        ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection", "", "a", "pods", "", ""),
        ("DELETE", "/api/v1/namespaces/a/pods/b", "delete", "", "a", "pods", "b", ""),
        ("GET", "/api/v1/namespaces", "list", "", "", "namespaces", "", ""),
        ("GET", "/api/v1/namespaces/a", "get", "", "a", "namespaces", "a", ""),
        ("PUT", "/api/v1/namespaces/a/finalize", "update", "", "a", "namespaces", "a", "finalize"),
        ("PATCH", "/api/v1/namespaces/a/status", "patch", "", "a", "namespaces", "a", "status"),
        (
            "PUT",
            "/apis/apps/v1/namespaces/a/deployments/b/scale",
            "update",
            "apps",
            "a",
            "deployments",
            "b",
            "scale",
        ),
        ("GET", "/apis/apps/v1/watch/deployments", "watch", "apps", "", "deployments", "", ""),
        ("GET", "/api/v1/namespaces/a%62/pods/c%20d", "get", "", "ab", "pods", "c d", ""),
    ],
)
def test_resources(
    method: str,
    target: str,
    verb: str,
    group: str,
    namespace: str,
    resource: str,
    name: str,
    subresource: str,
) -> None:
    info = parse(method, target)
    assert info.is_resource
    assert (info.verb, info.group, info.namespace) == (verb, group, namespace)
    assert (info.resource, info.name, info.subresource) == (resource, name, subresource)
    assert info.version == "v1"


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz/ping", "/x/y/z/a"]
)
def test_other_paths(path: str) -> None:
    info = parse("GET", path)
    assert not info.is_resource
    assert (info.verb, info.path) == ("get", path)


def test_query_keeps_order_and_repetition() -> None:
    info = parse("POST", "/api/v1/namespaces/a/pods/b/exec?command=sh&command=-c&command=a%20%26&stdin=1")
    assert info.query["command"] == ["sh", "-c", "a &"]
    assert info.flag("stdin")
    assert not info.flag("tty")


def test_rest_of_a_proxy_path() -> None:
    info = parse("GET", "/api/v1/nodes/n/proxy/stats/summary")
    assert (info.subresource, info.rest) == ("proxy", "stats/summary")
