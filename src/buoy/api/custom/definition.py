"""CustomResourceDefinition: its defaults, and what is wrong with one.

After k8s.io/apiextensions-apiserver's ``apis/apiextensions/v1`` and ``apis/apiextensions/validation``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import formats
from ..kind import NAME_COLUMN, Column, Kind
from ..meta import Object
from ..metadata import immutable, validating
from ..models import apiextensions_v1
from ..resource import CUSTOM_RESOURCE_DEFINITIONS
from ..status import FieldError, duplicate, forbidden_field, invalid, not_supported, required
from .jsonpath import BadPath, compile_path
from .naming import begin_delete
from .reading import API_APPROVED, has_status, holds, is_protected, storage_version, versions
from .rules import fault_of
from .structural import check

_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_MOST_SELECTABLE = 8


def default_definition(definition: Object) -> None:
    spec = definition.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if names.get("kind"):
        names.setdefault("listKind", f"{names['kind']}List")
        names.setdefault("singular", names["kind"].lower())
    spec.setdefault("conversion", {"strategy": "None"})
    hook = (spec["conversion"].get("webhook") or {}).get("clientConfig") or {}
    if hook.get("service"):
        hook["service"].setdefault("port", 443)


def prepare(new: Object, old: Object | None) -> None:
    """Status is the server's; what is stored now is known from the start."""
    if old is not None:
        new["status"] = old.get("status", {})
    elif any(each.get("storage") for each in versions(new)):
        new["status"] = {"conditions": [], "acceptedNames": {"plural": "", "kind": ""}}
        new["status"]["storedVersions"] = [storage_version(new).get("name") or ""]
    if old is None:
        return
    current = next((each.get("name") for each in versions(new) if each.get("storage")), None)
    stored = new["status"].get("storedVersions") or []
    if current and current not in stored:
        new["status"] = {**new["status"], "storedVersions": [*stored, current]}


def _validate(new: Object, old: Object | None) -> Sequence[FieldError]:
    return [*_spec(new), *_approval(new), *(_changes(new, old) if old is not None else ())]


def _validate_name(new: Object) -> Iterator[FieldError]:
    spec = new["spec"]
    wanted = f"{(spec.get('names') or {}).get('plural', '')}.{spec.get('group', '')}"
    if new["metadata"].get("name") != wanted:
        yield invalid(
            "metadata.name", new["metadata"].get("name"), 'must be spec.names.plural+"."+spec.group'
        )


def _changes(new: Object, old: Object) -> Iterator[FieldError]:
    spec, before = new["spec"], old["spec"]
    names, old_names = spec["names"], before["names"]
    if holds(old, "Established"):
        yield from immutable("spec.scope", spec.get("scope"), before.get("scope"))
        yield from immutable("spec.names.kind", names.get("kind"), old_names.get("kind"))
    yield from immutable("spec.group", spec.get("group"), before.get("group"))
    yield from immutable("spec.names.plural", names.get("plural"), old_names.get("plural"))
    known = {each.get("name") for each in versions(new)}
    for index, stored in enumerate((new.get("status") or {}).get("storedVersions") or ()):
        if stored not in known:
            yield invalid(
                f"status.storedVersions[{index}]",
                stored,
                f"missing from spec.versions; {stored} was previously a storage version, and must remain in "
                "spec.versions until a storage migration ensures no data remains persisted in "
                f"{stored} and removes {stored} from status.storedVersions",
            )


def _approval(new: Object) -> Iterator[FieldError]:
    """Groups of the Kubernetes community ask for its approval (KEP-1111)."""
    if not is_protected(new["spec"].get("group") or ""):
        return
    given = (new["metadata"].get("annotations") or {}).get(API_APPROVED, "")
    path = f"metadata.annotations[{API_APPROVED}]"
    if not given:
        yield required(
            path,
            f'protected groups must have approval annotation "{API_APPROVED}", '
            "see https://github.com/kubernetes/enhancements/pull/1111",
        )
    elif not given.startswith(("unapproved", "https://", "http://")):
        yield invalid(
            path,
            given,
            f'protected groups must have approval annotation "{API_APPROVED}" with either a URL or a reason '
            'starting with "unapproved", see https://github.com/kubernetes/enhancements/pull/1111',
        )


