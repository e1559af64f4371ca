"""The workloads: Deployment, ReplicaSet, StatefulSet, DaemonSet, and their ControllerRevisions."""

from __future__ import annotations

from collections.abc import Callable

from . import formats
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind, Scale
from .meta import Object, controller_of
from .metadata import (
    equivalent,
    faults,
    immutable,
    non_negative,
    validate_template_metadata,
    validating,
)
from .models import apps_v1
from .persistentvolumeclaim import default_spec as default_claim_spec
from .podspec import default_template
from .resource import CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS
from .selectors import format_object, from_labels
from .status import FieldError, forbidden_field, invalid, not_supported, required
from .workload_validation import (
    always_restarts,
    at_most_all,
    is_zero,
    validate_collisions,
    validate_count_or_percent,
    validate_counts,
    validate_matching,
    validate_running_template,
    validate_selector,
    validate_status_counts,
)


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
        default_claim_spec(claim.setdefault("spec", {}))
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


def _validate_deployment(deployment: Object, old: Object | None) -> list[FieldError]:
    spec = deployment["spec"]
    errors = validate_counts(spec, ("replicas",))
    errors += validate_selector(spec, old, "empty selector is invalid for deployment")
    errors += validate_matching(spec)
    errors += validate_running_template(spec, "ReplicaSet")
    errors += _validate_deployment_strategy(spec.get("strategy") or {})
    errors += validate_counts(spec, ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= (spec.get("minReadySeconds") or 0):
        errors.append(
            invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")
        )
    return errors


def _validate_deployment_strategy(strategy: Object) -> list[FieldError]:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    path = "spec.strategy.rollingUpdate"
    if kind == "Recreate":
        if rolling is None:
            return []
        return [forbidden_field(path, "may not be specified when strategy `type` is 'Recreate'")]
    if kind != "RollingUpdate":
        shown = {"Type": kind, "RollingUpdate": rolling}
        return [not_supported("spec.strategy", shown, ("Recreate", "RollingUpdate"))]
    unavailable, surge = (rolling or {}).get("maxUnavailable"), (rolling or {}).get("maxSurge")
    errors = validate_count_or_percent(unavailable, f"{path}.maxUnavailable")
    errors += validate_count_or_percent(surge, f"{path}.maxSurge")
    if is_zero(unavailable) and is_zero(surge):
        errors.append(invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
    return errors + at_most_all(unavailable, f"{path}.maxUnavailable")


def _validate_deployment_status(deployment: Object, old: Object) -> list[FieldError]:
    status = deployment.get("status") or {}
    errors = validate_status_counts(status, ("updatedReplicas", "readyReplicas", "availableReplicas"))
    errors += validate_counts(status, ("unavailableReplicas",), "status")
    return errors + validate_collisions(status, old.get("status") or {})


def _validate_replica_set(replica_set: Object, old: Object | None) -> list[FieldError]:
    spec = replica_set["spec"]
    errors = validate_counts(spec, ("replicas", "minReadySeconds"))
    errors += validate_selector(spec, old, "empty selector is invalid for deployment")
    return errors + validate_matching(spec) + validate_running_template(spec, "ReplicaSet")


def _validate_replica_set_status(replica_set: Object, old: Object) -> list[FieldError]:
    return validate_status_counts(
        replica_set.get("status") or {}, ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    )


_CHANGEABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_RETENTIONS = ("Retain", "Delete")


def _validate_stateful_set(stateful_set: Object, old: Object | None) -> list[FieldError]:
    spec = stateful_set["spec"]
    errors: list[FieldError] = []
    if old is not None:
        fixed = {field: each for field, each in spec.items() if field not in _CHANGEABLE}
        before = {field: each for field, each in old["spec"].items() if field not in _CHANGEABLE}
        if not equivalent(fixed, before):
            shown = ", ".join(f"'{field}'" for field in _CHANGEABLE[:-1])
            errors.append(
                forbidden_field(
                    "spec",
                    f"updates to statefulset spec for fields other than {shown} and "
                    f"'{_CHANGEABLE[-1]}' are forbidden",
                )
            )
    policy = spec.get("podManagementPolicy") or ""
    if policy not in ("OrderedReady", "Parallel"):
        errors.append(invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    errors += _validate_stateful_strategy(spec.get("updateStrategy") or {})
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for field in ("whenDeleted", "whenScaled"):
        if retention.get(field) not in _RETENTIONS:
            path = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
            errors.append(not_supported(path, retention.get(field) or "", _RETENTIONS))
    errors += validate_counts(spec, ("replicas", "minReadySeconds", "revisionHistoryLimit"))
    errors += non_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
    if old is None and spec.get("serviceName"):
        errors += faults("spec.serviceName", spec["serviceName"], formats.dns_label(spec["serviceName"]))
    errors += validate_selector(spec, None, "empty selector is invalid for statefulset")
    errors += validate_matching(spec)
    template = spec.get("template") or {}
    errors += validate_template_metadata(template.get("metadata") or {}, "spec.template")
    pod = template.get("spec") or {}
    errors += always_restarts(pod)
    if pod.get("activeDeadlineSeconds") is not None:
        errors.append(
            forbidden_field(
                "spec.template.spec.activeDeadlineSeconds",
                "activeDeadlineSeconds in StatefulSet is not Supported",
            )
        )
    return errors


def _validate_stateful_strategy(strategy: Object) -> list[FieldError]:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    path = "spec.updateStrategy"
    if not kind:
        return [required(path)]
    if kind == "OnDelete":
        if rolling is None:
            return []
        return [invalid(f"{path}.rollingUpdate", rolling, "only allowed for updateStrategy 'RollingUpdate'")]
    if kind != "RollingUpdate":
        shown = {"Type": kind, "RollingUpdate": rolling}
        return [invalid(path, shown, "must be 'RollingUpdate' or 'OnDelete'")]
    return non_negative(f"{path}.rollingUpdate.partition", (rolling or {}).get("partition"))


def _validate_stateful_set_status(stateful_set: Object, old: Object) -> list[FieldError]:
    status = stateful_set.get("status") or {}
    fields = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    return validate_status_counts(status, fields) + validate_collisions(status, old.get("status") or {})


def _validate_daemon_set(daemon_set: Object, old: Object | None) -> list[FieldError]:
    spec = daemon_set["spec"]
    errors = validate_selector(spec, old, "empty selector is invalid for daemonset")
    errors += validate_matching(spec) + validate_running_template(spec, "DaemonSet")
    errors += validate_counts(spec, ("minReadySeconds", "revisionHistoryLimit"))
    strategy = spec.get("updateStrategy") or {}
    kind, path = strategy.get("type") or "", "spec.updateStrategy.rollingUpdate"
    if kind == "OnDelete":
        return errors
    if kind != "RollingUpdate":
        shown = {"Type": kind, "RollingUpdate": strategy.get("rollingUpdate")}
        errors.append(not_supported("spec.updateStrategy", shown, ("RollingUpdate", "OnDelete")))
        return errors
    rolling = strategy.get("rollingUpdate") or {}
    for field in ("maxUnavailable", "maxSurge"):
        errors += validate_count_or_percent(rolling.get(field), f"{path}.{field}")
        errors += at_most_all(rolling.get(field), f"{path}.{field}")
    surges, misses = not is_zero(rolling.get("maxSurge")), not is_zero(rolling.get("maxUnavailable"))
    if surges and misses:
        errors.append(
            invalid(
                f"{path}.maxSurge", rolling.get("maxSurge"), "may not be set when maxUnavailable is non-zero"
            )
        )
    elif not surges and not misses:
        errors.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return errors


def _validate_daemon_set_status(daemon_set: Object, old: Object) -> list[FieldError]:
    fields = (
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
    )
    status = daemon_set.get("status") or {}
    errors = validate_counts(status, fields, "status")
    return errors + validate_collisions(status, old.get("status") or {})


def _validate_revision(revision: Object, old: Object | None) -> list[FieldError]:
    errors: list[FieldError] = []
    if revision.get("data") is None:
        errors.append(required("data", "data is mandatory"))
    errors += non_negative("revision", revision.get("revision"))
    if old is not None:
        errors += immutable("data", revision.get("data"), old.get("data"))
    return errors


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
    validate=validating(formats.dns_subdomain, _validate_deployment),
    validate_status=_validate_deployment_status,
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
    validate=validating(formats.dns_subdomain, _validate_replica_set),
    validate_status=_validate_replica_set_status,
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
    validate=validating(formats.dns_subdomain, _validate_stateful_set),
    validate_status=_validate_stateful_set_status,
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
    validate=validating(formats.dns_subdomain, _validate_daemon_set),
    validate_status=_validate_daemon_set_status,
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
    validate=validating(formats.dns_subdomain, _validate_revision),
)
