"""The ConfigMap of MetalLB 0.12 into the declarations of today's custom resources.

Its fields are those of `specs`, written with dashes, as far as there were any then.

Source: MetalLB v0.12.1, its example configuration and its converter to custom resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
import yaml

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.status import FieldError, forbidden_field, required

from . import specs
from .problems import SPEC, Path, Problems, file_name, misshapen
from .specs import Declarations, Declared

KEY = "config"
"""The key of the ConfigMap that holds the file."""

_LATER: dict[type[msgspec.Struct], frozenset[str]] = {
    specs.Peer: frozenset(
        (
            "dynamic_asn",
            "local_asn",
            "interface",
            "connect_time",
            "password_secret",
            "enable_graceful_restart",
            "vrf",
            "disable_mp",
            "dual_stack_address_family",
        )
    ),
    specs.Pool: frozenset(("service_allocation",)),
    specs.BGPAdvertisement: frozenset(
        (
            "ip_address_pools",
            "ip_address_pool_selectors",
            "node_selectors",
            "service_selectors",
            "peers",
        )
    ),
}
"""The fields of each spec that came after the file."""

_NODE_SELECTORS = "node-selectors"

_Entry = dict[str, Any]
_Spec = TypeVar("_Spec", bound=msgspec.Struct)


class _File(msgspec.Struct, rename="kebab", forbid_unknown_fields=True):
    peers: list[_Entry] | None = None
    address_pools: list[_Entry] | None = None
    bgp_communities: dict[str, str] | None = None
    bfd_profiles: list[_Entry] | None = None


class _PoolHead(msgspec.Struct, rename="kebab"):
    """What an entry of a pool says besides its spec."""

    name: str
    protocol: Literal["layer2", "bgp"]
    bgp_advertisements: list[_Entry] | None = None


class _ProfileHead(msgspec.Struct):
    name: str


def declarations(config_map: Object, problems: Problems) -> Declarations:
    """What the ConfigMap declares, without what cannot be read: that is told to *problems*."""
    name = meta.name(config_map)
    text = (config_map.get("data") or {}).get(KEY)
    if text is None:
        problems.add("ConfigMap", name, SPEC, [required(f"data.{KEY}")])
        return Declarations()
    try:
        file = msgspec.convert(yaml.safe_load(text) or {}, _File)
    except yaml.YAMLError as error:
        problems.add("ConfigMap", name, SPEC, [FieldError("FieldValueInvalid", f"data.{KEY}", str(error))])
        return Declarations()
    except msgspec.ValidationError as error:
        problems.add("ConfigMap", name, SPEC, [misshapen(error, root="")])
        return Declarations()
    return _Reader(name, problems).read(file)


class _Reader:
    def __init__(self, name: str, problems: Problems) -> None:
        self._name = name
        self._problems = problems
        self._made = Declarations()

    def read(self, file: _File) -> Declarations:
        made = self._made
        for index, entry in enumerate(file.peers or ()):
            place = f"peers[{index}]"
            if (peer := self._spec(entry, specs.Peer, place)) is not None:
                made.peers.append(self._declared(f"config/peer{index + 1}", peer, place))
        for index, entry in enumerate(file.address_pools or ()):
            self._pool(entry, f"address-pools[{index}]")
        for index, entry in enumerate(file.bfd_profiles or ()):
            place = f"bfd-profiles[{index}]"
            head = self._head(entry, _ProfileHead, place)
            bfd = self._spec(entry, specs.BFDProfile, place, besides=_ProfileHead)
            if head is not None and bfd is not None:
                made.bfd_profiles.append(self._declared(head.name, bfd, place))
        if file.bgp_communities:
            aliases = [specs.CommunityAlias(alias, value) for alias, value in file.bgp_communities.items()]
            made.communities.append(self._declared("config", specs.Community(aliases), "bgp-communities"))
        return made

    def _pool(self, entry: _Entry, place: str) -> None:
        head = self._head(entry, _PoolHead, place)
        spec = self._spec(entry, specs.Pool, place, besides=_PoolHead)
        if head is None or spec is None:
            return
        made, only = self._made, [head.name]
        made.pools.append(self._declared(head.name, spec, place))
        if head.protocol == "layer2":
            if head.bgp_advertisements:
                self._tell([forbidden_field(f"{place}.bgp-advertisements", "only for the protocol bgp")])
            l2 = specs.L2Advertisement(ip_address_pools=only)
            made.l2_advertisements.append(self._declared(f"config/{head.name}", l2, place))
            return
        for number, each in enumerate(head.bgp_advertisements or ({},)):
            where = f"{place}.bgp-advertisements[{number}]"
            if (bgp := self._spec(each, specs.BGPAdvertisement, where)) is not None:
                bgp.ip_address_pools = only
                made.bgp_advertisements.append(self._declared(f"config/{head.name}-{number + 1}", bgp, where))

    def _head(self, entry: _Entry, head: type[_Spec], place: str) -> _Spec | None:
        try:
            return msgspec.convert(entry, head)
        except msgspec.ValidationError as error:
            self._tell([misshapen(error, root=place)])
            return None

    def _spec(
        self, entry: _Entry, spec: type[_Spec], place: str, *, besides: type[msgspec.Struct] | None = None
    ) -> _Spec | None:
        """The spec that *entry* is, but for the fields of *besides*."""
        own = {field.encode_name for field in msgspec.structs.fields(besides)} if besides else set()
        rest = {key: value for key, value in entry.items() if key not in own}
        unknown = list[str]()
        selectors = rest.get(_NODE_SELECTORS)
        if isinstance(selectors, list):
            rest[_NODE_SELECTORS] = [
                _renamed(each, specs.LabelSelector, f"{place}.{_NODE_SELECTORS}[{index}]", unknown)
                if isinstance(each, dict)
                else each
                for index, each in enumerate(selectors)
            ]
        renamed = _renamed(rest, spec, place, unknown)
        self._tell([FieldError("FieldValueInvalid", path, "unknown field") for path in unknown])
        try:
            return msgspec.convert(renamed, spec)
        except msgspec.ValidationError as error:
            self._problems.add("ConfigMap", self._name, Path(place, in_file=True), [misshapen(error)])
            return None

    def _declared(self, own_name: str, spec: _Spec, place: str) -> Declared[_Spec]:
        return Declared("ConfigMap", self._name, own_name, spec, Path(place, in_file=True))

    def _tell(self, errors: list[FieldError]) -> None:
        self._problems.add("ConfigMap", self._name, SPEC, errors)


def _renamed(
    entry: Mapping[str, Any], spec: type[msgspec.Struct], place: str, unknown: list[str]
) -> dict[str, Any]:
    """*entry* with the names that *spec* has; the paths of what it has not are added to *unknown*."""
    later = _LATER.get(spec, frozenset())
    names = {
        file_name(field.encode_name): field.encode_name
        for field in msgspec.structs.fields(spec)
        if field.name not in later
    }
    unknown += [f"{place}.{key}" for key in entry if key not in names]
    return {names[key]: value for key, value in entry.items() if key in names}
