"""The kubelet's HTTPS server: logs, health, Pods; exec, attach and port-forward passed on byte for byte.

Streams are not spoken here: the runtime's own streaming server speaks SPDY and WebSocket, and the two
connections are joined. HTTP is read by hand for that reason: a library would take the connection away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from ..api import meta
from ..api import pods as api_pods
from ..api.meta import Object
from ..client.splice import SHUTDOWN_SECONDS, Splice
from . import Options, logs, node_logs
from .cri import Runtime, RuntimeFailure
from .logs import LogOptions
from .pod import all_containers
from .runtime import Container
from .worker import PodWorker

log = logging.getLogger(__name__)

_HEAD_LIMIT = 64 * 1024
_PIECE = 64 * 1024
_IDLE = 120.0
_REASONS = {
    200: "OK",
    301: "Moved Permanently",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
}


class HTTPError(Exception):
    """The request is answered with *code* and the message as plain text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head. *raw* are its header lines as they came, without the request line."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    raw: bytes

    def flag(self, *names: str) -> bool:
        return any(self.query.get(name, [""])[0] in ("1", "true", "True") for name in names)


def parse_head(head: bytes) -> Request:
    """Read a request's head, up to and with the empty line. Raises HTTPError."""
    first, _, rest = head.partition(b"\r\n")
    try:
        method, target, version = first.decode("ascii").split(" ")
    except ValueError as error:
        raise HTTPError(400, "malformed request line") from error
    if not version.startswith("HTTP/1."):
        raise HTTPError(400, f"unsupported version {version}")
    parts = urllib.parse.urlsplit(target)
    headers: dict[str, str] = {}
    for line in rest.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.decode("latin-1").strip().lower()] = value.decode("latin-1").strip()
    return Request(
        method,
        urllib.parse.unquote(parts.path),
        urllib.parse.parse_qs(parts.query, keep_blank_values=True),
        headers,
        rest,
    )


def redirected(request: Request, url: str) -> tuple[str, int, bytes]:
    """The streaming server's host and port, and the head to send there for *request*."""
    parts = urllib.parse.urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [line for line in request.raw.split(b"\r\n") if not line.lower().startswith(b"host:")]
    head = f"{request.method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode() + b"\r\n".join(lines)
    return parts.hostname or "127.0.0.1", parts.port or 80, head


