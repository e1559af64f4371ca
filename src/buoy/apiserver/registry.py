"""Objects over the store: create, read, update, delete, with all that Kubernetes promises about them.

The order of a write is that of k8s.io/apiserver's generic registry: default, admit, prepare, allocate,
validate, store.
"""

from __future__ import annotations

import datetime
import logging
import secrets
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from buoy.api import apply, meta
from buoy.api.kind import Kind
from buoy.api.meta import Object
from buoy.api.resource import NAMESPACES, PODS, Resource
from buoy.api.status import (
    StatusError,
    already_exists,
    bad_request,
    conflict,
    expired,
    invalid_object,
    not_found,
    required,
)
from buoy.store import (
    Compacted,
    FutureRevision,
    KeyExists,
    KeyNotFound,
    Page,
    Record,
    RevisionConflict,
    Store,
)

from .encoding import Decoded, decode, encode
from .views import Served

log = logging.getLogger(__name__)

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_LONGEST_GENERATED = 63
_SUFFIX = 5
_NAME_TRIES = 8

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"


@dataclass(frozen=True, slots=True)
class User:
    """Who asks. *extra* holds what authentication knows beyond the name and groups."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    grace_period: int | None = None
    uid: str = ""
    resource_version: str = ""
    propagation: str = ""
    dry_run: bool = False


@dataclass(slots=True)
class Write:
    """The circumstances of a write. An *applied* object comes with its managedFields."""

    user: User
    dry_run: bool = False
    subresource: str = ""
    manager: str = "unknown"
    applied: bool = False
    warnings: list[str] = field(default_factory=list)


class Reservation(Protocol):
    """Something taken for a write that has not happened yet."""

    def commit(self) -> None:
        """The write is on disk."""
        ...

    def rollback(self) -> None:
        """The write did not happen."""
        ...


class Allocator(Protocol):
    """Gives an object what must not be given twice: addresses, ports."""

    def reserve(self, new: Object, old: Object | None) -> Reservation:
        """Fill *new* in place and hold what it takes. Raises StatusError."""
        ...

    def release(self, old: Object) -> None:
        """The object is gone."""
        ...


class Admission(Protocol):
    """The rules that need to see more than one object."""

    async def admit(self, kind: Kind, new: Object, old: Object | None, write: Write) -> None:
        """Change *new* in place, or refuse it by a StatusError. Called before validation."""
        ...

    async def admit_delete(self, kind: Kind, old: Object, write: Write) -> None: ...

    async def admit_token(self, namespace: str, account: str, spec: Object, user: User) -> None:
        """*user* asks for a token of the service account; *spec* is a ``TokenRequest``'s."""
        ...


