"""A Pod's status, from its specification and what runtime and probes say. No input or output."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..api import meta
from ..api import pods as api_pods
from ..api.meta import Object
from ..api.pods import is_sidecar
from . import pod as pods
from .plan import restarts_after
from .runtime import Container, PodRuntime, Sandbox


class Waiting(NamedTuple):
    """Why a container does not run."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a Pod ended by the kubelet's own decision, such as DeadlineExceeded.

    *rejected*: the node never took it.
    """

    reason: str
    message: str
    rejected: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What a status is made from, besides the Pod itself.

    *problems*: why containers wait, by name. *ready* and *started*: the probes' answers by container id; a
    container that is not in them has no such probe.
    """

    runtime: PodRuntime
    host_ips: tuple[str, ...] = ()
    problems: Mapping[str, Waiting] = field(default_factory=dict)
    ready: Mapping[str, bool | None] = field(default_factory=dict)
    started: Mapping[str, bool | None] = field(default_factory=dict)
    oom_killed: frozenset[str] = frozenset()
    verdict: Verdict | None = None
    terminated: bool = False
    now: str = ""


def pod_status(pod: Object, facts: Facts) -> Object:
    """The whole ``status``. *pod* is what the API server has, its old status with it."""
    old = pod.get("status") or {}
    inits = [_container_status(pod, c, facts, old, init=True) for c in pods.init_containers(pod)]
    mains = [_container_status(pod, c, facts, old, init=False) for c in pods.containers(pod)]
    extras = [_ephemeral_status(pod, c, facts, old) for c in pods.ephemeral_containers(pod)]
    status: Object = {
        "phase": phase(pod, inits, mains, facts.verdict, terminated=facts.terminated),
        "qosClass": old.get("qosClass") or api_pods.qos_class(pod),
        "startTime": old.get("startTime") or facts.now,
        "observedGeneration": pod["metadata"].get("generation"),
        "reason": facts.verdict.reason if facts.verdict else old.get("reason"),
        "message": facts.verdict.message if facts.verdict else old.get("message"),
        "containerStatuses": mains,
        "initContainerStatuses": inits or None,
        "ephemeralContainerStatuses": extras or None,
        **_addresses(pod, facts, old),
    }
    status["conditions"] = _conditions(pod, status, facts)
    if facts.verdict and facts.verdict.rejected:
        del status["containerStatuses"], status["initContainerStatuses"]  # there never was a container
        status["message"] = f"Pod was rejected: {facts.verdict.message}"
    return {name: value for name, value in status.items() if value is not None}


def phase(
    pod: Object,
    inits: Sequence[Object],
    mains: Sequence[Object],
    verdict: Verdict | None = None,
    *,
    terminated: bool = False,
) -> str:
    """The Pod's phase by its containers' statuses. A finished Pod stays finished.

    *terminated*: nothing of it runs or will run again. While something runs, no phase is final.
    """
    if api_pods.is_terminal(pod):
        return api_pods.phase(pod)
    initializing = failed_init = False
    for container, status in zip(pods.init_containers(pod), inits, strict=True):
        last = _last_end(status)
        if is_sidecar(container):
            initializing |= not (status["started"] or last)
        elif "running" in status["state"] or last is None:
            initializing = True
        elif last["exitCode"] != 0:
            initializing = True
            failed_init |= not restarts_after(pod, container, last["exitCode"])
    running = any("running" in status["state"] for status in (*inits, *mains))
    ends = [_last_end(status) for status in mains if "running" not in status["state"]]
    stopped = [end for end in ends if end is not None]
    succeeded = len(stopped) == len(mains) and all(end["exitCode"] == 0 for end in stopped)
    if verdict is not None and not running:
        return "Failed"
    if terminated:
        return "Succeeded" if succeeded else "Failed"
    if failed_init:
        return "Failed"
    begun = len(ends) < len(mains) or bool(stopped)
    if (initializing and not begun) or len(stopped) < len(ends):
        return "Pending"
    if len(ends) < len(mains):
        return "Running"
    again = any(
        restarts_after(pod, container, end["exitCode"])
        for container, end in zip(pods.containers(pod), stopped, strict=True)
    )
    if again or running:
        return "Running"
    return "Succeeded" if succeeded else "Failed"


