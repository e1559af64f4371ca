"""Faults in containers: names, images, ports, environment, mounts, probes, hooks, resources.

After k8s.io/kubernetes' ``pkg/apis/core/validation``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from . import formats, quantity
from .meta import Object
from .metadata import NEGATIVE, faults, non_negative
from .pod_security import validate_security_context
from .pods import is_sidecar
from .status import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid,
    not_found_field,
    not_supported,
    required,
)

PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})
PULL_POLICIES = frozenset({"Always", "IfNotPresent", "Never"})
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_SCHEMES = frozenset({"HTTP", "HTTPS"})
_PROPAGATIONS = frozenset({"Bidirectional", "HostToContainer", "None"})
_RECURSIVE_READ_ONLY = frozenset({"Disabled", "IfPossible", "Enabled"})
_RESIZABLE = frozenset({"cpu", "memory"})
_RESIZE_POLICIES = frozenset({"NotRequired", "RestartContainer"})
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_NOT_FOR_EPHEMERAL = ("ports", "lifecycle", *_PROBES)

ENVIRONMENT_FIELDS = frozenset(
    {
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    }
)
FILE_FIELDS = frozenset(
    {"metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid"}
)
_RESOURCE_FIELDS = frozenset(
    f"{kind}.{name}" for kind in ("limits", "requests") for name in ("cpu", "memory", "ephemeral-storage")
)
_BYTES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_DIVISORS = {
    "cpu": (("1m", "1"), "cpu"),
    "memory": (_BYTES, "memory"),
    "ephemeral-storage": (_BYTES, "local ephemeral storage"),
}
_STANDARD_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_QUOTA_RESOURCES = frozenset(
    {
        *_STANDARD_RESOURCES,
        "storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "persistentvolumeclaims",
        "configmaps",
        "services.nodeports",
        "services.loadbalancers",
        "requests.storage",
    }
)
_NOT_INTEGER = "must be an integer"
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container's faults depend on beside itself. *volumes* are the good ones, by name."""

    volumes: Mapping[str, Object]
    claims: frozenset[str]
    grace_period: int | None
    restart_policy: str
    host_users: bool


def validate_containers(containers: Sequence[Object], around: Surroundings, path: str) -> list[FieldError]:
    if not containers:
        return [required(path)]
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, container in enumerate(containers):
        here = f"{path}[{index}]"
        errors += _validate_common(container, around, here)
        name = container.get("name") or ""
        if name in names:
            errors.append(duplicate(f"{here}.name", name))
        names.add(name)
        errors += _validate_lifecycle(container, around.grace_period, here)
        if container.get("restartPolicy") is not None:
            errors.append(forbidden_field(f"{here}.restartPolicy", "may not be set for non-init containers"))
    return errors + _host_port_conflicts(containers, path)


def validate_init_containers(
    containers: Sequence[Object], main: Sequence[Object], around: Surroundings, path: str
) -> list[FieldError]:
    errors: list[FieldError] = []
    names = {each.get("name") or "" for each in main}
    for index, container in enumerate(containers):
        here = f"{path}[{index}]"
        errors += _validate_common(container, around, here)
        policy = container.get("restartPolicy")
        if policy not in (None, "Always"):
            errors.append(not_supported(f"{here}.restartPolicy", policy, ("Always",)))
        name = container.get("name") or ""
        if name in names:
            errors.append(duplicate(f"{here}.name", name))
        elif name:
            names.add(name)
        # They run one after the other, so ports only clash within one.
        errors += _host_port_conflicts([container], path)
        if is_sidecar(container):
            errors += _validate_lifecycle(container, around.grace_period, here)
        else:
            errors += [
                forbidden_field(
                    f"{here}.{field}", "may not be set for init containers without restartPolicy=Always"
                )
                for field in ("lifecycle", *_PROBES)
                if container.get(field) is not None
            ]
    return errors


