"""The subresource ``proxy``: who is asked, with what, and what comes back; nodes stand for all servers."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from buoy.api.meta import Object
from buoy.apiserver import requestinfo
from buoy.apiserver.proxying import candidates, is_proxyable, path_beyond, pod_port, prefix_of, split
from eventual import eventually

from .api_server import Running
from .test_streams import SWITCHED, Node, connect, head, node

__all__ = ["node"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Who is asked


@pytest.mark.parametrize(
    ("id", "wanted"),
    [
        ("web", ("", "web", "")),
        ("web:80", ("", "web", "80")),
        ("web:http", ("", "web", "http")),
        ("https:web:", ("https", "web", "")),
        ("http:web:80", ("http", "web", "80")),
        (":web:80", ("", "web", "80")),
        ("ftp:web:80", None),
        ("http::80", None),
        ("", None),
        (":80", None),
        ("a:b:c:d", None),
    ],
)
async def test_names(id: str, wanted: tuple[str, str, str] | None) -> None:
    assert split(id) == wanted


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("10.244.0.2", True),
        ("192.168.1.80", True),
        ("8.8.8.8", True),
        ("fd00::1", True),
        ("::ffff:10.0.0.1", True),
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("", False),
        ("localhost", False),
    ],
)
async def test_addresses(address: str, good: bool) -> None:
    assert is_proxyable(address) == good


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("services/web/proxy", ""),
        ("services/web/proxy/", "/"),
        ("services/web/proxy/a/b", "/a/b"),
        ("services/web/proxy/a/b/?c=/d", "/a/b/"),
        ("services/web/proxy/a//b", "/a/b"),
        ("services/web/proxy/a/../../../b", "/b"),
        ("services/web/proxy/%2e%2e/b", "/b"),
        ("services/web/proxy/a%20b%3Fc%23d%0D%0Ae", "/a%20b%3Fc%23d%0D%0Ae"),
        ("services/web/proxy/%C3%BC", "/%C3%BC"),
        ("services/https%3Aweb%3A443/proxy/a", "/a"),
    ],
)
async def test_paths(target: str, path: str) -> None:
    assert path_beyond(requestinfo.parse("GET", f"/api/v1/namespaces/n/{target}")) == path


async def test_prefixes() -> None:
    info = requestinfo.parse("GET", "/api/v1/namespaces/n/services/https:web:443/proxy/a")
    assert prefix_of(info) == "/api/v1/namespaces/n/services/https:web:443/proxy"
    assert prefix_of(requestinfo.parse("GET", "/api/v1/nodes/n/proxy")) == "/api/v1/nodes/n/proxy"


async def test_ports_and_addresses() -> None:
    ports = [{"ports": []}, {"ports": [{"containerPort": 8080}, {"containerPort": 9090}]}]
    assert pod_port({"spec": {"containers": ports}}) == "8080"
    assert pod_port({"spec": {"containers": [{}]}}) == ""
    one: Object = {"addresses": [{"ip": "1"}, {"ip": "2"}], "ports": [{"name": "a", "port": 1}, {"port": 2}]}
    two: Object = {
        "addresses": [{"ip": "3"}],
        "notReadyAddresses": [{"ip": "4"}],
        "ports": [{"name": "a", "port": 3}],
    }
    found = {(address["ip"], port) for address, port in candidates({"subsets": [one, two]}, "a")}
    assert found == {("1", 1), ("2", 1), ("3", 3)}
    assert {port for _, port in candidates({"subsets": [one, two]}, "")} == {2}
    assert not list(candidates({}, "a"))


@pytest.mark.parametrize(
    ("path", "code", "reason", "message"),
    [
        ("services/none/proxy/", 404, "NotFound", 'endpoints "none" not found'),
        ("services/none:80/proxy/", 404, "NotFound", 'services "none" not found'),
        ("services/ftp:web:80/proxy/", 400, "BadRequest", 'invalid service request "ftp:web:80"'),
        ("services/web:81/proxy/", 503, "ServiceUnavailable", 'no service port 81 found for service "web"'),
        ("services/web:80/proxy/", 503, "ServiceUnavailable", 'no endpoints available for service "web"'),
        (
            "services/web:nothing/proxy/",
            503,
            "ServiceUnavailable",
            'no endpoints available for service "web"',
        ),
        ("pods/none/proxy/", 404, "NotFound", 'pods "none" not found'),
        ("pods/a:b:c:d/proxy/", 400, "BadRequest", 'invalid pod request "a:b:c:d"'),
        ("pods/homeless/proxy/", 400, "BadRequest", "address not allowed"),
        ("pods/here/proxy/", 400, "BadRequest", "address not allowed"),
    ],
)
async def test_who_cannot_be_asked(
    server: Running, namespace: str, node: Node, path: str, code: int, reason: str, message: str
) -> None:
    """Endpoints of somebody's own making lead nowhere: not to this machine, not to others' addresses."""
    place = f"/api/v1/namespaces/{namespace}"
    await server.post(
        f"{place}/services", {"metadata": {"name": "web"}, "spec": {"ports": [{"name": "x", "port": 80}]}}
    )
    addresses: list[Object] = [
        {"ip": "10.255.0.1"},
        {"ip": "10.255.0.1", "targetRef": {"kind": "Pod", "namespace": namespace, "name": "single"}},
        {"ip": "10.255.0.1", "targetRef": {"kind": "Pod", "namespace": "kube-system", "name": "single"}},
    ]
    subset = {"addresses": addresses, "ports": [{"name": "x", "port": 80}]}
    await server.post(f"{place}/endpoints", {"metadata": {"name": "web"}, "subsets": [subset]})
    await server.post(
        f"{place}/pods", {"metadata": {"name": "here"}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
    )
    status = {"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}
    await server.patch(f"{place}/pods/here/status", status)
    reply = await server.get(f"{place}/{path}")
    assert (reply.status, reply.json["reason"], reply.message) == (code, reason, message)


# What it is asked


def answer_of(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def headers_of(got: str) -> dict[str, str]:
    return dict(line.lower().split(": ", 1) for line in got.split("\r\n")[1:] if line)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
async def test_every_method(server: Running, namespace: str, node: Node, method: str) -> None:
    body = b"" if method == "HEAD" else b"made"
    node.answer = answer_of(body, "X-Own: yes", "Set-Cookie: a=b", "Set-Cookie: c=d", status="299 Odd")
    path = f"/api/v1/nodes/node-{namespace}/proxy/some/where/?a=%26&b=c+d&a=e&"
    reply = await server.request(method, path)
    assert (reply.status, reply.body, reply.headers["X-Own"]) == (299, body, "yes")
    assert reply.headers.getall("Set-Cookie") == ["a=b", "c=d"]
    (got,) = node.heads
    assert got.split("\r\n")[0] == f"{method} /some/where/?a=%26&b=c+d&a=e& HTTP/1.1"
    # Nothing is kept for the next, who may be another.
    await server.request(method, path)
    assert "cookie" not in headers_of(node.heads[1])


async def test_headers(server: Running, namespace: str, node: Node) -> None:
    node.answer = answer_of(
        b"x",
        "Connection: close, X-Mine",
        "X-Mine: 1",
        "Access-Control-Allow-Origin: *",
        "Keep-Alive: 1",
        "ETag: e",
    )
    path = f"/api/v1/nodes/node-{namespace}/proxy/a"
    reader, writer = await connect(server)
    sent = (
        "Authorization: Basic c2VjcmV0",
        "Impersonate-User: alice",
        "Impersonate-Group: system:masters",
        "Cookie: a=b",
        "Connection: close, X-Hop",
        "X-Hop: 1",
        "TE: trailers",
        "X-Forwarded-For: 1.2.3.4",
        "Accept-Encoding: br",
        "If-None-Match: e",
    )
    writer.write(head(path, *sent, method="GET"))
    reply = (await asyncio.wait_for(reader.read(), 5)).decode().lower()
    writer.close()
    assert reply.startswith("http/1.1 200 ok\r\n")
    assert "etag: e" in reply
    assert not [each for each in ("x-mine", "keep-alive", "access-control") if each in reply]
    (got,) = node.heads
    assert headers_of(got) == {
        "host": "localhost",
        "cookie": "a=b",
        "accept-encoding": "br",
        "if-none-match": "e",
        "x-forwarded-for": "1.2.3.4, 127.0.0.1",
        "x-forwarded-uri": path,
    }


async def test_a_path_without_an_end(server: Running, namespace: str, node: Node) -> None:
    """A page's relative links would lead beside it."""
    path = f"/api/v1/nodes/node-{namespace}/proxy"
    async with server.session().get(f"{path}?a=b", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (301, f"{path}/?a=b")
    assert node.heads == []
    node.answer = answer_of(b"")
    assert (await server.post(path, b"")).status == 200
    assert node.heads[0].startswith("POST / HTTP/1.1\r\n")


async def test_a_body_goes_as_it_comes(server: Running, namespace: str, node: Node) -> None:
    """Both ways at once: the server hears the beginning before the client has said the end."""
    node.answer, node.echo = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", True
    reader, writer = await connect(server)
    lines = ("Content-Length: 6", "Expect: 100-continue")
    writer.write(head(f"/api/v1/nodes/node-{namespace}/proxy/a", *lines))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(3) == b"abc"
    writer.write(b"def")
    assert await reader.readexactly(3) == b"def"
    writer.close()
    assert headers_of(node.heads[0])["content-length"] == "6"


async def test_a_client_that_goes_is_not_waited_for(server: Running, namespace: str, node: Node) -> None:
    node.echo = True  # it says nothing by itself
    _, writer = await connect(server)
    writer.write(head(f"/api/v1/nodes/node-{namespace}/proxy/a", method="GET"))
    await eventually(lambda: node.heads)
    writer.close()
    await asyncio.wait_for(node.gone.wait(), 5)


async def test_a_server_that_hangs_up(server: Running, namespace: str, node: Node) -> None:
    node.answer = b""
    reply = await server.post(f"/api/v1/nodes/node-{namespace}/proxy/a", b"")
    assert (reply.status, reply.message) == (503, "error trying to reach service: EOF")
    status = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}}
    await server.patch(f"/api/v1/nodes/node-{namespace}/status", status)
    reply = await server.get(f"/api/v1/nodes/node-{namespace}/proxy/a")
    why = "dial tcp 127.0.0.1:1: connect: connection refused"
    assert (reply.status, reply.message) == (503, f"error trying to reach service: {why}")


