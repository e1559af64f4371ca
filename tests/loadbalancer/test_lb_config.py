"""Configurations in all three forms: what they come to, and each fault with its field."""

from __future__ import annotations

import base64
from ipaddress import ip_address

import pytest

from buoy.loadbalancer.config import Sources, read
from buoy.loadbalancer.model import Range


def custom(kind, name="one", labels=None, **spec):
    metadata = {"name": name, "namespace": "metallb-system", "labels": labels or {}}
    return {"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": metadata, "spec": spec}


def pool(name="one", *addresses, **spec):
    return custom("IPAddressPool", name, addresses=list(addresses or ("10.0.0.0/24",)), **spec)


def peer(name="one", **spec):
    return custom("BGPPeer", name, **{"myASN": 64500, "peerASN": 64501, "peerAddress": "10.1.0.1", **spec})


def config_map(text):
    return {"metadata": {"name": "config", "namespace": "metallb-system"}, "data": {"config": text}}


def eip(name="one", address="10.0.0.0/24", annotations=None, **spec):
    metadata = {"name": name, "annotations": annotations or {}}
    return {"metadata": metadata, "spec": {"address": address, **spec}}


def span(first, last):
    return Range(int(ip_address(first)), int(ip_address(last)))


def secret(kind="kubernetes.io/basic-auth", **data):
    return {
        "type": kind,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


PROFILE = custom("BFDProfile", "fast", receiveInterval=50)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        # bad addresses
        ({"pools": [pool("one", "10.0.0.0/33")]}, ["IPAddressPool one: spec.addresses[0]"]),
        ({"pools": [pool("one", "10.0.0.1")]}, ["IPAddressPool one: spec.addresses[0]"]),
        (
            {"pools": [pool("one", "10.0.0.0/24", "10.1.0.9-10.1.0.1")]},
            ["IPAddressPool one: spec.addresses[1]"],
        ),
        ({"pools": [pool("one", "10.1.0.9-fd00::1")]}, ["IPAddressPool one: spec.addresses[0]"]),
        ({"pools": [custom("IPAddressPool", addresses=[])]}, ["IPAddressPool one: spec.addresses"]),
        ({"pools": [custom("IPAddressPool")]}, ["IPAddressPool one: spec.addresses"]),
        (
            {"pools": [custom("IPAddressPool", addresses="10.0.0.0/24")]},
            ["IPAddressPool one: spec.addresses"],
        ),
        # overlap, within a pool and between two
        (
            {"pools": [pool("one", "10.0.0.0/24", "10.0.0.7-10.0.1.7")]},
            ["IPAddressPool one: spec.addresses[1]"],
        ),
        (
            {"pools": [pool("one"), pool("two", "10.0.0.255-10.0.1.9")]},
            ["IPAddressPool two: spec.addresses[0]"],
        ),
        (
            {"pools": [pool("one", "fd00::/64"), pool("two", "fd00::/120")]},
            ["IPAddressPool two: spec.addresses[0]"],
        ),
        # who a pool is for
        (
            {"pools": [pool("one", serviceAllocation={"priority": -1})]},
            ["IPAddressPool one: spec.serviceAllocation.priority"],
        ),
        (
            {
                "pools": [
                    pool(
                        "one",
                        serviceAllocation={
                            "serviceSelectors": [{"matchExpressions": [{"key": "a", "operator": "Like"}]}]
                        },
                    )
                ]
            },
            ["IPAddressPool one: spec.serviceAllocation.serviceSelectors[0]"],
        ),
        # layer 2
        (
            {"l2_advertisements": [custom("L2Advertisement", interfaces=["eth0", "eth0"])]},
            ["L2Advertisement one: spec.interfaces[1]"],
        ),
        (
            {
                "l2_advertisements": [
                    custom("L2Advertisement", preferredNodeSelectors=[{"weight": 101, "preference": {}}])
                ]
            },
            ["L2Advertisement one: spec.preferredNodeSelectors[0].weight"],
        ),
        # BFD
        (
            {"bfd_profiles": [custom("BFDProfile", receiveInterval=9)]},
            ["BFDProfile one: spec.receiveInterval"],
        ),
        (
            {"bfd_profiles": [custom("BFDProfile", detectMultiplier=1)]},
            ["BFDProfile one: spec.detectMultiplier"],
        ),
        ({"bfd_profiles": [custom("BFDProfile", minimumTtl=255)]}, ["BFDProfile one: spec.minimumTtl"]),
        ({"peers": [peer(bfdProfile="fast")]}, ["BGPPeer one: spec.bfdProfile"]),
        # peers
        ({"peers": [peer(peerAddress="")]}, ["BGPPeer one: spec.peerAddress"]),
        ({"peers": [peer(interface="eth0")]}, ["BGPPeer one: spec.interface"]),
        ({"peers": [peer(peerAddress="router")]}, ["BGPPeer one: spec.peerAddress"]),
        ({"peers": [peer(sourceAddress="10.1.0.300")]}, ["BGPPeer one: spec.sourceAddress"]),
        ({"peers": [peer(peerASN=0)]}, ["BGPPeer one: spec.peerASN"]),
        ({"peers": [peer(dynamicASN="external")]}, ["BGPPeer one: spec.dynamicASN"]),
        ({"peers": [peer(peerASN=0, dynamicASN="other")]}, ["BGPPeer one: spec.dynamicASN"]),
        ({"peers": [peer(myASN=0)]}, ["BGPPeer one: spec.myASN"]),
        ({"peers": [peer(holdTime="2s")]}, ["BGPPeer one: spec.holdTime"]),
        ({"peers": [peer(holdTime="soon")]}, ["BGPPeer one: spec.holdTime"]),
        ({"peers": [peer(keepaliveTime="2s")]}, ["BGPPeer one: spec.holdTime"]),
        ({"peers": [peer(holdTime="9s", keepaliveTime="9s")]}, ["BGPPeer one: spec.keepaliveTime"]),
        ({"peers": [peer(connectTime="1500ms")]}, ["BGPPeer one: spec.connectTime"]),
        ({"peers": [peer(peerPort=16385)]}, ["BGPPeer one: spec.peerPort"]),
        ({"peers": [peer(peerASN=64500, ebgpMultiHop=True)]}, ["BGPPeer one: spec.ebgpMultiHop"]),
        ({"peers": [peer(routerID="fd00::1")]}, ["BGPPeer one: spec.routerID"]),
        ({"peers": [peer(), peer("two", peerAddress="10.1.0.2", myASN=7)]}, ["BGPPeer two: spec.myASN"]),
        (
            {"peers": [peer(routerID="1.1.1.1"), peer("two", peerAddress="10.1.0.2", routerID="1.1.1.2")]},
            ["BGPPeer two: spec.routerID"],
        ),
        ({"peers": [peer(), peer("two")]}, ["BGPPeer two: spec.peerAddress"]),
        # passwords
        (
            {
                "peers": [peer(password="a", passwordSecret={"name": "bgp"})],
                "secrets": {"bgp": secret(password="b")},
            },
            ["BGPPeer one: spec.passwordSecret"],
        ),
        ({"peers": [peer(passwordSecret={"name": "bgp"})]}, ["BGPPeer one: spec.passwordSecret.name"]),
        ({"peers": [peer(password="two words")]}, ["BGPPeer one: spec.password"]),
        (
            {
                "peers": [peer(passwordSecret={"name": "bgp"})],
                "secrets": {"bgp": secret(password="two words")},
            },
            ["BGPPeer one: spec.passwordSecret"],
        ),
        (
            {
                "peers": [peer(passwordSecret={"name": "bgp"})],
                "secrets": {"bgp": secret("Opaque", password="b")},
            },
            ["BGPPeer one: spec.passwordSecret.name"],
        ),
        (
            {"peers": [peer(passwordSecret={"name": "bgp"})], "secrets": {"bgp": secret(username="b")}},
            ["BGPPeer one: spec.passwordSecret.name"],
        ),
        # BGP advertisements
        (
            {
                "pools": [pool("one", "10.0.0.0/26")],
                "bgp_advertisements": [custom("BGPAdvertisement", aggregationLength=24)],
            },
            ["BGPAdvertisement one: spec.aggregationLength"],
        ),
        (
            {
                "pools": [pool("one", "fd00::/120")],
                "bgp_advertisements": [custom("BGPAdvertisement", aggregationLengthV6=64)],
            },
            ["BGPAdvertisement one: spec.aggregationLengthV6"],
        ),
        (
            {"bgp_advertisements": [custom("BGPAdvertisement", aggregationLength=33)]},
            ["BGPAdvertisement one: spec.aggregationLength"],
        ),
        (
            {
                "pools": [pool()],
                "peers": [peer()],
                "bgp_advertisements": [
                    custom("BGPAdvertisement", localPref=100),
                    custom("BGPAdvertisement", "two", localPref=200),
                ],
            },
            ["BGPAdvertisement two: spec.localPref"],
        ),
        (
            {"bgp_advertisements": [custom("BGPAdvertisement", communities=["1:2", "nobody"])]},
            ["BGPAdvertisement one: spec.communities[1]"],
        ),
        (
            {"bgp_advertisements": [custom("BGPAdvertisement", communities=["1:65536"])]},
            ["BGPAdvertisement one: spec.communities[0]"],
        ),
        (
            {
                "bgp_advertisements": [
                    custom(
                        "BGPAdvertisement",
                        aggregationLength=24,
                        serviceSelectors=[{"matchLabels": {"a": "b"}}],
                    )
                ]
            },
            ["BGPAdvertisement one: spec.serviceSelectors"],
        ),
        (
            {
                "pools": [pool("six", "fd00::/120")],
                "peers": [peer(bfdProfile="echo")],
                "bfd_profiles": [custom("BFDProfile", "echo", echoMode=True)],
                "bgp_advertisements": [custom("BGPAdvertisement")],
            },
            ["BGPAdvertisement one: spec.ipAddressPools"],
        ),
        # communities
        (
            {"communities": [custom("Community", communities=[{"name": "a", "value": "large:1:2"}])]},
            ["Community one: spec.communities[0].value"],
        ),
        (
            {
                "communities": [
                    custom("Community", communities=[{"name": "a", "value": "1:2"}]),
                    custom("Community", "two", communities=[{"name": "a", "value": "1:3"}]),
                ]
            },
            ["Community two: spec.communities[0].name"],
        ),
    ],
)
def test_faults_of_custom_resources(sources, expected):
    sources = {key: tuple(value) if isinstance(value, list) else value for key, value in sources.items()}
    reading = read(Sources(**sources))
    assert [f"{each.kind} {each.name}: {each.field}" for each in reading.problems] == expected
    assert not reading.complete


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("address-pools: [", "data.config"),
        ("pools: []", "pools"),
        ("address-pools: [{name: a, addresses: [10.0.0.0/24]}]", "address-pools[0].protocol"),
        (
            "address-pools: [{name: a, protocol: layer3, addresses: [10.0.0.0/24]}]",
            "address-pools[0].protocol",
        ),
        (
            "address-pools: [{name: a, protocol: bgp, addresses: [10.0.0.0/99]}]",
            "address-pools[0].addresses[0]",
        ),
        (
            "address-pools: [{name: a, protocol: bgp, addresses: [10.0.0.0/24], auto-assign: maybe}]",
            "address-pools[0].auto-assign",
        ),
        (
            "address-pools: [{name: a, protocol: layer2, addresses: [10.0.0.0/24], "
            "bgp-advertisements: [{localpref: 1}]}]",
            "address-pools[0].bgp-advertisements",
        ),
        (
            "address-pools: [{name: a, protocol: bgp, addresses: [10.0.0.0/28], "
            "bgp-advertisements: [{aggregation-length: 24}]}]",
            "address-pools[0].bgp-advertisements[0].aggregation-length",
        ),
        (
            "address-pools: [{name: a, protocol: bgp, addresses: [10.0.0.0/28]}, "
            "{name: a, protocol: bgp, addresses: [10.0.1.0/28]}]",
            "address-pools[1].name",
        ),
        ("peers: [{peer-address: 10.1.0.1, peer-asn: 1}]", "peers[0].my-asn"),
        ("peers: [{peer-address: 10.1.0.1, my-asn: 1}]", "peers[0].peer-asn"),
        ("peers: [{my-asn: 1, peer-asn: 2}]", "peers[0].peer-address"),
        ("peers: [{peer-address: 10.1.0.1, my-asn: 1, peer-asn: 2, hold-time: 1s}]", "peers[0].hold-time"),
        (
            "peers: [{peer-address: 10.1.0.1, my-asn: 1, peer-asn: 1, ebgp-multihop: true}]",
            "peers[0].ebgp-multihop",
        ),
        ("peers: [{peer-address: 10.1.0.1, my-asn: 1, peer-asn: 2, bfd-profile: x}]", "peers[0].bfd-profile"),
        (
            "peers: [{peer-address: 10.1.0.1, my-asn: 1, peer-asn: 2, router-id: here}]",
            "peers[0].router-id",
        ),
        (
            "peers: [{peer-address: 10.1.0.1, my-asn: 1, peer-asn: 2, peer-port: many}]",
            "peers[0].peer-port",
        ),
        ("peers: [{peer-address: 10.1.0.1, my-asn: 1, peer-asn: 2, vrf: red}]", "peers[0].vrf"),
        (
            "peers: [{peer-address: 10.1.0.1, my-asn: 1, peer-asn: 2, node-selectors: [{matchLabels: {}}]}]",
            "peers[0].node-selectors[0].matchLabels",
        ),
        (
            "peers: [{peer-address: 10.1.0.1, my-asn: 1, peer-asn: 2, node-selectors: "
            "[{match-expressions: [{key: a, operator: Near}]}]}]",
            "peers[0].node-selectors[0]",
        ),
        ("peers: [5]", "peers[0]"),
        ("bgp-communities: {vpn: 1}", "bgp-communities[...]"),
        ("bgp-communities: {vpn: '1:2:3'}", "bgp-communities[vpn]"),
        ("bfd-profiles: [{name: a, detect-multiplier: 1}]", "bfd-profiles[0].detect-multiplier"),
        ("bfd-profiles: [{name: a}, {name: a}]", "bfd-profiles[1].name"),
        ("bfd-profiles: [{echo-mode: true}]", "bfd-profiles[0].name"),
        ("bfd-profiles: [{name: a, echo-interval: soon}]", "bfd-profiles[0].echo-interval"),
    ],
)
def test_faults_of_the_config_map(text, expected):
    problems = read(Sources(config_map=config_map(text))).problems
    assert [(each.kind, each.name, each.field) for each in problems] == [("ConfigMap", "config", expected)]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"eips": (eip(address="10.0.0.0/40"),)}, "Eip one: spec.address"),
        ({"eips": (eip(protocol="layer2"),)}, "Eip one: spec.interface"),
        ({"eips": (eip(protocol="ospf"),)}, "Eip one: spec.protocol"),
        ({"eips": (eip(), eip("two", "10.0.0.9"))}, "Eip two: spec.address"),
        ({"bgp_confs": ({"metadata": {"name": "default"}, "spec": {"as": 0}},)}, "BgpConf default: spec.as"),
        (
            {"bgp_peers": ({"metadata": {"name": "a"}, "spec": {"conf": {"neighborAddress": "10.1.0.1"}}},)},
            "BgpPeer a: spec.conf.localAs",
        ),
    ],
)
def test_faults_of_openelb(sources, expected):
    assert [f"{each.kind} {each.name}: {each.field}" for each in read(Sources(**sources)).problems] == [
        expected
    ]


