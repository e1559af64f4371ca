"""buoy logs"""

from __future__ import annotations

import os

import click

from .failures import reported
from .main import name_option


@click.command()
@name_option
@click.argument("component")
@click.option("--node", default="", help="On which node, for a node's component.")
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is written.")
@click.option("--tail", default=-1, help="Only the last lines.")
def command(name: str, component: str, node: str, follow: bool, tail: int) -> None:
    """The log of a component.

    There are apiserver, controllers, scheduler, loadbalancer and world; on a node containerd, kubelet,
    proxy, dns, speaker and init.
    """
    with reported():
        from ..cluster import lifecycle, processes
        from ..cluster.state import StateFolder, load

        folder = StateFolder.of(name)
        saved = load(folder)
        if saved is None:
            lifecycle.find(name)
            return
        config = saved.config
        if component in (*processes.NODE, "init") and not node:
            if config.nodes > 1:
                raise click.ClickException(f"{component} runs on every node; say which: --node node-1")
            node = "node-1"
        path = folder.log(component, node)
        if not path.exists():
            raise click.ClickException(f"there is no log of {component!r}{f' on {node}' if node else ''}")
    arguments = ["tail", "-n", str(tail) if tail >= 0 else "+1", *(["-F"] if follow else []), str(path)]
    os.execvp("tail", arguments)  # noqa: S606
