"""The verbs on resources: what a request's URL, headers and body mean, and what is answered."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from buoy.api import apply, meta, selectors
from buoy.api.meta import Object
from buoy.api.resource import NAMESPACES, PODS, SERVICES, Resource
from buoy.api.schema import TypeMismatch
from buoy.api.status import StatusError, bad_request, expired, invalid, invalid_object, required
from buoy.store import Record

from . import negotiation, patch, protobuf
from .answers import JSON, Answer, Streamed, error_answer, warning_header
from .attributes import Attributes
from .authorization import Authorizer
from .encoding import to_json
from .negotiation import Accepted
from .registry import DeleteOptions, Registry, User, Write, too_large
from .requestinfo import RequestInfo
from .views import Form, Partial, Served, Table, Whole
from .watch import Hub, Watcher, frame

MOST_BODY_BYTES = 3 << 20
_BODY_SECONDS = 60.0
_STREAMS = ("exec", "attach", "portforward")
_SHORTEST_WATCH = 1800
_FUTURE_REVISION_SECONDS = 3.0

Matches = Callable[[Object], bool]
Result = Answer | Streamed
Subresource = Callable[["Call"], Awaitable[Result]]


class Call:
    """One request on a resource, with all that a handler may ask of it."""

    __slots__ = ("info", "request", "served", "user")

    def __init__(self, request: web.BaseRequest, info: RequestInfo, user: User, served: Served) -> None:
        self.request = request
        self.info = info
        self.user = user
        self.served = served

    def write(self, subresource: str = "") -> Write:
        """The circumstances of the write that this request is. Raises StatusError 400."""
        for value in self.info.query.get("dryRun", ()):
            if value not in ("", "All"):
                raise StatusError(
                    422,
                    "Invalid",
                    f'{self.served.resource.kind}Options "" is invalid: dryRun: Unsupported value: '
                    f'["{value}"]: supported values: "All"',
                )
        agent = self.request.headers.get("User-Agent", "").partition("/")[0]
        manager = self.info.value("fieldManager") or agent or "unknown"
        return Write(self.user, self.info.value("dryRun") == "All", subresource, manager)


def generic_not_found() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed() -> StatusError:
    return StatusError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {}
    )


async def read_body(request: web.BaseRequest, limit: int = MOST_BODY_BYTES) -> bytes:
    """The request's whole body. Raises StatusError 413; 504 if it does not come."""
    if not request.body_exists:
        return b""
    content = request.content
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while chunk := await content.readany():
                size += len(chunk)
                if size > limit:
                    fault = f"Request entity too large: limit is {limit}"
                    raise StatusError(413, "RequestEntityTooLarge", fault, {})
                chunks.append(chunk)
    except TimeoutError:
        fault = "request did not complete within the allotted timeout"
        raise StatusError(504, "Timeout", f"Timeout: {fault}", {}) from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class Rest:
    """Handles every request on a resource that is kept in the store."""

    def __init__(self, registry: Registry, hub: Hub, authorizer: Authorizer) -> None:
        self.registry = registry
        self._authorizer = authorizer
        self.hub = hub
        self.subresources: dict[tuple[Resource, str], Subresource] = {}
        self.scale: Subresource | None = None

    def find(self, info: RequestInfo) -> Served | None:
        return self.registry.at(info.group, info.version, info.resource)

    def knows(self, info: RequestInfo) -> bool:
        """Whether a request is on a resource, or a subresource, that there is."""
        served = self.find(info)
        if served is None:
            return False
        kind, subresource = served.kind, info.subresource
        return (
            subresource in ("", *_STREAMS)
            or (subresource == "status" and kind.has_status)
            or (subresource == "scale" and kind.scale is not None)
            or (served.resource, subresource) in self.subresources
        )

    async def handle(self, request: web.BaseRequest, info: RequestInfo, user: User, served: Served) -> Result:
        """Answer a request. Raises StatusError."""
        deprecated = served.kind.deprecated
        if not deprecated:
            return await self._handle(request, info, user, served)
        try:
            result = await self._handle(request, info, user, served)
        except StatusError as error:
            result = error_answer(error)
        if isinstance(result, Answer):
            result.headers += (warning_header(deprecated),)
        return result

    async def _handle(
        self, request: web.BaseRequest, info: RequestInfo, user: User, served: Served
    ) -> Result:
        if info.namespace and not served.resource.namespaced and info.resource != "namespaces":
            raise generic_not_found()
        call = Call(request, info, user, served)
        if info.subresource:
            return await self._subresource(call)
        if not info.name:
            match info.verb:
                case "list":
                    return await self._list(call)
                case "watch":
                    return await self._watch(call)
                case "create":
                    if served.resource.namespaced and not info.namespace:
                        raise method_not_allowed()
                    return await self._create(call)
                case "deletecollection":
                    return await self._delete_collection(call)
            raise method_not_allowed()
        if served.resource.namespaced and not info.namespace:
            raise generic_not_found()
        match info.verb:
            case "get":
                return await self._get(call)
            case "update":
                return await self._update(call)
            case "patch":
                return await self._patch(call)
            case "delete":
                return await self._delete(call)
            case "watch":
                return await self._watch(call)
        raise method_not_allowed()

    # Forms

    def form(self, call: Call, accepted: Accepted) -> Form:
        decoded = self.registry.decoded
        if accepted.form == "Table":
            include = call.info.value("includeObject") or "Metadata"
            if include not in ("None", "Metadata", "Object"):
                raise bad_request(f"unrecognized includeObject value: {json.dumps(include)}")
            return Table(call.served, decoded, accepted.version, include)
        if accepted.form:
            return Partial(call.served, decoded, accepted.version)
        return Whole(call.served, decoded)

    def _accepted(self, call: Call, *, stream: bool = False) -> Accepted:
        return negotiation.accepted(call.request.headers.get("Accept", ""), stream=stream)

    def one(self, call: Call, record: Record, status: int = 200, warnings: Iterable[str] = ()) -> Answer:
        """Answer with one object, in the form that the client wants."""
        accepted = self._accepted(call)
        body = self.form(call, accepted).one(record)
        return finish(body, accepted, status, warnings)

    # Reading

    async def _get(self, call: Call) -> Result:
        record = await self.registry.get(call.served, self._namespace(call), call.info.name)
        return self.one(call, record)

    @staticmethod
    def _namespace(call: Call) -> str:
        return call.info.namespace if call.served.resource.namespaced else ""

    def selection(self, call: Call) -> tuple[Matches | None, str]:
        """The only name that is selected, if there is but one, and what must hold besides, None for nothing.

        Raises StatusError 400.
        """
        info = call.info
        label_text, field_text = info.value("labelSelector"), info.value("fieldSelector")
        only = info.name
        if not label_text and not field_text:
            return None, only
        try:
            labels = selectors.parse(label_text)
            fields = selectors.parse_fields(field_text)
        except selectors.SelectorError as error:
            raise bad_request(str(error)) from None
        known: dict[str, Callable[[Object], str]] = {"metadata.name": meta.name}
        if call.served.resource.namespaced:
            known["metadata.namespace"] = meta.namespace
        kind = call.served.kind
        known.update(kind.selectable_fields)
        for requirement in fields.requirements:
            if requirement.field not in known:
                if kind.selectable_fields:
                    raise bad_request(f"field label not supported: {requirement.field}")
                raise bad_request(
                    f'"{requirement.field}" is not a known field selector: only "metadata.name", '
                    '"metadata.namespace"'
                )
        only = only or fields.exact("metadata.name") or ""
        if labels.empty and [each.field for each in fields.requirements] == ["metadata.name"] and only:
            return None, only
        seen = call.served.seen

        def matches(stored: Object) -> bool:
            if not labels.empty and not labels.matches(meta.labels(stored)):
                return False
            if fields.empty:
                return True
            return fields.matches(seen(stored), known)

        return matches, only

    async def _select(
        self, call: Call, *, revision: int | None = None, after: str = "", limit: int = 0
    ) -> tuple[list[Record], int, bool, int | None]:
        """Records, their revision, whether the limit cut them short, and how many remain if that is known."""
        matches, only = self.selection(call)
        namespace = self._namespace(call)
        page = await self.registry.page(
            call.served, namespace, revision=revision, after=after, limit=0 if matches or only else limit
        )
        if only:
            ending = f"/{only}"
            found = [record for record in page.records if record.key.endswith(ending)]
            if matches is not None:
                found = [record for record in found if matches(self.registry.decoded.get(record))]
            return found, page.revision, False, None
        if matches is None:
            return list(page.records), page.revision, page.more, page.remaining
        decoded = self.registry.decoded
        found = [record for record in page.records if matches(decoded.get(record))]
        more = bool(limit) and len(found) > limit
        return (found[:limit] if more else found), page.revision, more, None

    async def _list(self, call: Call) -> Result:
        info = call.info
        limit = _number(info, "limit")
        token = info.value("continue")
        match = info.value("resourceVersionMatch")
        version = info.value("resourceVersion")
        if match and match not in ("Exact", "NotOlderThan"):
            raise _bad_list_option(
                f"resourceVersionMatch: Unsupported value: {json.dumps(match)}: "
                'supported values: "Exact", "NotOlderThan"'
            )
        if match and not version:
            raise _bad_list_option(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless "
                "resourceVersion is provided"
            )
        if match and token:
            raise _bad_list_option(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided"
            )
        if match == "Exact" and version == "0":
            raise _bad_list_option(
                'resourceVersionMatch: Forbidden: resourceVersionMatch "Exact" is forbidden '
                'for resourceVersion "0"'
            )
        revision: int | None = None
        after = ""
        if token:
            if version and version != "0":
                raise bad_request("specifying resource version is not allowed when using continue")
            revision, after = _read_token(call.served, token)
        elif version and version != "0":
            number = _revision(version)
            if match == "Exact" or (limit and not match):
                revision = number
            elif number > self.hub.revision and not await self.hub.reached(number, _FUTURE_REVISION_SECONDS):
                raise too_large(number, self.hub.revision)
        try:
            records, at, more, remaining = await self._select(
                call, revision=revision, after=after, limit=limit
            )
        except StatusError as error:
            if error.code != 410 or not token:
                raise
            raise expired(_CONTINUE_TOO_OLD) from None
        metadata: Object = {"resourceVersion": str(at)}
        if more:
            metadata["continue"] = _make_token(at, records[-1].key[len(call.served.prefix) :])
            if remaining:
                metadata["remainingItemCount"] = remaining
        accepted = self._accepted(call)
        return finish(self.form(call, accepted).list(records, metadata), accepted)

    # Watching

    async def _watch(self, call: Call) -> Result:
        info, request = call.info, call.request
        accepted = self._accepted(call, stream=True)
        form = self.form(call, accepted)
        matches, only = self.selection(call)
        version = info.value("resourceVersion")
        initial = info.query.get("sendInitialEvents")
        wants_initial = bool(initial) and info.flag("sendInitialEvents")
        match = info.value("resourceVersionMatch")
        bookmarks = info.flag("allowWatchBookmarks")
        if initial and match != "NotOlderThan":
            raise _bad_list_option(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting "
                "resourceVersionMatch to NotOlderThan"
            )
        if not initial and match:
            raise _bad_list_option(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch "
                "unless sendInitialEvents is provided"
            )
        number = _revision(version) if version else 0
        timeout = _number(info, "timeoutSeconds") or random.randint(  # noqa: S311
            _SHORTEST_WATCH, 2 * _SHORTEST_WATCH
        )
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")

        def send(data: bytes) -> int:
            transport.write(data)
            return transport.get_write_buffer_size()

        watcher = Watcher(call.served.prefix, self._namespace(call), form, send, only, matches, bookmarks)
        records: list[Record] = []
        if wants_initial or (not initial and not number):
            if number and not await self.hub.reached(number, _FUTURE_REVISION_SECONDS):
                raise too_large(number, self.hub.revision)
            records, number, _, _ = await self._select(call)
        elif not number:
            number = self.hub.revision
        keep_alive = request.keep_alive
        transport.write(
            b"HTTP/1.1 200 OK\r\nCache-Control: no-cache, private\r\nContent-Type: %b\r\n"
            b"Transfer-Encoding: chunked\r\n%b\r\n"
            % (form.content_type.encode(), b"" if keep_alive else b"Connection: close\r\n")
        )
        on_close(request, watcher.close)
        try:
            decoded = self.registry.decoded
            for record in records:
                watcher.send(frame(form.event("ADDED", record, partial(decoded.get, record))))
            if wants_initial and bookmarks:
                watcher.bookmark(number, initial_events_end=True)
            try:
                self.hub.subscribe(watcher, number)
            except StatusError as error:
                transport.write(frame(b'{"type":"ERROR","object":%b}\n' % to_json(error.to_object())))
            else:
                await asyncio.wait((watcher.closed,), timeout=timeout)
                if bookmarks and not watcher.closed.done():
                    watcher.bookmark(self.hub.revision)
        finally:
            self.hub.unsubscribe(watcher)
            watcher.close()
        if not transport.is_closing():
            transport.write(b"0\r\n\r\n")
        return Streamed(keep_alive)

    # Writing

    async def decode(self, call: Call, body: bytes, write: Write, served: Served | None = None) -> Object:
        """The object in *body*, fitted to its kind. Raises StatusError 400, 415."""
        content_type = call.request.headers.get("Content-Type", "")
        if content_type.startswith(protobuf.CONTENT_TYPE) and not protobuf.knows(call.served.struct):
            raise patch.unsupported(content_type, ("application/json", "application/yaml"))
        obj = negotiation.parse_body(body, content_type)
        return fit(obj, body, served or call.served, call.info.value("fieldValidation"), write)

    async def _create(self, call: Call) -> Result:
        write = call.write()
        obj = await self.decode(call, await read_body(call.request), write)
        record = await self.registry.create(call.served, self._namespace(call), obj, write)
        return self.one(call, record, 201, write.warnings)

    async def _update(self, call: Call, subresource: str = "") -> Result:
        write = call.write(subresource)
        obj = await self.decode(call, await read_body(call.request), write)
        record = await self.registry.update(call.served, self._namespace(call), call.info.name, obj, write)
        return self.one(call, record, warnings=write.warnings)

    def patcher(
        self, call: Call, body: bytes, write: Write, struct: Any = None
    ) -> Callable[[Object], Object]:
        """The function that applies the patch in *body* to an object. Raises StatusError 400, 415."""
        content_type = call.request.headers.get("Content-Type", "").partition(";")[0].strip()
        known = patch.PATCH_TYPES_OF_CUSTOM if call.served.kind.custom and not struct else patch.PATCH_TYPES
        if content_type not in known or content_type == patch.APPLY_PATCH:
            raise patch.unsupported(content_type, known)
        try:
            decoded = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise bad_request(f"error decoding patch: {error}") from None
        struct = struct or call.served.struct
        apply = patch.compile_patch(content_type, decoded, struct)
        validation = call.info.value("fieldValidation") or "Warn"

        def mutate(obj: Object) -> Object:
            new = apply(obj)
            if not isinstance(new.get("metadata"), dict):
                raise bad_request("metadata is not an object")
            try:
                unknown = struct.conform(new)
            except TypeMismatch as error:
                raise _bad_patch(body, str(error)) from None
            faults = [f'unknown field "{path}"' for path in unknown]
            if faults and validation == "Strict":
                raise _bad_patch(body, "strict decoding error: " + ", ".join(faults))
            if validation == "Warn":
                write.warnings[:] = faults
            return new

        return mutate

    async def _patch(self, call: Call, subresource: str = "") -> Result:
        write = call.write(subresource)
        if call.request.headers.get("Content-Type", "").partition(";")[0].strip() == patch.APPLY_PATCH:
            return await self._apply(call, write)
        mutate = self.patcher(call, await read_body(call.request), write)
        record = await self.registry.change(call.served, self._namespace(call), call.info.name, mutate, write)
        return self.one(call, record, warnings=write.warnings)

    async def _apply(self, call: Call, write: Write) -> Result:
        """Server-side apply: create the object, or bring it to what is applied."""
        served, name = call.served, call.info.name
        namespace = self._namespace(call)
        if not call.info.value("fieldManager"):
            fault = required("fieldManager", "is required for apply patch")
            raise invalid_object("meta.k8s.io", "PatchOptions", "", [fault])
        body = await read_body(call.request)
        wanted = negotiation.parse_yaml(body)
        _check_applied(wanted, served, name)
        wanted = fit(wanted, body, served, "Strict", write)
        if write.subresource != "status":
            wanted.pop("status", None)
        resource = served.resource
        manager = apply.Manager(write.manager, "Apply", resource.api_version, write.subresource, meta.now())
        write.applied = True

        def normalise(obj: Object) -> Object:
            copy: Object = msgspec.json.decode(to_json(obj))
            served.kind.default(copy)
            return copy

        def mutate(obj: Object) -> Object:
            try:
                return apply.apply(
                    obj,
                    wanted,
                    served.struct,
                    manager,
                    force=call.info.flag("force"),
                    normalise=normalise,
                )
            except apply.Conflicts as error:
                raise StatusError(409, "Conflict", str(error), {"causes": error.causes}) from None

        while True:
            try:
                record = await self.registry.change(served, namespace, name, mutate, write)
                return self.one(call, record, warnings=write.warnings)
            except StatusError as error:
                if (
                    error.code != 404
                    or write.subresource
                    or await self.registry.exists(served, namespace, name)
                ):
                    raise
            await self._require_create(call)
            new = msgspec.json.decode(to_json(wanted))
            new["metadata"]["managedFields"] = apply.first(wanted, served.struct, manager)
            try:
                record = await self.registry.create(served, namespace, new, write)
                return self.one(call, record, 201, write.warnings)
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise

    async def _require_create(self, call: Call) -> None:
        """That one may patch is known already. Raises StatusError 403."""
        info, resource = call.info, call.served.resource
        wanted = Attributes("create", resource.group, resource.plural, "", info.namespace, info.name)
        await self._authorizer.require(call.user, wanted)

    async def _delete(self, call: Call) -> Result:
        write = call.write()
        options = await self._delete_options(call, write)
        record, gone = await self.registry.delete(
            call.served, self._namespace(call), call.info.name, options, write
        )
        resource = call.served.resource
        if gone and resource not in _RETURNED_WHEN_DELETED:
            obj = self.registry.decoded.get(record) if not options.dry_run else {}
            details: Object = {"name": call.info.name}
            if resource.group:
                details["group"] = resource.group
            details["kind"] = resource.plural
            uid = (obj.get("metadata") or {}).get("uid")
            if uid:
                details["uid"] = uid
            status = {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": details,
            }
            return finish(to_json(status), self._accepted(call))
        return self.one(call, record)

    async def _delete_options(self, call: Call, write: Write) -> DeleteOptions:
        info = call.info
        body = await read_body(call.request)
        given: Object = {}
        if body.strip():
            given = negotiation.parse_body(body, call.request.headers.get("Content-Type", ""))
            if not isinstance(given, dict):
                raise bad_request("the body is not DeleteOptions")
        return delete_options(given, info, write)

    async def _delete_collection(self, call: Call) -> Result:
        if call.served.resource.namespaced and not call.info.namespace:
            raise method_not_allowed()
        if call.served.resource == NAMESPACES:
            raise method_not_allowed()
        write = call.write()
        options = await self._delete_options(call, write)
        records, at, _, _ = await self._select(call)
        deleted = []
        for record in records:
            obj = self.registry.decoded.get(record)
            try:
                last, _ = await self.registry.delete(
                    call.served, meta.namespace(obj), meta.name(obj), options, write
                )
            except StatusError as error:
                if error.code != 404:
                    raise
            else:
                deleted.append(last)
        accepted = self._accepted(call)
        body = self.form(call, accepted).list(deleted, {"resourceVersion": str(at)})
        return finish(body, accepted)

    # Subresources

    async def _subresource(self, call: Call) -> Result:
        info, kind = call.info, call.served.kind
        handler = self.subresources.get((call.served.resource, info.subresource))
        if info.subresource == "scale" and kind.scale is not None:
            handler = self.scale
        if handler is not None:
            return await handler(call)
        if info.subresource == "status" and kind.has_status:
            match info.verb:
                case "get":
                    return await self._get(call)
                case "update":
                    return await self._update(call, "status")
                case "patch":
                    return await self._patch(call, "status")
            raise method_not_allowed()
        raise generic_not_found()


