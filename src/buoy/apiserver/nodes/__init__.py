"""What nodes may read and write: Kubernetes' Node authorizer and NodeRestriction admission.

`relations`, `authorizer` and `restriction` are pure: objects in, verdict out. `follower` keeps the relations
in step with the store.
"""

from __future__ import annotations

from ..registry import User

_NODES = "system:nodes"
_NODE = "system:node:"


def node_of(user: User) -> str | None:
    """The name of the node that *user* is, ``""`` if it does not say; None if it is no node."""
    if user.name.startswith(_NODE) and _NODES in user.groups:
        return user.name.removeprefix(_NODE)
    return None
