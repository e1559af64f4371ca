"""The server's own configuration: a ConfigMap. Pure.

All keys are optional; what they mean stands at `Config`. ``upstreamNameservers`` and ``stubDomains`` are
written as in the ConfigMap of kube-dns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import yaml

from . import wire
from .address import Address, parse_address
from .records import Records, pack
from .wire import AAAA, PTR, A

_T = TypeVar("_T")


class ConfigError(ValueError):
    """The ConfigMap cannot be used; the text says why, all of it."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the ConfigMap says; each field is a key of it.

    - ``upstreamNameservers`` *upstreams*: who is asked for names outside the cluster, in this order: ``ip``
      or ``ip:port``, as a JSON list or with spaces between. Missing (None): those of the node's resolv.conf;
      empty: nobody.
    - ``stubDomains`` *stubs*: a YAML or JSON map from a domain to its own servers, written like the above.
    - ``hosts`` *hosts*: lines as in hosts(5), answered before anybody is asked.
    - ``ttl``: of the cluster's records, seconds, 0 to 3600.
    - ``pods``: ``insecure`` (every ``a-b-c-d.<namespace>.pod`` name is an address) or ``disabled``.
    - ``cacheSize``: how many answers of others are kept; 0: none.
    - ``cacheTTL``, ``negativeCacheTTL``: for how many seconds at most.
    - ``serveStale`` *stale*: for how many seconds an answer outlives its TTL while no server can be asked.
    - ``prefetch``: whether a popular answer is asked for anew shortly before it expires.
    """

    upstreams: tuple[Address, ...] | None = None
    stubs: Mapping[bytes, tuple[Address, ...]] = field(default_factory=dict)
    hosts: Mapping[bytes, Records] = field(default_factory=dict)
    ttl: int = 5
    pods: bool = True
    cache_size: int = 10_000
    cache_ttl: int = 3600
    negative_cache_ttl: int = 300
    stale: int = 3600
    prefetch: bool = True


def parse(data: Mapping[str, str]) -> Config:
    """Read the ``data`` of the ConfigMap. Raises ConfigError, which names every wrong key."""
    known: dict[str, tuple[str, Callable[[str], Any]]] = {
        "upstreamNameservers": ("upstreams", _servers),
        "stubDomains": ("stubs", _stubs),
        "hosts": ("hosts", parse_hosts),
        "ttl": ("ttl", _number(3600)),
        "pods": ("pods", _choice({"insecure": True, "disabled": False})),
        "cacheSize": ("cache_size", _number(10_000_000)),
        "cacheTTL": ("cache_ttl", _number(86_400)),
        "negativeCacheTTL": ("negative_cache_ttl", _number(86_400)),
        "serveStale": ("stale", _number(604_800)),
        "prefetch": ("prefetch", _choice({"true": True, "false": False})),
    }
    values: dict[str, Any] = {}
    problems: list[str] = []
    for key, text in data.items():
        if key not in known:
            problems.append(f"data.{key}: unknown key; there are {', '.join(known)}")
            continue
        name, read = known[key]
        try:
            values[name] = read(text)
        except ValueError as error:
            problems.append(f"data.{key}: {error}")
    if problems:
        raise ConfigError("; ".join(problems))
    return Config(**values)


def parse_resolv_conf(text: str) -> tuple[Address, ...]:
    """The name servers of a resolv.conf(5). Lines that make no sense are passed over, as in the C library."""
    servers = []
    for line in text.splitlines():
        words = re.split(r"[#;]", line, maxsplit=1)[0].split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                servers.append(Address(parse_address(f"[{words[1]}]").host))
            except ValueError:
                continue
    return tuple(dict.fromkeys(servers))


def parse_hosts(text: str) -> dict[bytes, Records]:
    """Names and reverse names of hosts(5) lines. Raises ValueError."""
    records: dict[bytes, dict[int, dict[bytes, None]]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        address, names = pack(words[0]), [wire.encode_name(word) for word in words[1:]]
        if not address or not names:
            raise ValueError(f"line {number} must be an IP address and names, is {line.strip()!r}")
        for name in names:
            records.setdefault(name, {}).setdefault(A if len(address) == 4 else AAAA, {})[address] = None
        records.setdefault(wire.reverse_name(address), {}).setdefault(PTR, {})[names[0]] = None
    return {name: {kind: tuple(data) for kind, data in by_type.items()} for name, by_type in records.items()}


def _servers(text: str) -> tuple[Address, ...]:
    try:
        words = msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        words = text.replace(",", " ").split()
    return tuple(dict.fromkeys(parse_address(word) for word in words))


def _stubs(text: str) -> dict[bytes, tuple[Address, ...]]:
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError("must map domains to lists of servers")
    stubs = {}
    for domain, servers in content.items():
        if isinstance(servers, str):
            servers = servers.replace(",", " ").split()
        if not isinstance(domain, str) or not isinstance(servers, list) or not servers:
            raise ValueError(f"{domain!r} must have a list of servers")
        stubs[wire.encode_name(domain)] = tuple(dict.fromkeys(parse_address(str(one)) for one in servers))
    return stubs


def _number(most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        text = text.strip()
        if not (text.isascii() and text.isdigit()) or int(text) > most:
            raise ValueError(f"must be a whole number from 0 to {most}, is {text!r}")
        return int(text)

    return read


def _choice(choices: Mapping[str, _T]) -> Callable[[str], _T]:
    def read(text: str) -> _T:
        try:
            return choices[text.strip()]
        except KeyError:
            raise ValueError(f"must be one of {', '.join(choices)}, is {text.strip()!r}") from None

    return read
