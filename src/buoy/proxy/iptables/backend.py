"""Runs ``iptables-save`` and ``iptables-restore`` in this network namespace, and watches for other hands."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from collections.abc import Mapping

from ..backend import BackendError
from ..model import Changes, Family, Ruleset, Settings
from . import batch
from .monitor import Monitor
from .program import run

_OWN_PROCESSES = 64
_FEW_CHANGES = 20


class IptablesBackend:
    """A `Backend` that writes iptables rules of one family."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._prefix = "ip6tables" if family is Family.IPV6 else "iptables"
        self._settings: Settings | None = None
        self._current = False
        self._rules: Counter[str] = Counter()
        self._monitor: Monitor | None = None
        self._is_legacy = False
        self._own: deque[int] = deque(maxlen=_OWN_PROCESSES)

    async def rebuild(self, ruleset: Ruleset) -> None:
        await self._watch()
        self._current = False
        saved = await self._run("-save")
        script, rules = await asyncio.to_thread(_for_saved, saved, ruleset)
        await self._restore(script)
        self._settings, self._rules, self._current = ruleset.settings, rules, True

    async def apply(self, changes: Changes) -> None:
        if self._settings is None or not self._current:
            raise RuntimeError("apply may only follow a successful rebuild")
        if len(changes) > _FEW_CHANGES:
            script, more = await asyncio.to_thread(_for_changes, changes, self._settings)
        else:
            script, more = _for_changes(changes, self._settings)
        self._current = False
        await self._restore(script)
        self._rules.update(more)
        self._current = True

    async def verify(self) -> bool:
        """Whether the jumps to our chains are there, and the chains that all Services need."""
        if self._settings is None:
            return False
        try:
            await self._restore(batch.for_check(self._settings))
        except BackendError:
            return False
        return True

    async def disturbed(self) -> None:
        await self._watch()
        if self._monitor is None:  # legacy iptables tells nobody: only `verify` can find out
            await asyncio.get_running_loop().create_future()
            return
        while await self._monitor.touched() != "ours" and await self.verify():
            pass

    async def remove(self) -> None:
        settings = self._settings or Settings(self._family)
        self._current = False
        saved = batch.parse(await self._run("-save"))
        await self._restore(batch.for_removal(saved, settings).encode())
        self._settings, self._rules = None, Counter()

    def rule_counts(self) -> Mapping[str, int]:
        return self._rules

    def close(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    async def _watch(self) -> None:
        if self._monitor is None and not self._is_legacy:
            self._is_legacy = b"nf_tables" not in await self._run("", "--version")
            if not self._is_legacy:
                try:
                    self._monitor = Monitor(self._family, self._own)
                except OSError as error:
                    raise BackendError(f"cannot hear of firewall changes: {error}") from error

    async def _restore(self, script: bytes) -> None:
        if script:
            await self._run("-restore", "--noflush", "--wait", input=script)

    async def _run(self, suffix: str, *arguments: str, input: bytes = b"") -> bytes:
        program = self._prefix + suffix
        try:
            ended = await run((program, *arguments), input, self._own.append)
        except FileNotFoundError:
            raise BackendError(f"{program} is not installed: apt-get install iptables") from None
        except OSError as error:
            raise BackendError(f"cannot run {program}: {error}") from error
        if ended.code:
            raise BackendError(_explain(program, ended.code, ended.errors.decode(errors="replace"), input))
        return ended.output


def _for_saved(saved: bytes, ruleset: Ruleset) -> tuple[bytes, Counter[str]]:
    script = batch.for_saved(batch.parse(saved), ruleset)
    return script.encode(), script.rules


def _for_changes(changes: Changes, settings: Settings) -> tuple[bytes, Counter[str]]:
    script = batch.for_changes(changes, settings)
    return script.encode(), script.rules


def _explain(program: str, code: int, errors: str, input: bytes) -> str:
    text = " ".join(errors.split()) or f"ended with status {code}"
    if "Permission denied" in text or "you must be root" in text:
        return f"{program}: {text} (the proxy needs the capability NET_ADMIN in its network namespace)"
    found = re.search(r"line:? (\d+)", text)
    lines = input.split(b"\n")
    if found and int(found[1]) <= len(lines):
        return f"{program}: {text} [{lines[int(found[1]) - 1].decode(errors='replace')}]"
    return f"{program}: {text}"
