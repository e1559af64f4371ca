"""buoy status"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import click

from .. import KUBERNETES_VERSION, __version__
from ..api import meta
from ..api.meta import Object
from ..api.resource import NODES, SERVICES, Resource
from ..api.status import StatusError
from ..client import Client, ConnectionFailed
from ..cluster.state import Running, StateFolder
from ..loadbalancer.config.resources import SERVICE_BGP_STATUSES, SERVICE_L2_STATUSES
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
        nodes, announced = asyncio.run(_observed(str(folder.kubeconfig)))
        config = running.config
        answers = f"https://127.0.0.1:{running.api_port}" if nodes is not None else "does not answer"
        runtime = " ".join(containerd.version().split()[::2][:2])
        click.echo(f"Cluster     {name}")
        click.echo(f"API server  {answers}  (context {config.context})")
        click.echo(f"Versions    buoy {__version__}, Kubernetes {KUBERNETES_VERSION}, {runtime}")
        click.echo(f"Network     LAN {config.lan}, Pods {config.pod_cidr}, Services {config.service_cidr}\n")
        _show_nodes(running, nodes or {})
        _show_components(running, folder)
        _show_announced(announced)
        total = _mebibytes(lifecycle.memory(running))
        click.echo(f"\nMemory of all processes, Pods included: {total} (PSS)")


async def _observed(kubeconfig: str) -> tuple[dict[str, Object] | None, list[Announced]]:
    """The Node objects by name, None if the API server cannot be reached; and what is announced."""
    async with Client.from_kubeconfig(kubeconfig) as client:
        try:
            nodes = {meta.name(item): item for item in (await client.list(NODES)).items}
            services = (await client.list(SERVICES)).items
            if not any(item["spec"]["type"] == "LoadBalancer" for item in services):
                return nodes, []
            statuses = [
                (protocol, await _list_if_served(client, resource))
                for protocol, resource in (("layer2", SERVICE_L2_STATUSES), ("bgp", SERVICE_BGP_STATUSES))
            ]
        except ConnectionFailed:
            return None, []
    return nodes, announced(services, statuses)


async def _list_if_served(client: Client, resource: Resource) -> list[Object]:
    try:
        return list((await client.list(resource)).items)
    except StatusError as error:
        if error.code != 404:
            raise
        return []


class Announced(NamedTuple):
    """A Service of type LoadBalancer: its addresses, and the nodes that announce them by each protocol."""

    service: str
    addresses: tuple[str, ...]
    nodes: dict[str, list[str]]


def announced(
    services: Iterable[Object], statuses: Iterable[tuple[str, Iterable[Object]]]
) -> list[Announced]:
    """From the Services and what speakers say of them, by protocol. Pure."""
    nodes: dict[str, dict[str, list[str]]] = {}
    for protocol, objects in statuses:
        for obj in objects:
            status = obj.get("status") or {}
            key = f"{status.get('serviceNamespace')}/{status.get('serviceName')}"
            nodes.setdefault(key, {}).setdefault(protocol, []).append(status.get("node") or "")
    return [
        Announced(
            meta.key(service),
            tuple(
                entry.get("ip") or entry.get("hostname") or ""
                for entry in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
            ),
            {protocol: sorted(names) for protocol, names in nodes.get(meta.key(service), {}).items()},
        )
        for service in services
        if service["spec"]["type"] == "LoadBalancer"
    ]


def _show_announced(services: list[Announced]) -> None:
    if not services:
        return
    width = max(len("SERVICE"), *(len(each.service) for each in services)) + 2
    click.echo(f"\n{'SERVICE':<{width}}{'ADDRESS':<17}ANNOUNCED BY")
    for each in services:
        shown = ", ".join(each.addresses) or "<pending>"
        by = "; ".join(f"{', '.join(names)} ({protocol})" for protocol, names in each.nodes.items())
        click.echo(f"{each.service:<{width}}{shown:<17}{by or '<nobody>'}")


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
