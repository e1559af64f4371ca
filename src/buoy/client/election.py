"""Leader election on a Lease, as client-go's ``leaderelection`` does it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..api import meta
from ..api.meta import Object
from ..api.resource import LEASES
from ..api.status import StatusError
from .http import Client

log = logging.getLogger(__name__)


class LeadershipLost(Exception):
    """The Lease could not be renewed in time: somebody else may lead now."""


class _Lease:
    """One candidate's view of the Lease.

    Clocks of machines differ, so a holder counts as alive for the Lease's duration after this process has
    *seen* it change, by this process' own clock.
    """

    def __init__(self, client: Client, name: str, identity: str, namespace: str, duration: float) -> None:
        self._client = client
        self._name = name
        self._identity = identity
        self._namespace = namespace
        self._duration = duration
        self._observed: Object = {}
        self._observed_at = 0.0

    async def acquire(self) -> bool:
        """Take the Lease, or renew it; False if another holds it."""
        clock = asyncio.get_running_loop().time
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except StatusError as error:
            if error.code != 404:
                raise
            return await self._write({"metadata": {"name": self._name, "namespace": self._namespace}}, clock)
        spec = lease.get("spec") or {}
        if spec != self._observed:
            self._observed, self._observed_at = spec, clock()
        holder = spec.get("holderIdentity")
        alive_until = self._observed_at + float(spec.get("leaseDurationSeconds") or 0)
        if holder and holder != self._identity and clock() < alive_until:
            return False
        return await self._write(lease, clock)

    async def _write(self, lease: Object, clock: Callable[[], float]) -> bool:
        old = lease.get("spec") or {}
        now = meta.now_micro()
        ours = old.get("holderIdentity") == self._identity
        spec: Object = {
            **old,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": old.get("acquireTime") or now if ours else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (1 if old and not ours else 0),
        }
        lease = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, **lease, "spec": spec}
        try:
            if "resourceVersion" in lease["metadata"]:
                written = await self._client.update(LEASES, lease)
            else:
                written = await self._client.create(LEASES, lease)
        except StatusError as error:
            if error.code == 409:  # somebody else was faster
                return False
            raise
        self._observed, self._observed_at = written.get("spec") or {}, clock()
        return True

    async def release(self) -> None:
        """Let the next candidate in without waiting for the Lease to run out."""
        lease = await self._client.get(LEASES, self._name, self._namespace)
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") == self._identity:
            now = meta.now_micro()
            lease["spec"] = {
                **spec,
                "holderIdentity": "",
                "leaseDurationSeconds": 1,
                "acquireTime": now,
                "renewTime": now,
            }
            await self._client.update(LEASES, lease)


async def lead(
    client: Client,
    name: str,
    identity: str,
    run: Callable[[], Awaitable[None]],
    *,
    namespace: str = "kube-system",
    lease_duration: float = 15.0,
    renew_deadline: float = 10.0,
    retry_period: float = 2.0,
) -> None:
    """Wait to become the leader named by the Lease *name*, then run *run* while renewing it.

    Returns when *run* does, and releases the Lease then, as it does on cancellation. Raises LeadershipLost,
    with *run* cancelled, if the Lease could not be renewed for *renew_deadline* seconds. *identity* must be
    unique among the candidates. All times are in seconds.
    """
    if not lease_duration > renew_deadline > retry_period > 0:
        raise ValueError("lease_duration > renew_deadline > retry_period > 0 must hold")
    lease = _Lease(client, name, identity, namespace, lease_duration)
    while not await _try(lease, renew_deadline):  # noqa: ASYNC110 - what changes is on the server
        await asyncio.sleep(retry_period)
    log.info("%s leads as %s/%s", identity, namespace, name)
    work = asyncio.ensure_future(run())
    renewal = asyncio.ensure_future(_renew(lease, renew_deadline, retry_period))
    lost = False
    try:
        await asyncio.wait({work, renewal}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        else:
            lost = True
            renewal.result()
    finally:
        renewal.cancel()
        work.cancel()
        await asyncio.gather(work, renewal, return_exceptions=True)
        if not lost:
            await _release(lease, renew_deadline)


async def _try(lease: _Lease, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await lease.acquire()
    except (StatusError, OSError) as error:
        log.warning("cannot get hold of the lease: %s", error or type(error).__name__)
        return False


async def _renew(lease: _Lease, deadline: float, period: float) -> None:
    clock = asyncio.get_running_loop().time
    renewed = clock()
    while True:
        await asyncio.sleep(period)
        left = renewed + deadline - clock()
        started = clock()
        if left > 0 and await _try(lease, left):
            renewed = started
        elif clock() >= renewed + deadline:
            raise LeadershipLost(f"the lease was not renewed for {deadline:g} s")


async def _release(lease: _Lease, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await lease.release()
    except (StatusError, OSError) as error:
        log.info("could not release the lease: %s", error or type(error).__name__)
