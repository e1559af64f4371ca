"""The Node."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import formats, meta
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .metadata import NEGATIVE, faults, validating
from .models import core_v1
from .pod_placement import TAINT_EFFECTS
from .pods import condition
from .quantity import canonical, value
from .resource import NODES
from .status import FieldError, duplicate, forbidden_field, invalid, not_supported, required

ROLE_PREFIX = "node-role.kubernetes.io/"
ROLE_LABEL = "kubernetes.io/role"

_INFO = (
    "architecture",
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "operatingSystem",
    "osImage",
    "systemUUID",
)


def default(node: Object) -> None:
    node.setdefault("spec", {})
    status = node.setdefault("status", {})
    for field in ("capacity", "allocatable"):
        if status.get(field):
            status[field] = {name: canonical(amount) for name, amount in status[field].items()}
    if status.get("allocatable") is None and status.get("capacity") is not None:
        status["allocatable"] = dict(status["capacity"])
    status.setdefault("daemonEndpoints", {}).setdefault("kubeletEndpoint", {}).setdefault("Port", 0)
    info = status.setdefault("nodeInfo", {})
    for field in _INFO:
        info.setdefault(field, "")


def prepare(node: Object, old: Object | None) -> None:
    """A node may arrive with its status; later it goes through the ``status`` subresource."""
    if old is not None:
        node["status"] = old.get("status", {})


def _validate(node: Object, old: Object | None) -> list[FieldError]:
    spec = node.get("spec") or {}
    errors = _validate_taints(spec.get("taints") or ()) + _validate_resources(node)
    if old is None:
        return errors + _validate_pod_cidrs(spec.get("podCIDRs") or [])
    before = old.get("spec") or {}
    errors += _validate_addresses(node)
    if before.get("podCIDRs") and before["podCIDRs"] != (spec.get("podCIDRs") or []):
        errors.append(
            forbidden_field("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
        )
    elif not before.get("podCIDRs"):
        errors += _validate_pod_cidrs(spec.get("podCIDRs") or [])
    if before.get("providerID") and before["providerID"] != spec.get("providerID"):
        errors.append(
            forbidden_field(
                "spec.providerID", 'node updates may not change providerID except from "" to valid'
            )
        )
    return errors


def _validate_status(node: Object, old: Object) -> list[FieldError]:
    return _validate_resources(node) + _validate_addresses(node)


def _validate_addresses(node: Object) -> list[FieldError]:
    found = [
        (each.get("type", ""), each.get("address", ""))
        for each in (node.get("status") or {}).get("addresses") or ()
    ]
    return [
        duplicate(f"status.addresses[{index}]", {"Type": each[0], "Address": each[1]})
        for index, each in enumerate(found)
        if each in found[:index]
    ]


def _validate_resources(node: Object) -> list[FieldError]:
    status = node.get("status") or {}
    return [
        invalid(f"status.{field}.{name}", canonical(amount), NEGATIVE)
        for field in ("capacity", "allocatable")
        for name, amount in (status.get(field) or {}).items()
        if value(amount) < 0
    ]


def _validate_pod_cidrs(cidrs: Sequence[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, cidr in enumerate(cidrs):
        errors += faults(f"spec.podCIDRs[{index}]", cidr, formats.cidr(cidr))
    if len(cidrs) > 1:
        if len(cidrs) > 2 or len({":" in cidr for cidr in cidrs}) != 2:
            errors.append(
                invalid("spec.podCIDRs", list(cidrs), "may specify no more than one CIDR for each IP family")
            )
        for index, cidr in enumerate(cidrs):
            if cidr in cidrs[:index]:
                errors.append(duplicate(f"spec.podCIDRs[{index}]", cidr))
    return errors


def _validate_taints(taints: Sequence[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        # Kubernetes reports them below metadata.
        path = f"metadata.taints[{index}]"
        key, effect, content = taint.get("key") or "", taint.get("effect") or "", taint.get("value") or ""
        errors += faults(f"{path}.key", key, formats.label_key(key))
        if found := formats.label_value(content):
            errors.append(invalid(f"{path}.value", content, ";".join(found)))
        if not effect:
            errors.append(required(f"{path}.effect"))
        elif effect not in TAINT_EFFECTS:
            errors.append(not_supported(f"{path}.effect", effect, TAINT_EFFECTS))
        if (key, effect) in seen:
            shown = {"Key": key, "Value": content, "Effect": effect, "TimeAdded": taint.get("timeAdded")}
            error = duplicate(path, shown)
            detail = f"{error.detail}: taints must be unique by key and effect pair"
            errors.append(FieldError(error.type, error.path, detail))
        seen.add((key, effect))
    return errors


def is_schedulable(node: Object) -> bool:
    return not (node.get("spec") or {}).get("unschedulable")


def addresses(node: Object, kind: str) -> list[str]:
    """The node's addresses of that type, such as ``InternalIP``."""
    return [
        str(each.get("address", ""))
        for each in (node.get("status") or {}).get("addresses") or ()
        if each.get("type") == kind
    ]


def _status(node: Object) -> str:
    ready = condition(node, "Ready")
    words = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if not is_schedulable(node):
        words.append("SchedulingDisabled")
    return ",".join(words)


def roles(node: Object) -> list[str]:
    """From the labels ``node-role.kubernetes.io/<role>`` and ``kubernetes.io/role``, sorted."""
    found = set()
    for key, role in meta.labels(node).items():
        if key.startswith(ROLE_PREFIX) and len(key) > len(ROLE_PREFIX):
            found.add(key[len(ROLE_PREFIX) :])
        elif key == ROLE_LABEL and role:
            found.add(role)
    return sorted(found)


def _address(kind: str) -> Callable[[Object], str]:
    return lambda node: (addresses(node, kind) or ["<none>"])[0]


def _info(field: str, missing: str = "<unknown>") -> Callable[[Object], str]:
    return lambda node: str(((node.get("status") or {}).get("nodeInfo") or {}).get(field) or missing)


NODE = Kind(
    resource=NODES,
    model=core_v1.Node,
    singular="node",
    short_names=("no",),
    columns=(
        NAME_COLUMN,
        Column("Status", _status, description="The status of the node"),
        Column("Roles", lambda node: ",".join(roles(node)) or "<none>", description="The roles of the node"),
        AGE_COLUMN,
        Column("Version", _info("kubeletVersion", "")),
        Column("Internal-IP", _address("InternalIP"), wide=True),
        Column("External-IP", _address("ExternalIP"), wide=True),
        Column("OS-Image", _info("osImage"), wide=True),
        Column("Kernel-Version", _info("kernelVersion"), wide=True),
        Column("Container-Runtime", _info("containerRuntimeVersion"), wide=True),
    ),
    has_status=True,
    default=default,
    prepare=prepare,
    validate=validating(formats.dns_subdomain, _validate, namespaced=False),
    validate_status=_validate_status,
    selectable_fields={"spec.unschedulable": lambda node: "false" if is_schedulable(node) else "true"},
)
