"""The Node."""

from __future__ import annotations

from collections.abc import Callable

from . import meta
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .models import core_v1
from .pods import condition
from .quantity import canonical
from .resource import NODES

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
    for key, value in meta.labels(node).items():
        if key.startswith(ROLE_PREFIX) and len(key) > len(ROLE_PREFIX):
            found.add(key[len(ROLE_PREFIX) :])
        elif key == ROLE_LABEL and value:
            found.add(value)
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
    selectable_fields={"spec.unschedulable": lambda node: "false" if is_schedulable(node) else "true"},
)
