import pytest

from buoy.api.endpoints import ENDPOINT_SLICE, ENDPOINTS_KIND
from buoy.api.meta import Object

from .kinds import faults, made

IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def test_slice_defaults() -> None:
    slice_ = made(
        ENDPOINT_SLICE, {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{}]}
    )
    assert slice_["ports"] == [{"name": "", "protocol": "TCP"}]
    assert slice_["endpoints"] == [{"addresses": ["10.0.0.1"]}]


def endpoint(**fields: object) -> Object:
    return {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], **fields}]}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (endpoint(), []),
        ({}, ["addressType: Required value"]),
        (
            {"addressType": "IP"},
            ['addressType: Unsupported value: "IP": supported values: "FQDN", "IPv4", "IPv6"'],
        ),
        (endpoint(addresses=[]), ["endpoints[0].addresses: Required value: must contain at least 1 address"]),
        (
            endpoint(addresses=[f"10.0.1.{n}" for n in range(101)]),
            ["endpoints[0].addresses: Too many: 101: must have at most 100 items"],
        ),
        (
            {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}] * 1001},
            ["endpoints: Too many: 1001: must have at most 1000 items"],
        ),
        (endpoint(addresses=["x"]), [f'endpoints[0].addresses[0]: Invalid value: "x": {IP}']),
        (
            endpoint(addresses=["fd00::1"]),
            ['endpoints[0].addresses: Invalid value: "fd00::1": must be an IPv4 address'],
        ),
        (
            {"addressType": "IPv6", "endpoints": [{"addresses": ["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"]}]},
            [
                'endpoints[0].addresses: Invalid value: "10.0.0.1": must be an IPv6 address',
                'endpoints[0].addresses[1]: Invalid value: "::ffff:10.0.0.1": '
                "must not be an IPv4-mapped IPv6 address",
            ],
        ),
        (
            endpoint(addresses=["127.0.0.1"]),
            [
                'endpoints[0].addresses[0]: Invalid value: "127.0.0.1": '
                "may not be in the loopback range (127.0.0.0/8, ::1/128)"
            ],
        ),
        (
            {"addressType": "FQDN", "endpoints": [{"addresses": ["a.example.com", "a"]}]},
            [
                'endpoints[0].addresses[1]: Invalid value: "a": '
                "should be a domain with at least two segments separated by dots"
            ],
        ),
        (
            endpoint(hostname="a.b", nodeName="node-1"),
            ['endpoints[0].hostname: Invalid value: "a.b": must not contain dots'],
        ),
        (
            endpoint(hints={"forZones": [{"name": "a"}, {"name": "a"}]}),
            ['endpoints[0].hints.forZones[1].name: Duplicate value: "a"'],
        ),
        (
            endpoint(hints={"forZones": [{"name": f"z{n}"} for n in range(9)]}),
            ["endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"],
        ),
        (
            {"addressType": "IPv4", "ports": [{"name": "a"}, {"name": "a", "protocol": "X", "port": 70000}]},
            [
                'ports[1].name: Duplicate value: "a"',
                "ports[1].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
                'ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"',
            ],
        ),
    ],
)
def test_slice_faults(obj: Object, expected: list[str]) -> None:
    assert faults(ENDPOINT_SLICE, obj) == expected


def test_the_address_type_stays() -> None:
    old = made(ENDPOINT_SLICE, {"addressType": "IPv4"})
    assert faults(ENDPOINT_SLICE, {"addressType": "IPv6"}, old) == [
        'addressType: Invalid value: "IPv6": field is immutable'
    ]


@pytest.mark.parametrize(
    ("subsets", "expected"),
    [
        ([{"addresses": [{"ip": "10.0.36.160"}], "ports": [{"port": 80}]}], []),
        (
            [{"ports": [{"port": 80}]}],
            ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
        ),
        (
            [{"addresses": [{"ip": ""}]}],
            [
                f'subsets[0].addresses[0].ip: Invalid value: "": {IP}',
                'subsets[0].addresses[0].ip: Invalid value: "": must be a valid IP address',
            ],
        ),
        (
            [{"notReadyAddresses": [{"ip": "10.0.0.1", "hostname": "a.b"}]}],
            ['subsets[0].notReadyAddresses[0].hostname: Invalid value: "a.b": must not contain dots'],
        ),
        (
            [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}, {"port": 0, "name": "b"}]}],
            [
                "subsets[0].ports[0].name: Required value",
                "subsets[0].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
    ],
)
def test_endpoints_faults(subsets: list[Object], expected: list[str]) -> None:
    assert faults(ENDPOINTS_KIND, {"subsets": subsets}) == expected


def addresses(count: int) -> list[Object]:
    return [{"ip": f"10.0.0.{n + 1}"} for n in range(count)]


@pytest.mark.parametrize(
    ("subsets", "shown"),
    [
        ([], "<none>"),
        ([{"addresses": addresses(2), "ports": [{"port": 80}]}], "10.0.0.1:80,10.0.0.2:80"),
        (
            [{"addresses": addresses(5), "ports": [{"port": 80}]}],
            "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...",
        ),
        ([{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}], "[fd00::1]:80"),
        ([{"addresses": addresses(1)}], "10.0.0.1"),
        ([{"notReadyAddresses": addresses(1), "ports": [{"port": 80}]}], ""),
    ],
)
def test_endpoints_column(subsets: list[Object], shown: str) -> None:
    column = next(column for column in ENDPOINTS_KIND.columns if column.name == "Endpoints")
    assert column.value(made(ENDPOINTS_KIND, {"subsets": subsets})) == shown


def test_slice_columns() -> None:
    obj = made(
        ENDPOINT_SLICE,
        {
            "addressType": "IPv4",
            "endpoints": [{"addresses": [f"10.0.0.{n}"]} for n in range(1, 6)],
            "ports": [{"port": 80}, {"name": "any"}],
        },
    )
    cells = [column.value(obj) for column in ENDPOINT_SLICE.columns[:4]]
    assert cells == ["a", "IPv4", "80,any", "10.0.0.1,10.0.0.2,10.0.0.3 + 2 more..."]
    empty = made(ENDPOINT_SLICE, {"addressType": "IPv4"})
    assert [column.value(empty) for column in ENDPOINT_SLICE.columns[2:4]] == ["<unset>", "<unset>"]
