"""Telling users what happened: core/v1 Events, few of them, as client-go's ``tools/record`` makes them.

The same event again only raises its count; many similar ones on one object become one combined event; and an
object that goes on and on is cut off by a token bucket.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Literal

from ..api import meta
from ..api.meta import Object
from ..api.resource import CORE_EVENTS
from ..api.status import StatusError
from .http import Client, ConnectionFailed

log = logging.getLogger(__name__)

_QUEUE = 1000
_CACHE = 4096
_SIMILAR = 10
_SIMILAR_SECONDS = 600.0
_BURST = 25.0
_REFILL_SECONDS = 300.0
_TRIES = 12
_RETRY_SECONDS = 10.0

_Key = tuple[str, ...]


@dataclass(slots=True)
class _Similar:
    last: float
    messages: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Seen:
    name: str
    count: int
    first: str


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(frozen=True, slots=True)
class Write:
    """What to do about one event: create *event*, or apply *patch* to the older one of its name."""

    event: Object
    patch: Object | None
    key: _Key


class Correlator:
    """Decides, event by event, between creating, counting up, combining, and leaving out. No input or output.

    Times are seconds of any steady clock.
    """

    def __init__(self) -> None:
        self._similar: OrderedDict[_Key, _Similar] = OrderedDict()
        self._seen: OrderedDict[_Key, _Seen] = OrderedDict()
        self._buckets: OrderedDict[_Key, _Bucket] = OrderedDict()

    def correlate(self, event: Object, now: float) -> Write | None:
        """What to write for *event*, None if it is spam."""
        message, key = self._combine(event, now)
        if message != event["message"]:
            event = {**event, "message": message}
        seen = _touch(self._seen, key)
        if not self._allowed(event, now):
            return None
        if seen is None:
            return Write(event, None, key)
        event = {
            **event,
            "metadata": {**event["metadata"], "name": seen.name},
            "count": seen.count + 1,
            "firstTimestamp": seen.first,
        }
        patch = {name: event[name] for name in ("count", "lastTimestamp", "message")}
        return Write(event, patch, key)

    def written(self, write: Write, stored: Object) -> None:
        """Remember that *write* was done and the server now has *stored*."""
        _put(
            self._seen,
            write.key,
            _Seen(
                stored["metadata"]["name"], int(stored.get("count") or 1), stored.get("firstTimestamp") or ""
            ),
        )

    def _combine(self, event: Object, now: float) -> tuple[str, _Key]:
        about = event["involvedObject"]
        group = (
            event["source"]["component"],
            event["source"].get("host", ""),
            *(about.get(name, "") for name in ("kind", "namespace", "name", "uid", "apiVersion")),
            event["type"],
            event["reason"],
        )
        message: str = event["message"]
        single = (*group, about.get("fieldPath", ""), message)
        similar = _touch(self._similar, group)
        if similar is None or now - similar.last > _SIMILAR_SECONDS:
            similar = _Similar(now)
            _put(self._similar, group, similar)
        similar.last = now
        if message in similar.messages or len(similar.messages) < _SIMILAR:
            similar.messages.add(message)
            return message, single
        return f"(combined from similar events): {message}", group

    def _allowed(self, event: Object, now: float) -> bool:
        about = event["involvedObject"]
        key = (
            event["source"]["component"],
            event["source"].get("host", ""),
            *(about.get(name, "") for name in ("kind", "namespace", "name", "uid", "apiVersion")),
        )
        bucket = _touch(self._buckets, key)
        if bucket is None:
            bucket = _Bucket(_BURST, now)
            _put(self._buckets, key, bucket)
        bucket.tokens = min(_BURST, bucket.tokens + (now - bucket.at) / _REFILL_SECONDS)
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _touch(cache: OrderedDict[_Key, Any], key: _Key) -> Any:
    if key in cache:
        cache.move_to_end(key)
        return cache[key]
    return None


def _put(cache: OrderedDict[_Key, Any], key: _Key, value: Any) -> None:
    cache[key] = value
    cache.move_to_end(key)
    while len(cache) > _CACHE:
        cache.popitem(last=False)


class EventRecorder:
    """Records events in the background; *component* and *host* are their source."""

    def __init__(self, client: Client, component: str, host: str = "") -> None:
        self._client = client
        self._component = component
        self._host = host
        self._queue: asyncio.Queue[Object] = asyncio.Queue(_QUEUE)
        self._idle = asyncio.Event()
        self._idle.set()
        self._correlator = Correlator()

    def event(
        self,
        obj: Object,
        type: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        *,
        field_path: str = "",
    ) -> None:
        """Note that *reason* happened to *obj*, which must carry apiVersion and kind. Never blocks or raises.

        *field_path* names a part of the object, such as ``spec.containers{web}``.
        """
        about: Object = {"apiVersion": obj["apiVersion"], "kind": obj["kind"]}
        for name in ("namespace", "name", "uid", "resourceVersion"):
            if value := obj["metadata"].get(name):
                about[name] = value
        if field_path:
            about["fieldPath"] = field_path
        now = meta.now()
        source = {"component": self._component}
        if self._host:
            source["host"] = self._host
        event: Object = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{about['name'][:236]}.{time.time_ns():016x}",
                "namespace": about.get("namespace") or "default",
            },
            "involvedObject": about,
            "reason": reason,
            "message": message[:1024],
            "source": source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": type,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("too many events at once; left out: %s %s: %s", about["name"], reason, message)
        else:
            self._idle.clear()

    async def flushed(self) -> None:
        """Wait until everything recorded so far has been written or given up."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write events to the server for ever."""
        while True:
            event = await self._queue.get()
            write = self._correlator.correlate(event, time.monotonic())
            if write:
                await self._record(write)
            if self._queue.empty():
                self._idle.set()

    async def _record(self, write: Write) -> None:
        for attempt in range(_TRIES):
            try:
                self._correlator.written(write, await self._send(write))
            except ConnectionFailed as error:
                log.info("cannot write an event yet: %s", error)
                if attempt + 1 < _TRIES:
                    await asyncio.sleep(_RETRY_SECONDS)
            except StatusError as error:
                log.warning("the server refused an event: %s", error)
                return
            else:
                return
        log.warning("gave up on an event: %s", write.event["message"])

    async def _send(self, write: Write) -> Object:
        if write.patch is not None:
            namespace, name = meta.namespace(write.event), meta.name(write.event)
            try:
                return await self._client.patch(CORE_EVENTS, name, namespace, write.patch)
            except StatusError as error:
                if error.code != 404:  # events expire; then it is written anew
                    raise
        return await self._client.create(CORE_EVENTS, write.event)
