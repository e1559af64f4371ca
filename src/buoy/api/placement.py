"""Which nodes a Pod may run on by its own word: ``nodeSelector`` and node affinity.

Follows k8s.io/component-helpers' ``scheduling/corev1/nodeaffinity``.
"""

from __future__ import annotations

from . import meta, selectors
from .meta import Object


def matches_term(term: Object, node: Object) -> bool:
    """A node selector term: all its expressions and fields. One without any matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return selectors.from_node_expressions(expressions).matches(meta.labels(node)) and all(
        (meta.name(node) in each["values"]) == (each["operator"] == "In") for each in fields
    )


def fits_node(spec: Object, node: Object) -> bool:
    """The node has all of the Pod's ``nodeSelector`` and matches one term of its required node affinity."""
    selector = spec.get("nodeSelector")
    if selector and not selector.items() <= meta.labels(node).items():
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(
        matches_term(term, node) for term in required.get("nodeSelectorTerms") or ()
    )
