"""ControllerRevisions: what StatefulSets and DaemonSets remember of their templates, for rollout and undo."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from buoy.api import meta, pods
from buoy.api.meta import Object
from buoy.api.resource import CONTROLLER_REVISIONS
from buoy.api.status import StatusError
from buoy.client import Client


@dataclass(frozen=True, slots=True)
class History:
    """*update* is the present template's revision, to be created if *new*, to be written if *moved*."""

    update: Object
    new: bool = False
    moved: bool = False


def data_of(owner: Object) -> Object:
    """The patch that takes a set back to this revision."""
    return {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}


def template_of(revision: Object) -> Object:
    template = revision["data"]["spec"]["template"]
    return {key: value for key, value in template.items() if key != "$patch"}


def number(revision: Object) -> int:
    return int(revision.get("revision") or 0)


def plan(owner: Object, revisions: Iterable[Object], hash_label: str) -> History:
    """*revisions* are those that *owner* controls. An old template that is back gets the highest number."""
    ordered = sorted(revisions, key=lambda each: (number(each), meta.name(each)))
    data = data_of(owner)
    following = number(ordered[-1]) + 1 if ordered else 1
    for each in reversed(ordered):
        if each.get("data") == data:
            if each is ordered[-1]:
                return History(each)
            return History({**each, "revision": following}, moved=True)
    template = owner["spec"]["template"]
    short = pods.template_hash(template, (owner.get("status") or {}).get("collisionCount"))
    labels = (template.get("metadata") or {}).get("labels") or {}
    made: Object = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{meta.name(owner)}-{short}",
            "namespace": meta.namespace(owner),
            "labels": {**labels, hash_label: short},
            "annotations": meta.annotations(owner),
            "ownerReferences": [meta.owner_reference(owner)],
        },
        "data": data,
        "revision": following,
    }
    return History(made, new=True)


def superfluous(revisions: Iterable[Object], used: Collection[str], limit: int) -> list[Object]:
    """The oldest revisions beyond *limit*; those whose name is in *used* don't count."""
    unused = [each for each in revisions if meta.name(each) not in used]
    unused.sort(key=number)
    return unused[: max(0, len(unused) - limit)]


class NameTaken(Exception):
    """Another template has the revision's name: the owner's ``collisionCount`` must rise."""


async def write(client: Client, history: History, obsolete: Sequence[Object]) -> Object:
    """Create or renumber the update revision, and delete the *obsolete*. Raises NameTaken, StatusError."""
    update = history.update
    if history.new:
        try:
            update = await client.create(CONTROLLER_REVISIONS, update)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
            existing = await client.get(CONTROLLER_REVISIONS, meta.name(update), meta.namespace(update))
            if existing.get("data") != update["data"]:
                raise NameTaken(meta.name(update)) from None
            update = existing
    elif history.moved:
        update = await client.update(CONTROLLER_REVISIONS, update)
    for each in obsolete:
        try:
            await client.delete(
                CONTROLLER_REVISIONS, meta.name(each), meta.namespace(each), uid=meta.uid(each)
            )
        except StatusError as error:
            if error.code != 404:
                raise
    return update
