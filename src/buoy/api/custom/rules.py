"""``x-kubernetes-validations``: rules in the Common Expression Language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..meta import Object
from ..status import FieldError
from .schema import Schema


def fault_of(expression: str) -> str:
    """What is wrong with the text of a rule, "" if nothing is."""
    return ""


def check_rules(obj: Object, schema: Schema, old: Any) -> Sequence[FieldError]:
    """The rules of *schema* that *obj* breaks; *old* is what it was before, or MISSING."""
    return ()
