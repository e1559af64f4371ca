"""Lifecycle hooks: what a container wants done right after it starts and right before it stops."""

from __future__ import annotations

import asyncio

from ..api.meta import Object
from .handlers import Handlers

_POST_START_TIMEOUT = 3600.0


class HookFailure(Exception):
    """A hook did not succeed; the message says why."""


async def run_hook(
    handlers: Handlers,
    action: Object,
    container: Object,
    container_id: str,
    pod_ip: str,
    timeout: float = _POST_START_TIMEOUT,
) -> None:
    """Run one ``lifecycle`` action for *timeout* seconds at most. HookFailure also when time is up."""
    try:
        async with asyncio.timeout(timeout):
            if "sleep" in action:
                await asyncio.sleep(float(action["sleep"].get("seconds") or 0))
                return
            if "httpGet" in action and "port" not in action["httpGet"]:
                action = {"httpGet": {**action["httpGet"], "port": 80}}
            answer = await handlers.ask(action, container, container_id, pod_ip, timeout)
    except TimeoutError as error:
        raise HookFailure(f"timed out after {timeout:g}s") from error
    if not answer.ok:
        raise HookFailure(answer.output)
