"""Whether a definition gets the names it asks for, and what its status says of that.

After k8s.io/apiextensions-apiserver's ``controller/status``, ``controller/establish`` and
``controller/apiapproval``. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .. import meta
from ..meta import Object
from .reading import API_APPROVED, FINALIZER, holds, is_protected

_CONFLICT = '"{}" is already in use'


def names_of(accepted: Object) -> tuple[frozenset[str], frozenset[str]]:
    """The resource names and the kind names that *accepted* names take."""
    resources = {accepted.get("plural"), accepted.get("singular"), *(accepted.get("shortNames") or ())}
    kinds = {accepted.get("kind"), accepted.get("listKind")}
    return frozenset(filter(None, resources)), frozenset(filter(None, kinds))


def accept(definition: Object, others: Iterable[Object]) -> Object:
    """The status of *definition*, where *others* are the names that its group uses already."""
    status = dict(definition.get("status") or {})
    wanted: Mapping[str, object] = definition["spec"]["names"]
    current: Object = dict(status.get("acceptedNames") or {})
    taken_resources: set[str] = set()
    taken_kinds: set[str] = set()
    for other in others:
        resources, kinds = names_of(other)
        taken_resources |= resources
        taken_kinds |= kinds
    accepted = dict(current)
    faults: list[tuple[str, str]] = []
    for name, reason in (
        ("plural", "PluralConflict"),
        ("singular", "SingularConflict"),
        ("kind", "KindConflict"),
        ("listKind", "ListKindConflict"),
    ):
        text = str(wanted.get(name) or "")
        taken = taken_kinds if name in ("kind", "listKind") else taken_resources
        if text in taken:
            faults.append((reason, _CONFLICT.format(text)))
        else:
            accepted[name] = text
    short_names = [str(each) for each in definition["spec"]["names"].get("shortNames") or ()]
    clashing = [each for each in short_names if each in taken_resources]
    if clashing:
        faults.append(("ShortNamesConflict", ", ".join(_CONFLICT.format(each) for each in clashing)))
    else:
        accepted["shortNames"] = short_names
    accepted["categories"] = list(definition["spec"]["names"].get("categories") or ())
    accepted = {name: value for name, value in accepted.items() if value or name in ("plural", "kind")}
    status["acceptedNames"] = accepted
    if faults:
        reason, message = faults[-1]
        conditions = _set(definition, "NamesAccepted", "False", reason, message)
        if not holds(definition, "Established"):
            conditions = _put(conditions, "Established", "False", "NotAccepted", "not all names are accepted")
    else:
        conditions = _set(definition, "NamesAccepted", "True", "NoConflicts", "no conflicts found")
        conditions = _put(
            conditions,
            "Established",
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted",
        )
    status["conditions"] = _approval(definition, conditions)
    return status


def deleting(definition: Object) -> Object:
    """The status of a definition whose objects are being deleted."""
    conditions = _set(
        definition,
        "Terminating",
        "True",
        "InstanceDeletionInProgress",
        "CustomResource deletion is in progress",
    )
    return {**(definition.get("status") or {}), "conditions": conditions}


def begin_delete(definition: Object) -> None:
    """What the first request to delete a definition does to it."""
    finalizers = definition["metadata"].setdefault("finalizers", [])
    if FINALIZER not in finalizers:
        finalizers.append(FINALIZER)
    conditions = _set(
        definition,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    )
    definition["status"] = {**(definition.get("status") or {}), "conditions": conditions}


def _approval(definition: Object, conditions: list[Object]) -> list[Object]:
    if not is_protected(definition["spec"]["group"]):
        return conditions
    given = meta.annotations(definition).get(API_APPROVED, "")
    type = "KubernetesAPIApprovalPolicyConformant"
    if given.startswith("unapproved"):
        return _put(conditions, type, "False", "UnapprovedAnnotation", f"not approved: {given!r}")
    return _put(conditions, type, "True", "ApprovedAnnotation", f"approved in {given}")


def _set(definition: Object, type: str, status: str, reason: str, message: str) -> list[Object]:
    conditions = list((definition.get("status") or {}).get("conditions") or ())
    return _put(conditions, type, status, reason, message)


def _put(conditions: Sequence[Object], type: str, status: str, reason: str, message: str) -> list[Object]:
    old = next((each for each in conditions if each["type"] == type), None)
    moment = old["lastTransitionTime"] if old and old["status"] == status else meta.now()
    new = {
        "type": type,
        "status": status,
        "lastTransitionTime": moment,
        "reason": reason,
        "message": message,
    }
    if old is None:
        return [*conditions, new]
    return [new if each is old else each for each in conditions]
