"""The garbage collector: what is owned goes when its last owner goes."""

from .controller import GarbageCollector

__all__ = ["GarbageCollector"]
