import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api.allocation import AlreadyAllocated, IPRange, NotInRange, PortRange, RangeFull


@pytest.mark.parametrize(
    ("cidr", "size", "band"),
    [
        ("10.96.0.0/12", 2**20 - 2, 256),
        ("10.96.0.0/24", 254, 16),
        ("10.96.0.0/22", 1022, 64),
        ("10.96.0.0/28", 14, 0),
        ("10.96.0.0/27", 30, 16),
        ("fd00::/120", 255, 16),
        ("fd00::/108", 2**20 - 1, 256),
    ],
)
def test_the_lower_band_is_left_for_explicit_requests(cidr: str, size: int, band: int) -> None:
    pool = IPRange(cidr, rng=random.Random(1))
    assert pool.free == size
    first = int(pool.network.network_address) + 1
    lowest = min(int(ip_number(pool.allocate())) for _ in range(min(200, size - band)))
    assert lowest >= first + band


def ip_number(text: str) -> int:
    import ipaddress

    return int(ipaddress.ip_address(text))


def test_the_lower_band_is_used_when_the_upper_one_is_full() -> None:
    pool = IPRange("10.0.0.0/26", rng=random.Random(2))
    given = [pool.allocate() for _ in range(62)]
    assert len(set(given)) == 62
    assert all(ip_number(address) - ip_number("10.0.0.0") > 16 for address in given[:46])
    assert pool.free == 0
    with pytest.raises(RangeFull, match=r"^range is full$"):
        pool.allocate()
    pool.release("10.0.0.7")
    assert pool.allocate() == "10.0.0.7"


def test_reserve_addresses() -> None:
    pool = IPRange("10.96.0.0/12")
    pool.reserve("10.96.0.1")
    with pytest.raises(AlreadyAllocated, match=r"^provided IP is already allocated$"):
        pool.reserve("10.96.0.1")
    for outside in ("10.0.171.12", "fd00::1", "not an address"):
        with pytest.raises(NotInRange, match=r"^the provided network does not match the current range$"):
            pool.reserve(outside)
    for useless in ("10.96.0.0", "10.111.255.255"):
        with pytest.raises(NotInRange) as error:
            pool.reserve(useless)
        assert str(error.value) == (
            f"the provided IP ({useless}) is not in the valid range. The range of valid IPs is 10.96.0.0/12"
        )
    assert pool.is_used("10.96.0.1")
    assert "10.96.0.1" in pool
    pool.release("10.96.0.1")
    pool.release("192.168.0.1")
    assert not pool.is_used("10.96.0.1")


def test_ports() -> None:
    ports = PortRange(rng=random.Random(3))
    assert ports.free == 2768
    assert min(ports.allocate() for _ in range(500)) >= 30000 + 86
    with pytest.raises(NotInRange) as error:
        ports.reserve(80)
    assert str(error.value) == (
        "provided port is not in the valid range. The range of valid ports is 30000-32767"
    )
    ports.reserve(30001)
    with pytest.raises(AlreadyAllocated, match=r"^provided port is already allocated$"):
        ports.reserve(30001)
    assert ports.rebuild([30001, 30002, 30002, 99]) == [30002, 99]
    assert ports.used == 2


def test_small_port_range_has_no_band() -> None:
    ports = PortRange(30000, 30003)
    assert {ports.allocate() for _ in range(4)} == {30000, 30001, 30002, 30003}
    with pytest.raises(RangeFull):
        ports.allocate()


operations = st.lists(
    st.one_of(
        st.just(("allocate", 0)),
        st.tuples(st.just("reserve"), st.integers(0, 40)),
        st.tuples(st.just("release"), st.integers(0, 40)),
    ),
    max_size=80,
)


@given(operations, st.randoms(use_true_random=False))
def test_nothing_is_ever_used_twice(steps: list[tuple[str, int]], rng: random.Random) -> None:
    pool = IPRange("10.0.0.0/27", rng=rng)
    held: set[str] = set()
    for action, number in steps:
        address = f"10.0.0.{number}"
        if action == "allocate":
            if len(held) == 30:
                with pytest.raises(RangeFull):
                    pool.allocate()
                continue
            address = pool.allocate()
            assert address not in held
            held.add(address)
        elif action == "reserve":
            try:
                pool.reserve(address)
            except AlreadyAllocated:
                assert address in held
            except NotInRange:
                assert not 1 <= number <= 30
            else:
                assert address not in held
                held.add(address)
        else:
            pool.release(address)
            held.discard(address)
        assert pool.used == len(held)
    rebuilt = IPRange("10.0.0.0/27", rng=rng)
    assert rebuilt.rebuild(sorted(held)) == []
    assert all(rebuilt.is_used(address) for address in held)
    assert rebuilt.free == 30 - len(held)
