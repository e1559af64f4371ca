"""FRR's daemons beside this process: started when there are peers and if they end, and told of changes.

They run as FRR's own user, with their sockets and files in one folder of this node, and start without any
configuration: all of it is typed at them. So there is one way to configure them, and it never ends a session
that has not changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import re
import signal
import time
from pathlib import Path
from typing import Any

import msgspec

from .frr import Configuration, commands
from .sessions import BfdSession, Session, bfd_sessions, sessions

log = logging.getLogger(__name__)

_FOLDERS = ("/usr/lib/frr", "/usr/libexec/frr", "/usr/sbin")
_USER = "frr"
_DAEMONS = ("zebra", "bfdd", "bgpd")
_START_SECONDS = 10.0
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 10.0
_VTYSH_SECONDS = 15.0
_PASSWORD = re.compile(r"(\bpassword ).*")


class BgpError(Exception):
    """FRR is missing, does not start, or does not answer; the text says which."""


class BgpRefused(BgpError):
    """FRR does not take a command."""


class Daemons:
    """FRR in this network namespace, with its sockets in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wanted = Configuration()
        self._done = Configuration()
        self._listen_port = 0
        self._changed = asyncio.Event()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.error = ""
        """Why FRR is not as it should be, empty if it is."""

    @property
    def is_running(self) -> bool:
        return bool(self._processes)

    def want(self, configuration: Configuration, listen_port: int = 0) -> None:
        """Have FRR announce *configuration* from now on. *listen_port* 0: peers cannot connect to us."""
        if (configuration, listen_port) != (self._wanted, self._listen_port):
            self._wanted, self._listen_port = configuration, listen_port
            self._changed.set()

    async def run(self) -> None:
        """Go on for ever. What goes wrong is logged, told in `error` and tried again."""
        delay = 0.0
        port = 0
        try:
            while True:
                try:
                    if self._processes and (not self._wanted.routers or port != self._listen_port):
                        await self._stop()
                    if self._wanted.routers and not self._processes:
                        port = self._listen_port
                        await self._start(port)
                    self.error = await self._apply() if self._processes else ""
                except BgpError as error:
                    log.log(logging.DEBUG if str(error) == self.error else logging.ERROR, "%s", error)
                    self.error = str(error)
                    await self._stop()
                    delay = min(max(2 * delay, _FIRST_DELAY), _LONGEST_DELAY)
                    await asyncio.sleep(delay)
                    continue
                delay = 0.0
                await self._wait()
        finally:
            await self._stop()

    async def sessions(self) -> list[Session]:
        """The state of all neighbors, none if FRR does not run. Raises BgpError."""
        if not self._processes:
            return []
        return list(sessions(await self._show("show bgp vrf all neighbors json")))

    async def bfd_sessions(self) -> list[BfdSession]:
        """The state of all BFD sessions. Raises BgpError."""
        if not self._processes or not self._wanted.bfd_profiles:
            return []
        peers = await self._show("show bfd peers json")
        return list(bfd_sessions(peers, await self._show("show bfd peers counters json")))

    async def _wait(self) -> None:
        """Until there is something to do."""
        changed = asyncio.create_task(self._changed.wait())
        ends = [asyncio.create_task(process.wait()) for process in self._processes.values()]
        try:
            await asyncio.wait((changed, *ends), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (changed, *ends):
                task.cancel()
        self._changed.clear()
        for name, process in self._processes.items():
            if process.returncode is not None:
                log.error(
                    "FRR's %s has ended with status %d; all of it starts again", name, process.returncode
                )
                await self._stop()
                return

    async def _start(self, port: int) -> None:
        programs = {name: _program(name) for name in _DAEMONS}
        try:
            user = pwd.getpwnam(_USER)
        except KeyError:
            raise BgpError(f"there is no user {_USER}: install frr for announcing by BGP") from None
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        os.chown(self._folder, user.pw_uid, user.pw_gid)
        _write_private(self._folder / "vtysh.conf", "")
        more = {"bfdd": ("--bfdctl", f"{self._folder}/bfdd.sock"), "bgpd": ("-p", str(port))}
        for name, program in programs.items():
            await self._end_old(name)
            self._processes[name] = await asyncio.create_subprocess_exec(
                program,
                *("-f", "/dev/null", "-i", f"{self._folder}/{name}.pid", "-P", "0", "--log", "stdout"),
                *("--vty_socket", str(self._folder), "-z", f"{self._folder}/zserv.api", *more.get(name, ())),
                start_new_session=True,
            )
            await self._appeared(name)
        self._done = Configuration()
        log.info("FRR runs")

    async def _end_old(self, name: str) -> None:
        """End the daemon of a speaker that was killed: it has outlived it."""
        (self._folder / f"{name}.vty").unlink(missing_ok=True)
        file = self._folder / f"{name}.pid"
        if file.exists():
            pid = int(file.read_text() or 0)
            file.unlink()
            deadline = time.monotonic() + _START_SECONDS
            while _runs(pid, name) and time.monotonic() < deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(0.01)

    async def _appeared(self, name: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not (self._folder / f"{name}.vty").exists():
            if self._processes[name].returncode is not None or time.monotonic() > deadline:
                raise BgpError(f"FRR's {name} does not start")
            await asyncio.sleep(0.01)

    async def _apply(self) -> str:
        """Tell FRR what is new; what it does not take of that, empty if it takes all. The rest holds."""
        wanted = self._wanted
        lines = commands(self._done, wanted)
        if not lines:
            return self.error
        if any("\n" in line for line in lines):
            return "the name or password of a BGP peer has more than one line"
        file = self._folder / "commands"
        _write_private(file, "\n".join(lines) + "\n")  # there may be passwords
        self._done = wanted
        try:
            await self._vtysh("-f", str(file))
        except BgpRefused as error:
            log.error("%s", error)
            return str(error)
        finally:
            file.unlink()
        return ""

    async def _show(self, command: str) -> Any:
        answer = await self._vtysh("-c", command)
        try:
            return msgspec.json.decode(answer or b"{}")
        except msgspec.DecodeError as error:
            raise BgpError(f"FRR answers {command!r} with something that is no JSON: {error}") from error

    async def _vtysh(self, *arguments: str) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                "vtysh",
                *("--vty_socket", str(self._folder), "--config_dir", str(self._folder), *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError:
            raise BgpError("there is no vtysh: install frr for announcing by BGP") from None
        try:
            async with asyncio.timeout(_VTYSH_SECONDS):
                out, errors = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise BgpError("FRR does not answer") from None
        if b"vtysh_pam:" in errors:  # its status is 0 nevertheless
            raise BgpError(f"vtysh does not let us in: {errors.decode(errors='replace').strip()}")
        if process.returncode:
            said = _PASSWORD.sub(r"\1...", (out + errors).decode(errors="replace").strip())
            raise BgpRefused(f"FRR does not take a command: {said}")
        return out

    async def _stop(self) -> None:
        processes, self._processes = self._processes, {}
        for process in reversed(processes.values()):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()  # bgpd says goodbye to its peers
        for process in processes.values():
            try:
                async with asyncio.timeout(3):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def _program(name: str) -> str:
    for folder in _FOLDERS:
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise BgpError(f"there is no {name} in {', '.join(_FOLDERS)}: install frr for announcing by BGP")


def _runs(pid: int, name: str) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    except OSError:
        return False


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