def test_two_default_eips():
    annotations = {"eip.openelb.kubesphere.io/is-default-eip": "true"}
    two = (eip("one", "10.0.0.1", annotations), eip("two", "10.0.0.2", annotations))
    (problem,) = read(Sources(eips=two)).problems
    assert problem.field == "metadata.annotations[eip.openelb.kubesphere.io/is-default-eip]"
    assert "Eip one is the default already" in problem.message


def test_the_tutorials_config_map():
    text = """
      address-pools:
      - name: default
        protocol: layer2
        addresses:
        - 192.168.1.251-192.168.1.253
        # - 192.168.1.0/28
    """
    reading = read(Sources(config_map=config_map(text)))
    assert reading.problems == ()
    (found,) = reading.config.pools
    assert (found.name, found.source, found.ipv4) == (
        "default",
        "ConfigMap",
        (span("192.168.1.251", "192.168.1.253"),),
    )
    (advertisement,) = reading.config.layer2
    assert advertisement.pools == {"default"}
    assert not reading.config.bgp


def test_everything_in_the_config_map():
    text = """
      peers:
      - peer-address: 10.1.0.1
        peer-asn: 64501
        my-asn: 64500
        peer-port: 1179
        source-address: 10.1.0.2
        hold-time: 1m30s
        router-id: 10.9.9.9
        password: secret
        bfd-profile: fast
        ebgp-multihop: true
        node-selectors:
        - match-labels: {rack: a}
          match-expressions: [{key: zone, operator: In, values: [x, y]}]
      address-pools:
      - name: routed
        protocol: bgp
        addresses: [10.2.0.0/24, "fd00:2::/120"]
        auto-assign: false
        avoid-buggy-ips: true
        bgp-advertisements:
        - {aggregation-length: 32, localpref: 100, communities: [vpn, "65535:65282"]}
        - {aggregation-length: 24, aggregation-length-v6: 120}
      bgp-communities: {vpn: "64500:1234"}
      bfd-profiles:
      - {name: fast, receive-interval: 100, detect-multiplier: 5, echo-mode: false, minimum-ttl: 200}
    """
    reading = read(Sources(config_map=config_map(text)))
    assert reading.problems == ()
    config = reading.config
    (found,) = config.pools
    assert not found.auto_assign
    assert found.avoid_buggy_ips
    assert found.ipv6 == (span("fd00:2::", "fd00:2::ff"),)
    first, second = config.bgp
    assert first.local_pref == 100
    assert first.communities == ("64500:1234", "65535:65282")
    assert (second.aggregation_length, second.aggregation_length_v6) == (24, 120)
    (router,) = config.peers
    assert first.peers == second.peers == {router.name}
    assert (router.port, router.hold_time, router.keepalive_time, router.password) == (1179, 90, 30, "secret")
    assert router.bfd == config.bfd_profiles[0]
    assert router.node_selectors[0].matches({"rack": "a", "zone": "x"})
    assert not router.node_selectors[0].matches({"rack": "a", "zone": "z"})


