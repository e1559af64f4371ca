"""Content negotiation: which form the client wants, and what it has sent."""

from __future__ import annotations

import contextlib
import functools
import json
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import yaml

from buoy.api.status import StatusError, bad_request

from . import protobuf
from .encoding import to_json

_decode = msgspec.json.Decoder().decode

As = Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList", "APIGroupDiscoveryList"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """One way to answer that the client accepts."""

    media: Literal["json", "yaml"] = "json"
    form: As = ""
    version: str = ""


DEFAULT = Accepted()
_ANY = ("*/*", "application/*")
_JSON = ("application/json",)
_YAML = ("application/yaml",)
_FORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
_META = (("meta.k8s.io", "v1"), ("meta.k8s.io", "v1beta1"))
_DISCOVERY = (("apidiscovery.k8s.io", "v2"), ("apidiscovery.k8s.io", "v2beta1"))


@functools.lru_cache(256)
def accepted(header: str, *, discovery: bool = False, stream: bool = False) -> Accepted:
    """The best of an ``Accept`` header. Raises StatusError 406 if there is nothing the server can make."""
    if not header:
        return DEFAULT
    choices: list[tuple[float, int, str, dict[str, str]]] = []
    for index, part in enumerate(header.split(",")):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        given = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        try:
            quality = float(given.pop("q", "1"))
        except ValueError:
            quality = 0.0
        choices.append((-quality, index, media.lower(), given))
    for _, _, media, given in sorted(choices, key=lambda choice: choice[:2]):
        kind: Literal["json", "yaml"]
        if media in _JSON or media in _ANY:
            kind = "json"
        elif media in _YAML and not stream:
            kind = "yaml"
        else:
            continue
        form = given.get("as", "")
        asked = given.get("g"), given.get("v")
        if not form:
            return Accepted(kind)
        if discovery and form == "APIGroupDiscoveryList" and asked in _DISCOVERY:
            return Accepted(kind, "APIGroupDiscoveryList", given["v"])
        if not discovery and form in _FORMS and asked in _META:
            return Accepted(kind, form, given["v"])  # type: ignore[arg-type]
    raise StatusError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml, "
        "application/json;as=Table;g=meta.k8s.io;v=v1",
    )


_DEEPEST = 500
_TOO_DEEP = "exceeded max depth"
_ROOM_FOR_ALIASES = 100_000


class DuplicateFields:
    """Collects the paths of JSON keys that a body gives twice, which an ordinary decoder hides."""

    def __init__(self, body: bytes) -> None:
        self.paths: list[str] = []
        value = json.loads(body, object_pairs_hook=self._pairs)
        self._walk(value, "")

    class _Pairs(list[tuple[str, Any]]):
        pass

    def _pairs(self, pairs: list[tuple[str, Any]]) -> DuplicateFields._Pairs:
        return self._Pairs(pairs)

    def _walk(self, value: Any, path: str) -> None:
        if isinstance(value, self._Pairs):
            seen = set()
            for key, element in value:
                where = f"{path}.{key}" if path else key
                if key in seen:
                    self.paths.append(where)
                seen.add(key)
                self._walk(element, where)
        elif isinstance(value, list):
            for index, element in enumerate(value):
                self._walk(element, f"{path}[{index}]")


def parse_body(body: bytes, content_type: str) -> Any:
    """The decoded body. Raises StatusError 400, 415."""
    media = content_type.partition(";")[0].strip().lower()
    if media in ("", "application/json", "*/*") or media.endswith("+json"):
        return parse_json(body)
    if media in ("application/yaml", "application/apply-patch+yaml"):
        return parse_yaml(body)
    if media == protobuf.CONTENT_TYPE:
        try:
            return protobuf.decode(body)
        except protobuf.Malformed as error:
            raise bad_request(str(error)) from None
    raise StatusError(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json, application/yaml, application/vnd.kubernetes.protobuf",
    )


def parse_json(body: bytes) -> Any:
    try:
        return _decode(body)
    except RecursionError:
        raise bad_request(_TOO_DEEP) from None
    except msgspec.DecodeError as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {_go_error(body, error)}") from None


def _go_error(body: bytes, error: msgspec.DecodeError) -> str:
    if not body.strip():
        return "unexpected end of JSON input"
    text = str(error)
    if "truncated" in text:
        return "unexpected end of JSON input"
    position = text.rpartition("byte ")[2].rstrip(")")
    if position.isdigit() and int(position) < len(body):
        character = chr(body[int(position)])
        return f"invalid character {character!r} at offset {position}"
    return text


def parse_yaml(body: bytes) -> Any:
    """The one document in *body*, which may be JSON. Raises StatusError 400."""
    try:
        if body.lstrip()[:1] == b"{":
            # As kubectl sends what it calls YAML.
            with contextlib.suppress(msgspec.DecodeError):
                return _decode(body)
        aliases = _check_depth(body)
        value = yaml.load(body, Loader=_Loader)  # noqa: S506
        if aliases:
            _check_size(value, _ROOM_FOR_ALIASES + len(body))
        return _decode(to_json(value))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise bad_request(f"error converting YAML to JSON: yaml: {error}") from None


def _check_depth(body: bytes) -> int:
    """How many aliases there are. Raises ValueError for what is too deep for a loader that recurses in C."""
    depth = aliases = 0
    for event in yaml.parse(body, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise ValueError(_TOO_DEEP)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
    return aliases


def _check_size(value: Any, room: int) -> None:
    """Raises ValueError if *value* is larger than *room* when every alias is written out."""
    rest = [value]
    while rest:
        each = rest.pop()
        room -= 1
        if isinstance(each, dict):
            rest += each.keys()
            rest += each.values()
        elif isinstance(each, (list, tuple, set)):
            rest += each
        elif isinstance(each, (str, bytes)):
            room -= len(each)
        if room < 0:
            raise ValueError("document contains excessive aliasing")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as JSON sees it: times are texts."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def to_yaml(value: Any) -> bytes:
    text = yaml.dump(
        value,
        Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
        default_flow_style=False,
        allow_unicode=True,
    )
    return str(text).encode()
