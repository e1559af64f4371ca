"""buoy outside"""

from __future__ import annotations

import click

from .main import name_option
from .node import enter


@click.command(context_settings={"ignore_unknown_options": True})
@name_option
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def command(name: str, arguments: tuple[str, ...]) -> None:
    """Run a command on a machine outside the cluster, on the same LAN."""
    enter(name, "outside", ("--mount", "--uts", "--net", "--pid"), arguments)
