"""The ``buoy`` command: one module a subcommand, imported when it is used."""

from .main import main

__all__ = ["main"]
