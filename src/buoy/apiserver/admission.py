"""Admission: the rules that need more than the object itself."""

from __future__ import annotations

import asyncio

from buoy.api import meta, references
from buoy.api.kind import Kind
from buoy.api.meta import Object
from buoy.api.resource import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
)
from buoy.api.status import StatusError, forbidden, not_found

from .attributes import Attributes
from .authorization import Authorizer
from .bootstrap import SYSTEM_NAMESPACES
from .nodes import node_of, restriction
from .registry import Registry, User, Write, generate_name
from .volume_admission import admit_claim, admit_volume

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105
_AUDIENCE_VERB = "request-serviceaccounts-token-audience"
_EVERYTHING = (
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    {"nonResourceURLs": ["*"], "verbs": ["*"]},
)
_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_UNREACHABLE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_TOLERATION_SECONDS = 300
_ACCOUNT_TRIES = 10
_ACCOUNT_WAIT = 0.1


class StandardAdmission:
    """The admission plugins that Kubernetes has on by default, as far as they concern Buoy's kinds."""

    def __init__(self, registry: Registry, authorizer: Authorizer) -> None:
        self._registry = registry
        self._authorizer = authorizer

    async def admit(self, kind: Kind, new: Object, old: Object | None, write: Write) -> None:
        if old is None and kind.resource.namespaced:
            await self._check_namespace(kind, new)
        await self._restrict_node(kind, new, old, write)
        if kind.custom and old is None:
            await self._check_definition(kind)
        if kind.resource == PODS and old is None:
            await self._admit_pod(new)
        elif kind.resource == PERSISTENT_VOLUME_CLAIMS:
            await admit_claim(self._registry, new, old)
        elif kind.resource == PERSISTENT_VOLUMES:
            admit_volume(new, old)
        elif kind.resource.group == ROLES.group:
            await self._check_escalation(kind, new, old, write)

    async def admit_delete(self, kind: Kind, old: Object, write: Write) -> None:
        await self._restrict_node(kind, None, old, write)
        if kind.resource == NAMESPACES and meta.name(old) in SYSTEM_NAMESPACES:
            raise forbidden(NAMESPACES, meta.name(old), "this namespace may not be deleted")

    async def _check_namespace(self, kind: Kind, new: Object) -> None:
        name = meta.namespace(new)
        namespace = await self._registry.find(NAMESPACES, "", name)
        if namespace is None:
            raise not_found(NAMESPACES, name)
        if meta.is_terminating(namespace):
            error = forbidden(
                kind.resource,
                str(new["metadata"].get("name") or ""),
                f"unable to create new content in namespace {name} because it is being terminated",
            )
            assert error.details is not None
            error.details["causes"] = [
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {name} is being terminated",
                    "field": "metadata.namespace",
                }
            ]
            raise error

    async def _check_definition(self, kind: Kind) -> None:
        name = f"{kind.resource.plural}.{kind.resource.group}"
        definition = await self._registry.find(CUSTOM_RESOURCE_DEFINITIONS, "", name)
        if definition is None or meta.is_terminating(definition):
            raise StatusError(
                405,
                "MethodNotAllowed",
                "create not allowed while custom resource definition is terminating",
                {"group": kind.resource.group, "kind": kind.resource.plural},
            )

    # Nodes

    async def _restrict_node(self, kind: Kind, new: Object | None, old: Object | None, write: Write) -> None:
        node = node_of(write.user)
        if node is None:
            return
        resource = kind.resource
        name = str(((new if new is not None else old) or {})["metadata"].get("name") or "")
        refusal = restriction.restrict(node, resource, write.subresource, new, old)
        if not refusal and resource == PODS and new is not None and old is None:
            own = await self._registry.find(NODES, "", node)
            if own is None:
                raise not_found(NODES, node)
            refusal = restriction.wrong_owner(node, restriction.owner_uid(new), meta.uid(own))
        if refusal:
            raise forbidden(resource, name, refusal)

    async def admit_token(self, namespace: str, account: str, spec: Object, user: User) -> None:
        node = node_of(user)
        if node is None:
            return
        reference: Object = spec.get("boundObjectRef") or {}
        audiences = [str(audience) for audience in spec.get("audiences") or ()]
        refusal = restriction.token_binding(reference)
        if not refusal:
            pod = await self._registry.find(PODS, namespace, str(reference["name"]))
            if pod is None:
                raise not_found(PODS, str(reference["name"]))
            refusal = restriction.token(node, reference, audiences, pod)
            if not refusal:
                audience = audiences[0] if audiences else ""
                refusal = restriction.token_audience(audience, pod)
                wanted = Attributes(_AUDIENCE_VERB, "", audience, "", namespace, account)
                if refusal and (await self._authorizer.decide_now(user, wanted)).allowed:
                    refusal = ""
        if refusal:
            raise forbidden(SERVICE_ACCOUNTS, account, refusal)

    # Pods

    async def _admit_pod(self, pod: Object) -> None:
        spec = pod.setdefault("spec", {})
        if restriction.MIRROR in meta.annotations(pod):
            _check_mirror(pod)
        else:
            await self._give_account(pod, spec)
        _tolerate(spec)
        _prioritise(pod, spec)

    async def _give_account(self, pod: Object, spec: Object) -> None:
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(pod, name)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(each) for each in account["imagePullSecrets"]]
        mounts = spec.get("automountServiceAccountToken")
        if mounts is None:
            mounts = account.get("automountServiceAccountToken")
        if mounts is not False:
            _mount_token(spec)

    async def _account(self, pod: Object, name: str) -> Object:
        """The service account; a new namespace gets its own a moment after it is made."""
        namespace = meta.namespace(pod)
        for attempt in range(_ACCOUNT_TRIES):
            account = await self._registry.find(SERVICE_ACCOUNTS, namespace, name)
            if account is not None:
                return account
            if attempt < _ACCOUNT_TRIES - 1:
                await asyncio.sleep(_ACCOUNT_WAIT)
        raise forbidden(
            PODS,
            str(pod["metadata"].get("name") or ""),
            f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found',
        )

    # Roles

    async def _check_escalation(self, kind: Kind, new: Object, old: Object | None, write: Write) -> None:
        """Nobody may give what they do not have (or hold the verbs ``escalate``, ``bind``)."""
        resource = kind.resource
        user = write.user
        namespace = meta.namespace(new)
        name = str(new["metadata"].get("name") or "")
        if resource in (ROLES, CLUSTER_ROLES):
            aggregated = new.get("aggregationRule") is not None and (
                old is None or old.get("aggregationRule") != new["aggregationRule"]
            )
            if old is not None and old.get("rules") == new.get("rules") and not aggregated:
                return
            wanted = Attributes("escalate", resource.group, resource.plural, "", namespace, name)
            # Such a role comes to have whatever is in others: only who may do everything may make one.
            rules = _EVERYTHING if aggregated else new.get("rules") or ()
            allowed_by = "escalate"
        elif resource in (ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS):
            if old is not None and (old.get("roleRef"), old.get("subjects")) == (
                new.get("roleRef"),
                new.get("subjects"),
            ):
                return
            reference = new.get("roleRef") or {}
            referred = CLUSTER_ROLES if reference.get("kind") == "ClusterRole" else ROLES
            role_name = str(reference.get("name"))
            wanted = Attributes("bind", resource.group, referred.plural, "", namespace, role_name)
            rules = None
            allowed_by = "bind"
        else:
            return
        if (await self._authorizer.decide_now(user, wanted)).allowed:
            return
        if rules is None:
            role = self._authorizer.role(reference, namespace)
            if role is None:
                # It may be made later, and then it would be given by whoever could not give it.
                raise not_found(referred, role_name)
            rules = role.get("rules") or ()
        missing = self._authorizer.covers(user, namespace, rules)
        if missing:
            shown = "\n".join(map(_show_rule, missing))
            error = forbidden(
                resource,
                name,
                f'user "{user.name}" (groups={list(user.groups)}) is attempting to grant RBAC permissions '
                f"not currently held:\n{shown}",
            )
            error.details = {**(error.details or {}), "causes": [{"message": allowed_by}]}
            raise error


