from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api.quantity import QuantityError, canonical, milli, parse, value, whole


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0", "0"),
        ("100m", "100m"),
        ("0.1", "100m"),
        ("1000m", "1"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("2E", "2E"),
        ("1e3", "1e3"),
        ("1000e-3", "1"),
        ("12e6", "12e6"),
        ("1Gi", "1Gi"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("0.1Ki", "102400m"),
        ("123456Ki", "123456Ki"),
        ("128974848", "128974848"),
        ("-5k", "-5k"),
        ("+3", "3"),
        (".5", "500m"),
        ("5.", "5"),
        ("0.0001n", "1n"),
        ("1u", "1u"),
        (2, "2"),
        (0.5, "500m"),
    ],
)
def test_canonical_form(text: str, shown: str) -> None:
    assert canonical(text) == shown
    assert canonical(shown) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "quantities must match the regular expression"),
        ("one", "quantities must match the regular expression"),
        ("1 Gi", "quantities must match the regular expression"),
        ("1Gb", "quantities must match the regular expression"),
        ("10ki", "unable to parse quantity's suffix"),
        ("1MM", "unable to parse quantity's suffix"),
        ("1.2.3", "unable to parse numeric part of quantity"),
    ],
)
def test_what_is_no_quantity(text: str, message: str) -> None:
    with pytest.raises(QuantityError, match=message):
        parse(text)


def test_units() -> None:
    assert milli("1.2345") == 1235
    assert whole("100m") == 1
    assert whole("1Ki") == 1024
    assert value("100m") < value("0.2") < value("1Ki")


suffixes = st.sampled_from(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e2", "E-3"])


@given(st.integers(-(10**6), 10**6), suffixes)
def test_the_canonical_form_keeps_the_value(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    assert value(canonical(text)) == value(text)
    assert canonical(canonical(text)) == canonical(text)


@given(st.decimals(-1000, 1000, places=12), suffixes)
def test_what_is_finer_than_nano_is_rounded_away_from_zero(number: Decimal, suffix: str) -> None:
    exact = Decimal(f"{number:f}")
    rounded = value(f"{number:f}")
    assert abs(rounded) >= abs(exact)
    assert abs(rounded - exact) < Decimal("1e-9")
