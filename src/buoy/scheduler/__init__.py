"""The scheduler: finds a node for each Pod that has none, and binds it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Options", "run"]


@dataclass(frozen=True, slots=True)
class Options:
    """*scheduler_name* is the ``spec.schedulerName`` of the Pods that this one is for."""

    kubeconfig: str
    leader_elect: bool = False
    scheduler_name: str = "default-scheduler"


async def run(options: Options) -> None:
    """Schedule for ever. Raises KubeconfigError."""
    from .process import run as run_process

    await run_process(options.kubeconfig, options.scheduler_name, leader_elect=options.leader_elect)
