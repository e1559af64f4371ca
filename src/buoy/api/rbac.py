"""Roles and their bindings."""

from __future__ import annotations

from collections.abc import Callable

from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .models import rbac_v1
from .resource import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES

GROUP = ROLES.group


def default_binding(binding: Object) -> None:
    reference = binding.setdefault("roleRef", {})
    if not reference.get("apiGroup"):
        reference["apiGroup"] = GROUP
    for subject in binding.get("subjects") or ():
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = GROUP


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

ROLE = Kind(resource=ROLES, model=rbac_v1.Role, singular="role", columns=_ROLE_COLUMNS)
CLUSTER_ROLE = Kind(
    resource=CLUSTER_ROLES, model=rbac_v1.ClusterRole, singular="clusterrole", columns=_ROLE_COLUMNS
)
ROLE_BINDING = Kind(
    resource=ROLE_BINDINGS,
    model=rbac_v1.RoleBinding,
    singular="rolebinding",
    columns=_BINDING_COLUMNS,
    default=default_binding,
)
CLUSTER_ROLE_BINDING = Kind(
    resource=CLUSTER_ROLE_BINDINGS,
    model=rbac_v1.ClusterRoleBinding,
    singular="clusterrolebinding",
    columns=_BINDING_COLUMNS,
    default=default_binding,
)
