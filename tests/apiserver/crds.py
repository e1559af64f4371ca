"""Definitions of custom resources for tests: compact, with the field names of real ones."""

from __future__ import annotations

import copy
from typing import Any

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

IP_ADDRESS_POOL: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "ipaddresspools.metallb.io"},
    "spec": {
        "group": "metallb.io",
        "scope": "Namespaced",
        "names": {
            "kind": "IPAddressPool",
            "plural": "ipaddresspools",
            "shortNames": ["pools"],
            "categories": ["all"],
        },
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Auto Assign", "type": "boolean", "jsonPath": ".spec.autoAssign"},
                    {"name": "Avoid Buggy IPs", "type": "boolean", "jsonPath": ".spec.avoidBuggyIPs"},
                    {"name": "Addresses", "type": "string", "jsonPath": ".spec.addresses"},
                    {
                        "name": "Free",
                        "type": "integer",
                        "jsonPath": ".status.availableIPv4",
                        "priority": 1,
                    },
                ],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["spec"],
                        "properties": {
                            "apiVersion": {"type": "string"},
                            "kind": {"type": "string"},
                            "metadata": {"type": "object"},
                            "spec": {
                                "type": "object",
                                "required": ["addresses"],
                                "properties": {
                                    "addresses": {
                                        "type": "array",
                                        "items": {"type": "string"},
                                        "description": "Ranges or CIDRs that the pool hands out.",
                                    },
                                    "autoAssign": {"type": "boolean", "default": True},
                                    "avoidBuggyIPs": {"type": "boolean", "default": False},
                                    "serviceAllocation": {
                                        "type": "object",
                                        "properties": {
                                            "priority": {"type": "integer"},
                                            "namespaces": {"type": "array", "items": {"type": "string"}},
                                            "serviceSelectors": {
                                                "type": "array",
                                                "items": {
                                                    "type": "object",
                                                    "x-kubernetes-map-type": "atomic",
                                                    "properties": {
                                                        "matchLabels": {
                                                            "type": "object",
                                                            "additionalProperties": {"type": "string"},
                                                        }
                                                    },
                                                },
                                            },
                                        },
                                    },
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {
                                    "availableIPv4": {"type": "integer", "format": "int64"},
                                    "assignedIPv4": {"type": "integer", "format": "int64"},
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}


def definition(
    kind: str, spec: dict[str, Any] | None = None, *, group: str = "example.com", **version: Any
) -> dict[str, Any]:
    """A definition of *kind* whose ``spec`` has the schema *spec*; *version* changes its only version."""
    plural = f"{kind.lower()}s"
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    properties = {"spec": anything if spec is None else spec, "status": anything}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
                    **version,
                }
            ],
        },
    }


def pool(name: str = "pool", **spec: Any) -> dict[str, Any]:
    return copy.deepcopy(
        {
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": {"name": name},
            "spec": {"addresses": ["192.168.1.251/32"], **spec},
        }
    )