class Registry:
    """Every kind's objects."""

    def __init__(self, store: Store, kinds: Iterable[Kind], decoded: Decoded) -> None:
        self.store = store
        self.decoded = decoded
        self.served: dict[Resource, Served] = {}
        self._offered: dict[tuple[str, str, str], Served] = {}
        for kind in kinds:
            self.serve(kind)
        self.admission: Admission | None = None
        self.allocators: dict[Resource, Allocator] = {}

    # What there is

    def serve(self, kind: Kind, *, offered: bool = True) -> None:
        """Take up a kind. One that is not *offered* is only there to be stored."""
        served = self.served[kind.resource] = Served(kind)
        if offered:
            self._offered[kind.resource[:3]] = served

    def withdraw(self, kinds: Iterable[Kind]) -> None:
        for kind in kinds:
            del self.served[kind.resource]
            self._offered.pop(kind.resource[:3], None)

    def at(self, group: str, version: str, plural: str) -> Served | None:
        """What is offered under a URL."""
        return self._offered.get((group, version, plural))

    @property
    def offered(self) -> list[Kind]:
        return [served.kind for served in self._offered.values()]

    # Reading

    async def get(self, served: Served, namespace: str, name: str) -> Record:
        record = await self.store.get(served.key(namespace, name))
        if record is None:
            raise not_found(served.resource, name)
        return record

    async def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """The object, shared (not to be changed), or None."""
        record = await self.store.get(self.served[resource].key(namespace, name))
        return None if record is None else self.decoded.get(record)

    async def exists(self, served: Served, namespace: str, name: str) -> bool:
        return await self.store.get(served.key(namespace, name)) is not None

    async def page(
        self, served: Served, namespace: str, *, revision: int | None = None, after: str = "", limit: int = 0
    ) -> Page:
        """Raises StatusError 410 for a forgotten revision, 504 for one that has not come."""
        prefix = f"{served.prefix}{namespace}/" if namespace else served.prefix
        try:
            return await self.store.list(prefix, revision=revision, after=after, limit=limit)
        except Compacted:
            raise expired("The resourceVersion for the provided list is too old.") from None
        except FutureRevision as error:
            raise too_large(revision or 0, int(error.args[0])) from None

    # Writing

    async def create(self, served: Served, namespace: str, obj: Object, write: Write) -> Record:
        """Store a new object; *obj* becomes what is stored."""
        kind = served.kind
        metadata = obj.setdefault("metadata", {})
        if not isinstance(metadata, dict):
            raise bad_request("metadata is not an object")
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        _place(served, namespace, metadata)
        prefix = str(metadata.get("generateName") or "")
        generated = not metadata.get("name") and bool(prefix)
        tries = _NAME_TRIES if generated else 1
        for attempt in range(tries):
            if generated:
                metadata["name"] = generate_name(prefix)
            try:
                return await self._create_once(served, kind, obj, write)
            except KeyExists:
                if attempt == tries - 1:
                    error = already_exists(served.resource, metadata["name"])
                    if generated:
                        error.message += ", the server was not able to generate a unique name for the object"
                    raise error from None
                obj["metadata"] = metadata
        raise AssertionError("unreachable")

    async def _create_once(self, served: Served, kind: Kind, obj: Object, write: Write) -> Record:
        resource = served.resource
        metadata = obj["metadata"]
        for unset in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"):
            metadata.pop(unset, None)
        if not write.applied:
            metadata.pop("managedFields", None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = meta.now()
        obj["kind"], obj["apiVersion"] = resource.kind, resource.api_version
        if kind.has_generation:
            metadata["generation"] = 1
        kind.default(obj)
        if self.admission is not None:
            await self.admission.admit(kind, obj, None, write)
        kind.prepare(obj, None)
        allocator = self.allocators.get(resource)
        reservation = allocator.reserve(obj, None) if allocator else None
        done = False
        try:
            name = metadata.get("name") or ""
            errors = (
                list(kind.validate(obj, None))
                if name
                else [required("metadata.name", "name or generateName is required")]
            )
            if errors:
                raise invalid_object(resource.group, resource.kind, name, errors)
            write.warnings.extend(kind.warn(obj))
            key = served.key(metadata.get("namespace", ""), name)
            value = encode(self._stored(served, obj))
            if write.dry_run:
                if (existing := await self.store.get(key)) is not None:
                    raise KeyExists(existing)
                return Record(key, value, 0)
            revision = await self.store.create(key, value)
            done = True
        finally:
            if reservation is not None:
                if done:
                    reservation.commit()
                else:
                    reservation.rollback()
        return Record(key, value, revision)

    def _stored(self, served: Served, obj: Object) -> Object:
        if served.kind.view is None:
            return obj
        stored = served.kind.view.store(obj)
        self.served[served.kind.view.of].kind.default(stored)
        return stored

    async def update(self, served: Served, namespace: str, name: str, obj: Object, write: Write) -> Record:
        """Replace the object (or the part of it that ``write.subresource`` names) by *obj*."""
        metadata = obj.setdefault("metadata", {})
        if not metadata.get("name"):
            raise bad_request(
                f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )
        if metadata["name"] != name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )
        _place(served, namespace, metadata)
        version = metadata.pop("resourceVersion", None) or ""
        uid = metadata.get("uid")

        def replace(old: Object) -> Object:
            if uid and uid != old["metadata"].get("uid"):
                raise conflict(
                    served.resource,
                    name,
                    f"Precondition failed: UID in precondition: {uid}, "
                    f"UID in object meta: {old['metadata'].get('uid')}",
                )
            return {**obj, "metadata": dict(metadata)}

        return await self.change(served, namespace, name, replace, write, version=version)

    async def change(
        self,
        served: Served,
        namespace: str,
        name: str,
        mutate: Callable[[Object], Object],
        write: Write,
        *,
        version: str = "",
    ) -> Record:
        """Store ``mutate(object)``, again and again until nobody else was faster.

        *mutate* gets an object of its own. With *version*, the object must be at that resourceVersion. A
        resourceVersion in the mutated object, other than the one it had, is such a condition too.
        """
        key = served.key(namespace, name)
        while True:
            record = await self.store.get(key)
            if record is None:
                raise not_found(served.resource, name)
            if version and version != str(record.revision):
                raise conflict(served.resource, name)
            old = served.seen(self.decoded.get(record))
            new = mutate(served.seen(decode(record.value, record.revision)))
            wanted = new["metadata"].pop("resourceVersion", None)
            if wanted and wanted != str(record.revision):
                raise conflict(served.resource, name)
            try:
                return await self._store_change(served, record, old, new, write)
            except RevisionConflict:
                if version:
                    raise conflict(served.resource, name) from None
            except KeyNotFound:
                raise not_found(served.resource, name) from None

    async def _store_change(
        self, served: Served, record: Record, old: Object, new: Object, write: Write
    ) -> Record:
        kind, resource = served.kind, served.resource
        old_metadata = old["metadata"]
        metadata = new["metadata"]
        name = old_metadata["name"]
        new["kind"], new["apiVersion"] = resource.kind, resource.api_version
        for kept in _SYSTEM_FIELDS if write.applied else (*_SYSTEM_FIELDS, "managedFields"):
            if kept in old_metadata:
                metadata[kept] = old_metadata[kept]
            else:
                metadata.pop(kept, None)
        metadata.pop("selfLink", None)
        if write.subresource == "status":
            if kind.custom:
                # Other kinds may change their labels and finalizers with the status, custom ones may not.
                metadata = {**old_metadata, "managedFields": metadata.get("managedFields")}
            new = {**old, "metadata": metadata, "status": new.get("status", {})}
        kind.default(new)
        if self.admission is not None:
            await self.admission.admit(kind, new, old, write)
        allocator = None
        if not write.subresource:
            kind.prepare(new, old)
            allocator = self.allocators.get(resource)
        reservation = allocator.reserve(new, old) if allocator else None
        done = False
        try:
            if write.subresource == "status":
                errors: Sequence[object] = kind.validate_status(new, old) if kind.validate_status else ()
            elif write.subresource in ("", "scale"):
                errors = kind.validate(new, old)
            else:
                errors = ()
            if errors:
                raise invalid_object(resource.group, resource.kind, name, list(errors))  # type: ignore[arg-type]
            if not write.subresource:
                write.warnings.extend(kind.warn(new))
            if kind.has_generation and write.subresource != "status" and _spec_changed(kind, new, old):
                metadata["generation"] = old_metadata.get("generation", 0) + 1
            metadata.pop("resourceVersion", None)
            if not write.applied:
                _set_managers(served, new, old, write)
            if _gone(new, old):
                if write.dry_run:
                    return record
                revision = await self.store.delete(record.key, record.revision)
                done = True
                value = encode(self._stored(served, new))
                self._deleted(served, old)
                return Record(record.key, value, revision)
            metadata["resourceVersion"] = str(record.revision)
            stored = self._stored(served, new)
            if new == old and (kind.view is None or stored == self.decoded.get(record)):
                return record
            value = encode(stored)
            if write.dry_run:
                return Record(record.key, value, record.revision)
            revision = await self.store.update(record.key, value, record.revision)
            done = True
            return Record(record.key, value, revision)
        finally:
            if reservation is not None:
                if done:
                    reservation.commit()
                else:
                    reservation.rollback()

    def _deleted(self, served: Served, old: Object) -> None:
        allocator = self.allocators.get(served.resource)
        if allocator is not None:
            allocator.release(old)

    # Deleting

    async def delete(
        self, served: Served, namespace: str, name: str, options: DeleteOptions, write: Write
    ) -> tuple[Record, bool]:
        """The object's last record, and whether it is gone (else it is on its way: finalizers, grace)."""
        key = served.key(namespace, name)
        resource = served.resource
        while True:
            record = await self.store.get(key)
            if record is None:
                raise not_found(resource, name)
            shared = self.decoded.get(record)
            if options.uid and options.uid != shared["metadata"].get("uid"):
                raise conflict(
                    resource,
                    name,
                    f"Precondition failed: UID in precondition: {options.uid}, "
                    f"UID in object meta: {shared['metadata'].get('uid')}",
                )
            if options.resource_version and options.resource_version != str(record.revision):
                raise conflict(
                    resource,
                    name,
                    f"Precondition failed: ResourceVersion in precondition: {options.resource_version}, "
                    f"ResourceVersion in object meta: {record.revision}",
                )
            if self.admission is not None:
                await self.admission.admit_delete(served.kind, shared, write)
            obj = decode(record.value, record.revision)
            changed, at_once = _mark_deleted(served.kind, obj, options)
            try:
                if at_once:
                    if not options.dry_run:
                        revision = await self.store.delete(key, record.revision)
                        self._deleted(served, shared)
                        return Record(key, record.value, revision), True
                    return record, True
                if not changed:
                    return record, False
                value = encode(obj)
                if options.dry_run:
                    return Record(key, value, record.revision), False
                revision = await self.store.update(key, value, record.revision)
                return Record(key, value, revision), False
            except RevisionConflict:
                if options.resource_version:
                    raise conflict(resource, name) from None
            except KeyNotFound:
                raise not_found(resource, name) from None


