"""The command's entry: finds the subcommand and gives its failures one clear line."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable
from typing import Any

import click

from .. import KUBERNETES_VERSION, __version__

_COMMANDS = ("up", "down", "status", "node", "outside", "image", "logs", "kill", "kubectl", "run")


class _Group(click.Group):
    """Imports a subcommand's module only when it is called, so that each starts at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f".{cmd_name}", __package__).command
        return command


@click.command(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(f"{__version__} (Kubernetes {KUBERNETES_VERSION})", message="buoy %(version)s")
def _buoy() -> None:
    """Kubernetes Services, complete, on plain Linux: local clusters in a second or two."""


def main() -> None:
    """Run the command. A failure is one line on standard error and a non-zero exit."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that clean-up is done
    try:
        _buoy.main(prog_name="buoy", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)


def name_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option that tells clusters apart."""
    return click.option("--name", default="buoy", show_default=True, help="Which cluster.")(function)
