"""Schedules of CronJobs: five fields, or a word that begins with ``@``.

The syntax, its faults and the meaning at changes of summer time are those of the library that Kubernetes uses
(github.com/robfig/cron v3, ``ParseStandard``).
"""

from __future__ import annotations

import datetime
import functools
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_YEARS = 5  # after which there is no next time
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY = "@every "
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")


class ScheduleError(ValueError):
    """The text is no schedule; the message says why."""


@dataclass(frozen=True, slots=True)
class _Field:
    low: int
    high: int
    names: Mapping[str, int]

    def number(self, text: str) -> int:
        if text.lower() in self.names:
            return self.names[text.lower()]
        if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
            raise ScheduleError(
                f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax'
            )
        number = int(text)
        if number < 0:
            raise ScheduleError(f"negative number ({number}) not allowed: {text}")
        return number

    def values(self, text: str) -> tuple[frozenset[int], bool]:
        """The numbers that a comma-separated list stands for, and whether it is a star."""
        parts = [self._part(part) for part in text.split(",") if part]
        return frozenset().union(*(found for found, _ in parts)), any(star for _, star in parts)

    def _part(self, text: str) -> tuple[frozenset[int], bool]:
        span, *steps = text.split("/")
        first, *lasts = span.split("-")
        star = first in ("*", "?")
        if star:
            low, high = self.low, self.high
        else:
            low = self.number(first)
            if len(lasts) > 1:
                raise ScheduleError(f"too many hyphens: {text}")
            high = self.number(lasts[0]) if lasts else low
        if len(steps) > 1:
            raise ScheduleError(f"too many slashes: {text}")
        step = self.number(steps[0]) if steps else 1
        if steps and not lasts:
            high = self.high
        if low < self.low:
            raise ScheduleError(f"beginning of range ({low}) below minimum ({self.low}): {text}")
        if high > self.high:
            raise ScheduleError(f"end of range ({high}) above maximum ({self.high}): {text}")
        if low > high:
            raise ScheduleError(f"beginning of range ({low}) beyond end of range ({high}): {text}")
        if step == 0:
            raise ScheduleError(f"step of range should be a positive number: {text}")
        return frozenset(range(low, high + 1, step)), star and step == 1


_FIELDS = (
    _Field(0, 59, {}),
    _Field(0, 23, {}),
    _Field(1, 31, {}),
    _Field(1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Field(0, 6, {name: number for number, name in enumerate(_DAYS)}),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """*day* decides by day of the month and of the week (0 is Sunday). *every*: a fixed interval instead."""

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    day: Callable[[int, int], bool] = lambda month_day, week_day: True
    every: datetime.timedelta | None = None

    def next(self, after: datetime.datetime, zone: datetime.tzinfo) -> datetime.datetime | None:
        """The first time after *after*, in UTC; None if there is none within five years.

        Clocks that are put forward pass over what is scheduled in the hour that is missing; put back, they
        come to it twice.
        """
        if self.every is not None:
            return after.replace(microsecond=0) + self.every
        moment = after.astimezone(datetime.UTC).replace(second=0, microsecond=0) + _MINUTE
        end = moment + datetime.timedelta(days=366 * _YEARS)
        while moment < end:
            local = moment.astimezone(zone)
            if local.month not in self.months or not self.day(local.day, local.isoweekday() % 7):
                tomorrow = local.date() + datetime.timedelta(days=1)
                midnight = datetime.datetime.combine(tomorrow, datetime.time(), zone)
                moment = max(midnight.astimezone(datetime.UTC), moment + _MINUTE)
            elif local.hour not in self.hours:
                moment += (60 - local.minute) * _MINUTE
            elif local.minute not in self.minutes:
                moment += _MINUTE
            else:
                return moment
        return None


_MINUTE = datetime.timedelta(minutes=1)


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Schedule:
    """Raises ScheduleError."""
    if not text:
        raise ScheduleError("empty spec string")
    if text.startswith("@"):
        return _descriptor(text)
    words = text.split()
    if len(words) != len(_FIELDS):
        raise ScheduleError(
            f"expected exactly {len(_FIELDS)} fields, found {len(words)}: [{' '.join(words)}]"
        )
    (minutes, _), (hours, _), (month_days, any_day), (months, _), (week_days, any_week_day) = (
        field.values(word) for field, word in zip(_FIELDS, words, strict=True)
    )

    def day(month_day: int, week_day: int) -> bool:
        """If both are restricted, either will do."""
        fits = month_day in month_days, week_day in week_days
        return all(fits) if any_day or any_week_day else any(fits)

    return Schedule(minutes, hours, months, day)


def _descriptor(text: str) -> Schedule:
    if text in _WORDS:
        return parse(_WORDS[text])
    if not text.startswith(_EVERY):
        raise ScheduleError(f"unrecognized descriptor: {text}")
    duration = text.removeprefix(_EVERY)
    found = _DURATION.findall(duration)
    if not found or "".join(number + unit for number, unit in found) != duration:
        raise ScheduleError(f'failed to parse duration {text}: time: invalid duration "{duration}"')
    seconds = int(sum(float(number) * _UNITS[unit] for number, unit in found))
    return Schedule(every=datetime.timedelta(seconds=max(1, seconds)))


@functools.lru_cache(maxsize=256)
def zone(name: str | None) -> datetime.tzinfo:
    """The time zone of that name, UTC without one. ScheduleError if nobody knows it."""
    try:
        return zoneinfo.ZoneInfo(name) if name else datetime.UTC
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(f"unknown time zone {name}") from error