_SYSTEM_FIELDS = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
)


def too_large(revision: int, current: int) -> StatusError:
    return StatusError(
        504,
        "Timeout",
        f"Too large resource version: {revision}, current: {current}",
        {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
    )


def generate_name(prefix: str) -> str:
    """*prefix* and five random characters, as ``metadata.generateName`` wants it."""
    prefix = prefix[: _LONGEST_GENERATED - _SUFFIX]
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX))


def _place(served: Served, namespace: str, metadata: Object) -> None:
    """The URL says where an object lives; the object may say the same."""
    if not served.resource.namespaced:
        if metadata.get("namespace"):
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        metadata.pop("namespace", None)
        return
    given = metadata.get("namespace")
    if given and given != namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = namespace


def _set_managers(served: Served, new: Object, old: Object, write: Write) -> None:
    """Keep account of who owns what, if anybody has ever applied the object."""
    entries = old["metadata"].get("managedFields")
    if entries and write.subresource in ("", "scale"):
        manager = apply.Manager(
            write.manager, "Update", served.resource.api_version, write.subresource, meta.now()
        )
        entries = apply.track(new, old, served.struct, manager)
    if entries:
        new["metadata"]["managedFields"] = entries
    else:
        new["metadata"].pop("managedFields", None)


def _spec_changed(kind: Kind, new: Object, old: Object) -> bool:
    """Whether anything but metadata and status differs; a status without a subresource is like the rest."""
    if new.get("spec") != old.get("spec"):
        return True
    ignored = _NO_SPEC if kind.has_status or not kind.custom else _NO_SPEC - {"status"}
    return any(new.get(name) != old.get(name) for name in new.keys() | old.keys() if name not in ignored)


