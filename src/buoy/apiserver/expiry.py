"""Events do not stay: what happened an hour ago is forgotten, as by upstream's ``--event-ttl``."""

from __future__ import annotations

import asyncio
import datetime

from buoy.api.meta import Object, parse_time
from buoy.api.resource import CORE_EVENTS
from buoy.store import KeyNotFound, RevisionConflict

from .registry import Registry

LIFETIME = datetime.timedelta(hours=1)
_SECONDS_BETWEEN = 60.0
_AT_ONCE = 100


def last_seen(event: Object) -> datetime.datetime:
    """When an Event last told something new."""
    moments = (
        event["metadata"].get("creationTimestamp"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        (event.get("series") or {}).get("lastObservedTime"),
    )
    return max(parse_time(moment) for moment in moments if moment)


async def expire(registry: Registry, now: datetime.datetime) -> int:
    """Delete the Events that were old at *now*; how many they were."""
    page = await registry.page(registry.served[CORE_EVENTS], "")
    old = [record for record in page.records if now - last_seen(registry.decoded.get(record)) > LIFETIME]
    for start in range(0, len(old), _AT_ONCE):
        results = await asyncio.gather(
            *(registry.store.delete(record.key, record.revision) for record in old[start : start + _AT_ONCE]),
            return_exceptions=True,
        )
        for result in results:
            # Seen again, or deleted, in the meantime: then it is not this one's to delete.
            if isinstance(result, BaseException) and not isinstance(result, (KeyNotFound, RevisionConflict)):
                raise result
    return len(old)


async def expire_forever(registry: Registry) -> None:
    while True:
        await asyncio.sleep(_SECONDS_BETWEEN)
        await expire(registry, datetime.datetime.now(datetime.UTC))
