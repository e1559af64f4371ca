"""JSON paths as printer columns and the scale subresource use them: the plain part of kubectl's dialect."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

Step = Callable[[Any], Iterator[Any]]


class BadPath(ValueError):
    """Not a JSON path that is understood; the text says why."""


_TOKEN = re.compile(
    r"""\.\.(?P<deep>[^.\[\]]*)
      | \.(?P<name>(?:\\.|[^.\[\]\\])+)
      | \[\s*'(?P<quoted>(?:\\.|[^'\\])*)'\s*\]
      | \[\s*"(?P<double>(?:\\.|[^"\\])*)"\s*\]
      | \[(?P<index>\s*-?\d+\s*)\]
      | \[(?P<slice>\s*-?\d*\s*:\s*-?\d*\s*)\]
      | \[\s*(?P<all>\*)\s*\]
      | \[\?\((?P<filter>[^()]*)\)\]
    """,
    re.VERBOSE,
)
_FILTER = re.compile(
    r"""\s*@(?P<path>[^\s=!<>~]*?)\s*(?:(?P<operator>==|!=|<=|>=|<|>)\s*(?P<value>.+?))?\s*"""
)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


@lru_cache(1024)
def compile_path(path: str) -> Callable[[Any], list[Any]]:
    """The function that finds all that *path* (``.status.conditions[?(@.type=="Ready")].status``) leads to.

    Raises BadPath.
    """
    steps = list(_steps(path.strip().removeprefix("{").removesuffix("}").removeprefix("$")))

    def find(value: Any) -> list[Any]:
        found = [value]
        for step in steps:
            found = [inner for each in found for inner in step(each)]
        return found

    return find


def _steps(path: str) -> Iterator[Step]:
    position = 0
    if path in ("", "."):
        return
    while position < len(path):
        match = _TOKEN.match(path, position)
        if match is None:
            raise BadPath(f"cannot read {path[position:]!r}")
        position = match.end()
        yield _step(match)


def _step(match: re.Match[str]) -> Step:
    text = match[match.lastgroup or ""]
    match match.lastgroup:
        case "name" if text == "*":
            return _all
        case "name":
            return _field(re.sub(r"\\(.)", r"\1", text))
        case "quoted" | "double":
            return _field(re.sub(r"\\(.)", r"\1", text))
        case "index":
            return _index(int(text))
        case "slice":
            start, stop = (int(each) if each.strip() else None for each in text.split(":"))
            return lambda value: iter(value[start:stop] if isinstance(value, list) else ())
        case "all":
            return _all
        case "filter":
            return _filter(text)
    return _deep(text)


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _index(index: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _all(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _deep(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and (not name or name in value):
            yield value[name] if name else value
        for inner in _all(value):
            yield from step(inner)

    return step


def _filter(text: str) -> Step:
    match = _FILTER.fullmatch(text)
    if match is None:
        raise BadPath(f"unrecognized filter {text!r}")
    inner = compile_path(match["path"])
    if match["operator"] is None:
        return lambda value: (each for each in _all(value) if inner(each))
    try:
        wanted = json.loads(re.sub(r"^'(.*)'$", r'"\1"', match["value"]))
    except ValueError:
        raise BadPath(f"unrecognized value in filter {text!r}") from None
    compare = _COMPARISONS[match["operator"]]

    def holds(found: Any) -> bool:
        try:
            return compare(found, wanted)
        except TypeError:
            return False

    return lambda value: (each for each in _all(value) if any(map(holds, inner(each))))


def show(value: Any) -> str:
    """A value as kubectl prints it in a column of texts."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
