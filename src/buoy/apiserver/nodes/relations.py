"""Which objects each node has to do with, as it follows from the Pods bound to it.

After k8s.io/kubernetes' ``plugin/pkg/auth/authorizer/node``, whose graph has the same edges. Here every
question is a look-up: what Pods name is counted by node, and from a PersistentVolume the one way on is to its
claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from buoy.api import meta, references, volumes
from buoy.api.meta import Object


class Ref(NamedTuple):
    """An object, by the plural of its resource. No two of the resources here have the same."""

    resource: str
    namespace: str
    name: str


class _Pod(NamedTuple):
    node: str
    uid: str
    claims: frozenset[str]
    ephemeral: int
    """How many ephemeral containers there are: what else names objects in a Pod never changes."""
    uses: frozenset[Ref]


class _Volume(NamedTuple):
    claim: Ref | None
    secrets: frozenset[Ref]


class Relations:
    """Kept up to date by `put` and `remove`, at a cost that goes with what the one object names."""

    RESOURCES = ("pods", "persistentvolumes", "volumeattachments", "resourceslices")
    """What it must be told of, by plural."""

    def __init__(self) -> None:
        self._pods: dict[Ref, _Pod] = {}
        self._nodes: dict[Ref, Counter[str]] = {}
        self._volumes: dict[Ref, _Volume] = {}
        self._volumes_of_secrets: dict[Ref, set[Ref]] = {}
        self._owned: dict[Ref, str] = {}
        self._put: dict[str, Callable[[Ref, Object], None]] = {
            "pods": self._put_pod,
            "persistentvolumes": self._put_volume,
            "volumeattachments": self._put_owned,
            "resourceslices": self._put_owned,
        }

    def put(self, resource: str, obj: Object) -> None:
        """There is such an object, or it has changed."""
        self._put[resource](Ref(resource, meta.namespace(obj), meta.name(obj)), obj)

    def remove(self, resource: str, namespace: str, name: str) -> None:
        ref = Ref(resource, namespace, name)
        if resource == "pods":
            self._remove_pod(ref)
        elif resource == "persistentvolumes":
            self._remove_volume(ref)
        else:
            self._owned.pop(ref, None)

    def related(self, node: str, ref: Ref) -> bool:
        """Whether *node* has to do with the object."""
        if ref.resource == "pods":
            pod = self._pods.get(ref)
            return pod is not None and pod.node == node
        if ref.resource == "persistentvolumes":
            return self._mounts(node, ref)
        if ref in self._owned:
            return self._owned[ref] == node
        if node in self._nodes.get(ref, ()):
            return True
        return any(self._mounts(node, volume) for volume in self._volumes_of_secrets.get(ref, ()))

    def _mounts(self, node: str, volume: Ref) -> bool:
        known = self._volumes.get(volume)
        return known is not None and known.claim is not None and node in self._nodes.get(known.claim, ())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Relations) and all(
            getattr(self, name) == getattr(other, name)
            for name in ("_pods", "_nodes", "_volumes", "_volumes_of_secrets", "_owned")
        )

    __hash__ = None  # type: ignore[assignment]

    # Pods

    def _put_pod(self, ref: Ref, pod: Object) -> None:
        node = pod["spec"].get("nodeName") or ""
        if not node:
            self._remove_pod(ref)  # an earlier one of that name
            return
        uid = meta.uid(pod)
        claims = references.resource_claims(pod)
        ephemeral = len(pod["spec"].get("ephemeralContainers") or ())
        known = self._pods.get(ref)
        if known is not None and known[:-1] == (node, uid, claims, ephemeral):
            return
        self._remove_pod(ref)
        uses = _uses(pod, claims)
        self._pods[ref] = _Pod(node, uid, claims, ephemeral, uses)
        for each in uses:
            self._nodes.setdefault(each, Counter())[node] += 1

    def _remove_pod(self, ref: Ref) -> None:
        known = self._pods.pop(ref, None)
        if known is None:
            return
        for each in known.uses:
            nodes = self._nodes[each]
            nodes[known.node] -= 1
            if not nodes[known.node]:
                del nodes[known.node]
                if not nodes:
                    del self._nodes[each]

    # PersistentVolumes

    def _put_volume(self, ref: Ref, volume: Object) -> None:
        claim = references.volume_claim(volume)
        secrets = references.volume_secrets(volume)
        new = _Volume(
            Ref("persistentvolumeclaims", *claim) if claim else None,
            frozenset(Ref("secrets", *secret) for secret in secrets),
        )
        if self._volumes.get(ref) == new:
            return
        self._remove_volume(ref)
        self._volumes[ref] = new
        for secret in new.secrets:
            self._volumes_of_secrets.setdefault(secret, set()).add(ref)

    def _remove_volume(self, ref: Ref) -> None:
        known = self._volumes.pop(ref, None)
        if known is None:
            return
        for secret in known.secrets:
            others = self._volumes_of_secrets[secret]
            others.discard(ref)
            if not others:
                del self._volumes_of_secrets[secret]

    # What names its node itself

    def _put_owned(self, ref: Ref, obj: Object) -> None:
        node = (obj.get("spec") or {}).get("nodeName")
        if node:
            self._owned[ref] = node
        else:
            self._owned.pop(ref, None)


def _uses(pod: Object, resource_claims: frozenset[str]) -> frozenset[Ref]:
    if meta.annotations(pod).get("kubernetes.io/config.mirror") is not None:
        return frozenset()  # the node made it itself, and would give itself what it likes
    namespace = meta.namespace(pod)
    account = pod["spec"].get("serviceAccountName")
    named = {
        "serviceaccounts": (account,) if account else (),
        "secrets": references.secrets(pod),
        "configmaps": references.config_maps(pod),
        "persistentvolumeclaims": {name for name, _ in volumes.claim_names(pod)},
        "resourceclaims": resource_claims,
    }
    return frozenset(Ref(resource, namespace, name) for resource, names in named.items() for name in names)