def test_advertisements_name_select_or_take_all_pools():
    pools = (pool("one"), pool("two", "10.0.1.0/24", labels={"tier": "gold"}), pool("three", "10.0.2.0/24"))
    pools[1]["metadata"]["labels"] = {"tier": "gold"}
    gold = [{"matchLabels": {"tier": "gold"}}]
    advertisements = (
        custom("L2Advertisement", "all"),
        custom("L2Advertisement", "named", ipAddressPools=["three", "missing"]),
        custom("L2Advertisement", "selected", ipAddressPoolSelectors=gold),
        custom("L2Advertisement", "union", ipAddressPools=["one"], ipAddressPoolSelectors=gold),
    )
    config = read(Sources(pools=pools, l2_advertisements=advertisements)).config
    assert {each.name: set(each.pools) for each in config.layer2} == {
        "all": {"one", "two", "three"},
        "named": {"three"},
        "selected": {"two"},
        "union": {"one", "two"},
    }


def test_a_password_from_its_secret_is_never_shown():
    sources = Sources(
        peers=(peer(passwordSecret={"name": "bgp"}),), secrets={"bgp": secret(password="very-secret")}
    )
    (router,) = read(sources).config.peers
    assert router.password == "very-secret"
    assert "very-secret" not in repr(read(sources))


