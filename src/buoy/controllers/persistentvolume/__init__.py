"""The persistentvolume binder: brings claims and volumes together, and says what becomes of volumes."""

from .controller import PersistentVolumeController

__all__ = ["PersistentVolumeController"]
