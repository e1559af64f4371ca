"""Who owns a StatefulSet's claims: ``persistentVolumeClaimRetentionPolicy`` (KEP-1847).

Nothing is deleted here. A claim that is to go with the set, or with a Pod that is scaled away, gets that as
its owner, and the garbage collector does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from buoy.api import meta
from buoy.api.meta import Object

from ..replicaset.plan import replicas
from .plan import first_ordinal, ordinal


def _is_scaled_away(stateful_set: Object, pod: Object) -> bool:
    number, first = ordinal(stateful_set, pod), first_ordinal(stateful_set)
    return number is None or not first <= number < first + replicas(stateful_set)


def _deletes(stateful_set: Object, when: str) -> bool:
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return bool(policy.get(when) == "Delete")


def owner_of(stateful_set: Object, pod: Object) -> Object | None:
    """The object with which the Pod's claims are to go, None if they are to stay."""
    if _deletes(stateful_set, "whenScaled") and _is_scaled_away(stateful_set, pod):
        return pod
    return stateful_set if _deletes(stateful_set, "whenDeleted") else None


def conflicts(stateful_set: Object, pod: Object, claim: Object) -> bool:
    """Whether a stranger controls the claim; then the policy does not hold for it."""
    controller = meta.controller_of(claim)
    return controller is not None and not _is_one_of(controller, (stateful_set, pod))


def _is_one_of(reference: Object, objects: Sequence[Object]) -> bool:
    return any(reference.get("uid") == meta.uid(each) for each in objects)


def owners(stateful_set: Object, pod: Object, claim: Object) -> list[Object]:
    """The claim's owner references as they should be."""
    others = [
        each
        for each in claim["metadata"].get("ownerReferences") or ()
        if not _is_one_of(each, (stateful_set, pod))
    ]
    owner = None if conflicts(stateful_set, pod, claim) else owner_of(stateful_set, pod)
    return others if owner is None else [*others, meta.owner_reference(owner)]


def is_stale(claim: Object, pod_name: str) -> bool:
    """Whether the claim goes with an earlier Pod of the name: the next one must not have it."""
    return any(
        each.get("kind") == "Pod" and each.get("name") == pod_name
        for each in claim["metadata"].get("ownerReferences") or ()
    )
