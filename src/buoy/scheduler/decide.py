"""The decision: a node for a Pod, or a sentence that says why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from . import scores
from .filters import Refusal, refusals
from .state import NodeState, PodInfo

_NO_NODES = "no nodes available to schedule pods"
_NO_VICTIMS = "No preemption victims found for incoming pod"
_NOT_HELPFUL = "Preemption is not helpful for scheduling"


@dataclass(frozen=True, slots=True)
class Decision:
    """*node*, or None with a refusal for each of *nodes* nodes."""

    node: str | None
    nodes: int = 0
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    preempts: bool = True

    @property
    def message(self) -> str:
        """kube-scheduler's account of a failure."""
        if not self.nodes:
            return _NO_NODES
        available = f"0/{self.nodes} nodes are available"
        reasons = _histogram(reason for each in self.refusals.values() for reason in each.reasons)
        preemption = "not eligible due to preemptionPolicy=Never."
        if self.preempts:
            outlook = _histogram(
                _NO_VICTIMS if each.resolvable else _NOT_HELPFUL for each in self.refusals.values()
            )
            preemption = f"{available}: {outlook}."
        return f"{available}: {reasons}. no new claims to deallocate, preemption: {preemption}"


def _histogram(reasons: Iterable[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in Counter(reasons).items()))


def schedule(pod: PodInfo, nodes: Sequence[NodeState]) -> Decision:
    """The best of the nodes that will do.

    Where several are equally good, the one with the fewest Pods, and of those the first by name.
    """
    refused = refusals(pod, nodes)
    fitting = [state for state in nodes if state.name not in refused]
    if not fitting:
        preempts = pod.spec.get("preemptionPolicy") != "Never"
        return Decision(None, len(nodes), refused, preempts)
    if len(fitting) == 1:
        return Decision(fitting[0].name)
    points = scores.total(pod, fitting)
    best = min(fitting, key=lambda state: (-round(points[state.name], 6), len(state.pods), state.name))
    return Decision(best.name)
