"""Speaking HTTP with an API server: verbs, errors, watches."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import aiohttp
import msgspec
import yarl

from ..api import meta
from ..api.meta import Object
from ..api.resource import Resource
from ..api.status import StatusError, bad_request
from . import kubeconfig
from .credentials import Credential
from .kubeconfig import Access

_REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=5, sock_read=40)
_WATCH_SECONDS = (300, 600)
_WATCH_SLACK = 30
_RETRIES = 5
_REQUESTS_AT_ONCE = 16
"""Any more wait: each has a connection of its own, and that costs as much as several requests."""

_LONGEST_RETRY_AFTER = 30

_PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}

Params = Mapping[str, str]
Patch = Object | list[Object]


class ConnectionFailed(ConnectionError):
    """The server could not be reached, or the connection broke before its answer was complete.

    A write may have happened or not.
    """


@dataclass(frozen=True, slots=True)
class ObjectList:
    """A list as of *resource_version*; *continue_token* is set if a limit cut it short."""

    items: list[Object]
    resource_version: str
    continue_token: str = ""


class _WatchEvent(msgspec.Struct):
    type: str
    object: Object


_watch_decoder = msgspec.json.Decoder(_WatchEvent)


def _make_socket(address: Any) -> socket.socket:
    """A socket that notices within half a minute that the machine at the other end is gone."""
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
    return sock


class Client:
    """A client of one API server. Make it anywhere; use it from one event loop; close it at the end.

    Every call raises `StatusError` for what the server refuses and `ConnectionFailed` if there is no answer.
    """

    def __init__(self, access: Access, *, user_agent: str = "buoy", accept: str = "application/json") -> None:
        self._access = access
        self._headers = {
            "User-Agent": user_agent,
            "Accept": accept,
            "Accept-Encoding": "identity",
        }
        self._session: aiohttp.ClientSession | None = None
        self._session_certificate = ""
        self._places = asyncio.Semaphore(_REQUESTS_AT_ONCE)

    @classmethod
    def from_kubeconfig(
        cls,
        path: str,
        *,
        context: str | None = None,
        user_agent: str = "buoy",
        accept: str = "application/json",
    ) -> Self:
        """The client that the kubeconfig file describes; with no *path*, that of the Pod this runs in.

        *accept* is what it asks for, such as metadata only. Raises KubeconfigError.
        """
        access = kubeconfig.load(path, context) if path else kubeconfig.in_cluster()
        return cls(access, user_agent=user_agent, accept=accept)

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._access.server

    @property
    def namespace(self) -> str:
        """The namespace that the kubeconfig's context names, else ``default``."""
        return self._access.namespace

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        found: Object = await self.request("GET", _path(resource, namespace, name))
        return found

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        resource_version: str = "",
        continue_token: str = "",
    ) -> ObjectList:
        """All objects, or the first *limit* of them, or the next ones after an earlier *continue_token*."""
        params = _params(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=str(limit) if limit else "",
            resourceVersion=resource_version,
        )
        if continue_token:
            params["continue"] = continue_token
        answer = await self.request("GET", _path(resource, namespace), params=params)
        items: list[Object] = answer.get("items") or []
        for item in items:  # a list names its items' kind only once
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        metadata = answer.get("metadata") or {}
        return ObjectList(items, metadata.get("resourceVersion") or "", metadata.get("continue") or "")

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, subresource: str = "", name: str = ""
    ) -> Object:
        """POST *obj*. *name* is for subresources that are created: binding, eviction, token."""
        namespace = namespace or meta.namespace(obj)
        path = _path(resource, namespace, name, subresource) if name else _path(resource, namespace)
        created: Object = await self.request("POST", path, body=obj)
        return created

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        path = _path(resource, meta.namespace(obj), meta.name(obj), subresource)
        updated: Object = await self.request("PUT", path, body=obj)
        return updated

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        patch: Patch,
        *,
        type: Literal["merge", "json", "strategic"] = "merge",
        subresource: str = "",
    ) -> Object:
        path = _path(resource, namespace, name, subresource)
        patched: Object = await self.request("PATCH", path, body=patch, content_type=_PATCH_TYPES[type])
        return patched

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
        grace_period: int | None = None,
    ) -> Object:
        """Ask for the object's deletion, only of that *uid* and at that *resource_version* if given.

        *propagation* is Background, Foreground or Orphan; *grace_period* is in seconds. Gives the object as
        it then is, or a Status.
        """
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if preconditions := _params(uid=uid, resourceVersion=resource_version):
            options["preconditions"] = preconditions
        if propagation:
            options["propagationPolicy"] = propagation
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        deleted: Object = await self.request("DELETE", _path(resource, namespace, name), body=options)
        return deleted

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        """One request and its decoded JSON answer (text, if it is none).

        A refusal with Retry-After (429, 5xx: nothing was done) is tried again a few times, a 401 once with a
        fresh credential.
        """
        data = None if body is None else msgspec.json.encode(body)
        refused = False
        for attempt in range(_RETRIES + 1):
            status, headers, answer = await self._exchange(method, path, params, data, content_type, refused)
            if status < 400:
                return _decode(answer, headers)
            if status == 401 and not refused:
                refused = True
                continue
            delay = _retry_after(status, headers)
            if delay is None or attempt == _RETRIES:
                break
            await asyncio.sleep(delay)
        raise _failure(status, answer, headers)

    async def _exchange(
        self,
        method: str,
        path: str,
        params: Params | None,
        data: bytes | None,
        content_type: str,
        refresh: bool,
    ) -> tuple[int, Mapping[str, str], bytes]:
        session, headers = await self._prepared(refresh)
        if data is not None:
            headers["Content-Type"] = content_type
        try:
            async with (
                self._places,
                session.request(
                    method,
                    self._url(path, params),
                    data=data,
                    headers=headers,
                    timeout=_REQUEST_TIMEOUT,
                    allow_redirects=False,
                    server_hostname=self._access.server_name or None,
                    proxy=self._access.proxy or None,
                ) as response,
            ):
                return response.status, response.headers, await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise self._connection_failed(method, path, error) from error

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        bookmarks: bool = False,
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """The changes after *resource_version*: ``("ADDED" | "MODIFIED" | "DELETED", object)``.

        With *bookmarks* also ``("BOOKMARK", object)``, whose only content is its resourceVersion. Ends when
        the server ends it, after some minutes; raises StatusError (410: list again) and ConnectionFailed.
        """
        seconds = random.randint(*_WATCH_SECONDS)  # noqa: S311
        params = _params(
            watch="true",
            labelSelector=label_selector,
            fieldSelector=field_selector,
            resourceVersion=resource_version,
            allowWatchBookmarks="true" if bookmarks else "",
            timeoutSeconds=str(seconds),
        )
        path = _path(resource, namespace)
        timeout = aiohttp.ClientTimeout(total=seconds + _WATCH_SLACK, sock_connect=5)
        session, headers = await self._prepared(refresh=False)
        try:
            async with session.get(
                self._url(path, params),
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                server_hostname=self._access.server_name or None,
                proxy=self._access.proxy or None,
            ) as response:
                if response.status >= 400:
                    if response.status == 401:
                        await self._access.credentials.get(refresh=True)
                    raise _failure(response.status, await response.read(), response.headers)
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if not line or line.isspace():
                            continue
                        try:
                            event = _watch_decoder.decode(line)
                        except msgspec.DecodeError as error:
                            raise ConnectionFailed(f"GET {path}: not a watch event: {error}") from error
                        if event.type == "ERROR":
                            raise StatusError.from_object(event.object, 500)
                        if event.type != "BOOKMARK" or bookmarks:
                            yield event.type, event.object
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, ConnectionFailed):
                raise
            raise self._connection_failed("GET", path, error) from error

    async def _prepared(self, refresh: bool) -> tuple[aiohttp.ClientSession, dict[str, str]]:
        credential = await self._access.credentials.get(refresh=refresh)
        headers = dict(self._headers)
        if credential.token:
            headers["Authorization"] = f"Bearer {credential.token}"
        if self._session and self._session_certificate != credential.certificate:
            await self.close()
        if not self._session:
            self._session = self._open(credential)
            self._session_certificate = credential.certificate
        return self._session, headers

    def _open(self, credential: Credential) -> aiohttp.ClientSession:
        https = self._access.server.startswith("https:")
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                ssl=self._access.tls(credential) if https else False,
                socket_factory=_make_socket,
                keepalive_timeout=60,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _url(self, path: str, params: Params | None) -> yarl.URL:
        url = yarl.URL(self._access.server + path)
        return url.update_query(params) if params else url

    def _connection_failed(self, method: str, path: str, error: Exception) -> ConnectionFailed:
        reason = str(error) or type(error).__name__
        return ConnectionFailed(f"{method} {self._access.server}{path}: {reason}")


