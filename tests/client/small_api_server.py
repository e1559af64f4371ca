"""A small API server, only for tests of the client: what the Kubernetes API promises, and faults at will.

It serves any resource of core/v1 and of named groups, without knowing any kind.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import socket
import ssl
from typing import Any

from aiohttp import web

Object = dict[str, Any]


def status(code: int, reason: str, message: str) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def refusal(code: int, reason: str, message: str, **headers: str) -> web.Response:
    return web.json_response(status(code, reason, message), status=code, headers=headers)


class SmallApiServer:
    """Objects by plural and ``namespace/name``; *log* has every change: (revision, plural, type, object)."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.objects: dict[str, dict[str, Object]] = {}
        self.revision = 10
        self.log: list[tuple[int, str, str, Object]] = []
        self.compacted = 10
        self.gone_as_event = False
        self.break_lists = 0
        self.refusals: list[web.Response] = []
        self.requests: list[web.Request] = []
        self.peers: list[Any] = []  # the client certificate of each request
        self.hang = False
        self.silent = False
        self._changed = asyncio.Condition()
        self._watchers: set[asyncio.Transport] = set()
        self._uids = itertools.count(1)
        self._tls = tls
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self._address = (host, 0)

    # Up and down.

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True)
        await self._runner.setup()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(self._address)
        self._address = self._socket.getsockname()
        await web.SockSite(self._runner, self._socket, ssl_context=self._tls).start()

    async def stop(self) -> None:
        """Close the port and cut every connection."""
        self.disconnect()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._address[0]}:{self._address[1]}"

    def disconnect(self) -> None:
        """Cut all watches, in the middle of whatever they are doing."""
        for transport in self._watchers:
            transport.abort()

    @property
    def watchers(self) -> int:
        return len(self._watchers)

    # Changes, also to be made directly by a test.

    async def put(self, plural: str, obj: Object) -> Object:
        """Create or replace."""
        metadata = obj["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else metadata["name"]
        old = self.objects.setdefault(plural, {}).get(key)
        new = copy.deepcopy(obj)
        new["metadata"]["uid"] = old["metadata"]["uid"] if old else f"uid-{next(self._uids)}"
        await self._write(plural, key, new, "MODIFIED" if old else "ADDED")
        return new

    async def remove(self, plural: str, key: str) -> Object:
        gone = copy.deepcopy(self.objects[plural][key])
        await self._write(plural, key, gone, "DELETED")
        return gone

    async def _write(self, plural: str, key: str, obj: Object, kind: str) -> None:
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        if kind == "DELETED":
            del self.objects[plural][key]
        else:
            self.objects[plural][key] = obj
        self.log.append((self.revision, plural, kind, obj))
        await self._wake()

    async def compact(self) -> None:
        """Forget all history: watches cannot be resumed, nor lists continued."""
        self.revision += 1
        self.compacted = self.revision
        await self._wake()

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # HTTP.

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        assert request.transport
        self.peers.append(request.transport.get_extra_info("peercert"))
        if self.hang:
            await asyncio.sleep(3600)
        if self.refusals:
            return self.refusals.pop(0)
        parts = request.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        plural, name, subresource = [*parts, "", ""][:3]
        if not name:
            if request.query.get("watch"):
                return await self._watch(request, plural, namespace)
            if request.method == "GET":
                return await self._list(request, plural, namespace)
        return await self._object(request, plural, namespace, name, subresource)

    async def _object(
        self, request: web.Request, plural: str, namespace: str, name: str, subresource: str
    ) -> web.Response:
        body = await request.read()
        content = json.loads(body) if body else {}
        if request.method == "POST" and subresource:
            return web.json_response(
                {"kind": "Status", "subresource": subresource, "of": name, "sent": content}
            )
        if request.method == "POST" and "name" not in content["metadata"]:
            content["metadata"]["name"] = f"{content['metadata']['generateName']}{next(self._uids)}"
        name = name or content["metadata"]["name"]
        key = f"{namespace}/{name}" if namespace else name
        old = self.objects.get(plural, {}).get(key)
        if request.method == "POST":
            if old:
                return refusal(409, "AlreadyExists", f'{plural} "{name}" already exists')
            if namespace:
                content["metadata"].setdefault("namespace", namespace)
            return web.json_response(await self.put(plural, content), status=201)
        if old is None:
            return refusal(404, "NotFound", f'{plural} "{name}" not found')
        if request.method == "GET":
            return web.json_response(old)
        if request.method == "DELETE":
            self.deletion = content
            return web.json_response(await self.remove(plural, key))
        if request.method == "PATCH":
            if request.content_type != "application/merge-patch+json":
                return web.json_response({"type": request.content_type, "patch": content})
            return web.json_response(await self.put(plural, _merged(old, content)))
        wanted = content["metadata"].get("resourceVersion")
        if wanted and wanted != old["metadata"]["resourceVersion"]:
            return refusal(409, "Conflict", "the object has been modified")
        return web.json_response(await self.put(plural, content))

    async def _list(self, request: web.Request, plural: str, namespace: str) -> web.StreamResponse:
        revision, after = self.revision, ""
        if token := request.query.get("continue"):
            text, after = token.split(":", 1)
            revision = int(text)
            if revision < self.compacted:
                return refusal(410, "Expired", "The provided continue parameter is too old")
        objects: dict[str, Object] = {}
        for key, obj in self.objects.get(plural, {}).items():
            objects[key] = obj
        for _, changed, kind, obj in reversed([entry for entry in self.log if entry[0] > revision]):
            if changed == plural:  # undo it
                before = [
                    entry
                    for entry in self.log
                    if entry[1] == plural and _key(entry[3]) == _key(obj) and entry[0] <= revision
                ]
                objects.pop(_key(obj), None)
                if before and before[-1][2] != "DELETED":
                    objects[_key(obj)] = before[-1][3]
                del kind
        keys = sorted(
            key for key in objects if key > after and (not namespace or key.startswith(f"{namespace}/"))
        )
        limit = int(request.query.get("limit", 0)) or len(keys)
        metadata = {"resourceVersion": str(revision)}
        if len(keys) > limit:
            metadata["continue"] = f"{revision}:{keys[limit - 1]}"
        items = copy.deepcopy([objects[key] for key in keys[:limit]])
        for item in items:
            item.pop("kind", None)
            item.pop("apiVersion", None)
        answer = json.dumps({"kind": "List", "metadata": metadata, "items": items}).encode()
        if self.break_lists:
            self.break_lists -= 1
            response = web.StreamResponse(headers={"Content-Length": str(len(answer))})
            response.content_type = "application/json"
            await response.prepare(request)
            await response.write(answer[: len(answer) // 2])
            assert request.transport
            request.transport.abort()
            return response
        return web.Response(body=answer, content_type="application/json")

    async def _watch(self, request: web.Request, plural: str, namespace: str) -> web.StreamResponse:
        at = int(request.query["resourceVersion"])
        gone = status(410, "Expired", f"too old resource version: {at} ({self.compacted})")
        if at < self.compacted and not self.gone_as_event:
            return web.json_response(gone, status=410)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if at < self.compacted:
            await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            return response
        transport = request.transport
        assert transport
        self._watchers.add(transport)
        try:
            while not transport.is_closing():
                for revision, changed, kind, obj in [entry for entry in self.log if entry[0] > at]:
                    at = revision
                    if changed == plural and (not namespace or obj["metadata"]["namespace"] == namespace):
                        line = json.dumps({"type": kind, "object": obj}).encode() + b"\n"
                        middle = len(line) // 2  # lines come in pieces
                        await response.write(line[:middle])
                        await response.write(line[middle:])
                if request.query.get("allowWatchBookmarks") and not self.silent:
                    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(at)}}}
                    await response.write(json.dumps(bookmark).encode() + b"\n")
                async with self._changed:
                    if not self.log or self.log[-1][0] <= at:
                        await self._changed.wait()
        except ConnectionError:
            pass
        finally:
            self._watchers.discard(transport)
        return response


def _key(obj: Object) -> str:
    metadata = obj["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else metadata["name"]


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            new.pop(name, None)
        else:
            new[name] = _merged(new.get(name), value)
    return new
