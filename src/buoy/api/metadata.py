"""Faults in ``metadata``, the same for every kind, and in labels and selectors wherever they stand.

After k8s.io/apimachinery's ``api/validation`` and ``apis/meta/v1/validation``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from . import formats
from .formats import Check
from .meta import Object
from .status import FieldError, forbidden_field, invalid, required, too_long

IMMUTABLE = "field is immutable"
NEGATIVE = "must be greater than or equal to 0"

_ANNOTATIONS_LIMIT = 256 * 1024
_MANAGER_LIMIT = 128
_STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})

Rule = Callable[[Object, Object | None], Sequence[FieldError]]


def validating(name: Check, rule: Rule | None = None, *, namespaced: bool = True) -> Rule:
    """A kind's ``validate``: its metadata, whose name must pass *name*, then what *rule* says of the rest."""

    def validate(new: Object, old: Object | None) -> Sequence[FieldError]:
        errors = validate_metadata(new["metadata"], name, namespaced=namespaced)
        if old is not None:
            errors += validate_metadata_update(new["metadata"], old["metadata"])
        if rule is not None:
            errors += rule(new, old)
        return errors

    return validate


def faults(path: str, value: str, found: Iterable[str]) -> list[FieldError]:
    """Each sentence about *value* as an error."""
    return [invalid(path, value, fault) for fault in found]


def equivalent(new: Any, old: Any) -> bool:
    """Equal, where a field that is absent and one that is empty, zero or false are the same.

    Clients with typed objects leave such fields out, whatever they were given.
    """
    if new == old:
        return True
    left, right = _without_empty(new), _without_empty(old)
    return bool(left == right or not (left or right))


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        pruned = {key: _without_empty(each) for key, each in value.items()}
        return {key: each for key, each in pruned.items() if each not in (None, "", 0, [], {})}
    if isinstance(value, list):
        return [_without_empty(each) for each in value]
    return value


def immutable(path: str, new: Any, old: Any) -> list[FieldError]:
    return [] if equivalent(new, old) else [invalid(path, new, IMMUTABLE)]


def non_negative(path: str, value: int | None) -> list[FieldError]:
    return [] if value is None or value >= 0 else [invalid(path, value, NEGATIVE)]


def _generated(prefix: str) -> str:
    """A prefix as it will look with something behind it: a dash at its end does not matter."""
    return f"{prefix[:-1]}a" if len(prefix) > 1 and prefix.endswith("-") else prefix


def validate_metadata(
    metadata: Object, name: Check, *, namespaced: bool = True, path: str = "metadata"
) -> list[FieldError]:
    errors: list[FieldError] = []
    prefix = metadata.get("generateName")
    if prefix:
        errors += faults(f"{path}.generateName", prefix, name(_generated(prefix)))
    own_name = metadata.get("name")
    if not own_name:
        errors.append(required(f"{path}.name", "name or generateName is required"))
    elif found := name(own_name):
        errors += faults(f"{path}.name", own_name, found)
    namespace = metadata.get("namespace")
    if namespaced:
        if not namespace:
            errors.append(required(f"{path}.namespace"))
        elif found := formats.dns_label(namespace):
            errors += faults(f"{path}.namespace", namespace, found)
    elif namespace:
        errors.append(forbidden_field(f"{path}.namespace", "not allowed on this type"))
    errors += non_negative(f"{path}.generation", metadata.get("generation"))
    errors += _validate_common(metadata, path)
    return errors


