"""Probes' questions against real servers on loopback, and timers that ask them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from aiohttp import web

from buoy.api.meta import Object
from buoy.kubelet import protobuf
from buoy.kubelet.cri import Runtime
from buoy.kubelet.handlers import Answer, Handlers
from buoy.kubelet.hooks import HookFailure, run_hook

LOCAL = "127.0.0.1"


@pytest.fixture
async def handlers() -> AsyncIterator[Handlers]:
    runtime = Runtime("/nowhere/containerd.sock")
    handlers = Handlers(runtime)
    yield handlers
    await handlers.close()
    await runtime.close()


def closed_port() -> int:
    with socket.create_server((LOCAL, 0)) as server:
        return int(server.getsockname()[1])


async def answer(request: web.Request) -> web.StreamResponse:
    match request.path:
        case "/slow":
            await asyncio.sleep(30)
        case "/here":
            raise web.HTTPFound("/ok")
        case "/away":
            raise web.HTTPFound("http://192.0.2.1/")
        case "/round":
            raise web.HTTPFound("/round")
        case "/headers":
            seen = [request.headers.get(name, "") for name in ("User-Agent", "X-Mine", "Host", "Accept")]
            return web.Response(text="|".join(seen))
        case "/ok":
            return web.Response(text="fine")
    return web.Response(status=int(request.path[1:]))


@contextlib.asynccontextmanager
async def web_server() -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, LOCAL, 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


CONTAINER: Object = {"name": "c", "ports": [{"name": "web", "containerPort": 1}]}


@pytest.mark.parametrize(
    ("path", "ok", "text"),
    [
        ("/200", True, ""),
        ("/204", True, ""),
        ("/399", True, ""),
        ("/404", False, "HTTP probe failed with statuscode: 404"),
        ("/503", False, "HTTP probe failed with statuscode: 503"),
        ("/ok", True, "fine"),
        ("/here", True, "fine"),
        ("/away", True, "Probe terminated redirects"),
        ("/round", False, "stopped after 10 redirects"),
        ("/slow", False, "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
        ("/headers", True, "kube-probe/1.36|yes|example.org|*/*"),
    ],
)
async def test_http(handlers: Handlers, path: str, ok: bool, text: str) -> None:
    headers = [{"name": "X-Mine", "value": "yes"}, {"name": "Host", "value": "example.org"}]
    async with web_server() as port:
        action = {"httpGet": {"path": path, "port": port, "httpHeaders": headers}}
        found = await handlers.ask(action, CONTAINER, "id", LOCAL, 0.3 if path == "/slow" else 5)
    assert found.ok is ok
    assert text in found.output


async def test_nobody_is_there(handlers: Handlers) -> None:
    port = closed_port()
    refused = f"dial tcp {LOCAL}:{port}: connect: connection refused"
    assert await handlers.ask({"tcpSocket": {"port": port}}, CONTAINER, "id", LOCAL, 1) == Answer(
        False, refused
    )
    found = await handlers.ask({"httpGet": {"path": "/x", "port": port}}, CONTAINER, "id", LOCAL, 1)
    assert found == Answer(False, f'Get "http://{LOCAL}:{port}/x": {refused}')
    found = await handlers.ask({"grpc": {"port": port}}, CONTAINER, "id", LOCAL, 1)
    assert found.ok is False
    assert f'failed to connect service "{LOCAL}:{port}"' in found.output


async def test_tcp(handlers: Handlers) -> None:
    with socket.create_server((LOCAL, 0)) as server:
        port = server.getsockname()[1]
        assert (await handlers.ask({"tcpSocket": {"port": port}}, CONTAINER, "id", LOCAL, 1)).ok


async def test_what_cannot_be_asked(handlers: Handlers) -> None:
    assert (await handlers.ask({"tcpSocket": {"port": "none"}}, CONTAINER, "id", LOCAL, 1)).ok is None
    assert (await handlers.ask({}, CONTAINER, "id", LOCAL, 1)).ok is None
    assert (await handlers.ask({"exec": {"command": ["true"]}}, CONTAINER, "id", LOCAL, 1)).ok is None


class Health(grpc.GenericRpcHandler):
    """Answers a health check with a state that depends on the service asked for."""

    types = protobuf.declare(
        "test.health", {"Ask": [("service", 1, "string")], "Say": [("status", 1, "int32")]}
    )

    def service(self, details: Any) -> Any:
        if details.method != "/grpc.health.v1.Health/Check":
            return None

        async def check(request: Any, context: Any) -> Any:
            return self.types["Say"](status={"": 1, "down": 2}.get(request.service, 3))

        return grpc.unary_unary_rpc_method_handler(
            check, self.types["Ask"].FromString, lambda message: message.SerializeToString()
        )


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("", Answer(True)),
        ("down", Answer(False, 'service unhealthy (responded with "NOT_SERVING")')),
        ("other", Answer(False, 'service unhealthy (responded with "SERVICE_UNKNOWN")')),
    ],
)
async def test_grpc(handlers: Handlers, service: str, expected: Answer) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Health(),))
    port = server.add_insecure_port(f"{LOCAL}:0")
    await server.start()
    try:
        action = {"grpc": {"port": port, "service": service}}
        assert await handlers.ask(action, CONTAINER, "id", LOCAL, 5) == expected
    finally:
        await server.stop(0)


async def test_a_server_without_health(handlers: Handlers) -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port(f"{LOCAL}:0")
    await server.start()
    try:
        found = await handlers.ask({"grpc": {"port": port}}, CONTAINER, "id", LOCAL, 5)
        assert "does not implement the grpc health protocol" in found.output
    finally:
        await server.stop(0)


async def test_hooks(handlers: Handlers) -> None:
    async with web_server() as port:
        await run_hook(handlers, {"httpGet": {"path": "/ok", "port": port}}, CONTAINER, "id", LOCAL)
        with pytest.raises(HookFailure, match="statuscode: 500"):
            await run_hook(handlers, {"httpGet": {"path": "/500", "port": port}}, CONTAINER, "id", LOCAL)
    await run_hook(handlers, {"sleep": {"seconds": 0}}, CONTAINER, "id", LOCAL)
    with pytest.raises(HookFailure, match="timed out"):
        await run_hook(handlers, {"sleep": {"seconds": 30}}, CONTAINER, "id", LOCAL, 0.05)
