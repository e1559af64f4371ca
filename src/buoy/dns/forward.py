"""Names that are not the cluster's: out of the cache, or asked of other servers.

Questions that are the same are asked once, however many want to know. That also ends every loop: a question
that comes back to us waits for itself, and times out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from . import wire
from .address import Address
from .cache import Cache, Hit, Question
from .metrics import Metrics, rcode_name
from .upstream import Server
from .wire import REFUSED, SERVFAIL, Answer

log = logging.getLogger(__name__)

_TRY_SECONDS = 1.5
_ALL_SECONDS = 4.5
_MOST_AT_ONCE = 500


class Forwarder:
    """Asks *upstreams*, in their order, or the servers of the longest of the domains *stubs* that fits."""

    def __init__(
        self,
        upstreams: Sequence[Address],
        stubs: Mapping[bytes, Sequence[Address]],
        cache: Cache,
        metrics: Metrics,
        *,
        prefetch: bool = True,
    ) -> None:
        servers = {address: Server(address) for some in (upstreams, *stubs.values()) for address in some}
        self._upstreams = [servers[address] for address in upstreams]
        self._stubs = {domain: [servers[address] for address in some] for domain, some in stubs.items()}
        self._cache = cache
        self._metrics = metrics
        self._prefetch = prefetch
        self._asking: dict[Question, asyncio.Task[Answer]] = {}

    def servers(self, name: bytes) -> Sequence[Server]:
        """Who is asked for *name*."""
        if self._stubs:
            suffix = name
            while True:
                if suffix in self._stubs:
                    return self._stubs[suffix]
                if not suffix[0]:
                    break
                suffix = wire.parent(suffix)
        return self._upstreams

    def cached(self, question: Question) -> Hit | None:
        """The answer if nobody needs to be asked."""
        hit = self._cache.get(question, time.monotonic())
        if hit is None:
            return None
        self._metrics.cache_hits.inc()
        if hit.expiring and self._prefetch:
            self._start(question)
        return hit

    async def ask(self, question: Question) -> Hit:
        """The answer of whoever is to be asked; if there is none, an old one, or SERVFAIL. Never raises."""
        self._metrics.cache_misses.inc()
        task = self._start(question)
        if task is None:
            answer = Answer(SERVFAIL, error=(wire.NETWORK_ERROR, "too many questions at once"))
        else:
            answer = await asyncio.shield(task)
        now = time.monotonic()
        if answer.rcode in (SERVFAIL, REFUSED):
            stale = self._cache.stale(question, now)
            if stale is not None:
                self._metrics.cache_stale.inc()
                return stale
            self._cache.put(question, answer, now)
        return Hit(answer, 0, 0, False, now)

    def close(self) -> None:
        """Give up on all questions."""
        for task in self._asking.values():
            task.cancel()

    def _start(self, question: Question) -> asyncio.Task[Answer] | None:
        task = self._asking.get(question)
        if task is None:
            if len(self._asking) >= _MOST_AT_ONCE:
                return None
            task = asyncio.create_task(self._ask(question))
            self._asking[question] = task
            task.add_done_callback(lambda _: self._asking.pop(question, None))
        return task

    async def _ask(self, question: Question) -> Answer:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _ALL_SECONDS
        servers = self.servers(question.name)
        if not servers:
            return Answer(SERVFAIL, error=(wire.NO_UPSTREAM, "no upstream server is configured"))
        refused: Answer | None = None
        reason = ""
        while loop.time() < deadline:
            now = loop.time()
            for server in sorted(servers, key=lambda server: not server.available(now)):
                left = deadline - loop.time()
                if left <= 0:
                    break
                answer, reason = await self._try(server, question, min(_TRY_SECONDS, left))
                if answer is None:
                    continue
                if answer.rcode not in (SERVFAIL, REFUSED):
                    self._cache.put(question, answer, time.monotonic())
                    return answer
                refused = answer
            if refused is not None:
                return refused._replace(rcode=SERVFAIL)
            if not any(server.available(loop.time()) for server in servers):
                break
        return Answer(SERVFAIL, error=(wire.NETWORK_ERROR, reason))

    async def _try(self, server: Server, question: Question, timeout: float) -> tuple[Answer | None, str]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            answer = await server.ask(question, timeout)
        except OSError as error:  # a TimeoutError is one
            server.failed(loop.time())
            reason = f"{server.address}: {error.strerror or error or 'no answer in time'}"
            self._metrics.forwarded(server.address, "none", loop.time() - started)
            log.log(logging.DEBUG if not server.available(loop.time()) else logging.INFO, "%s", reason)
            return None, reason
        server.succeeded()
        self._metrics.forwarded(server.address, rcode_name(answer.rcode), loop.time() - started)
        return answer, ""
