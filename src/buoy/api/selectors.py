"""Selectors: label selector texts, ``LabelSelector`` objects, field selectors.

Syntax, meaning and error texts are those of k8s.io/apimachinery's ``labels`` and ``fields``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from . import formats
from .meta import Object

Operator = Literal["in", "notin", "=", "==", "!=", "gt", "lt", "exists", "!"]


class SelectorError(ValueError):
    """The selector is malformed; the argument is Kubernetes' sentence about it."""


class Requirement(NamedTuple):
    """One condition on one label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in" | "=" | "==":
                return value is not None and value in self.values
            case "notin" | "!=":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
            case "gt" | "lt":
                number = _integer(value) if value is not None else None
                bound = _integer(self.values[0])
                if number is None or bound is None:
                    return False
                return number > bound if self.operator == "gt" else number < bound

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"
            case "gt":
                return f"{self.key}>{self.values[0]}"
            case "lt":
                return f"{self.key}<{self.values[0]}"
            case _:
                return f"{self.key}{self.operator}{self.values[0]}"


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that must all hold; without any it matches everything."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str]) -> bool:
        if self.nothing:
            return False
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """It matches everything."""
        return not self.requirements and not self.nothing

    def exact(self, key: str) -> str | None:
        """The only value of *key* that can match, or None if it is not pinned down."""
        for requirement in self.requirements:
            if requirement.key == key:
                if requirement.operator in ("=", "==", "in") and len(requirement.values) == 1:
                    return requirement.values[0]
                return None
        return None

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


def from_labels(labels: Mapping[str, str] | None) -> Selector:
    """Each of *labels* must be there with its value (a Service's or node selector); none: everything."""
    if not labels:
        return EVERYTHING
    return Selector(tuple(Requirement(key, "=", (labels[key],)) for key in sorted(labels)))


_OBJECT_OPERATORS: dict[str, Operator] = {
    "In": "in",
    "NotIn": "notin",
    "Exists": "exists",
    "DoesNotExist": "!",
}


def from_object(selector: Object | None) -> Selector:
    """Compile a ``LabelSelector``: None matches nothing, an empty one everything.

    Raises SelectorError for an operator or values that validation would have refused.
    """
    if selector is None:
        return NOTHING
    requirements = list(from_labels(selector.get("matchLabels")).requirements)
    for expression in selector.get("matchExpressions") or ():
        operator = _OBJECT_OPERATORS.get(expression.get("operator", ""))
        if operator is None:
            raise SelectorError(f'"{expression.get("operator", "")}" is not a valid label selector operator')
        values = expression.get("values") or ()
        requirements.append(_requirement(expression.get("key", ""), operator, values))
    requirements.sort(key=lambda requirement: requirement.key)
    return Selector(tuple(requirements))


def from_node_expressions(expressions: Iterable[Object]) -> Selector:
    """Compile a node selector term's ``matchExpressions``, which also know ``Gt`` and ``Lt``.

    Raises SelectorError.
    """
    operators: dict[str, Operator] = {**_OBJECT_OPERATORS, "Gt": "gt", "Lt": "lt"}
    requirements = []
    for expression in expressions:
        operator = operators.get(expression.get("operator", ""))
        if operator is None:
            raise SelectorError(f'"{expression.get("operator", "")}" is not a valid node selector operator')
        values = expression.get("values") or ()
        requirements.append(_requirement(expression.get("key", ""), operator, values))
    return Selector(tuple(requirements))


def parse(text: str) -> Selector:
    """Parse ``a=b,c!=d,e in (f,g),h notin (i),j,!k``. Raises SelectorError."""
    if not text:
        return EVERYTHING
    requirements = sorted(_Parser(text).requirements(), key=lambda requirement: requirement.key)
    return Selector(tuple(requirements))


def format_object(selector: Object | None) -> str:
    """A ``LabelSelector`` as kubectl shows it in the SELECTOR column (``<none>`` if empty or absent)."""
    if selector is None:
        return "<none>"
    try:
        return str(from_object(selector)) or "<none>"
    except SelectorError:
        return "<error>"


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII) else None


def _quote(text: object) -> str:
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _requirement(key: str, operator: Operator, values: Iterable[str]) -> Requirement:
    values = tuple(values)
    faults = []
    if problems := formats.label_key(key):
        faults.append(f"key: Invalid value: {_quote(key)}: {'; '.join(problems)}")
    shown = "[" + ",".join(map(_quote, values)) + "]"
    match operator:
        case "in" | "notin" if not values:
            faults.append(
                f"values: Invalid value: {shown}: for 'in', 'notin' operators, values set can't be empty"
            )
        case "=" | "==" | "!=" if len(values) != 1:
            faults.append(
                f"values: Invalid value: {shown}: exact-match compatibility requires one single value"
            )
        case "exists" | "!" if values:
            faults.append(
                f"values: Invalid value: {shown}: values set must be empty for exists and does not exist"
            )
        case "gt" | "lt":
            if len(values) != 1:
                faults.append(
                    f"values: Invalid value: {shown}: for 'Gt', 'Lt' operators, exactly one value is required"
                )
            faults.extend(
                f"values[{index}]: Invalid value: {_quote(value)}: "
                "for 'Gt', 'Lt' operators, the value must be an integer"
                for index, value in enumerate(values)
                if _integer(value) is None
            )
    for index, value in enumerate(values):
        if problems := formats.label_value(value):
            faults.append(f"values[{index}][{key}]: Invalid value: {_quote(value)}: {'; '.join(problems)}")
    if faults:
        raise SelectorError(faults[0] if len(faults) == 1 else "[" + ", ".join(faults) + "]")
    return Requirement(key, operator, values)


