"""buoy status"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import click

from .. import KUBERNETES_VERSION, __version__
from ..api import meta
from ..api.meta import Object
from ..api.resource import NODES
from ..client import Client, ConnectionFailed
from ..cluster.state import Running, StateFolder
from .failures import reported
from .main import name_option


@click.command()
@name_option
def command(name: str) -> None:
    """What runs, in which versions, and the memory it takes."""
    with reported():
        from ..cluster import containerd, lifecycle

        running = lifecycle.find(name)
        folder = StateFolder.of(name)
        nodes = asyncio.run(_nodes(str(folder.kubeconfig)))
        config = running.config
        answers = f"https://127.0.0.1:{running.api_port}" if nodes is not None else "does not answer"
        runtime = " ".join(containerd.version().split()[::2][:2])
        click.echo(f"Cluster     {name}")
        click.echo(f"API server  {answers}  (context {config.context})")
        click.echo(f"Versions    buoy {__version__}, Kubernetes {KUBERNETES_VERSION}, {runtime}")
        click.echo(f"Network     LAN {config.lan}, Pods {config.pod_cidr}, Services {config.service_cidr}\n")
        _show_nodes(running, nodes or {})
        _show_components(running, folder)
        total = _mebibytes(lifecycle.memory(running))
        click.echo(f"\nMemory of all processes, Pods included: {total} (PSS)")


async def _nodes(kubeconfig: str) -> dict[str, Object] | None:
    """The Node objects by name; None if the API server cannot be reached."""
    async with Client.from_kubeconfig(kubeconfig) as client:
        try:
            return {meta.name(item): item for item in (await client.list(NODES)).items}
        except ConnectionFailed:
            return None


def _show_nodes(running: Running, nodes: dict[str, Object]) -> None:
    from ..cluster import lifecycle, processes

    addresses = {name: ",".join(running.config.node_addresses(name)) for name in running.config.node_names}
    width = max(15, *map(len, addresses.values())) + 2
    click.echo(f"{'NODE':<10}{'ADDRESS':<{width}}STATUS")
    for name in running.config.node_names:
        if processes.machine(running, name) is None:
            status = "stopped"
        elif name in nodes and lifecycle.is_ready(nodes[name]):
            status = "Ready"
        else:
            status = "NotReady"
        click.echo(f"{name:<10}{addresses[name]:<{width}}{status}")


def _show_components(running: Running, folder: StateFolder) -> None:
    from ..cluster import processes

    click.echo(f"\n{'COMPONENT':<13}{'NODE':<10}{'PID':<9}{'UP':<9}{'RESTARTS':<10}{'MEMORY':<10}LAST EXIT")
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    ticks = os.sysconf("SC_CLK_TCK")
    for component in processes.components(running):
        place = folder.node(component.node) if component.node else folder.path
        history = _history(place / "restarts.json").get(component.name, {})
        click.echo(
            f"{component.name:<13}{component.node:<10}{component.pid:<9}"
            f"{_age(uptime - component.started / ticks):<9}{history.get('restarts', 0):<10}"
            f"{_mebibytes(processes.proportional_memory(component.pid)):<10}{history.get('lastExit', '')}"
        )


def _history(record: Path) -> dict[str, dict[str, object]]:
    try:
        content: dict[str, dict[str, object]] = json.loads(record.read_text())
    except FileNotFoundError:
        return {}
    return content


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f}s"
    return time.strftime("%Hh%Mm", time.gmtime(seconds)) if seconds < 86400 else f"{seconds / 86400:.0f}d"
