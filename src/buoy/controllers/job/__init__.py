"""The job controller: Pods that run to their end, each end counted exactly once."""

from .controller import JobController

__all__ = ["JobController"]
