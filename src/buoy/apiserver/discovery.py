"""Discovery: which groups, versions and resources there are; in the old form, and aggregated (KEP-3352)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from buoy import KUBERNETES_VERSION
from buoy.api.kind import Kind
from buoy.api.meta import Object
from buoy.api.resource import version_rank

_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource or subresource as discovery lists it: *name* is ``pods`` or ``pods/log``."""

    group: str
    version: str
    name: str
    kind: str
    verbs: tuple[str, ...]
    namespaced: bool
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    of: tuple[str, str] | None = None
    """Group and version of *kind*, where they are not the resource's."""
    custom: bool = False


# What is asked for but kept nowhere.
_REVIEWS: tuple[tuple[str, str, str, bool], ...] = (
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", False),
    ("authentication.k8s.io", "tokenreviews", "TokenReview", False),
    ("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", True),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview", False),
    ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", False),
)

_PROXY_VERBS = ("create", "delete", "get", "patch", "update")
_SUBRESOURCES: tuple[tuple[str, str, tuple[str, ...], tuple[str, str] | None], ...] = (
    ("namespaces/finalize", "Namespace", ("update",), None),
    ("nodes/proxy", "NodeProxyOptions", _PROXY_VERBS, None),
    ("pods/attach", "PodAttachOptions", ("create", "get"), None),
    ("pods/binding", "Binding", ("create",), None),
    ("pods/ephemeralcontainers", "Pod", ("get", "patch", "update"), None),
    ("pods/eviction", "Eviction", ("create",), ("policy", "v1")),
    ("pods/exec", "PodExecOptions", ("create", "get"), None),
    ("pods/log", "Pod", ("get",), None),
    ("pods/portforward", "PodPortForwardOptions", ("create", "get"), None),
    ("pods/proxy", "PodProxyOptions", _PROXY_VERBS, None),
    ("serviceaccounts/token", "TokenRequest", ("create",), ("authentication.k8s.io", "v1")),
    ("services/proxy", "ServiceProxyOptions", _PROXY_VERBS, None),
)


def entries(kinds: Iterable[Kind]) -> list[Entry]:
    found: list[Entry] = []
    core: dict[str, Kind] = {}
    groups = set()
    for kind in kinds:
        resource = kind.resource
        if not kind.custom:
            groups.add(resource.group)
        where = resource.group, resource.version
        if not resource.group:
            core[resource.plural] = kind
        verbs = tuple(
            verb for verb in _VERBS if resource.plural != "namespaces" or verb != "deletecollection"
        )
        found.append(
            Entry(
                *where,
                resource.plural,
                resource.kind,
                verbs,
                resource.namespaced,
                kind.singular,
                kind.short_names,
                kind.categories,
                custom=kind.custom,
            )
        )
        if kind.scale:
            found.append(
                Entry(
                    *where,
                    f"{resource.plural}/scale",
                    "Scale",
                    ("get", "patch", "update"),
                    resource.namespaced,
                    of=("autoscaling", "v1"),
                )
            )
        if kind.has_status:
            found.append(
                Entry(
                    *where,
                    f"{resource.plural}/status",
                    resource.kind,
                    ("get", "patch", "update"),
                    resource.namespaced,
                    custom=kind.custom,
                )
            )
    for name, kind_name, verbs, of in _SUBRESOURCES:
        parent = core.get(name.partition("/")[0])
        if parent is not None:
            found.append(Entry("", "v1", name, kind_name, verbs, parent.resource.namespaced, of=of))
    for group, plural, kind_name, namespaced in _REVIEWS:
        found.append(Entry(group, "v1", plural, kind_name, ("create",), namespaced, kind_name.lower()))
        groups.add(group)
    found.sort(
        key=lambda entry: (entry.group not in groups, entry.group, version_rank(entry.version), entry.name)
    )
    return found


class Discovery:
    """Every discovery document, ready made."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self.kinds = tuple(kinds)
        self.entries = entries(kinds)
        self.groups: dict[str, list[str]] = {}
        for entry in self.entries:
            versions = self.groups.setdefault(entry.group, [])
            if entry.version not in versions:
                versions.append(entry.version)

    def version(self) -> Object:
        """``/version``. The commit is that of no build: Buoy is not built from Kubernetes' sources."""
        major, minor = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
        return {
            "major": major,
            "minor": minor,
            "emulationMajor": major,
            "emulationMinor": minor,
            "minCompatibilityMajor": major,
            "minCompatibilityMinor": str(int(minor) - 1),
            "gitVersion": KUBERNETES_VERSION,
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "python",
            "platform": "linux/amd64",
        }

    def api_versions(self, address: str) -> Object:
        return {
            "kind": "APIVersions",
            "versions": self.groups.get("", ["v1"]),
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        }

    def group_list(self) -> Object:
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [self._group(name) for name in self.groups if name],
        }

    def group(self, name: str) -> Object | None:
        if not name or name not in self.groups:
            return None
        return {"kind": "APIGroup", "apiVersion": "v1", **self._group(name)}

    def _group(self, name: str) -> Object:
        versions = [
            {"groupVersion": f"{name}/{version}", "version": version} for version in self.groups[name]
        ]
        return {"name": name, "versions": versions, "preferredVersion": versions[0]}

    def resource_list(self, group: str, version: str) -> Object | None:
        found = [entry for entry in self.entries if (entry.group, entry.version) == (group, version)]
        if not found:
            return None
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": [_old_form(entry) for entry in found],
        }

    def aggregated(self, version: str, *, core: bool) -> Object:
        """``/api`` (*core*) or ``/apis`` as an ``APIGroupDiscoveryList`` of *version*."""
        groups = []
        for name, versions in self.groups.items():
            if bool(name) is core:
                continue
            groups.append(
                {
                    "metadata": {"name": name} if name else {},
                    "versions": [
                        {
                            "version": each,
                            "resources": self._aggregated_resources(name, each),
                            "freshness": "Current",
                        }
                        for each in versions
                    ],
                }
            )
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"apidiscovery.k8s.io/{version}",
            "metadata": {},
            "items": groups,
        }

    def _aggregated_resources(self, group: str, version: str) -> list[Object]:
        found: dict[str, Object] = {}
        mine = [entry for entry in self.entries if (entry.group, entry.version) == (group, version)]
        for entry in mine:
            name, _, sub = entry.name.partition("/")
            kind_group, kind_version = entry.of or (group, version)
            response = {"group": kind_group, "version": kind_version, "kind": entry.kind}
            if sub:
                parent = found.get(name)
                if parent is not None:
                    parent.setdefault("subresources", []).append(
                        {"subresource": sub, "responseKind": response, "verbs": list(entry.verbs)}
                    )
                continue
            document: dict[str, Any] = {
                "resource": name,
                "responseKind": response,
                "scope": "Namespaced" if entry.namespaced else "Cluster",
                "singularResource": entry.singular,
                "verbs": list(entry.verbs),
            }
            if entry.short_names:
                document["shortNames"] = list(entry.short_names)
            if entry.categories:
                document["categories"] = list(entry.categories)
            found[name] = document
        return list(found.values())


def _old_form(entry: Entry) -> Object:
    document: Object = {
        "name": entry.name,
        "singularName": entry.singular,
        "namespaced": entry.namespaced,
        "kind": entry.kind,
        "verbs": list(entry.verbs),
    }
    if entry.of is not None:
        document["group"], document["version"] = entry.of
    if entry.short_names:
        document["shortNames"] = list(entry.short_names)
    if entry.categories:
        document["categories"] = list(entry.categories)
    return document
