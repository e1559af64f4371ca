"""What a rule backend is: something that brings the kernel to a `Ruleset` and keeps it there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .model import Changes, Ruleset


class BackendError(Exception):
    """The kernel, or the program that speaks to it, refused. The text says what and what to do about it."""


class Backend(Protocol):
    """Programs one address family in the network namespace it runs in. It knows nothing of the API.

    Calls are made one at a time. Each one either does all of it, as one step for packets, or raises
    BackendError and does nothing; only `rebuild` may follow a failure.
    """

    async def rebuild(self, ruleset: Ruleset) -> None:
        """Bring the kernel to exactly *ruleset*, whatever is there now.

        What is right already is left alone, so that a new process interrupts nothing; what an earlier one
        left behind is removed.
        """
        ...

    async def apply(self, changes: Changes) -> None:
        """Make *changes* to what the last `rebuild` or `apply` left; the cost is that of the changes."""
        ...

    async def verify(self) -> bool:
        """Whether the rules still stand, as far as a cheap look can tell."""
        ...

    async def disturbed(self) -> None:
        """Return when somebody else may have changed the rules since the last call of this or `rebuild`."""
        ...

    async def remove(self) -> None:
        """Take all rules away, and nothing else."""
        ...

    def rule_counts(self) -> Mapping[str, int]:
        """How many rules there are, by table; for metrics."""
        ...

    def close(self) -> None:
        """Let go of resources; the rules stay."""
        ...