def _check_mirror(pod: Object) -> None:
    """What a node runs of its own accord gets nothing by the API server."""
    for what, named in (
        ("reference service accounts", pod["spec"].get("serviceAccountName")),
        ("reference secrets", references.secrets(pod)),
        ("use ServiceAccountToken volume projections", references.token_audiences(pod)),
    ):
        if named:
            raise forbidden(PODS, str(pod["metadata"].get("name") or ""), f"a mirror pod may not {what}")


def _show_rule(rule: Object) -> str:
    order = (
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("ResourceNames", "resourceNames"),
        ("NonResourceURLs", "nonResourceURLs"),
        ("Verbs", "verbs"),
    )
    parts = (f"{shown}:{_go_list(rule[field])}" for shown, field in order if rule.get(field))
    return "{" + ", ".join(parts) + "}"


def _go_list(values: list[str]) -> str:
    return "[" + " ".join(f'"{value}"' for value in values) + "]"


def _mount_token(spec: Object) -> None:
    """Mount the API's token, certificate and the namespace where client libraries look for them."""
    lacking = [
        container
        for field in ("initContainers", "containers")
        for container in spec.get(field) or ()
        if not any(mount.get("mountPath") == TOKEN_PATH for mount in container.get("volumeMounts") or ())
    ]
    if not lacking:
        return
    name = generate_name("kube-api-access-")
    spec["volumes"] = [
        *(spec.get("volumes") or ()),
        {
            "name": name,
            "projected": {
                "defaultMode": 420,
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {
                        "configMap": {
                            "name": "kube-root-ca.crt",
                            "items": [{"key": "ca.crt", "path": "ca.crt"}],
                        }
                    },
                    {
                        "downwardAPI": {
                            "items": [
                                {
                                    "path": "namespace",
                                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                                }
                            ]
                        }
                    },
                ],
            },
        },
    ]
    for container in lacking:
        container["volumeMounts"] = [
            *(container.get("volumeMounts") or ()),
            {"name": name, "readOnly": True, "mountPath": TOKEN_PATH},
        ]


def _tolerate(spec: Object) -> None:
    """A Pod stays five minutes on a node that has fallen silent, unless it says otherwise."""
    tolerations = list(spec.get("tolerations") or ())
    for key in _UNREACHABLE:
        if not any(
            toleration.get("key") in (key, None, "") and toleration.get("effect") in ("NoExecute", None, "")
            for toleration in tolerations
        ):
            tolerations.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _TOLERATION_SECONDS,
                }
            )
    if tolerations:
        spec["tolerations"] = tolerations


def _prioritise(pod: Object, spec: Object) -> None:
    name = spec.get("priorityClassName")
    if name and name not in _PRIORITIES:
        pod_name = str(pod["metadata"].get("name") or "")
        raise forbidden(PODS, pod_name, f"no PriorityClass with name {name} was found")
    spec["priority"] = _PRIORITIES.get(name or "", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
