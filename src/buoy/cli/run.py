"""buoy run"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from typing import Any, get_args, get_type_hints

import click

_COMPONENTS = {
    "proxy": ("buoy.proxy", "Options", "run"),
    "dns": ("buoy.dns", "Options", "run"),
    "loadbalancer-controller": ("buoy.loadbalancer", "ControllerOptions", "run_controller"),
    "loadbalancer-speaker": ("buoy.loadbalancer", "SpeakerOptions", "run_speaker"),
}
"""Where a component's options and its main function are."""


class _Components(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMPONENTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _command(cmd_name) if cmd_name in _COMPONENTS else None


@click.command(cls=_Components)
def command() -> None:
    """Run one component here, against any Kubernetes cluster, until it is ended.

    Without --kubeconfig, the cluster is that of the Pod this runs in.
    """


def _command(name: str) -> click.Command:
    package, options_name, main_name = _COMPONENTS[name]
    module = importlib.import_module(package)
    options_class: Any = getattr(module, options_name)

    def run(**values: Any) -> None:
        from ..cluster.process import run_component, set_up_logging

        try:
            options = options_class(**values)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        set_up_logging()
        run_component(lambda: getattr(module, main_name)(options))

    return click.Command(name, params=_parameters(options_class), callback=run, help=_help(options_class))


def _help(options_class: Any) -> str:
    """The docstring, with fields as the options that they are here."""
    text = inspect.getdoc(options_class) or ""
    text = re.sub(r"\*(\w+)\*", lambda match: _flag(match[1]), text.partition("\n\nRaises")[0])
    return text.replace("``", "")


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _parameters(options_class: Any) -> list[click.Parameter]:
    """An option for each field, of the same name, type and default; one of several values may come again."""
    hints = get_type_hints(options_class)
    found: list[click.Parameter] = []
    for field in dataclasses.fields(options_class):
        kind, default = hints[field.name], field.default
        if field.name == "kubeconfig":
            default = ""
        several = get_args(kind)[:1]
        flag = _flag(field.name)
        found.append(
            click.Option(
                [f"{flag}/--no-{flag[2:]}" if kind is bool else flag],
                type=several[0] if several else kind,
                multiple=bool(several),
                required=default is dataclasses.MISSING,
                default=None if default is dataclasses.MISSING else default,
                show_default=True,
            )
        )
    return found