def _spec(definition: Object) -> Iterator[FieldError]:
    spec = definition["spec"]
    yield from _validate_name(definition)
    group = spec.get("group") or ""
    if not group:
        yield required("spec.group")
    elif found := formats.dns_subdomain(group):
        yield invalid("spec.group", group, ",".join(found))
    elif "." not in group:
        yield invalid("spec.group", group, "should be a domain with at least one dot")
    scope = spec.get("scope") or ""
    if not scope:
        yield required("spec.scope")
    elif scope not in ("Cluster", "Namespaced"):
        yield not_supported("spec.scope", scope, ("Cluster", "Namespaced"))
    if spec.get("preserveUnknownFields"):
        yield invalid("spec.preserveUnknownFields", True, _NO_PRESERVING)
    yield from _versions(spec.get("versions") or [])
    names = spec.get("names") or {}
    for name in ("plural", "singular", "kind", "listKind"):
        if not names.get(name):
            yield required(f"spec.names.{name}")
    yield from _names(names, "spec.names")
    yield from _conversion(spec.get("conversion") or {}, "spec.conversion")


_NO_PRESERVING = (
    "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
)


def _versions(found: Sequence[Object]) -> Iterator[FieldError]:
    path = "spec.versions"
    names = [each.get("name") or "" for each in found]
    for index, version in enumerate(found):
        here = f"{path}[{index}]"
        if faults := formats.dns_1035_label(names[index]):
            yield invalid(f"{here}.name", names[index], ",".join(faults))
        yield from _version(version, here)
    if len(set(names)) < len(names):
        yield invalid(path, list(found), "must contain unique version names")
    if sum(bool(each.get("storage")) for each in found) != 1:
        yield invalid(path, list(found), "must have exactly one version marked as storage version")


def _version(version: Object, path: str) -> Iterator[FieldError]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    here = f"{path}.schema.openAPIV3Schema"
    if schema is None:
        yield required(here, "schemas are required")
    else:
        if has_status(version) and schema.get("type") not in (None, "object"):
            yield invalid(
                f"{here}.type",
                schema["type"],
                'only "object" is allowed as the type at the root of the schema if the status subresource is '
                "enabled",
            )
        yield from check(schema, here, fault_of)
    warning = version.get("deprecationWarning")
    if warning is not None:
        if not version.get("deprecated"):
            yield invalid(f"{path}.deprecationWarning", warning, "can only be set for deprecated versions")
        if formats.size(warning) > 256:
            yield invalid(f"{path}.deprecationWarning", warning, "must be <= 256 bytes")
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        yield from _column(column, f"{path}.additionalPrinterColumns[{index}]")
    yield from _scale(version, path)
    yield from _selectable(version.get("selectableFields") or [], schema or {}, f"{path}.selectableFields")


def _column(column: Object, path: str) -> Iterator[FieldError]:
    if not column.get("name"):
        yield required(f"{path}.name")
    kind = column.get("type") or ""
    choices = ",".join(_COLUMN_TYPES)
    if not kind:
        yield required(f"{path}.type", f"must be one of {choices}")
    elif kind not in _COLUMN_TYPES:
        yield invalid(f"{path}.type", kind, f"must be one of {choices}")
    if column.get("format") and column["format"] not in _COLUMN_FORMATS:
        choices = ",".join(_COLUMN_FORMATS)
        yield invalid(f"{path}.format", column["format"], f"must be one of {choices}")
    if not column.get("jsonPath"):
        yield required(f"{path}.jsonPath")
    else:
        yield from _json_path(column["jsonPath"], f"{path}.jsonPath")


def _json_path(text: str, path: str) -> Iterator[FieldError]:
    if not text.startswith("."):
        yield invalid(path, text, "must be a simple json path starting with .")
        return
    try:
        compile_path(text)
    except BadPath as error:
        yield invalid(path, text, str(error))


