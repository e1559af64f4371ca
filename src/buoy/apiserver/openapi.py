"""OpenAPI documents, made of the models: shapes from their types, documentation from their docstrings.

Nothing is made before it is asked for, and then in a thread; the second time it is there already.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiohttp import web

from buoy import KUBERNETES_VERSION, __version__
from buoy.api.custom.struct import CustomStruct
from buoy.api.kind import Kind
from buoy.api.meta import Object
from buoy.api.models import meta_v1
from buoy.api.schema import Field, Struct, struct_of

from . import gnostic, patch
from .answers import Answer
from .discovery import Discovery, Entry
from .encoding import to_json
from .negotiation import to_yaml
from .rest import generic_not_found

_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_TIME = f"{_META}.Time"
_MICRO_TIME = f"{_META}.MicroTime"
_GVK = "x-kubernetes-group-version-kind"

_PACKAGES = {
    "meta": "io.k8s.apimachinery.pkg.apis.meta",
    "apiextensions": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
}
_PARAMETER = re.compile(r"^\s*\* \*\*(.+?)\*\* ``.*?`` - ?")
_BINARY = frozenset({("Secret", "data"), ("ConfigMap", "binaryData")})


def definition_name(struct: Struct) -> str:
    """``io.k8s.api.core.v1.Pod``."""
    group, _, version = struct.module.rpartition("_")
    return f"{_PACKAGES.get(group, f'io.k8s.api.{group}')}.{version}.{struct.name}"


def name_of(kind: Kind) -> str:
    """The name of a kind's definition: ``io.k8s.api.core.v1.Pod``, ``com.example.stable.v1.CronTab``."""
    if not kind.custom:
        return definition_name(kind.struct)
    resource = kind.resource
    return ".".join([*reversed(resource.group.split(".")), resource.version, resource.kind])


