"""Requests that are passed on to a node: upgraded streams byte for byte, logs as they come."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from .api_server import Running

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Node:
    """Stands where a kubelet stands: records request heads, and lets a test answer."""

    port: int = 0
    heads: list[str] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    answer: bytes = b""
    echo: bool = False
    connections: set[asyncio.Task[None]] = field(default_factory=set)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.answer)
            while self.echo and (data := await reader.read(65536)):
                self.received += data
                writer.write(data)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.gone.set()
            writer.close()


@pytest_asyncio.fixture(loop_scope="module")
async def node(server: Running, namespace: str) -> AsyncIterator[Node]:
    """A node, and a Pod ``p`` with containers ``a`` and ``b``, and ``single`` with one, on it."""
    found = Node()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server.authority.issue("localhost"))
    context.load_verify_locations(str(server.authority.certificate))
    context.verify_mode = ssl.CERT_REQUIRED
    listener = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=context)
    found.port = listener.sockets[0].getsockname()[1]
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": found.port}},
    }
    await server.post("/api/v1/nodes", {"metadata": {"name": f"node-{namespace}"}, "status": status})
    for name, containers in (("p", "ab"), ("single", "a"), ("homeless", "a")):
        pod = {
            "metadata": {"name": name},
            "spec": {"containers": [{"name": each, "image": "i"} for each in containers]},
        }
        if name != "homeless":
            pod["spec"]["nodeName"] = f"node-{namespace}"
        reply = await server.post(f"/api/v1/namespaces/{namespace}/pods", pod)
        assert reply.status == 201, reply.body
    yield found
    listener.close()
    for task in found.connections:
        task.cancel()


async def connect(server: Running, user: str = "admin") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=str(server.authority.certificate))
    groups = ("system:masters",) if user == "admin" else ()
    context.load_cert_chain(*server.authority.issue(user, *groups))
    return await asyncio.open_connection("127.0.0.1", server.port, ssl=context)


def head(target: str, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


UPGRADE = ("Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


async def test_bytes_go_both_ways_untouched(server: Running, namespace: str, node: Node) -> None:
    node.answer, node.echo = SWITCHED, True
    reader, writer = await connect(server)
    query = "command=sh&command=-c&command=echo%20%22a%20b%22%26&stdin=true&stdout=true&tty=false&container=b"
    target = f"/api/v1/namespaces/{namespace}/pods/p/exec?{query}"
    # What follows the head, here in the same piece, belongs to the stream already.
    first = bytes(range(256))
    writer.write(head(target, *UPGRADE, "Authorization: Bearer should-not-be-passed-on") + first)
    assert await reader.readuntil(b"\r\n\r\n") == SWITCHED
    assert await reader.readexactly(256) == first
    for size in (1, 70_000, 3_000_000):
        data = bytes(index * 7 % 251 for index in range(1000)) * (size // 1000 + 1)
        writer.write(data)
        assert await asyncio.wait_for(reader.readexactly(len(data)), 20) == data
    (got,) = node.heads
    line, *headers = got.split("\r\n")
    assert line == (
        f"POST /exec/{namespace}/p/b?input=1&output=1&command=sh&command=-c&command=echo+%22a+b%22%26 "
        "HTTP/1.1"
    )
    assert {"Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io"} < set(headers)
    assert not any("should-not" in header for header in headers)
    writer.close()
    await asyncio.wait_for(node.gone.wait(), 5)


async def test_the_end_of_the_stream_reaches_the_client(server: Running, namespace: str, node: Node) -> None:
    node.answer = SWITCHED + b"last words"
    reader, writer = await connect(server)
    writer.write(head(f"/api/v1/namespaces/{namespace}/pods/single/attach?stdout=1", *UPGRADE))
    assert await asyncio.wait_for(reader.read(), 5) == SWITCHED + b"last words"
    assert node.heads[0].startswith(f"POST /attach/{namespace}/single/a?output=1 HTTP/1.1\r\n")
    writer.close()


async def test_a_head_in_pieces_and_a_connection_used_before(
    server: Running, namespace: str, node: Node
) -> None:
    node.answer, node.echo = SWITCHED, True
    reader, writer = await connect(server)
    writer.write(head("/version", method="GET"))
    answer = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in answer.split(b"\r\n") if b"Content-Length" in line)
    await reader.readexactly(length)
    whole = head(f"/api/v1/namespaces/{namespace}/pods/p/portforward", *UPGRADE)
    cut = len(whole) - 30
    writer.write(whole[:cut])
    await writer.drain()
    await asyncio.sleep(0)
    writer.write(whole[cut:])
    assert await reader.readuntil(b"\r\n\r\n") == SWITCHED
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"ping"
    assert node.heads[0].startswith(f"POST /portForward/{namespace}/p HTTP/1.1\r\n")
    writer.close()


async def test_a_refusal_is_passed_on(server: Running, namespace: str, node: Node) -> None:
    """kubectl tries a WebSocket first, and takes this answer for the sign to speak SPDY."""
    node.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope"
    reader, writer = await connect(server)
    websocket = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: v5.channel.k8s.io")
    target = f"/api/v1/namespaces/{namespace}/pods/p/exec?container=a&command=x&stdout=1"
    writer.write(head(target, *websocket, method="GET"))
    assert await asyncio.wait_for(reader.read(), 5) == node.answer
    assert "Sec-WebSocket-Protocol: v5.channel.k8s.io" in node.heads[0]
    writer.close()


@pytest.mark.parametrize(
    ("user", "target", "headers", "code", "message"),
    [
        ("admin", "pods/none/exec?command=x&stdout=1", UPGRADE, 404, 'pods "none" not found'),
        (
            "admin",
            "pods/p/exec?command=x&stdout=1",
            UPGRADE,
            400,
            "a container name must be specified for pod p, choose one of: [a b]",
        ),
        (
            "admin",
            "pods/p/exec?command=x&stdout=1&container=z",
            UPGRADE,
            400,
            "container z is not valid for pod p",
        ),
        (
            "admin",
            "pods/single/exec?stdout=1",
            UPGRADE,
            400,
            "you must specify at least 1 command for the container",
        ),
        (
            "admin",
            "pods/single/exec?command=x",
            UPGRADE,
            400,
            "you must specify at least one of stdin, stdout, stderr",
        ),
        ("admin", "pods/single/exec?command=x&stdout=1", (), 400, "Upgrade request required"),
        (
            "admin",
            "pods/homeless/exec?command=x&stdout=1",
            UPGRADE,
            400,
            "pod homeless does not have a host assigned",
        ),
        (
            "mallory",
            "pods/p/exec?command=x&stdout=1",
            UPGRADE,
            403,
            'pods "p" is forbidden: User "mallory" cannot create resource "pods/exec" in API group "" in the '
            'namespace "NS"',
        ),
    ],
)
async def test_streams_that_are_refused(
    server: Running,
    namespace: str,
    node: Node,
    user: str,
    target: str,
    headers: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    import msgspec

    reader, writer = await connect(server, user)
    writer.write(head(f"/api/v1/namespaces/{namespace}/{target}", *headers))
    answer = await asyncio.wait_for(reader.read(), 5)
    first, _, body = answer.partition(b"\r\n\r\n")
    assert first.startswith(f"HTTP/1.1 {code} ".encode())
    assert msgspec.json.decode(body)["message"] == message.replace("NS", namespace)
    assert node.heads == []
    writer.close()


async def test_a_node_that_does_not_answer(server: Running, namespace: str, node: Node) -> None:
    status = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}}
    await server.patch(f"/api/v1/nodes/node-{namespace}/status", status)
    reader, writer = await connect(server)
    writer.write(head(f"/api/v1/namespaces/{namespace}/pods/single/exec?command=x&stdout=1", *UPGRADE))
    answer = await asyncio.wait_for(reader.read(), 5)
    message = "error dialing backend: dial tcp 127.0.0.1:1: connect: connection refused"
    assert message.encode() in answer
    writer.close()
    reply = await server.get(f"/api/v1/namespaces/{namespace}/pods/single/log")
    assert (reply.status, reply.message) == (500, message)


def plain(status: str, body: bytes) -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def test_logs(server: Running, namespace: str, node: Node) -> None:
    node.answer = plain("200 OK", b"one\ntwo\n")
    path = f"/api/v1/namespaces/{namespace}/pods/p/log"
    reply = await server.get(f"{path}?container=b&tailLines=2&timestamps=true&previous=true")
    assert (reply.status, reply.body) == (200, b"one\ntwo\n")
    assert reply.headers["Content-Type"] == "text/plain"
    line = node.heads[0].split("\r\n")[0]
    assert line == f"GET /containerLogs/{namespace}/p/b?previous=true&timestamps=true&tailLines=2 HTTP/1.1"
    waiting = b'container "a" in pod "p" is waiting to start: ContainerCreating'
    node.answer = plain("400 Bad Request", waiting)
    reply = await server.get(f"{path}?container=a")
    assert (reply.status, reply.json["reason"], reply.message) == (400, "BadRequest", waiting.decode())
    assert (
        await server.get(path)
    ).message == "a container name must be specified for pod p, choose one of: [a b]"
    assert (await server.get(f"/api/v1/namespaces/{namespace}/pods/homeless/log")).body == b""
    wrong = await server.get(f"{path}?container=a&limitBytes=0")
    assert (wrong.status, wrong.json["reason"]) == (422, "Invalid")


async def test_following_a_log_ends_with_the_client(server: Running, namespace: str, node: Node) -> None:
    node.answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n"
    )
    node.echo = True
    reader, writer = await connect(server)
    writer.write(head(f"/api/v1/namespaces/{namespace}/pods/single/log?follow=true", method="GET"))
    await asyncio.wait_for(reader.readuntil(b"one\n"), 5)
    assert not node.gone.is_set()
    writer.close()
    await asyncio.wait_for(node.gone.wait(), 5)


async def test_after_a_refusal_nothing_more_is_asked(server: Running, namespace: str, node: Node) -> None:
    """It would be asked with the API server's key: CVE-2018-1002105."""
    node.answer, node.echo = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", True
    reader, writer = await connect(server)
    writer.write(head(f"/api/v1/namespaces/{namespace}/pods/p/portforward", *UPGRADE) + b"GET /pods HTTP/1.1")
    assert await reader.readuntil(b"\r\n\r\n") == node.answer
    writer.write(b"\r\n\r\nGET /pods HTTP/1.1\r\n\r\n")
    writer.close()
    await asyncio.wait_for(node.gone.wait(), 5)
    assert node.received == b""


async def test_a_node_sends_nobody_elsewhere(server: Running, namespace: str, node: Node) -> None:
    """The API server would go there with its key, or to where only it can go."""
    elsewhere = f"https://127.0.0.1:{node.port}/elsewhere".encode()
    node.answer = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + elsewhere + b"\r\n\r\n"
    path = f"/api/v1/nodes/node-{namespace}/proxy"
    async with server.session().get(f"{path}/pods", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, f"{path}/elsewhere")
    reply = await server.get(f"/api/v1/namespaces/{namespace}/pods/single/log")
    assert reply.message.startswith("the server responded with the status code 302")
    assert [line.split(" ")[1] for line in node.heads] == ["/pods", f"/containerLogs/{namespace}/single/a"]


async def test_a_nodes_own_paths(server: Running, namespace: str, node: Node) -> None:
    node.answer = plain("200 OK", b"ok")
    reply = await server.get(f"/api/v1/nodes/node-{namespace}/proxy/healthz?a=b")
    assert (reply.status, reply.body) == (200, b"ok")
    assert node.heads[0].startswith("GET /healthz?a=b HTTP/1.1\r\n")
