"""The workloads: Deployment, ReplicaSet, StatefulSet, DaemonSet, and their ControllerRevisions."""

from __future__ import annotations

from collections.abc import Callable

from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind, Scale
from .meta import Object, controller_of
from .models import apps_v1
from .podspec import default_template
from .resource import CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS
from .selectors import format_object, from_labels


def _default(obj: Object, field: str, value: object) -> None:
    if obj.get(field) is None:
        obj[field] = value


def default_deployment(deployment: Object) -> None:
    spec = deployment.setdefault("spec", {})
    _default(spec, "replicas", 1)
    strategy = spec.get("strategy") or {}
    spec["strategy"] = strategy
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate") or {}
        strategy["rollingUpdate"] = rolling
        _default(rolling, "maxUnavailable", "25%")
        _default(rolling, "maxSurge", "25%")
    _default(spec, "revisionHistoryLimit", 10)
    _default(spec, "progressDeadlineSeconds", 600)
    default_template(spec.setdefault("template", {}))


def default_replica_set(replica_set: Object) -> None:
    spec = replica_set.setdefault("spec", {})
    _default(spec, "replicas", 1)
    if spec.get("template"):
        default_template(spec["template"])


def default_stateful_set(stateful_set: Object) -> None:
    spec = stateful_set.setdefault("spec", {})
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    strategy = spec.get("updateStrategy") or {}
    spec["updateStrategy"] = strategy
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate") or {}
        strategy["rollingUpdate"] = rolling
        _default(rolling, "partition", 0)
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    spec["persistentVolumeClaimRetentionPolicy"] = retention
    for field in ("whenDeleted", "whenScaled"):
        if not retention.get(field):
            retention[field] = "Retain"
    _default(spec, "replicas", 1)
    _default(spec, "revisionHistoryLimit", 10)
    for claim in spec.get("volumeClaimTemplates") or ():
        _default(claim.setdefault("spec", {}), "volumeMode", "Filesystem")
        claim.setdefault("status", {}).setdefault("phase", "Pending")
        claim.setdefault("apiVersion", "v1")
        claim.setdefault("kind", "PersistentVolumeClaim")
    default_template(spec.setdefault("template", {}))


def default_daemon_set(daemon_set: Object) -> None:
    spec = daemon_set.setdefault("spec", {})
    strategy = spec.get("updateStrategy") or {}
    spec["updateStrategy"] = strategy
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate") or {}
        strategy["rollingUpdate"] = rolling
        _default(rolling, "maxUnavailable", 1)
        _default(rolling, "maxSurge", 0)
    _default(spec, "revisionHistoryLimit", 10)
    default_template(spec.setdefault("template", {}))


def _prepared(initial: Object) -> Callable[[Object, Object | None], None]:
    def prepare(obj: Object, old: Object | None) -> None:
        obj["status"] = dict(initial) if old is None else old.get("status", {})

    return prepare


def _number(section: str, field: str, missing: int = 0) -> Callable[[Object], int]:
    def get(obj: Object) -> int:
        value = (obj.get(section) or {}).get(field)
        return missing if value is None else int(value)

    return get


def _ready(obj: Object) -> str:
    return f"{_number('status', 'readyReplicas')(obj)}/{_number('spec', 'replicas')(obj)}"


def _containers(obj: Object) -> list[Object]:
    template = (obj.get("spec") or {}).get("template") or {}
    return list((template.get("spec") or {}).get("containers") or ())


def _selector(obj: Object) -> str:
    return format_object((obj.get("spec") or {}).get("selector"))


def _node_selector(daemon_set: Object) -> str:
    pod = ((daemon_set.get("spec") or {}).get("template") or {}).get("spec") or {}
    return str(from_labels(pod.get("nodeSelector"))) or "<none>"


def _owner(revision: Object) -> str:
    owner = controller_of(revision)
    if owner is None:
        return "<none>"
    group = owner["apiVersion"].rpartition("/")[0]
    return f"{owner['kind'].lower()}{'.' + group if group else ''}/{owner['name']}"