def test_openelb_says_its_as_by_rack():
    sources = Sources(
        eips=(eip(), eip("lan", "192.168.1.240-192.168.1.250", protocol="layer2", interface="eth0")),
        bgp_confs=(
            {
                "metadata": {"name": "default"},
                "spec": {
                    "as": 50000,
                    "listenPort": 17900,
                    "routerId": "10.9.9.9",
                    "asPerRack": {"left": 50001},
                },
            },
        ),
        bgp_peers=(
            {
                "metadata": {"name": "router"},
                "spec": {
                    "conf": {"neighborAddress": "10.1.0.1", "peerAs": 50010},
                    "ebgpMultihop": {"enabled": True, "multihopTtl": 4},
                    "timers": {"config": {"holdTime": "9"}},
                    "transport": {"passiveMode": True},
                },
            },
        ),
    )
    reading = read(sources)
    assert reading.problems == ()
    config = reading.config
    assert config.listen_port == 17900
    rest, left = config.peers
    assert (rest.my_asn, left.my_asn) == (50000, 50001)
    assert left.node_selectors[0].matches({"openelb.kubesphere.io/rack": "left"})
    assert not rest.node_selectors[0].matches({"openelb.kubesphere.io/rack": "left"})
    assert rest.node_selectors[0].matches({})
    assert (rest.hold_time, rest.keepalive_time, rest.multihop_ttl, rest.passive) == (9, 3, 4, True)
    assert [(each.pools, each.interfaces) for each in config.layer2] == [({"lan"}, ("eth0",))]
    assert [each.pools for each in config.bgp] == [{"one"}]
    assert {each.name: each.protocol for each in config.pools} == {"one": "bgp", "lan": "layer2"}
    assert not any(each.auto_assign for each in config.pools)