_NO_SPEC = frozenset(("metadata", "status", "spec", "kind", "apiVersion"))


def _gone(new: Object, old: Object) -> bool:
    """Whether this update takes the last hold of an object that is being deleted."""
    metadata = new["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if metadata.get("deletionGracePeriodSeconds"):
        return False
    if new["kind"] == "Namespace" and new["apiVersion"] == "v1":
        return not (new.get("spec") or {}).get("finalizers")
    return True


def _later(moment: str, seconds: int) -> str:
    return meta.format_time(meta.parse_time(moment) + datetime.timedelta(seconds=seconds))


def _mark_deleted(kind: Kind, obj: Object, options: DeleteOptions) -> tuple[bool, bool]:
    """Bring *obj* to what a delete makes of it: (it has changed, it can go at once)."""
    metadata = obj["metadata"]
    before = (metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds"))
    if not metadata.get("deletionTimestamp"):
        kind.begin_delete(obj)
    finalizers = list(metadata.get("finalizers") or ())
    for finalizer, policies in ((ORPHAN, ("Orphan",)), (FOREGROUND, ("Foreground",))):
        if options.propagation in policies:
            if finalizer not in finalizers:
                finalizers.append(finalizer)
        elif options.propagation and finalizer in finalizers:
            finalizers.remove(finalizer)
    finalizers_changed = finalizers != list(metadata.get("finalizers") or ())
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)

    grace = _grace(kind, obj, options)
    now = meta.now()
    if metadata.get("deletionTimestamp"):
        existing = metadata.get("deletionGracePeriodSeconds") or 0
        if grace < existing:
            metadata["deletionTimestamp"] = _later(metadata["deletionTimestamp"], grace - existing)
            metadata["deletionGracePeriodSeconds"] = grace
    elif grace or finalizers or _holds_itself(kind, obj):
        metadata["deletionTimestamp"] = _later(now, grace)
        metadata["deletionGracePeriodSeconds"] = grace
        if metadata.get("generation"):
            metadata["generation"] += 1
        if kind.resource == NAMESPACES:
            obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
    at_once = not finalizers and not _holds_itself(kind, obj) and not grace
    if metadata.get("deletionTimestamp") and metadata.get("deletionGracePeriodSeconds"):
        at_once = False
    after = (metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds"))
    return before != after or finalizers_changed, at_once


def _holds_itself(kind: Kind, obj: Object) -> bool:
    return kind.resource == NAMESPACES and bool((obj.get("spec") or {}).get("finalizers"))


def _grace(kind: Kind, obj: Object, options: DeleteOptions) -> int:
    """Seconds that the object may take to end: only Pods have any, and only once they run on a node."""
    if kind.resource != PODS:
        return 0
    spec = obj.get("spec") or {}
    grace = options.grace_period
    if grace is None:
        grace = obj["metadata"].get("deletionGracePeriodSeconds") if _terminating(obj) else None
    if grace is None:
        grace = spec.get("terminationGracePeriodSeconds", 30)
    if not spec.get("nodeName") or (obj.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        grace = 0
    return max(grace, 1) if grace < 0 else int(grace)


def _terminating(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))
