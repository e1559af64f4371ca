"""The Common Expression Language, by cel-python, with the functions that Kubernetes adds to it.

Imported when the first rule is compiled: most clusters never have one. Types are not checked before a rule
runs; names are. The functions are those of k8s.io/apiserver's ``pkg/cel/library`` and cel-go's strings
extension.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import celpy
import celpy.evaluation
import lark
import re2
from celpy import celtypes
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError

from .. import quantity

_FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, re2.error, RecursionError)


class BadRule(ValueError):
    """Not an expression that can be run; the text says why."""


class Failed(Exception):
    """An expression that has no value for what it was given; the text says why."""


_MACROS = frozenset(("all", "exists", "exists_one", "map", "filter"))
_TYPES = frozenset(
    (
        "bool",
        "bytes",
        "double",
        "duration",
        "int",
        "list",
        "map",
        "null_type",
        "string",
        "timestamp",
        "type",
        "uint",
    )
)


class Maybe:
    """CEL's optional: what ``oldSelf`` is under ``optionalOldSelf``."""

    def __init__(self, *value: Any) -> None:
        self.values = value


def _text(value: Any) -> celtypes.StringType:
    return celtypes.StringType(str(value))


def _truth(value: object) -> celtypes.BoolType:
    return celtypes.BoolType(bool(value))


def _number(value: int) -> celtypes.IntType:
    return celtypes.IntType(value)


def _parses(parse: Callable[[str], object]) -> Callable[[str], celtypes.BoolType]:
    def check(text: str) -> celtypes.BoolType:
        try:
            parse(str(text))
        except ValueError:
            return _truth(False)
        return _truth(True)

    return check


def _split(text: str, separator: str, limit: int = -1) -> celtypes.ListType:
    if limit == 0:
        return celtypes.ListType([])
    parts: Sequence[str] = (
        list(text) if not separator else text.split(separator, limit - 1 if limit > 0 else -1)
    )
    return celtypes.ListType(map(_text, parts))


def _substring(text: str, start: int, end: int | None = None) -> celtypes.StringType:
    stop = len(text) if end is None else int(end)
    if not 0 <= start <= stop <= len(text):
        raise ValueError("index out of range")
    return _text(text[int(start) : stop])


def _char_at(text: str, index: int) -> celtypes.StringType:
    if not 0 <= index <= len(text):
        raise ValueError("index out of range")
    return _text(text[int(index) : int(index) + 1])


def _index(where: Any, what: Any) -> celtypes.IntType:
    if isinstance(where, str):
        return _number(where.find(what))
    return _number(next((place for place, each in enumerate(where) if each == what), -1))


def _last_index(where: Any, what: Any) -> celtypes.IntType:
    if isinstance(where, str):
        return _number(where.rfind(what))
    return _number(max((place for place, each in enumerate(where) if each == what), default=-1))


def _replace(text: str, old: str, new: str, limit: int = -1) -> celtypes.StringType:
    return _text(str(text).replace(old, new, int(limit)))


def _join(parts: Iterable[str], separator: str = "") -> celtypes.StringType:
    return _text(str(separator).join(parts))


def _ascii(change: Callable[[str], str]) -> Callable[[str], celtypes.StringType]:
    return lambda text: _text("".join(change(each) if each.isascii() else each for each in text))


def _sum(values: Sequence[Any]) -> Any:
    total: Any = values[0] if values else _number(0)
    for each in values[1:]:
        total = total + each
    return total


def _is_sorted(values: Sequence[Any]) -> celtypes.BoolType:
    return _truth(all(not each > after for each, after in itertools.pairwise(values)))


def _find(text: str, pattern: str) -> celtypes.StringType:
    found = re2.search(str(pattern), str(text))
    return _text(found[0] if found else "")


def _find_all(text: str, pattern: str, limit: int = -1) -> celtypes.ListType:
    found = [_text(match[0]) for match in re2.finditer(str(pattern), str(text))]
    return celtypes.ListType(found if limit < 0 else found[: int(limit)])


def _contains_ip(network: Any, address: Any) -> celtypes.BoolType:
    return _truth(_ip(str(address)) in network)


def _contains_cidr(network: Any, other: Any) -> celtypes.BoolType:
    inner = _cidr(str(other))
    return _truth(inner.version == network.version and inner.subnet_of(network))


