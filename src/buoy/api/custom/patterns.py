"""Regular expressions that users write: RE2's, which take no longer than the text is long."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any


class BadPattern(ValueError):
    """Not an expression of RE2; the text says why."""


@lru_cache(2048)
def searcher(pattern: str) -> Callable[[str], Any]:
    """The function that looks for *pattern* in a text. Raises BadPattern."""
    # Needed only once somebody has defined a kind with a pattern.
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        found: Callable[[str], Any] = re2.compile(pattern, options).search
    except re2.error as error:
        text = error.args[0]
        raise BadPattern(text.decode() if isinstance(text, bytes) else str(text)) from None
    return found