def test_the_last_good_state_of_a_form_stays():
    good = Sources(pools=(pool(),), config_map=config_map("address-pools: []"))
    first = read(good)
    assert first.complete
    broken = Sources(pools=(pool("one", "nonsense"),), config_map=good.config_map)
    second = read(broken, first)
    assert second.config == first.config
    assert second.complete
    assert [each.field for each in second.problems] == ["spec.addresses[0]"]
    assert not read(broken).complete
    assert read(broken).config.pools == ()
    gone = read(Sources(), second)
    assert gone.config.pools == ()
    assert gone.complete


def test_forms_do_not_share_addresses_or_names():
    text = "address-pools: [{name: one, protocol: layer2, addresses: [10.9.0.0/24]}]"
    reading = read(Sources(pools=(pool(),), config_map=config_map(text)))
    assert [str(each) for each in reading.problems] == [
        'ConfigMap config: address-pools: Duplicate value: "one"',
    ]
    assert [each.source for each in reading.config.pools] == ["IPAddressPool"]
    overlapping = read(Sources(pools=(pool(),), eips=(eip("lan", "10.0.0.7"),)))
    assert [str(each) for each in overlapping.problems] == [
        'Eip lan: spec.addresses: Invalid value: "lan": overlaps with IPAddressPool one'
    ]