_CONTINUE_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a "
    "new list without the continue parameter, or use the continue token in this response to retrieve the "
    "remainder of the results. Continuing with the provided token results in an inconsistent list - objects "
    "that were created, modified, or deleted between the time the first chunk was returned and now may show "
    "up in the list."
)
_RETURNED_WHEN_DELETED = frozenset({PODS, SERVICES})


def fit(obj: Any, body: bytes, served: Served, validation: str, write: Write) -> Object:
    """*obj*, decoded from *body*, as an object of its kind; what is wrong with it, refused or warned of."""
    resource = served.resource
    if not isinstance(obj, dict):
        raise bad_request(
            "couldn't get version/kind; json parse error: json: cannot unmarshal "
            f"{'array' if isinstance(obj, list) else 'value'} into Go value of type struct "
            '{ APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
        )
    api_version = obj.get("apiVersion") or resource.api_version
    kind = obj.get("kind") or resource.kind
    if api_version != resource.api_version:
        raise bad_request(
            f"the API version in the data ({api_version}) does not match the expected API version "
            f"({resource.api_version})"
        )
    if kind != resource.kind:
        raise bad_request(f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}')
    prefix = f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
    count = to_json(obj).count(b'":') if validation != "Ignore" else -1
    try:
        unknown = served.struct.conform(obj)
    except TypeMismatch as error:
        raise bad_request(prefix + str(error)) from None
    if validation == "Ignore":
        return obj
    faults = [f'unknown field "{path}"' for path in unknown]
    if count != body.count(b'":') and body.lstrip()[:1] == b"{":
        # Fewer keys than the text seems to have: perhaps one of them was given twice.
        faults += [f'duplicate field "{path}"' for path in negotiation.DuplicateFields(body).paths]
    if faults:
        if validation == "Strict":
            raise bad_request(f"{prefix}strict decoding error: {', '.join(faults)}")
        if validation not in ("", "Warn"):
            raise bad_request(
                f"fieldValidation: Unsupported value: {json.dumps(validation)}: supported values: "
                '"Ignore", "Strict", "Warn"'
            )
        write.warnings.extend(faults)
    return obj


