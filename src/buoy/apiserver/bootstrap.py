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
        _rule(_WRITE, [""], [*(each for each in _CORE_CONTENT if each != "pods"), "secrets"]),
        _rule(_WRITE, ["discovery.k8s.io"], ["endpointslices"]),
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
    "system:node": [
        *_REVIEWS,
        _rule(_READ, [""], ["services"]),
        _rule(["create", "get", "list", "watch", "update", "patch"], [""], ["nodes"]),
        _rule(["patch", "update"], [""], ["nodes/status"]),
        _EVENTS,
        _rule(["get", "list", "watch", "create", "delete"], [""], ["pods"]),
        _rule(["patch", "update"], [""], ["pods/status"]),
        _rule(["create"], [""], ["pods/eviction"]),
        _rule(_READ, [""], ["configmaps", "secrets", "serviceaccounts"]),
        _rule(["get"], [""], ["persistentvolumeclaims", "persistentvolumes", "endpoints"]),
        _rule(["create"], [""], ["serviceaccounts/token"]),
        _rule(["create", "get", "update", "patch", "delete"], ["coordination.k8s.io"], ["leases"]),
        _rule(["create", "get", "list", "watch"], ["certificates.k8s.io"], ["certificatesigningrequests"]),
        _rule(_READ, ["node.k8s.io"], ["runtimeclasses"]),
    ],
    "system:node-proxier": [
        _rule(["list", "watch"], [""], ["endpoints", "services"]),
        _rule(_READ, [""], ["nodes"]),
        _EVENTS,
        _rule(["list", "watch"], ["discovery.k8s.io"], ["endpointslices"]),
        _rule(["list", "watch"], ["networking.k8s.io"], ["servicecidrs"]),
    ],
    "system:kube-dns": [
        _rule(["list", "watch"], [""], ["endpoints", "services", "namespaces", "pods"]),
        _rule(["list", "watch"], ["discovery.k8s.io"], ["endpointslices"]),
        _rule(_READ, [""], ["configmaps"], ["buoy-dns"]),
        _EVENTS,
    ],
    "system:service-load-balancer": [
        _rule(_READ, [""], ["services", "endpoints", "nodes", "namespaces", "configmaps"]),
        _rule(["patch", "update"], [""], ["services/status"]),
        _rule(_READ, ["discovery.k8s.io"], ["endpointslices"]),
        _EVENTS,
        _LEASE_LOCK,
    ],
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
    # Upstream binds this role to nobody: its Node authorizer decides for each node by the Pods it runs.
    "system:node": ("system:node", [("Group", "system:nodes")]),
    "system:node-proxier": ("system:node-proxier", [("User", "system:kube-proxy")]),
    "system:kube-dns": ("system:kube-dns", [("User", "system:kube-dns")]),
    "system:service-load-balancer": (
        "system:service-load-balancer",
        [("User", "system:service-load-balancer")],
    ),
}


def _subject(kind: str, name: str) -> Object:
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
    reader = "extension-apiserver-authentication-reader"
    found.append(
        (
            ROLES,
            {
                "metadata": {
                    "name": reader,
                    "namespace": "kube-system",
                    "labels": dict(_LABELS),
                    "annotations": dict(_ANNOTATIONS),
                },
                "rules": [_rule(_READ, [""], ["configmaps"], ["extension-apiserver-authentication"])],
            },
        )
    )
    found.append(
        (
            ROLE_BINDINGS,
            {
                "metadata": {
                    "name": f"system::{reader}",
                    "namespace": "kube-system",
                    "labels": dict(_LABELS),
                    "annotations": dict(_ANNOTATIONS),
                },
                "roleRef": {"apiGroup": ROLES.group, "kind": "Role", "name": reader},
                "subjects": [
                    _subject("User", "system:kube-controller-manager"),
                    _subject("User", "system:kube-scheduler"),
                ],
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
