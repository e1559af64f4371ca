"""The Pod."""

from __future__ import annotations

from typing import Any

from . import formats, pods
from .duration import age
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object, parse_time
from .metadata import validating
from .models import core_v1
from .pod_validation import validate_pod, validate_pod_status
from .podspec import default_pod_only, default_pod_spec
from .resource import PODS

UNREACHABLE_REASON = "NodeLost"


def default(pod: Object) -> None:
    spec = pod.setdefault("spec", {})
    default_pod_spec(spec)
    default_pod_only(spec)


def prepare(pod: Object, old: Object | None) -> None:
    """A new Pod is Pending, whatever was sent; afterwards its status is the kubelet's."""
    if old is None:
        pod["status"] = {"phase": "Pending", "qosClass": pods.qos_class(pod)}
    else:
        pod["status"] = old.get("status", {})


def _status(pod: Object) -> Object:
    status: Object = pod.get("status") or {}
    return status


def shown_status(pod: Object) -> str:
    """kubectl's STATUS: the phase, or whatever more telling a container or the deletion has to say."""
    return _summary(pod)[0]


def _exit_text(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _initializing(pod: Object) -> str | None:
    """The status while init containers have not all succeeded (or, for sidecars, started); else None."""
    containers = pod["spec"].get("initContainers") or ()
    sidecars = {each.get("name") for each in containers if pods.is_sidecar(each)}
    for index, status in enumerate(_status(pod).get("initContainerStatuses") or ()):
        state = status.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        if status.get("name") in sidecars and status.get("started"):
            continue
        if terminated is not None:
            return f"Init:{_exit_text(terminated)}"
        if waiting is not None and waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{len(containers)}"
    return None


def _summary(pod: Object) -> tuple[str, int, int]:
    """STATUS, and ready and total containers of READY."""
    spec, status = pod.get("spec") or {}, _status(pod)
    reason = str(status.get("reason") or status.get("phase") or "")
    gated = pods.condition(pod, "PodScheduled")
    if gated is not None and gated.get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    sidecars = {each.get("name") for each in spec.get("initContainers") or () if pods.is_sidecar(each)}
    total = len(spec.get("containers") or ()) + len(sidecars)
    ready = sum(
        bool(each.get("ready") and each.get("started"))
        for each in status.get("initContainerStatuses") or ()
        if each.get("name") in sidecars
    )
    initializing = _initializing(pod)
    if initializing is not None:
        reason = initializing
    if initializing is None or pods.is_true(pod, "Initialized"):
        running = False
        for each in reversed(status.get("containerStatuses") or ()):
            state = each.get("state") or {}
            waiting, terminated = state.get("waiting"), state.get("terminated")
            if waiting is not None and waiting.get("reason"):
                reason = str(waiting["reason"])
            elif terminated is not None:
                reason = _exit_text(terminated)
            elif each.get("ready") and state.get("running") is not None:
                running = True
                ready += 1
        if reason == "Completed" and running:
            # One container has done its work, another is still at it.
            reason = "Running" if pods.is_ready(pod) else "NotReady"
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == UNREACHABLE_REASON:
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    return reason, ready, total


def _ready(pod: Object) -> str:
    _, ready, total = _summary(pod)
    return f"{ready}/{total}"


def _restarts(pod: Object) -> str:
    """The count, and when the last one was. While initialising it is that of the init containers."""
    status = _status(pod)
    init = list(status.get("initContainerStatuses") or ())
    main = list(status.get("containerStatuses") or ())
    sidecars = {each.get("name") for each in pod["spec"].get("initContainers") or () if pods.is_sidecar(each)}
    if _initializing(pod) is not None and not pods.is_true(pod, "Initialized"):
        counted = init
    else:
        counted = main + [each for each in init if each.get("name") in sidecars]
    count = sum(int(each.get("restartCount") or 0) for each in counted)
    moments = [
        moment
        for each in counted
        if (moment := ((each.get("lastState") or {}).get("terminated") or {}).get("finishedAt"))
    ]
    if not count or not moments:
        return str(count)
    return f"{count} ({age(max(moments, key=parse_time))} ago)"


def _ip(pod: Object) -> str:
    return (pods.ips(pod) or ["<none>"])[0]


def _node(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "<none>")


def _nominated(pod: Object) -> str:
    return str(_status(pod).get("nominatedNodeName") or "<none>")


def _gates(pod: Object) -> str:
    gates = (pod.get("spec") or {}).get("readinessGates") or ()
    if not gates:
        return "<none>"
    passed = sum(pods.is_true(pod, each.get("conditionType", "")) for each in gates)
    return f"{passed}/{len(gates)}"


def _field(section: str, name: str) -> Any:
    return lambda pod: str((pod.get(section) or {}).get(name) or "")


POD = Kind(
    resource=PODS,
    model=core_v1.Pod,
    singular="pod",
    short_names=("po",),
    categories=("all",),
    columns=(
        NAME_COLUMN,
        Column(
            "Ready", _ready, description="The aggregate readiness state of this pod for accepting traffic."
        ),
        Column("Status", shown_status, description="The aggregate status of the containers in this pod."),
        Column(
            "Restarts", _restarts, description="The number of times the containers in this pod restarted."
        ),
        AGE_COLUMN,
        Column("IP", _ip, wide=True),
        Column("Node", _node, wide=True),
        Column("Nominated Node", _nominated, wide=True),
        Column("Readiness Gates", _gates, wide=True),
    ),
    has_status=True,
    has_generation=True,
    default=default,
    prepare=prepare,
    validate=validating(formats.dns_subdomain, validate_pod),
    validate_status=validate_pod_status,
    selectable_fields={
        "spec.nodeName": _field("spec", "nodeName"),
        "spec.restartPolicy": _field("spec", "restartPolicy"),
        "spec.schedulerName": _field("spec", "schedulerName"),
        "spec.serviceAccountName": _field("spec", "serviceAccountName"),
        "spec.hostNetwork": lambda pod: "true" if (pod.get("spec") or {}).get("hostNetwork") else "false",
        "status.phase": _field("status", "phase"),
        "status.podIP": _field("status", "podIP"),
        "status.nominatedNodeName": _field("status", "nominatedNodeName"),
    },
)