_SPACE = " \t\r\n"
_SYMBOLS = "=!(),><"
_TOKENS: dict[str, str] = {
    word: word for word in (")", ",", "!", "==", "=", ">", "in", "<", "!=", "notin", "(")
}
_BINARY = "in, notin, =, ==, !=, gt, lt"
_WORD = "identifier"
_END = "end"


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while True:
        while position < len(text) and text[position] in _SPACE:
            position += 1
        if position == len(text):
            yield _END, ""
            return
        start = position
        if text[position] in _SYMBOLS:
            # The longest operator that the run of symbols starts with, as Kubernetes' lexer takes it.
            position += 2 if text[position : position + 2] in ("==", "!=") else 1
            yield text[start:position], text[start:position]
        else:
            while position < len(text) and text[position] not in _SPACE and text[position] not in _SYMBOLS:
                position += 1
            word = text[start:position]
            yield _TOKENS.get(word, _WORD), word


class _Parser:
    def __init__(self, text: str) -> None:
        self._items = list(_tokens(text))
        self._position = 0

    def _peek(self) -> tuple[str, str]:
        """The next symbol where a value may stand: ``in`` and ``notin`` are words there."""
        symbol, word = self._items[self._position]
        return (_WORD if symbol in ("in", "notin") else symbol), word

    def _take(self) -> tuple[str, str]:
        item = self._peek()
        self._position = min(self._position + 1, len(self._items) - 1)
        return item

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        while True:
            symbol, word = self._peek()
            if symbol == _END:
                return found
            if symbol not in (_WORD, "!"):
                raise SelectorError(f"found '{word}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._one())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from None
            symbol, word = self._take()
            if symbol == _END:
                return found
            if symbol != ",":
                raise SelectorError(f"found '{word}', expected: ',' or 'end of string'")
            symbol, word = self._peek()
            if symbol not in (_WORD, "!"):
                raise SelectorError(f"found '{word}', expected: identifier after ','")

    def _one(self) -> Requirement:
        symbol, key = self._take()
        negated = symbol == "!"
        if negated:
            symbol, key = self._take()
        if symbol != _WORD:
            raise SelectorError(f"found '{key}', expected: identifier")
        if problems := formats.label_key(key):
            # The nil path of the caller shows in the sentence.
            raise SelectorError(f"<nil>: Invalid value: {_quote(key)}: {'; '.join(problems)}")
        if self._peek()[0] in (_END, ","):
            return Requirement(key, "!" if negated else "exists")
        operator, word = self._items[self._position]
        self._position += operator != _END
        match operator:
            case "in" | "notin":
                return _requirement(key, operator, self._set())
            case "=" | "==" | "!=":
                return _requirement(key, operator, (self._value(),))
            case ">":
                return _requirement(key, "gt", (self._value(),))
            case "<":
                return _requirement(key, "lt", (self._value(),))
        raise SelectorError(f"found '{word}', expected: {_BINARY}")

    def _value(self) -> str:
        if self._peek()[0] in (_END, ","):
            return ""
        symbol, word = self._take()
        if symbol != _WORD:
            raise SelectorError(f"found '{word}', expected: identifier")
        return word

    def _set(self) -> tuple[str, ...]:
        symbol, word = self._take()
        if symbol != "(":
            raise SelectorError(f"found '{word}' expected: '('")
        symbol, word = self._peek()
        if symbol == ")":
            self._take()
            return ("",)
        if symbol not in (_WORD, ","):
            raise SelectorError(f"found '{word}', expected: ',', ')' or identifier")
        values: set[str] = set()
        while True:
            symbol, word = self._take()
            if symbol == _WORD:
                values.add(word)
                symbol, word = self._peek()
                if symbol == ")":
                    break
                if symbol != ",":
                    raise SelectorError(f"found '{word}', expected: ',' or ')'")
            elif symbol == ",":
                if not values:
                    values.add("")
                symbol, _ = self._peek()
                if symbol in (")", ","):
                    values.add("")
                if symbol == ")":
                    break
            else:
                raise SelectorError(f"found '{word}', expected: ',', or identifier")
        self._take()
        return tuple(sorted(values))


class FieldRequirement(NamedTuple):
    """``field=value``, or ``field!=value`` if not *equal*."""

    field: str
    value: str
    equal: bool = True


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Requirements on fields that must all hold."""

    requirements: tuple[FieldRequirement, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.requirements

    def exact(self, field: str) -> str | None:
        """The value that *field* must have, or None."""
        return next((each.value for each in self.requirements if each.equal and each.field == field), None)

    def matches(self, obj: Object, fields: Mapping[str, Callable[[Object], str]]) -> bool:
        """Whether *obj* fits; *fields* gives the value of each field that a selector may name.

        A field that *fields* lacks counts as empty; refuse such selectors beforehand.
        """
        for field, value, equal in self.requirements:
            get = fields.get(field)
            if ((get(obj) if get else "") == value) is not equal:
                return False
        return True

    def __str__(self) -> str:
        return ",".join(
            f"{field}{'=' if equal else '!='}{value}" for field, value, equal in self.requirements
        )


def parse_fields(text: str) -> FieldSelector:
    """Parse ``status.phase=Running,metadata.name!=a``. Raises SelectorError."""
    found = []
    for part in sorted(filter(None, text.split(","))):
        for operator, equal in (("!=", False), ("==", True), ("=", True)):
            pieces = part.split(operator)
            if len(pieces) == 2:
                found.append(FieldRequirement(pieces[0], pieces[1], equal))
                break
        else:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{part}'")
    return FieldSelector(tuple(found))
