"""A shell in a terminal, typed into as a user types."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r+(?=\n)")
_WRITTEN_OVER = re.compile(r"[^\n]*\r")
_ROWS, _COLUMNS = 50, 1000  # so wide that no line is broken


class Terminal:
    """A program that reads commands, such as a shell: *prompt* says that it waits for one."""

    def __init__(
        self, program: Sequence[str], prompt: str, *, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self._prompt = prompt + " "
        self._process, self._screen = pty.fork()
        if self._process == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
                os.chdir(folder)
                os.execvpe(program[0], program, environment)
            finally:
                os._exit(127)
        os.set_inheritable(self._screen, False)  # or the terminals opened later keep this one open
        self._read_until_prompt(30, echoed=True)

    def type(self, command: str, within: float = 60) -> list[str]:
        """The lines written until the next prompt. Raises TimeoutError, EOFError."""
        os.write(self._screen, command.encode() + b"\n")
        return self._read_until_prompt(within, echoed=False)

    def move(self, command: str, prompt: str) -> None:
        """Type a command that opens another shell, or ends it, so that another *prompt* comes."""
        self._prompt = prompt + " "
        self.type(command)

    def _read_until_prompt(self, within: float, echoed: bool) -> list[str]:
        deadline = time.monotonic() + within
        written = b""
        while True:
            ready, _, _ = select.select([self._screen], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError(f"no prompt after {within:.0f} s; what was written:\n{_plain(written)}")
            try:
                written += os.read(self._screen, 65536)
            except OSError:  # the program has ended
                raise EOFError(_plain(written)) from None
            text = _plain(written)
            # What is typed is echoed, with its line feed; only what comes behind it is output.
            if not echoed:
                _, line_feed, text = text.partition("\n")
                if not line_feed:
                    continue
            if text.endswith(self._prompt):
                return text.removesuffix(self._prompt).splitlines()

    def close(self) -> None:
        os.close(self._screen)  # a hang-up, which ends what runs there
        os.waitpid(self._process, 0)


def _plain(written: bytes) -> str:
    return _WRITTEN_OVER.sub("", _ESCAPES.sub("", written.decode(errors="replace")))
