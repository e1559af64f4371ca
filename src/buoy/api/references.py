"""The names of other objects that a Pod or a PersistentVolume refers to.

After k8s.io/kubernetes' ``pkg/api/v1/pod`` and ``pkg/api/v1/persistentvolume``.
"""

from __future__ import annotations

from collections.abc import Iterator

from .meta import Object
from .pods import all_containers

# Where the sources of a volume name a Secret of the Pod's namespace: (source, field, name in the field).
_SECRETS_OF_VOLUMES = (
    ("secret", "", "secretName"),
    ("azureFile", "", "secretName"),
    ("cephfs", "secretRef", "name"),
    ("cinder", "secretRef", "name"),
    ("flexVolume", "secretRef", "name"),
    ("rbd", "secretRef", "name"),
    ("scaleIO", "secretRef", "name"),
    ("iscsi", "secretRef", "name"),
    ("storageos", "secretRef", "name"),
    ("csi", "nodePublishSecretRef", "name"),
)
_SECRETS_OF_PERSISTENT_VOLUMES = (
    *((source, "secretRef") for source in ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi")),
    ("storageos", "secretRef"),
    # Not those of attaching and of the controller's expanding: no node works with them.
    ("csi", "nodePublishSecretRef"),
    ("csi", "nodeStageSecretRef"),
    ("csi", "nodeExpandSecretRef"),
)


def _volumes(pod: Object) -> Iterator[Object]:
    yield from pod["spec"].get("volumes") or ()


def _projected(pod: Object) -> Iterator[Object]:
    for volume in _volumes(pod):
        yield from (volume.get("projected") or {}).get("sources") or ()


def _in_environments(pod: Object, whole: str, one: str) -> Iterator[str]:
    for _, _, container in all_containers(pod["spec"]):
        for source in container.get("envFrom") or ():
            yield (source.get(whole) or {}).get("name") or ""
        for variable in container.get("env") or ():
            yield ((variable.get("valueFrom") or {}).get(one) or {}).get("name") or ""


def config_maps(pod: Object) -> frozenset[str]:
    """The ConfigMaps of its namespace that *pod* names."""
    found = set(_in_environments(pod, "configMapRef", "configMapKeyRef"))
    for source in (*_volumes(pod), *_projected(pod)):
        found.add((source.get("configMap") or {}).get("name") or "")
    return frozenset(found - {""})


def secrets(pod: Object) -> frozenset[str]:
    """The Secrets of its namespace that *pod* names."""
    found = set(_in_environments(pod, "secretRef", "secretKeyRef"))
    found.update(each.get("name") or "" for each in pod["spec"].get("imagePullSecrets") or ())
    found.update((source.get("secret") or {}).get("name") or "" for source in _projected(pod))
    for volume in _volumes(pod):
        for source, field, name in _SECRETS_OF_VOLUMES:
            given = volume.get(source) or {}
            found.add(((given.get(field) or {}) if field else given).get(name) or "")
    return frozenset(found - {""})


def resource_claims(pod: Object) -> frozenset[str]:
    """The ResourceClaims of its namespace that *pod* names, or that were made for it."""
    status = pod.get("status") or {}
    given = (
        *(pod["spec"].get("resourceClaims") or ()),
        *(status.get("resourceClaimStatuses") or ()),
        status.get("extendedResourceClaimStatus") or {},
    )
    return frozenset(each["resourceClaimName"] for each in given if each.get("resourceClaimName"))


def token_audiences(pod: Object) -> frozenset[str]:
    """Whom the tokens are for that *pod* has projected; ``""`` is the API server."""
    return frozenset(
        source["serviceAccountToken"].get("audience") or ""
        for source in _projected(pod)
        if source.get("serviceAccountToken") is not None
    )


def has_trust_bundles(pod: Object) -> bool:
    return any(source.get("clusterTrustBundle") for source in _projected(pod))


def volume_claim(volume: Object) -> tuple[str, str] | None:
    """Namespace and name of the claim that a PersistentVolume is for."""
    reference = (volume.get("spec") or {}).get("claimRef") or {}
    return (reference.get("namespace") or "", reference["name"]) if reference.get("name") else None


def volume_secrets(volume: Object) -> frozenset[tuple[str, str]]:
    """Namespace and name of the Secrets that a node needs to mount a PersistentVolume."""
    claim = volume_claim(volume)
    if claim is None:
        return frozenset()
    spec = volume["spec"]
    found = set()
    for source, field in _SECRETS_OF_PERSISTENT_VOLUMES:
        reference = (spec.get(source) or {}).get(field) or {}
        found.add((reference.get("namespace") or claim[0], reference.get("name") or ""))
    azure = spec.get("azureFile") or {}
    found.add((azure.get("secretNamespace") or claim[0], azure.get("secretName") or ""))
    return frozenset(each for each in found if each[1])
