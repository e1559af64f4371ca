"""From a Pod's claims to where the data are: each such volume as one with a source of its own.

Follows k8s.io/kubernetes' ``pkg/kubelet/volumemanager/populator``.
"""

from __future__ import annotations

from ..api import meta, volumes
from ..api.meta import Object
from ..api.resource import NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from ..api.status import StatusError
from ..client import Client


class ClaimError(Exception):
    """The Pod cannot have the volume yet, or at all; the argument says why."""


def claim_name(pod: Object, volume: Object) -> str | None:
    """The claim that stands behind one of the Pod's volumes, None if it is of another kind."""
    if volume.get("persistentVolumeClaim"):
        return str(volume["persistentVolumeClaim"]["claimName"])
    return volumes.ephemeral_claim_name(pod, volume) if volume.get("ephemeral") else None


def check_claim(pod: Object, volume: Object, claim: Object) -> None:
    """Raises ClaimError unless the claim is bound and the Pod's to use."""
    if volume.get("ephemeral") and (fault := volumes.belongs_to(claim, pod)):
        raise ClaimError(fault)
    if meta.is_terminating(claim):
        raise ClaimError("PVC is being deleted")
    if volumes.phase(claim) != "Bound" or not volumes.spec(claim).get("volumeName"):
        raise ClaimError("PVC is not bound")


def resolved(volume: Object, claim: Object, persistent: Object) -> Object:
    """*volume* with the source of the PersistentVolume behind it, of which ``name`` is ``persistentVolume``.

    Raises ClaimError if that is not the claim's, or not one with files.
    """
    reference = volumes.spec(persistent).get("claimRef")
    if not reference:
        raise ClaimError(
            f"found PV object {meta.name(persistent)} but it has a nil pv.Spec.ClaimRef indicating it is not "
            "yet bound to the claim"
        )
    if reference.get("uid") != meta.uid(claim):
        raise ClaimError(
            f"found PV object {meta.name(persistent)} but its pv.Spec.ClaimRef.UID {reference.get('uid')} "
            f"does not point to claim.UID {meta.uid(claim)}"
        )
    if volumes.volume_mode(persistent) != "Filesystem":
        raise ClaimError(f"volume {volume['name']} has volumeMode {volumes.volume_mode(persistent)}")
    found: Object = {"name": volume["name"], **volumes.source(persistent)}
    found["persistentVolume"] = meta.name(persistent)
    found["readOnly"] = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
    return found


async def resolve(client: Client, node_name: str, pod: Object, volume: Object) -> Object:
    """The volume as one with a source of its own. Raises ClaimError, StatusError and ConnectionFailed."""
    name = claim_name(pod, volume)
    assert name is not None
    try:
        claim = await client.get(PERSISTENT_VOLUME_CLAIMS, name, meta.namespace(pod))
    except StatusError as error:
        raise ClaimError(f"failed to fetch PVC from API server: {error}") from error
    check_claim(pod, volume, claim)
    try:
        persistent = await client.get(PERSISTENT_VOLUMES, claim["spec"]["volumeName"])
    except StatusError as error:
        raise ClaimError(
            f"failed to fetch PV {claim['spec']['volumeName']} from API server: {error}"
        ) from error
    found = resolved(volume, claim, persistent)
    if volumes.spec(persistent).get("nodeAffinity") and not volumes.reachable(
        persistent, await client.get(NODES, node_name)
    ):
        # Without a scheduler's word: an empty folder of the same path must not pass for the volume.
        raise ClaimError(
            f'NodeAffinity check failed for volume "{meta.name(persistent)}" : no matching NodeSelectorTerms'
        )
    return found