def _ip(text: str) -> Any:
    return ipaddress.ip_address(str(text))


def _cidr(text: str) -> Any:
    if "/" not in text:
        raise ValueError(f"{text!r} is not a CIDR")
    return ipaddress.ip_network(str(text), strict=False)


def _amount(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else quantity.parse(str(value)).value


def _compare(left: Any, right: Any) -> celtypes.IntType:
    first, second = _amount(left), _amount(right)
    return _number((first > second) - (first < second))


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "charAt": _char_at,
    "indexOf": _index,
    "join": _join,
    "lastIndexOf": _last_index,
    "lowerAscii": _ascii(str.lower),
    "replace": _replace,
    "reverse": lambda text: _text(text[::-1]),
    "split": _split,
    "substring": _substring,
    "trim": lambda text: _text(text.strip()),
    "upperAscii": _ascii(str.upper),
    "find": _find,
    "findAll": _find_all,
    "isSorted": _is_sorted,
    "max": max,
    "min": min,
    "sum": _sum,
    "isIP": _parses(_ip),
    "ip": _ip,
    "family": lambda address: _number(address.version),
    "isUnspecified": lambda address: _truth(address.is_unspecified),
    "isLoopback": lambda address: _truth(address.is_loopback),
    "isLinkLocalMulticast": lambda address: _truth(address.is_multicast and address.is_link_local),
    "isLinkLocalUnicast": lambda address: _truth(address.is_link_local),
    "isGlobalUnicast": lambda address: _truth(not (address.is_multicast or address.is_loopback)),
    "isCIDR": _parses(_cidr),
    "cidr": _cidr,
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "prefixLength": lambda network: _number(network.prefixlen),
    "masked": lambda network: network,
    "isQuantity": _parses(quantity.parse),
    "quantity": _amount,
    "isGreaterThan": lambda left, right: _truth(_amount(left) > _amount(right)),
    "isLessThan": lambda left, right: _truth(_amount(left) < _amount(right)),
    "compareTo": _compare,
    "hasValue": lambda maybe: _truth(maybe.values),
    "value": lambda maybe: maybe.values[0],
    "orValue": lambda maybe, other: maybe.values[0] if maybe.values else other,
    "dyn": lambda value: value,
}
_KNOWN = frozenset((*celpy.evaluation.base_functions, *_FUNCTIONS, *_MACROS, *_TYPES, "has"))


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A failure is a value in CEL: ``||`` and ``&&`` may not need it."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except _FAULTS as error:
            return CELEvalError(str(error))

    return call


_GUARDED = {name: _guarded(function) for name, function in _FUNCTIONS.items()}


@lru_cache(1)
def _environment() -> celpy.Environment:
    return celpy.Environment()


@lru_cache(1024)
def program(expression: str) -> celpy.Runner:
    """The compiled expression. Raises BadRule."""
    try:
        tree = _environment().compile(expression)
    except (CELParseError, RecursionError) as error:
        raise BadRule(f"Syntax error: {error}".strip()) from None
    if fault := _unknown(tree):
        raise BadRule(fault)
    return _environment().program(tree, functions=_GUARDED)


def evaluate(expression: str, variables: Mapping[str, Any]) -> Any:
    """Raises Failed."""
    try:
        return program(expression).evaluate(dict(variables))
    except (CELEvalError, *_FAULTS) as error:
        raise Failed(str(error.args[0] if error.args else error)) from None


def _unknown(tree: lark.Tree[Any]) -> str:
    """The first name in an expression that nothing has."""
    bound = {"self", "oldSelf", *_TYPES}
    for call in tree.find_data("member_dot_arg"):
        name = str(call.children[1])
        if name in _MACROS and len(call.children) > 2:
            bound.update(str(each.children[0]) for each in list(call.children[2].find_data("ident"))[:1])
        elif name not in _KNOWN:
            return f"undeclared reference to '{name}'"
    for call in tree.find_data("ident_arg"):
        if str(call.children[0]) not in _KNOWN:
            return f"undeclared reference to '{call.children[0]}'"
    for ident in tree.find_data("ident"):
        if str(ident.children[0]) not in bound:
            return f"undeclared reference to '{ident.children[0]}'"
    return ""
