"""The syntax of names, keys and values: what Kubernetes says of a text that breaks it.

Every function returns the faults as sentences, none if the text is good. The sentences and limits are those
of k8s.io/apimachinery's ``util/validation`` and ``api/validate/content``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache

Faults = tuple[str, ...]
Check = Callable[[str], Faults]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_KEY})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_HEADER = "[-A-Za-z0-9]+"
_PERCENT = "[0-9]+%"
_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"

_LABEL_UNDERSCORE = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SEARCH = rf"{_LABEL_UNDERSCORE}(\.{_LABEL_UNDERSCORE})*"

_label_re = re.compile(_LABEL, re.ASCII).fullmatch
_subdomain_re = re.compile(_SUBDOMAIN, re.ASCII).fullmatch
_label_1035_re = re.compile(_LABEL_1035, re.ASCII).fullmatch
_key_re = re.compile(_KEY, re.ASCII).fullmatch
_value_re = re.compile(_VALUE, re.ASCII).fullmatch
_config_key_re = re.compile(_CONFIG_KEY, re.ASCII).fullmatch
_c_identifier_re = re.compile(_C_IDENTIFIER, re.ASCII).fullmatch
_header_re = re.compile(_HEADER, re.ASCII).fullmatch
_percent_re = re.compile(_PERCENT, re.ASCII).fullmatch
_path_re = re.compile(_PATH, re.ASCII).fullmatch
_search_re = re.compile(_SEARCH, re.ASCII).fullmatch
_port_name_re = re.compile("[-a-z0-9]+", re.ASCII).fullmatch


def _pattern_fault(sentence: str, pattern: str, *examples: str) -> str:
    shown = "".join(("" if first else " or ") + f"'{example}', " for first, example in _marked(examples))
    return f"{sentence} ({'e.g. ' if shown else ''}{shown}regex used for validation is '{pattern}')"


def _marked(examples: tuple[str, ...]) -> list[tuple[bool, str]]:
    return [(index == 0, example) for index, example in enumerate(examples)]


def size(text: str) -> int:
    """Length in bytes, as Go counts it."""
    return len(text) if text.isascii() else len(text.encode())


def longer_than(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def between(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


@lru_cache(4096)
def dns_label(text: str) -> Faults:
    """RFC 1123 label."""
    faults: list[str] = []
    if size(text) > 63:
        faults.append(longer_than(63))
    if not _label_re(text):
        if _subdomain_re(text):
            faults.append("must not contain dots")
        else:
            faults.append(
                _pattern_fault(
                    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
                    "and must start and end with an alphanumeric character",
                    _LABEL,
                    "my-name",
                    "123-abc",
                )
            )
    return tuple(faults)


@lru_cache(4096)
def dns_subdomain(text: str) -> Faults:
    """RFC 1123 subdomain."""
    faults: list[str] = []
    if size(text) > 253:
        faults.append(longer_than(253))
    if not _subdomain_re(text):
        faults.append(
            _pattern_fault(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
                "'-' or '.', and must start and end with an alphanumeric character",
                _SUBDOMAIN,
                "example.com",
            )
        )
    return tuple(faults)


@lru_cache(4096)
def dns_1035_label(text: str) -> Faults:
    """RFC 1035 label: an RFC 1123 one that starts with a letter."""
    faults: list[str] = []
    if size(text) > 63:
        faults.append(longer_than(63))
    if not _label_1035_re(text):
        faults.append(
            _pattern_fault(
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
                "start with an alphabetic character, and end with an alphanumeric character",
                _LABEL_1035,
                "my-name",
                "abc-123",
            )
        )
    return tuple(faults)


@lru_cache(4096)
def label_key(text: str) -> Faults:
    """A label key, also called a qualified name: ``[prefix/]name``."""
    faults: list[str] = []
    prefix, slash, name = text.rpartition("/")
    sentence = (
        "must consist of alphanumeric characters, '-', '_' or '.', "
        "and must start and end with an alphanumeric character"
    )
    fault = _pattern_fault(sentence, _KEY, "MyName", "my.name", "123-abc")
    if "/" in prefix:
        return (
            f"a valid label key {fault} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')",
        )
    if slash:
        if not prefix:
            faults.append("prefix part must be non-empty")
        else:
            faults.extend(f"prefix part {each}" for each in dns_subdomain(prefix))
    if not name:
        faults.append("name part must be non-empty")
    elif size(name) > 63:
        faults.append(f"name part {longer_than(63)}")
    if not _key_re(name):
        faults.append(f"name part {fault}")
    return tuple(faults)


@lru_cache(4096)
def domain_prefixed_path(text: str) -> Faults:
    """A domain, a slash and a path, as controllers are named by."""
    domain, slash, path = text.partition("/")
    if not slash or not domain or not path:
        return ('must be a domain-prefixed path (such as "acme.io/foo")',)
    faults = tuple(f"domain name prefix part {each}" for each in dns_subdomain(domain))
    return faults + (() if _path_re(path) else (f"Invalid path (regex used for validation is '{_PATH}')",))


def label_value(text: str) -> Faults:
    faults: list[str] = []
    if size(text) > 63:
        faults.append(longer_than(63))
    if not _value_re(text):
        faults.append(
            _pattern_fault(
                "a valid label must be an empty string or consist of alphanumeric characters, "
                "'-', '_' or '.', and must start and end with an alphanumeric character",
                _VALUE,
                "MyValue",
                "my_value",
                "12345",
            )
        )
    return tuple(faults)


def _no_parent_folder(text: str) -> Faults:
    if text in (".", ".."):
        return (f"must not be '{text}'",)
    if text.startswith(".."):
        return ("must not start with '..'",)
    return ()


@lru_cache(1024)
def config_key(text: str) -> Faults:
    """A key of a ConfigMap or Secret: a file name."""
    faults: list[str] = []
    if size(text) > 253:
        faults.append(longer_than(253))
    if not _config_key_re(text):
        faults.append(
            _pattern_fault(
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                _CONFIG_KEY,
                "key.name",
                "KEY_NAME",
                "key-name",
            )
        )
    return (*faults, *_no_parent_folder(text))


def path_segment(text: str) -> Faults:
    """A name that can stand between slashes: the least that is asked of any."""
    if text in (".", ".."):
        return (f"may not be '{text}'",)
    return tuple(f"may not contain '{each}'" for each in ("/", "%") if each in text)


def environment_name(text: str) -> Faults:
    """The name of an environment variable, by the relaxed rule that is the default since 1.32."""
    if not text:
        return ("environment variable name must be non-empty",)
    if not text.isascii() or not text.isprintable() or "=" in text:
        return (
            "a valid environment variable name must consist only of printable ASCII characters "
            "other than '='",
        )
    return ()


def c_identifier(text: str) -> Faults:
    if _c_identifier_re(text):
        return ()
    sentence = (
        "a valid C identifier must start with alphabetic character or '_', "
        "followed by a string of alphanumeric characters or '_'"
    )
    return (_pattern_fault(sentence, _C_IDENTIFIER, "my_name", "MY_NAME", "MyName"),)


def http_header_name(text: str) -> Faults:
    if _header_re(text):
        return ()
    sentence = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return (_pattern_fault(sentence, _HEADER, "X-Header-Name"),)


def percent(text: str) -> Faults:
    if _percent_re(text):
        return ()
    sentence = "a valid percent string must be a numeric string followed by an ending '%'"
    return (_pattern_fault(sentence, _PERCENT, "1%", "93%"),)


@lru_cache(1024)
def search_domain(text: str) -> Faults:
    """A subdomain for a search list, whose labels may also hold underscores."""
    faults: list[str] = []
    if size(text) > 253:
        faults.append(longer_than(253))
    if not _search_re(text):
        faults.append(
            _pattern_fault(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
                "'_', '-' or '.', and must start and end with an alphanumeric character",
                _SEARCH,
                "example.com",
            )
        )
    return tuple(faults)


def user_or_group(number: int) -> Faults:
    """A numeric user or group."""
    return () if 0 <= number <= 0xFFFFFFFF else (between(0, 0xFFFFFFFF),)


def port_number(port: int) -> Faults:
    return () if 1 <= port <= 65535 else (between(1, 65535),)


@lru_cache(1024)
def port_name(text: str) -> Faults:
    """IANA service name (RFC 6335), lower case only."""
    faults: list[str] = []
    if size(text) > 15:
        faults.append(longer_than(15))
    if not _port_name_re(text):
        faults.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= letter <= "z" for letter in text):
        faults.append("must contain at least one letter (a-z)")
    if "--" in text:
        faults.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        faults.append("must not begin or end with a hyphen")
    return tuple(faults)


_dotted_re = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}", re.ASCII).fullmatch


def port(value: int | str) -> Faults:
    """A port's number or name."""
    return port_name(value) if isinstance(value, str) else port_number(value)


