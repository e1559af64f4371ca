"""Which node answers for an address: MetalLB's rule, so that its users can predict it.

Nodes are ordered by preference, highest first, then by ``sha256(node + "#" + ip)``, lowest first; the
first that is there wins. No state is kept and no votes are cast: speakers that see the same nodes agree.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from hashlib import sha256


def rank(scores: Mapping[str, int], key: str) -> tuple[str, ...]:
    """The nodes of *scores*, best first. *key* is the first address of the Service, as text.

    A dual-stack Service has both of its addresses announced from one node: its first address decides.
    """
    return tuple(sorted(scores, key=lambda node: (-scores[node], sha256(f"{node}#{key}".encode()).digest())))


def winner(ranking: Iterable[str], alive: Container[str]) -> str:
    """The first of *ranking* that is *alive*, empty for none."""
    return next((node for node in ranking if node in alive), "")
