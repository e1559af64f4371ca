"""The deployment controller: ReplicaSets, one a revision of the Pod template, scaled past each other."""

from .controller import DeploymentController

__all__ = ["DeploymentController"]
