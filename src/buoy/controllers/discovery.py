"""What the API server serves: asked for by those controllers that deal with every kind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from buoy.api.resource import Resource
from buoy.api.status import StatusError
from buoy.client import Client


@dataclass(frozen=True, slots=True)
class Served:
    """A resource in its group's preferred version, and what can be done with it."""

    resource: Resource
    verbs: frozenset[str]


@dataclass(frozen=True, slots=True)
class Discovery:
    """*failed* are group versions that did not answer: what they serve is unknown."""

    served: tuple[Served, ...]
    failed: tuple[str, ...] = ()

    def resources(self, *verbs: str) -> list[Resource]:
        return [each.resource for each in self.served if each.verbs.issuperset(verbs)]

    def find(self, api_version: str, kind: str) -> Resource | None:
        """The resource of a kind, by whichever version of its group is asked."""
        group = api_version.rpartition("/")[0]
        for each in self.served:
            if each.resource.kind == kind and each.resource.group == group:
                return each.resource
        return None


async def discover(client: Client) -> Discovery:
    """Raises StatusError or OSError if the server cannot even say which groups it has."""
    groups = await client.request("GET", "/apis")
    versions = [("", "v1")]
    for group in groups.get("groups") or ():
        preferred = group.get("preferredVersion") or group["versions"][0]
        versions.append((group["name"], preferred["version"]))
    answers = await asyncio.gather(*(_version(client, *each) for each in versions))
    served: list[Served] = []
    failed: list[str] = []
    for (group_name, version), answer in zip(versions, answers, strict=True):
        if answer is None:
            failed.append(f"{group_name}/{version}" if group_name else version)
        else:
            served.extend(_parse(group_name, version, answer))
    return Discovery(tuple(served), tuple(failed))


async def _version(client: Client, group: str, version: str) -> list[dict[str, object]] | None:
    path = f"/apis/{group}/{version}" if group else f"/api/{version}"
    try:
        answer = await client.request("GET", path)
    except StatusError:
        return None
    resources: list[dict[str, object]] = answer.get("resources") or []
    return resources


def _parse(group: str, version: str, resources: Iterable[dict[str, object]]) -> Iterable[Served]:
    for each in resources:
        name, verbs = str(each["name"]), each.get("verbs")
        if "/" not in name and isinstance(verbs, list):
            resource = Resource(group, version, name, str(each["kind"]), bool(each["namespaced"]))
            yield Served(resource, frozenset(verbs))
