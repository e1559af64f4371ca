"""The pure half of the store: lists, history and watches, without a disk."""

import asyncio

import pytest

from buoy.store import Compacted, Event, FutureRevision, Record
from buoy.store.memory import Change, Memory


def memory_with(*changes: tuple[str, bytes | None]) -> Memory:
    """A memory at revision 1 with *changes* applied as revisions 2, 3, …"""
    memory = Memory([], 0)
    memory.apply(Change(key, value, revision) for revision, (key, value) in enumerate(changes, 2))
    return memory


def keys(
    memory: Memory, prefix: str, revision: int | None = None, after: str = "", limit: int = 0
) -> list[str]:
    return [record.key for record in memory.list(prefix, revision, after, limit).records]


def test_empty_store_is_at_revision_one() -> None:
    page = Memory([], 0).list("/", None, "", 0)
    assert (list(page.records), page.revision, page.more, page.remaining) == ([], 1, False, 0)


@pytest.mark.parametrize(
    ("prefix", "after", "limit", "expected", "remaining"),
    [
        ("/pods/", "", 0, ["/pods/a/x", "/pods/a/y", "/pods/b/x"], 0),
        ("/pods/a/", "", 0, ["/pods/a/x", "/pods/a/y"], 0),
        ("/pods/", "", 2, ["/pods/a/x", "/pods/a/y"], 1),
        ("/pods/", "/pods/a/y", 2, ["/pods/b/x"], 0),
        ("/pods/", "/pods/a/xx", 1, ["/pods/a/y"], 1),
        ("/pods/", "/pods/z", 0, [], 0),
        ("/pods/", "/nodes/a", 1, ["/pods/a/x"], 2),
        ("/pods/a/x", "", 0, ["/pods/a/x"], 0),
        ("/secrets/", "", 0, [], 0),
        ("", "", 3, ["/nodes/n", "/pods/a/x", "/pods/a/y"], 2),
    ],
)
def test_list_pages(prefix: str, after: str, limit: int, expected: list[str], remaining: int) -> None:
    memory = memory_with(
        *((key, b"") for key in ("/pods/b/x", "/podsx/a", "/pods/a/y", "/nodes/n", "/pods/a/x"))
    )
    page = memory.list(prefix, None, after, limit)
    assert [record.key for record in page.records] == expected
    assert (page.more, page.remaining) == (remaining > 0, remaining)


def test_list_at_an_older_revision() -> None:
    memory = memory_with(("/a", b"1"), ("/b", b"1"), ("/a", b"2"), ("/b", None), ("/c", b"1"), ("/a", None))
    assert list(memory.list("/", 4, "", 0).records) == [Record("/a", b"2", 4), Record("/b", b"1", 3)]
    assert [keys(memory, "/", revision) for revision in range(1, 8)] == [
        [],
        ["/a"],
        ["/a", "/b"],
        ["/a", "/b"],
        ["/a"],
        ["/a", "/c"],
        ["/c"],
    ]
    assert keys(memory, "/", 6, "/a", 1) == ["/c"]


def test_revisions_out_of_reach() -> None:
    memory = memory_with(("/a", b"1"), ("/a", b"2"), ("/a", b"3"))
    memory.compact(3)
    assert keys(memory, "/", 3) == ["/a"]
    for attempt in (lambda: memory.list("/", 2, "", 0), lambda: memory.watch("/", 2)):
        with pytest.raises(Compacted) as compacted:
            attempt()
        assert compacted.value.args == (3,)
    for attempt in (
        lambda: memory.list("/", 5, "", 0),
        lambda: memory.watch("/", 5),
        lambda: memory.compact(5),
    ):
        with pytest.raises(FutureRevision) as future:
            attempt()
        assert future.value.args == (4,)


def test_compaction_names_what_no_longer_counts() -> None:
    memory = memory_with(("/a", b"1"), ("/a", b"2"), ("/b", b"1"), ("/b", None), ("/a", b"3"))
    assert sorted(memory.compact(5)) == [2, 4, 5]  # /a at 3 is still what /a was at revision 5
    assert memory.compact(4) == []
    assert memory.compact(6) == [3]
    assert memory.event_bytes == 0
    assert list(memory.list("/", None, "", 0).records) == [Record("/a", b"3", 6)]


async def test_watch_gives_history_then_news() -> None:
    memory = memory_with(("/a/x", b"1"), ("/b/x", b"1"), ("/a/x", b"2"))
    watch = memory.watch("/a/", 2)
    assert watch.revision == 2
    assert await anext(watch) == [Event("update", "/a/x", b"2", 4, Record("/a/x", b"1", 2))]
    assert watch.revision == 4
    memory.apply([Change("/b/x", None, 5)])
    assert watch.revision == 5  # nothing of it was for this watch
    memory.apply([Change("/a/x", None, 6), Change("/b/y", b"1", 7), Change("/a/y", b"1", 8)])
    assert watch.revision < 6
    assert await anext(watch) == [
        Event("delete", "/a/x", None, 6, Record("/a/x", b"2", 4)),
        Event("create", "/a/y", b"1", 8, None),
    ]
    assert watch.revision == 8


async def test_waiting_watch_wakes() -> None:
    memory = memory_with()
    watches = [memory.watch("/a/", 1) for _ in range(3)]
    readers = [asyncio.ensure_future(anext(watch)) for watch in watches]
    await asyncio.sleep(0)
    memory.apply([Change("/b/x", b"1", 2)])
    await asyncio.sleep(0)
    assert not any(reader.done() for reader in readers)
    memory.apply([Change("/a/x", b"1", 3)])
    assert await asyncio.gather(*readers) == [[Event("create", "/a/x", b"1", 3, None)]] * 3


async def test_cancelled_reader_loses_nothing() -> None:
    memory = memory_with()
    watch = memory.watch("/", 1)
    reader = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    memory.apply([Change("/x", b"1", 2)])
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert [event.revision for event in await anext(watch)] == [2]


async def test_slow_reader_is_told_that_it_fell_behind() -> None:
    memory = memory_with(("/a", b"1"), ("/b", b"1"))
    slow, quick = memory.watch("/a", 1), memory.watch("/a", 2)
    memory.compact(3)
    memory.apply([Change("/a", b"2", 4)])
    with pytest.raises(Compacted):
        await anext(slow)
    assert slow.revision == 1
    assert [event.revision for event in await anext(quick)] == [4]


async def test_closed_watch_ends_and_is_forgotten() -> None:
    memory = memory_with()
    watches = [memory.watch(prefix, 1) for prefix in ("/a/", "/b/", "/a/", "/long/")]
    for watch in watches:
        await watch.aclose()
    memory.apply([Change("/a/x", b"1", 2)])
    for watch in watches:
        with pytest.raises(StopAsyncIteration):
            await anext(watch)
        await watch.aclose()
    assert not memory._groups
    assert not memory._lengths


async def test_closing_ends_waiting_watches() -> None:
    memory = memory_with()
    reader = asyncio.ensure_future(anext(memory.watch("/", 1), None))
    await asyncio.sleep(0)
    memory.close()
    assert await reader is None


async def test_watches_of_other_prefixes_are_not_touched() -> None:
    memory = memory_with()
    others = [memory.watch(f"/namespaces/n{number}/", 1) for number in range(1000)]
    mine = memory.watch("/pods/", 1)
    memory.apply([Change("/pods/a", b"1", 2)])
    assert [len(watch._batches) for watch in (mine, *others[:3])] == [1, 0, 0, 0]
    assert sum(len(watch._batches) for watch in others) == 0
    assert len(memory._lengths) <= 5  # what one event costs does not grow with the number of watches
