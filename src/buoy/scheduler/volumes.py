"""Which nodes a Pod's volumes leave it: the plugins VolumeBinding and VolumeRestrictions of kube-scheduler.

Claims that are bound go where their volumes are. Those whose class waits for the first consumer are bound
here, or told which node to be provisioned on, once the Pod has one.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from buoy.api import meta, volumes
from buoy.api.meta import Object

from .filters import Refusal

NODE_CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
BIND_CONFLICT = "node(s) didn't find available persistent volumes to bind"
NO_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
UNBOUND_IMMEDIATE = "pod has unbound immediate PersistentVolumeClaims"
IN_USE = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"


class Unfit(Exception):
    """No node will do, whatever it is like; the argument is kube-scheduler's sentence about it."""


@dataclass(frozen=True, slots=True)
class VolumeWorld:
    """How to find things. *promised* are volumes that Pods which are being bound will get."""

    claim: Callable[[str], Object | None]
    volume: Callable[[str], Object | None]
    volumes_of_class: Callable[[str], Iterable[Object]]
    storage_class: Callable[[str], Object | None]
    promised: Container[str] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """What a Pod takes on a node: volumes to *bind*, each with its claim, and claims to *provision*."""

    bind: tuple[tuple[Object, Object], ...] = ()
    provision: tuple[Object, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.bind or self.provision)


@dataclass(slots=True)
class PodVolumes:
    """A Pod's claims, looked at once; then asked of each node. Raises Unfit."""

    world: VolumeWorld
    bound: list[Object] = field(default_factory=list)
    waiting: list[Object] = field(default_factory=list)
    refusal: Refusal | None = None

    @classmethod
    def of(cls, pod: Object, world: VolumeWorld, users: Callable[[str], Sequence[str]]) -> PodVolumes:
        """*users* gives the uids of the Pods on nodes that use a claim."""
        found = cls(world)
        immediate = False
        for claim in _claims(pod, world):
            if volumes.is_fully_bound(claim):
                found.bound.append(claim)
            elif volumes.spec(claim).get("volumeName") or not volumes.waits_for_consumer(
                world.storage_class(volumes.class_name(claim))
            ):
                immediate = True
            else:
                found.waiting.append(claim)
            if "ReadWriteOncePod" in (volumes.spec(claim).get("accessModes") or ()) and any(
                uid != meta.uid(pod) for uid in users(meta.key(claim))
            ):
                found.refusal = Refusal((IN_USE,), resolvable=True)
        if immediate:
            raise Unfit(UNBOUND_IMMEDIATE)
        # The small ones first, so that they leave the large volumes to the large claims.
        found.waiting.sort(key=volumes.storage_for)
        return found

    def __call__(self, node: Object) -> Refusal | None:
        """Why that node won't do."""
        if self.refusal is not None:
            return self.refusal
        for claim in self.bound:
            volume = self.world.volume(volumes.spec(claim)["volumeName"])
            if volume is None:
                return Refusal((NO_VOLUME,))
            if not volumes.reachable(volume, node):
                return Refusal((NODE_CONFLICT,))
        return Refusal((BIND_CONFLICT,)) if self.choose(node) is None else None

    def choose(self, node: Object) -> Choice | None:
        """What is to be bound and provisioned on that node; None if it cannot be had there."""
        bind: list[tuple[Object, Object]] = []
        provision: list[Object] = []
        chosen: set[str] = set()
        for claim in self.waiting:
            selected = meta.annotations(claim).get(volumes.SELECTED_NODE)
            if selected not in (None, "", meta.name(node)):
                return None  # it is being provisioned on another one
            candidates = (
                each
                for each in self.world.volumes_of_class(volumes.class_name(claim))
                if meta.name(each) not in chosen
            )
            found = (
                None
                if selected
                else volumes.find_volume(claim, candidates, node=node, taken=self.world.promised)
            )
            if found is not None:
                chosen.add(meta.name(found))
                bind.append((found, claim))
            elif _can_provision(self.world.storage_class(volumes.class_name(claim)), node):
                provision.append(claim)
            else:
                return None
        return Choice(tuple(bind), tuple(provision))


def _claims(pod: Object, world: VolumeWorld) -> Iterable[Object]:
    """Raises Unfit for one that is missing, lost, going, or not the Pod's."""
    for name, ephemeral in volumes.claim_names(pod):
        claim = world.claim(f"{meta.namespace(pod)}/{name}")
        if claim is None:
            raise Unfit(
                f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
                if ephemeral
                else f'persistentvolumeclaim "{name}" not found'
            )
        if volumes.phase(claim) == "Lost":
            lost = volumes.spec(claim).get("volumeName") or ""
            raise Unfit(f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{lost}"')
        if meta.is_terminating(claim):
            raise Unfit(f'persistentvolumeclaim "{name}" is being deleted')
        if ephemeral and (fault := volumes.belongs_to(claim, pod)):
            raise Unfit(fault)
        yield claim


def _can_provision(storage_class: Object | None, node: Object) -> bool:
    if storage_class is None or storage_class.get("provisioner") in (None, "", volumes.NO_PROVISIONER):
        return False
    terms = storage_class.get("allowedTopologies")
    labels = meta.labels(node)
    return not terms or any(
        all(labels.get(each["key"]) in each["values"] for each in term.get("matchLabelExpressions") or ())
        for term in terms
    )


def wants_node(claim: Object, node: str) -> Object | None:
    """The claim as it asks to be provisioned on *node*, None if it does already."""
    annotations: Mapping[str, str] = meta.annotations(claim)
    if annotations.get(volumes.SELECTED_NODE) == node:
        return None
    changed = {**annotations, volumes.SELECTED_NODE: node}
    return {**claim, "metadata": {**claim["metadata"], "annotations": changed}}
