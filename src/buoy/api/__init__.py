"""The Kubernetes resources: shapes, defaults, validation, columns. Pure; no I/O below this package."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .kinds import KINDS

__all__ = ["KINDS"]


def __getattr__(name: str) -> Any:
    # Only the API server needs the kinds; everybody else should not pay for loading their models.
    if name == "KINDS":
        from .kinds import KINDS

        return KINDS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
