"""The work queue: nothing is forgotten, nothing is done twice at a time, failures back off."""

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buoy.api.status import StatusError
from buoy.client import ConnectionFailed, WorkQueue

Until = Callable[..., Any]


@asynccontextmanager
async def running(
    queue: WorkQueue, reconcile: Callable[[str], Awaitable[None]], **options: Any
) -> AsyncIterator[asyncio.Future[None]]:
    task = asyncio.ensure_future(queue.run(reconcile, **options))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_waiting_keys_are_not_queued_twice(until: Until) -> None:
    queue, done = WorkQueue(), []

    async def reconcile(key: str) -> None:
        done.append(key)

    for key in "abcabca":
        queue.add(key)
    assert len(queue) == 3
    async with running(queue, reconcile):
        await until(lambda: len(queue) == 0)
    assert done == ["a", "b", "c"]


async def test_a_key_added_while_worked_on_is_done_again_but_not_at_once(until: Until) -> None:
    queue, begun, go = WorkQueue(), Counter[str](), asyncio.Event()
    working: set[str] = set()

    async def reconcile(key: str) -> None:
        assert key not in working
        working.add(key)
        begun[key] += 1
        await go.wait()
        working.discard(key)

    async with running(queue, reconcile, workers=3):
        queue.add("a")
        await until(lambda: begun["a"] == 1)
        for _ in range(5):
            queue.add("a")
        queue.add("b")
        await until(lambda: begun["b"] == 1)
        assert begun["a"] == 1
        go.set()
        await until(lambda: begun["a"] == 2 and not working and not len(queue))
    assert begun == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    "error", [StatusError(500, "InternalError", "oops"), ConnectionFailed("away"), OSError("disk")]
)
async def test_failures_back_off_and_are_logged(
    until: Until, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    queue, clock = WorkQueue(), asyncio.get_running_loop().time
    times: list[float] = []

    async def reconcile(key: str) -> None:
        times.append(clock())
        if len(times) < 6:
            raise error

    queue.add("d/x")
    with caplog.at_level(logging.WARNING):
        async with running(queue, reconcile, name="pods"):
            await until(lambda: len(times) == 6 and queue.failures("d/x") == 0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    for gap, least in zip(gaps, (0.005, 0.01, 0.02, 0.04, 0.08), strict=True):
        assert gap >= least - 0.001
    assert f"pods: d/x: {error}; retrying" in caplog.text


async def test_conflicts_are_not_worth_a_warning(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    queue, done = WorkQueue(), []

    async def reconcile(key: str) -> None:
        done.append(key)
        if len(done) == 1:
            raise StatusError(409, "Conflict", "modified")

    queue.add("x")
    with caplog.at_level(logging.INFO):
        async with running(queue, reconcile):
            await until(lambda: len(done) == 2)
    assert not caplog.records


async def test_an_outage_does_not_make_a_key_wait_for_long(
    until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, delays = WorkQueue(), []

    def add_after(key: str, seconds: float) -> None:
        delays.append(seconds)
        if len(delays) < 15:
            queue.add(key)

    monkeypatch.setattr(queue, "add_after", add_after)

    async def reconcile(key: str) -> None:
        raise ConnectionFailed("away")

    queue.add("x")
    async with running(queue, reconcile):
        await until(lambda: len(delays) == 15)
    assert delays[:3] == [0.005, 0.01, 0.02]
    assert delays[-1] == 2.0


async def test_the_longest_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, delays = WorkQueue(), []
    monkeypatch.setattr(queue, "add_after", lambda key, seconds: delays.append(seconds))
    for _ in range(2000):
        queue.retry("x")
    assert delays[:4] == [0.005, 0.01, 0.02, 0.04]
    assert delays[17:20] == [0.005 * 2**17, 1000.0, 1000.0]
    assert delays[-1] == 1000.0
    queue.forget("x")
    queue.retry("x")
    assert delays[-1] == 0.005


async def test_a_mistake_of_the_program_ends_it() -> None:
    queue = WorkQueue()

    async def reconcile(key: str) -> None:
        raise KeyError(key)

    queue.add("x")
    with pytest.raises(ExceptionGroup) as group:
        await asyncio.wait_for(queue.run(reconcile, workers=2), 5)
    assert [type(error) for error in group.value.exceptions] == [KeyError]


async def test_timers(until: Until) -> None:
    queue, clock = WorkQueue(), asyncio.get_running_loop().time
    start, done, problems = clock(), {}, []
    asyncio.get_running_loop().set_exception_handler(lambda loop, problem: problems.append(problem))

    async def reconcile(key: str) -> None:
        assert key not in done
        done[key] = clock() - start

    async with running(queue, reconcile):
        queue.add_after("late", 3600)
        queue.add_after("sooner", 0.05)
        queue.add_after("sooner", 0.03)
        queue.add_after("kept", 0.02)
        queue.add_after("kept", 3600)
        queue.add_after("now", 0)
        await until(lambda: len(done) == 3)
        await until(lambda: clock() - start > 0.06)
    assert done["kept"] >= 0.019
    assert done["sooner"] >= 0.029
    assert done["now"] <= done["kept"]
    assert not queue._timers
    assert not problems


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.sampled_from("abc") | st.just("turn"), max_size=30),
    workers=st.integers(1, 3),
    pauses=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    failing=st.sets(st.integers(0, 20), max_size=5),
)
def test_every_addition_is_followed_by_work(
    steps: list[str], workers: int, pauses: list[int], failing: set[int]
) -> None:
    async def play() -> None:
        queue = WorkQueue()
        working: set[str] = set()
        unseen: set[str] = set()
        count = 0

        async def reconcile(key: str) -> None:
            nonlocal count
            assert key not in working
            assert len(working) < workers
            working.add(key)
            unseen.discard(key)
            number = count = count + 1
            for _ in range(pauses[number % len(pauses)]):
                await asyncio.sleep(0)
            working.discard(key)
            if number in failing:
                unseen.add(key)
                raise OSError("again")

        async with running(queue, reconcile, workers=workers) as task:
            for step in steps:
                if step == "turn":
                    await asyncio.sleep(0)
                else:
                    queue.add(step)
                    unseen.add(step)
            async with asyncio.timeout(10):
                while unseen or working or len(queue):
                    assert not task.done(), task.result()
                    await asyncio.sleep(0)

    asyncio.run(play())
