"""The controllers: each makes one part of the cluster what its objects say it should be.

All of them run in one process on shared caches; one that leads runs them all.
"""

from .options import Options

__all__ = ["Options", "run"]


async def run(options: Options) -> None:
    """Run the controllers for ever. Raises OSError for files that can't be read, KubeconfigError."""
    from .process import run as run_process

    await run_process(options)