def _for_version_2(schema: Mapping[str, Any]) -> Object:
    """A structural schema without what OpenAPI 2, or kubectl's reading of it, cannot say."""
    result = {name: value for name, value in schema.items() if name not in _ONLY_VERSION_3}
    if schema.get("nullable"):
        for name in ("type", "items", "properties", "additionalProperties"):
            result.pop(name, None)
        return result
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = "string"
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        result.pop("items", None)
        result.pop("properties", None)
    if "properties" in result:
        result["properties"] = {name: _for_version_2(each) for name, each in result["properties"].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(result.get(name), dict):
            result[name] = _for_version_2(result[name])
    return result


_ONLY_VERSION_3 = frozenset(("allOf", "anyOf", "oneOf", "not", "nullable"))


def documentation(model: type) -> tuple[str, dict[str, str]]:
    """A model's own description, and each field's, from its docstring."""
    lines = inspect.cleandoc(model.__doc__ or "").splitlines()
    about: list[str] = []
    fields: dict[str, list[str]] = {}
    current = about
    for line in lines:
        found = _PARAMETER.match(line)
        if found:
            current = fields.setdefault(found[1], [])
            line = line[found.end() :]
        elif line.strip() == "**parameters**":
            current = []
            continue
        if line.strip():
            current.append(line.strip())
    return " ".join(about), {name.rstrip("_"): " ".join(text) for name, text in fields.items()}


class Schemas:
    """The definitions that a set of kinds needs, for OpenAPI version 2 or 3."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.definitions: dict[str, Object] = {}
        self._prefix = "#/definitions/" if version == 2 else "#/components/schemas/"

    def add(self, kind: Kind) -> None:
        resource = kind.resource
        name = name_of(kind)
        if isinstance(kind.struct, CustomStruct):
            self.definitions[name] = self._custom(kind.struct)
        else:
            self._struct(kind.struct)
        gvk = [{"group": resource.group, "kind": resource.kind, "version": resource.version}]
        self.definitions[name][_GVK] = gvk
        self._struct(struct_of(meta_v1.ListMeta))
        self.definitions[f"{name}List"] = {
            "description": f"{resource.kind}List is a list of {resource.kind} objects.",
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string", "description": _API_VERSION},
                "kind": {"type": "string", "description": _KIND},
                "metadata": self._reference(f"{_META}.ListMeta", "Standard list metadata."),
                "items": {
                    "type": "array",
                    "description": f"Items is the list of {resource.kind} objects.",
                    "items": self._reference(name),
                },
            },
            _GVK: [{"group": resource.group, "kind": kind.list_kind, "version": resource.version}],
        }

    def _custom(self, struct: CustomStruct) -> Object:
        self._struct(struct_of(meta_v1.ObjectMeta))
        source = _for_version_2(struct.schema.source) if self.version == 2 else dict(struct.schema.source)
        source["properties"] = {
            **(source.get("properties") or {}),
            "apiVersion": {"type": "string", "description": _API_VERSION},
            "kind": {"type": "string", "description": _KIND},
            "metadata": self._reference(f"{_META}.ObjectMeta", "Standard object's metadata."),
        }
        return source

    def add_delete_options(self) -> None:
        self._struct(struct_of(meta_v1.DeleteOptions))

    def _reference(self, name: str, description: str = "") -> Object:
        reference: Object = {"$ref": self._prefix + name}
        if not description:
            return reference
        if self.version == 2:
            return {"description": description, **reference}
        return {"description": description, "allOf": [reference]}

    def _struct(self, struct: Struct) -> str:
        name = definition_name(struct)
        if name in self.definitions:
            return name
        document: Object = {}
        self.definitions[name] = document
        about, texts = documentation(struct.model)
        document["description"] = about
        document["type"] = "object"
        if struct.required:
            document["required"] = sorted(struct.required)
        properties: Object = {}
        for field_name, field in sorted(struct.fields.items()):
            shown = self._field(field, texts.get(field_name, ""))
            if (struct.name, field_name) in _BINARY:
                shown["additionalProperties"]["format"] = "byte"
            merge = field.merge
            if merge.strategies:
                shown["x-kubernetes-patch-strategy"] = ",".join(merge.strategies)
            if merge.key:
                shown["x-kubernetes-patch-merge-key"] = merge.key
            if merge.map_keys:
                shown["x-kubernetes-list-type"] = "map"
                shown["x-kubernetes-list-map-keys"] = list(merge.map_keys)
            elif field.base == "list":
                shown["x-kubernetes-list-type"] = "set" if merge.merges else "atomic"
            properties[field_name] = shown
        if properties:
            document["properties"] = properties
        return name

    def _field(self, field: Field, description: str = "") -> Object:
        if field.base == "struct":
            assert field.struct is not None
            return self._reference(self._struct(field.struct), description)
        named = self._named(field)
        if named:
            return self._reference(named, description)
        document: Object = {"description": description} if description else {}
        if field.base in ("list", "map"):
            assert field.item is not None
            inner = self._field(field.item)
            if field.base == "list":
                return {**document, "type": "array", "items": inner}
            return {**document, "type": "object", "additionalProperties": inner}
        document["type"] = "object" if field.base == "any" else field.base
        if field.base == "integer":
            document["format"] = field.go
        elif field.base == "number":
            document["format"] = "double"
        return document

    def _named(self, field: Field) -> str:
        """The definition of a type that is not a struct, made if it is the first time."""
        three = self.version == 3
        if field.base == "quantity":
            name = _QUANTITY
            shape: Object = (
                {"oneOf": [{"type": "string"}, {"type": "number"}]} if three else {"type": "string"}
            )
            shape["description"] = (
                "Quantity is a fixed-point representation of a number, such as 500m or 2Gi."
            )
        elif field.int_or_string:
            name = _INT_OR_STRING
            shape = {"oneOf": [{"type": "integer"}, {"type": "string"}]} if three else {"type": "string"}
            shape["format"] = "int-or-string"
            shape["description"] = "IntOrString is a type that can hold an int32 or a string."
        elif field.base == "time":
            name = _MICRO_TIME if field.go == "v1.MicroTime" else _TIME
            shape = {"type": "string", "format": "date-time", "description": "A moment, as in RFC 3339."}
        else:
            return ""
        self.definitions.setdefault(name, shape)
        return name


_API_VERSION = "APIVersion defines the versioned schema of this representation of an object."
_KIND = "Kind is a string value representing the REST resource this object represents."

_QUERY: dict[str, tuple[str, str]] = {
    "pretty": ("string", "Accepted for compatibility; has no effect."),
    "dryRun": ("string", "When present, indicates that modifications should not be persisted. Valid: All."),
    "fieldManager": ("string", "The name of the actor or entity that is making these changes."),
    "fieldValidation": (
        "string",
        "How to handle objects in the request containing unknown or duplicate fields: Ignore, Warn, Strict.",
    ),
    "force": ("boolean", "Force Apply requests to take over fields that other managers own."),
    "labelSelector": ("string", "Restrict the list of returned objects by their labels."),
    "fieldSelector": ("string", "Restrict the list of returned objects by their fields."),
    "limit": ("integer", "The maximum number of responses to return for a list call."),
    "continue": ("string", "The token of a former, incomplete list, to be continued."),
    "resourceVersion": (
        "string",
        "Sets a constraint on what resource versions a request may be served from.",
    ),
    "resourceVersionMatch": ("string", "How resourceVersion is applied to list calls."),
    "sendInitialEvents": ("boolean", "Begin a watch with synthetic events for what exists, and a bookmark."),
    "allowWatchBookmarks": ("boolean", "Requests watch events of the type BOOKMARK."),
    "timeoutSeconds": ("integer", "Timeout for the list or watch call."),
    "watch": ("boolean", "Watch for changes to the described resources."),
    "gracePeriodSeconds": ("integer", "The duration in seconds before the object should be deleted."),
    "propagationPolicy": (
        "string",
        "Whether and how garbage collection is performed: Orphan, Background, Foreground.",
    ),
}
_LIST_QUERY = (
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "allowWatchBookmarks",
    "timeoutSeconds",
    "watch",
)
_WRITE_QUERY = ("dryRun", "fieldManager", "fieldValidation")
_METHODS: dict[str, tuple[str, tuple[str, ...]]] = {
    "list": ("get", _LIST_QUERY),
    "deletecollection": ("delete", ("dryRun", "gracePeriodSeconds", "propagationPolicy", *_LIST_QUERY[:-1])),
    "create": ("post", _WRITE_QUERY),
    "get": ("get", ()),
    "update": ("put", _WRITE_QUERY),
    "patch": ("patch", (*_WRITE_QUERY, "force")),
    "delete": ("delete", ("dryRun", "gracePeriodSeconds", "propagationPolicy")),
}
_ON_COLLECTIONS = ("list", "create", "deletecollection")


class Paths:
    """The operations of a group version."""

    def __init__(self, version: int, schemas: dict[tuple[str, str, str], str]) -> None:
        self._version = version
        self._schemas = schemas
        self._prefix = "#/definitions/" if version == 2 else "#/components/schemas/"

    def of(self, entries: Iterable[Entry]) -> dict[str, Object]:
        found: dict[str, Object] = {}
        for entry in entries:
            for path, verbs, list_only in _places(entry):
                item: Object = {}
                for verb in verbs:
                    if list_only and verb != "list":
                        continue
                    method, query = _METHODS[verb]
                    item[method] = self._operation(entry, verb, query)
                if item:
                    item["parameters"] = [
                        self._parameter(name, "path", "string", _PATH_TEXTS[name])
                        for name in re.findall(r"{(\w+)}", path)
                    ]
                    found.setdefault(path, {}).update(item)
        return found

    def _parameter(self, name: str, where: str, type: str, text: str) -> Object:
        parameter: Object = {"name": name, "in": where, "description": text}
        if where == "path":
            parameter["required"] = True
        if self._version == 2:
            return {**parameter, "type": type, "uniqueItems": True}
        return {**parameter, "schema": {"type": type, "uniqueItems": True}}

    def _operation(self, entry: Entry, verb: str, query: Sequence[str]) -> Object:
        group, version = entry.of or (entry.group, entry.version)
        name = self._schemas.get((group, version, entry.kind), "")
        operation: Object = {
            "description": f"{verb} {entry.name}",
            "operationId": _operation_id(entry, verb),
            "tags": [f"{entry.group.partition('.')[0] or 'core'}_{entry.version}"],
            "x-kubernetes-action": {"create": "post", "update": "put"}.get(verb, verb),
            _GVK: {"group": group, "kind": entry.kind, "version": version},
        }
        parameters = [self._parameter(each, "query", *_QUERY[each]) for each in query]
        answered = self._prefix + name + ("List" if verb == "list" else "") if name else ""
        body = verb in ("create", "update", "patch")
        body_schema: Object = (
            {"type": "object"} if verb == "patch" or not name else {"$ref": self._prefix + name}
        )
        response: Object = {"description": "OK"}
        patches = patch.PATCH_TYPES_OF_CUSTOM if entry.custom else patch.PATCH_TYPES
        if self._version == 2:
            operation["consumes"] = list(patches) if verb == "patch" else ["*/*"]
            operation["produces"] = ["application/json", "application/yaml"]
            if body:
                parameters.append({"name": "body", "in": "body", "required": True, "schema": body_schema})
            if answered:
                response["schema"] = {"$ref": answered}
        else:
            if body:
                kinds = patches if verb == "patch" else ("*/*",)
                operation["requestBody"] = {
                    "required": True,
                    "content": {kind: {"schema": body_schema} for kind in kinds},
                }
            if answered:
                response["content"] = {
                    kind: {"schema": {"$ref": answered}} for kind in ("application/json", "application/yaml")
                }
        operation["parameters"] = parameters
        operation["responses"] = {"200": response, "401": {"description": "Unauthorized"}}
        return operation


_PATH_TEXTS = {
    "name": "name of the object",
    "namespace": "object name and auth scope, such as for teams and projects",
}


def _places(entry: Entry) -> Iterator[tuple[str, list[str], bool]]:
    """The paths of an entry with their verbs; the last item: only a list across namespaces."""
    root = f"/apis/{entry.group}/{entry.version}" if entry.group else f"/api/{entry.version}"
    scope = f"{root}/namespaces/{{namespace}}" if entry.namespaced else root
    name, _, sub = entry.name.partition("/")
    known = [verb for verb in entry.verbs if verb in _METHODS]
    if sub:
        yield f"{scope}/{name}/{{name}}/{sub}", known, False
        return
    yield f"{scope}/{name}", [verb for verb in known if verb in _ON_COLLECTIONS], False
    yield f"{scope}/{name}/{{name}}", [verb for verb in known if verb not in _ON_COLLECTIONS], False
    if entry.namespaced:
        yield f"{root}/{name}", known, True


def _operation_id(entry: Entry, verb: str) -> str:
    group = "".join(part.capitalize() for part in (entry.group.partition(".")[0] or "core").split("-"))
    name, _, sub = entry.name.partition("/")
    action = {"get": "read", "update": "replace", "deletecollection": "deleteCollection"}.get(verb, verb)
    scope = "Namespaced" if entry.namespaced else ""
    return f"{action}{group}{entry.version.capitalize()}{scope}{name.capitalize()}{sub.capitalize()}"


class OpenApi:
    """Serves the documents."""

    def __init__(self, discovery: Discovery) -> None:
        self._lock = asyncio.Lock()
        self._kept: dict[tuple[str, str], bytes] = {}
        self.update(discovery)

    def update(self, discovery: Discovery) -> None:
        """What is discovered has changed; the documents that stay as they were are kept."""
        self._discovery = discovery
        self._hashes = {path: self._hash(group, version) for path, group, version in self._groups()}
        whole = hashlib.sha256("".join(self._hashes.values()).encode()).hexdigest()
        self._hashes[""] = whole
        valid = set(self._hashes.values())
        self._kept = {key: made for key, made in self._kept.items() if key[1] in valid}

    def _hash(self, group: str, version: str) -> str:
        """Names the content of a group version's document."""
        parts = [f"{__version__} {KUBERNETES_VERSION}"]
        parts += [f"{entry.name}{entry.verbs}" for entry in self._entries(group, version)]
        made = hashlib.sha256("\n".join([group, version, *parts]).encode())
        for kind in self._kinds(group, version):
            if isinstance(kind.struct, CustomStruct):
                made.update(to_json(kind.struct.schema.source))
        return made.hexdigest().upper()

    def _entries(self, group: str, version: str) -> list[Entry]:
        return [e for e in self._discovery.entries if (e.group, e.version) == (group, version)]

    def _kinds(self, group: str, version: str) -> list[Kind]:
        return [
            k for k in self._discovery.kinds if (k.resource.group, k.resource.version) == (group, version)
        ]

    async def _made(self, form: str, hash: str, make: Callable[[], bytes]) -> bytes:
        key = form, hash
        found = self._kept.get(key)
        if found is None:
            async with self._lock:
                found = self._kept.get(key)
                if found is None:
                    found = self._kept[key] = await asyncio.to_thread(make)
        return found

    def _groups(self) -> Iterator[tuple[str, str, str]]:
        """Path, group and version of each document of version 3."""
        for group, versions in self._discovery.groups.items():
            for version in versions:
                yield (f"apis/{group}/{version}" if group else f"api/{version}"), group, version

    def _schemas(self, version: int, kinds: Iterable[Kind]) -> Schemas:
        schemas = Schemas(version)
        for kind in kinds:
            schemas.add(kind)
        schemas.add_delete_options()
        return schemas

    def _schema_names(self) -> dict[tuple[str, str, str], str]:
        return {
            (kind.resource.group, kind.resource.version, kind.resource.kind): name_of(kind)
            for kind in self._discovery.kinds
        }

    def document(self, group: str, version: str) -> Object:
        """The OpenAPI 3 document of a group version."""
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
            "paths": Paths(3, self._schema_names()).of(self._entries(group, version)),
            "components": {"schemas": self._schemas(3, self._kinds(group, version)).definitions},
        }

    def swagger(self) -> Object:
        """The one OpenAPI 2 document."""
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
            "paths": Paths(2, self._schema_names()).of(self._discovery.entries),
            "definitions": self._schemas(2, self._discovery.kinds).definitions,
        }

    async def v2(self, accept: str) -> Answer:
        """JSON, or gnostic's protobuf, which kubectl up to 1.26 insists on."""
        whole = self._hashes[""]
        for part in accept.split(","):
            if part.strip().startswith("application/com.github.proto-openapi.spec.v2"):
                body = await self._made("v2 protobuf", whole, lambda: gnostic.encode(self.swagger()))
                return Answer(body, content_type=gnostic.CONTENT_TYPE)
        return Answer(await self._made("v2", whole, lambda: to_json(self.swagger())))

    async def v3(self, path: str, wanted: str, request: web.BaseRequest) -> Answer:
        if not path:
            paths = {
                each: {"serverRelativeURL": f"/openapi/v3/{each}?hash={self._hashes[each]}"}
                for each, _, _ in self._groups()
            }
            return Answer(to_json({"paths": paths}))
        where = next(((group, version) for each, group, version in self._groups() if each == path), None)
        if where is None:
            raise generic_not_found()
        mine = self._hashes[path]
        headers = [("ETag", f'"{mine}"'), ("Vary", "Accept, Accept-Encoding")]
        if wanted == mine:
            headers.append(("Cache-Control", "public, immutable, max-age=31536000"))
        if request.headers.get("If-None-Match") == f'"{mine}"':
            return Answer(b"", 304, headers=tuple(headers))
        body = await self._made("v3", mine, lambda: to_json(self.document(*where)))
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            plain = body
            body = await self._made("v3 gzip", mine, lambda: gzip.compress(plain, 5, mtime=0))
            headers.append(("Content-Encoding", "gzip"))
        if "yaml" in request.headers.get("Accept", "") and "json" not in request.headers["Accept"]:
            body = await self._made("v3 yaml", mine, lambda: to_yaml(self.document(*where)))
            return Answer(body, content_type="application/yaml")
        return Answer(body, headers=tuple(headers))