def _scale(version: Object, path: str) -> Iterator[FieldError]:
    scale = (version.get("subresources") or {}).get("scale")
    if scale is None:
        return
    for name, root, needed in (
        ("specReplicasPath", ".spec.", True),
        ("statusReplicasPath", ".status.", True),
        ("labelSelectorPath", "", False),
    ):
        text, here = scale.get(name) or "", f"{path}.subresources.scale.{name}"
        if not text:
            if needed:
                yield required(here)
            continue
        roots = (root,) if root else (".spec.", ".status.")
        faults = list(_json_path(text, here))
        if not faults and not text.startswith(roots):
            shown = " or ".join(each.rstrip(".") for each in roots)
            yield invalid(here, text, f"should be a json path under {'either ' * (not root)}{shown}")
        yield from faults


def _selectable(fields: Sequence[Object], schema: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    if len(fields) > _MOST_SELECTABLE:
        yield FieldError(
            "FieldValueTooMany",
            path,
            f"Too many: {len(fields)}: must have at most {_MOST_SELECTABLE} items",
        )
    seen = set()
    for index, field in enumerate(fields):
        here, text = f"{path}[{index}].jsonPath", field.get("jsonPath") or ""
        if not text:
            yield required(here)
            continue
        if text in seen:
            yield duplicate(here, text)
        seen.add(text)
        if not text.startswith("."):
            yield invalid(here, text, "is an invalid path: must be a simple json path starting with .")
            continue
        node: Any = schema
        for name in text[1:].split("."):
            node = ((node or {}).get("properties") or {}).get(name)
        if text.startswith(".metadata"):
            yield invalid(here, text, "must not point to fields in metadata")
        elif node is None:
            yield invalid(here, text, "is an invalid path: does not refer to a valid field")
        elif node.get("type") not in ("string", "boolean", "integer"):
            yield invalid(
                here,
                text,
                "must point to a field of type string, boolean or integer. Enum string fields and strings "
                "with formats are allowed.",
            )


def _names(names: Object, path: str) -> Iterator[FieldError]:
    for name in ("plural", "singular"):
        text = names.get(name) or ""
        if text and (faults := formats.dns_1035_label(text)):
            yield invalid(f"{path}.{name}", text, ",".join(faults))
    for name in ("kind", "listKind"):
        text = names.get(name) or ""
        if text and (faults := formats.dns_1035_label(text.lower())):
            fault = "may have mixed case, but should otherwise match: " + ",".join(faults)
            yield invalid(f"{path}.{name}", text, fault)
    for name in ("shortNames", "categories"):
        for index, text in enumerate(names.get(name) or ()):
            if faults := formats.dns_1035_label(text):
                yield invalid(f"{path}.{name}[{index}]", text, ",".join(faults))
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        yield invalid(f"{path}.listKind", names["listKind"], "kind and listKind may not be the same")


def _conversion(conversion: Object, path: str) -> Iterator[FieldError]:
    strategy, hook = conversion.get("strategy") or "", conversion.get("webhook")
    if not strategy:
        yield required(f"{path}.strategy")
    elif strategy == "Webhook":
        yield forbidden_field(f"{path}.strategy", "conversion by webhook is not supported by this server")
    elif strategy != "None":
        yield not_supported(f"{path}.strategy", strategy, ("None", "Webhook"))
    elif hook is not None:
        yield forbidden_field(f"{path}.webhook", "should not be set when strategy is not set to Webhook")


def _validate_status(new: Object, old: Object) -> Sequence[FieldError]:
    return [
        *_names((new.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames"),
        *_changes(new, old),
    ]


CUSTOM_RESOURCE_DEFINITION = Kind(
    resource=CUSTOM_RESOURCE_DEFINITIONS,
    model=apiextensions_v1.CustomResourceDefinition,
    singular="customresourcedefinition",
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    columns=(
        NAME_COLUMN,
        Column("Created At", lambda obj: obj["metadata"].get("creationTimestamp", "")),
    ),
    has_status=True,
    has_generation=True,
    default=default_definition,
    prepare=prepare,
    begin_delete=begin_delete,
    validate=validating(formats.dns_subdomain, _validate, namespaced=False),
    validate_status=_validate_status,
)
