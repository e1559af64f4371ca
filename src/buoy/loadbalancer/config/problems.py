"""Faults of a configuration, each with the object and the field that it is in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from buoy.api.status import FieldError, invalid


class Problem(NamedTuple):
    """A fault: *kind* and *name* are of the object, *field* is a path in it, *message* what is wrong."""

    kind: str
    name: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.field}: {self.message}"


class Path(NamedTuple):
    """Where a declaration stands in its object: at *prefix*, and *in_file* with a ConfigMap's names."""

    prefix: str = "spec"
    in_file: bool = False

    def of(self, error: FieldError) -> str:
        """The field of *error*, whose path is that of a custom resource."""
        if not error.path.startswith("spec"):
            return error.path
        rest = error.path.removeprefix("spec")
        if self.in_file:
            rest = ".".join(map(file_name, rest.split(".")))
        return self.prefix + rest


SPEC = Path()
"""In a custom resource."""


@dataclass(slots=True)
class Problems:
    """Collects the faults of one form."""

    found: list[Problem] = field(default_factory=list)

    def add(self, kind: str, name: str, path: Path, errors: Iterable[FieldError]) -> None:
        for error in errors:
            self.found.append(Problem(kind, name, path.of(error), error.detail))

    def __bool__(self) -> bool:
        return bool(self.found)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.found)


_IN_FILES = {"ebgpMultiHop": "ebgp-multihop", "localPref": "localpref", "avoidBuggyIPs": "avoid-buggy-ips"}
_ACRONYM = re.compile(r"(?<=[a-z])(ASN|ID)\b")
_WORD = re.compile(r"(?<=[a-z])([A-Z])")


def file_name(part: str) -> str:
    """A field's name as the ConfigMap writes it: with dashes."""
    name, bracket, rest = part.partition("[")
    words = _ACRONYM.sub(lambda match: match[1].capitalize(), name)
    name = _IN_FILES.get(name) or _WORD.sub(lambda match: f"-{match[1].lower()}", words)
    return name + bracket + rest


def misshapen(error: msgspec.ValidationError, root: str = "spec") -> FieldError:
    """What msgspec says of a value of the wrong type below *root*, as a fault of a field."""
    message, _, place = str(error).partition(" - at `$")
    path = (root + place.rstrip("`")).lstrip(".")
    if missing := re.fullmatch(r"Object missing required field `(.+)`", message):
        return FieldError("FieldValueRequired", ".".join(filter(None, (path, missing[1]))), "Required value")
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", message):
        return FieldError("FieldValueInvalid", ".".join(filter(None, (path, unknown[1]))), "unknown field")
    return FieldError("FieldValueTypeInvalid", path, message)


def overlong(path: str, value: object, low: int, high: int) -> FieldError:
    """*value* is not within *low* and *high*."""
    return invalid(path, value, f"must be between {low} and {high}, inclusive")
