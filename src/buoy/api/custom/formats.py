"""The ``format`` of strings and numbers, as far as Kubernetes checks it.

After k8s.io/kube-openapi's ``pkg/validation/strfmt``. A format that is not known is not checked.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

_HOST_LABEL = r"(?!-)[a-zA-Z0-9_-]{1,63}(?<!-)"
_HOSTNAME = re.compile(rf"{_HOST_LABEL}(\.{_HOST_LABEL})*\.?", re.ASCII)
_EMAIL = re.compile(r"[^@\s<>]+@[^@\s<>]+")
_MAC = re.compile(r"(([0-9A-Fa-f]{2}[:-]){5}([0-9A-Fa-f]{2}[:-]){0,2}|([0-9A-Fa-f]{4}\.){2})[0-9A-Fa-f]{2,4}")
_UUID = r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?%s[0-9a-fA-F]{3}-?%s[0-9a-fA-F]{3}-?[0-9a-fA-F]{12}"
_HEX = "[0-9a-fA-F]"
_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_GO_DURATION = re.compile(r"[-+]?((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+|[-+]?0", re.ASCII)
_WORDY_DURATION = re.compile(
    r"(\d+)\s*(ns|nanos?|us|micros?|ms|millis?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)",
    re.ASCII,
)
_HEX_COLOUR = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_RGB_COLOUR = re.compile(r"rgb\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)")


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _uuid(version: str = _HEX, variant: str = _HEX) -> Callable[[str], bool]:
    return _matches(re.compile(_UUID % (version, variant)))


def _date_time(text: str) -> bool:
    return bool(_DATE_TIME.fullmatch(text)) and _parses(datetime.datetime.fromisoformat)(text.upper())


def _cidr(text: str) -> bool:
    return "/" in text and _parses(lambda each: ipaddress.ip_network(each, strict=False))(text)


def _uri(text: str) -> bool:
    return bool(text) and _parses(urlsplit)(text) and bool(urlsplit(text).scheme or text.startswith("/"))


def _rgb(text: str) -> bool:
    found = _RGB_COLOUR.fullmatch(text)
    return found is not None and all(int(part) < 256 for part in found.groups())


_STRINGS: dict[str, Callable[[str], bool]] = {
    "byte": _parses(lambda text: base64.b64decode(text, validate=True)),
    "cidr": _cidr,
    "date": _parses(datetime.date.fromisoformat),
    "date-time": _date_time,
    "datetime": _date_time,
    "duration": lambda text: bool(_GO_DURATION.fullmatch(text) or _WORDY_DURATION.fullmatch(text)),
    "email": _matches(_EMAIL),
    "hexcolor": _matches(_HEX_COLOUR),
    "hostname": lambda text: len(text) < 256 and _HOSTNAME.fullmatch(text) is not None,
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "mac": _matches(_MAC),
    "rgbcolor": _rgb,
    "uri": _uri,
    "uuid": _uuid(),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4", "[89abAB]"),
    "uuid5": _uuid("5", "[89abAB]"),
}
_INTEGERS = {"int32": 31, "int64": 63}


def fits(value: object, format: str) -> bool:
    """Whether *value* has the format, or the format is none that is checked."""
    if isinstance(value, str):
        check = _STRINGS.get(format.lower())
        return check is None or check(value)
    if isinstance(value, int) and format in _INTEGERS:
        limit = 1 << _INTEGERS[format]
        return -limit <= value < limit
    return True
