"""One step of a Deployment: from what is observed to the writes that come next.

Follows k8s.io/kubernetes ``pkg/controller/deployment`` step by step: a pass scales up, or scales down, or
cleans up, and the next pass goes on from what it then sees.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buoy.api import meta
from buoy.api.meta import Object

from . import numbers, revisions
from . import status as report
from .numbers import size


@dataclass(frozen=True, slots=True)
class CreateReplicaSet:
    """*event* is the message to record when it is done, empty for none."""

    obj: Object
    event: str = ""


@dataclass(frozen=True, slots=True)
class UpdateReplicaSet:
    obj: Object
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteReplicaSet:
    obj: Object


@dataclass(frozen=True, slots=True)
class SetRevision:
    """The Deployment's own revision annotation."""

    revision: str


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    status: Object


Action = CreateReplicaSet | UpdateReplicaSet | DeleteReplicaSet | SetRevision | UpdateStatus


@dataclass(frozen=True, slots=True)
class Plan:
    """Writes in order; *wait* in seconds says when to look again though nothing has changed."""

    actions: tuple[Action, ...] = ()
    wait: float | None = None


def plan(
    deployment: Object,
    replica_sets: Sequence[Object],
    pods: Mapping[str, Sequence[Object]],
    now: datetime.datetime,
) -> Plan:
    """*replica_sets* are those that the Deployment controls, *pods* theirs by uid of the ReplicaSet."""
    return _Pass(deployment, replica_sets, pods, now).run()


def same_status(one: Object, other: Object) -> bool:
    """Equal but for how zero is written."""
    return {key: value for key, value in one.items() if value} == {
        key: value for key, value in other.items() if value
    }


