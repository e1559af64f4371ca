"""Turns the cluster package's errors into the command's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..api.status import StatusError
from ..client import ConnectionFailed


@contextmanager
def reported() -> Iterator[None]:
    """An expected failure inside becomes one clear line; a mistake of the program keeps its traceback."""
    from ..cluster.config import ConfigError
    from ..cluster.faults import FaultError
    from ..cluster.images import ImageError
    from ..cluster.lifecycle import ClusterError

    try:
        yield
    except (ClusterError, ConfigError, ConnectionFailed, FaultError, ImageError, StatusError) as error:
        raise click.ClickException(str(error)) from error
