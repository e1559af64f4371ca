"""The subresource ``proxy`` of Pods, Services and Nodes: HTTP passed on to a server, whatever it is.

Who is asked, with which path and headers, follows k8s.io/kubernetes' ``ResourceLocation`` of each kind and
k8s.io/apimachinery's ``UpgradeAwareHandler``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import posixpath
import random
import socket
import ssl
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import yarl
from aiohttp import web
from multidict import CIMultiDict

from buoy.api.formats import host_port
from buoy.api.meta import Object
from buoy.api.resource import ENDPOINTS, PODS, SERVICES
from buoy.api.status import StatusError, bad_request, not_found

from . import links
from .answers import Answer, Streamed
from .authentication import without_credentials
from .kubelets import Kubelets, dial_text
from .registry import Registry
from .requestinfo import RequestInfo
from .rest import Call, Result, method_not_allowed, while_connected

METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
_CONNECT_SECONDS = 30.0
_LONGEST_PAGE = 2 << 20
"""Bytes of a page whose links are changed; a longer one passes as it is."""

_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Headers of a connection, not of a message (RFC 9110, section 7.6.1, and older ones)."""

_CROSS_ORIGIN = frozenset(
    f"access-control-allow-{what}" for what in ("credentials", "headers", "methods", "origin")
)
"""Headers by which a server would open the whole API server's origin to others."""

_OF_ITS_OWN = frozenset(("Accept", "Accept-Encoding", "Content-Type", "User-Agent"))
"""What the HTTP client would add."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server. *tls* is False for plain HTTP, True for TLS with whatever certificate."""

    host: str
    port: str
    tls: bool | ssl.SSLContext = False

    @property
    def netloc(self) -> str:
        return host_port(self.host, self.port)

    @property
    def context(self) -> ssl.SSLContext | None:
        return _any_certificate() if self.tls is True else self.tls or None

    @property
    def number(self) -> int:
        """The port's number. Raises OSError, in Go's words, if it has none."""
        if not self.port.isdigit() or int(self.port) > 65535:
            raise OSError(f"lookup tcp/{self.port}: unknown port")
        return int(self.port)


def split(id: str) -> tuple[str, str, str] | None:
    """Scheme, name and port of ``name``, ``name:port`` or ``scheme:name:port``; None if it is no such."""
    parts = id.split(":")
    match parts:
        case [name]:
            found = "", name, ""
        case [name, port]:
            found = "", name, port
        case [scheme, name, port]:
            found = scheme, name, port
        case _:
            return None
    return found if found[1] and found[0] in ("", "http", "https") else None


def is_proxyable(address: str) -> bool:
    """Whether it is a global unicast address in Go's sense: not of this machine or link, nor of a group."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return not (
        found.is_loopback
        or found.is_link_local
        or found.is_multicast
        or found.is_unspecified
        or str(found) == "255.255.255.255"
    )


def pod_port(pod: Object) -> str:
    """The first port that the Pod's containers name, or ``""``."""
    for container in pod["spec"].get("containers") or ():
        for port in container.get("ports") or ():
            return str(port["containerPort"])
    return ""


def pod_addresses(pod: Object) -> list[str]:
    return [each["ip"] for each in (pod.get("status") or {}).get("podIPs") or ()]


def service_port(service: Object, name: str, number: int) -> str:
    """The name of the Service's port *number*. Raises StatusError 503 if it has none such."""
    for port in service["spec"].get("ports") or ():
        if port["port"] == number:
            return str(port.get("name") or "")
    raise _unavailable(f'no service port {number} found for service "{name}"')


def candidates(endpoints: Object, port_name: str) -> Iterable[tuple[Object, int]]:
    """Addresses, each with its port of that name, in the order of trying: from a subset at random on."""
    subsets = list(endpoints.get("subsets") or ())
    for subset in _from_anywhere(subsets):
        for port in subset.get("ports") or ():
            if (port.get("name") or "") == port_name:
                for address in _from_anywhere(subset.get("addresses") or ()):
                    yield address, port["port"]


def _from_anywhere(found: Iterable[Any]) -> list[Any]:
    items = list(found)
    at = random.randrange(len(items)) if items else 0  # noqa: S311
    return items[at:] + items[:at]


def path_beyond(info: RequestInfo) -> str:
    """The path that the proxied server is asked for, quoted; ``""`` if the request has none, not even ``/``.

    It is what the authorizer has seen, without detours: ``..`` leads no further up than ``/``.
    """
    path = posixpath.normpath(f"/{info.rest}") if info.rest else ""
    if info.path.endswith("/") and not path.endswith("/"):
        path += "/"
    return quote(path, safe="/$&+,:;=@!~*'()")


