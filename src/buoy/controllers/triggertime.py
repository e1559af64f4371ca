"""When the change happened that an update of endpoints tells of: what latency is measured from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from buoy.api import meta, pods
from buoy.api.meta import Object


@dataclass(slots=True)
class _Seen:
    service: str = ""
    pods: dict[str, str] = field(default_factory=dict)


class TriggerTimes:
    """Remembers, by Service, the times that were known when it was last looked at."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def next(self, service: Object, found: Iterable[Object]) -> str:
        """The earliest time that is new since the last call for this Service, empty if there is none."""
        key = meta.key(service)
        before = self._seen.get(key)
        created = service["metadata"].get("creationTimestamp", "")
        now = _Seen(created, {meta.name(pod): moment for pod in found if (moment := _ready_changed(pod))})
        self._seen[key] = now
        if before is None:
            return str(created)
        changed = [moment for name, moment in now.pods.items() if moment > before.pods.get(name, "")]
        if created > before.service:
            changed.append(created)
        return min(changed, default="")

    def forget(self, key: str) -> None:
        self._seen.pop(key, None)


def _ready_changed(pod: Object) -> str:
    return str((pods.condition(pod, "Ready") or {}).get("lastTransitionTime") or "")
