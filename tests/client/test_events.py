"""Events: what is written for what happened, and how it reaches the server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from buoy.client import Client, EventRecorder, events
from buoy.client.events import Correlator

from .small_api_server import SmallApiServer, refusal

Object = dict[str, Any]
Until = Callable[..., Any]

POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "5"},
}


def event(message: str, *, name: str = "p", reason: str = "R", time: str = "t0") -> Object:
    return {
        "metadata": {"name": f"{name}.{message}", "namespace": "d"},
        "involvedObject": {"kind": "Pod", "namespace": "d", "name": name, "uid": "u", "apiVersion": "v1"},
        "source": {"component": "c"},
        "type": "Normal",
        "reason": reason,
        "message": message,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }


def correlate(correlator: Correlator, happened: Object, now: float) -> Any:
    """What is written, after it has been."""
    write = correlator.correlate(happened, now)
    if write:
        correlator.written(write, write.event)
    return write


def test_the_same_again_is_counted() -> None:
    correlator = Correlator()
    first = correlate(correlator, event("m", time="t1"), 0)
    assert first.patch is None
    for count in (2, 3):
        again = correlate(correlator, event("m", time=f"t{count}"), count)
        assert again.patch == {"count": count, "lastTimestamp": f"t{count}", "message": "m"}
        assert again.event["metadata"]["name"] == first.event["metadata"]["name"]
        assert again.event["firstTimestamp"] == "t1"


def test_different_ones_are_kept_apart() -> None:
    correlator = Correlator()
    for happened in (event("m"), event("n"), event("m", reason="Q"), event("m", name="q")):
        assert correlate(correlator, happened, 0).patch is None


def test_what_was_not_written_is_not_counted() -> None:
    correlator = Correlator()
    correlator.correlate(event("m"), 0)
    assert correlate(correlator, event("m"), 1).patch is None


def test_similar_ones_are_combined() -> None:
    correlator = Correlator()
    writes = [correlate(correlator, event(f"m{number}"), number) for number in range(13)]
    assert [write.patch for write in writes[:11]] == [None] * 11
    assert [write.event["message"] for write in writes[8:]] == [
        "m8",
        "m9",
        "(combined from similar events): m10",
        "(combined from similar events): m11",
        "(combined from similar events): m12",
    ]
    assert [write.patch["count"] for write in writes[11:]] == [2, 3]
    # One of those that have their own event goes on counting there.
    assert correlate(correlator, event("m3"), 14).patch["message"] == "m3"
    # After ten quiet minutes all begins anew, but not before.
    assert correlate(correlator, event("m20"), 14 + 599).event["message"].startswith("(combined")
    assert correlate(correlator, event("m21"), 14 + 599 + 599).event["message"].startswith("(combined")
    assert correlate(correlator, event("m22"), 14 + 599 + 599 + 601).event["message"] == "m22"


def test_endless_ones_are_cut_off() -> None:
    correlator = Correlator()
    writes = [correlate(correlator, event("m"), 0) for _ in range(30)]
    assert [bool(write) for write in writes] == [True] * 25 + [False] * 5
    assert correlate(correlator, event("m", name="other"), 0)
    assert not correlate(correlator, event("m"), 299)
    assert correlate(correlator, event("m"), 300.5)
    assert not correlate(correlator, event("m"), 301)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_CACHE", 10)
    correlator = Correlator()
    for number in range(100):
        correlate(correlator, event("m", name=f"p{number}"), 0)
    assert len(correlator._seen) == len(correlator._similar) == len(correlator._buckets) == 10
    assert correlate(correlator, event("m", name="p99"), 0).patch
    assert not correlate(correlator, event("m", name="p0"), 0).patch


@asynccontextmanager
async def running(recorder: EventRecorder) -> AsyncIterator[EventRecorder]:
    task = asyncio.ensure_future(recorder.run())
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def stored(server: SmallApiServer) -> list[Object]:
    return list(server.objects.get("events", {}).values())


async def test_an_event_as_users_see_it(client: Client, server: SmallApiServer) -> None:
    async with running(EventRecorder(client, "kubelet", "node-1")) as recorder:
        recorder.event(POD, "Warning", "BackOff", "restarting", field_path="spec.containers{web}")
        await asyncio.wait_for(recorder.flushed(), 5)
    (written,) = stored(server)
    assert written["metadata"]["name"].startswith("p.")
    assert written["metadata"]["namespace"] == "d"
    assert written["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "d",
        "name": "p",
        "uid": "u",
        "resourceVersion": "5",
        "fieldPath": "spec.containers{web}",
    }
    assert written["source"] == {"component": "kubelet", "host": "node-1"}
    assert (written["type"], written["reason"], written["message"]) == ("Warning", "BackOff", "restarting")
    assert written["count"] == 1
    assert written["firstTimestamp"] == written["lastTimestamp"]
    assert (written["reportingComponent"], written["reportingInstance"]) == ("kubelet", "node-1")


async def test_cluster_scoped_objects_have_their_events_in_default(
    client: Client, server: SmallApiServer
) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n" * 253}}
    async with running(EventRecorder(client, "c")) as recorder:
        recorder.event(node, "Normal", "Ready", "")
        await asyncio.wait_for(recorder.flushed(), 5)
    (written,) = stored(server)
    assert written["metadata"]["namespace"] == "default"
    assert len(written["metadata"]["name"]) <= 253


async def test_counting_on_the_server(client: Client, server: SmallApiServer) -> None:
    async with running(EventRecorder(client, "c")) as recorder:
        for _ in range(3):
            recorder.event(POD, "Normal", "R", "m")
        await asyncio.wait_for(recorder.flushed(), 5)
        (written,) = stored(server)
        assert written["count"] == 3
        await server.remove("events", f"d/{written['metadata']['name']}")  # it has expired
        recorder.event(POD, "Normal", "R", "m")
        await asyncio.wait_for(recorder.flushed(), 5)
        assert [written["count"] for written in stored(server)] == [4]


async def test_the_server_is_away_for_a_while(
    client: Client, server: SmallApiServer, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(events, "_TRIES", 1000)
    await server.stop()
    async with running(EventRecorder(client, "c")) as recorder:
        recorder.event(POD, "Normal", "R", "m")
        await asyncio.sleep(0.03)
        await server.start()
        await until(lambda: len(stored(server)) == 1)


async def test_a_refusal_is_final(client: Client, server: SmallApiServer) -> None:
    server.refusals.append(refusal(403, "Forbidden", "no"))
    async with running(EventRecorder(client, "c")) as recorder:
        recorder.event(POD, "Normal", "R", "m")
        recorder.event(POD, "Normal", "R", "n")
        await asyncio.wait_for(recorder.flushed(), 5)
    assert [written["message"] for written in stored(server)] == ["n"]


async def test_it_never_blocks(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_QUEUE", 3)
    recorder = EventRecorder(client, "c")
    for _ in range(10):
        recorder.event(POD, "Normal", "R", "m")
    assert recorder._queue.qsize() == 3