def validate_ephemeral_containers(
    containers: Sequence[Object], others: Sequence[Object], around: Surroundings, path: str
) -> list[FieldError]:
    errors: list[FieldError] = []
    fixed = {each.get("name") or "" for each in others}
    names = set(fixed)
    for index, container in enumerate(containers):
        here = f"{path}[{index}]"
        errors += _validate_common(container, around, here)
        errors += validate_image(container, here)
        name = container.get("name") or ""
        if name in names:
            errors.append(duplicate(f"{here}.name", name))
        names.add(name)
        target = container.get("targetContainerName")
        if target and target not in fixed:
            errors.append(not_found_field(f"{here}.targetContainerName", target))
        unwanted = [field for field in _NOT_FOR_EPHEMERAL if container.get(field)]
        if container.get("resources"):
            unwanted.append("resources")
        for field in unwanted:
            errors.append(forbidden_field(f"{here}.{field}", "cannot be set for an Ephemeral Container"))
        for position, mount in enumerate(container.get("volumeMounts") or ()):
            for field in ("subPath", "subPathExpr"):
                if mount.get(field):
                    errors.append(
                        forbidden_field(
                            f"{here}.volumeMounts[{position}].{field}",
                            "cannot be set for an Ephemeral Container",
                        )
                    )
    return errors


def validate_image(container: Object, path: str) -> list[FieldError]:
    """What a Pod demands of an image, beyond what a template does."""
    image = container.get("image") or ""
    if image == image.strip():
        return []
    return [invalid(f"{path}.image", image, "must not have leading or trailing whitespace")]


