"""The node lifecycle controller: notices nodes that have gone quiet, and keeps Pods and traffic off them."""

from .controller import NodeLifecycleController

__all__ = ["NodeLifecycleController"]
