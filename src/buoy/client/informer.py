"""A cache of one resource, kept current by list and watch."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable
from contextlib import aclosing

from ..api import meta
from ..api.meta import Object
from ..api.resource import Resource
from ..api.status import StatusError
from .http import Client, ConnectionFailed

log = logging.getLogger(__name__)

_PAGE = 500
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 2.0

Handler = Callable[[Object | None, Object | None], None]
IndexKeys = Callable[[Object], Iterable[str]]


class _Index:
    def __init__(self, keys: IndexKeys) -> None:
        self.keys = keys
        self.members: dict[str, dict[str, Object]] = {}

    def replace(self, key: str, old: Object | None, new: Object | None) -> None:
        for value in set(self.keys(old)) if old is not None else ():
            members = self.members[value]
            del members[key]
            if not members:
                del self.members[value]
        for value in set(self.keys(new)) if new is not None else ():
            self.members.setdefault(value, {})[key] = new  # type: ignore[assignment]


class Informer:
    """All objects of *resource*, in *namespace* and matching the selectors if given, in memory.

    Keys are ``namespace/name``. The objects are shared: never change one. They come without
    ``metadata.managedFields``. *transform* may give something smaller to keep instead of an object; name,
    namespace, uid and resourceVersion in its metadata must stay.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        transform: Callable[[Object], Object] | None = None,
    ) -> None:
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._transform = transform
        self._items: dict[str, Object] = {}
        self._indices: dict[str, _Index] = {}
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()

    @property
    def resource(self) -> Resource:
        return self._resource

    def get(self, key: str) -> Object | None:
        return self._items.get(key)

    def items(self) -> Collection[Object]:
        """A live view of all objects."""
        return self._items.values()

    def add_index(self, name: str, keys: IndexKeys) -> None:
        """Make objects findable by whatever *keys* gives for them. To be called before `run`."""
        self._indices[name] = _Index(keys)

    def by_index(self, name: str, value: str) -> list[Object]:
        return list(self._indices[name].members.get(value, {}).values())

    def subscribe(self, handler: Handler) -> None:
        """Have ``handler(old, new)`` called for every change, in order, after the cache has it.

        An added object comes with old None, a deleted one with new None; *old* is always the object that was
        *new* before. What is in the cache already is reported as added at once. A handler must not raise.
        """
        self._handlers.append(handler)
        for obj in list(self._items.values()):
            handler(None, obj)

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    async def synced(self) -> None:
        """Wait until the first list is in the cache and has been reported."""
        await self._synced.wait()

    async def run(self) -> None:
        """Follow the server for ever: through lost connections, restarts and compactions."""
        version = ""
        delay = 0.0
        while True:
            try:
                if not version:
                    version = await self._list()
                    self._synced.set()
                async with aclosing(
                    self._client.watch(
                        self._resource,
                        self._namespace,
                        label_selector=self._label_selector,
                        field_selector=self._field_selector,
                        resource_version=version,
                        bookmarks=True,
                    )
                ) as events:
                    async for kind, obj in events:
                        if kind != "BOOKMARK":
                            self._apply(kind, obj)
                        version = obj["metadata"]["resourceVersion"]
                        delay = 0.0
            except StatusError as error:
                log.log(
                    logging.INFO if error.code == 410 else logging.WARNING,
                    "%s: %s",
                    self._resource.plural,
                    error,
                )
                if error.code not in (429, 500, 502, 503):
                    version = ""  # 410, or a version that the server has never heard of
            except OSError as error:
                log.log(
                    logging.DEBUG if delay else logging.WARNING,  # once an outage
                    "%s: %s; reconnecting",
                    self._resource.plural,
                    error,
                )
            if delay:
                await asyncio.sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311
            delay = min(max(2 * delay, _FIRST_DELAY), _LONGEST_DELAY)

    async def _list(self) -> str:
        try:
            found = await self._pages(_PAGE)
        except StatusError as error:
            if error.code != 410:
                raise
            found = await self._pages(0)  # compacted between two pages; in one piece that cannot happen
        objects, version = found
        for obj in [old for key, old in self._items.items() if key not in objects]:
            self._change(meta.key(obj), None)
        for key, obj in objects.items():
            self._change(key, obj)
        return version

    async def _pages(self, limit: int) -> tuple[dict[str, Object], str]:
        objects: dict[str, Object] = {}
        token = ""
        while True:
            page = await self._client.list(
                self._resource,
                self._namespace,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
                limit=limit,
                continue_token=token,
            )
            for obj in page.items:
                objects[meta.key(obj)] = obj
            token = page.continue_token
            if not token:
                return objects, page.resource_version

    def _apply(self, kind: str, obj: Object) -> None:
        if kind == "DELETED":
            self._change(meta.key(obj), None)
        elif kind in ("ADDED", "MODIFIED"):
            self._change(meta.key(obj), obj)
        else:
            raise ConnectionFailed(f"{self._resource.plural}: unknown watch event {kind!r}")

    def _change(self, key: str, new: Object | None) -> None:
        old = self._items.get(key)
        if old is None and new is None:
            return
        if old is not None and new is not None:
            was, now = old["metadata"], new["metadata"]
            if was.get("resourceVersion") == now.get("resourceVersion"):
                return
            if was.get("uid") != now.get("uid"):  # deleted and made anew while nobody looked
                self._change(key, None)
                old = None
        if new is None:
            del self._items[key]
        else:
            new["metadata"].pop("managedFields", None)
            if self._transform:
                new = self._transform(new)
            self._items[key] = new
        for index in self._indices.values():
            index.replace(key, old, new)
        for handler in self._handlers:
            handler(old, new)
