"""The zone of the cluster: every name that Services, EndpointSlices and Namespaces give rise to.

Kept by difference: a change of one Service or slice computes that Service's names anew and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from . import wire
from .records import Contribution, Rank, Records, Service, Slice, contribution, pack
from .wire import AAAA, ANY, CNAME, HINFO, NS, NXDOMAIN, PTR, SOA, SRV, TXT, A, Answer, RRset

SCHEMA_VERSION = "1.1.0"
_LONGEST_CHAIN = 8


class Chase(NamedTuple):
    """An alias that leads out of the zone: its *links*, CNAME records, and the *target* to ask others for."""

    links: tuple[RRset, ...]
    target: bytes


class Zone:
    """The records of cluster domain *domain*, with a TTL of *ttl* seconds.

    *servers* are the packed addresses of the name server itself. With *pods*, ``a-b-c-d.<namespace>.pod``
    means the address a.b.c.d in every Namespace there is. *serial* is that of the SOA record; as the zone is
    not transferred to anybody, changes leave it as it is.
    """

    def __init__(
        self,
        domain: str,
        *,
        ttl: int = 5,
        pods: bool = True,
        servers: Iterable[bytes] = (),
        serial: int = 1,
    ) -> None:
        self.origin = wire.encode_name(domain)
        self.ttl = ttl
        self.pods = pods
        self._primary = wire.encode_name(f"ns.dns.{domain}")
        mailbox = wire.encode_name(f"hostmaster.{domain}")
        self._soa = RRset(self.origin, SOA, ttl, (wire.soa(self._primary, mailbox, serial, ttl),))
        self._services_zone = wire.encode_name(f"svc.{domain}")
        self._pods_zone = wire.encode_name(f"pod.{domain}")
        self._records: dict[bytes, Records] = {}
        self._below: dict[bytes, int] = {}  # how many names one label longer exist
        self._services: dict[str, Service] = {}
        self._slices: dict[str, Slice] = {}
        self._slices_of: dict[str, dict[str, Slice]] = {}
        self._contributions: dict[str, Contribution] = {}
        self._pointers: dict[bytes, dict[str, tuple[tuple[Rank, bytes], ...]]] = {}
        for name, records in self._static(servers).items():
            self._set(name, records)

    def _static(self, servers: Iterable[bytes]) -> dict[bytes, Records]:
        server: dict[int, tuple[bytes, ...]] = {}
        for address in servers:
            kind = A if len(address) == 4 else AAAA
            server[kind] = (*server.get(kind, ()), address)
        return {
            self.origin: {NS: (self._primary,)},
            self._primary: server,
            wire.encode_label("dns-version") + self.origin: {TXT: (wire.text(SCHEMA_VERSION),)},
            self._services_zone: {},
            self._pods_zone: {},
        }

    def set_namespace(self, name: str, present: bool) -> None:
        """A Namespace exists, or no longer does."""
        label = wire.encode_label(name)
        for zone in (self._services_zone, self._pods_zone):
            self._set(label + zone, {} if present else None)

    def set_service(self, key: str, service: Service | None) -> bool:
        """The Service *key* is now *service*, None if it is gone. Gives whether records changed."""
        if self._services.get(key) == service:
            return False
        if service is None:
            del self._services[key]
        else:
            self._services[key] = service
        return self._compute(key)

    def set_slice(self, key: str, piece: Slice | None) -> bool:
        """The EndpointSlice *key* is now *piece*, None if it is gone. Gives whether a record changed."""
        old = self._slices.pop(key, None)
        if piece is not None:
            self._slices[key] = piece
            self._slices_of.setdefault(piece.service, {})[key] = piece
        if old is not None and (piece is None or old.service != piece.service):
            siblings = self._slices_of[old.service]
            del siblings[key]
            if not siblings:
                del self._slices_of[old.service]
        changed = False
        for service in {one.service for one in (old, piece) if one is not None}:
            changed |= self._compute(service)
        return changed

    def _compute(self, key: str) -> bool:
        service = self._services.get(key)
        old = self._contributions.pop(key, None) or Contribution()
        new = Contribution()
        if service is not None:
            pieces = self._slices_of.get(key, {})
            new = contribution(service, [pieces[name] for name in sorted(pieces)], self._services_zone)
            self._contributions[key] = new
        changed = False
        for name in old.forward.keys() | new.forward.keys():
            records = new.forward.get(name)
            if old.forward.get(name) != records:
                self._set(name, records)
                changed = True
        for name in old.reverse.keys() | new.reverse.keys():
            pointers = new.reverse.get(name)
            if old.reverse.get(name) != pointers:
                self._point(name, key, pointers)
                changed = True
        return changed

    def _point(self, name: bytes, key: str, pointers: tuple[tuple[Rank, bytes], ...] | None) -> None:
        by_service = self._pointers.setdefault(name, {})
        if pointers is None:
            del by_service[key]
        else:
            by_service[key] = pointers
        if by_service:
            ranked = sorted(pointer for some in by_service.values() for pointer in some)
            self._set(name, {PTR: tuple(dict.fromkeys(target for _, target in ranked))})
        else:
            del self._pointers[name]
            self._set(name, None)

    def _set(self, name: bytes, records: Records | None) -> None:
        existed = self._exists(name)
        if records is None:
            self._records.pop(name, None)
        else:
            self._records[name] = records
        if existed == self._exists(name) or not self.covers(name):
            return
        step = -1 if existed else 1
        while len(name) > len(self.origin):
            name = wire.parent(name)
            existed = self._exists(name)
            count = self._below.get(name, 0) + step
            if count:
                self._below[name] = count
            else:
                del self._below[name]
            if existed == self._exists(name):
                break

    def _exists(self, name: bytes) -> bool:
        return name in self._records or name in self._below

    def covers(self, name: bytes) -> bool:
        """Whether nobody but this zone may say what *name* is."""
        return wire.is_within(name, self.origin)

    @property
    def records(self) -> Mapping[bytes, Records]:
        """All names that have records of their own, and those that exist without any; but not the SOA."""
        return self._records

    def lookup(self, name: bytes, kind: int) -> Answer | Chase | None:
        """What *name* has of type *kind*; None if that is for others to say. *name* is in lower case."""
        links: list[RRset] = []
        while True:
            records = self._find(name)
            if records is None and not self.covers(name):
                return Chase(tuple(links), name) if links else None
            alias = records and records.get(CNAME)
            circular = any(link.name == name for link in links)
            if not alias or circular or kind in (CNAME, ANY) or len(links) == _LONGEST_CHAIN:
                return self._answer(tuple(links), name, kind, records)
            links.append(RRset(name, CNAME, self.ttl, alias))
            name = alias[0]

    def _find(self, name: bytes) -> Records | None:
        records = self._records.get(name)
        if records is not None:
            return records
        if name in self._below:
            return {}
        if self.pods and name.endswith(self._pods_zone):
            namespace = wire.parent(name)
            if namespace in self._records and namespace != self._pods_zone:
                return _pod(name[1 : name[0] + 1])
        return None

    def _answer(self, links: tuple[RRset, ...], name: bytes, kind: int, records: Records | None) -> Answer:
        if records is None:
            return Answer(NXDOMAIN, links, (self._soa,), authoritative=True)
        if kind == ANY:  # RFC 8482
            return Answer(
                answer=(*links, RRset(name, HINFO, self.ttl, (wire.text("RFC8482", ""),))), authoritative=True
            )
        if kind == SOA and name == self.origin:
            return Answer(answer=(*links, self._soa), authoritative=True)
        data = records.get(kind)
        if not data:
            authority = (self._soa,) if self.covers(name) else ()
            return Answer(0, links, authority, authoritative=True)
        targets: Iterable[bytes] = ()
        if kind == SRV:
            targets = dict.fromkeys(record[6:] for record in data)
        elif kind == NS:
            targets = data
        additional = tuple(
            RRset(target, address, self.ttl, found)
            for target in targets
            for address in (A, AAAA)
            if (found := self._records.get(target, {}).get(address))
        )
        return Answer(
            answer=(*links, RRset(name, kind, self.ttl, data)), additional=additional, authoritative=True
        )


def _pod(label: bytes) -> Records | None:
    """What a label such as ``10-244-1-7`` or ``fd00--7`` means."""
    try:
        text = label.decode("ascii")
    except UnicodeDecodeError:
        return None
    if text.count("-") == 3 and "--" not in text:
        address = pack(text.replace("-", "."))
        return {A: (address,)} if address else None
    address = pack(text.replace("-", ":"))
    return {AAAA: (address,)} if len(address) == 16 else None
