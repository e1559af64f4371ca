"""Persistent volumes of a local cluster: folders of its nodes, and the StorageClass that gives them out.

Each node has a folder for them in the cluster's state folder, which outlives the node's processes and ends
with the cluster. The controllers make and remove what is in it.
"""

from __future__ import annotations

from ..api.meta import Object
from ..api.resource import STORAGE_CLASSES
from ..client import Client
from .seeding import create

FOLDER = "volumes"
"""Where a node's volumes are in its part of the state folder."""

NODE_PATH = "/var/lib/local-path-provisioner"
"""Where the node sees them."""


def storage_class() -> Object:
    """The default class: what kind, k3s and minikube have, by the name that two of them give it."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "standard",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "rancher.io/local-path",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


async def install(client: Client) -> None:
    """Make the class unless it is there. Raises StatusError and ConnectionFailed."""
    await create(client, STORAGE_CLASSES, storage_class())
