"""What a request asks for, read off its method and URL as Kubernetes' ``RequestInfoFactory`` does."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

Query = dict[str, list[str]]


@dataclass(slots=True)
class RequestInfo:
    """For a path outside ``/api`` and ``/apis``, or one above a resource, *is_resource* is False."""

    method: str
    path: str
    query: Query
    verb: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""
    """What follows the subresource in the path, for ``proxy``."""

    def value(self, parameter: str) -> str:
        """The first value of a query parameter, or ``""``."""
        values = self.query.get(parameter)
        return values[0] if values else ""

    def flag(self, parameter: str) -> bool:
        """Whether a boolean query parameter is set, in the ways Kubernetes reads one."""
        values = self.query.get(parameter) or ("false",)
        return values[0].lower() not in ("false", "0")


_VERBS = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}


def parse_query(text: str) -> Query:
    query: Query = {}
    if text:
        for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=4096):
            query.setdefault(name, []).append(value)
    return query


def parse(method: str, target: str) -> RequestInfo:
    """*target* is the request line's: a path, still quoted, and a query."""
    path, _, query_text = target.partition("?")
    if "%" in path:
        path = unquote(path)
    query = parse_query(query_text)
    info = RequestInfo(method, path, query, method.lower())
    parts = [part for part in path.split("/") if part]
    if len(parts) < 3:
        return info
    if parts[0] == "api":
        info.version = parts[1]
        parts = parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        info.group, info.version = parts[1], parts[2]
        parts = parts[3:]
    else:
        return info
    info.is_resource = True
    info.verb = _VERBS.get(method, "")
    if parts[0] == "watch" and len(parts) > 1:
        info.verb = "watch"
        parts = parts[1:]
    if parts[0] == "namespaces" and len(parts) > 1:
        info.namespace = parts[1]
        if len(parts) > 2 and parts[2] not in ("status", "finalize"):
            parts = parts[2:]
    info.resource = parts[0]
    if len(parts) > 1:
        info.name = parts[1]
    if len(parts) > 2:
        info.subresource = parts[2]
        info.rest = "/".join(parts[3:])
    if not info.name:
        if info.verb == "get":
            info.verb = "watch" if info.flag("watch") else "list"
        elif info.verb == "delete":
            info.verb = "deletecollection"
    elif info.verb == "get" and not info.subresource and info.flag("watch"):
        info.verb = "watch"
    return info
