"""What is in a Pod's ConfigMap, Secret, downward API and projected volumes. No input or output."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..api.meta import Object
from . import pod as pods
from .atomic_writer import File
from .environment import ConfigError, Sources, pod_field, resource_field

_DEFAULT_MODE = 0o644
KINDS = ("configMap", "secret", "downwardAPI", "projected")


class TokenRequest(NamedTuple):
    """A service account token that a projected volume asks for; *audience* ``""`` for the API server."""

    audience: str
    seconds: int


def token_requests(volume: Object) -> Iterator[TokenRequest]:
    for source in (volume.get("projected") or {}).get("sources") or ():
        if token := source.get("serviceAccountToken"):
            yield token_request(token)


def token_request(token: Object) -> TokenRequest:
    return TokenRequest(token.get("audience") or "", int(token.get("expirationSeconds") or 3600))


def volume_files(
    pod: Object, volume: Object, sources: Sources, tokens: Mapping[TokenRequest, str]
) -> dict[str, File]:
    """The volume's files by relative path. Raises ConfigError if something that must be there is not."""
    if projected := volume.get("projected"):
        mode = _mode(projected.get("defaultMode"))
        files: dict[str, File] = {}
        for source in projected.get("sources") or ():
            files.update(_projection(pod, source, mode, sources, tokens))
        return files
    if config_map := volume.get("configMap"):
        return _config_map(config_map, _mode(config_map.get("defaultMode")), sources)
    if secret := volume.get("secret"):
        named = {**secret, "name": secret.get("secretName") or ""}
        return _secret(named, _mode(secret.get("defaultMode")), sources)
    downward = volume.get("downwardAPI") or {}
    return _downward(pod, downward, _mode(downward.get("defaultMode")), sources)


def _mode(mode: int | None) -> int:
    return _DEFAULT_MODE if mode is None else mode


def _projection(
    pod: Object, source: Object, mode: int, sources: Sources, tokens: Mapping[TokenRequest, str]
) -> dict[str, File]:
    if config_map := source.get("configMap"):
        return _config_map(config_map, mode, sources)
    if secret := source.get("secret"):
        return _secret(secret, mode, sources)
    if downward := source.get("downwardAPI"):
        return _downward(pod, downward, mode, sources)
    if token := source.get("serviceAccountToken"):
        user = common_user(pod)
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        private = user is not None or group is not None
        content = tokens[token_request(token)].encode()
        return {token["path"]: File(content, 0o600 if private else mode, user)}
    raise ConfigError(f"projected volume source {', '.join(source) or 'without a kind'} is not supported")


def common_user(pod: Object) -> int | None:
    """The user that all containers run as, if there is one."""
    common = (pod["spec"].get("securityContext") or {}).get("runAsUser")
    users = {(c.get("securityContext") or {}).get("runAsUser", common) for c in pods.all_containers(pod)}
    return users.pop() if len(users) == 1 else None


def _config_map(reference: Object, mode: int, sources: Sources) -> dict[str, File]:
    name = reference.get("name", "")
    config_map = sources.config_maps.get(name)
    if config_map is None:
        if reference.get("optional"):
            return {}
        raise ConfigError(f'configmap "{name}" not found')
    content = {key: text.encode() for key, text in (config_map.get("data") or {}).items()}
    content |= {key: base64.b64decode(text) for key, text in (config_map.get("binaryData") or {}).items()}
    return _items(reference, content, mode, "configmap references non-existent config key")


def _secret(reference: Object, mode: int, sources: Sources) -> dict[str, File]:
    name = reference.get("name", "")
    secret = sources.secrets.get(name)
    if secret is None:
        if reference.get("optional"):
            return {}
        raise ConfigError(f'secret "{name}" not found')
    return _items(reference, secret, mode, "references non-existent secret key")


def _items(reference: Object, content: Mapping[str, bytes], mode: int, missing: str) -> dict[str, File]:
    items = reference.get("items")
    if not items:
        return {key: File(data, mode) for key, data in content.items()}
    files: dict[str, File] = {}
    for item in items:
        if item["key"] in content:
            files[item["path"]] = File(
                content[item["key"]], mode if item.get("mode") is None else item["mode"]
            )
        elif not reference.get("optional"):
            raise ConfigError(f"{missing}: {item['key']}")
    return files


def _downward(pod: Object, source: Object, mode: int, sources: Sources) -> dict[str, File]:
    files: dict[str, File] = {}
    for item in source.get("items") or ():
        if reference := item.get("fieldRef"):
            text = pod_field(pod, reference["fieldPath"], sources)
        else:
            text = resource_field(pod, {}, item["resourceFieldRef"], sources)
        files[item["path"]] = File(text.encode(), mode if item.get("mode") is None else item["mode"])
    return files
