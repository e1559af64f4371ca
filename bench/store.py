"""The store's speed: writes acknowledged on disk, lists, watch fan-out.

Run it with ``python bench/store.py [FOLDER]``; FOLDER (default: the current one) says which disk. The
references, measured in turn with it on the same disk, are what a write costs at the least without sharing a
sync: 1 KB appended to a file and synced, and a row in a transaction of its own in a bare SQLite (WAL,
synchronous=FULL).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from buoy.store import SqliteStore

WRITERS = 40
OBJECTS = 2000
VALUE = os.urandom(1024)
ROUNDS = 5
LONE_WRITES = 300
WATCHES = 50
OTHER_WATCHES = 1000


def raw_rate(folder: Path) -> float:
    """Appends of a value, each synced, a second."""
    descriptor = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        start = time.perf_counter()
        for _ in range(LONE_WRITES):
            os.write(descriptor, VALUE)
            os.fdatasync(descriptor)
        return LONE_WRITES / (time.perf_counter() - start)
    finally:
        os.close(descriptor)


def bare_sqlite_rate(folder: Path) -> float:
    """Updates, each in a transaction of its own, a second."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, value BLOB)")
        start = time.perf_counter()
        for number in range(LONE_WRITES):
            connection.execute("REPLACE INTO objects VALUES (?, ?)", (f"/objects/{number % OBJECTS}", VALUE))
        return LONE_WRITES / (time.perf_counter() - start)
    finally:
        connection.close()


async def shared_rate(store: SqliteStore) -> float:
    """Updates of all objects by all writers at once, a second."""
    revisions = {record.key: record.revision for record in (await store.list("/objects/")).records}

    async def write(number: int) -> None:
        for index in range(number, OBJECTS, WRITERS):
            key = f"/objects/{index}"
            if key in revisions:
                await store.update(key, VALUE, revisions[key])
            else:
                await store.create(key, VALUE)

    start = time.perf_counter()
    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    return OBJECTS / (time.perf_counter() - start)


async def lone_rate(store: SqliteStore) -> float:
    """Updates by one writer, a second."""
    record = await store.get("/lone")
    revision = record.revision if record else await store.create("/lone", VALUE)
    start = time.perf_counter()
    for _ in range(LONE_WRITES):
        revision = await store.update("/lone", VALUE, revision)
    return LONE_WRITES / (time.perf_counter() - start)


async def list_seconds(store: SqliteStore) -> float:
    start = time.perf_counter()
    page = await store.list("/objects/")
    seconds = time.perf_counter() - start
    assert len(page.records) == OBJECTS
    return seconds


async def fan_out_seconds(store: SqliteStore) -> float:
    """From asking for a write until it is on disk and the last of many watches has it."""
    watches = [store.watch("/watched/", store.revision) for _ in range(WATCHES)]
    others = [store.watch(f"/other/{number}/", store.revision) for number in range(OTHER_WATCHES)]
    ends: list[float] = []

    async def read(number: int) -> None:
        await anext(watches[number])
        ends.append(time.perf_counter())

    readers = [asyncio.ensure_future(read(number)) for number in range(WATCHES)]
    others_reading = [asyncio.ensure_future(anext(watch)) for watch in others]
    await asyncio.sleep(0)
    start = time.perf_counter()
    await store.create(f"/watched/{store.revision}", VALUE)
    await asyncio.gather(*readers)
    for watch in (*watches, *others):
        await watch.aclose()
    await asyncio.gather(*others_reading, return_exceptions=True)
    return max(ends) - start


async def main(folder: Path) -> None:
    store = await SqliteStore.open(folder / "store.db")
    await shared_rate(store)  # the objects are made here, and only updated from now on
    raw, bare, lone, shared = [], [], [], []
    for _ in range(ROUNDS):
        raw.append(raw_rate(folder))
        bare.append(bare_sqlite_rate(folder))
        lone.append(await lone_rate(store))
        shared.append(await shared_rate(store))
    rates = {
        "append + fdatasync": statistics.median(raw),
        "bare SQLite, a transaction a write": statistics.median(bare),
        "store, 1 writer": statistics.median(lone),
        f"store, {WRITERS} writers, {OBJECTS} objects": statistics.median(shared),
    }
    reference, bare_reference = list(rates.values())[:2]
    print(f"{'writes of 1 KB on disk':<42}{'a second':>10}{'x fdatasync':>13}{'x bare SQLite':>15}")
    for name, rate in rates.items():
        print(f"{name:<42}{rate:>10,.0f}{rate / reference:>13.2f}{rate / bare_reference:>15.2f}")
    print()
    times: dict[str, Callable[[SqliteStore], Awaitable[float]]] = {
        f"list of {OBJECTS} objects": list_seconds,
        f"one write to the last of {WATCHES} watches": fan_out_seconds,
    }
    for name, measure in times.items():
        seconds = [await measure(store) for _ in range(20)]
        print(f"{name:<42}{statistics.median(seconds) * 1000:>10.2f} ms")
    await store.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else ".") as folder:
        uvloop.run(main(Path(folder)))
