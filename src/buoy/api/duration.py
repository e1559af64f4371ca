"""Ages as kubectl shows them: ``5s``, ``3m12s``, ``2d4h`` (k8s.io/apimachinery's ``util/duration``)."""

import datetime

from .meta import parse_time


def human_duration(seconds: float) -> str:
    """A span for people: two units at most, and the smaller one only while it still tells something.

    A span more than two seconds below zero is ``<invalid>``: clocks differ a little, not much.
    """
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 8 * 24:
        return _two(days, "d", hours % 24, "h")
    if hours < 2 * 365 * 24:
        return f"{days}d"
    years = days // 365
    if hours < 8 * 365 * 24:
        return _two(years, "y", days % 365, "d")
    return f"{years}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def age(timestamp: str | None, now: datetime.datetime | None = None) -> str:
    """How long ago *timestamp* was; ``<unknown>`` if it is not set."""
    if not timestamp:
        return "<unknown>"
    moment = now or datetime.datetime.now(datetime.UTC)
    return human_duration((moment - parse_time(timestamp)).total_seconds())
