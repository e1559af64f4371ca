"""The kinds that a definition makes: one for each version, like any that is declared in code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import formats
from ..kind import AGE_COLUMN, NAME_COLUMN, Column, Kind, Scale, View
from ..meta import Object
from ..metadata import validating
from ..resource import Resource, version_rank
from ..status import FieldError
from .fitting import copy, default, prune
from .jsonpath import compile_path, show
from .reading import has_status, storage_version, versions
from .rules import check_rules
from .schema import MISSING, Schema
from .struct import CustomStruct
from .validation import validate


def kinds_of(definition: Object) -> list[Kind]:
    """Every version's kind, also of those that are not served; the one that is stored comes first."""
    storage = storage_version(definition)
    schemas = {each["name"]: _schema(each) for each in versions(definition)}
    ordered = sorted(versions(definition), key=lambda version: version is not storage)
    return [_kind(definition, each, storage, schemas) for each in ordered]


def _schema(version: Object) -> Schema:
    return Schema(version["schema"]["openAPIV3Schema"], root=True)


def resource_of(definition: Object, version: str) -> Resource:
    spec = definition["spec"]
    accepted = definition["status"]["acceptedNames"]
    return Resource(
        spec["group"], version, accepted["plural"], accepted["kind"], spec["scope"] == "Namespaced"
    )


def _kind(definition: Object, version: Object, storage: Object, schemas: dict[str, Schema]) -> Kind:
    accepted = definition["status"]["acceptedNames"]
    resource = resource_of(definition, version["name"])
    schema = schemas[version["name"]]
    status = has_status(version)

    def judge(new: Object, old: Object | None) -> Sequence[FieldError]:
        before = MISSING if old is None else old
        found = validate(new, schema, old=before)
        # A rule may rely on the types that the schema gives.
        return found or check_rules(new, schema, before)

    rule = validating(formats.dns_subdomain, judge, namespaced=resource.namespaced)
    return Kind(
        resource=resource,
        model=CustomStruct(resource.kind, schema),
        singular=accepted.get("singular") or "",
        short_names=tuple(accepted.get("shortNames") or ()),
        categories=tuple(accepted.get("categories") or ()),
        columns=_columns(version),
        has_status=status,
        has_generation=True,
        view=_view(definition, resource, storage, schemas),
        scale=_scale(version),
        default=lambda obj: default(obj, schema),
        prepare=_keep_status if status else lambda new, old: None,
        validate=rule,
        validate_status=rule if status else None,
        selectable_fields={
            field["jsonPath"].removeprefix("."): _selected(field["jsonPath"])
            for field in version.get("selectableFields") or ()
        },
        list_name=accepted.get("listKind") or "",
        deprecated=_warning(definition, version),
    )


def _keep_status(new: Object, old: Object | None) -> None:
    if old is not None and "status" in old:
        new["status"] = old["status"]
    else:
        new.pop("status", None)


def _view(definition: Object, resource: Resource, storage: Object, schemas: dict[str, Schema]) -> View | None:
    """How stored objects become this version's.

    A definition that was never changed has had every stored object through its storage version's schema:
    there is nothing to do for it.
    """
    if resource.version == storage["name"] and definition["metadata"].get("generation") == 1:
        return None
    group = resource.group

    def through(obj: Object, version: str) -> Object:
        schema = schemas.get(version)
        if schema is not None:
            prune(obj, schema)
            default(obj, schema)
        return obj

    def show_object(stored: Object) -> Object:
        obj = through(copy(stored), stored["apiVersion"].rpartition("/")[2])
        obj["apiVersion"] = resource.api_version
        return through(obj, resource.version)

    def store_object(obj: Object) -> Object:
        if resource.version == storage["name"]:
            return obj
        stored = copy(obj)
        stored["apiVersion"] = f"{group}/{storage['name']}"
        return through(stored, storage["name"])

    return View(resource._replace(version=storage["name"]), show_object, store_object)


def _columns(version: Object) -> tuple[Column, ...]:
    declared = version.get("additionalPrinterColumns")
    if not declared:
        return (NAME_COLUMN, AGE_COLUMN)
    return (NAME_COLUMN, *map(_column, declared))


def _column(declared: Object) -> Column:
    return Column(
        declared["name"],
        _cell(declared["jsonPath"], declared["type"]),
        declared["type"],
        wide=bool(declared.get("priority")),
        format=declared.get("format") or "",
        description=declared.get("description") or "",
    )


_CLASSES: dict[str, type | tuple[type, ...]] = {"boolean": bool, "number": (int, float), "date": str}


def _cell(path: str, type: str) -> Callable[[Object], Any]:
    find = compile_path(path)

    def cell(obj: Object) -> Any:
        found = find(obj)
        if not found or found[0] is None:
            return None
        if type == "string":
            return " ".join(map(show, found))
        value = found[0]
        if type == "integer":
            whole = isinstance(value, int | float) and not isinstance(value, bool)
            return int(value) if whole else None
        return value if isinstance(value, _CLASSES[type]) else None

    return cell


def _selected(path: str) -> Callable[[Object], str]:
    find = compile_path(path)

    def value(obj: Object) -> str:
        found = find(obj)
        return show(found[0]) if found else ""

    return value


def _scale(version: Object) -> Scale | None:
    scale = (version.get("subresources") or {}).get("scale")
    if scale is None:
        return None
    return Scale(scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath") or "")


def _warning(definition: Object, version: Object) -> str:
    if not version.get("deprecated"):
        return ""
    if version.get("deprecationWarning"):
        return str(version["deprecationWarning"])
    spec = definition["spec"]
    group, kind, name = spec["group"], spec["names"]["kind"], version["name"]
    text = f"{group}/{name} {kind} is deprecated"
    better = [
        each["name"]
        for each in versions(definition)
        if each["served"] and not each.get("deprecated") and version_rank(each["name"]) < version_rank(name)
    ]
    return f"{text}; use {group}/{min(better, key=version_rank)} {kind}" if better else text
