import asyncio

import pytest

from buoy.scheduler.waiting import FIRST_BACKOFF, WaitingPods


async def soon(waiting: WaitingPods, within: float = 1.0) -> str:
    return await asyncio.wait_for(waiting.next(), within)


async def nothing(waiting: WaitingPods, within: float) -> None:
    with pytest.raises(TimeoutError):
        await soon(waiting, within)


async def test_priority_then_arrival():
    waiting = WaitingPods()
    for key, priority in (("a", 0), ("b", 10), ("c", 0), ("d", 10)):
        waiting.add(key, priority)
    assert [await soon(waiting) for _ in range(4)] == ["b", "d", "a", "c"]


async def test_the_unschedulable_wait_for_a_change():
    waiting = WaitingPods()
    waiting.add("a")
    assert await soon(waiting) == "a"
    waiting.unschedulable("a")
    await nothing(waiting, 3 * FIRST_BACKOFF)
    waiting.cluster_changed()
    assert await soon(waiting) == "a"


async def test_a_change_during_the_back_off_counts():
    waiting = WaitingPods()
    loop = asyncio.get_running_loop()
    waiting.add("a")
    await soon(waiting)
    for attempt in range(3):
        started = loop.time()
        waiting.unschedulable("a")
        waiting.cluster_changed()
        assert await soon(waiting) == "a"
        assert loop.time() - started >= FIRST_BACKOFF * 2**attempt * 0.9


async def test_failures_come_back_by_themselves():
    waiting = WaitingPods()
    waiting.add("a")
    await soon(waiting)
    waiting.failed("a")
    assert await soon(waiting) == "a"


async def test_removed_and_changed():
    waiting = WaitingPods()
    waiting.add("a")
    waiting.add("a")
    waiting.add("b")
    waiting.remove("a")
    assert await soon(waiting) == "b"
    await nothing(waiting, 0.01)
    waiting.unschedulable("b")
    waiting.add("b")  # the Pod itself has changed: no need to wait
    assert await soon(waiting, FIRST_BACKOFF / 2) == "b"
    waiting.remove("b")
    waiting.failed("b")
    waiting.cluster_changed()
    await nothing(waiting, 2 * FIRST_BACKOFF)
    assert "b" not in waiting