def _last_end(status: Object) -> Object | None:
    """How the container ended last, if it does not run."""
    if "running" in status["state"]:
        return None
    end: Object | None = status["state"].get("terminated") or (status.get("lastState") or {}).get(
        "terminated"
    )
    return end


def _ended(status: Object) -> bool:
    return "terminated" in status["state"]


def _container_status(pod: Object, container: Object, facts: Facts, old: Object, *, init: bool) -> Object:
    name = container["name"]
    before = _find(old.get("initContainerStatuses" if init else "containerStatuses"), name)
    now = facts.runtime.latest(name)
    problem = facts.problems.get(name)
    status: Object = {
        "name": name,
        "image": container.get("image", ""),
        "imageID": "",
        "lastState": {},
        "ready": False,
        "started": False,
        "restartCount": 0,
    }
    if before is not None and now is None:
        _recall(status, before)
    if now is None:
        status["state"] = _unmade(pod, before, problem, facts, init)
    else:
        status |= {
            "image": now.image or status["image"],
            "imageID": now.image_ref,
            "containerID": f"containerd://{now.id}",
            "restartCount": max(now.restart_count, (before or {}).get("restartCount", 0)),
        }
        state = _state(now, facts)
        previous = facts.runtime.previous(name)
        if previous is not None and previous.state == "exited":
            status["lastState"] = _state(previous, facts)
        elif before is not None and before.get("containerID") == status["containerID"]:
            status["lastState"] = before.get("lastState") or {}
        if now.state == "created":
            state = {"waiting": _waiting(problem or Waiting("ContainerCreating"))}
        elif (
            "terminated" in state
            and problem is not None
            and not facts.terminated
            and restarts_after(pod, container, now.exit_code)
        ):
            status["lastState"] = state
            state = {"waiting": _waiting(problem)}
        status["state"] = state
    running = "running" in status["state"]
    if running and now is not None:
        started = facts.started.get(now.id, True)
        status["started"] = bool(started)
        status["ready"] = bool(started and facts.ready.get(now.id, True))
        if init and not is_sidecar(container):
            status["ready"] = False
    elif init and not is_sidecar(container) and _ended(status):
        status["ready"] = status["state"]["terminated"]["exitCode"] == 0
    resources = container.get("resources") or {}
    if running and resources:
        status["resources"] = resources
        if resources.get("requests"):
            status["allocatedResources"] = resources["requests"]
    if running and container.get("volumeMounts"):
        status["volumeMounts"] = [_mount_status(mount) for mount in container["volumeMounts"]]
    return status


def _ephemeral_status(pod: Object, container: Object, facts: Facts, old: Object) -> Object:
    """Nobody waits for it to be ready, and it is never started again."""
    before = {"containerStatuses": old.get("ephemeralContainerStatuses")}
    status = _container_status(pod, container, facts, before, init=False)
    del status["started"]
    return {**status, "ready": False}


def _recall(status: Object, before: Object) -> None:
    """The runtime has forgotten the container, the API has not."""
    for field_name in ("restartCount", "lastState", "imageID", "containerID"):
        if before.get(field_name):
            status[field_name] = before[field_name]


def _unmade(pod: Object, before: Object | None, problem: Waiting | None, facts: Facts, init: bool) -> Object:
    ran = (before or {}).get("state") or {}
    if "terminated" in ran and (init or facts.terminated or api_pods.is_terminal(pod)):
        return {"terminated": ran["terminated"]}
    if facts.terminated and "running" in ran:
        return {
            "terminated": {
                "exitCode": 137,
                "reason": "ContainerStatusUnknown",
                "message": "The container could not be located when the pod was terminated",
                "startedAt": None,
                "finishedAt": None,
            }
        }
    if problem is not None:
        return {"waiting": _waiting(problem)}
    inits = [c for c in pods.init_containers(pod) if not init]
    return (
        {"waiting": {"reason": "PodInitializing" if inits else "ContainerCreating"}}
        if not init
        else {"waiting": {"reason": "PodInitializing"}}
    )