def prefix_of(info: RequestInfo) -> str:
    """The proxy's own path, as links have it."""
    place = f"/namespaces/{info.namespace}" if info.namespace else ""
    return quote(f"/api/v1{place}/{info.resource}/{info.name}/proxy", safe="/:")


def forwarded(headers: Any, info: RequestInfo, client: str, *, upgrade: bool = False) -> CIMultiDict[str]:
    """The request's headers for the proxied server: without the user's credentials and this connection's."""
    named = {name.strip().lower() for value in headers.getall("Connection", ()) for name in value.split(",")}
    found: CIMultiDict[str] = CIMultiDict()
    for name, value in without_credentials(headers).items():
        lower = name.lower()
        if upgrade or (lower not in _HOP_BY_HOP and lower not in named and lower != "expect"):
            found.add(name, value)
    before = headers.getall("X-Forwarded-For", ())
    found["X-Forwarded-For"] = ", ".join([*before, client])
    if not upgrade:
        found["X-Forwarded-Uri"] = prefix_of(info) + path_beyond(info)
    return found


def _unavailable(message: str) -> StatusError:
    return StatusError(503, "ServiceUnavailable", message)


def _any_certificate() -> ssl.SSLContext:
    """Servers in Pods have certificates that nobody here knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Proxying:
    def __init__(self, registry: Registry, kubelets: Kubelets, sources: Iterable[socket.socket]) -> None:
        """*sources* are the server's own sockets: it asks from the addresses at which it is asked."""
        self._registry = registry
        self._kubelets = kubelets
        self._sources = dict(filter(None, map(_own_address, sources)))
        self._session: aiohttp.ClientSession | None = None

    # Who is asked

    async def target(self, info: RequestInfo) -> Target:
        """Raises StatusError."""
        kinds = {"pods": self._pod, "services": self._service, "nodes": self._node}
        found = split(info.name)
        if found is None:
            raise bad_request(f'invalid {info.resource.removesuffix("s")} request "{info.name}"')
        return await kinds[info.resource](info.namespace, *found)

    async def _pod(self, namespace: str, scheme: str, name: str, port: str) -> Target:
        pod = await self._registry.find(PODS, namespace, name)
        if pod is None:
            raise not_found(PODS, name)
        address = next(iter(pod_addresses(pod)), "")
        if not is_proxyable(address):
            raise bad_request("address not allowed")
        return _server(scheme, address, port or pod_port(pod))

    async def _service(self, namespace: str, scheme: str, name: str, port: str) -> Target:
        if port.isdigit():
            service = await self._registry.find(SERVICES, namespace, name)
            if service is None:
                raise not_found(SERVICES, name)
            port = service_port(service, name, int(port))
        endpoints = await self._registry.find(ENDPOINTS, namespace, name)
        if endpoints is None:
            raise not_found(ENDPOINTS, name)
        for address, number in candidates(endpoints, port):
            if await self._is_of_a_pod(address, namespace):
                return _server(scheme, address["ip"], str(number))
        raise _unavailable(f'no endpoints available for service "{name}"')

    async def _is_of_a_pod(self, address: Object, namespace: str) -> bool:
        """Anybody may write Endpoints; only what a Pod of the same namespace has is asked."""
        reference = address.get("targetRef") or {}
        if reference.get("namespace") != namespace or not is_proxyable(address["ip"]):
            return False
        pod = await self._registry.find(PODS, namespace, reference.get("name") or "")
        return pod is not None and address["ip"] in pod_addresses(pod)

    async def _node(self, _: str, scheme: str, name: str, port: str) -> Target:
        host, own_port = await self._kubelets.address(name)
        if port in ("", str(own_port)):
            return Target(host, str(own_port), self._kubelets.context)
        if not is_proxyable(host):
            raise bad_request("address not allowed")
        return _server(scheme, host, port)

    # Asking

    async def connect_to(self, target: Target) -> socket.socket:
        """A connection to *target*, without TLS yet. Raises OSError, TimeoutError."""
        number = target.number
        family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
        connection = self._socket((family, socket.SOCK_STREAM, 0, "", (target.host, number)))
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(connection, (target.host, number))
        except BaseException:
            connection.close()
            raise
        return connection

    async def handle(self, call: Call) -> Result:
        """Answer with what the server answers, as it comes. Raises StatusError."""
        request, info = call.request, call.info
        if request.method not in METHODS:
            raise method_not_allowed()
        target = await self.target(info)
        path, query = path_beyond(info), query_of(request.raw_path)
        if not path and request.method in ("GET", "HEAD"):
            location = request.raw_path.partition("?")[0] + "/" + query
            return Answer(b"", 301, "text/html; charset=utf-8", (("Location", location),))
        peer = request.transport.get_extra_info("peername") if request.transport else None
        headers = forwarded(request.headers, info, peer[0] if peer else "")
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        scheme = "https" if target.tls else "http"
        task = asyncio.current_task()
        assert task is not None
        with while_connected(request, task.cancel):
            try:
                target.number  # noqa: B018  (raises)
                upstream = await self._open_session().request(
                    request.method,
                    yarl.URL(f"{scheme}://{target.netloc}{path or '/'}{query}", encoded=True),
                    headers=headers,
                    data=request.content if request.body_exists else None,
                    ssl=False if target.tls is True else target.tls or True,
                    allow_redirects=False,
                    skip_auto_headers=_OF_ITS_OWN,
                )
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise _unavailable(f"error trying to reach service: {_words(error, target)}") from None
            async with upstream:
                return await _answer(request, info, target, upstream)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, socket_factory=self._socket),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),  # what one user is given is not another's
                auto_decompress=False,
            )
        return self._session

    def _socket(self, address: Any) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        source = self._sources.get(family)
        if source and not ipaddress.ip_address(address[4][0]).is_loopback:
            made.setsockopt(socket.SOL_IP, _BIND_ADDRESS_NO_PORT, 1)
            made.bind((source, 0))
        return made

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


