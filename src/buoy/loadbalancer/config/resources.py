"""The custom resources that hold a configuration, and those that tell how it goes."""

from __future__ import annotations

from typing import Literal

from buoy.api.resource import Resource

Form = Literal["MetalLB", "ConfigMap", "OpenELB"]
FORMS: tuple[Form, ...] = ("MetalLB", "ConfigMap", "OpenELB")

METALLB = "metallb.io"
OPENELB = "network.kubesphere.io"

IP_ADDRESS_POOLS = Resource(METALLB, "v1beta1", "ipaddresspools", "IPAddressPool")
L2_ADVERTISEMENTS = Resource(METALLB, "v1beta1", "l2advertisements", "L2Advertisement")
BGP_ADVERTISEMENTS = Resource(METALLB, "v1beta1", "bgpadvertisements", "BGPAdvertisement")
BGP_PEERS = Resource(METALLB, "v1beta2", "bgppeers", "BGPPeer")
BFD_PROFILES = Resource(METALLB, "v1beta1", "bfdprofiles", "BFDProfile")
COMMUNITIES = Resource(METALLB, "v1beta1", "communities", "Community")
EIPS = Resource(OPENELB, "v1alpha2", "eips", "Eip", namespaced=False)
BGP_CONFS = Resource(OPENELB, "v1alpha2", "bgpconfs", "BgpConf", namespaced=False)
OPENELB_PEERS = Resource(OPENELB, "v1alpha2", "bgppeers", "BgpPeer", namespaced=False)

RESOURCES: dict[str, Resource] = {
    "pools": IP_ADDRESS_POOLS,
    "l2_advertisements": L2_ADVERTISEMENTS,
    "bgp_advertisements": BGP_ADVERTISEMENTS,
    "peers": BGP_PEERS,
    "bfd_profiles": BFD_PROFILES,
    "communities": COMMUNITIES,
    "eips": EIPS,
    "bgp_confs": BGP_CONFS,
    "bgp_peers": OPENELB_PEERS,
}
"""What to watch, by the field of `Sources` that its objects go into."""

CONFIGURATION_STATES = Resource(METALLB, "v1beta1", "configurationstates", "ConfigurationState")
SERVICE_L2_STATUSES = Resource(METALLB, "v1beta1", "servicel2statuses", "ServiceL2Status")
SERVICE_BGP_STATUSES = Resource(METALLB, "v1beta1", "servicebgpstatuses", "ServiceBGPStatus")
