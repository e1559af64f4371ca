"""kill -9 in the middle of writing: what was acknowledged is there, and nothing is half there.

Run as a program, this file is the process that gets killed.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from buoy.store import SqliteStore

WRITERS = 20
DELETED = "deleted"


def value(key: str, count: int) -> bytes:
    return f"{key} {count} ".encode().ljust(100 + count * 37 % 3000, b"x") + b"."


async def write(store: SqliteStore, number: int) -> None:
    """Go round some keys; say what is going to be written, and again when it has been."""
    count = store.revision * 10
    while True:
        count += 1
        key = f"/{number}/{count % 5}"
        record = await store.get(key)
        deletes = record is not None and count % 7 == 0
        what = f"{key} {DELETED if deletes else count}\n"
        os.write(1, f"begin 0 {what}".encode())
        if record is None:
            revision = await store.create(key, value(key, count))
        elif deletes:
            revision = await store.delete(key, record.revision)
        else:
            revision = await store.update(key, value(key, count), record.revision)
        os.write(1, f"done {revision} {what}".encode())
        if revision % 400 == 0:
            await store.compact(revision - 100)


async def child(path: str) -> None:
    store = await SqliteStore.open(path)
    os.write(1, b"ready\n")
    await asyncio.gather(*(write(store, number) for number in range(WRITERS)))


def run_and_kill(path: Path, seconds: float) -> list[str]:
    """Let a child write for so long, kill it, and give what it said."""
    process = subprocess.Popen([sys.executable, __file__, path], stdout=subprocess.PIPE)
    assert process.stdout
    try:
        assert process.stdout.readline() == b"ready\n"
        os.set_blocking(process.stdout.fileno(), False)  # read all the time, or a full pipe would stop it
        said = b""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            said += process.stdout.read() or b""
        process.send_signal(signal.SIGKILL)
        process.wait()
        said += process.stdout.read() or b""
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return said.decode().splitlines()


async def test_acknowledged_writes_survive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    written: dict[str, str] = {}  # key → count of its value, or DELETED
    revision = 0
    for _ in range(6):
        under_way: dict[str, str] = {}
        for line in run_and_kill(path, random.uniform(0.03, 0.3)):
            step, at, key, what = line.split()
            revision = max(revision, int(at))
            if step == "begin":
                under_way[key] = what
            else:
                assert under_way.pop(key) == what
                written[key] = what
        store = await SqliteStore.open(path)
        try:
            assert store.revision >= revision
            found = {record.key: record.value for record in (await store.list("/")).records}
        finally:
            await store.close()
        for key, content in found.items():
            assert content == value(key, int(content.split()[1]))
        state = {key: content.decode().split()[1] for key, content in found.items()}
        for key in written.keys() | under_way.keys() | state.keys():
            possible = {written.get(key, DELETED), under_way.get(key, written.get(key, DELETED))}
            assert state.get(key, DELETED) in possible, key
            written[key] = state.get(key, DELETED)
    assert revision > 200


if __name__ == "__main__":
    asyncio.run(child(sys.argv[1]))
