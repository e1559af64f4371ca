"""Liveness, readiness and startup probes: a timer for each, and what their answers add up to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..api.meta import Object
from ..api.pods import is_sidecar
from ..client import EventRecorder
from . import pod as pods
from .handlers import Answer, Handlers
from .plan import ProbeKind, Verdicts
from .runtime import Container, PodRuntime

_FIELDS: dict[ProbeKind, str] = {
    "startup": "startupProbe",
    "liveness": "livenessProbe",
    "readiness": "readinessProbe",
}
_TITLES: dict[ProbeKind, str] = {"startup": "Startup", "liveness": "Liveness", "readiness": "Readiness"}
_QUICK_FIRST = 0.05


@dataclass(frozen=True, slots=True)
class Timing:
    """A probe's numbers, in seconds, with Kubernetes' defaults."""

    initial_delay: float
    period: float
    timeout: float
    success_threshold: int
    failure_threshold: int


def timing(probe: Object) -> Timing:
    return Timing(
        float(probe.get("initialDelaySeconds") or 0),
        float(probe.get("periodSeconds") or 10),
        float(probe.get("timeoutSeconds") or 1),
        int(probe.get("successThreshold") or 1),
        int(probe.get("failureThreshold") or 3),
    )


class Streak:
    """Turns single answers into a verdict: only so many of the same in a row change it."""

    def __init__(self, verdict: bool | None, success_threshold: int, failure_threshold: int) -> None:
        self.verdict = verdict
        self._needed = {True: success_threshold, False: failure_threshold}
        self._last: bool | None = None
        self._count = 0

    def add(self, ok: bool) -> bool:
        """Count an answer; whether the verdict changed."""
        self._count = self._count + 1 if ok is self._last else 1
        self._last = ok
        if self._count < self._needed[ok] or self.verdict is ok:
            return False
        self.verdict = ok
        return True


class Probes:
    """The probes of one Pod's running containers. *changed* is called when a verdict changes."""

    def __init__(self, handlers: Handlers, events: EventRecorder, changed: Callable[[], None]) -> None:
        self._handlers = handlers
        self._events = events
        self._changed = changed
        self._tasks: dict[tuple[str, ProbeKind], asyncio.Task[None]] = {}
        self._pod: Object = {}
        self._ip = ""
        self._killing = False
        self.ready: dict[str, bool | None] = {}
        self.started: dict[str, bool | None] = {}
        self.alive: dict[str, bool | None] = {}

    @property
    def verdicts(self) -> Verdicts:
        return Verdicts(self.alive, self.started)

    def reconcile(self, pod: Object, runtime: PodRuntime, ip: str, *, killing: bool = False) -> None:
        """Have a probe for each that running containers declare; *killing*: only readiness goes on."""
        self._pod, self._ip = pod, ip
        self._killing = killing
        known = {c["name"]: c for c in pods.containers(pod)}
        known |= {c["name"]: c for c in pods.init_containers(pod) if is_sidecar(c)}
        wanted: set[tuple[str, ProbeKind]] = set()
        for status in runtime.containers:
            container = known.get(status.name)
            if container is None or not status.running:
                continue
            for kind, field in _FIELDS.items():
                if container.get(field) and not (killing and kind != "readiness"):
                    wanted.add((status.id, kind))
                    if (status.id, kind) not in self._tasks:
                        self._begin(pod, container, status, kind)
        for key in [key for key in self._tasks if key not in wanted]:
            self._tasks.pop(key).cancel()
        running = {status.id for status in runtime.running}
        for verdicts in (self.ready, self.started, self.alive):
            for container_id in [each for each in verdicts if each not in running]:
                del verdicts[container_id]

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def _verdicts(self, kind: ProbeKind) -> dict[str, bool | None]:
        return {"readiness": self.ready, "startup": self.started, "liveness": self.alive}[kind]

    def _begin(self, pod: Object, container: Object, status: Container, kind: ProbeKind) -> None:
        """A container that the API knows as ready or started stays so until a probe says otherwise.

        So a new kubelet takes nothing away from a Pod that works.
        """
        verdicts = self._verdicts(kind)
        if status.id not in verdicts:
            before = _reported(pod, status)
            initial: bool | None = {"readiness": False, "startup": None, "liveness": True}[kind]
            if kind == "readiness" and before.get("ready"):
                initial = True
            if kind == "startup" and before.get("started"):
                initial = True
            verdicts[status.id] = initial
        self._tasks[status.id, kind] = asyncio.create_task(self._probe(container, status, kind))

    async def _probe(self, container: Object, status: Container, kind: ProbeKind) -> None:
        probe = container[_FIELDS[kind]]
        numbers = timing(probe)
        verdicts = self._verdicts(kind)
        streak = Streak(verdicts[status.id], numbers.success_threshold, numbers.failure_threshold)
        if kind == "startup" and streak.verdict:
            return
        if kind != "startup" and not await self._has_started(status.id):
            return
        await asyncio.sleep(max(0.0, status.started_at / 1e9 + numbers.initial_delay - time.time()))
        next_at = time.monotonic()
        if kind != "liveness" and not streak.verdict and numbers.success_threshold == 1:
            answer = await self._quick(probe, container, status, numbers)
            if answer is not None and streak.add(True):
                self._settle(kind, status.id, True)
                if kind == "startup":
                    return
            next_at += numbers.period
        while True:
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))
            next_at = max(next_at + numbers.period, time.monotonic())
            answer = await self._ask(probe, container, status, numbers)
            if answer.ok is not True:
                self._report(kind, container, answer)
            if answer.ok is None:
                continue
            if streak.add(answer.ok):
                self._settle(kind, status.id, answer.ok)
                if kind == "startup" or (kind == "liveness" and not answer.ok):
                    return

    async def _has_started(self, container_id: str) -> bool:
        """Wait for the startup probe, if there is one; False if the container is to be killed instead."""
        startup = self._tasks.get((container_id, "startup"))
        if startup is not None:
            await asyncio.wait([startup])
        return self.started.get(container_id, True) is True

    async def _quick(
        self, probe: Object, container: Object, status: Container, numbers: Timing
    ) -> Answer | None:
        """Ask often at first, so that a container is ready as soon as it can be; failures do not count yet.

        The answer if it was a good one within the first period.
        """
        end = time.monotonic() + numbers.period
        pause = _QUICK_FIRST
        while True:
            answer = await self._ask(probe, container, status, numbers)
            if answer.ok:
                return answer
            if time.monotonic() + pause >= end:
                return None
            await asyncio.sleep(pause)
            pause *= 2

    async def _ask(self, probe: Object, container: Object, status: Container, numbers: Timing) -> Answer:
        return await self._handlers.ask(probe, container, status.id, self._ip, numbers.timeout)

    def _settle(self, kind: ProbeKind, container_id: str, ok: bool) -> None:
        self._verdicts(kind)[container_id] = ok
        self._changed()

    def _report(self, kind: ProbeKind, container: Object, answer: Answer) -> None:
        if answer.ok is False:
            message = f"{_TITLES[kind]} probe failed: {answer.output}"
        else:
            message = f"{_TITLES[kind]} probe errored and resulted in unknown state: {answer.output}"
        path = pods.field_path(self._pod, container["name"])
        self._events.event(self._pod, "Warning", "Unhealthy", message, field_path=path)


def _reported(pod: Object, container: Container) -> Object:
    """What the API says of that very container."""
    status = pod.get("status") or {}
    for each in (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())):
        if each.get("containerID") == f"containerd://{container.id}":
            found: Object = each
            return found
    return {}
