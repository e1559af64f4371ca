"""What to do next for a Pod: a pure function of its specification and of what the runtime holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..api.meta import Object
from ..api.pods import is_sidecar
from . import pod as pods
from .runtime import Container, PodRuntime

ProbeKind = Literal["liveness", "readiness", "startup"]


class Verdicts(NamedTuple):
    """What probes say of running containers, by container id; None for a probe without an answer yet."""

    liveness: Mapping[str, bool | None]
    startup: Mapping[str, bool | None]


NO_VERDICTS = Verdicts({}, {})


@dataclass(frozen=True, slots=True)
class Kill:
    """Stop a container, and say *message*. *probe* has failed, and may have its own grace period."""

    container: Container
    message: str
    probe: ProbeKind | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """In this order: *kill*, or *kill_pod* for all of it; make a sandbox; start *init*, then *start*.

    *start* and *init* are names. An empty plan means that everything is as it should be.
    """

    kill_pod: bool = False
    create_sandbox: bool = False
    attempt: int = 0
    kill: tuple[Kill, ...] = ()
    init: tuple[str, ...] = ()
    start: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.kill_pod or self.create_sandbox or self.kill or self.init or self.start)


def plan(
    pod: Object,
    runtime: PodRuntime,
    verdicts: Verdicts = NO_VERDICTS,
    held: Collection[str] = frozenset(),
) -> Plan:
    """What a Pod that is to run needs. Containers named in *held* are not started now (they back off)."""
    replace, attempt = sandbox_changed(pod, runtime)
    if replace:
        return _plan_anew(pod, runtime, attempt, held)
    init = _plan_init(pod, runtime, verdicts)
    if init.fatal:
        return Plan(kill_pod=not runtime.ended, attempt=attempt)
    kill, start = list(init.kill), list(init.start)
    # Once, whatever becomes of them, and whether the Pod has been initialised or not.
    looking = [c["name"] for c in pods.ephemeral_containers(pod) if runtime.latest(c["name"]) is None]
    if not init.done:
        extra = _without(looking, held)
        return Plan(attempt=attempt, kill=tuple(kill), init=_without(start, held), start=extra)
    keep = 0
    mains: list[str] = []
    for container in pods.containers(pod):
        status = runtime.current(container["name"]) or _finished_before(pod, runtime, container)
        if status is None or status.state != "running":
            if should_restart(pod, container, status):
                mains.append(container["name"])
                if status is not None and status.state == "unknown":
                    kill.append(
                        Kill(
                            status,
                            f"Container is in unknown state, try killing it before restart: {status.id}",
                        )
                    )
            continue
        fault = _fault(container, status, verdicts)
        if fault is None:
            keep += 1
            continue
        message, probe = fault
        again = probe is None or restarts_after(pod, container, 137)
        kill.append(Kill(status, f"{message}, will be restarted" if again else message, probe))
        if again:
            mains.append(container["name"])
    if not keep and not mains:
        return Plan(kill_pod=not runtime.ended, attempt=attempt)
    return Plan(
        attempt=attempt,
        kill=tuple(kill),
        init=_without(start, held),
        start=_without([*mains, *looking], held),
    )


def sandbox_changed(pod: Object, runtime: PodRuntime) -> tuple[bool, int]:
    """Whether a new sandbox is needed, and the attempt number of the sandbox to use."""
    newest = runtime.sandbox
    if newest is None:
        return True, 0
    good = (
        newest.ready
        and sum(sandbox.ready for sandbox in runtime.sandboxes) == 1
        and newest.host_network == pods.host_network(pod)
        and (newest.host_network or newest.ips)
    )
    return (False, newest.attempt) if good else (True, newest.attempt + 1)


def _plan_anew(pod: Object, runtime: PodRuntime, attempt: int, held: Collection[str]) -> Plan:
    kill = not runtime.ended
    policy = pods.restart_policy(pod)
    if attempt and runtime.containers and not _any_restart(pod):
        return Plan(kill_pod=kill, attempt=attempt)
    start = [
        c["name"]
        for c in pods.containers(pod)
        if not (policy == "OnFailure" and (status := runtime.latest(c["name"])) and status.succeeded)
    ]
    if not start:
        return Plan(kill_pod=kill, attempt=attempt)
    inits = pods.init_containers(pod)
    first = [inits[0]["name"]] if inits else []
    return Plan(
        kill_pod=kill,
        create_sandbox=True,
        attempt=attempt,
        init=_without(first, held),
        start=() if first else _without(start, held),
    )


class _Init(NamedTuple):
    done: bool
    fatal: bool = False
    start: tuple[str, ...] = ()
    kill: tuple[Kill, ...] = ()


def _plan_init(pod: Object, runtime: PodRuntime, verdicts: Verdicts) -> _Init:
    """Init containers run one after another; a sidecar lets the next one go as soon as it has started."""
    inits = pods.init_containers(pod)
    start: list[str] = []
    kill: list[Kill] = []
    if any(runtime.current(c["name"]) for c in pods.containers(pod)):
        # All have been through; only the sidecars still matter.
        for container in filter(is_sidecar, inits):
            _tend_sidecar(pod, container, runtime.current(container["name"]), verdicts, start, kill)
        return _Init(True, start=tuple(start), kill=tuple(kill))
    last = max((i for i, c in enumerate(inits) if runtime.current(c["name"])), default=-1)
    for index, container in enumerate(inits):
        status = runtime.current(container["name"])
        if is_sidecar(container):
            _tend_sidecar(pod, container, status, verdicts, start, kill)
            started = bool(status and status.running) and (
                not container.get("startupProbe") or bool(status and verdicts.startup.get(status.id))
            )
            if started or index < last:
                continue
            return _Init(False, start=tuple(start), kill=tuple(kill))
        if index < last or (status is not None and status.succeeded):
            continue
        if status is None or status.state == "created":
            start.append(container["name"])
        elif status.state == "exited":
            if not restarts_after(pod, container, status.exit_code):
                return _Init(False, fatal=True)
            start.append(container["name"])
        elif status.state == "unknown":
            kill.append(
                Kill(
                    status, f"Init container is in unknown state, try killing it before restart: {status.id}"
                )
            )
            start.append(container["name"])
        elif (fault := _definition_changed(container, status)) is not None:
            kill.append(Kill(status, f"{fault}, will be restarted"))
            start.append(container["name"])
        return _Init(False, start=tuple(start), kill=tuple(kill))
    return _Init(True, start=tuple(start), kill=tuple(kill))


def _tend_sidecar(
    pod: Object,
    container: Object,
    status: Container | None,
    verdicts: Verdicts,
    start: list[str],
    kill: list[Kill],
) -> None:
    if status is None or status.state in ("exited", "created"):
        start.append(container["name"])
        return
    fault = _fault(container, status, verdicts)
    if fault is not None:
        message, probe = fault
        kill.append(Kill(status, f"{message}, will be restarted", probe))
        start.append(container["name"])


def _fault(container: Object, status: Container, verdicts: Verdicts) -> tuple[str, ProbeKind | None] | None:
    """Why a running container must not go on: the message, and the probe if one says so."""
    name = container["name"]
    changed = _definition_changed(container, status)
    if changed:
        return changed, None
    if verdicts.liveness.get(status.id) is False:
        return f"Container {name} failed liveness probe", "liveness"
    if verdicts.startup.get(status.id) is False:
        return f"Container {name} failed startup probe", "startup"
    return None


def _definition_changed(container: Object, status: Container) -> str | None:
    if status.hash and status.hash != pods.container_hash(container):
        return f"Container {container['name']} definition changed"
    return None


def _finished_before(pod: Object, runtime: PodRuntime, container: Object) -> Container | None:
    """A container that succeeded in an earlier sandbox need not run again under OnFailure."""
    status = runtime.latest(container["name"])
    return status if status and status.succeeded and pods.restart_policy(pod) == "OnFailure" else None


def should_restart(pod: Object, container: Object, status: Container | None) -> bool:
    """Whether a container that does not run is to be started (again)."""
    if status is None or status.state in ("unknown", "created"):
        return True
    return status.state == "exited" and restarts_after(pod, container, status.exit_code)


def restarts_after(pod: Object, container: Object, exit_code: int) -> bool:
    """Whether a container that ended with *exit_code* is started again (containers' own rules: KEP-5307)."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        listed = exit_code in (codes.get("values") or ())
        if listed == (codes.get("operator") == "In"):
            return bool(rule.get("action") == "Restart")
    policy = container.get("restartPolicy") or pods.restart_policy(pod)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def _any_restart(pod: Object) -> bool:
    return pods.restart_policy(pod) != "Never" or any(
        c.get("restartPolicy", "Never") != "Never" or c.get("restartPolicyRules")
        for c in pods.containers(pod)
    )


def _without(names: list[str], held: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in held)


def termination_order(pod: Object, running: Collection[Container]) -> list[list[Container]]:
    """Who is stopped together and after whom: everything else first, then sidecars, the last one first."""
    sidecars = [c["name"] for c in pods.init_containers(pod) if is_sidecar(c)]
    steps = [[c for c in running if c.name not in sidecars]]
    steps += [[c for c in running if c.name == name] for name in reversed(sidecars)]
    return [step for step in steps if step]


def crash_holds(
    pod: Object, runtime: PodRuntime, until: Callable[[Container], float], now: float
) -> dict[str, float]:
    """Containers that crashed and may not start again yet, and when they may; *until* asks the back-off."""
    held: dict[str, float] = {}
    for container in pods.all_containers(pod):
        status = runtime.latest(container["name"])
        if status is None or status.state != "exited":
            continue
        moment = until(status)
        if moment > now:
            held[container["name"]] = moment
    return held
