"""Quantities such as ``100m``, ``1.5Gi``, ``2e3``: parsing, arithmetic's raw material, canonical form.

Follows k8s.io/apimachinery's ``api/resource``: the value is exact, rounded up to nano units, and the
canonical form is the one with the largest suffix that leaves no fraction, in the family that was written.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal
from functools import lru_cache
from typing import Literal, NamedTuple

Family = Literal["DecimalSI", "BinarySI", "DecimalExponent"]

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_NAMES = ("", *_BINARY)
_DECIMAL_NAMES = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_MAX = Decimal(2**63 - 1)
_NANO = Decimal(1).scaleb(-9)
# Wide enough for any text that the length limit below lets through.
_CONTEXT = Context(prec=400, rounding=ROUND_CEILING)
_PATTERN = re.compile(
    r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]+)?", re.ASCII
)
_SHAPE = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)

FORMAT_FAULT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_FAULT = "unable to parse quantity's suffix"
NUMBER_FAULT = "unable to parse numeric part of quantity"


class QuantityError(ValueError):
    """The text is no quantity; the argument is Kubernetes' sentence about it."""


class Quantity(NamedTuple):
    """An exact amount. Compare and add `value`; *family* decides only how it is written."""

    value: Decimal
    family: Family = "DecimalSI"

    def __str__(self) -> str:
        return _canonical(self.value, self.family)


@lru_cache(4096)
def parse(text: str | int | float) -> Quantity:
    """The quantity that *text* writes. Raises QuantityError."""
    text = str(text)
    found = _PATTERN.fullmatch(text)
    if found is None or len(text) > 120:
        shape = _SHAPE.fullmatch(text)
        if shape is None:
            raise QuantityError(FORMAT_FAULT)
        raise QuantityError(SUFFIX_FAULT if shape[1].count(".") < 2 and shape[1] != "." else NUMBER_FAULT)
    sign, number, suffix = found.groups()
    suffix = suffix or ""
    value = Decimal(number)
    family: Family = "DecimalSI"
    if suffix in _BINARY:
        family = "BinarySI"
        value *= 1024 ** _BINARY[suffix]
    elif suffix in _DECIMAL:
        value = value.scaleb(_DECIMAL[suffix], _CONTEXT)
    else:
        family = "DecimalExponent"
        exponent = int(suffix[1:])
        if abs(exponent) > 200:
            raise QuantityError(SUFFIX_FAULT)
        value = value.scaleb(exponent, _CONTEXT)
    # Away from zero, and what is smaller than a nano unit or larger than int64 becomes just that.
    value = min(value.quantize(_NANO, context=_CONTEXT), _MAX)
    if sign == "-":
        value = -value
    if family == "BinarySI" and abs(value) < 1024 and value != value.to_integral_value():
        # Fractions of a byte have no binary suffix.
        family = "DecimalSI"
    return Quantity(value, family)


def value(text: str | int | float) -> Decimal:
    """The exact amount. Raises QuantityError."""
    return parse(text).value


def milli(text: str | int | float) -> int:
    """Thousandths, rounded up: what CPU is counted in. Raises QuantityError."""
    return int((parse(text).value * 1000).to_integral_value(ROUND_CEILING))


def whole(text: str | int | float) -> int:
    """Units, rounded up: what bytes and counts are counted in. Raises QuantityError."""
    return int(parse(text).value.to_integral_value(ROUND_CEILING))


@lru_cache(4096)
def canonical(text: str | int | float) -> str:
    """The one way that Kubernetes writes this amount. Raises QuantityError."""
    return str(parse(text))


def _canonical(amount: Decimal, family: Family) -> str:
    if amount == 0:
        return "0"
    if family == "BinarySI" and amount == amount.to_integral_value():
        number, power = int(amount), 0
        while number % 1024 == 0 and power < 6:
            number, power = number // 1024, power + 1
        return f"{number}{_BINARY_NAMES[power]}"
    digits = int(amount.scaleb(9, _CONTEXT))
    exponent = -9
    while digits % 1000 == 0 and exponent < 18:
        digits, exponent = digits // 1000, exponent + 3
    if family == "DecimalExponent":
        return f"{digits}e{exponent}" if exponent else str(digits)
    return f"{digits}{_DECIMAL_NAMES[exponent]}"
