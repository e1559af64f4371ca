"""What an authorizer is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from buoy.api import selectors
from buoy.api.meta import Object

from .requestinfo import RequestInfo

_COLLECTIONS = ("list", "watch", "deletecollection")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is to be decided. A *path* means that it is not about a resource.

    *fields* are the fields whose value a field selector demands.
    """

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, info: RequestInfo) -> Attributes:
        if not info.is_resource:
            return cls(info.verb, path=info.path)
        name = info.name
        fields: tuple[tuple[str, str], ...] = ()
        if not name and info.verb in _COLLECTIONS and "fieldSelector" in info.query:
            fields = exact_fields(info.value("fieldSelector"))
            if info.verb != "deletecollection":
                name = next((value for field, value in fields if field == "metadata.name"), "")
        return cls(info.verb, info.group, info.resource, info.subresource, info.namespace, name, "", fields)

    @property
    def size(self) -> int:
        """How many characters it is made of."""
        parts = (self.verb, self.group, self.resource, self.subresource, self.namespace, self.name, self.path)
        return sum(map(len, parts)) + sum(len(field) + len(value) for field, value in self.fields)


def exact_fields(selector: str) -> tuple[tuple[str, str], ...]:
    """Fields and the values that *selector* demands of them. One that cannot be read restricts nothing."""
    try:
        requirements = selectors.parse_fields(selector).requirements
    except selectors.SelectorError:
        return ()
    return tuple((each.field, each.value) for each in requirements if each.equal)


class Verdict(NamedTuple):
    """Whether it may be, and why or why not, if there is more to say."""

    allowed: bool
    reason: str = ""


def rule_allows(rule: Object, wanted: Attributes) -> bool:
    """Whether one ``PolicyRule`` of RBAC allows what is wanted."""
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