@pytest.mark.parametrize("encoding", ["", "gzip", "br"])
async def test_a_page_leads_through_the_proxy(
    server: Running, namespace: str, node: Node, encoding: str
) -> None:
    page = b'<a href="/x">\xff</a>'
    body = gzip.compress(page) if encoding == "gzip" else page
    lines = [f"Content-Encoding: {encoding}"] if encoding else []
    node.answer = answer_of(body, "Content-Type: text/html; charset=latin-1", *lines)
    path = f"/api/v1/nodes/node-{namespace}/proxy"
    reader, writer = await connect(server)
    writer.write(head(f"{path}/", "Connection: close", method="GET"))
    _, _, got = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    changed = b'<a href="%b/x">\xff</a>' % path.encode()
    assert got == (body if encoding == "br" else changed)


# Streams


async def heard(server: Running) -> None:
    """What was written until now has come to the server, by itself: one loop does both."""
    await server.get("/version")


WEBSOCKET = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: a")


@pytest.mark.parametrize("cut", [0, 40, 200])
async def test_a_websocket(server: Running, namespace: str, node: Node, cut: int) -> None:
    node.answer, node.echo = SWITCHED, True
    reader, writer = await connect(server)
    path = f"/api/v1/nodes/node-{namespace}/proxy/a%20b?c=d"
    protocols = "Sec-WebSocket-Protocol: mine, base64url.bearer.authorization.k8s.io.c2VjcmV0"
    whole = head(path, *WEBSOCKET, protocols, "Authorization: Bearer secret", method="GET")
    if cut:
        writer.write(whole[: len(whole) - cut])
        await heard(server)
    writer.write(whole[len(whole) - cut if cut else 0 :])
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == SWITCHED
    writer.write(b"POST /api/v1/namespaces/n/pods/p/exec? is what a stream may say")
    assert await reader.readexactly(63) == b"POST /api/v1/namespaces/n/pods/p/exec? is what a stream may say"
    writer.close()
    (got,) = node.heads
    assert got.startswith("GET /a%20b?c=d HTTP/1.1\r\n")
    assert headers_of(got) == {
        "host": "localhost",
        "connection": "keep-alive, upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": "a",
        "sec-websocket-protocol": "mine",
        "x-forwarded-for": "127.0.0.1",
    }


