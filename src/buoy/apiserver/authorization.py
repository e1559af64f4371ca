"""What one may do: RBAC over the roles and bindings in the store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from buoy.api.meta import Object
from buoy.api.resource import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from buoy.api.status import StatusError

from .authentication import MASTERS
from .mirror import Mirror
from .registry import Registry, User
from .requestinfo import RequestInfo
from .watch import Hub

_MOST_DECISIONS = 16384


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is to be decided. A *path* means that it is not about a resource."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @classmethod
    def of(cls, info: RequestInfo) -> Attributes:
        if not info.is_resource:
            return cls(info.verb, path=info.path)
        name = info.name
        if not name and info.verb in ("list", "watch", "deletecollection") and "fieldSelector" in info.query:
            for part in info.value("fieldSelector").split(","):
                field, _, value = part.partition("=")
                if field == "metadata.name":
                    name = value.lstrip("=")
        return cls(info.verb, info.group, info.resource, info.subresource, info.namespace, name)


def rule_allows(rule: Object, wanted: Attributes) -> bool:
    verbs = rule.get("verbs") or ()
    if wanted.verb not in verbs and "*" not in verbs:
        return False
    if wanted.path:
        return any(
            path == "*" or path == wanted.path or (path.endswith("*") and wanted.path.startswith(path[:-1]))
            for path in rule.get("nonResourceURLs") or ()
        )
    groups = rule.get("apiGroups") or ()
    if wanted.group not in groups and "*" not in groups:
        return False
    resources = rule.get("resources") or ()
    full = f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource
    if (
        full not in resources
        and "*" not in resources
        and not (wanted.subresource and f"*/{wanted.subresource}" in resources)
    ):
        return False
    names = rule.get("resourceNames")
    return not names or wanted.name in names


def _is_subject(subject: Object, user: User, namespace: str) -> bool:
    match subject.get("kind"):
        case "User":
            return bool(subject.get("name") == user.name)
        case "Group":
            return subject.get("name") in user.groups
        case "ServiceAccount":
            where = subject.get("namespace") or namespace
            return user.name == f"system:serviceaccount:{where}:{subject.get('name')}"
    return False


class Authorizer:
    def __init__(self, registry: Registry, hub: Hub) -> None:
        self._decisions: dict[tuple[str, tuple[str, ...], Attributes], str | None] = {}
        self._roles, self._cluster_roles, self._bindings, self._cluster_bindings = (
            Mirror(registry, hub, resource, self._decisions.clear)
            for resource in (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)
        )

    async def load(self) -> None:
        """Read roles and bindings; to be called before the hub runs."""
        for mirror in (self._roles, self._cluster_roles, self._bindings, self._cluster_bindings):
            await mirror.load()
        self._decisions.clear()

    def rules_for(self, user: User, namespace: str) -> Iterator[tuple[Object, str]]:
        """Every rule that holds for *user* in *namespace*, and which binding gives it."""
        for binding in self._cluster_bindings.objects.values():
            if any(_is_subject(subject, user, "") for subject in binding.get("subjects") or ()):
                for rule in self.rules_of(binding["roleRef"], ""):
                    yield (
                        rule,
                        f'RBAC: allowed by ClusterRoleBinding "{binding["metadata"]["name"]}" of ClusterRole '
                        f'"{binding["roleRef"]["name"]}" to ',
                    )
        if not namespace:
            return
        prefix = f"{namespace}/"
        for key, binding in self._bindings.objects.items():
            if not key.startswith(prefix):
                continue
            if not any(_is_subject(subject, user, namespace) for subject in binding.get("subjects") or ()):
                continue
            reference = binding["roleRef"]
            for rule in self.rules_of(reference, namespace):
                yield (
                    rule,
                    f'RBAC: allowed by RoleBinding "{binding["metadata"]["name"]}/{namespace}" of '
                    f'{reference.get("kind")} "{reference["name"]}" to ',
                )

    def rules_of(self, reference: Object, namespace: str) -> list[Object]:
        """The rules of the role that a ``roleRef`` means; none if there is no such role."""
        name = str(reference.get("name"))
        if reference.get("kind") == "ClusterRole":
            role = self._cluster_roles.objects.get(name)
        else:
            role = self._roles.objects.get(f"{namespace}/{name}")
        return list((role or {}).get("rules") or ())

    def decide(self, user: User, wanted: Attributes) -> str | None:
        """Why it is allowed, or None if it is not."""
        if MASTERS in user.groups:
            return ""
        cached = user.name, user.groups, wanted
        try:
            return self._decisions[cached]
        except KeyError:
            pass
        reason = next(
            (
                why + f'User "{user.name}"'
                for rule, why in self.rules_for(user, wanted.namespace)
                if rule_allows(rule, wanted)
            ),
            None,
        )
        if len(self._decisions) >= _MOST_DECISIONS:
            self._decisions.clear()
        self._decisions[cached] = reason
        return reason

    def require(self, user: User, wanted: Attributes) -> None:
        """Raises StatusError 403 if it is not allowed."""
        if self.decide(user, wanted) is None:
            raise forbidden(user, wanted)

    def covers(self, user: User, namespace: str, rules: Iterable[Object]) -> list[Object]:
        """Those of *rules* that go beyond what *user* may do in *namespace* already."""
        if MASTERS in user.groups:
            return []
        held = [rule for rule, _ in self.rules_for(user, namespace)]
        return [
            small
            for rule in rules
            for small in _break_down(rule)
            if not any(_covers(owned, small) for owned in held)
        ]


def _break_down(rule: Object) -> Iterator[Object]:
    for verb in rule.get("verbs") or ():
        for group in rule.get("apiGroups") or ():
            for resource in rule.get("resources") or ():
                for name in rule.get("resourceNames") or (None,):
                    small = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
                    yield small if name is None else {**small, "resourceNames": [name]}
        for path in rule.get("nonResourceURLs") or ():
            yield {"verbs": [verb], "nonResourceURLs": [path]}


def _covers(owned: Object, small: Object) -> bool:
    """Whether *owned* allows all that *small*, a rule of one element each, does."""
    (verb,) = small["verbs"]
    if "nonResourceURLs" in small:
        return rule_allows(owned, Attributes(verb, path=small["nonResourceURLs"][0]))
    resource, _, subresource = small["resources"][0].partition("/")
    names = small.get("resourceNames")
    if not names and owned.get("resourceNames"):
        return False
    return rule_allows(
        owned,
        Attributes(verb, small["apiGroups"][0], resource, subresource, name=names[0] if names else ""),
    )


def forbidden(user: User, wanted: Attributes, reason: str = "") -> StatusError:
    tail = f": {reason}" if reason else ""
    if wanted.path:
        return StatusError(
            403,
            "Forbidden",
            f'forbidden: User "{user.name}" cannot {wanted.verb} path {json.dumps(wanted.path)}{tail}',
            {},
        )
    qualified = f"{wanted.resource}.{wanted.group}" if wanted.group else wanted.resource
    shown = f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource
    what = f'{qualified} "{wanted.name}"' if wanted.name else qualified
    where = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
    details: Object = {}
    if wanted.name:
        details["name"] = wanted.name
    if wanted.group:
        details["group"] = wanted.group
    details["kind"] = wanted.resource
    return StatusError(
        403,
        "Forbidden",
        f'{what} is forbidden: User "{user.name}" cannot {wanted.verb} resource "{shown}" in API group '
        f'"{wanted.group}" {where}{tail}',
        details,
    )
