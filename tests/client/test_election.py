"""Leader election: one at a time, quick to hand over, and nobody leads who could not say so in time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from buoy.client import Client, LeadershipLost, lead

from .small_api_server import SmallApiServer, refusal

Until = Callable[..., Any]

TIMES = {"lease_duration": 60, "renew_deadline": 30, "retry_period": 0.02}
SHORT = {"lease_duration": 0.5, "renew_deadline": 0.3}


class Candidate:
    def __init__(self, client: Client, identity: str, **times: float) -> None:
        self.leads = False
        self.finish = asyncio.Event()
        self.task = asyncio.ensure_future(
            lead(client, "lock", identity, self._run, namespace="d", **{**TIMES, **times})
        )

    async def _run(self) -> None:
        self.leads = True
        try:
            await self.finish.wait()
        finally:
            self.leads = False

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def spec(server: SmallApiServer) -> dict[str, Any]:
    return server.objects["leases"]["d/lock"]["spec"]


async def test_one_leads_and_hands_over(client: Client, server: SmallApiServer, until: Until) -> None:
    one = Candidate(client, "one")
    await until(lambda: one.leads)
    assert spec(server)["holderIdentity"] == "one"
    assert spec(server)["leaseTransitions"] == 0
    assert spec(server)["leaseDurationSeconds"] == 60
    acquired, renewed = spec(server)["acquireTime"], spec(server)["renewTime"]
    two = Candidate(client, "two")
    await until(lambda: spec(server)["renewTime"] != renewed)
    assert spec(server)["acquireTime"] == acquired
    assert not two.leads
    await one.cancel()
    assert not one.leads
    await until(lambda: two.leads, seconds=5)  # long before the lease would have run out
    assert spec(server)["holderIdentity"] == "two"
    assert spec(server)["leaseTransitions"] == 1
    await two.cancel()
    assert spec(server)["holderIdentity"] == ""


async def test_the_lease_of_one_that_vanished_runs_out(
    client: Client, server: SmallApiServer, until: Until
) -> None:
    await server.put(
        "leases",
        {
            "metadata": {"name": "lock", "namespace": "d"},
            "spec": {"holderIdentity": "vanished", "leaseDurationSeconds": 1, "leaseTransitions": 4},
        },
    )
    clock = asyncio.get_running_loop().time
    start = clock()
    one = Candidate(client, "one")
    await until(lambda: one.leads)
    assert clock() - start >= 0.99
    assert spec(server)["leaseTransitions"] == 5
    await one.cancel()


async def test_one_that_comes_back_takes_its_own_lease_at_once(
    client: Client, server: SmallApiServer, until: Until
) -> None:
    await server.put(
        "leases",
        {
            "metadata": {"name": "lock", "namespace": "d"},
            "spec": {
                "holderIdentity": "one",
                "leaseDurationSeconds": 3600,
                "leaseTransitions": 4,
                "acquireTime": "2026-01-01T00:00:00.000000Z",
            },
        },
    )
    one = Candidate(client, "one")
    await until(lambda: one.leads)
    assert spec(server)["leaseTransitions"] == 4
    assert spec(server)["acquireTime"] == "2026-01-01T00:00:00.000000Z"
    await one.cancel()


async def test_leadership_ends_when_the_server_is_away(
    client: Client, server: SmallApiServer, until: Until
) -> None:
    one = Candidate(client, "one", **SHORT)
    await until(lambda: one.leads)
    await server.stop()
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(one.task, 5)
    assert not one.leads


async def test_leadership_ends_when_the_server_is_silent(
    client: Client, server: SmallApiServer, until: Until
) -> None:
    one = Candidate(client, "one", **SHORT)
    await until(lambda: one.leads)
    server.hang = True
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(one.task, 5)
    assert not one.leads


async def test_a_short_absence_is_forgiven(client: Client, server: SmallApiServer, until: Until) -> None:
    one = Candidate(client, "one")
    await until(lambda: one.leads)
    server.refusals += [refusal(500, "InternalError", "oops") for _ in range(3)]
    renewed = spec(server)["renewTime"]
    await until(lambda: not server.refusals and spec(server)["renewTime"] != renewed)
    assert one.leads
    await one.cancel()


async def test_finished_work_ends_it(client: Client, server: SmallApiServer, until: Until) -> None:
    one = Candidate(client, "one")
    await until(lambda: one.leads)
    one.finish.set()
    await asyncio.wait_for(one.task, 5)
    assert spec(server)["holderIdentity"] == ""


async def test_a_fault_of_the_work_comes_out(client: Client, server: SmallApiServer) -> None:
    async def fail() -> None:
        raise KeyError("fault")

    with pytest.raises(KeyError, match="fault"):
        await asyncio.wait_for(lead(client, "lock", "one", fail, namespace="d", **TIMES), 5)
    assert spec(server)["holderIdentity"] == ""


async def test_never_two_at_once(client: Client, server: SmallApiServer, until: Until) -> None:
    candidates = [Candidate(client, f"c{number}") for number in range(4)]
    had: set[int] = set()
    while len(had) < 4:
        await until(lambda: any(candidate.leads for candidate in candidates))
        (leader,) = [number for number, candidate in enumerate(candidates) if candidate.leads]
        assert sum(candidate.leads for candidate in candidates) == 1
        had.add(leader)
        await candidates[leader].cancel()
    assert spec(server)["leaseTransitions"] >= 3


async def test_times_that_make_no_sense(client: Client) -> None:
    async def work() -> None:
        pass

    with pytest.raises(ValueError, match="renew_deadline"):
        await lead(client, "lock", "one", work, lease_duration=10, renew_deadline=15)