def _path(resource: Resource, namespace: str, name: str | None = None, subresource: str = "") -> str:
    """The URL path. A name can come from anyone's Pod, and must not lead anywhere else: StatusError then."""
    for segment in (namespace or "-", name):
        if segment is None:
            continue
        if not segment:
            raise bad_request("resource name may not be empty")
        if segment in (".", "..") or "/" in segment or "%" in segment:
            raise bad_request(f'invalid resource name "{segment}"')
    return quote(resource.path(namespace, name or "", subresource), safe="/:@!$&'()*+,;=~")


def _params(**params: str) -> dict[str, str]:
    return {name: value for name, value in params.items() if value}


def _decode(answer: bytes, headers: Mapping[str, str]) -> Any:
    if "json" not in headers.get("Content-Type", "json"):
        return answer.decode(errors="replace")
    return msgspec.json.decode(answer) if answer else None


def _retry_after(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds to wait before the same request makes sense again, None if it does not."""
    if status != 429 and status < 500:
        return None
    try:
        seconds = float(headers["Retry-After"])
    except (KeyError, ValueError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)


def _failure(status: int, answer: bytes, headers: Mapping[str, str]) -> StatusError:
    try:
        content = msgspec.json.decode(answer)
    except msgspec.DecodeError:
        content = None
    if isinstance(content, dict) and content.get("kind") == "Status":
        return StatusError.from_object(content, status)
    text = answer[:2048].decode(errors="replace").strip()
    return StatusError(status, "", text or f"the server answered {status}")