def _check_applied(wanted: Any, served: Served, name: str) -> None:
    """Raises StatusError 400 for what cannot be applied here."""
    if not isinstance(wanted, dict):
        raise bad_request("error decoding YAML: the body is not an object")
    for field, value in (("apiVersion", served.resource.api_version), ("kind", served.resource.kind)):
        if not wanted.get(field):
            raise bad_request(
                f"Object '{field[0].upper()}{field[1:]}' is missing in the applied configuration"
            )
        if wanted[field] != value:
            raise bad_request(f"{field} {wanted[field]} does not match the URL's {value}")
    metadata = wanted.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise bad_request("metadata is not an object")
    if metadata.get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    if metadata.setdefault("name", name) != name:
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
        )


def delete_options(given: Object, info: RequestInfo, write: Write) -> DeleteOptions:
    """From a ``DeleteOptions`` body and the query. Raises StatusError 422."""
    grace = given.get("gracePeriodSeconds")
    if grace is None and info.value("gracePeriodSeconds"):
        grace = _number(info, "gracePeriodSeconds")
    propagation = given.get("propagationPolicy") or info.value("propagationPolicy")
    orphan = given.get("orphanDependents")
    if orphan is None and info.value("orphanDependents"):
        orphan = info.flag("orphanDependents")
    if propagation and orphan is not None:
        raise invalid_object(
            "",
            "DeleteOptions",
            "",
            [
                invalid(
                    "propagationPolicy",
                    propagation,
                    "orphanDependents and deletionPropagation cannot be both set",
                )
            ],
        )
    if propagation not in ("", "Orphan", "Background", "Foreground"):
        raise invalid_object(
            "meta.k8s.io",
            "DeleteOptions",
            "",
            [
                invalid(
                    "propagationPolicy", propagation, 'must be one of "Foreground", "Background", "Orphan"'
                )
            ],
        )
    if orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    preconditions = given.get("preconditions") or {}
    if "All" in (given.get("dryRun") or ()):
        write.dry_run = True
    return DeleteOptions(
        grace,
        preconditions.get("uid") or "",
        preconditions.get("resourceVersion") or "",
        propagation or "",
        write.dry_run,
    )


