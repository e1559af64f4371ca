"""Node and Pod network: the LAN between nodes, CNI configuration, routes from node to node."""

from .agent import Options, run

__all__ = ["Options", "run"]