def _validate_common(metadata: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if labels := metadata.get("labels"):
        errors += validate_labels(labels, f"{path}.labels")
    if annotations := metadata.get("annotations"):
        errors += validate_annotations(annotations, f"{path}.annotations")
    if owners := metadata.get("ownerReferences"):
        errors += _validate_owners(owners, f"{path}.ownerReferences")
    if finalizers := metadata.get("finalizers"):
        errors += _validate_finalizers(finalizers, f"{path}.finalizers")
    if managers := metadata.get("managedFields"):
        errors += _validate_managers(managers, f"{path}.managedFields")
    return errors


def validate_template_metadata(metadata: Object, path: str) -> list[FieldError]:
    """The labels and annotations of the template at *path*; Kubernetes leaves ``metadata`` out of theirs."""
    errors = validate_labels(metadata.get("labels") or {}, f"{path}.labels")
    errors += validate_annotations(metadata.get("annotations") or {}, f"{path}.annotations")
    return errors


def validate_metadata_update(new: Object, old: Object, path: str = "metadata") -> list[FieldError]:
    """What an update may not do to metadata; the rest is checked as on create."""
    errors: list[FieldError] = []
    if old.get("deletionTimestamp"):
        extra = sorted(set(new.get("finalizers") or ()) - set(old.get("finalizers") or ()))
        if extra:
            shown = ", ".join(f'"{each}"' for each in extra)
            errors.append(
                forbidden_field(
                    f"{path}.finalizers",
                    "no new finalizers can be added if the object is being deleted, "
                    f"found new finalizers []string{{{shown}}}",
                )
            )
    if (new.get("generation") or 0) < (old.get("generation") or 0):
        errors.append(invalid(f"{path}.generation", new.get("generation") or 0, "must not be decremented"))
    for field in ("name", "namespace", "uid"):
        errors += immutable(f"{path}.{field}", new.get(field) or "", old.get(field) or "")
    for field in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        errors += immutable(f"{path}.{field}", new.get(field), old.get(field))
    return errors


def validate_labels(labels: Mapping[str, str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key, value in labels.items():
        if found := formats.label_key(key):
            errors += faults(path, key, found)
        if found := formats.label_value(value):
            errors += faults(path, value, found)
    return errors


def validate_annotations(annotations: Mapping[str, str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    total = 0
    for key, value in annotations.items():
        # The case of an annotation's key has never mattered.
        if found := formats.label_key(key.lower()):
            errors += faults(path, key, found)
        total += formats.size(key) + formats.size(value)
    if total > _ANNOTATIONS_LIMIT:
        errors.append(too_long(path, _ANNOTATIONS_LIMIT))
    return errors


def _validate_owners(owners: Sequence[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    first = ""
    for owner in owners:
        version = str(owner.get("apiVersion") or "")
        if not version.rpartition("/")[2]:
            errors.append(invalid(f"{path}.apiVersion", version, "version must not be empty"))
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                errors.append(invalid(f"{path}.{field}", "", "must not be empty"))
        if version == "v1" and owner.get("kind") == "Event":
            errors.append(invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            this = f"{owner.get('kind')}/{owner.get('name')}"
            if first:
                errors.append(
                    invalid(
                        path,
                        list(owners),
                        "Only one reference can have Controller set to true. "
                        f'Found "true" in references for {first} and {this}',
                    )
                )
            else:
                first = this
    return errors


def _validate_finalizers(finalizers: Sequence[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for finalizer in finalizers:
        errors += faults(path, finalizer, formats.label_key(finalizer))
    for index, finalizer in enumerate(finalizers):
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            errors.append(
                invalid(
                    f"{path}[{index}]",
                    finalizer,
                    "name is neither a standard finalizer name nor is it fully qualified",
                )
            )
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        errors.append(
            invalid(path, list(finalizers), "finalizer orphan and foregroundDeletion cannot be both set")
        )
    return errors


def _validate_managers(managers: Sequence[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, entry in enumerate(managers):
        here = f"{path}[{index}]"
        if entry.get("operation") not in ("Apply", "Update"):
            errors.append(
                invalid(f"{here}.operation", entry.get("operation", ""), "must be `Apply` or `Update`")
            )
        if entry.get("fieldsType") not in (None, "", "FieldsV1"):
            errors.append(invalid(f"{here}.fieldsType", entry["fieldsType"], "must be `FieldsV1`"))
        if formats.size(entry.get("manager") or "") > _MANAGER_LIMIT:
            errors.append(too_long(f"{here}.manager", _MANAGER_LIMIT))
    return errors


def validate_label_selector(selector: Object | None, path: str) -> list[FieldError]:
    """A ``LabelSelector``; None has no faults."""
    if selector is None:
        return []
    errors = validate_labels(selector.get("matchLabels") or {}, f"{path}.matchLabels")
    for index, expression in enumerate(selector.get("matchExpressions") or ()):
        here = f"{path}.matchExpressions[{index}]"
        operator = expression.get("operator") or ""
        values = expression.get("values") or ()
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(
                    required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'")
                )
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                errors.append(
                    forbidden_field(
                        f"{here}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    )
                )
        else:
            errors.append(invalid(f"{here}.operator", operator, "not a valid selector operator"))
        errors += faults(
            f"{here}.key", expression.get("key") or "", formats.label_key(expression.get("key") or "")
        )
        for position, value in enumerate(values):
            errors += faults(f"{here}.values[{position}]", value, formats.label_value(value))
    return errors
