"""The statefulset controller: Pods with names, made and replaced one after the other."""

from .controller import StatefulSetController

__all__ = ["StatefulSetController"]