class Server:
    """Serves what API servers ask a kubelet. *pods* gives the worker of a Pod by ``namespace/name``."""

    def __init__(
        self,
        options: Options,
        runtime: Runtime,
        pods: Callable[[str], PodWorker | None],
        workers: Callable[[], Sequence[PodWorker]],
    ) -> None:
        self._options = options
        self._runtime = runtime
        self._pod = pods
        self._workers = workers
        self._started = time.time()
        self._connections: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Listen on every address of the node, for ever. OSError if the port is taken."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._options.tls_cert, self._options.tls_key)
        context.load_verify_locations(self._options.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        server = await asyncio.start_server(
            self._accept,
            list(self._options.node_ips) or None,
            self._options.port,
            ssl=context,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            limit=_HEAD_LIMIT,
        )
        async with server:
            try:
                await server.serve_forever()
            finally:
                for task in self._connections:
                    task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, EOFError, TimeoutError, ssl.SSLError) as error:
            log.debug("connection: %s", error)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether another may follow on this connection."""
        async with asyncio.timeout(_IDLE):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return False
            except asyncio.LimitOverrunError:
                await _respond(writer, 400, b"request head too large")
                return False
        try:
            request = parse_head(head)
            self._authorize(request, writer.get_extra_info("peercert"))
            if request.path.split("/")[1] in ("exec", "attach", "portForward"):
                await self._splice(request, reader, writer)
                return False
            await _discard_body(request, reader)
            return await self._answer(request, reader, writer)
        except HTTPError as error:
            await _respond(writer, error.code, str(error).encode())
        except RuntimeFailure as error:
            await _respond(writer, 404 if error.code == "NOT_FOUND" else 500, str(error).encode())
        return False

    def _authorize(self, request: Request, certificate: Mapping[str, Any] | None) -> None:
        """Only whoever the cluster's CA calls an administrator or the API server may ask."""
        subject: dict[str, list[str]] = {"commonName": [], "organizationName": []}
        for part in (certificate or {}).get("subject") or ():
            for key, value in part:
                subject.setdefault(key, []).append(value)
        names = subject["commonName"]
        if not names:
            raise HTTPError(401, "Unauthorized")
        if "system:masters" in subject["organizationName"] or names[0] == "kube-apiserver-kubelet-client":
            return
        verb = {"GET": "get", "POST": "create"}.get(request.method, request.method.lower())
        raise HTTPError(
            403, f"Forbidden (user={names[0]}, verb={verb}, resource=nodes, subresource(s)=[proxy])"
        )

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        match request.path.strip("/").split("/"):
            case ["healthz", *_]:
                await _respond(writer, 200, b"ok")
            case ["pods"]:
                items = [worker.pod for worker in self._workers()]
                listed = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
                await _respond(writer, 200, msgspec.json.encode(listed), "application/json")
            case ["metrics"]:
                await _respond(
                    writer, 200, self._metrics().encode(), "text/plain; version=0.0.4; charset=utf-8"
                )
            case ["logs", *_] if request.method == "GET":
                await self._node_logs(request.path.removeprefix("/logs"), writer)
            case ["containerLogs", namespace, pod, container]:
                await self._logs(request, self._worker(namespace, pod), container, reader, writer)
                return False
            case ["run", namespace, pod, *_, container] if request.method == "POST":
                status = self._running(self._worker(namespace, pod), container)
                command = request.query.get("cmd", [""])[0].split()
                done = await self._runtime.exec_sync(status.id, command, 0)
                await _respond(writer, 200, done.stdout + done.stderr)
            case _:
                raise HTTPError(404, "404 page not found")
        return True

    def _worker(self, namespace: str, name: str) -> PodWorker:
        worker = self._pod(f"{namespace}/{name}")
        if worker is None:
            raise HTTPError(404, f'pod "{name}" not found')
        return worker

    def _running(self, worker: PodWorker, name: str) -> Container:
        status = worker.runtime.latest(name)
        if status is None or not status.running:
            raise HTTPError(500, f'container not found ("{name}")')
        return status

    # -- streams

    async def _splice(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        host, port, head = redirected(request, await self._streaming_url(request))
        near = cast(asyncio.Transport, writer.transport)
        splice = Splice(near)
        near.pause_reading()
        reader.feed_eof()
        rest = await reader.read()
        near.set_protocol(splice)
        await splice.connect(host=host, port=port)
        splice.data_received(head + rest)
        near.resume_reading()
        await splice.ended

    async def _streaming_url(self, request: Request) -> str:
        match request.path.strip("/").split("/"):
            case ["portForward", namespace, pod, *_]:
                worker = self._worker(namespace, pod)
                sandbox = worker.runtime.sandbox
                if sandbox is None or not sandbox.ready:
                    raise HTTPError(500, f'pod not found ("{pod}_{namespace}")')
                ports = [int(p) for p in request.query.get("port", ()) if p.isdigit()]
                return await self._runtime.port_forward_url(sandbox.id, ports)
            case [kind, namespace, pod, *_, container] if kind in ("exec", "attach"):
                worker = self._worker(namespace, pod)
                status = self._running(worker, container)
                # Whether a running container has a terminal was settled at its start (kubelet GetAttach).
                tty = request.flag("tty") if kind == "exec" else _has_terminal(worker.pod, container)
                streams = {
                    "stdin": request.flag("input", "stdin"),
                    "stdout": request.flag("output", "stdout"),
                    "stderr": request.flag("error", "stderr") and not tty,
                    "tty": tty,
                }
                if kind == "attach":
                    return await self._runtime.attach_url(status.id, **streams)
                return await self._runtime.exec_url(status.id, request.query.get("command", ()), **streams)
        raise HTTPError(404, "404 page not found")

    # -- logs

    async def _node_logs(self, path: str, writer: asyncio.StreamWriter) -> None:
        root = os.path.dirname(self._options.pod_logs_dir)
        try:
            with node_logs.opened(root, path) as descriptor:
                if not node_logs.is_folder(descriptor):
                    await _send_file(writer, descriptor)
                elif not path.endswith("/"):
                    await _respond(writer, 301, b"", location=urllib.parse.quote(f"/logs{path}/"))
                else:
                    page = await asyncio.to_thread(node_logs.listing, descriptor)
                    await _respond(writer, 200, page, "text/html; charset=utf-8")
        except (FileNotFoundError, NotADirectoryError, ValueError):
            raise HTTPError(404, "404 page not found") from None

    async def _logs(
        self,
        request: Request,
        worker: PodWorker,
        name: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        options = log_options(request)
        status = worker.runtime_container(logged_container(worker.pod, name, request.flag("previous")))
        if status is None or not status.log_path:
            raise HTTPError(400, f'container "{name}" in pod "{meta.name(worker.pod)}" is not available')
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n"
        )
        sending = asyncio.create_task(self._send_log(worker, status, options, writer))
        leaving = asyncio.create_task(reader.read(1))  # a client that goes away says so
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            sending.cancel()
            leaving.cancel()

    async def _send_log(
        self, worker: PodWorker, status: Container, options: LogOptions, writer: asyncio.StreamWriter
    ) -> None:
        async with contextlib.aclosing(
            logs.read(status.log_path, options, worker.container_ended(status.id))
        ) as pieces:
            with contextlib.suppress(FileNotFoundError):
                async for piece in pieces:
                    writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                    await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _metrics(self) -> str:
        workers = self._workers()
        running = sum(len(worker.runtime.running) for worker in workers)
        lines = [
            "# HELP kubelet_running_pods Number of pods that have a running pod sandbox",
            "# TYPE kubelet_running_pods gauge",
            f"kubelet_running_pods {sum(not worker.runtime.ended for worker in workers)}",
            "# HELP kubelet_running_containers Number of containers currently running",
            "# TYPE kubelet_running_containers gauge",
            f'kubelet_running_containers{{container_state="running"}} {running}',
            "# HELP kubelet_node_name The node's name. The count is always 1.",
            "# TYPE kubelet_node_name gauge",
            f'kubelet_node_name{{node="{self._options.node_name}"}} 1',
            "# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.",
            "# TYPE process_start_time_seconds gauge",
            f"process_start_time_seconds {self._started:.2f}",
        ]
        return "\n".join(lines) + "\n"


def logged_container(pod: Object, name: str, previous: bool) -> str:
    """The id of the container whose log is meant. HTTPError 400 if there is none yet, or none any more."""
    pod_name = meta.name(pod)
    status = api_pods.container_status(pod, name)
    if status is None:
        raise HTTPError(400, f'container "{name}" in pod "{pod_name}" is not available')
    state = status.get("state") or {}
    last = (status.get("lastState") or {}).get("terminated") or {}
    if previous:
        if not last.get("containerID"):
            raise HTTPError(400, f'previous terminated container "{name}" in pod "{pod_name}" not found')
        return _bare(last["containerID"])
    if "running" in state:
        return _bare(status["containerID"])
    ended = state.get("terminated") or {}
    if ended.get("containerID") or last.get("containerID"):
        return _bare(ended.get("containerID") or last["containerID"])
    if "terminated" in state:
        raise HTTPError(400, f'container "{name}" in pod "{pod_name}" is terminated')
    reason = (state.get("waiting") or {}).get("reason", "")
    words = {
        "ErrImagePull": "image can't be pulled",
        "ImagePullBackOff": "trying and failing to pull image",
    }.get(reason, reason)
    raise HTTPError(400, f'container "{name}" in pod "{pod_name}" is waiting to start: {words}')


def _has_terminal(pod: Object, container: str) -> bool:
    return any(bool(each.get("tty")) for each in all_containers(pod) if each["name"] == container)


def _bare(container_id: str) -> str:
    return container_id.rpartition("//")[2]


def log_options(request: Request) -> LogOptions:
    """The options of a request for logs. HTTPError 400 if they make no sense."""

    def number(name: str) -> int | None:
        text = request.query.get(name, [""])[0]
        if not text:
            return None
        if not text.isdigit():
            raise HTTPError(400, f"invalid {name}: {text!r}")
        return int(text)

    since = 0
    seconds = number("sinceSeconds")
    if seconds is not None:
        since = time.time_ns() - seconds * 10**9
    moment = request.query.get("sinceTime", [""])[0]
    if moment:
        parsed = logs.parse_nanoseconds(moment.encode())
        if parsed is None:
            raise HTTPError(400, f"invalid sinceTime: {moment!r}")
        since = parsed
    stream = {"Stdout": b"stdout", "Stderr": b"stderr"}.get(request.query.get("stream", [""])[0], b"")
    return LogOptions(
        follow=request.flag("follow"),
        tail_lines=number("tailLines"),
        since=since,
        timestamps=request.flag("timestamps"),
        limit_bytes=number("limitBytes"),
        stream=stream,
    )


async def _discard_body(request: Request, reader: asyncio.StreamReader) -> None:
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > _PIECE:
        raise HTTPError(400, "request body too large")
    await reader.readexactly(int(length))


async def _send_file(writer: asyncio.StreamWriter, descriptor: int) -> None:
    """As long as it is now: it may grow meanwhile."""
    left = os.fstat(descriptor).st_size
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {left}\r\n\r\n"
    writer.write(head.encode())
    while left:
        piece = await asyncio.to_thread(os.read, descriptor, min(left, _PIECE))
        if not piece:
            raise EOFError("the file is shorter than it was")
        writer.write(piece)
        left -= len(piece)
        await writer.drain()


async def _respond(
    writer: asyncio.StreamWriter,
    code: int,
    body: bytes,
    content_type: str = "text/plain; charset=utf-8",
    location: str = "",
) -> None:
    head = (
        f"HTTP/1.1 {code} {_REASONS.get(code, 'Error')}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n" + (f"Location: {location}\r\n" if location else "") + "\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