def _validate_common(container: Object, around: Surroundings, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    name = container.get("name")
    if not name:
        errors.append(required(f"{path}.name"))
    elif found := formats.dns_label(name):
        errors += faults(f"{path}.name", name, found)
    if not container.get("image"):
        errors.append(required(f"{path}.image"))
    policy = container.get("terminationMessagePolicy")
    if not policy:
        errors.append(required(f"{path}.terminationMessagePolicy"))
    elif policy not in _MESSAGE_POLICIES:
        errors.append(not_supported(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES))
    if ports := container.get("ports"):
        errors += _validate_ports(ports, f"{path}.ports")
    if variables := container.get("env"):
        errors += _validate_environment(variables, f"{path}.env")
    if sources := container.get("envFrom"):
        errors += _validate_environment_sources(sources, f"{path}.envFrom")
    if mounts := container.get("volumeMounts"):
        errors += _validate_mounts(mounts, container, around.volumes, f"{path}.volumeMounts")
    if devices := container.get("volumeDevices"):
        errors += _validate_devices(devices, container, around.volumes, f"{path}.volumeDevices")
    errors += validate_pull_policy(container.get("imagePullPolicy"), f"{path}.imagePullPolicy")
    if resources := container.get("resources"):
        errors += validate_resources(resources, around.claims, f"{path}.resources")
    if container.get("resizePolicy"):
        errors += _validate_resize_policy(
            container["resizePolicy"], around.restart_policy, f"{path}.resizePolicy"
        )
    if container.get("securityContext") is not None:
        errors += validate_security_context(
            container["securityContext"], around.host_users, f"{path}.securityContext"
        )
    return errors


def validate_pull_policy(policy: str | None, path: str) -> list[FieldError]:
    if policy in PULL_POLICIES:
        return []
    return [not_supported(path, policy, PULL_POLICIES) if policy else required(path)]


def _validate_ports(ports: Sequence[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        here = f"{path}[{index}]"
        name = port.get("name")
        if name:
            if found := formats.port_name(name):
                errors += faults(f"{here}.name", name, found)
            elif name in names:
                errors.append(duplicate(f"{here}.name", name))
            names.add(name)
        number = port.get("containerPort")
        if not number:
            errors.append(required(f"{here}.containerPort"))
        elif not 0 < number < 65536:
            errors.append(invalid(f"{here}.containerPort", number, formats.between(1, 65535)))
        on_host = port.get("hostPort")
        if on_host and not 0 < on_host < 65536:
            errors.append(invalid(f"{here}.hostPort", on_host, formats.between(1, 65535)))
        protocol = port.get("protocol")
        if not protocol:
            errors.append(required(f"{here}.protocol"))
        elif protocol not in PROTOCOLS:
            errors.append(not_supported(f"{here}.protocol", protocol, PROTOCOLS))
    return errors


def _host_port_conflicts(containers: Sequence[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    taken: set[str] = set()
    for index, container in enumerate(containers):
        for position, port in enumerate(container.get("ports") or ()):
            if port.get("hostPort"):
                shown = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
                if shown in taken:
                    errors.append(duplicate(f"{path}[{index}].ports[{position}].hostPort", shown))
                taken.add(shown)
    return errors


def _validate_environment(variables: Sequence[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, variable in enumerate(variables):
        name = variable.get("name")
        if not name:
            errors.append(required(f"{path}[{index}].name"))
        elif found := formats.environment_name(name):
            errors += faults(f"{path}[{index}].name", name, found)
        if variable.get("valueFrom") is not None:
            errors += _validate_value_source(variable, f"{path}[{index}].valueFrom")
    return errors


def _validate_value_source(variable: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    source = variable["valueFrom"]
    given = 0
    if source.get("fieldRef") is not None:
        given += 1
        errors += validate_field_reference(source["fieldRef"], ENVIRONMENT_FIELDS, f"{path}.fieldRef")
    if source.get("resourceFieldRef") is not None:
        given += 1
        errors += validate_resource_reference(
            source["resourceFieldRef"], f"{path}.resourceFieldRef", in_volume=False
        )
    for field in ("configMapKeyRef", "secretKeyRef"):
        if source.get(field) is not None:
            given += 1
            errors += _validate_key_reference(source[field], f"{path}.{field}")
    if source.get("fileKeyRef") is not None:
        given += 1
    if not given:
        errors.append(
            invalid(
                path,
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            )
        )
    elif variable.get("value"):
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif given > 1:
        errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def _validate_key_reference(reference: Object, path: str) -> list[FieldError]:
    name = reference.get("name") or ""
    key = reference.get("key") or ""
    errors = faults(f"{path}.name", name, formats.dns_subdomain(name))
    if not key:
        errors.append(required(f"{path}.key"))
    else:
        errors += faults(f"{path}.key", key, formats.config_key(key))
    return errors


def validate_field_reference(reference: Object, supported: frozenset[str], path: str) -> list[FieldError]:
    """A reference to one of the Pod's own fields."""
    if not reference.get("apiVersion"):
        return [required(f"{path}.apiVersion")]
    field = reference.get("fieldPath")
    if not field:
        return [required(f"{path}.fieldPath")]
    if reference["apiVersion"] != "v1":
        return [
            invalid(
                f"{path}.fieldPath",
                field,
                f"error converting fieldPath: unsupported pod version: {reference['apiVersion']}",
            )
        ]
    base, bracket, rest = field.partition("[")
    if bracket and rest.endswith("']") and rest.startswith("'"):
        key = rest[1:-2]
        if base == "metadata.annotations":
            return faults(path, key.lower(), formats.label_key(key.lower()))
        if base == "metadata.labels":
            return faults(path, key, formats.label_key(key))
        return [
            invalid(
                f"{path}.fieldPath",
                field,
                f"error converting fieldPath: field label does not support subscript: {field}",
            )
        ]
    if field not in supported:
        if field not in ENVIRONMENT_FIELDS | FILE_FIELDS and field != "spec.restartPolicy":
            return [
                invalid(
                    f"{path}.fieldPath",
                    field,
                    f"error converting fieldPath: field label not supported: {field}",
                )
            ]
        return [not_supported(f"{path}.fieldPath", field, supported)]
    return []


def validate_resource_reference(reference: Object, path: str, *, in_volume: bool) -> list[FieldError]:
    """A reference to a container's limit or request."""
    errors: list[FieldError] = []
    resource = reference.get("resource") or ""
    huge = resource.startswith(("limits.hugepages-", "requests.hugepages-"))
    if in_volume and not reference.get("containerName"):
        errors.append(required(f"{path}.containerName"))
    elif not resource:
        errors.append(required(f"{path}.resource"))
    elif resource not in _RESOURCE_FIELDS and not huge:
        errors.append(not_supported(f"{path}.resource", resource, _RESOURCE_FIELDS))
    divisor = quantity.canonical(reference.get("divisor") or "0")
    allowed, name = _DIVISORS.get(resource.partition(".")[2], (_BYTES, "hugepages"))
    if divisor != "0" and divisor not in allowed and (resource in _RESOURCE_FIELDS or huge):
        shown = " and ".join(allowed) if name == "cpu" else ", ".join(allowed)
        errors.append(
            invalid(
                f"{path}.divisor",
                resource,
                f"only divisor's values {shown} are supported with the {name} resource",
            )
        )
    return errors


def _validate_environment_sources(sources: Sequence[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, source in enumerate(sources):
        here = f"{path}[{index}]"
        if source.get("prefix"):
            errors += faults(f"{here}.prefix", source["prefix"], formats.environment_name(source["prefix"]))
        given = 0
        for field in ("configMapRef", "secretRef"):
            reference = source.get(field)
            if reference is not None:
                given += 1
                name = reference.get("name")
                if not name:
                    errors.append(required(f"{here}.{field}.name"))
                else:
                    errors += faults(f"{here}.{field}.name", name, formats.dns_subdomain(name))
        if not given:
            errors.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif given > 1:
            errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def _validate_mounts(
    mounts: Sequence[Object], container: Object, volumes: Mapping[str, Object], path: str
) -> list[FieldError]:
    errors: list[FieldError] = []
    points: set[str] = set()
    devices = {each.get("name"): each.get("devicePath") for each in container.get("volumeDevices") or ()}
    for index, mount in enumerate(mounts):
        here = f"{path}[{index}]"
        name, point = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            errors.append(required(f"{here}.name"))
        if name not in volumes:
            errors.append(not_found_field(f"{here}.name", name))
        if not point:
            errors.append(required(f"{here}.mountPath"))
        if point in points:
            errors.append(invalid(f"{here}.mountPath", point, "must be unique"))
        points.add(point)
        if name in devices:
            errors.append(invalid(f"{here}.name", name, "must not already exist in volumeDevices"))
        if point in devices.values():
            errors.append(
                invalid(f"{here}.mountPath", point, "must not already exist as a path in volumeDevices")
            )
        below, expression = mount.get("subPath"), mount.get("subPathExpr")
        if below:
            errors += faults(f"{path}.subPath", below, formats.relative_path(below))
        if expression:
            if below:
                errors.append(
                    invalid(
                        f"{here}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive"
                    )
                )
            errors += faults(f"{path}.subPathExpr", expression, formats.relative_path(expression))
        errors += _validate_mount_modes(mount, container, path)
    return errors


def _validate_mount_modes(mount: Object, container: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        if propagation not in _PROPAGATIONS:
            errors.append(not_supported(f"{path}.mountPropagation", propagation, _PROPAGATIONS))
        privileged = (container.get("securityContext") or {}).get("privileged")
        if propagation == "Bidirectional" and not privileged:
            errors.append(
                forbidden_field(
                    f"{path}.mountPropagation",
                    "Bidirectional mount propagation is available only to privileged containers",
                )
            )
    recursive = mount.get("recursiveReadOnly")
    if recursive in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            errors.append(
                forbidden_field(f"{path}.recursiveReadOnly", "may only be specified when readOnly is true")
            )
        if propagation not in (None, "None"):
            errors.append(
                forbidden_field(
                    f"{path}.recursiveReadOnly",
                    "may only be specified when mountPropagation is None or not specified",
                )
            )
    elif recursive not in (None, "Disabled"):
        errors.append(not_supported(f"{path}.recursiveReadOnly", recursive, _RECURSIVE_READ_ONLY))
    return errors


def _validate_devices(
    devices: Sequence[Object], container: Object, volumes: Mapping[str, Object], path: str
) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    paths: set[str] = set()
    mounts = {each.get("name"): each.get("mountPath") for each in container.get("volumeMounts") or ()}
    for index, device in enumerate(devices):
        here = f"{path}[{index}]"
        name, point = device.get("name") or "", device.get("devicePath") or ""
        if not name:
            errors.append(required(f"{here}.name"))
        if name in names:
            errors.append(invalid(f"{here}.name", name, "must be unique"))
        volume = volumes.get(name)
        if volume is None:
            errors.append(not_found_field(f"{here}.name", name))
        elif "persistentVolumeClaim" not in volume and "ephemeral" not in volume:
            errors.append(
                invalid(
                    f"{here}.name",
                    name,
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                )
            )
        if not point:
            errors.append(required(f"{here}.devicePath"))
        if point in paths:
            errors.append(invalid(f"{here}.devicePath", point, "must be unique"))
        if formats.no_way_up(point):
            errors.append(invalid(f"{here}.devicePath", point, "can not contain backsteps ('..')"))
        paths.add(point)
        names.add(name)
        if name in mounts:
            errors.append(invalid(f"{here}.name", name, "must not already exist in volumeMounts"))
        if point in mounts.values():
            errors.append(
                invalid(f"{here}.devicePath", point, "must not already exist as a path in volumeMounts")
            )
    return errors


def _validate_lifecycle(container: Object, grace_period: int | None, path: str) -> list[FieldError]:
    """Hooks and probes."""
    errors: list[FieldError] = []
    hooks = container.get("lifecycle") or {}
    for field in ("postStart", "preStop"):
        if hooks.get(field) is not None:
            errors += _validate_handler(hooks[field], grace_period, f"{path}.lifecycle.{field}")
    for field in _PROBES:
        probe = container.get(field)
        if probe is not None:
            errors += _validate_probe(probe, field, grace_period, f"{path}.{field}")
    return errors


def _validate_probe(probe: Object, kind: str, grace_period: int | None, path: str) -> list[FieldError]:
    errors = _validate_handler(probe, grace_period, path)
    for field in (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ):
        errors += non_negative(f"{path}.{field}", probe.get(field))
    own_grace = probe.get("terminationGracePeriodSeconds")
    if own_grace is not None and own_grace <= 0:
        errors.append(invalid(f"{path}.terminationGracePeriodSeconds", own_grace, "must be greater than 0"))
    if kind == "readinessProbe":
        if own_grace is not None:
            errors.append(
                invalid(
                    f"{path}.terminationGracePeriodSeconds", own_grace, "must not be set for readinessProbes"
                )
            )
    elif probe.get("successThreshold") != 1:
        errors.append(invalid(f"{path}.successThreshold", probe.get("successThreshold", 0), "must be 1"))
    return errors


def _validate_handler(handler: Object, grace_period: int | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    given = [
        field for field in ("exec", "httpGet", "tcpSocket", "grpc", "sleep") if handler.get(field) is not None
    ]
    if not given:
        return [required(path, "must specify a handler type")]
    for field in given[1:]:
        errors.append(forbidden_field(f"{path}.{field}", "may not specify more than 1 handler type"))
    field = given[0]
    action, here = handler[field], f"{path}.{field}"
    if field == "exec":
        if not action.get("command"):
            errors.append(required(f"{here}.command"))
    elif field == "httpGet":
        errors += _validate_http_get(action, here)
    elif field == "sleep":
        seconds = action.get("seconds") or 0
        if grace_period is not None and not 0 <= seconds <= grace_period:
            errors.append(
                invalid(
                    here,
                    seconds,
                    f"must be non-negative and less than terminationGracePeriodSeconds ({grace_period})",
                )
            )
    else:
        port = action.get("port", 0)
        errors += [invalid(f"{here}.port", port, fault) for fault in formats.port(port)]
    return errors


def _validate_http_get(action: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not action.get("path"):
        errors.append(required(f"{path}.path"))
    port = action.get("port", 0)
    errors += [invalid(f"{path}.port", port, fault) for fault in formats.port(port)]
    if action.get("scheme") not in _SCHEMES:
        errors.append(not_supported(f"{path}.scheme", action.get("scheme", ""), _SCHEMES))
    for header in action.get("httpHeaders") or ():
        name = header.get("name") or ""
        errors += faults(f"{path}.httpHeaders", name, formats.http_header_name(name))
    return errors


def _validate_resize_policy(policies: Sequence[Object], restart_policy: str, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, each in enumerate(policies):
        name, policy = each.get("resourceName") or "", each.get("restartPolicy") or ""
        if name in seen:
            errors.append(duplicate(f"{path}[{index}]", name))
        seen.add(name)
        if not name:
            errors.append(required(path))
        elif name not in _RESIZABLE:
            errors.append(not_supported(path, name, _RESIZABLE))
        if not policy:
            errors.append(required(path))
        elif policy not in _RESIZE_POLICIES:
            errors.append(not_supported(path, policy, _RESIZE_POLICIES))
        if restart_policy == "Never" and policy != "NotRequired":
            errors.append(invalid(path, policy, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
    return errors


def _is_huge_pages(name: str) -> bool:
    return name.startswith("hugepages-")


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def _resource_name_faults(name: str) -> list[str]:
    """Why this cannot be the name of a container's resource."""
    if found := formats.label_key(name):
        return list(found)
    if "/" not in name:
        if _is_huge_pages(name) or name in _STANDARD_RESOURCES:
            return []
        unknown = [] if name in _QUOTA_RESOURCES else ["must be a standard resource type or fully qualified"]
        return [*unknown, "must be a standard resource for containers"]
    extended = not name.startswith("requests.") and not formats.label_key(f"requests.{name}")
    if not _is_native(name) and not extended:
        return ["doesn't follow extended resource name standard"]
    return []


def _may_overcommit(name: str) -> bool:
    return _is_native(name) and not _is_huge_pages(name)


def _huge_page_faults(name: str, amount: Decimal, shown: str) -> list[str]:
    try:
        size = quantity.value(name.removeprefix("hugepages-"))
    except quantity.QuantityError:
        size = _ZERO
    if size > 0 and amount % size == 0:
        return []
    return [f"{shown} is not positive integer multiple of {name}"]


def validate_resources(resources: Object, claims: frozenset[str], path: str) -> list[FieldError]:
    """A container's requests, limits and claims."""
    errors: list[FieldError] = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, text in amounts.items():
            here = f"{path}.{field}[{name}]"
            errors += faults(here, name, _resource_name_faults(name))
            amount = quantity.parse(text)
            if amount.value < 0:
                errors.append(invalid(here, str(amount), NEGATIVE))
            if not _is_native(name) and amount.value % 1:
                errors.append(invalid(here, str(amount), _NOT_INTEGER))
            if field == "requests":
                errors += _validate_request(name, amount, limits, path)
            if _is_huge_pages(name):
                errors += faults(here, str(amount), _huge_page_faults(name, amount.value, str(amount)))
    given = limits.keys() | requests.keys()
    if any(map(_is_huge_pages, given)) and not given & _RESIZABLE:
        errors.append(forbidden_field(path, "HugePages require cpu or memory"))
    return errors + _validate_claims(resources.get("claims") or (), claims, f"{path}.claims")


def _validate_request(
    name: str, amount: quantity.Quantity, limits: Mapping[str, str], path: str
) -> list[FieldError]:
    """A request against its limit."""
    if name not in limits:
        if _may_overcommit(name):
            return []
        return [required(f"{path}.limits", "Limit must be set for non overcommitable resources")]
    limit = quantity.parse(limits[name])
    if amount.value != limit.value and not _may_overcommit(name):
        return [invalid(f"{path}.requests", str(amount), f"must be equal to {name} limit of {limit}")]
    if amount.value > limit.value:
        return [
            invalid(f"{path}.requests", str(amount), f"must be less than or equal to {name} limit of {limit}")
        ]
    return []


def _validate_claims(used: Sequence[Object], claims: frozenset[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, claim in enumerate(used):
        here, name = f"{path}[{index}]", claim.get("name") or ""
        if not name:
            errors.append(required(here))
            continue
        key = f"{name}/{claim['request']}" if claim.get("request") else name
        if name in seen or key in seen:
            errors.append(duplicate(here, name if name in seen else key))
        seen.add(key)
        if name not in claims:
            detail = "must be one of the names in pod.spec.resourceClaims"
            detail += f": {', '.join(sorted(claims))}" if claims else " which is empty"
            found = not_found_field(here, name)
            errors.append(FieldError(found.type, found.path, f"{found.detail}: {detail}"))
    return errors
