"""The daemonset controller: one Pod on each node that it is for."""

from .controller import DaemonSetController

__all__ = ["DaemonSetController"]
