"""The SQLite store against a model of it in a few dictionaries, under random sequences of everything."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from buoy.store import (
    Compacted,
    Event,
    FutureRevision,
    KeyExists,
    KeyNotFound,
    Record,
    RevisionConflict,
    SqliteStore,
)
from buoy.store.memory import MemoryWatch

KEYS = st.sampled_from(["/a/1", "/a/2", "/a/10", "/ab/1", "/b/1"])
PREFIXES = st.sampled_from(["/", "/a", "/a/", "/a/1", "/b/", "/c/"])
VALUES = st.binary(max_size=8)

State = dict[str, Record]


class StoreMachine(RuleBasedStateMachine):
    """*states* is every state that ever was, by revision; the store knows those from *compacted* on."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm"))  # what a sync costs is not the question here
        self.runner = asyncio.Runner()
        self.states: dict[int, State] = {1: {}}
        self.log: list[Event] = []
        self.revision = 1
        self.compacted = 0
        self.watches: list[tuple[MemoryWatch, str, int]] = []

    @initialize()
    def open(self) -> None:
        self.store = self.runner.run(SqliteStore.open(self.folder / "store.db"))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    @property
    def state(self) -> State:
        return self.states[self.revision]

    def note(self, key: str, value: bytes | None) -> int:
        previous = self.state.get(key)
        state = dict(self.state)
        self.revision += 1
        if value is None:
            del state[key]
            kind = "delete"
        else:
            state[key] = Record(key, value, self.revision)
            kind = "update" if previous else "create"
        self.states[self.revision] = state
        self.log.append(Event(kind, key, value, self.revision, previous))  # type: ignore[arg-type]
        return self.revision

    def outcome(self, action, *args):  # type: ignore[no-untyped-def]
        """What *action* gives or raises."""

        async def act():  # type: ignore[no-untyped-def]
            return await action(*args)

        try:
            return self.runner.run(act())
        except (KeyExists, KeyNotFound, RevisionConflict, FutureRevision, Compacted) as error:
            return type(error), *error.args

    @rule(key=KEYS, value=VALUES)
    def create(self, key: str, value: bytes) -> None:
        was = self.state.get(key)
        expected = (KeyExists, was) if was else self.note(key, value)
        assert self.outcome(self.store.create, key, value) == expected

    @rule(key=KEYS, value=VALUES, age=st.sampled_from([0, 0, 0, 1, -1]))
    def update(self, key: str, value: bytes, age: int) -> None:
        was = self.state.get(key)
        revision = was.revision - age if was else 2
        expected = (
            (KeyNotFound, key) if not was else (RevisionConflict, was) if age else self.note(key, value)
        )
        assert self.outcome(self.store.update, key, value, revision) == expected

    @rule(key=KEYS, age=st.sampled_from([None, 0, 0, 1]))
    def delete(self, key: str, age: int | None) -> None:
        was = self.state.get(key)
        revision = was.revision - age if was and age is not None else None
        expected = (KeyNotFound, key) if not was else (RevisionConflict, was) if age else self.note(key, None)
        assert self.outcome(self.store.delete, key, revision) == expected

    @rule(writes=st.lists(st.tuples(KEYS, st.none() | VALUES), min_size=2, max_size=6))
    def write_at_once(self, writes: list[tuple[str, bytes | None]]) -> None:
        """Unconditional deletions and creations in one go are done in the order in which they were asked."""

        async def go() -> list[int | BaseException]:
            return await asyncio.gather(
                *(
                    self.store.delete(key) if value is None else self.store.create(key, value)
                    for key, value in writes
                ),
                return_exceptions=True,
            )

        outcomes = self.runner.run(go())
        done = sorted(
            (outcome, key, value)
            for (key, value), outcome in zip(writes, outcomes, strict=True)
            if isinstance(outcome, int)
        )
        for revision, key, value in done:
            assert (key in self.state) == (value is None)
            assert self.note(key, value) == revision
        # A first write of a key sees what was there before all of them.
        before = self.states[self.revision - len(done)]
        seen: set[str] = set()
        for (key, value), outcome in zip(writes, outcomes, strict=True):
            if key not in seen:
                assert isinstance(outcome, int) == ((key in before) == (value is None))
            seen.add(key)
            if not isinstance(outcome, int):
                assert isinstance(outcome, KeyNotFound if value is None else KeyExists)

    @rule(
        prefix=PREFIXES,
        age=st.none() | st.integers(-1, 12),
        after=st.just("") | KEYS,
        limit=st.integers(0, 3),
    )
    def list(self, prefix: str, age: int | None, after: str, limit: int) -> None:
        revision = None if age is None else max(0, self.revision - age)

        async def go():  # type: ignore[no-untyped-def]
            page = await self.store.list(prefix, revision=revision, after=after, limit=limit)
            return list(page.records), page.revision, page.more, page.remaining

        outcome = self.outcome(go)
        if revision is not None and revision > self.revision:
            assert outcome == (FutureRevision, self.revision)
        elif revision is not None and revision < self.compacted:
            assert outcome == (Compacted, self.compacted)
        else:
            at = self.revision if revision is None else revision
            state = self.states.get(at, {})
            found = [state[key] for key in sorted(state) if key.startswith(prefix) and key > after]
            page = found[:limit] if limit else found
            assert outcome == (page, at, len(page) < len(found), len(found) - len(page))

    @rule(prefix=PREFIXES, age=st.integers(-1, 12))
    def watch(self, prefix: str, age: int) -> None:
        revision = max(0, self.revision - age)

        async def go():  # type: ignore[no-untyped-def]
            return self.store.watch(prefix, revision)

        watch = self.outcome(go)
        if revision > self.revision:
            assert watch == (FutureRevision, self.revision)
        elif revision < self.compacted:
            assert watch == (Compacted, self.compacted)
        else:
            self.watches.append((watch, prefix, revision))

    @precondition(lambda self: self.watches)
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.watches) - 1))
        watch, prefix, revision = self.watches.pop(number)
        expected = [event for event in self.log if event.key.startswith(prefix) and event.revision > revision]

        async def go():  # type: ignore[no-untyped-def]
            events: list[Event] = []
            while watch.revision < self.store.revision:
                batch = await asyncio.wait_for(anext(watch), 5)
                assert batch
                events += batch
            return events

        if expected and expected[0].revision <= self.compacted:
            assert self.outcome(go) == (Compacted, self.compacted)
        else:
            assert self.outcome(go) == expected
            self.watches.append((watch, prefix, self.revision))

    @precondition(lambda self: self.watches)
    @rule()
    def unwatch(self) -> None:
        watch, _, _ = self.watches.pop()
        self.runner.run(watch.aclose())

    @rule(age=st.integers(-1, 10))
    def compact(self, age: int) -> None:
        revision = max(0, self.revision - age)
        outcome = self.outcome(self.store.compact, revision)
        if revision > self.revision:
            assert outcome == (FutureRevision, self.revision)
        else:
            assert outcome is None
            self.compacted = max(self.compacted, revision)

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.open()
        self.watches.clear()

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.store.revision == self.revision
        for key in ("/a/1", "/b/1"):
            assert self.runner.run(self.store.get(key)) == self.state.get(key)


StoreMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestStore = StoreMachine.TestCase