_BIND_ADDRESS_NO_PORT = 24
"""``IP_BIND_ADDRESS_NO_PORT``: the port is chosen when the other end is known (ip(7))."""


def _own_address(listening: socket.socket) -> tuple[int, str] | None:
    address = listening.getsockname()[0]
    return (listening.family, address) if is_proxyable(address) else None


def _server(scheme: str, host: str, port: str) -> Target:
    return Target(host, port or ("443" if scheme == "https" else "80"), scheme == "https")


def query_of(raw_path: str) -> str:
    """A request line's query with its question mark, ``""`` if it has none."""
    _, mark, query = raw_path.partition("?")
    return mark + quote(query, safe="!#$%&'()*+,/:;=?@[]~") if mark else ""


def _words(error: BaseException, target: Target) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    elif isinstance(error, aiohttp.ClientError):
        return str(error)
    return f"dial tcp {target.netloc}: {dial_text(error)}"


async def _answer(
    request: web.BaseRequest, info: RequestInfo, target: Target, upstream: aiohttp.ClientResponse
) -> Result:
    response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
    named = {
        name.strip().lower()
        for value in upstream.headers.getall("Connection", ())
        for name in value.split(",")
    }
    prefix, hosts = prefix_of(info), frozenset((target.netloc, target.host, request.host))
    for name, value in upstream.headers.items():
        lower = name.lower()
        if lower == "location":
            value = links.through(value, prefix, hosts)
        if lower not in _HOP_BY_HOP and lower not in _CROSS_ORIGIN and lower not in named:
            response.headers.add(name, value)
    try:
        start, whole = b"", False
        if request.method != "HEAD" and upstream.content_type == "text/html":
            start, whole = await _start_of(upstream)
            page = await asyncio.to_thread(_unpack, start, upstream) if whole else None
            if page is not None:
                response.headers.popall("Content-Encoding", None)
                response.headers.popall("Content-Length", None)
                start = await asyncio.to_thread(_with_links, page, prefix, hosts)
                response.content_length = len(start)
        if "Content-Length" not in response.headers and _has_body(request.method, upstream.status):
            response.enable_chunked_encoding()
        await response.prepare(request)
        if start:
            await response.write(start)
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
    except aiohttp.ClientError as error:
        # Either end has gone. The client sees a response that ends too early, which is the truth.
        raise ConnectionResetError(str(error)) from None
    await response.write_eof()
    return Streamed(bool(response.keep_alive), upstream.status)


def _has_body(method: str, status: int) -> bool:
    return method != "HEAD" and status >= 200 and status not in (204, 304)


async def _start_of(upstream: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The first bytes of the body, and whether they are all of it."""
    pieces, size = [], 0
    async for chunk in upstream.content.iter_any():
        pieces.append(chunk)
        size += len(chunk)
        if size > _LONGEST_PAGE:
            return b"".join(pieces), False
    return b"".join(pieces), True


def _unpack(body: bytes, upstream: aiohttp.ClientResponse) -> bytes | None:
    """A body as it was before its encoding; None if that is not known here, or would be too long."""
    encoding = upstream.headers.get("Content-Encoding", "")
    if not encoding:
        return body
    if encoding not in ("gzip", "deflate"):
        return None
    with contextlib.suppress(zlib.error):
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32 if encoding == "gzip" else -zlib.MAX_WBITS)
        page = unpacker.decompress(body, _LONGEST_PAGE)
        if unpacker.eof:
            return page
    return None


def _with_links(page: bytes, prefix: str, hosts: frozenset[str]) -> bytes:
    # All that matters is ASCII, in every encoding that pages have; the rest comes back as it was.
    text = page.decode("latin-1")
    return links.rewrite(text, lambda link: links.through(link, prefix, hosts)).encode("latin-1")