def relative_path(text: str) -> Faults:
    """A path that stays below where it starts."""
    faults = ("must be a relative path",) if text.startswith("/") else ()
    return (*faults, *no_way_up(text))


def no_way_up(text: str) -> Faults:
    return ("must not contain '..'",) if ".." in text.split("/") else ()


def file_path(text: str) -> Faults:
    """A relative path whose first element is not reserved for the atomic writer of volumes."""
    faults = relative_path(text)
    if text.startswith("..") and not text.startswith("../"):
        faults = (*faults, "must not start with '..'")
    return faults


def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, or None if it is none. A zone (``fe80::1%eth0``) is none."""
    if "%" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def host_port(host: str, port: int | str) -> str:
    """``host:port`` as in a URL: the host in brackets if it is an IPv6 address (Go's net.JoinHostPort)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _without_leading_zeros(text: str) -> str | None:
    """An IPv4 address that would be good but for leading zeros; None for anything else."""
    if not _dotted_re(text):
        return None
    plain = ".".join(str(int(part)) for part in text.split("."))
    return plain if plain != text and ip_address(plain) else None


@lru_cache(4096)
def ip(text: str) -> Faults:
    """An IP address, by the strict rule that is the default since 1.36."""
    address = ip_address(text)
    if address is None:
        if _without_leading_zeros(text):
            return ("must not have leading 0s",)
        return ("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return ("must not be an IPv4-mapped IPv6 address",)
    return ()


@lru_cache(1024)
def cidr(text: str) -> Faults:
    """An address and a prefix length, by the strict rule that is the default since 1.36."""
    prefix, slash, length = text.partition("/")
    address = ip_address(_without_leading_zeros(prefix) or prefix)
    if not slash or address is None or not length.isdecimal() or int(length) > address.max_prefixlen:
        return ("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",)
    if _without_leading_zeros(prefix) or str(int(length)) != length:
        return ("must not have leading 0s in IP or prefix length",)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return ("must not have an IPv4-mapped IPv6 address",)
    if int(address) & ((1 << (address.max_prefixlen - int(length))) - 1):
        return ("must not have bits set beyond the prefix length",)
    return ()


@lru_cache(4096)
def ordinary_ip(text: str) -> Faults:
    """An address that somewhere else can answer at: not unspecified, loopback or link-local."""
    address = ip_address(_without_leading_zeros(text) or text)
    if address is None:
        return ("must be a valid IP address",)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified:
        return (f"may not be unspecified ({text})",)
    if address.is_loopback:
        return ("may not be in the loopback range (127.0.0.0/8, ::1/128)",)
    if address.is_link_local:
        return ("may not be in the link-local range (169.254.0.0/16, fe80::/10)",)
    if address in _LINK_LOCAL_MULTICAST[address.version]:
        return ("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",)
    return ()


_LINK_LOCAL_MULTICAST = {
    4: ipaddress.ip_network("224.0.0.0/24"),
    6: ipaddress.ip_network("ff02::/16"),
}


@lru_cache(1024)
def domain_name(text: str) -> Faults:
    """A fully qualified name of at least two segments, with or without the last dot."""
    name = text.removesuffix(".")
    if faults := dns_subdomain(name):
        return (",".join(faults),)
    if "." not in name:
        return ("should be a domain with at least two segments separated by dots",)
    return tuple(",".join(faults) for label in name.split(".") if (faults := dns_label(label)))
