"""Image references and the credentials that go with them. No input or output.

The grammar is that of https://github.com/distribution/reference; secrets are
``kubernetes.io/dockerconfigjson`` and ``kubernetes.io/dockercfg``.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from ..api.meta import Object

STAND_IN_LABEL = "io.buoy.stand-in"
"""On an image's configuration: the name of the image that this one, made on the spot, stands in for."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", re.ASCII)
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}", re.ASCII)
_DEFAULT_DOMAIN = "docker.io"


class InvalidImageName(ValueError):
    """Not an image reference."""


@dataclass(frozen=True, slots=True)
class Reference:
    """``domain/path:tag@digest``; *tag* and *digest* may be empty."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.domain}/{self.path}{self.tag and ':' + self.tag}{self.digest and '@' + self.digest}"


@dataclass(frozen=True, slots=True)
class Login:
    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""


def parse(image: str) -> Reference:
    """The full reference that *image* means: ``nginx`` is ``docker.io/library/nginx:latest``."""
    rest, at, digest = image.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
        colon = ""
    first, slash, remainder = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        domain, path = first, remainder
    else:
        domain, path = _DEFAULT_DOMAIN, name
    if domain == "index.docker.io":
        domain = _DEFAULT_DOMAIN
    if domain == _DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    good = (
        _DOMAIN.fullmatch(domain)
        and (not at or _DIGEST.fullmatch(digest))
        and (not colon or _TAG.fullmatch(tag))
    )
    if not good or len(path) > 255:
        raise InvalidImageName("invalid reference format")
    if not _PATH.fullmatch(path):
        if _PATH.fullmatch(path.lower()):
            raise InvalidImageName(f"invalid reference format: repository name ({path}) must be lowercase")
        raise InvalidImageName("invalid reference format")
    if not tag and not digest:
        tag = "latest"
    return Reference(domain, path, tag, digest)


def with_default_tag(image: str) -> str:
    """*image* as it was written, with ``:latest`` if it has no tag or digest. Raises InvalidImageName."""
    parse(image)
    last = image.rpartition("/")[2]
    return image if ":" in last or "@" in image else f"{image}:latest"


class _Entry(msgspec.Struct):
    username: str = ""
    password: str = ""
    auth: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _DockerConfig(msgspec.Struct):
    auths: dict[str, _Entry] = msgspec.field(default_factory=dict)


def logins(secrets: Iterable[Object], image: str) -> list[Login]:
    """The logins for *image*, the most specific registry first. Secrets that cannot be read are left out."""
    reference = parse(image)
    found: list[tuple[int, Login]] = []
    for secret in secrets:
        for registry, entry in _entries(secret).items():
            length = _match(registry, reference)
            login = _login(entry)
            if length is not None and login is not None:
                found.append((length, login))
    found.sort(key=lambda pair: -pair[0])
    return [login for _, login in found]


def _entries(secret: Object) -> Mapping[str, _Entry]:
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            text = base64.b64decode(data[".dockerconfigjson"])
            return msgspec.json.decode(text, type=_DockerConfig).auths
        if ".dockercfg" in data:
            return msgspec.json.decode(base64.b64decode(data[".dockercfg"]), type=dict[str, _Entry])
    except (binascii.Error, msgspec.MsgspecError):
        return {}
    return {}


def _login(entry: _Entry) -> Login | None:
    username, password = entry.username, entry.password
    if entry.auth and not username:
        try:
            username, _, password = base64.b64decode(entry.auth).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        password = password.rstrip("\x00")
    return Login(username, password, entry.identitytoken, entry.registrytoken)


def _match(registry: str, reference: Reference) -> int | None:
    """How specifically the registry named in a secret matches; None if not at all."""
    bare = re.sub(r"^https?://", "", registry)
    bare = re.sub(r"/v[12]/?$", "", bare).rstrip("/")
    host, _, path = bare.partition("/")
    if host == "index.docker.io":
        host = _DEFAULT_DOMAIN
    labels, wanted = host.split("."), reference.domain.split(".")
    if len(labels) != len(wanted) or not all(map(fnmatch.fnmatchcase, wanted, labels)):
        return None
    if path and not (reference.path == path or reference.path.startswith(f"{path}/")):
        return None
    return len(bare)
