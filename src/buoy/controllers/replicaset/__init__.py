"""The replicaset controller: keeps as many Pods of one template as asked for."""

from .controller import ReplicaSetController

__all__ = ["ReplicaSetController"]
