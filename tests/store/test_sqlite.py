"""The SQLite store on a real disk: durability, order, failures."""

import asyncio
import os
import resource
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buoy.store import (
    Compacted,
    KeyExists,
    KeyNotFound,
    Record,
    RevisionConflict,
    SqliteStore,
    StorageFailed,
    sqlite,
)
from buoy.store.memory import Change


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path)
    yield store
    await store.close()


def rows(path: Path) -> list[tuple[int, str, bytes | None]]:
    """What the disk holds, read as a restart would read it: from a copy of the file and its log."""
    copy = path.with_name("copy.db")
    for suffix in ("", "-wal"):
        source = Path(f"{path}{suffix}")
        Path(f"{copy}{suffix}").unlink(missing_ok=True)
        if source.exists():
            shutil.copy(source, f"{copy}{suffix}")
    connection = sqlite3.connect(copy)
    try:
        return connection.execute("SELECT revision, key, value FROM log ORDER BY revision").fetchall()
    finally:
        connection.close()


@contextmanager
def full_disk(size: int = 1) -> Iterator[None]:
    """No file may grow beyond *size*: the kernel refuses, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_write_read(store: SqliteStore) -> None:
    assert store.revision == 1
    assert await store.create("/a", b"1") == 2
    assert await store.update("/a", b"2", 2) == 3
    assert await store.get("/a") == Record("/a", b"2", 3)
    assert await store.delete("/a", 3) == 4
    assert await store.get("/a") is None
    assert await store.create("/a", b"") == 5
    assert await store.delete("/a") == 6
    assert store.revision == 6


async def test_conditions(store: SqliteStore) -> None:
    revision = await store.create("/a", b"1")
    with pytest.raises(KeyExists) as exists:
        await store.create("/a", b"2")
    assert exists.value.args == (Record("/a", b"1", revision),)
    for attempt in (store.update("/a", b"2", 1), store.delete("/a", 1)):
        with pytest.raises(RevisionConflict) as conflict:
            await attempt
        assert conflict.value.args == (Record("/a", b"1", revision),)
    for attempt in (store.update("/b", b"2", revision), store.delete("/b"), store.delete("/b", revision)):
        with pytest.raises(KeyNotFound):
            await attempt
    assert store.revision == revision


async def test_conditions_hold_among_writes_on_their_way(store: SqliteStore) -> None:
    """Many at once: one creator wins, one updater wins, and a refusal never tells of what is not on disk."""

    async def create(value: bytes) -> int | Record:
        try:
            return await store.create("/a", value)
        except KeyExists as error:
            record = error.args[0]
            assert store.revision >= record.revision
            assert await store.get("/a") == record
            return record

    outcomes = await asyncio.gather(*(create(b"%d" % number) for number in range(20)))
    (revision,) = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert outcomes.count(Record("/a", b"%d" % outcomes.index(revision), revision)) == 19

    async def update(value: bytes) -> int | None:
        try:
            return await store.update("/a", value, revision)
        except RevisionConflict as error:
            assert store.revision >= error.args[0].revision > revision
            return None

    assert (
        sum(bool(outcome) for outcome in await asyncio.gather(*(update(b"%d" % n) for n in range(20)))) == 1
    )

    async def delete() -> bool:
        try:
            await store.delete("/a")
        except KeyNotFound:
            assert await store.get("/a") is None
            return False
        return True

    assert sum(await asyncio.gather(*(delete() for _ in range(20)))) == 1


async def test_create_after_a_deletion_on_its_way(store: SqliteStore) -> None:
    await store.create("/a", b"1")
    assert await asyncio.gather(store.delete("/a"), store.create("/a", b"2"), store.delete("/a")) == [3, 4, 5]


async def test_counters(store: SqliteStore) -> None:
    """Optimistic increments by many: none is lost, and each revision is handed out once."""
    for number in range(4):
        await store.create(f"/{number}", b"0")
    revisions: list[int] = []

    async def increment(key: str) -> None:
        while True:
            record = await store.get(key)
            assert record
            try:
                revisions.append(await store.update(key, b"%d" % (int(record.value) + 1), record.revision))
            except RevisionConflict:
                continue
            return

    await asyncio.gather(*(increment(f"/{number % 4}") for number in range(100)))
    page = await store.list("/")
    assert [record.value for record in page.records] == [b"25"] * 4
    assert sorted(revisions) == list(range(6, 106))


async def test_nothing_is_seen_before_it_is_on_disk(store: SqliteStore, path: Path) -> None:
    async def reader() -> None:
        watch = store.watch("/", 1)
        seen = 0
        while seen < 30:
            batch = await anext(watch)
            seen += len(batch)
            assert rows(path)[-1][0] >= batch[-1].revision

    async def poller() -> None:
        while store.revision < 31:
            page = await store.list("/")
            assert {record.revision for record in page.records} <= {row[0] for row in rows(path)}
            await asyncio.sleep(0)

    async def writer(number: int) -> None:
        for count in range(10):
            revision = await store.create(f"/{number}/{count}", bytes(1000))
            assert rows(path)[-1][0] >= revision

    await asyncio.gather(reader(), poller(), *(writer(number) for number in range(3)))


async def test_writer_syncs_every_commit(store: SqliteStore, path: Path) -> None:
    pragma = store._writer._disk._connection.execute
    assert pragma("PRAGMA synchronous").fetchone() == (2,)
    assert pragma("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_waiting_writes_share_a_commit(store: SqliteStore, path: Path) -> None:
    await store.create("/first", b"")
    watch = store.watch("/", store.revision)
    await asyncio.gather(*(store.create(f"/{number}", b"") for number in range(200)))
    batches = 0
    while watch.revision < store.revision:
        await anext(watch)
        batches += 1
    assert batches <= 5


async def test_restart_goes_on_where_it_was(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.create("/a", b"1")
    await store.create("/b", b"\x00\xff'\"")
    await store.update("/a", b"2", 2)
    await store.compact(3)
    await store.delete("/b")
    await store.close()
    store = await SqliteStore.open(path)
    try:
        assert store.revision == 5
        assert list((await store.list("/")).records) == [Record("/a", b"2", 4)]
        assert [event.type for event in await anext(store.watch("/", 3))] == ["update", "delete"]
        assert list((await store.list("/", revision=3)).records) == [
            Record("/a", b"1", 2),
            Record("/b", b"\x00\xff'\"", 3),
        ]
        with pytest.raises(Compacted):
            store.watch("/", 2)
    finally:
        await store.close()


async def test_revision_survives_the_compaction_of_a_last_deletion(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.create("/a", b"1")
    await store.delete("/a")
    await store.compact(3)
    await store.close()
    store = await SqliteStore.open(path)
    assert store.revision == 3
    assert await store.create("/a", b"1") == 4
    await store.close()


async def test_compaction_empties_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_ROWS", 7)
    store = await SqliteStore.open(path)
    revision = await store.create("/a", b"0")
    await store.create("/gone", b"")
    await store.delete("/gone")
    for number in range(100):
        revision = await store.update("/a", b"%d" % number, revision)
    await store.compact(store.revision)
    async with asyncio.timeout(10):
        while len(rows(path)) > 1:  # the rest goes while the writer has nothing else to do
            await asyncio.sleep(0.005)
    assert rows(path) == [(revision, "/a", b"99")]
    await store.close()


async def test_left_over_rows_are_removed_after_a_restart(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_ROWS", 1)
    store = await SqliteStore.open(path)
    revision = await store.create("/a", b"0")
    for number in range(20):
        revision = await store.update("/a", b"%d" % number, revision)
    await store.create("/gone", b"")
    await store.delete("/gone")
    await asyncio.gather(store.compact(store.revision), store.close())
    monkeypatch.setattr(sqlite, "_ROWS", 100)
    assert len(rows(path)) > 10
    store = await SqliteStore.open(path)
    assert list((await store.list("/")).records) == [Record("/a", b"19", revision)]
    await store.create("/b", b"")
    async with asyncio.timeout(10):
        while len(rows(path)) > 2:
            await asyncio.sleep(0.005)
    await store.close()


async def test_history_is_bounded(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "MOST_EVENTS", 40)
    revision = await store.create("/a", b"")
    for _ in range(100):
        revision = await store.update("/a", b"", revision)
        assert len(store._memory.events) <= 41
    assert len(store._memory.events) >= 20
    with pytest.raises(Compacted):
        store.watch("/", 10)
    monkeypatch.setattr(sqlite, "MOST_EVENT_BYTES", 10_000)
    for _ in range(20):
        revision = await store.update("/a", bytes(1000), revision)
        assert store._memory.event_bytes <= 20_000


async def test_history_is_compacted_by_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "COMPACTION_SECONDS", 0.02)
    store = await SqliteStore.open(path)
    revision = await store.create("/a", b"")
    await store.update("/a", b"", revision)
    async with asyncio.timeout(10):
        while store._memory.events:
            await asyncio.sleep(0.005)
    assert (await store.list("/")).revision == 3
    await store.close()


async def test_full_disk(store: SqliteStore, path: Path) -> None:
    revision = await store.create("/a", b"1")
    watch = store.watch("/", revision)
    with full_disk():
        failures = await asyncio.gather(
            store.update("/a", bytes(8000), revision),
            store.create("/b", bytes(8000)),
            store.delete("/b"),  # stands on the creation, and falls with it
            return_exceptions=True,
        )
        assert [type(failure) for failure in failures] == [StorageFailed] * 3
        assert str(path) in str(failures[0])
        with pytest.raises(StorageFailed):
            await store.create("/c", bytes(8000))
        assert list((await store.list("/")).records) == [Record("/a", b"1", revision)]
    newer = await store.update("/a", b"2", revision)
    assert newer > revision
    assert [(event.key, event.value) for event in await anext(watch)] == [("/a", b"2")]
    assert await store.create("/b", b"1") == newer + 1
    assert [row[1:] for row in rows(path)] == [("/a", b"1"), ("/a", b"2"), ("/b", b"1")]
    await store.close()
    again = await SqliteStore.open(path)
    assert [record.value for record in (await again.list("/")).records] == [b"2", b"1"]
    await again.close()


async def test_what_stands_on_a_failed_write_falls_with_it(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_ROWS", 1)  # each write is a commit of its own
    await store.create("/a", b"1")
    with full_disk(60_000):
        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(
                store.create("/b", bytes(100_000)),
                store.delete("/b"),
                store.create("/c", b""),
                return_exceptions=True,
            )
        assert [type(outcome) for outcome in outcomes] == [StorageFailed] * 3
        await store.create("/d", b"")
    assert [key for _, key, _ in rows(path)] == ["/a", "/d"]


async def test_a_failed_commit_that_reached_the_disk_is_undone(store: SqliteStore, path: Path) -> None:
    await store.create("/a", b"1")
    await store.close()
    disk = sqlite._Disk(str(path))
    disk.append([Change("/b", b"1", 3), Change("/a", None, 4)])
    disk.recover(2)
    disk.close()
    assert rows(path) == [(2, "/a", b"1")]


async def test_failed_compaction_is_made_up_for(store: SqliteStore, path: Path) -> None:
    revision = await store.create("/a", bytes(8000))
    revision = await store.update("/a", bytes(8000), revision)
    with full_disk():
        with pytest.raises(StorageFailed):
            await store.compact(revision)
        with pytest.raises(Compacted):
            store.watch("/", revision - 1)
    await store.create("/b", b"")
    async with asyncio.timeout(10):
        while len(rows(path)) > 2:
            await asyncio.sleep(0.005)
    await store.close()
    again = await SqliteStore.open(path)
    assert again._memory.compacted == revision
    await again.close()


async def test_cancelled_writer_does_not_stop_the_write(store: SqliteStore) -> None:
    task = asyncio.ensure_future(store.create("/a", b"1"))
    other = asyncio.ensure_future(store.create("/b", b"1"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.wait_for(other, 10) == 3
    with pytest.raises(KeyExists):
        await store.create("/a", b"2")
    assert await store.get("/a") == Record("/a", b"1", 2)


async def test_only_the_owner_may_read_it(store: SqliteStore, path: Path) -> None:
    await store.create("/a", b"secret")
    for name in os.listdir(path.parent):
        assert stat.S_IMODE(os.stat(path.parent / name).st_mode) == 0o600, name


async def test_two_at_once_are_refused(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_SECONDS_FOR_LOCK", 0.01)
    with pytest.raises(StorageFailed, match="locked"):
        await SqliteStore.open(path)
    assert await store.create("/a", b"1") == 2


@pytest.mark.parametrize("content", [b"not a database" * 100, None])
async def test_unusable_file(path: Path, content: bytes | None) -> None:
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(StorageFailed, match=str(path)):
        await SqliteStore.open(path)


@pytest.mark.parametrize("key", ["/a\0b", "/\ud800", "/\U0010ffff"])
async def test_unusable_keys(store: SqliteStore, key: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        await store.create(key, b"")
    assert await store.create("/a", b"") == 2


async def test_closing_finishes_what_was_asked_for(path: Path) -> None:
    store = await SqliteStore.open(path)
    watch = store.watch("/", 1)
    writes = [asyncio.ensure_future(store.create(f"/{number}", b"")) for number in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert await asyncio.gather(*writes) == list(range(2, 52))
    with pytest.raises(StorageFailed, match="closed"):
        await store.create("/late", b"")
    assert sum([len(batch) async for batch in watch]) == 50
    assert len(rows(path)) == 50