def finish(body: bytes, accepted: Accepted, status: int = 200, warnings: Iterable[str] = ()) -> Answer:
    """An answer of JSON bytes in the media type that was accepted."""
    headers = tuple(warning_header(text) for text in dict.fromkeys(warnings))  # a retried write warns again
    if accepted.media == "yaml":
        return Answer(negotiation.to_yaml(msgspec.json.decode(body)), status, "application/yaml", headers)
    return Answer(body, status, JSON, headers)


def on_close(request: web.BaseRequest, callback: Callable[[], None]) -> None:
    """Call back when the client's connection ends. Raises ConnectionResetError if it has already."""
    _connection(request).on_close(callback)


@contextlib.contextmanager
def while_connected(request: web.BaseRequest, callback: Callable[[], object]) -> Iterator[None]:
    """As `on_close`, until the block is left: for what comes again and again on one connection."""
    connection = _connection(request)
    connection.on_close(callback)
    try:
        yield
    finally:
        connection.forget(callback)


def _connection(request: web.BaseRequest) -> Any:
    transport = request.transport
    protocol: Any = transport.get_protocol() if transport is not None else None
    if protocol is None:
        raise ConnectionResetError("the client has gone")
    return protocol


def _number(info: RequestInfo, parameter: str) -> int:
    text = info.value(parameter)
    if not text:
        return 0
    try:
        return max(int(text), 0)
    except ValueError:
        raise bad_request(
            f"unable to decode query parameters: strconv.ParseInt: parsing {json.dumps(text)}: invalid syntax"
        ) from None


def _revision(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    raise bad_request(
        f"resourceVersion: Invalid value: {json.dumps(text)}: strconv.ParseUint: parsing {json.dumps(text)}: "
        "invalid syntax"
    )


def _bad_list_option(text: str) -> StatusError:
    return StatusError(422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {text}')


def _bad_patch(body: bytes, fault: str) -> StatusError:
    return invalid_object("", "", "", [invalid("patch", body.decode("utf-8", "replace"), fault)])


def _make_token(revision: int, start: str) -> str:
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start + "\0"}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_token(served: Served, token: str) -> tuple[int, str]:
    try:
        value = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(value["rv"]), served.prefix + str(value["start"]).removesuffix("\0")
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise bad_request(f"continue key is not valid: {error}") from None
