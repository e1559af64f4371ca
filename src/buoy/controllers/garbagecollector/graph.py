"""Who owns whom, by uid, and what a change of one object means for others.

Follows k8s.io/kubernetes ``pkg/controller/garbagecollector``, without its virtual nodes: an owner that is not
in the graph is looked up when the dependent is judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.resource import Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner reference."""

    uid: str
    api_version: str
    kind: str
    name: str
    blocks: bool


@dataclass(frozen=True, slots=True)
class Item:
    """What the graph keeps of an object. *foreground*: it waits for its dependents to go first."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    owners: tuple[Owner, ...] = ()
    terminating: bool = False
    foreground: bool = False
    orphaning: bool = False


def owners_of(obj: Object) -> tuple[Owner, ...]:
    return tuple(
        Owner(
            each["uid"], each["apiVersion"], each["kind"], each["name"], bool(each.get("blockOwnerDeletion"))
        )
        for each in obj["metadata"].get("ownerReferences") or ()
    )


def item_of(resource: Resource, obj: Object) -> Item:
    finalizers = obj["metadata"].get("finalizers") or ()
    terminating = meta.is_terminating(obj)
    return Item(
        resource,
        meta.namespace(obj),
        meta.name(obj),
        meta.uid(obj),
        owners_of(obj),
        terminating,
        terminating and FOREGROUND in finalizers,
        terminating and ORPHAN in finalizers,
    )


class Graph:
    """Each change gives the uids that are to be judged anew because of it."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._dependents: dict[str, set[str]] = defaultdict(set)

    def get(self, uid: str) -> Item | None:
        return self._items.get(uid)

    def __contains__(self, uid: str) -> bool:
        return uid in self._items

    def dependents(self, uid: str) -> list[Item]:
        return [self._items[each] for each in self._dependents.get(uid, ())]

    def blocking(self, uid: str) -> list[Item]:
        """Dependents that a foreground deletion of *uid* has to wait for."""
        return [
            item
            for item in self.dependents(uid)
            if any(owner.uid == uid and owner.blocks for owner in item.owners)
        ]

    def observe(self, item: Item) -> set[str]:
        """*item* as it is now."""
        old = self._items.get(item.uid)
        self._items[item.uid] = item
        before = old.owners if old is not None else ()
        if old is not None and old == item:
            return set()
        self._link(item.uid, before, item.owners)
        todo: set[str] = set()
        if item.owners and (old is None or before != item.owners):
            todo.add(item.uid)
        if item.foreground or item.orphaning:
            todo.add(item.uid)
        if item.foreground and not (old and old.foreground):
            todo |= self._dependents.get(item.uid, set())
        # An owner that waits for this one may have nothing to wait for any more.
        todo |= {owner.uid for owner in before if owner not in item.owners and self._waits(owner.uid)}
        return todo

    def forget(self, uid: str) -> set[str]:
        """The object is gone."""
        item = self._items.pop(uid, None)
        if item is None:
            return set()
        self._link(uid, item.owners, ())
        todo = set(self._dependents.get(uid, ()))
        todo |= {owner.uid for owner in item.owners if self._waits(owner.uid)}
        return todo

    def forget_all(self, resource: Resource) -> set[str]:
        """The resource is not served any more, and so are its objects not."""
        gone = [uid for uid, item in self._items.items() if item.resource == resource]
        todo = set().union(*map(self.forget, gone))
        return todo.difference(gone)

    def _waits(self, uid: str) -> bool:
        item = self._items.get(uid)
        return item is not None and (item.foreground or item.orphaning)

    def _link(self, uid: str, before: Iterable[Owner], after: Iterable[Owner]) -> None:
        for owner in before:
            dependents = self._dependents[owner.uid]
            dependents.discard(uid)
            if not dependents:
                del self._dependents[owner.uid]
        for owner in after:
            self._dependents[owner.uid].add(uid)


class Verdict(Enum):
    """What is to be done with an object that has owners."""

    KEEP = "keep"
    DROP_REFERENCES = "drop the references to owners that are gone or going"
    DELETE_FOREGROUND = "delete it, its dependents first"
    DELETE = "delete it"


@dataclass(frozen=True, slots=True)
class Judgement:
    """*drop* are uids of owners that need no longer be mentioned; *unblock*: they must not wait for it."""

    verdict: Verdict
    drop: frozenset[str] = frozenset()
    unblock: bool = False


def judge(graph: Graph, item: Item, owners: Iterable[Owner], exists: Callable[[Owner], bool]) -> Judgement:
    """*owners* are the object's own, as the server has it; *exists* tells if one is alive."""
    owners = tuple(owners)
    if not owners:
        return Judgement(Verdict.KEEP)
    alive = [owner for owner in owners if exists(owner)]
    waiting = [owner for owner in alive if _is_waiting(graph, owner) and owner.blocks]
    solid = [owner for owner in alive if owner not in waiting]
    gone = frozenset(owner.uid for owner in owners if owner not in solid)
    if solid:
        return Judgement(Verdict.DROP_REFERENCES if gone else Verdict.KEEP, gone)
    dependents = graph.dependents(item.uid)
    if waiting and dependents:
        # Owners that wait for each other in a circle would wait for ever.
        return Judgement(Verdict.DELETE_FOREGROUND, unblock=any(each.foreground for each in dependents))
    return Judgement(Verdict.DELETE)


def _is_waiting(graph: Graph, owner: Owner) -> bool:
    item = graph.get(owner.uid)
    return item is not None and item.foreground
