"""buoy kill"""

from __future__ import annotations

import os
import signal

import click

from .failures import reported
from .main import name_option


@click.command()
@name_option
@click.argument("component")
@click.option("--node", default="", help="On which node, for a node's component.")
def command(name: str, component: str, node: str) -> None:
    """End a component as a crash would (kill -9), to see what holds. It is restarted."""
    with reported():
        from ..cluster import lifecycle, processes

        running = lifecycle.find(name)
        found = [item for item in processes.components(running) if item.name == component]
        if not found:
            known = ", ".join(processes.CONTROL_PLANE + processes.NODE)
            raise click.ClickException(f"no component {component!r} is running; there are: {known}")
        if found[0].node:
            on_nodes = [item.node for item in found]
            if not node and len(found) > 1:
                raise click.ClickException(f"{component} runs on {', '.join(on_nodes)}; say which: --node")
            found = [item for item in found if not node or item.node == node]
            if not found:
                raise click.ClickException(
                    f"{component} does not run on {node!r}, but on {', '.join(on_nodes)}"
                )
        os.kill(found[0].pid, signal.SIGKILL)
    where = f" on {found[0].node}" if found[0].node else ""
    click.echo(f"Killed {component}{where} (process {found[0].pid}).")
