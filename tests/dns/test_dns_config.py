"""The ConfigMap and resolv.conf."""

from __future__ import annotations

import pytest

from buoy.dns import Options
from buoy.dns.address import Address, parse_address
from buoy.dns.config import Config, ConfigError, parse, parse_resolv_conf
from buoy.dns.records import pack
from buoy.dns.wire import AAAA, PTR, A, encode_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", Address("10.0.0.1", 53)),
        ("10.0.0.1:5353", Address("10.0.0.1", 5353)),
        ("fd00::1", Address("fd00::1", 53)),
        ("FD00:0::1", Address("fd00::1", 53)),
        ("[fd00::1]", Address("fd00::1", 53)),
        ("[fd00::1]:5353", Address("fd00::1", 5353)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text) == expected
    assert parse_address(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dns.example.com",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:x",
        "[fd00::1",
        "[fd00::1]5",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address of a DNS server"):
        parse_address(text)


def test_nothing_said() -> None:
    assert parse({}) == Config()


def test_everything_said() -> None:
    assert parse(
        {
            "upstreamNameservers": '["10.0.0.1", "10.0.0.2:5353"]',
            "stubDomains": '{"Corp.example": ["10.0.0.3"], "other.": ["fd00::1", "[fd00::2]:54"]}',
            "hosts": "# ours\n192.0.2.1 One.example two.example\nfd00::1 one.example # too\n",
            "ttl": "30",
            "pods": "disabled",
            "cacheSize": "5",
            "cacheTTL": "60",
            "negativeCacheTTL": "6",
            "serveStale": "0",
            "prefetch": "false",
        }
    ) == Config(
        upstreams=(Address("10.0.0.1"), Address("10.0.0.2", 5353)),
        stubs={
            encode_name("corp.example"): (Address("10.0.0.3"),),
            encode_name("other"): (Address("fd00::1"), Address("fd00::2", 54)),
        },
        hosts={
            encode_name("one.example"): {A: (pack("192.0.2.1"),), AAAA: (pack("fd00::1"),)},
            encode_name("two.example"): {A: (pack("192.0.2.1"),)},
            encode_name("1.2.0.192.in-addr.arpa"): {PTR: (encode_name("one.example"),)},
            encode_name("1." + "0." * 27 + "0.0.d.f.ip6.arpa"): {PTR: (encode_name("one.example"),)},
        },
        ttl=30,
        pods=False,
        cache_size=5,
        cache_ttl=60,
        negative_cache_ttl=6,
        stale=0,
        prefetch=False,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("[]", ()),
        ("10.0.0.1 10.0.0.2\n10.0.0.1", (Address("10.0.0.1"), Address("10.0.0.2"))),
        ("10.0.0.1, [fd00::1]:54", (Address("10.0.0.1"), Address("fd00::1", 54))),
    ],
)
def test_ways_to_write_servers(text: str, expected: tuple[Address, ...]) -> None:
    assert parse({"upstreamNameservers": text}).upstreams == expected
    if expected:
        assert parse({"stubDomains": f"a.b: '{text}'"}).stubs == {encode_name("a.b"): expected}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"upstream": "10.0.0.1"}, "data.upstream: unknown key; there are upstreamNameservers, "),
        (
            {"upstreamNameservers": "dns.example.com"},
            "data.upstreamNameservers: 'dns.example.com' is not an address",
        ),
        ({"stubDomains": "["}, "data.stubDomains: not YAML"),
        ({"stubDomains": "[1]"}, "data.stubDomains: must map domains to lists of servers"),
        ({"stubDomains": "a: []"}, "data.stubDomains: 'a' must have a list of servers"),
        ({"stubDomains": "a..b: [10.0.0.1]"}, "data.stubDomains: '' is not a label of a name"),
        ({"hosts": "192.0.2.1"}, "data.hosts: line 1 must be an IP address and names, is '192.0.2.1'"),
        ({"hosts": "\nx y"}, "data.hosts: line 2 must be an IP address and names, is 'x y'"),
        ({"ttl": "3601"}, "data.ttl: must be a whole number from 0 to 3600, is '3601'"),
        ({"ttl": "-1"}, "data.ttl: must be"),
        ({"ttl": "5s"}, "data.ttl: must be"),
        ({"pods": "verified"}, "data.pods: must be one of insecure, disabled, is 'verified'"),
        ({"prefetch": "yes"}, "data.prefetch: must be one of true, false, is 'yes'"),
    ],
)
def test_what_cannot_be_used(data: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(data)
    assert str(caught.value).startswith(message)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError, match=r"data.ttl: .*; data.pods: "):
        parse({"ttl": "x", "pods": "x"})


def test_resolv_conf() -> None:
    text = """
        nameserver 10.0.0.1   # the first
        search example.com
        nameserver fe80::1%eth0
        ;nameserver 10.0.0.9
        nameserver nonsense
        nameserver
        nameserver 10.0.0.1
    """
    assert parse_resolv_conf(text) == (Address("10.0.0.1"), Address("fe80::1%eth0"))


@pytest.mark.parametrize(
    "changes",
    [
        {"listen": ()},
        {"listen": ("x",)},
        {"http_bind": ("x",)},
        {"cluster_domain": ""},
        {"cluster_domain": "a" * 59},
    ],
)
def test_options_that_cannot_be(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Options("kubeconfig", **changes)  # type: ignore[arg-type]
