"""buoy node"""

from __future__ import annotations

import os
from typing import NoReturn

import click

from .failures import reported
from .main import name_option


@click.group()
def command() -> None:
    """Nodes: list them, type on one, let one fail and come back."""


@command.command("list")
@name_option
def list_nodes(name: str) -> None:
    """The nodes and their addresses."""
    with reported():
        from ..cluster import faults, lifecycle

        running = lifecycle.find(name)
        for node in running.config.node_names:
            addresses = ",".join(running.config.node_addresses(node))
            click.echo(f"{node}  {addresses}  {faults.state(running, node)}")


@command.command("exec", context_settings={"ignore_unknown_options": True})
@name_option
@click.argument("node")
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def execute(name: str, node: str, arguments: tuple[str, ...]) -> None:
    """Run a command on a node."""
    enter(name, node, ("--mount", "--uts", "--ipc", "--net", "--pid"), arguments)


@command.command("shell")
@name_option
@click.argument("node")
def shell(name: str, node: str) -> None:
    """A shell on a node."""
    enter(name, node, ("--mount", "--uts", "--ipc", "--net", "--pid"), ("/bin/bash", "--norc"))


def _fault(verb: str, summary: str, report: str) -> click.Command:
    """The subcommand that has `cluster.faults` do *verb* to a node."""

    @click.argument("node")
    @name_option
    def fault(name: str, node: str) -> None:
        with reported():
            from ..cluster import faults, lifecycle

            getattr(faults, verb)(lifecycle.find(name), node)
        click.echo(report.format(node))

    return click.command(verb, help=summary)(fault)


for each in (
    _fault("stop", "End a node as a power cut would; it stays off until it is started.", "{} is stopped."),
    _fault("start", "Switch a stopped node on again.", "{} starts."),
    _fault("cut", "Pull a node's cable: it runs on, cut off from the LAN.", "{} is cut off the LAN."),
    _fault("heal", "Plug a node's cable in again.", "{} is on the LAN."),
):
    command.add_command(each)


def enter(name: str, machine: str, namespaces: tuple[str, ...], arguments: tuple[str, ...]) -> NoReturn:
    """Become *arguments*, run in the namespaces of a machine of the cluster."""
    with reported():
        from ..cluster import lifecycle, processes

        running = lifecycle.find(name)
        pid = processes.machine(running, machine)
        if pid is None:
            known = ", ".join(running.config.node_names)
            raise click.ClickException(f"no machine {machine!r} is running; the nodes are: {known}")
    os.environ["PS1"] = rf"[\u@{machine} \W]\$ "
    home = os.path.expanduser("~")
    place = f"--wdns={home if os.path.isdir(home) else '/'}"
    arguments_of_nsenter = ["nsenter", "--target", str(pid), *namespaces, place, "--", *arguments]
    os.execvp("nsenter", arguments_of_nsenter)  # noqa: S606
