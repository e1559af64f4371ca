import datetime

import pytest

from buoy.api.duration import age, human_duration

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "<invalid>"),
        (-1.5, "0s"),
        (0, "0s"),
        (119.9, "119s"),
        (2 * MINUTE, "2m"),
        (2 * MINUTE + 39, "2m39s"),
        (9 * MINUTE + 59, "9m59s"),
        (10 * MINUTE, "10m"),
        (179 * MINUTE, "179m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 5 * MINUTE, "3h5m"),
        (8 * HOUR, "8h"),
        (47 * HOUR, "47h"),
        (48 * HOUR, "2d"),
        (2 * DAY + 4 * HOUR, "2d4h"),
        (8 * DAY, "8d"),
        (168 * DAY, "168d"),
        (2 * 365 * DAY, "2y"),
        (2 * 365 * DAY + 3 * DAY, "2y3d"),
        (9 * 365 * DAY + 20 * DAY, "9y"),
    ],
)
def test_human_duration(seconds: float, shown: str) -> None:
    assert human_duration(seconds) == shown


def test_age() -> None:
    now = datetime.datetime(2026, 1, 1, 12, 0, 0, tzinfo=datetime.UTC)
    assert age("2026-01-01T11:57:21Z", now) == "2m39s"
    assert age(None) == "<unknown>"
