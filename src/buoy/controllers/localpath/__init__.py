"""The provisioner of local folders, in the manner of rancher's local-path-provisioner."""

from .controller import LocalPathProvisioner

__all__ = ["LocalPathProvisioner"]