def _waiting(problem: Waiting) -> Object:
    found = {"reason": problem.reason}
    if problem.message:
        found["message"] = problem.message
    return found


def _state(container: Container, facts: Facts) -> Object:
    if container.state == "running":
        return {"running": {"startedAt": timestamp(container.started_at)}}
    reason = container.reason or ("Completed" if container.exit_code == 0 else "Error")
    if container.id in facts.oom_killed and container.exit_code:
        reason = "OOMKilled"
    terminated: Object = {
        "exitCode": container.exit_code,
        "reason": reason,
        "startedAt": timestamp(container.started_at) or _NEVER_STARTED,
        "finishedAt": timestamp(container.finished_at),
        "containerID": f"containerd://{container.id}",
    }
    if container.state == "unknown":
        terminated |= {
            "exitCode": 137,
            "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the pod was terminated",
        }
    elif container.message:
        terminated["message"] = container.message
    return {"terminated": terminated}


_NEVER_STARTED = "1970-01-01T00:00:00Z"
"""What Kubernetes says of a container that ended before its start."""


def timestamp(nanoseconds: int) -> str | None:
    """A runtime's time as the API writes it; None for never."""
    if nanoseconds <= 0:
        return None
    return meta.format_time(datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.UTC))


def _mount_status(mount: Object) -> Object:
    shown = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        shown |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
    return shown


def _find(statuses: Sequence[Object] | None, name: str) -> Object | None:
    return next((status for status in statuses or () if status.get("name") == name), None)


def pod_ips(pod: Object, sandbox: Sandbox | None, host_ips: tuple[str, ...]) -> tuple[str, ...]:
    """The Pod's addresses, at most one of each IP family, that of the node's first address first.

    The runtime's order says nothing: containerd puts IPv4 first whatever the cluster's primary family is.
    """
    if pods.host_network(pod):
        return host_ips
    found = sandbox.ips if sandbox else ()
    primary_is_ipv6 = ":" in host_ips[0] if host_ips else False
    families = (
        [ip for ip in found if (":" in ip) is ipv6] for ipv6 in (primary_is_ipv6, not primary_is_ipv6)
    )
    return tuple(ips[0] for ips in families if ips)


def _addresses(pod: Object, facts: Facts, old: Object) -> Object:
    found: Object = {}
    if facts.host_ips:
        found["hostIP"] = facts.host_ips[0]
        found["hostIPs"] = [{"ip": ip} for ip in facts.host_ips]
    sandbox = facts.runtime.sandbox
    ips = pod_ips(pod, sandbox, facts.host_ips) if sandbox is not None and sandbox.ready else ()
    if ips:
        found["podIP"] = ips[0]
        found["podIPs"] = [{"ip": ip} for ip in ips]
    elif old.get("podIPs"):
        found["podIP"], found["podIPs"] = old.get("podIP"), old["podIPs"]
    return found


def _conditions(pod: Object, status: Object, facts: Facts) -> list[Object]:
    old = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}
    done = status["phase"] in ("Succeeded", "Failed")
    sandbox = facts.runtime.sandbox
    network = bool(sandbox and sandbox.ready and (sandbox.ips or sandbox.host_network))
    ready_to_start = _condition("PodReadyToStartContainers", network)
    initialized = _initialized(pod, status)
    containers = _containers_ready(pod, status)
    ready = _ready(pod, containers, old)
    scheduled = _condition("PodScheduled", True)
    wanted = [ready_to_start, initialized, ready, containers, scheduled]
    if done:
        wanted[1] = _condition(
            "Initialized",
            initialized["status"] == "True" or status["phase"] == "Succeeded",
            initialized.get("reason", ""),
            initialized.get("message", ""),
        )
    result = []
    for condition in wanted:
        before = old.get(condition["type"])
        if condition["type"] == "PodScheduled" and before is not None:
            result.append(before)
            continue
        same = before is not None and before.get("status") == condition["status"]
        condition["lastProbeTime"] = None
        condition["lastTransitionTime"] = (
            before["lastTransitionTime"]
            if before is not None and same and before.get("lastTransitionTime")
            else facts.now
        )
        if pod["metadata"].get("generation"):
            condition["observedGeneration"] = pod["metadata"]["generation"]
        result.append(condition)
    return result


