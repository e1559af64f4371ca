"""buoy down"""

from __future__ import annotations

import click

from .failures import reported
from .main import name_option


@click.command()
@name_option
@click.option("--all", "everything", is_flag=True, help="All clusters.")
def command(name: str, everything: bool) -> None:
    """End a local cluster and remove all it kept."""
    with reported():
        from ..cluster import lifecycle, state

        for each in state.names() if everything else [name]:
            lifecycle.down(each)
            click.echo(f"Cluster {each!r} is gone.")
