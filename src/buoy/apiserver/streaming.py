"""Streams between a client and a node: exec, attach, port-forward, logs.

An upgraded connection (SPDY, WebSocket) is not spoken here: the head of the request is rewritten for the
kubelet, and from then on bytes go both ways untouched.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import aiohttp
from multidict import CIMultiDict

from buoy.api.formats import host_port
from buoy.api.meta import Object
from buoy.api.node import addresses
from buoy.api.resource import NODES, PODS
from buoy.api.status import StatusError, bad_request, not_found
from buoy.client.splice import Splice

from . import Options, requestinfo
from .attributes import Attributes
from .encoding import to_json
from .registry import Registry
from .requestinfo import RequestInfo

if TYPE_CHECKING:
    from .server import ApiServer

log = logging.getLogger(__name__)

STREAMED_PATH = re.compile(
    rb"(?:GET|POST) /api/v1/namespaces/[^/ ]+/pods/[^/ ]+/(?:exec|attach|portforward)/?[? ]"
)
KUBELET_PORT = 10250

_LONGEST_HEAD = 128 << 10
_CONNECT_SECONDS = 10.0
_SWITCHED = b"HTTP/1.1 101"
_STATUS_END = len(_SWITCHED)
_NOT_PASSED_ON = ("authorization", "host", "sec-websocket-protocol")
_BEARER_PROTOCOL = "base64url.bearer.authorization.k8s.io."
_KUBELET_NAMES = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}


class Kubelets:
    """Where the nodes' kubelets are, and how to be let in."""

    def __init__(self, options: Options, registry: Registry) -> None:
        self._registry = registry
        self.context = ssl.create_default_context(cafile=options.kubelet_ca)
        self.context.load_cert_chain(options.kubelet_client_cert, options.kubelet_client_key)
        self._session: aiohttp.ClientSession | None = None

    async def address(self, node_name: str) -> tuple[str, int]:
        """Raises StatusError if there is no such node, or it has not said where it is."""
        node = await self._registry.find(NODES, "", node_name)
        if node is None:
            raise not_found(NODES, node_name)
        found = addresses(node, "InternalIP") or addresses(node, "ExternalIP") or addresses(node, "Hostname")
        if not found:
            raise StatusError(500, "", f"no preferred addresses found; known addresses: {found}")
        endpoints = (node.get("status") or {}).get("daemonEndpoints") or {}
        port = (endpoints.get("kubeletEndpoint") or {}).get("Port") or KUBELET_PORT
        return found[0], int(port)

    async def url(self, node_name: str, path: str, query: str = "") -> str:
        host, port = await self.address(node_name)
        return f"https://{host_port(host, port)}{path}" + (f"?{query}" if query else "")

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self.context, limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
                auto_decompress=False,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def container_of(pod: Object, wanted: str) -> str:
    """The container that a request means. Raises StatusError 400."""
    name = pod["metadata"]["name"]
    spec = pod.get("spec") or {}
    containers = [container["name"] for container in spec.get("containers") or ()]
    init = [container["name"] for container in spec.get("initContainers") or ()]
    ephemeral = [container["name"] for container in spec.get("ephemeralContainers") or ()]
    if wanted:
        if wanted not in (*containers, *init, *ephemeral):
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(containers) == 1:
        return str(containers[0])
    text = f"a container name must be specified for pod {name}"
    if containers:
        text += f", choose one of: [{' '.join(containers)}]"
        if init:
            text += f" or one of the init containers: [{' '.join(init)}]"
    raise bad_request(text)


def kubelet_target(info: RequestInfo, pod: Object) -> str:
    """The kubelet's path and query for a stream. Raises StatusError 400."""
    place = f"{quote(info.namespace)}/{quote(info.name)}"
    if info.subresource == "portforward":
        ports = [port for value in info.query.get("ports", ()) for port in value.split(",")]
        query = urlencode([("port", port) for port in ports])
        return f"/portForward/{place}" + (f"?{query}" if query else "")
    container = container_of(pod, info.value("container"))
    wanted = [(ours, "1") for theirs, ours in _KUBELET_NAMES.items() if info.flag(theirs)]
    if not any(name in ("input", "output", "error") for name, _ in wanted):
        raise bad_request("you must specify at least one of stdin, stdout, stderr")
    if info.subresource == "exec":
        commands = info.query.get("command", ())
        if not commands:
            raise bad_request("you must specify at least 1 command for the container")
        wanted += [("command", argument) for argument in commands]
    return f"/{info.subresource}/{place}/{quote(container)}?{urlencode(wanted)}"


class Streaming:
    def __init__(self, server: ApiServer) -> None:
        self._server = server

    def begin(self, transport: asyncio.Transport, data: bytes) -> Stream:
        """Take over a connection on which a streaming request begins with *data*."""
        stream = Stream(self._server, transport)
        stream.data_received(data)
        return stream


