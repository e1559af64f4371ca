"""Walks through a page: types each command where the page says, and compares what is written.

python tests/tutorial/walk.py [PAGE]              show it, in a cluster of its own that is ended afterwards
python tests/tutorial/walk.py --update [PAGE]     and put what was written into the page
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from console import Match, Step, Values, compare, renewed, steps
from terminal import Terminal

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
BIN = ROOT / ".venv" / "bin"
DEADLINE = 30.0  # seconds, for what the page says will come true
_OWN_PROMPT = "[learner]"  # not a bare $, which output may end with

Ran = tuple[Step, list[str], Match | None]


class Shells:
    """The terminals of a learner: one for each machine; a Pod's shell is in the learner's own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._open: dict[str, Terminal] = {}
        self._in_pod = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for terminal in self._open.values():
            terminal.close()

    def type(self, prompt: str, command: str) -> list[str]:
        """What *command* writes, typed where *prompt* is."""
        if (prompt == "/ #") != self._in_pod and prompt in ("/ #", "$"):
            raise ValueError(f"{command}: a Pod's shell is {'still' if self._in_pod else 'not'} open")
        if self._in_pod and prompt == "/ #":
            if command == "exit":
                self._in_pod = False
                self._shell("$").move(command, _OWN_PROMPT)
                return []
            return self._shell("$").type(command)
        if re.fullmatch(r"kubectl exec -ti .* -- /bin/sh", command):
            self._in_pod = True
            self._shell("$").move(command, "/ #")
            return []  # the greeting is the image's affair
        return self._shell(prompt).type(command)

    def _shell(self, prompt: str) -> Terminal:
        if prompt not in self._open:
            self._open[prompt] = Terminal(*_opened(prompt), folder=ROOT, environment=self._environment)
        return self._open[prompt]


def _opened(prompt: str) -> tuple[list[str], str]:
    """The program that shows *prompt* on the page, and what it really shows."""
    shell = ["bash", "--norc", "--noediting"]
    if prompt == "$":
        return shell, _OWN_PROMPT
    machine = prompt.removeprefix("[root@").partition(" ")[0]
    if machine == "outside":
        return ["buoy", "outside", "--", *shell], prompt
    return ["buoy", "node", "shell", machine], prompt


def environment(home: Path, kubeconfig: Path) -> dict[str, str]:
    """What the shells are started with: a state folder and a kubeconfig that are not the user's own."""
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "BUOY_HOME": str(home),
        "KUBECONFIG": str(kubeconfig),
        "KUBECACHEDIR": str(home / "kubectl-cache"),
        "HISTFILE": str(home / "bash-history"),
        "PS1": f"{_OWN_PROMPT} ",
        "TERM": "dumb",
    }


def walk(
    page: str,
    environment: Mapping[str, str],
    show: Callable[[str], None] = lambda text: None,
    *,
    stop: bool = True,
) -> tuple[list[Ran], Values]:
    """Run all steps of *page*. With *stop*, raises AssertionError at the first whose output is another."""
    ran: list[Ran] = []
    values = Values()
    with Shells(environment) as shells:
        for step in steps(page):
            command = values.put_into(step.command)
            show(f"{step.prompt} {command}")
            deadline = time.monotonic() + (DEADLINE if "until" in step.directives else 0)
            while True:
                output = shells.type(step.prompt, command)
                match = compare(step, output, values)
                if match or time.monotonic() >= deadline:
                    break
                time.sleep(0.1)
            for line in output:
                show(line)
            if match:
                values = match.values
            elif stop:
                raise AssertionError(difference(step, output, values))
            else:
                show(difference(step, output, values))
            ran.append((step, output, match))
    return ran, values


def difference(step: Step, output: list[str], values: Values) -> str:
    """What the page shows (-) and what was written (+)."""
    wanted = [values.put_into(line) for line in step.output]
    lines = difflib.ndiff(wanted, output)
    return "\n".join([f"line {step.line + 1}: {step.prompt} {step.command}", *lines])


def main() -> int:
    arguments = sys.argv[1:]
    update = "--update" in arguments
    path = next((Path(each) for each in arguments if each != "--update"), PAGE)
    page = path.read_text()
    with tempfile.TemporaryDirectory(prefix="buoy-tutorial-") as folder:
        home = Path(folder)
        shell = environment(home, home / "kubeconfig")
        try:
            ran, values = walk(page, shell, lambda text: print(text, flush=True), stop=not update)
        except AssertionError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        finally:
            subprocess.run(["buoy", "down"], env=shell, capture_output=True, check=False)
    if update:
        path.write_text(renewed(page, ran, values))
    return 0


if __name__ == "__main__":
    sys.exit(main())
