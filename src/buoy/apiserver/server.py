"""The server: connections, the way of a request through it, start and end."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, cast

from aiohttp import web

from buoy.api import KINDS
from buoy.api.allocation import IPRange, PortRange
from buoy.api.resource import SERVICES
from buoy.api.service_allocation import ServiceAllocator
from buoy.api.status import StatusError, bad_request
from buoy.client.splice import SHUTDOWN_SECONDS
from buoy.store import StorageFailed, Store
from buoy.store.sqlite import SqliteStore

from . import Options, requestinfo
from .admission import StandardAdmission
from .answers import error_answer
from .attributes import Attributes
from .authentication import Authenticator, ServiceAccountTokens, read_token_file
from .authorization import Authorizer
from .bootstrapping import Keeper, bootstrap
from .definitions import Definitions
from .encoding import Decoded
from .expiry import expire_forever
from .impersonation import impersonate
from .kubelets import Kubelets
from .metrics import Metrics
from .nonresource import NonResource
from .proxying import Proxying
from .registry import Registry, User
from .requestinfo import RequestInfo
from .rest import Rest, Result, generic_not_found
from .reviews import Reviews
from .streaming import PROXIED_PATH, STREAMED_PATH, Streaming, is_upgrade
from .subresources import Subresources
from .watch import Hub

log = logging.getLogger(__name__)

_LONGEST_LINE = 128 << 10
_HEAD_SECONDS = 32.0
"""How long a new connection may take to say what it wants (upstream's ReadHeaderTimeout)."""
_IDLE_SECONDS = 90.0
_SHUTDOWN_SECONDS = 0.5
_INTERNAL = "Internal error occurred: {}"


class ApiServer:
    """All parts of the server, put together."""

    def __init__(self, options: Options, store: Store) -> None:
        self.options = options
        self.store = store
        decoded = Decoded()
        self.hub = Hub(store, decoded)
        self.registry = Registry(store, KINDS, decoded)
        self.authorizer = Authorizer(self.registry, self.hub)
        with open(options.service_account_key, "rb") as key:
            tokens = ServiceAccountTokens(key.read(), options.service_account_issuer, self.registry)
        static = read_token_file(options.token_file) if options.token_file else {}
        self.authenticator = Authenticator(static, tokens)
        self.allocator = ServiceAllocator(
            [IPRange(cidr) for cidr in options.service_cidrs], PortRange(*options.node_port_range)
        )
        self.metrics = Metrics(lambda info: self.rest.knows(info) or self.reviews.find(info) is not None)
        self.kubelets = Kubelets(options, self.registry)
        self.rest = Rest(self.registry, self.hub, self.authorizer)
        self.proxying = Proxying(self.registry, self.kubelets, options.sockets)
        Subresources(self.registry, self.rest, tokens, self.kubelets, self.proxying).install()
        self.reviews = Reviews(self.authenticator, self.authorizer)
        self.non_resource = NonResource(options, self.registry, self.hub, tokens, self.metrics)
        self.definitions = Definitions(self.registry, self.hub, self.non_resource.publish)
        self.keeper = Keeper(self.registry, self.hub, options)
        self.streaming = Streaming(self)

    async def prepare(self) -> None:
        """Take up what the store holds, and put in what every cluster has."""
        services = await self.store.list(self.registry.served[SERVICES].prefix)
        complaints = self.allocator.rebuild(map(self.registry.decoded.get, services.records))
        for complaint in complaints:
            log.warning("%s", complaint)
        self.registry.allocators[SERVICES] = self.allocator
        await bootstrap(self.registry, self.options)
        await self.authorizer.load()
        await self.definitions.load()
        self.registry.admission = StandardAdmission(self.registry, self.authorizer)

    async def identify(self, certificate: Any, headers: Any) -> User:
        """Who asks, after impersonation. Raises StatusError 401, 403."""
        user = await self.authenticator.authenticate(certificate, headers)
        return await impersonate(user, headers, self.authorizer)

    async def handle(self, request: web.BaseRequest) -> Result:
        """Answer one request; whatever happens, there is an answer."""
        with self.metrics.request(request.method) as measured:
            try:
                info = requestinfo.parse(request.method, request.raw_path)
                measured.began(info)
                result = await self._answer(request, info)
            except StatusError as error:
                result = error_answer(error)
            except RecursionError:
                result = error_answer(bad_request("exceeded max depth"))
            except (ConnectionError, asyncio.CancelledError):
                measured.code = 499
                raise
            except StorageFailed as error:
                log.error("storage: %s", error)
                result = error_answer(StatusError(500, "InternalError", _INTERNAL.format(error)))
            except Exception as error:
                log.exception("%s %s", request.method, request.raw_path)
                result = error_answer(StatusError(500, "InternalError", _INTERNAL.format(repr(error))))
            measured.code = result.status
            return result

    async def _answer(self, request: web.BaseRequest, info: RequestInfo) -> Result:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        user = await self.identify(transport.get_extra_info("peercert"), request.headers)
        await self.authorizer.require(user, Attributes.of(info))
        if not info.is_resource:
            return await self.non_resource.handle(request, info)
        served = self.rest.find(info)
        if served is not None:
            return await self.rest.handle(request, info, user, served)
        review = self.reviews.find(info)
        if review is not None:
            return await review(request, info, user)
        raise generic_not_found()


class Front(asyncio.Protocol):
    """A client's connection: hands requests to aiohttp, and those for streams to `Streaming`.

    aiohttp would take the bytes behind an upgrade it does not know for another request; a stream must have
    them untouched. So it never sees such a request.
    """

    def __init__(self, server: ApiServer, http: web.Server) -> None:
        self._server = server
        self._inner: Any = http()
        self._transport: asyncio.Transport | None = None
        self._fresh = True
        self._head_open = False
        self._tail = b""
        self._held = b""
        self._streams = False
        self._patience: asyncio.TimerHandle | None = None
        self._callbacks: list[Callable[[], object]] = []

    def on_close(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    def forget(self, callback: Callable[[], object]) -> None:
        self._callbacks.remove(callback)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._patience = asyncio.get_running_loop().call_later(_HEAD_SECONDS, self._transport.abort)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._streams:
            self._inner.data_received(data)
            return
        begins = self._begins_request(data)
        if self._held or (begins and PROXIED_PATH.match(data)):
            # Only the whole head tells whether it is to become a stream.
            self._held += data
            if self._head_open and len(self._held) <= _LONGEST_LINE:
                return
            data, self._held = self._held, b""
            streams = is_upgrade(data.partition(b"\r\n\r\n")[0])
        else:
            streams = begins and STREAMED_PATH.match(data) is not None
        if streams:
            assert self._transport is not None
            self._streams = True
            stream = self._server.streaming.begin(self._transport, data)
            self._inner.transport = None  # or it would close the connection as it goes
            self._inner.connection_lost(None)
            self._inner = stream
        else:
            self._inner.data_received(data)

    def _begins_request(self, data: bytes) -> bool:
        """Whether a request begins here, rather than going on.

        A body, or a long head, may have in it what looks like a request. Who passes on the requests of
        others, each in the name of its user, must not have it taken for one: it would be in its own name.
        """
        if self._head_open:
            begins, text = False, self._tail + data
        elif self._fresh or (self._inner._waiter is not None and not self._inner._messages):
            begins, text = True, data
        else:
            return False
        self._fresh = False
        self._head_open = b"\r\n\r\n" not in text
        self._tail = text[-3:]
        if not self._head_open and self._patience is not None:
            self._patience.cancel()
            self._patience = None
        return begins

    def eof_received(self) -> bool | None:
        result: bool | None = self._inner.eof_received()
        return result

    def connection_lost(self, error: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._inner.connection_lost(error)
        for callback in self._callbacks:
            callback()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


def tls_context(options: Options) -> ssl.SSLContext:
    """Server side; a client certificate is welcome, and must be the client CA's if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(options.tls_cert, options.tls_key)
    context.load_verify_locations(options.client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 0  # no client of Kubernetes resumes a session; each ticket costs both sides
    return context


async def serve(options: Options) -> None:
    """Serve for ever; cancelling ends it. Raises OSError, ValueError if it cannot start."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        store = await SqliteStore.open(options.store_path)
        stack.push_async_callback(store.close)
        server = ApiServer(options, store)
        stack.push_async_callback(server.kubelets.close)
        stack.push_async_callback(server.proxying.close)
        await server.prepare()
        http = web.Server(
            cast(Any, server.handle),
            access_log=None,
            keepalive_timeout=_IDLE_SECONDS,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            auto_decompress=False,  # what is small to send must not be large to read
        )
        context = tls_context(options)
        async with asyncio.TaskGroup() as tasks:
            ready = asyncio.Event()
            tasks.create_task(server.hub.run(ready), name="watch hub")
            await ready.wait()
            tasks.create_task(server.definitions.run(), name="custom resource definitions")
            tasks.create_task(server.keeper.run(), name="essential objects")
            tasks.create_task(expire_forever(server.registry), name="event expiry")
            listeners = [
                await loop.create_server(
                    lambda: Front(server, http),
                    sock=listening,
                    ssl=context,
                    ssl_shutdown_timeout=SHUTDOWN_SECONDS,
                    backlog=1024,
                )
                for listening in options.sockets
            ]
            server.non_resource.ready = True
            # What is there now stays; the collector need not look at it again.
            gc.collect()
            gc.freeze()
            log.info("serving on port %d", options.advertise_port)
            try:
                await loop.create_future()
            finally:
                for listener in listeners:
                    listener.close()
                server.hub.close()
                await http.shutdown(_SHUTDOWN_SECONDS)