def _condition(kind: str, true: bool, reason: str = "", message: str = "") -> Object:
    condition: Object = {"type": kind, "status": "True" if true else "False"}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _initialized(pod: Object, status: Object) -> Object:
    missing = []
    statuses = status.get("initContainerStatuses") or []
    for container, each in zip(pods.init_containers(pod), statuses, strict=True):
        good = each.get("started") if is_sidecar(container) and not _ended(each) else each["ready"]
        if not good:
            missing.append(container["name"])
    if any("running" in s["state"] or "terminated" in s["state"] for s in status["containerStatuses"]):
        missing = []
    if missing:
        return _condition(
            "Initialized",
            False,
            "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(missing)}]",
        )
    return _condition("Initialized", True, "PodCompleted" if status["phase"] == "Succeeded" else "")


def _containers_ready(pod: Object, status: Object) -> Object:
    if status["phase"] in ("Succeeded", "Failed"):
        reason = "PodCompleted" if status["phase"] == "Succeeded" else "PodFailed"
        return _condition("ContainersReady", False, reason)
    statuses = [*status["containerStatuses"]]
    for container, each in zip(
        pods.init_containers(pod), status.get("initContainerStatuses") or (), strict=True
    ):
        if is_sidecar(container):
            statuses.append(each)
    unready = [each["name"] for each in statuses if not each["ready"]]
    if unready:
        return _condition(
            "ContainersReady",
            False,
            "ContainersNotReady",
            f"containers with unready status: [{' '.join(unready)}]",
        )
    return _condition("ContainersReady", True)


def _ready(pod: Object, containers: Object, old: Mapping[str, Object]) -> Object:
    if containers["status"] != "True":
        return {**containers, "type": "Ready"}
    faults = []
    for gate in pod["spec"].get("readinessGates") or ():
        kind = gate["conditionType"]
        if kind not in old:
            faults.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif old[kind].get("status") != "True":
            faults.append(
                f'the status of pod readiness gate "{kind}" is not "True", but {old[kind].get("status")}'
            )
    if faults:
        return _condition("Ready", False, "ReadinessGatesNotReady", ", ".join(faults))
    return _condition("Ready", True)


def status_patch(pod: Object, wanted: Object) -> Object | None:
    """The strategic merge patch that brings ``status`` to *wanted*, None if it is there.

    Conditions of other writers and fields that the kubelet does not know are left alone. The patch carries
    the Pod's uid, so that it never hits another Pod of that name.
    """
    old = pod.get("status") or {}
    change: Object = {}
    for name in (
        "phase",
        "reason",
        "message",
        "startTime",
        "qosClass",
        "observedGeneration",
        "hostIP",
        "podIP",
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ):
        if not _same(old.get(name), wanted.get(name)):
            change[name] = wanted.get(name)
    for name in ("hostIPs", "podIPs"):
        if not _same(old.get(name), wanted.get(name)):
            change[name] = [{"$patch": "replace"}, *(wanted.get(name) or ())]
    before = {c["type"]: c for c in old.get("conditions") or ()}
    conditions = [
        _replacing(before.get(c["type"]), c)
        for c in wanted["conditions"]
        if not _same(before.get(c["type"]), c)
    ]
    if conditions:
        change["conditions"] = conditions
    if not change:
        return None
    return {"metadata": {"uid": meta.uid(pod)}, "status": change}


def _replacing(before: Object | None, condition: Object) -> Object:
    """A merge patch of a list's item only adds: what is no longer said must be taken away."""
    return {**{name: None for name in before or () if name not in condition}, **condition}


def _same(one: Any, other: Any) -> bool:
    return bool(_essence(one) == _essence(other))


def _essence(value: Any) -> Any:
    """Without what says nothing: None and empty values."""
    if isinstance(value, Mapping):
        return {k: e for k, v in value.items() if (e := _essence(v)) not in (None, {}, [], "")}
    if isinstance(value, (list, tuple)):
        return [_essence(item) for item in value]
    return value
