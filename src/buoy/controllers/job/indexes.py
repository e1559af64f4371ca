"""Sets of completion indexes as Jobs write them: ``1,3-5,7``."""

from __future__ import annotations

from collections.abc import Iterable


def parse(text: str | None, completions: int) -> frozenset[int]:
    """The indexes below *completions*. ValueError if *text* is no such list."""
    found: set[int] = set()
    for part in (text or "").split(","):
        if part:
            first, _, last = part.partition("-")
            found.update(range(int(first), min(int(last or first) + 1, completions)))
    return frozenset(found)


def text_of(indexes: Iterable[int]) -> str:
    """Three and more in a row are written as an interval."""
    parts: list[str] = []
    row: list[int] = []
    for index in [*sorted(indexes), None]:
        if row and index != row[-1] + 1:
            parts += [f"{row[0]}-{row[-1]}"] if len(row) > 2 else map(str, row)
            row = []
        if index is not None:
            row.append(index)
    return ",".join(parts)
