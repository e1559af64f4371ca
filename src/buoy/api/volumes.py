"""What PersistentVolumes and their claims say of each other. Shared by all components.

After k8s.io/component-helpers' ``storage/volume``.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from decimal import Decimal

from . import meta, placement, quantity, selectors
from .meta import Object

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_STORAGE_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
BETA_DEFAULT_CLASS = "storageclass.beta.kubernetes.io/is-default-class"
CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION = "kubernetes.io/pv-protection"
NO_PROVISIONER = "kubernetes.io/no-provisioner"

ACCESS_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
"""The access modes in the order in which they are shown, and how."""

_SETTINGS = frozenset(
    (
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    )
)


def spec(obj: Object) -> Object:
    found: Object = obj.get("spec") or {}
    return found


def phase(obj: Object) -> str:
    return str((obj.get("status") or {}).get("phase") or "")


def source(volume: Object) -> Object:
    """Where a PersistentVolume keeps its data: the one field of its spec that is no setting, by its name."""
    return {
        name: value for name, value in spec(volume).items() if name not in _SETTINGS and value is not None
    }


def class_name(obj: Object) -> str:
    """The class of a claim or a volume, ``""`` if it has none."""
    beta = meta.annotations(obj).get(BETA_CLASS)
    return beta if beta is not None else str(spec(obj).get("storageClassName") or "")


def has_class(claim: Object) -> bool:
    """Whether the claim says which class it wants; ``""``, none at all, is saying so too."""
    return BETA_CLASS in meta.annotations(claim) or spec(claim).get("storageClassName") is not None


def is_default(storage_class: Object) -> bool:
    annotations = meta.annotations(storage_class)
    return any(annotations.get(key) == "true" for key in (DEFAULT_CLASS, BETA_DEFAULT_CLASS))


def default_class(classes: Iterable[Object]) -> Object | None:
    """Of the classes that are marked as the default the newest, and of those the first by name."""
    marked = sorted(filter(is_default, classes), key=meta.name)
    return max(marked, key=lambda each: str(each["metadata"].get("creationTimestamp") or ""), default=None)


def waits_for_consumer(storage_class: Object | None) -> bool:
    """Whether its volumes are bound only when it is known which node needs them."""
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def volume_mode(obj: Object) -> str:
    return str(spec(obj).get("volumeMode") or "Filesystem")


def storage_of(volume: Object) -> Decimal:
    """A volume's capacity in bytes."""
    return quantity.value((spec(volume).get("capacity") or {}).get("storage", "0"))


def storage_for(claim: Object) -> Decimal:
    """What the claim asks for in bytes."""
    return quantity.value(((spec(claim).get("resources") or {}).get("requests") or {}).get("storage", "0"))


def is_fully_bound(claim: Object) -> bool:
    return bool(spec(claim).get("volumeName")) and BIND_COMPLETED in meta.annotations(claim)


def is_claim_of(volume: Object, claim: Object) -> bool:
    """The volume is the claim's or reserved for it: one that names no uid is for any claim of the name."""
    reference = spec(volume).get("claimRef") or {}
    return (
        bool(reference)
        and (reference.get("namespace"), reference.get("name")) == (meta.namespace(claim), meta.name(claim))
        and reference.get("uid") in (None, "", meta.uid(claim))
    )


def misfit(volume: Object, claim: Object) -> str:
    """Why the claim cannot have a volume that it asks for by name, empty if it can."""
    if storage_of(volume) < storage_for(claim):
        return "requested PV is too small"
    if class_name(volume) != class_name(claim):
        return "storageClassName does not match"
    if _attributes_class(volume) != _attributes_class(claim):
        return "volumeAttributesClassName does not match"
    if volume_mode(volume) != volume_mode(claim):
        return "incompatible volumeMode"
    if not _has_modes(volume, claim):
        return "incompatible accessMode"
    return ""


def _attributes_class(obj: Object) -> str:
    return str(spec(obj).get("volumeAttributesClassName") or "")


def _has_modes(volume: Object, claim: Object) -> bool:
    return set(spec(claim).get("accessModes") or ()) <= set(spec(volume).get("accessModes") or ())


def find_volume(
    claim: Object,
    volumes: Iterable[Object],
    *,
    node: Object | None = None,
    taken: Container[str] = (),
    prebound_only: bool = False,
) -> Object | None:
    """The volume for a claim that asks for none by name: one reserved for it, or the smallest that fits.

    With *node*, one that can be had there. *taken* are names of volumes that are promised to others;
    with *prebound_only* nothing but a reserved one will do.
    """
    selector = selectors.from_object(spec(claim).get("selector") or {})
    best: Object | None = None
    for volume in volumes:
        if meta.name(volume) in taken or meta.is_terminating(volume):
            continue
        if storage_of(volume) < storage_for(claim) or volume_mode(volume) != volume_mode(claim):
            continue
        if is_claim_of(volume, claim):
            # Whoever reserved it knew what they did: class, labels and access modes don't matter.
            return volume if node is None or reachable(volume, node) else None
        if prebound_only or spec(volume).get("claimRef") or phase(volume) != "Available":
            continue
        if class_name(volume) != class_name(claim) or _attributes_class(volume) != _attributes_class(claim):
            continue
        if not _has_modes(volume, claim) or not selector.matches(meta.labels(volume)):
            continue
        if node is not None and not reachable(volume, node):
            continue
        if best is None or (storage_of(volume), meta.name(volume)) < (storage_of(best), meta.name(best)):
            best = volume
    return best


def reachable(volume: Object, node: Object) -> bool:
    """Whether the volume can be had on that node, by its node affinity."""
    required = (spec(volume).get("nodeAffinity") or {}).get("required")
    return required is None or any(
        placement.matches_term(term, node) for term in required.get("nodeSelectorTerms") or ()
    )


def bound_volume(volume: Object, claim: Object) -> Object | None:
    """The volume with the claim's name on it, None if it is there already."""
    reference = spec(volume).get("claimRef") or {}
    annotations = meta.annotations(volume)
    new = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": meta.namespace(claim),
        "name": meta.name(claim),
        "uid": meta.uid(claim),
        "resourceVersion": claim["metadata"].get("resourceVersion", ""),
    }
    if not is_claim_of(volume, claim):
        annotations = {**annotations, BOUND_BY_CONTROLLER: "yes"}
    elif reference.get("uid") == meta.uid(claim):
        return None
    return {
        **volume,
        "metadata": {**volume["metadata"], "annotations": annotations},
        "spec": {**spec(volume), "claimRef": new},
    }


def claim_names(pod: Object) -> Iterable[tuple[str, bool]]:
    """The names of the claims that a Pod uses, and whether each is one made for it alone."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            yield volume["persistentVolumeClaim"]["claimName"], False
        elif volume.get("ephemeral"):
            yield ephemeral_claim_name(pod, volume), True


def ephemeral_claim_name(pod: Object, volume: Object) -> str:
    return f"{meta.name(pod)}-{volume['name']}"


def belongs_to(claim: Object, pod: Object) -> str:
    """Why the claim is not the one that was made for an ephemeral volume of *pod*, empty if it is."""
    owner = meta.controller_of(claim)
    if owner is not None and owner.get("uid") == meta.uid(pod):
        return ""
    return f"PVC {meta.key(claim)} was not created for pod {meta.key(pod)} (pod is not owner)"


def claim_keys(pod: Object) -> Iterable[str]:
    """Index keys: the claims that a Pod uses."""
    return {f"{meta.namespace(pod)}/{name}" for name, _ in claim_names(pod)}
