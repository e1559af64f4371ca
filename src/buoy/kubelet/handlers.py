"""Asking a container something: the actions that probes and lifecycle hooks are made of."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from typing import Any, NamedTuple

import aiohttp
import grpc.aio
import yarl

from .. import KUBERNETES_VERSION
from ..api.formats import host_port
from ..api.meta import Object
from . import pod as pods
from . import protobuf
from .cri import Runtime, RuntimeFailure

_OUTPUT_LIMIT = 10 * 1024
_REDIRECTS = 10
_MINOR = ".".join(KUBERNETES_VERSION.lstrip("v").split(".")[:2])

_health = protobuf.declare(
    "grpc.health.v1",
    {
        "HealthCheckRequest": [("service", 1, "string")],
        "HealthCheckResponse": [("status", 1, "int32")],
    },
)
_SERVING = 1
_HEALTH_STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class Answer(NamedTuple):
    """*ok* None: the question itself could not be asked, so nothing is known. *output* goes into an event."""

    ok: bool | None
    output: str = ""


class Handlers:
    """Runs actions against containers, from the node's network."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self, action: Object, container: Object, container_id: str, pod_ip: str, timeout: float
    ) -> Answer:
        """Run an ``exec``, ``httpGet``, ``tcpSocket`` or ``grpc`` action; *timeout* in seconds."""
        try:
            if "exec" in action:
                return await self._execute(action["exec"].get("command") or [], container_id, timeout)
            if "httpGet" in action:
                return await self._http_get(action["httpGet"], container, pod_ip, timeout)
            if "tcpSocket" in action:
                target = action["tcpSocket"]
                port = pods.named_port(container, target["port"])
                return await _connect(target.get("host") or pod_ip, port, timeout)
            if "grpc" in action:
                target = action["grpc"]
                return await _check_health(pod_ip, int(target["port"]), target.get("service") or "", timeout)
        except ValueError as error:
            return Answer(None, str(error))
        return Answer(None, "missing probe handler")

    async def _execute(self, command: list[str], container_id: str, timeout: float) -> Answer:
        try:
            done = await self._runtime.exec_sync(container_id, command, timeout)
        except RuntimeFailure as error:
            if error.code == "DEADLINE_EXCEEDED":
                return Answer(False, f'command timed out: "{" ".join(command)}" timed out after {timeout:g}s')
            return Answer(None, str(error))
        output = (done.stdout + done.stderr)[:_OUTPUT_LIMIT].decode(errors="replace")
        return Answer(done.exit_code == 0, output)

    async def _http_get(self, target: Object, container: Object, pod_ip: str, timeout: float) -> Answer:
        scheme = (target.get("scheme") or "HTTP").lower()
        host = target.get("host") or pod_ip
        port = pods.named_port(container, target["port"])
        path = target.get("path") or "/"
        url = f"{scheme}://{host_port(host, port)}{path if path.startswith('/') else '/' + path}"
        headers = {"User-Agent": f"kube-probe/{_MINOR}", "Accept": "*/*", "Connection": "close"}
        for header in target.get("httpHeaders") or ():
            if header.get("value") == "" and header["name"].lower() in ("accept", "user-agent"):
                headers = {k: v for k, v in headers.items() if k.lower() != header["name"].lower()}
                continue
            headers = {k: v for k, v in headers.items() if k.lower() != header["name"].lower()}
            headers[header["name"]] = header.get("value") or ""
        try:
            async with asyncio.timeout(timeout):
                return await self._request(url, headers)
        except TimeoutError:
            return Answer(
                False,
                f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)',
            )
        except (aiohttp.ClientError, OSError) as error:
            return Answer(False, f'Get "{url}": {_network_text(error, host, port)}')

    async def _request(self, url: str, headers: dict[str, str]) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=_unverified(), force_close=True, limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        origin = yarl.URL(url)
        current = yarl.URL(url, encoded=True)
        for _ in range(_REDIRECTS):
            async with self._session.get(current, headers=headers, allow_redirects=False) as response:
                if response.status in (301, 302, 303, 307, 308) and "Location" in response.headers:
                    following = current.join(yarl.URL(response.headers["Location"]))
                    if following.host != origin.host:
                        return Answer(True, "Probe terminated redirects")
                    current = following
                    continue
                body = await response.content.read(_OUTPUT_LIMIT)
                if 200 <= response.status < 400:
                    return Answer(True, body.decode(errors="replace"))
                return Answer(False, f"HTTP probe failed with statuscode: {response.status}")
        return Answer(False, f'Get "{url}": stopped after {_REDIRECTS} redirects')


def _unverified() -> ssl.SSLContext:
    """Probes do not check certificates: a Pod has none for its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _network_text(error: Exception, host: str, port: int) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno:
        words = os.strerror(cause.errno).lower() if cause.errno > 0 else str(cause)
        if cause.errno == errno.ECONNRESET:
            return "read: connection reset by peer"
        return f"dial tcp {host_port(host, port)}: connect: {words}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    return str(error) or type(error).__name__


async def _connect(host: str, port: int, timeout: float) -> Answer:
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Answer(False, f"dial tcp {host_port(host, port)}: i/o timeout")
    except OSError as error:
        return Answer(False, _network_text(error, host, port))
    writer.close()
    return Answer(True)


async def _check_health(host: str, port: int, service: str, timeout: float) -> Answer:
    address = host_port(host, port)
    options = (("grpc.primary_user_agent", f"kube-probe/{_MINOR}"), ("grpc.enable_http_proxy", 0))
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        check: Any = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_health["HealthCheckResponse"].FromString,
        )
        try:
            answer = await check(_health["HealthCheckRequest"](service=service), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            if code == "UNIMPLEMENTED":
                return Answer(
                    False,
                    "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)",
                )
            if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                return Answer(
                    False,
                    f'timeout: failed to connect service "{address}" within {timeout:g}s: {error.details()}',
                )
            return Answer(
                False, f"error: health rpc failed: rpc error: code = {code} desc = {error.details()}"
            )
    if answer.status == _SERVING:
        return Answer(True)
    state = _HEALTH_STATES.get(answer.status, str(answer.status))
    return Answer(False, f'service unhealthy (responded with "{state}")')