class Stream(Splice):
    """A connection that asks for a stream, as its protocol: until the kubelet answers, and from then on."""

    def __init__(self, server: ApiServer, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._server = server
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._status_line = b""
        self._upgraded: bool | None = None

    def data_received(self, data: bytes) -> None:
        if self._upgraded is not None:
            # After a refusal, it would be another request: with the API server's key, and asked of nobody.
            if self._upgraded:
                super().data_received(data)
            return
        self._buffer += data
        if self._task is None:
            if b"\r\n\r\n" in self._buffer:
                self.near.pause_reading()
                self._task = asyncio.get_running_loop().create_task(self._open())
            elif len(self._buffer) > _LONGEST_HEAD:
                self.near.abort()

    def far_said(self, data: bytes) -> None:
        super().far_said(data)
        if self._upgraded is None:
            self._status_line += data[:_STATUS_END]
            if len(self._status_line) >= _STATUS_END:
                self._answered(self._status_line.startswith(_SWITCHED))

    def connection_lost(self, error: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()
        super().connection_lost(error)

    def _answered(self, upgraded: bool) -> None:
        """The kubelet has answered; only what it takes for a stream goes on to it."""
        self._upgraded = upgraded
        if upgraded and self._buffer:
            super().data_received(self._buffer)
        self._buffer = b""
        if not self.near.is_closing():
            self.near.resume_reading()

    async def _open(self) -> None:
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        request_line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = request_line.split(" ", 2)
        headers: CIMultiDict[str] = CIMultiDict()
        for line in lines:
            name, _, value = line.partition(":")
            headers.add(name.strip(), value.strip())
        with self._server.metrics.request(method) as measured:
            try:
                info = requestinfo.parse(method, target)
                measured.began(info)
                await self._connect(info, headers)
                measured.code = 101
            except StatusError as error:
                measured.code = error.code
                self._refuse(error)
            except Exception as error:
                log.exception("%s %s", method, target)
                self._refuse(StatusError(500, "InternalError", f"Internal error occurred: {error!r}"))

    async def _connect(self, info: RequestInfo, headers: CIMultiDict[str]) -> None:
        server = self._server
        user = await server.identify(self.near.get_extra_info("peercert"), headers)
        # A WebSocket opens with GET, but running a command is no reading.
        info.verb = "create"
        await server.authorizer.require(user, Attributes.of(info))
        if not headers.get("Upgrade"):
            raise bad_request("Upgrade request required")
        pod = await server.registry.find(PODS, info.namespace, info.name)
        if pod is None:
            raise not_found(PODS, info.name)
        path = kubelet_target(info, pod)
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:
            raise bad_request(f"pod {info.name} does not have a host assigned")
        host, port = await server.kubelets.address(node)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self.connect(host, port, ssl=server.kubelets.context, server_hostname=host)
        except (OSError, TimeoutError) as error:
            raise dial_error(host, port, error) from None
        super().data_received(_head(info.method, path, host, port, headers))

    def _refuse(self, error: StatusError) -> None:
        body = to_json(error.to_object())
        self.near.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (error.code, (error.reason or "Error").encode(), len(body), body)
        )
        self.near.close()


def _head(method: str, path: str, host: str, port: int, headers: CIMultiDict[str]) -> bytes:
    """The request's head for the kubelet: without the client's credentials, otherwise as it was."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host_port(host, port)}"]
    for name, value in headers.items():
        lower = name.lower()
        if lower in _NOT_PASSED_ON or lower.startswith("impersonate-"):
            continue
        lines.append(f"{name}: {value}")
    protocols = [
        protocol
        for value in headers.getall("Sec-WebSocket-Protocol", ())
        for protocol in map(str.strip, value.split(","))
        if not protocol.startswith(_BEARER_PROTOCOL)
    ]
    if protocols:
        lines.append(f"Sec-WebSocket-Protocol: {', '.join(protocols)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def dial_error(host: str, port: int, error: BaseException) -> StatusError:
    """The kubelet does not answer."""
    text = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        text = "i/o timeout"
    elif isinstance(error, ConnectionRefusedError):
        text = "connect: connection refused"
    return StatusError(500, "", f"error dialing backend: dial tcp {host}:{port}: {text}")


def proxied_error(code: int, text: str, resource: str, name: str) -> StatusError:
    """What a kubelet's refusal becomes for the client."""
    if code == 400:
        return bad_request(text)
    if code == 500:
        return StatusError(500, "InternalError", f"Internal error occurred: {text}")
    if code == 404:
        return StatusError(
            404, "NotFound", f"the server could not find the requested resource ( {resource} {name})"
        )
    details: dict[str, Any] = {"name": name, "kind": resource, "causes": [{"message": text}]}
    return StatusError(code, "", f"the server responded with the status code {code}: {text}", details)
