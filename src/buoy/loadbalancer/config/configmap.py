"""The ConfigMap of MetalLB 0.12 into the declarations of today's custom resources.

Source: MetalLB v0.12.1, its example configuration and its converter to custom resources.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import yaml

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.status import FieldError, forbidden_field, required

from . import specs
from .problems import SPEC, Path, Problems, misshapen
from .specs import Declarations, Declared

KEY = "config"
"""The key of the ConfigMap that holds the file."""


class _File(msgspec.Struct, rename="kebab", forbid_unknown_fields=True):
    peers: list[_Peer] | None = None
    address_pools: list[_Pool] | None = None
    bgp_communities: dict[str, str] | None = None
    bfd_profiles: list[_BfdProfile] | None = None


class _NodeSelector(msgspec.Struct, rename="kebab", forbid_unknown_fields=True):
    match_labels: dict[str, str] | None = None
    match_expressions: list[specs.Expression] | None = None


class _Peer(msgspec.Struct, rename="kebab", forbid_unknown_fields=True):
    my_asn: int = 0
    peer_asn: int = 0
    peer_address: str = ""
    source_address: str = ""
    peer_port: int = 179
    hold_time: str | None = None
    keepalive_time: str | None = None
    router_id: str = ""
    node_selectors: list[_NodeSelector] | None = None
    password: str = ""
    bfd_profile: str = ""
    ebgp_multihop: bool = False


class _Pool(msgspec.Struct, rename="kebab", forbid_unknown_fields=True):
    name: str
    protocol: Literal["layer2", "bgp"]
    addresses: list[str]
    auto_assign: bool | None = None
    avoid_buggy_ips: bool = False
    bgp_advertisements: list[_BgpAdvertisement] | None = None


class _BgpAdvertisement(msgspec.Struct, rename="kebab", forbid_unknown_fields=True):
    aggregation_length: int = 32
    aggregation_length_v6: int = msgspec.field(default=128, name="aggregation-length-v6")
    localpref: int = 0
    communities: list[str] | None = None


class _BfdProfile(msgspec.Struct, rename="kebab", forbid_unknown_fields=True):
    name: str
    receive_interval: int | None = None
    transmit_interval: int | None = None
    detect_multiplier: int | None = None
    echo_interval: int | None = None
    echo_mode: bool | None = None
    passive_mode: bool | None = None
    minimum_ttl: int | None = None


def declarations(config_map: Object, problems: Problems) -> Declarations:
    """What the ConfigMap declares: nothing if its file cannot be read, and *problems* are told."""
    name = meta.name(config_map)
    made = Declarations()
    text = (config_map.get("data") or {}).get(KEY)
    if text is None:
        problems.add("ConfigMap", name, SPEC, [required(f"data.{KEY}")])
        return made
    try:
        file = msgspec.convert(yaml.safe_load(text) or {}, _File)
    except yaml.YAMLError as error:
        problems.add("ConfigMap", name, SPEC, [FieldError("FieldValueInvalid", f"data.{KEY}", str(error))])
        return made
    except msgspec.ValidationError as error:
        problems.add("ConfigMap", name, SPEC, [misshapen(error, root="")])
        return made

    def declared(own_name: str, spec: specs.Spec, place: str) -> Declared[specs.Spec]:
        return Declared("ConfigMap", name, own_name, spec, Path(place, in_file=True))

    for index, peer in enumerate(file.peers or ()):
        made.peers.append(declared(f"config/peer{index + 1}", _peer(peer), f"peers[{index}]"))
    for index, pool in enumerate(file.address_pools or ()):
        place = f"address-pools[{index}]"
        spec = specs.Pool(pool.addresses, pool.auto_assign, pool.avoid_buggy_ips)
        made.pools.append(declared(pool.name, spec, place))
        only = [pool.name]
        if pool.protocol == "layer2":
            if pool.bgp_advertisements:
                fault = forbidden_field(f"{place}.bgp-advertisements", "only for the protocol bgp")
                problems.add("ConfigMap", name, SPEC, [fault])
            l2 = specs.L2Advertisement(ip_address_pools=only)
            made.l2_advertisements.append(declared(f"config/{pool.name}", l2, place))
            continue
        for number, each in enumerate(pool.bgp_advertisements or (_BgpAdvertisement(),)):
            bgp = specs.BGPAdvertisement(
                each.aggregation_length,
                each.aggregation_length_v6,
                each.localpref,
                each.communities,
                ip_address_pools=only,
            )
            where = f"{place}.bgp-advertisements[{number}]"
            made.bgp_advertisements.append(declared(f"config/{pool.name}-{number + 1}", bgp, where))
    for index, profile in enumerate(file.bfd_profiles or ()):
        facts = msgspec.structs.asdict(profile)
        bfd = specs.BFDProfile(**{key: value for key, value in facts.items() if key != "name"})
        made.bfd_profiles.append(declared(profile.name, bfd, f"bfd-profiles[{index}]"))
    if file.bgp_communities:
        aliases = [specs.CommunityAlias(alias, value) for alias, value in file.bgp_communities.items()]
        made.communities.append(declared("config", specs.Community(aliases), "bgp-communities"))
    return made


def _peer(peer: _Peer) -> specs.Peer:
    return specs.Peer(
        my_asn=peer.my_asn,
        peer_asn=peer.peer_asn,
        peer_address=peer.peer_address,
        peer_port=peer.peer_port,
        source_address=peer.source_address,
        hold_time=peer.hold_time,
        keepalive_time=peer.keepalive_time,
        router_id=peer.router_id,
        node_selectors=[
            specs.LabelSelector(each.match_labels, each.match_expressions)
            for each in peer.node_selectors or ()
        ],
        password=peer.password,
        bfd_profile=peer.bfd_profile,
        ebgp_multi_hop=peer.ebgp_multihop,
    )