class _Pass:
    """The working state of one `plan`: the ReplicaSets as they will be once the actions are done."""

    def __init__(
        self,
        deployment: Object,
        replica_sets: Sequence[Object],
        pods: Mapping[str, Sequence[Object]],
        now: datetime.datetime,
    ) -> None:
        self.deployment = deployment
        self.pods = pods
        self.now = now
        self.new = revisions.find_new(deployment, replica_sets)
        self.old = [each for each in replica_sets if each is not self.new]
        self.actions: list[Action] = []
        self.conditions = report.conditions_of(deployment)

    def run(self) -> Plan:
        deployment = self.deployment
        if meta.is_terminating(deployment):
            self.adopt_new()
            return self.finish(report.counts(deployment, self.all(), self.new, self.conditions, self.now))
        self.conditions = report.pause(deployment, self.conditions, self.now)
        paused = bool(deployment["spec"].get("paused"))
        if paused or self.is_resized():
            self.adopt_new()
            self.resize()
            if paused:
                self.clean_up()
            return self.finish(report.counts(deployment, self.all(), self.new, self.conditions, self.now))
        if numbers.is_rolling(deployment):
            self.roll()
        else:
            self.recreate()
        return self.finish(report.rollout(deployment, self.all(), self.new, self.conditions, self.now))

    def all(self) -> list[Object]:
        return [*self.old, self.new] if self.new is not None else list(self.old)

    def is_resized(self) -> bool:
        wanted = numbers.replicas(self.deployment)
        desired = [numbers.annotated(each, numbers.DESIRED) for each in self.all() if size(each) > 0]
        return any(each is not None and each != wanted for each in desired)

    # Revisions

    def adopt_new(self) -> None:
        """Bring the annotations of an existing newest ReplicaSet up to date."""
        new, deployment = self.new, self.deployment
        if new is None:
            return
        current = meta.annotations(new)
        wanted = revisions.annotate(deployment, current, revisions.next_revision(self.old))
        min_ready = deployment["spec"].get("minReadySeconds", 0)
        if wanted != current or new["spec"].get("minReadySeconds", 0) != min_ready:
            updated = {
                **new,
                "metadata": {**new["metadata"], "annotations": wanted},
                "spec": {**new["spec"], "minReadySeconds": min_ready},
            }
            self.update(new, updated)
        self.set_revision(wanted.get(revisions.REVISION, ""))
        if report.deadline(deployment) is not None and report.find(self.conditions, "Progressing") is None:
            self.progress(report.FOUND_NEW, f'Found new replica set "{meta.name(new)}"')

    def make_new(self) -> None:
        if self.new is not None:
            self.adopt_new()
            return
        made = revisions.make(self.deployment, self.old)
        made["spec"]["replicas"] = numbers.new_size(self.deployment, [*self.old, made], made)
        event = f"Scaled up replica set {meta.name(made)} from 0 to {size(made)}" if size(made) else ""
        self.actions.append(CreateReplicaSet(made, event))
        self.new = made
        self.set_revision(meta.annotations(made)[revisions.REVISION])
        if report.deadline(self.deployment) is not None:
            self.progress(report.CREATED_NEW, f'Created new replica set "{meta.name(made)}"')

    def set_revision(self, revision: str) -> None:
        if meta.annotations(self.deployment).get(revisions.REVISION) != revision:
            self.actions.append(SetRevision(revision))

    def progress(self, reason: str, message: str) -> None:
        self.conditions = report.with_condition(
            self.conditions, report.condition("Progressing", "True", reason, message, self.now)
        )

    # Sizes

    def update(self, before: Object, after: Object, event: str = "") -> None:
        """*after* takes the place of *before*; however many changes a pass makes to one, it is one write."""
        if self.new is before:
            self.new = after
        else:
            self.old = [after if each is before else each for each in self.old]
        events = (event,) if event else ()
        for index, action in enumerate(self.actions):
            if isinstance(action, UpdateReplicaSet) and action.obj is before:
                self.actions[index] = UpdateReplicaSet(after, (*action.events, *events))
                return
        self.actions.append(UpdateReplicaSet(after, events))

    def scale(self, replica_set: Object, wanted: int) -> bool:
        """True if its size changes. Its annotations follow the Deployment's size in any case."""
        annotations = {**meta.annotations(replica_set), **revisions.size_annotations(self.deployment)}
        before = size(replica_set)
        if before == wanted and annotations == meta.annotations(replica_set):
            return False
        updated = {
            **replica_set,
            "metadata": {**replica_set["metadata"], "annotations": annotations},
            "spec": {**replica_set["spec"], "replicas": wanted},
        }
        direction = "up" if before < wanted else "down"
        event = f"Scaled {direction} replica set {meta.name(replica_set)} from {before} to {wanted}"
        self.update(replica_set, updated, event if before != wanted else "")
        return before != wanted

    def resize(self) -> None:
        """The Deployment's size has changed, or it is paused: keep the proportions."""
        wanted = numbers.replicas(self.deployment)
        active = [each for each in self.all() if size(each) > 0]
        newest_first = sorted(self.old, key=revisions.creation_order, reverse=True)
        if len(active) <= 1:
            for only in [*active, *filter(None, [self.new]), *newest_first][:1]:
                self.scale(only, wanted)
            return
        new = self.new
        if (
            new is not None
            and numbers.annotated(new, numbers.DESIRED) == wanted == size(new)
            and numbers.count(new, "availableReplicas") == wanted
        ):
            for each in self.active_old():
                self.scale(each, 0)
        elif numbers.is_rolling(self.deployment):
            for each, share in numbers.proportional(self.deployment, active):
                self.scale(each, share)

    def active_old(self) -> list[Object]:
        return sorted((each for each in self.old if size(each) > 0), key=revisions.creation_order)

    # Strategies

    def roll(self) -> None:
        self.make_new()
        assert self.new is not None
        created = any(isinstance(action, CreateReplicaSet) for action in self.actions)
        wanted = numbers.replicas(self.deployment)
        if not created and size(self.new) != wanted:
            target = (
                wanted if size(self.new) > wanted else numbers.new_size(self.deployment, self.all(), self.new)
            )
            if self.scale(self.new, target):
                return
        if not self.shrink_old():
            self.clean_up_if_complete()

    def shrink_old(self) -> bool:
        """Take old Pods away, the unhealthy first, never below what must be available."""
        assert self.new is not None
        least = numbers.replicas(self.deployment) - numbers.max_unavailable(self.deployment)
        new_unavailable = size(self.new) - numbers.count(self.new, "availableReplicas")
        room = numbers.total_size(self.all()) - least - new_unavailable
        if not self.active_old() or room <= 0:
            return False
        removed = 0
        for each in self.active_old():
            unhealthy = size(each) - numbers.count(each, "availableReplicas")
            step = min(room - removed, unhealthy)
            if step > 0:
                self.scale(each, size(each) - step)
                removed += step
        # A status may lag behind a size that has just been cut: what is above the size is as good as gone.
        spare = sum(min(numbers.count(each, "availableReplicas"), size(each)) for each in self.all()) - least
        for each in self.active_old():
            step = min(size(each), spare)
            if step > 0:
                self.scale(each, size(each) - step)
                spare -= step
                removed += step
        return removed > 0

    def recreate(self) -> None:
        active = self.active_old()
        if active:
            self.adopt_new()
            for each in active:
                self.scale(each, 0)
            return
        if self.old_pods_run():
            self.adopt_new()
            return
        self.make_new()
        assert self.new is not None
        self.scale(self.new, numbers.replicas(self.deployment))
        self.clean_up_if_complete()

    def old_pods_run(self) -> bool:
        if numbers.total(self.old, "replicas") > 0:
            return True
        return any(
            (pod.get("status") or {}).get("phase") not in ("Failed", "Succeeded")
            for uid, pods in self.pods.items()
            if self.new is None or uid != meta.uid(self.new)
            for pod in pods
        )

    # The end

    def clean_up_if_complete(self) -> None:
        if report.complete(self.deployment, self.deployment.get("status") or {}):
            self.clean_up()

    def clean_up(self) -> None:
        limit = self.deployment["spec"].get("revisionHistoryLimit")
        if limit is None or limit == numbers.NO_LIMIT:
            return
        candidates = [each for each in self.old if not meta.is_terminating(each)]
        candidates.sort(key=lambda each: (revisions.revision(each), revisions.creation_order(each)))
        for each in candidates[: max(0, len(candidates) - limit)]:
            observed = numbers.count(each, "observedGeneration")
            settled = each["metadata"].get("generation", 0) <= observed
            if settled and not size(each) and not numbers.count(each, "replicas"):
                self.actions.append(DeleteReplicaSet(each))

    def finish(self, status: Object) -> Plan:
        actions = tuple(self.actions)
        if not same_status(status, self.deployment.get("status") or {}):
            return Plan((*actions, UpdateStatus(status)))
        if report.complete(self.deployment, status):
            return Plan(actions)
        left = report.seconds_left(self.deployment, tuple(status["conditions"]), self.now)
        return Plan(actions, None if left is None else max(left, 0) + 1)
