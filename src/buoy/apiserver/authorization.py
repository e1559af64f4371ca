"""What one may do: by being a node, and by RBAC over the roles and bindings in the store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from buoy.api.meta import Object
from buoy.api.resource import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from buoy.api.status import StatusError

from .attributes import Attributes, Verdict, rule_allows
from .authentication import MASTERS
from .bootstrap import NODE_RULES
from .mirror import Mirror
from .nodes import node_of
from .nodes.follower import Nodes
from .registry import Registry, User
from .watch import Hub

_MOST_DECISIONS = 16384
_LONGEST_KEPT = 512
_CATCH_UP_SECONDS = 1.0
_MASTER = Verdict(True)


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
        self._registry = registry
        self._hub = hub
        self._nodes = Nodes(registry, hub, NODE_RULES)
        self._decisions: dict[tuple[str, tuple[str, ...], Attributes], Verdict] = {}
        self._roles, self._cluster_roles, self._bindings, self._cluster_bindings = (
            Mirror(registry, hub, resource, self._decisions.clear)
            for resource in (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)
        )

    async def load(self) -> None:
        """Read roles, bindings and what nodes have to do with; to be called before the hub runs."""
        await self._nodes.load()
        for mirror in (self._roles, self._cluster_roles, self._bindings, self._cluster_bindings):
            await mirror.load()
        self._decisions.clear()

    def rules_for(self, user: User, namespace: str) -> Iterator[tuple[Object, str]]:
        """Every rule that holds for *user* in *namespace*, and which binding gives it."""
        for binding in self._cluster_bindings.objects.values():
            if any(_is_subject(subject, user, "") for subject in binding.get("subjects") or ()):
                for rule in self._rules_of(binding["roleRef"], ""):
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
            for rule in self._rules_of(reference, namespace):
                yield (
                    rule,
                    f'RBAC: allowed by RoleBinding "{binding["metadata"]["name"]}/{namespace}" of '
                    f'{reference.get("kind")} "{reference["name"]}" to ',
                )

    def role(self, reference: Object, namespace: str) -> Object | None:
        """The role that a ``roleRef`` means, if there is one."""
        name = str(reference.get("name"))
        if reference.get("kind") == "ClusterRole":
            return self._cluster_roles.objects.get(name)
        return self._roles.objects.get(f"{namespace}/{name}")

    def _rules_of(self, reference: Object, namespace: str) -> list[Object]:
        return list((self.role(reference, namespace) or {}).get("rules") or ())

    def decide(self, user: User, wanted: Attributes) -> Verdict:
        if MASTERS in user.groups:
            return _MASTER
        refusal = Verdict(False)
        node = node_of(user)
        if node is not None:
            verdict = self._nodes.decide(node, wanted)
            if verdict.allowed:
                return verdict
            refusal = verdict
        granted = self._by_roles(user, wanted)
        return granted if granted.allowed else refusal

    def _by_roles(self, user: User, wanted: Attributes) -> Verdict:
        cached = user.name, user.groups, wanted
        try:
            return self._decisions[cached]
        except KeyError:
            pass
        verdict = next(
            (
                Verdict(True, why + f'User "{user.name}"')
                for rule, why in self.rules_for(user, wanted.namespace)
                if rule_allows(rule, wanted)
            ),
            Verdict(False),
        )
        if len(self._decisions) >= _MOST_DECISIONS:
            self._decisions.clear()
        if wanted.size <= _LONGEST_KEPT:  # who may not even come in chooses what is asked
            self._decisions[cached] = verdict
        return verdict

    async def decide_now(self, user: User, wanted: Attributes) -> Verdict:
        """As `decide`, but nothing is refused for what was written a moment ago and is not known here yet."""
        verdict = self.decide(user, wanted)
        written = self._registry.store.revision
        if verdict.allowed or self._hub.revision >= written:
            return verdict
        await self._hub.reached(written, _CATCH_UP_SECONDS)
        return self.decide(user, wanted)

    async def require(self, user: User, wanted: Attributes) -> None:
        """Raises StatusError 403 if it is not allowed."""
        verdict = await self.decide_now(user, wanted)
        if not verdict.allowed:
            raise forbidden(user, wanted, verdict.reason)

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
