"""buoy image"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from .failures import reported
from .main import name_option


@click.group()
def command() -> None:
    """Images on the nodes."""


@command.command()
@name_option
@click.option("--node", "only", default="", help="Only on this node.")
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
def load(name: str, only: str, archive: Path) -> None:
    """Load an image archive (OCI layout, or docker save) into the nodes."""
    _load(name, only, archive.read_bytes(), str(archive))


@command.command()
@name_option
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write an archive instead."
)
def build(name: str, output: Path | None) -> None:
    """Make an image of Buoy itself, and load it into the nodes: what the manifests in deploy/ run."""
    with reported():
        from ..cluster import images, own_image

        archive = images.archive([own_image.image()])
    if output is not None:
        output.write_bytes(archive)
        click.echo(f"wrote {own_image.NAME} to {output}")
        return
    _load(name, "", archive, own_image.NAME)


@command.command("list")
@name_option
@click.option("--node", "only", default="", help="Only on this node.")
def list_images(name: str, only: str) -> None:
    """The images that each node has."""
    for node, command_line in _ctr(name, only):
        result = subprocess.run([*command_line, "list", "-q"], capture_output=True, text=True, check=False)
        if result.returncode:
            raise click.ClickException(f"{node}: {result.stderr.strip()}")
        for image in result.stdout.split():
            if "@sha256:" not in image and not image.startswith("sha256:"):
                click.echo(f"{node}  {image}")


def _load(name: str, only: str, archive: bytes, what: str) -> None:
    """Into all nodes at once, as each has a store of its own."""

    def load_into(command_line: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*command_line, "import", "-"], input=archive, capture_output=True, check=False)

    nodes = _ctr(name, only)
    with ThreadPoolExecutor() as pool:
        results = pool.map(load_into, (command_line for _, command_line in nodes))
        for (node, _), result in zip(nodes, results, strict=True):
            if result.returncode:
                message = (result.stderr.strip() or result.stdout.strip()).decode(errors="replace")
                raise click.ClickException(f"{node}: {message}")
            click.echo(f"{node}: loaded {what}")


def _ctr(name: str, only: str) -> list[tuple[str, list[str]]]:
    with reported():
        from ..cluster import lifecycle, processes

        running = lifecycle.find(name)
        found = []
        for node in running.config.node_names:
            pid = processes.machine(running, node)
            if pid is not None and only in ("", node):
                inside = ["nsenter", "--target", str(pid), "--mount", "--pid", "--net", "--"]
                found.append((node, [*inside, "ctr", "--namespace", "k8s.io", "images"]))
        if not found:
            raise click.ClickException(f"no such node: {only}" if only else "no node is running")
        return found
