"""The LAN of a local cluster, as the kernel has it."""

from __future__ import annotations

import json

import pytest

from buoy.network import lan
from topology import Namespace

pytestmark = pytest.mark.kernel


def test_the_gateway_keeps_its_hardware_address_whoever_comes_and_goes():
    """The machines on the LAN go on sending to the one that they know."""
    gateway = Namespace("gateway")
    try:
        gateway.call(lan.make, ("192.168.1.1/24",), ())

        def address():
            (link,) = json.loads(gateway.run("ip", "-json", "link", "show", lan.BRIDGE))
            return link["address"]

        alone = address()
        gateway.ip(
            "link add machine address 00:00:00:00:00:02 type veth peer name eth0",
            f"link set machine master {lan.BRIDGE} up",
        )
        assert address() == alone
        gateway.ip("link del machine")
        assert address() == alone
    finally:
        gateway.close()
