"""A container's environment: variables, their sources, expansion, those of Services. No input or output."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from ..api import meta, quantity
from ..api.formats import host_port
from ..api.meta import Object
from ..api.pods import service_variable_prefix
from . import pod as pods

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class ConfigError(Exception):
    """A container's configuration cannot be completed, for example for want of a ConfigMap."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What variables may refer to. *config_maps* and *secrets* by name, only those that exist.

    *allocatable*: the node's, in cores and bytes, for limits that are not set.
    """

    config_maps: Mapping[str, Object] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    pod_ips: Sequence[str] = ()
    host_ips: Sequence[str] = ()
    node_name: str = ""
    allocatable: Mapping[str, Decimal] = field(default_factory=dict)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value; what is unknown stays as it is, and ``$$`` is one dollar sign."""

    def replacement(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return variables.get(found[2], found[0])

    return _REFERENCE.sub(replacement, text)


def environment(
    pod: Object, container: Object, services: Mapping[str, str], sources: Sources
) -> dict[str, str]:
    """The variables that the container gets, in order. Raises ConfigError.

    Later ones win: those of Services, then ``envFrom``, then ``env``.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        found.update(_env_from(meta.namespace(pod), source, sources))
    for variable in container.get("env") or ():
        name = variable["name"]
        origin = variable.get("valueFrom")
        if not origin:
            found[name] = expand(variable.get("value") or "", {**services, **found})
            continue
        value = _value_from(pod, container, origin, sources)
        if value is not None:
            found[name] = value
    return {**{name: value for name, value in services.items() if name not in found}, **found}


def _env_from(namespace: str, source: Object, sources: Sources) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    if reference := source.get("configMapRef"):
        config_map = sources.config_maps.get(reference.get("name", ""))
        if config_map is None:
            if reference.get("optional"):
                return {}
            raise ConfigError(f'configmap "{reference.get("name", "")}" not found')
        pairs = dict(config_map.get("data") or {})
    elif reference := source.get("secretRef"):
        secret = sources.secrets.get(reference.get("name", ""))
        if secret is None:
            if reference.get("optional"):
                return {}
            raise ConfigError(f'secret "{reference.get("name", "")}" not found')
        pairs = {name: value.decode(errors="replace") for name, value in secret.items()}
    else:
        return {}
    return {prefix + name: value for name, value in sorted(pairs.items()) if _is_name(prefix + name)}


def _is_name(name: str) -> bool:
    return bool(name) and "=" not in name and name.isprintable() and name.isascii()


def _value_from(pod: Object, container: Object, origin: Object, sources: Sources) -> str | None:
    """None leaves the variable out: an optional key that is not there."""
    namespace = meta.namespace(pod)
    if reference := origin.get("fieldRef"):
        return pod_field(pod, reference["fieldPath"], sources)
    if reference := origin.get("resourceFieldRef"):
        return resource_field(pod, container, reference, sources)
    if reference := origin.get("configMapKeyRef"):
        name, key = reference.get("name", ""), reference["key"]
        config_map = sources.config_maps.get(name)
        if config_map is None:
            if reference.get("optional"):
                return None
            raise ConfigError(f'configmap "{name}" not found')
        text = (config_map.get("data") or {}).get(key)
        if text is None and not reference.get("optional"):
            raise ConfigError(f"couldn't find key {key} in ConfigMap {namespace}/{name}")
        return text
    if reference := origin.get("secretKeyRef"):
        name, key = reference.get("name", ""), reference["key"]
        secret = sources.secrets.get(name)
        if secret is None:
            if reference.get("optional"):
                return None
            raise ConfigError(f'secret "{name}" not found')
        raw = secret.get(key)
        if raw is None:
            if reference.get("optional"):
                return None
            raise ConfigError(f"couldn't find key {key} in Secret {namespace}/{name}")
        return raw.decode(errors="replace")
    return ""


def pod_field(pod: Object, path: str, sources: Sources) -> str:
    """What the downward API gives for a ``fieldRef``. Raises ConfigError for a path that it does not know."""
    metadata = pod["metadata"]
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata.get(path.removeprefix("metadata."), ""))
        case "metadata.labels" | "metadata.annotations":
            return format_map(metadata.get(path.removeprefix("metadata.")) or {})
        case "spec.nodeName":
            return str(pod["spec"].get("nodeName") or sources.node_name)
        case "spec.serviceAccountName":
            return str(pod["spec"].get("serviceAccountName") or "")
        case "status.hostIP":
            return sources.host_ips[0] if sources.host_ips else ""
        case "status.hostIPs":
            return ",".join(sources.host_ips)
        case "status.podIP":
            return sources.pod_ips[0] if sources.pod_ips else ""
        case "status.podIPs":
            return ",".join(sources.pod_ips)
    raise ConfigError(f"unsupported fieldPath: {path}")


def format_map(pairs: Mapping[str, str]) -> str:
    """Labels or annotations as a downward API file shows them."""
    return "\n".join(f"{name}={_quote(value)}" for name, value in sorted(pairs.items()))


def _quote(text: str) -> str:
    escapes = {
        '"': '\\"',
        "\\": "\\\\",
        "\n": "\\n",
        "\t": "\\t",
        "\r": "\\r",
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\v": "\\v",
    }
    return (
        '"'
        + "".join(
            escapes.get(c)
            or (c if c.isprintable() else f"\\u{ord(c):04x}" if ord(c) > 127 else f"\\x{ord(c):02x}")
            for c in text
        )
        + '"'
    )


def resource_field(pod: Object, container: Object, reference: Object, sources: Sources) -> str:
    """A request or limit in units of the divisor, rounded up; an unset limit is what the node has."""
    name = reference.get("containerName")
    subject = pods.find_container(pod, name) if name else container
    if subject is None:
        raise ConfigError(f"container {name} not found")
    kind, _, resource = str(reference["resource"]).partition(".")
    if kind == "limits":
        amount = pods.limit(subject, resource)
    else:
        amount = pods.requested(subject, resource)
    if amount is not None:
        value = quantity.value(amount)
    elif kind == "limits":
        value = sources.allocatable.get(resource, Decimal(0))
    else:
        value = Decimal(0)
    divisor = quantity.value(reference.get("divisor") or "0") or Decimal(1)
    return str(math.ceil(value / divisor))


def service_environment(services: Iterable[Object], namespace: str, enable_links: bool) -> dict[str, str]:
    """What Kubernetes and Docker links tell of Services by environment variables.

    Those of the Pod's *namespace*, if it wants links, and always ``kubernetes`` in ``default``. Services
    without an address of their own give none.
    """
    chosen: dict[str, Object] = {}
    for service in services:
        name = meta.name(service)
        mine = meta.namespace(service) == namespace
        master = meta.namespace(service) == "default" and name == "kubernetes"
        if service["spec"].get("clusterIP") in (None, "", "None") or not (master or (mine and enable_links)):
            continue
        if name not in chosen or mine:
            chosen[name] = service
    variables: dict[str, str] = {}
    for name in sorted(chosen):
        variables.update(_service_variables(name, chosen[name]["spec"]))
    return variables


def _service_variables(name: str, spec: Object) -> dict[str, str]:
    prefix = service_variable_prefix(name)
    ip = str(spec["clusterIP"])
    ports = spec.get("ports") or []
    variables = {f"{prefix}_SERVICE_HOST": ip}
    if ports:
        variables[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
    for port in ports:
        if port.get("name"):
            variables[f"{prefix}_SERVICE_PORT_{service_variable_prefix(port['name'])}"] = str(port["port"])
    for index, port in enumerate(ports):
        number = port["port"]
        protocol = str(port.get("protocol") or "TCP")
        url = f"{protocol.lower()}://{host_port(ip, number)}"
        link = f"{prefix}_PORT_{number}_{protocol}"
        if index == 0:
            variables[f"{prefix}_PORT"] = url
        variables[link] = url
        variables[f"{link}_PROTO"] = protocol.lower()
        variables[f"{link}_PORT"] = str(number)
        variables[f"{link}_ADDR"] = ip
    return variables