@pytest.mark.parametrize(
    ("user", "path", "headers", "code"),
    [
        ("mallory", "nodes/NODE/proxy/a", WEBSOCKET, b"403"),
        ("mallory", "nodes/NODE/proxy/a", (), b"403"),
        ("admin", "nodes/none/proxy/a", WEBSOCKET, b"404"),
        ("admin", "namespaces/n/pods/none/proxy/a", WEBSOCKET, b"404"),
    ],
)
async def test_streams_that_are_refused(
    server: Running, namespace: str, node: Node, user: str, path: str, headers: tuple[str, ...], code: bytes
) -> None:
    reader, writer = await connect(server, user)
    path = path.replace("NODE", f"node-{namespace}")
    writer.write(head(f"/api/v1/{path}", *headers, method="GET"))
    assert (await asyncio.wait_for(reader.readline(), 5)).split()[1] == code
    writer.close()
    assert node.heads == []


async def test_what_is_in_a_request_is_none(server: Running, namespace: str, node: Node) -> None:
    """Who passes on requests of others in their names must not pass on one in its own with their bodies."""
    node.answer, node.echo = SWITCHED, True
    hidden = [
        head(f"/api/v1/nodes/node-{namespace}/proxy/a", *WEBSOCKET, method="GET"),
        head(
            f"/api/v1/namespaces/{namespace}/pods/p/portforward", "Connection: Upgrade", "Upgrade: SPDY/3.1"
        ),
    ]

    async def pieces(*data: bytes) -> bytes:
        reader, writer = await connect(server)
        for each in data:
            writer.write(each)
            await heard(server)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.close()
        return answer

    names = "/api/v1/namespaces?dryRun=All"
    for each in hidden:
        begun = head(
            names, "Content-Type: application/json", f"Content-Length: {len(each)}", "Connection: close"
        )
        assert (await pieces(begun, each)).startswith(b"HTTP/1.1 400 ")
        begun = b"GET /version HTTP/1.1\r\nConnection: close\r\nX-Long: "
        assert not (await pieces(begun, each)).startswith(b"HTTP/1.1 101")
    assert node.heads == []


@pytest.mark.parametrize("line", ["X: a\nHost: b", "X: a\rHost: b", "X: \0"])
async def test_lines_that_others_may_read_otherwise(
    server: Running, namespace: str, node: Node, line: str
) -> None:
    reader, writer = await connect(server)
    writer.write(head(f"/api/v1/nodes/node-{namespace}/proxy/a", *WEBSOCKET, line, method="GET"))
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert node.heads == []


async def test_discovery(server: Running) -> None:
    found: Any = (await server.get("/api/v1")).json["resources"]
    kinds = {each["name"]: each["kind"] for each in found if each["name"].endswith("/proxy")}
    assert kinds == {
        "nodes/proxy": "NodeProxyOptions",
        "pods/proxy": "PodProxyOptions",
        "services/proxy": "ServiceProxyOptions",
    }
