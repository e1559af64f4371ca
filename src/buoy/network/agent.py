"""The agent on each machine that keeps its network as planned: CNI configuration, routes, masquerading."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from ..api.resource import NODES
from ..client import Client, Informer
from .plan import Plan, Route, cni_configuration, masquerade_rules, plan

log = logging.getLogger(__name__)

ROUTE_PROTOCOL = 98
"""The routing protocol number (rtnetlink(7)) that marks the routes as the agent's own."""

_CNI_FILE = "10-buoy.conflist"
_RETRY = 2.0


@dataclass(frozen=True, slots=True)
class Options:
    """*cluster_cidrs* are the Pod ranges of the whole cluster; *cni_dir* is containerd's ``conf_dir``.

    A machine without a *node_name* has no Pods: it gets nothing but routes, in the routing table *table*.
    """

    kubeconfig: str
    node_name: str
    cluster_cidrs: tuple[str, ...]
    cni_dir: str = "/etc/cni/net.d"
    table: str = "main"


async def run(options: Options) -> None:
    """Keep the node's network as planned, for ever."""
    if options.node_name:
        _set_sysctls(ipv6=any(":" in cidr for cidr in options.cluster_cidrs))
    async with (
        Client.from_kubeconfig(options.kubeconfig, user_agent="buoy-network") as client,
        asyncio.TaskGroup() as group,
    ):
        nodes = Informer(client, NODES)
        changed = asyncio.Event()
        nodes.subscribe(lambda old, new: changed.set())
        group.create_task(nodes.run())
        await nodes.synced()
        done: Plan | None = None
        while True:
            changed.clear()
            wanted = plan(nodes.items(), options.node_name, options.cluster_cidrs)
            if wanted != done:
                try:
                    await _apply(wanted, done, options)
                    done = wanted
                except OSError as error:
                    log.error("the node's network is not as it should be: %s; trying again", error)
                    await asyncio.sleep(_RETRY)
                    continue
            await changed.wait()


async def _apply(wanted: Plan, done: Plan | None, options: Options) -> None:
    await _replace_routes(wanted.routes, options.table)
    if wanted.pod_cidrs and (done is None or wanted.pod_cidrs != done.pod_cidrs):
        await _run("nft", "-f", "-", script=masquerade_rules(wanted.pod_cidrs, options.cluster_cidrs))
        _write(Path(options.cni_dir) / _CNI_FILE, cni_configuration(wanted.pod_cidrs))
        log.info("Pod network %s is up", ", ".join(wanted.pod_cidrs))


async def _replace_routes(wanted: frozenset[Route], table: str) -> None:
    own = f"proto {ROUTE_PROTOCOL} table {table}"
    present = set()
    for family in sorted({"-6" if ":" in route.destination else "-4" for route in wanted}):
        listed = await _run("ip", family, "-json", "route", "show", *own.split())
        present |= {Route(entry["dst"], entry.get("gateway", "")) for entry in json.loads(listed or b"[]")}
    replaced = {route.destination for route in wanted}
    lines = [f"route replace {_words(route)} {own}" for route in wanted - present]
    lines += [f"route del {_words(route)} {own}" for route in present if route.destination not in replaced]
    if lines:
        await _run("ip", "-batch", "-", script="\n".join(lines) + "\n")


def _words(route: Route) -> str:
    """A route in the words of ip-route(8)."""
    return f"{route.destination} via {route.via}" if route.via else f"unreachable {route.destination}"


async def _run(*command: str, script: str = "") -> bytes:
    """What *command*, given *script* on its standard input, prints. OSError, with its words, if it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if script else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, problem = await process.communicate(script.encode() or None)
    if process.returncode:
        raise OSError(f"{command[0]}: {problem.decode().strip()}")
    return printed


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: containerd reads the folder as soon as it changes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)


_IPV4 = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}
"""Forward packets; take them from where asymmetric routes bring them; send no redirects."""

_IPV6 = {
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}
"""Forward packets; take no advice from routers; use the addresses of the Pods' gateways at once."""


def _set_sysctls(*, ipv6: bool) -> None:
    for name, value in (_IPV4 | _IPV6 if ipv6 else _IPV4).items():
        path = f"/proc/sys/{name}"
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
