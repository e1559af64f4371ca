"""Keeps processes running: started by fork, restarted with back-off, reaped.

It runs as the first process of a PID namespace, so every orphan of the namespace ends up here. It has no
threads and no event loop, because it forks.
"""

from __future__ import annotations

import json
import logging
import math
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from . import linux, warm

log = logging.getLogger(__name__)

FIRST_DELAY = 0.5
LONGEST_DELAY = 10.0
STEADY = 30.0
"""Seconds that a process must have run for its next failure to count as the first."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process to keep running. *start* makes it and returns its number.

    While *wanted* says no, it is not started again; SIGHUP has the supervisor ask anew.
    """

    name: str
    start: Callable[[], int]
    wanted: Callable[[], bool] = lambda: True


@dataclass(slots=True)
class _State:
    process: Process
    pid: int = 0
    started: float = 0.0
    failures: int = 0
    restarts: int = 0
    last_exit: str = ""
    due: float = field(default=0.0)


def spawn(name: str, main: Callable[[], object], log_file: Path | None = None) -> int:
    """Fork a process called *name* that runs *main*, with its output appended to *log_file*."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.setsid()
        linux.set_name(name)
        if log_file is not None:
            redirect(log_file)
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # noqa: BLE001  # the top of a process: nobody else could report it
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def redirect(log_file: Path) -> None:
    """Standard input from nowhere, standard output and error to the end of *log_file*."""
    nowhere = os.open("/dev/null", os.O_RDONLY)
    output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nowhere, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for descriptor in (nowhere, output):
        if descriptor > 2:
            os.close(descriptor)


def execute(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> NoReturn:
    """Become another program, which is found on the PATH."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvpe(arguments[0], list(arguments), {**os.environ, **(environment or {})})  # noqa: S606


def in_child(main: Callable[[], object]) -> None:
    """Run *main* in a process of its own and wait for it. ChildProcessError if it failed."""
    pid = spawn("buoy", main)
    _, status = os.waitpid(pid, 0)
    if status:
        raise ChildProcessError(f"{getattr(main, '__name__', main)} failed, see above")


def describe_exit(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"


class Supervisor:
    """Runs *processes* until SIGTERM. *record*, a JSON file, tells restarts and the last exit of each."""

    def __init__(self, processes: Sequence[Process], record: Path) -> None:
        self._states = {process.name: _State(process) for process in processes}
        self._record = record

    def run(self) -> None:
        wakeup, signalled = socket.socketpair()
        for end in (wakeup, signalled):
            end.setblocking(False)
        stopping = False

        def stop(number: int, frame: object) -> None:
            nonlocal stopping
            stopping = True

        def look_again(number: int, frame: object) -> None:
            for state in self._states.values():
                state.due = 0.0

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGHUP, look_again)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
        warm.share_memory()
        while not stopping:
            self._reap()
            self._start_due()
            select.select([wakeup], [], [], self._seconds_until_due())
            try:
                while wakeup.recv(512):
                    pass
            except BlockingIOError:
                pass

    def _start_due(self) -> None:
        now = time.monotonic()
        for state in self._states.values():
            if state.pid or state.due > now:
                continue
            if not state.process.wanted():
                state.due = math.inf
            else:
                state.pid = state.process.start()
                state.started = now

    def _seconds_until_due(self) -> float | None:
        due = [state.due for state in self._states.values() if not state.pid]
        soonest = min(due, default=math.inf)
        return None if soonest == math.inf else max(0.0, soonest - time.monotonic())

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for state in self._states.values():
                if state.pid == pid:
                    self._ended(state, status)

    def _ended(self, state: _State, status: int) -> None:
        now = time.monotonic()
        steady = now - state.started >= STEADY
        state.failures = 1 if steady else state.failures + 1
        # The first restart is at once: traffic and users wait for nothing.
        delay = 0.0 if state.failures == 1 else min(FIRST_DELAY * 2 ** (state.failures - 2), LONGEST_DELAY)
        state.pid = 0
        state.due = now + delay
        state.restarts += 1
        state.last_exit = describe_exit(status)
        if state.process.wanted():
            log.warning("%s %s; restarting it in %.1f s", state.process.name, state.last_exit, delay)
        else:
            log.info("%s is stopped", state.process.name)
        self._write_record()

    def _write_record(self) -> None:
        content = {
            name: {"restarts": state.restarts, "lastExit": state.last_exit}
            for name, state in self._states.items()
            if state.restarts
        }
        temporary = self._record.with_suffix(".new")
        temporary.write_text(json.dumps(content))
        temporary.replace(self._record)
