"""What a new cluster has from the first second: namespaces, roles and bindings, the ``kubernetes`` Service.

The roles follow k8s.io/kubernetes' ``plugin/pkg/auth/authorizer/rbac/bootstrappolicy``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from buoy.api.meta import Object
from buoy.api.resource import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Resource

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")

_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_ANNOTATIONS = {"rbac.authorization.kubernetes.io/autoupdate": "true"}

_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_READ_WRITE = [*_READ, *_WRITE]
_ALL = ["*"]

_CORE_CONTENT = [
    "configmaps",
    "endpoints",
    "events",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "replicationcontrollers/scale",
    "serviceaccounts",
    "services",
]
_CORE_STATUS = [
    "bindings",
    "limitranges",
    "namespaces/status",
    "persistentvolumeclaims/status",
    "pods/log",
    "pods/status",
    "resourcequotas",
    "resourcequotas/status",
    "services/status",
    "replicationcontrollers/status",
    "namespaces",
]
_APPS_CONTENT = [
    "daemonsets",
    "deployments",
    "deployments/scale",
    "replicasets",
    "replicasets/scale",
    "statefulsets",
    "statefulsets/scale",
]
_APPS_STATUS = [
    "controllerrevisions",
    "daemonsets/status",
    "deployments/status",
    "replicasets/status",
    "statefulsets/status",
]
_STREAMS = ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"]


def _rule(
    verbs: Iterable[str], groups: Iterable[str], resources: Iterable[str], names: Iterable[str] = ()
) -> Object:
    rule: Object = {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}
    if names:
        rule["resourceNames"] = list(names)
    return rule


def _urls(*paths: str) -> Object:
    return {"nonResourceURLs": list(paths), "verbs": ["get"]}


def _view_rules() -> list[Object]:
    return [
        _rule(_READ, [""], [*_CORE_CONTENT, *_CORE_STATUS]),
        _rule(_READ, ["discovery.k8s.io"], ["endpointslices"]),
        _rule(_READ, ["apps"], [*_APPS_CONTENT, *_APPS_STATUS]),
        _rule(_READ, ["batch"], ["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
        _rule(_READ, ["autoscaling"], ["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
        _rule(_READ, ["policy"], ["poddisruptionbudgets", "poddisruptionbudgets/status"]),
        _rule(_READ, ["networking.k8s.io"], ["ingresses", "ingresses/status", "networkpolicies"]),
    ]


def _edit_rules() -> list[Object]:
    return [
        *_view_rules(),
        _rule(_READ, [""], [*_STREAMS, "secrets"]),
        _rule(["impersonate"], [""], ["serviceaccounts"]),
        _rule(_WRITE, [""], ["pods", *_STREAMS]),
        _rule(["create"], [""], ["pods/eviction", "serviceaccounts/token"]),
        # Not endpoints: they would lead others' Services to Pods of other namespaces (CVE-2021-25740).
        _rule(
            _WRITE, [""], [*(each for each in _CORE_CONTENT if each not in ("endpoints", "pods")), "secrets"]
        ),
        _rule(_WRITE, ["apps"], [*_APPS_CONTENT, "deployments/rollback"]),
        _rule(_WRITE, ["batch"], ["cronjobs", "jobs"]),
        _rule(_WRITE, ["autoscaling"], ["horizontalpodautoscalers"]),
        _rule(_WRITE, ["policy"], ["poddisruptionbudgets"]),
        _rule(_WRITE, ["networking.k8s.io"], ["ingresses", "networkpolicies"]),
        _rule(_READ_WRITE, ["coordination.k8s.io"], ["leases"]),
        _rule(_READ, ["events.k8s.io"], ["events"]),
    ]


def _admin_rules() -> list[Object]:
    return [
        *_edit_rules(),
        _rule(["create"], ["authorization.k8s.io"], ["localsubjectaccessreviews"]),
        _rule(_READ_WRITE, ["rbac.authorization.k8s.io"], ["rolebindings", "roles"]),
    ]


_EVENTS = _rule(["create", "patch", "update"], ["", "events.k8s.io"], ["events"])
_LEASE_LOCK = _rule(
    ["create", "get", "list", "update", "patch", "watch"], ["coordination.k8s.io"], ["leases"]
)
_REVIEWS = [
    _rule(["create"], ["authentication.k8s.io"], ["tokenreviews"]),
    _rule(["create"], ["authorization.k8s.io"], ["subjectaccessreviews", "localsubjectaccessreviews"]),
]

NODE_RULES = [
    *_REVIEWS,
    _rule(_READ, [""], ["services"]),
    _rule(["create", "get", "list", "watch"], [""], ["nodes"]),
    _rule(["patch", "update"], [""], ["nodes", "nodes/status"]),
    _rule(["create", "patch", "update"], [""], ["events"]),
    _rule(_READ, [""], ["pods"]),
    _rule(["create", "delete"], [""], ["pods"]),
    _rule(["patch", "update"], [""], ["pods/status"]),
    _rule(["create"], [""], ["pods/eviction"]),
    _rule(_READ, [""], ["configmaps", "secrets"]),
    _rule(["get"], [""], ["persistentvolumeclaims", "persistentvolumes"]),
    _rule(["get"], [""], ["endpoints"]),
    _rule(["create", "get", "list", "watch"], ["certificates.k8s.io"], ["certificatesigningrequests"]),
    _rule(["create", "delete", "get", "patch", "update"], ["coordination.k8s.io"], ["leases"]),
    _rule(["get"], ["storage.k8s.io"], ["volumeattachments"]),
    _rule(["create"], [""], ["serviceaccounts/token"]),
    _rule(["get", "patch", "update"], [""], ["persistentvolumeclaims/status"]),
    _rule(_READ, ["storage.k8s.io"], ["csidrivers"]),
    _rule(["create", "delete", "get", "patch", "update"], ["storage.k8s.io"], ["csinodes"]),
    _rule(_READ, ["node.k8s.io"], ["runtimeclasses"]),
    _rule(["get"], [""], ["serviceaccounts"]),
]
"""What nodes may do; the Node authorizer lets each have but its own part of it."""

_CLUSTER_ROLES: dict[str, list[Object]] = {
    "cluster-admin": [
        _rule(_ALL, _ALL, _ALL),
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ],
    "admin": _admin_rules(),
    "edit": _edit_rules(),
    "view": _view_rules(),
    "system:discovery": [
        _urls(
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/healthz",
            "/livez",
            "/openapi",
            "/openapi/*",
            "/readyz",
            "/version",
            "/version/",
        )
    ],
    "system:monitoring": [
        _urls("/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/readyz", "/readyz/*")
    ],
    "system:basic-user": [
        _rule(["create"], ["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
        _rule(["create"], ["authentication.k8s.io"], ["selfsubjectreviews"]),
    ],
    "system:public-info-viewer": [_urls("/healthz", "/livez", "/readyz", "/version", "/version/")],
    "system:service-account-issuer-discovery": [
        _urls(
            "/.well-known/openid-configuration",
            "/.well-known/openid-configuration/",
            "/openid/v1/jwks",
            "/openid/v1/jwks/",
        )
    ],
    "system:auth-delegator": _REVIEWS,
    "system:kubelet-api-admin": [
        _rule(_READ, [""], ["nodes"]),
        _rule(["proxy"], [""], ["nodes"]),
        _rule(_ALL, [""], ["nodes/proxy", "nodes/metrics", "nodes/stats", "nodes/log", "nodes/configz"]),
    ],
    # Here the built-in controllers all work as one user, so its role is what upstream spreads over one role a
    # controller; the garbage and namespace controllers alone need to reach every kind.
    "system:kube-controller-manager": [
        _rule(
            ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"], _ALL, _ALL
        ),
    ],
    "system:kube-scheduler": [
        _EVENTS,
        _LEASE_LOCK,
        _rule(
            _READ,
            [""],
            [
                "nodes",
                "namespaces",
                "services",
                "replicationcontrollers",
                "persistentvolumeclaims",
                "persistentvolumes",
            ],
        ),
        _rule(["delete", "get", "list", "watch"], [""], ["pods"]),
        _rule(["create"], [""], ["bindings", "pods/binding"]),
        _rule(["patch", "update"], [""], ["pods/status"]),
        _rule(_READ, ["apps"], ["replicasets", "statefulsets"]),
        _rule(_READ, ["policy"], ["poddisruptionbudgets"]),
        _rule(_READ, ["storage.k8s.io"], _ALL),
        *_REVIEWS,
    ],
    "system:volume-scheduler": [
        _rule([*_READ, "patch", "update"], [""], ["persistentvolumes", "persistentvolumeclaims"]),
        _rule(_READ, ["storage.k8s.io"], ["storageclasses"]),
    ],
    "system:node": NODE_RULES,
    "system:node-proxier": [
        _rule(["list", "watch"], [""], ["endpoints", "services"]),
        _rule(_READ, [""], ["nodes"]),
        _EVENTS,
        _rule(["list", "watch"], ["discovery.k8s.io"], ["endpointslices"]),
        _rule(["list", "watch"], ["networking.k8s.io"], ["servicecidrs"]),
    ],
    "system:kube-dns": [
        _rule(["list", "watch"], [""], ["endpoints", "services", "namespaces"]),
        _rule(["list", "watch"], ["discovery.k8s.io"], ["endpointslices"]),
        _EVENTS,
    ],
    # The agent that routes to the other nodes' Pods; in other clusters it comes with the network plugin.
    "system:buoy-network": [_rule(["list", "watch"], [""], ["nodes"])],
}

_BINDINGS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "cluster-admin": ("cluster-admin", [("Group", "system:masters")]),
    "system:discovery": ("system:discovery", [("Group", "system:authenticated")]),
    "system:monitoring": ("system:monitoring", [("Group", "system:monitoring")]),
    "system:basic-user": ("system:basic-user", [("Group", "system:authenticated")]),
    "system:public-info-viewer": (
        "system:public-info-viewer",
        [("Group", "system:authenticated"), ("Group", "system:unauthenticated")],
    ),
    "system:service-account-issuer-discovery": (
        "system:service-account-issuer-discovery",
        [("Group", "system:serviceaccounts")],
    ),
    "system:kube-controller-manager": (
        "system:kube-controller-manager",
        [("User", "system:kube-controller-manager")],
    ),
    "system:kube-scheduler": ("system:kube-scheduler", [("User", "system:kube-scheduler")]),
    "system:volume-scheduler": ("system:volume-scheduler", [("User", "system:kube-scheduler")]),
    # To nobody: the Node authorizer decides for each node by the Pods that it runs.
    "system:node": ("system:node", []),
    "system:node-proxier": ("system:node-proxier", [("User", "system:kube-proxy")]),
    "system:kube-dns": ("system:kube-dns", [("ServiceAccount", "kube-dns")]),
    "system:buoy-network": ("system:buoy-network", [("User", "system:buoy-network")]),
}
_SYSTEM_ROLES: dict[str, tuple[list[Object], list[tuple[str, str]]]] = {
    "extension-apiserver-authentication-reader": (
        [_rule(_READ, [""], ["configmaps"], ["extension-apiserver-authentication"])],
        [("User", "system:kube-controller-manager"), ("User", "system:kube-scheduler")],
    ),
    "kube-dns": ([_rule(_READ, [""], ["configmaps"], ["buoy-dns"])], [("ServiceAccount", "kube-dns")]),
}
"""Roles of the namespace kube-system, and who has them."""


def _subject(kind: str, name: str) -> Object:
    if kind == "ServiceAccount":
        return {"kind": kind, "name": name, "namespace": "kube-system"}
    return {"kind": kind, "apiGroup": CLUSTER_ROLES.group, "name": name}


def policy() -> list[tuple[Resource, Object]]:
    """The roles and bindings of a new cluster."""
    found: list[tuple[Resource, Object]] = []
    for name, rules in _CLUSTER_ROLES.items():
        labels = dict(_LABELS)
        if name in ("admin", "edit", "view"):
            labels[f"rbac.authorization.k8s.io/aggregate-to-{name}"] = "true"
        found.append(
            (
                CLUSTER_ROLES,
                {
                    "metadata": {"name": name, "labels": labels, "annotations": dict(_ANNOTATIONS)},
                    "rules": rules,
                },
            )
        )
    for name, (role, subjects) in _BINDINGS.items():
        found.append(
            (
                CLUSTER_ROLE_BINDINGS,
                {
                    "metadata": {"name": name, "labels": dict(_LABELS), "annotations": dict(_ANNOTATIONS)},
                    "roleRef": {"apiGroup": CLUSTER_ROLES.group, "kind": "ClusterRole", "name": role},
                    "subjects": [_subject(kind, subject) for kind, subject in subjects],
                },
            )
        )
    for name, (rules, subjects) in _SYSTEM_ROLES.items():
        metadata = {
            "name": name,
            "namespace": "kube-system",
            "labels": dict(_LABELS),
            "annotations": dict(_ANNOTATIONS),
        }
        reference = {"apiGroup": ROLES.group, "kind": "Role", "name": name}
        found.append((ROLES, {"metadata": metadata, "rules": rules}))
        found.append(
            (
                ROLE_BINDINGS,
                {
                    "metadata": {**metadata, "name": f"system::{name}"},
                    "roleRef": reference,
                    "subjects": [_subject(kind, subject) for kind, subject in subjects],
                },
            )
        )
    return found


def first_address(cidr: str) -> str:
    """The first usable address of a range: the ``kubernetes`` Service's."""
    return str(ipaddress.ip_network(cidr).network_address + 1)


def kubernetes_service(cidrs: tuple[str, ...], port: int) -> Object:
    address = first_address(cidrs[0])
    family = f"IPv{ipaddress.ip_address(address).version}"
    return {
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": [family],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    }


def kubernetes_endpoints(address: str, port: int) -> tuple[Object, Object]:
    """The Endpoints and the EndpointSlice of the ``kubernetes`` Service."""
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    endpoints = {
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{"addresses": [{"ip": address}], "ports": ports}],
    }
    endpoint_slice = {
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": f"IPv{ipaddress.ip_address(address).version}",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": ports,
    }
    return endpoints, endpoint_slice
