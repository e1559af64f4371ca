"""Addresses of DNS servers as people write them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

PORT = 53


class Address(NamedTuple):
    """Where a DNS server is: an IP address in canonical text, and a port."""

    host: str
    port: int = PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read ``ip``, ``ip:port`` or ``[ip]:port``. Raises ValueError."""
    host, port = text, str(PORT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or rest[:1] not in ("", ":"):
            raise ValueError(f"{text!r} is not an address of a DNS server")
        port = rest[1:] if rest else port
    elif text.count(":") == 1:
        host, port = text.split(":")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not an address of a DNS server: the port must be between 1 and 65535")
    try:
        return Address(str(ip_address(host)), int(port))
    except ValueError:
        raise ValueError(f"{text!r} is not an address of a DNS server: not an IP address") from None
