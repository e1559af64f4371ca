"""The decision: a node for a Pod, or a sentence that says why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from buoy.api.meta import Object

from . import scores
from .filters import Refusal, refusals
from .state import NodeState, PodInfo

_NO_NODES = "no nodes available to schedule pods"
_NO_VICTIMS = "No preemption victims found for incoming pod"
_NOT_HELPFUL = "Preemption is not helpful for scheduling"


@dataclass(frozen=True, slots=True)
class Decision:
    """*node*, or None with a refusal for each of *nodes* nodes, or one for all, *unfit*."""

    node: str | None
    nodes: int = 0
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    preempts: bool = True
    unfit: str = ""

    @property
    def message(self) -> str:
        """kube-scheduler's account of a failure."""
        if not self.nodes:
            return _NO_NODES
        available = f"0/{self.nodes} nodes are available"
        reasons = self.unfit or _histogram(
            reason for each in self.refusals.values() for reason in each.reasons
        )
        preemption = "not eligible due to preemptionPolicy=Never."
        if self.preempts:
            outlook = _histogram(
                _NO_VICTIMS if each.resolvable else _NOT_HELPFUL for each in self.refusals.values()
            )
            if self.unfit:
                outlook = f"{self.nodes} {_NOT_HELPFUL}"
            preemption = f"{available}: {outlook}."
        return f"{available}: {reasons}. no new claims to deallocate, preemption: {preemption}"


def _histogram(reasons: Iterable[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in Counter(reasons).items()))


def unfit(pod: PodInfo, nodes: Sequence[NodeState], reason: str) -> Decision:
    """No node will do, whatever it is like."""
    return Decision(None, len(nodes), {}, _preempts(pod), reason)


def _preempts(pod: PodInfo) -> bool:
    return pod.spec.get("preemptionPolicy") != "Never"


def schedule(
    pod: PodInfo, nodes: Sequence[NodeState], volumes: Callable[[Object], Refusal | None] | None = None
) -> Decision:
    """The best of the nodes that will do; *volumes* says why one won't for the Pod's volumes.

    Where several are equally good, the one with the fewest Pods, and of those the first by name.
    """
    refused = refusals(pod, nodes, volumes)
    fitting = [state for state in nodes if state.name not in refused]
    if not fitting:
        return Decision(None, len(nodes), refused, _preempts(pod))
    if len(fitting) == 1:
        return Decision(fitting[0].name)
    points = scores.total(pod, fitting)
    best = min(fitting, key=lambda state: (-round(points[state.name], 6), len(state.pods), state.name))
    return Decision(best.name)
