"""Roles and their bindings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import formats
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .metadata import Rule, faults, validate_label_selector, validating
from .models import rbac_v1
from .resource import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from .status import FieldError, invalid, not_supported, required

GROUP = ROLES.group


def default_binding(binding: Object) -> None:
    reference = binding.setdefault("roleRef", {})
    if not reference.get("apiGroup"):
        reference["apiGroup"] = GROUP
    for subject in binding.get("subjects") or ():
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = GROUP


def _validate_rules(*, namespaced: bool) -> Rule:
    def validate(role: Object, old: Object | None) -> list[FieldError]:
        errors: list[FieldError] = []
        for index, rule in enumerate(role.get("rules") or ()):
            errors += _validate_rule(rule, f"rules[{index}]", namespaced)
        aggregation = role.get("aggregationRule")
        if aggregation is not None:
            selectors = aggregation.get("clusterRoleSelectors")
            path = "aggregationRule.clusterRoleSelectors"
            if not selectors:
                errors.append(
                    required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil")
                )
            for index, selector in enumerate(selectors or ()):
                errors += validate_label_selector(selector, f"{path}[{index}]")
        return errors

    return validate


def _validate_rule(rule: Object, path: str, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if not rule.get("verbs"):
        errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    urls, here = rule.get("nonResourceURLs"), f"{path}.nonResourceURLs"
    if urls:
        if namespaced:
            errors.append(invalid(here, urls, "namespaced rules cannot apply to non-resource URLs"))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            errors.append(
                invalid(here, urls, "rules cannot apply to both regular resources and non-resource URLs")
            )
        return errors
    if not rule.get("apiGroups"):
        errors.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        errors.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
    return errors


def _validate_binding(kinds: Sequence[str], *, namespaced: bool) -> Rule:
    def validate(binding: Object, old: Object | None) -> list[FieldError]:
        errors: list[FieldError] = []
        reference = binding.get("roleRef") or {}
        group, kind, name = (str(reference.get(field) or "") for field in ("apiGroup", "kind", "name"))
        if group != GROUP:
            errors.append(not_supported("roleRef.apiGroup", group, (GROUP,)))
        if kind not in kinds:
            errors.append(not_supported("roleRef.kind", kind, kinds))
        if not name:
            errors.append(required("roleRef.name"))
        else:
            errors += faults("roleRef.name", name, formats.path_segment(name))
        for index, subject in enumerate(binding.get("subjects") or ()):
            errors += _validate_subject(subject, f"subjects[{index}]", namespaced)
        if old is not None and reference != old.get("roleRef"):
            shown = {"APIGroup": group, "Kind": kind, "Name": name}
            errors.append(invalid("roleRef", shown, "cannot change roleRef"))
        return errors

    return validate


def _validate_subject(subject: Object, path: str, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    kind, name, group = (str(subject.get(field) or "") for field in ("kind", "name", "apiGroup"))
    if not name:
        errors.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        if name:
            errors += faults(f"{path}.name", name, formats.dns_subdomain(name))
        if group:
            errors.append(not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            errors.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if not name:
            errors.append(invalid(f"{path}.name", name, f"{kind.lower()} name cannot be empty"))
        if group != GROUP:
            errors.append(not_supported(f"{path}.apiGroup", group, (GROUP,)))
    else:
        errors.append(not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
    return errors


def _role(binding: Object) -> str:
    reference = binding.get("roleRef") or {}
    return f"{reference.get('kind', '')}/{reference.get('name', '')}"


def _subjects(kind: str) -> Callable[[Object], str]:
    def shown(binding: Object) -> str:
        return ", ".join(
            f"{subject.get('namespace', '')}/{subject.get('name', '')}"
            if kind == "ServiceAccount"
            else subject.get("name", "")
            for subject in binding.get("subjects") or ()
            if subject.get("kind") == kind
        )

    return shown


_ROLE_COLUMNS = (
    NAME_COLUMN,
    # A moment, not an age: kubectl shows it as it is.
    Column("Created At", lambda role: role["metadata"].get("creationTimestamp", "")),
)
_BINDING_COLUMNS = (
    NAME_COLUMN,
    Column("Role", _role),
    AGE_COLUMN,
    Column("Users", _subjects("User"), wide=True, description="Users in the roleBinding"),
    Column("Groups", _subjects("Group"), wide=True, description="Groups in the roleBinding"),
    Column(
        "ServiceAccounts",
        _subjects("ServiceAccount"),
        wide=True,
        description="ServiceAccounts in the roleBinding",
    ),
)

ROLE = Kind(
    resource=ROLES,
    model=rbac_v1.Role,
    singular="role",
    columns=_ROLE_COLUMNS,
    validate=validating(formats.path_segment, _validate_rules(namespaced=True)),
)
CLUSTER_ROLE = Kind(
    resource=CLUSTER_ROLES,
    model=rbac_v1.ClusterRole,
    singular="clusterrole",
    columns=_ROLE_COLUMNS,
    validate=validating(formats.path_segment, _validate_rules(namespaced=False), namespaced=False),
)
ROLE_BINDING = Kind(
    resource=ROLE_BINDINGS,
    model=rbac_v1.RoleBinding,
    singular="rolebinding",
    columns=_BINDING_COLUMNS,
    default=default_binding,
    validate=validating(formats.path_segment, _validate_binding(("Role", "ClusterRole"), namespaced=True)),
)
CLUSTER_ROLE_BINDING = Kind(
    resource=CLUSTER_ROLE_BINDINGS,
    model=rbac_v1.ClusterRoleBinding,
    singular="clusterrolebinding",
    columns=_BINDING_COLUMNS,
    default=default_binding,
    validate=validating(
        formats.path_segment, _validate_binding(("ClusterRole",), namespaced=False), namespaced=False
    ),
)
