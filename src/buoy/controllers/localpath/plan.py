"""Which claims get a folder, on which node, and the PersistentVolume that stands for it."""

from __future__ import annotations

import posixpath

from buoy.api import meta, volumes
from buoy.api.meta import Object

PROVISIONER = "rancher.io/local-path"
FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
"""Keeps a volume until its folder is gone (KEP-2644)."""

_NODE = "local.path.provisioner/selected-node"
_HOSTNAME = "kubernetes.io/hostname"
_MODES = {"ReadWriteOnce", "ReadWriteOncePod"}
_LONGEST_NAME = 255


def is_asked(claim: Object) -> bool:
    """Whether the claim waits for a volume of this provisioner."""
    return (
        meta.annotations(claim).get(volumes.STORAGE_PROVISIONER) == PROVISIONER
        and not volumes.spec(claim).get("volumeName")
        and not meta.is_terminating(claim)
    )


def selected_node(claim: Object) -> str:
    return meta.annotations(claim).get(volumes.SELECTED_NODE, "")


def refusal(claim: Object) -> str:
    """Why the claim can have no folder, empty if it can."""
    if not selected_node(claim):
        return "configuration error, no node was specified"
    if volumes.spec(claim).get("selector"):
        return "claim.Spec.Selector is not supported"
    if volumes.volume_mode(claim) != "Filesystem":
        return "block volumes are not supported"
    if not set(volumes.spec(claim).get("accessModes") or ()) <= _MODES:
        return "NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes"
    return ""


def volume_name(claim: Object) -> str:
    return f"pvc-{meta.uid(claim)}"


def folder_name(claim: Object) -> str:
    return f"{volume_name(claim)}_{meta.namespace(claim)}_{meta.name(claim)}"[:_LONGEST_NAME]


def volume_of(claim: Object, storage_class: Object, path: str) -> Object:
    """The volume of a folder below *path* on the claim's node."""
    node, spec = selected_node(claim), volumes.spec(claim)
    policy = storage_class.get("reclaimPolicy") or "Delete"
    folder = posixpath.join(path, folder_name(claim))
    kind = meta.annotations(claim).get("volumeType") or meta.annotations(storage_class).get(
        "defaultVolumeType", "hostPath"
    )
    source: Object = (
        {"local": {"path": folder}}
        if kind == "local"
        else {"hostPath": {"path": folder, "type": "DirectoryOrCreate"}}
    )
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": volume_name(claim),
            "annotations": {_NODE: node, volumes.PROVISIONED_BY: PROVISIONER},
            "finalizers": [FINALIZER] if policy == "Delete" else [],
        },
        "spec": {
            "accessModes": spec.get("accessModes") or [],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta.namespace(claim),
                "name": meta.name(claim),
                "uid": meta.uid(claim),
                "resourceVersion": claim["metadata"].get("resourceVersion", ""),
            },
            "mountOptions": storage_class.get("mountOptions") or [],
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": _HOSTNAME, "operator": "In", "values": [node]}]}
                    ]
                }
            },
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": meta.name(storage_class),
            "volumeMode": "Filesystem",
            **source,
        },
    }


def is_ours(volume: Object) -> bool:
    return meta.annotations(volume).get(volumes.PROVISIONED_BY) == PROVISIONER


def is_deletable(volume: Object) -> bool:
    """Nobody has a claim on it, and its data are not to be kept."""
    return (
        is_ours(volume)
        and volumes.spec(volume).get("persistentVolumeReclaimPolicy") == "Delete"
        and volumes.phase(volume) in ("Released", "Failed")
    )


def is_let_go(volume: Object) -> bool:
    """It is being deleted and its data are to be kept: nothing holds it here."""
    return (
        is_ours(volume)
        and meta.is_terminating(volume)
        and FINALIZER in (volume["metadata"].get("finalizers") or ())
        and volumes.spec(volume).get("persistentVolumeReclaimPolicy") != "Delete"
    )


def folder_of(volume: Object, path: str) -> tuple[str, str] | None:
    """The node and the name of the volume's folder; None if it is not one directly below *path*."""
    source = volumes.source(volume)
    found = str((source.get("hostPath") or source.get("local") or {}).get("path") or "")
    parent, name = posixpath.split(found)
    node = meta.annotations(volume).get(_NODE, "")
    if parent != path or name in ("", ".", "..") or node in ("", ".", "..") or "/" in node:
        return None
    return node, name
