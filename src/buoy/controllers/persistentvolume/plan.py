"""What is to become of a claim, and of a volume, as things are.

Follows k8s.io/kubernetes' ``pkg/controller/volume/persistentvolume``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from buoy.api import meta, volumes
from buoy.api.meta import Object

_LOST = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
_NO_NAME = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
_MISBOUND = "Two claims are bound to the same volume, this one is bound incorrectly"
_NONE_AND_NO_CLASS = "no persistent volumes available for this claim and no storage class is set"
_UNBOUND = "waiting for first consumer to be created before binding"


class Event(NamedTuple):
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """*bind* it to that volume, give it the class *assign*, have *provision* make one, or set its *phase*."""

    phase: str = "Pending"
    bind: Object | None = None
    assign: str = ""
    provision: str = ""
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """The *phase* and why; *unbind*: it is to be free of its claim; *wake*: the claim has to bind itself."""

    phase: str = ""
    message: str = ""
    unbind: bool = False
    wake: bool = False
    event: Event | None = None


class Surroundings(NamedTuple):
    """What a claim is judged by: *candidates* are volumes of its class and those reserved for it."""

    volume: Callable[[str], Object | None]
    candidates: Iterable[Object] = ()
    storage_class: Object | None = None
    default_class: Object | None = None
    users: Sequence[str] = ()


def plan_claim(claim: Object, around: Surroundings) -> ClaimPlan:
    if volumes.BIND_COMPLETED in meta.annotations(claim):
        return _bound_claim(claim, around)
    if name := volumes.spec(claim).get("volumeName"):
        return _claim_by_name(claim, around.volume(name))
    if not volumes.has_class(claim) and around.default_class is not None:
        return ClaimPlan(assign=meta.name(around.default_class))
    waits = volumes.waits_for_consumer(around.storage_class)
    # Where the first consumer is waited for, the scheduler takes a volume that fits the node.
    found = volumes.find_volume(claim, around.candidates, prebound_only=waits)
    if found is not None:
        return ClaimPlan(bind=found)
    if waits and volumes.SELECTED_NODE not in meta.annotations(claim):
        return ClaimPlan(event=_waiting(around.users))
    if not volumes.class_name(claim):
        return ClaimPlan(event=Event("Normal", "FailedBinding", _NONE_AND_NO_CLASS))
    return _provision(claim, around.storage_class)


def _waiting(users: Sequence[str]) -> Event:
    if not users:
        return Event("Normal", "WaitForFirstConsumer", _UNBOUND)
    whom = f"pod {users[0]}" if len(users) == 1 else f"pods {','.join(sorted(users))}"
    return Event("Normal", "WaitForPodScheduled", f"waiting for {whom} to be scheduled")


def _provision(claim: Object, storage_class: Object | None) -> ClaimPlan:
    if storage_class is None:
        message = f'storageclass.storage.k8s.io "{volumes.class_name(claim)}" not found'
        return ClaimPlan(event=Event("Warning", "ProvisioningFailed", message))
    provisioner = str(storage_class.get("provisioner") or "")
    if provisioner == volumes.NO_PROVISIONER:
        message = f"no volume plugin matched name: {provisioner}"
        return ClaimPlan(event=Event("Warning", "ProvisioningFailed", message))
    return ClaimPlan(provision=provisioner)


def _claim_by_name(claim: Object, volume: Object | None) -> ClaimPlan:
    """It asks for one volume and no other."""
    if volume is None:
        return ClaimPlan()
    if not volumes.spec(volume).get("claimRef"):
        if fault := volumes.misfit(volume, claim):
            message = f'Cannot bind to requested volume "{meta.name(volume)}": {fault}'
            return ClaimPlan(event=Event("Warning", "VolumeMismatch", message))
        return ClaimPlan(bind=volume)
    if volumes.is_claim_of(volume, claim):
        return ClaimPlan(bind=volume)
    message = f'volume "{meta.name(volume)}" already bound to a different claim.'
    return ClaimPlan(event=Event("Warning", "FailedBinding", message))


def _bound_claim(claim: Object, around: Surroundings) -> ClaimPlan:
    name = volumes.spec(claim).get("volumeName")
    if not name:
        return _lost(claim, "ClaimLost", _NO_NAME)
    volume = around.volume(name)
    if volume is None:
        return _lost(claim, "ClaimLost", _LOST)
    if not volumes.spec(volume).get("claimRef") or volumes.is_claim_of(volume, claim):
        return ClaimPlan(bind=volume)
    return _lost(claim, "ClaimMisbound", _MISBOUND)


def _lost(claim: Object, reason: str, message: str) -> ClaimPlan:
    # Said once.
    event = None if volumes.phase(claim) == "Lost" else Event("Warning", reason, message)
    return ClaimPlan("Lost", event=event)


def plan_volume(volume: Object, claim: Object | None) -> VolumePlan:
    """*claim* is the one with the name that the volume has on it, if it exists."""
    reference = volumes.spec(volume).get("claimRef") or {}
    if not reference.get("uid"):
        return VolumePlan("Available", wake=bool(reference))
    if claim is None or meta.uid(claim) != reference["uid"]:
        return _released(volume)
    wanted = volumes.spec(claim).get("volumeName")
    if not wanted:
        if volumes.volume_mode(claim) == volumes.volume_mode(volume):
            return VolumePlan(wake=True)
        message = (
            f'Cannot bind PersistentVolume "{meta.name(volume)}" to requested PersistentVolumeClaim '
            f'"{meta.name(claim)}" due to incompatible volumeMode.'
        )
        return VolumePlan(wake=True, event=Event("Warning", "VolumeMismatch", message))
    if wanted == meta.name(volume):
        return VolumePlan("Bound")
    # The claim has got another one meanwhile.
    if volumes.PROVISIONED_BY in meta.annotations(volume) and _policy(volume) == "Delete":
        return _released(volume)
    return VolumePlan("Available", unbind=True)


def _policy(volume: Object) -> str:
    return str(volumes.spec(volume).get("persistentVolumeReclaimPolicy") or "Retain")


def _released(volume: Object) -> VolumePlan:
    """Its claim is gone. Whoever provisioned it deletes it; nobody does so with one that was made by hand."""
    if volumes.phase(volume) == "Failed":
        return VolumePlan()
    if _policy(volume) == "Retain" or volumes.PROVISIONED_BY in meta.annotations(volume):
        return VolumePlan("Released")
    if _policy(volume) == "Recycle":
        message = "No recycler plugin found for the volume!"
        return VolumePlan("Failed", message, event=Event("Warning", "VolumeFailedRecycle", message))
    message = (
        f'error getting deleter volume plugin for volume "{meta.name(volume)}": '
        "no deletable volume plugin matched"
    )
    return VolumePlan("Failed", message, event=Event("Warning", "VolumeFailedDelete", message))


def unbound(volume: Object) -> Object:
    """The volume free for others; one that a user had reserved stays so for any claim of that name."""
    annotations = dict(meta.annotations(volume))
    spec = dict(volumes.spec(volume))
    if annotations.pop(volumes.BOUND_BY_CONTROLLER, None) is not None:
        spec.pop("claimRef", None)
    else:
        reference = dict(spec["claimRef"])
        reference.pop("uid", None)
        reference.pop("resourceVersion", None)
        spec["claimRef"] = reference
    return {**volume, "metadata": {**volume["metadata"], "annotations": annotations}, "spec": spec}


def bound_claim(claim: Object, volume: Object) -> Object | None:
    """The claim with the volume's name in it, None if it is there already."""
    annotations = dict(meta.annotations(claim))
    annotations[volumes.BIND_COMPLETED] = "yes"
    spec = dict(volumes.spec(claim))
    if spec.get("volumeName") != meta.name(volume):
        annotations[volumes.BOUND_BY_CONTROLLER] = "yes"
        spec["volumeName"] = meta.name(volume)
    if annotations == meta.annotations(claim) and spec == volumes.spec(claim):
        return None
    return {**claim, "metadata": {**claim["metadata"], "annotations": annotations}, "spec": spec}


def claim_status(claim: Object, phase: str, volume: Object | None = None) -> Object:
    """The status of a claim in that phase; *volume* is the one that it is bound to."""
    status = {**(claim.get("status") or {}), "phase": phase}
    if volume is None:
        for field in ("accessModes", "capacity"):
            status.pop(field, None)
        return status
    spec = volumes.spec(volume)
    status["accessModes"] = spec.get("accessModes") or []
    status["capacity"] = spec.get("capacity") or {}
    if spec.get("volumeAttributesClassName"):
        status["currentVolumeAttributesClassName"] = spec["volumeAttributesClassName"]
    return status
