"""Connections that become streams: exec, attach, port-forward, and WebSockets through the proxy.

An upgraded connection (SPDY, WebSocket) is not spoken here: the head of the request is rewritten for the
other side, and from then on bytes go both ways untouched.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from multidict import CIMultiDict

from buoy.api.formats import host_port
from buoy.api.meta import Object
from buoy.api.resource import PODS
from buoy.api.status import StatusError, bad_request, not_found
from buoy.client.splice import Splice

from . import requestinfo
from .attributes import Attributes
from .authentication import without_credentials
from .encoding import to_json
from .kubelets import CONNECT_SECONDS, dial_error
from .proxying import METHODS, forwarded, path_beyond, query_of
from .requestinfo import RequestInfo
from .rest import method_not_allowed

if TYPE_CHECKING:
    from .server import ApiServer

log = logging.getLogger(__name__)

STREAMED_PATH = re.compile(
    rb"(?:GET|POST) /api/v1/namespaces/[^/ ]+/pods/[^/ ]+/(?:exec|attach|portforward)/?[? ]"
)
PROXIED_PATH = re.compile(rb"[A-Z]+ /api/v1/(?:namespaces/[^/ ]+/(?:pods|services)|nodes)/[^/ ]+/proxy[/? ]")
_CONTROL = re.compile(r"[\0\r\n]")
"""What another server might take for the end of a line."""

_UPGRADE = re.compile(rb"\r\nConnection:[^\r]*\bupgrade\b", re.IGNORECASE)

_LONGEST_HEAD = 128 << 10
_SWITCHED = b"HTTP/1.1 101"
_STATUS_END = len(_SWITCHED)
_KUBELET_NAMES = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}


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
        parts = request_line.split(" ")
        if len(parts) != 3 or _CONTROL.search(request_line) or any(map(_CONTROL.search, lines)):
            self._refuse(bad_request("malformed HTTP request"))
            return
        method, target, _ = parts
        headers: CIMultiDict[str] = CIMultiDict()
        for line in lines:
            name, _, value = line.partition(":")
            headers.add(name.strip(), value.strip())
        with self._server.metrics.request(method) as measured:
            try:
                info = requestinfo.parse(method, target)
                measured.began(info)
                await self._connect(target, info, headers)
                measured.code = 101
            except StatusError as error:
                measured.code = error.code
                self._refuse(error)
            except Exception as error:
                log.exception("%s %s", method, target)
                self._refuse(StatusError(500, "InternalError", f"Internal error occurred: {error!r}"))

    async def _connect(self, target: str, info: RequestInfo, headers: CIMultiDict[str]) -> None:
        server = self._server
        user = await server.identify(self.near.get_extra_info("peercert"), headers)
        if info.subresource == "proxy":
            await server.authorizer.require(user, Attributes.of(info))
            head = await self._connect_to_server(target, info, headers)
        else:
            # A WebSocket opens with GET, but running a command is no reading.
            info.verb = "create"
            await server.authorizer.require(user, Attributes.of(info))
            head = await self._connect_to_kubelet(info, headers)
        super().data_received(head)

    async def _connect_to_kubelet(self, info: RequestInfo, headers: CIMultiDict[str]) -> bytes:
        """The head of the request for it."""
        server = self._server
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
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.connect(host=host, port=port, ssl=server.kubelets.context, server_hostname=host)
        except (OSError, TimeoutError) as error:
            raise dial_error(host, port, error) from None
        passed_on = without_credentials(headers)
        passed_on["Host"] = host_port(host, port)
        return _head(info.method, path, passed_on)

    async def _connect_to_server(self, target: str, info: RequestInfo, headers: CIMultiDict[str]) -> bytes:
        """As `_connect_to_kubelet`, to whatever ``proxy`` means."""
        if info.method not in METHODS:
            raise method_not_allowed()
        server = await self._server.proxying.target(info)
        try:
            connection = await self._server.proxying.connect_to(server)
            async with asyncio.timeout(CONNECT_SECONDS):
                context = server.context
                name = server.host if context else None
                await self.connect(sock=connection, ssl=context, server_hostname=name)
        except (OSError, TimeoutError) as error:
            raise dial_error(server.host, server.port, error) from None
        peer = self.near.get_extra_info("peername")
        passed_on = forwarded(headers, info, peer[0], upgrade=True)
        return _head(info.method, (path_beyond(info) or "/") + query_of(target), passed_on)

    def _refuse(self, error: StatusError) -> None:
        body = to_json(error.to_object())
        self.near.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (error.code, (error.reason or "Error").encode(), len(body), body)
        )
        self.near.close()


def is_upgrade(head: bytes) -> bool:
    return _UPGRADE.search(head) is not None


def _head(method: str, target: str, headers: CIMultiDict[str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