CONTAINERS_COLUMN = Column(
    "Containers",
    lambda obj: ",".join(each.get("name", "") for each in _containers(obj)),
    wide=True,
    description="Names of each container in the template.",
)
IMAGES_COLUMN = Column(
    "Images",
    lambda obj: ",".join(each.get("image", "") for each in _containers(obj)),
    wide=True,
    description="Images referenced by each container in the template.",
)
SELECTOR_COLUMN = Column("Selector", _selector, wide=True)

DEPLOYMENT = Kind(
    resource=DEPLOYMENTS,
    model=apps_v1.Deployment,
    singular="deployment",
    short_names=("deploy",),
    categories=("all",),
    columns=(
        NAME_COLUMN,
        Column("Ready", _ready, description="Number of the pod with ready state"),
        Column("Up-to-date", _number("status", "updatedReplicas")),
        Column("Available", _number("status", "availableReplicas")),
        AGE_COLUMN,
        CONTAINERS_COLUMN,
        IMAGES_COLUMN,
        SELECTOR_COLUMN,
    ),
    has_status=True,
    has_generation=True,
    scale=Scale(),
    default=default_deployment,
    prepare=_prepared({}),
)

REPLICA_SET = Kind(
    resource=REPLICA_SETS,
    model=apps_v1.ReplicaSet,
    singular="replicaset",
    short_names=("rs",),
    categories=("all",),
    columns=(
        NAME_COLUMN,
        Column("Desired", _number("spec", "replicas"), type="integer"),
        Column("Current", _number("status", "replicas"), type="integer"),
        Column("Ready", _number("status", "readyReplicas"), type="integer"),
        AGE_COLUMN,
        CONTAINERS_COLUMN,
        IMAGES_COLUMN,
        SELECTOR_COLUMN,
    ),
    has_status=True,
    has_generation=True,
    scale=Scale(),
    default=default_replica_set,
    prepare=_prepared({"replicas": 0}),
    selectable_fields={"status.replicas": lambda obj: str(_number("status", "replicas")(obj))},
)

STATEFUL_SET = Kind(
    resource=STATEFUL_SETS,
    model=apps_v1.StatefulSet,
    singular="statefulset",
    short_names=("sts",),
    categories=("all",),
    columns=(
        NAME_COLUMN,
        Column("Ready", _ready, description="Number of the pod with ready state"),
        AGE_COLUMN,
        CONTAINERS_COLUMN,
        IMAGES_COLUMN,
    ),
    has_status=True,
    has_generation=True,
    scale=Scale(),
    default=default_stateful_set,
    prepare=_prepared({"replicas": 0, "availableReplicas": 0}),
)

DAEMON_SET = Kind(
    resource=DAEMON_SETS,
    model=apps_v1.DaemonSet,
    singular="daemonset",
    short_names=("ds",),
    categories=("all",),
    columns=(
        NAME_COLUMN,
        Column("Desired", _number("status", "desiredNumberScheduled"), type="integer"),
        Column("Current", _number("status", "currentNumberScheduled"), type="integer"),
        Column("Ready", _number("status", "numberReady"), type="integer"),
        Column("Up-to-date", _number("status", "updatedNumberScheduled"), type="integer"),
        Column("Available", _number("status", "numberAvailable"), type="integer"),
        Column("Node Selector", _node_selector),
        AGE_COLUMN,
        CONTAINERS_COLUMN,
        IMAGES_COLUMN,
        SELECTOR_COLUMN,
    ),
    has_status=True,
    has_generation=True,
    default=default_daemon_set,
    prepare=_prepared(
        {"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0}
    ),
)

CONTROLLER_REVISION = Kind(
    resource=CONTROLLER_REVISIONS,
    model=apps_v1.ControllerRevision,
    singular="controllerrevision",
    columns=(
        NAME_COLUMN,
        Column("Controller", _owner, description="Controller of the object"),
        Column("Revision", lambda revision: int(revision.get("revision") or 0)),
        AGE_COLUMN,
    ),
)
