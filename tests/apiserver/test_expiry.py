import datetime
from typing import Any

import pytest

from buoy.api import KINDS
from buoy.api.resource import CORE_EVENTS
from buoy.apiserver.encoding import Decoded, encode
from buoy.apiserver.expiry import expire, last_seen
from buoy.apiserver.registry import Registry
from buoy.store.sqlite import SqliteStore

NOW = datetime.datetime(2026, 1, 1, 12, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("fields", "seen"),
    [
        ({}, "2026-01-01T10:00:00Z"),
        ({"lastTimestamp": "2026-01-01T11:30:00Z"}, "2026-01-01T11:30:00Z"),
        ({"eventTime": "2026-01-01T11:00:00.500000Z"}, "2026-01-01T11:00:00.500000Z"),
        ({"series": {"lastObservedTime": "2026-01-01T11:59:00.000000Z"}}, "2026-01-01T11:59:00Z"),
    ],
)
def test_last_seen(fields: dict[str, Any], seen: str) -> None:
    event = {"metadata": {"creationTimestamp": "2026-01-01T10:00:00Z"}, **fields}
    assert last_seen(event) == datetime.datetime.fromisoformat(seen)


async def test_only_the_old_go(tmp_path: Any) -> None:
    store = await SqliteStore.open(tmp_path / "store")
    registry = Registry(store, KINDS, Decoded())
    served = registry.served[CORE_EVENTS]
    for name, moment in (("old", "2026-01-01T10:59:59Z"), ("new", "2026-01-01T11:00:01Z")):
        metadata = {"name": name, "namespace": "default", "creationTimestamp": moment}
        await store.create(served.key("default", name), encode({"metadata": metadata}))
    assert await expire(registry, NOW) == 1
    assert [record.key for record in (await store.list(served.prefix)).records] == [
        served.key("default", "new")
    ]
    await store.close()
