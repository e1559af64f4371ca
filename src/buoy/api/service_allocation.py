"""What a Service is given: IP families, cluster IPs, node ports.

The rules are those of k8s.io/kubernetes' ``pkg/registry/core/service/storage``. An allocator lives in memory,
with the one API server that writes Services, and is rebuilt from the stored ones when that starts. All here
is synchronous, so two requests on one event loop never see the same address free.

The order for a write: default, prepare, `reserve`, validate, store; then `commit`, or `rollback` if any step
after the reservation failed or the write was a dry run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .allocation import AllocationError, IPRange, PortRange, RangeFull
from .meta import Object
from .service import HEADLESS, needs_health_check, validate_cluster_ips
from .status import FieldError, StatusError, invalid, invalid_object

_WITH_NODE_PORT = ("NodePort", "LoadBalancer")
_OTHER = {"IPv4": "IPv6", "IPv6": "IPv4"}


class Reservation:
    """What one write of a Service takes and gives up."""

    def __init__(self) -> None:
        self._given_up: list[Callable[[], None]] = []
        self._taken: list[Callable[[], None]] = []

    def commit(self) -> None:
        """The write is stored: what the old Service held and the new one does not is free now."""
        for release in self._given_up:
            release()

    def rollback(self) -> None:
        """The write did not happen."""
        for release in self._taken:
            release()

    def taken(self, release: Callable[[], None]) -> None:
        self._taken.append(release)

    def given_up(self, release: Callable[[], None]) -> None:
        # Not before the write is certain: until then the old Service still holds it.
        self._given_up.append(release)


class ServiceAllocator:
    """*ranges* are the service CIDRs, one or one of each family; the first one's family is the default."""

    def __init__(self, ranges: Sequence[IPRange], ports: PortRange) -> None:
        self.ranges = {each.family: each for each in ranges}
        if not ranges or len(self.ranges) != len(ranges):
            raise ValueError("one service range of each IP family")
        self.default_family = ranges[0].family
        self.ports = ports

    def reserve(self, new: Object, old: Object | None) -> Reservation:
        """Complete a defaulted and prepared Service in place; *old* is None if it is created.

        Raises StatusError: 422, or 500 if a range is full. Nothing is taken then.
        """
        reservation = Reservation()
        try:
            self._set_families(new, old)
            if old is None:
                self._create(new, reservation)
            else:
                self._update(new, old, reservation)
        except StatusError:
            reservation.rollback()
            raise
        return reservation

    def _create(self, service: Object, reservation: Reservation) -> None:
        spec = service["spec"]
        self._allocate_ips(service, reservation)
        if spec["type"] in _WITH_NODE_PORT:
            self._allocate_ports(service, reservation)
        if needs_health_check(spec):
            self._allocate_health_port(spec, reservation)

    def _update(self, service: Object, old: Object, reservation: Reservation) -> None:
        spec, before = service["spec"], old["spec"]
        self._update_ips(service, old, reservation)
        if spec["type"] in _WITH_NODE_PORT:
            self._update_ports(service, old, reservation)
        elif before["type"] in _WITH_NODE_PORT:
            for port in _node_ports(before):
                self._give_up_port(port, reservation)
        if needs_health_check(spec) and not needs_health_check(before):
            self._allocate_health_port(spec, reservation)
        elif needs_health_check(before) and not needs_health_check(spec):
            self._give_up_port(before.get("healthCheckNodePort") or 0, reservation)

    def release(self, old: Object) -> None:
        """Give back all that a deleted Service held."""
        spec = old["spec"]
        for address in _addresses(spec):
            self._release_ip(address)
        for port in _all_node_ports(spec):
            self.ports.release(port)

    def rebuild(self, services: Iterable[Object]) -> list[str]:
        """Forget everything and take what *services* hold.

        Returns a sentence for each address or port that is out of range, or held by two: a matter for a log.
        """
        addresses: dict[str, list[str]] = {family: [] for family in self.ranges}
        ports: list[int] = []
        rejected: list[str] = []
        for service in services:
            for address in _addresses(service["spec"]):
                family = _family(address)
                if family in addresses:
                    addresses[family].append(address)
                else:
                    rejected.append(address)
            ports += sorted(_all_node_ports(service["spec"]))
        for family, held in addresses.items():
            rejected += self.ranges[family].rebuild(held)
        complaints = [f"cluster IP {address} is out of range or held twice" for address in rejected]
        return complaints + [
            f"node port {port} is out of range or held twice" for port in self.ports.rebuild(ports)
        ]

    # -- families -------------------------------------------------------------------------------------

    def _set_families(self, service: Object, old: Object | None) -> None:
        """Settle ipFamilyPolicy and ipFamilies."""
        spec = service["spec"]
        if spec["type"] == "ExternalName" or (old is not None and _still_prefers_dual(spec, old["spec"])):
            return
        before = {} if old is None else old["spec"]
        headless_alone = spec.get("clusterIP") == HEADLESS and not spec.get("selector")
        if spec.get("ipFamilyPolicy") is None:
            if before.get("ipFamilyPolicy") is not None:
                spec["ipFamilyPolicy"] = before["ipFamilyPolicy"]
            else:
                spec["ipFamilyPolicy"] = "RequireDualStack" if headless_alone else "SingleStack"
        _refuse(service, validate_cluster_ips(spec, before.get("clusterIPs") or ()))
        policy = spec["ipFamilyPolicy"]
        if old is not None and policy == "SingleStack":
            for field in ("clusterIPs", "ipFamilies"):
                # Asking for one stack is enough to let the secondary address go.
                if spec.get(field) == before.get(field) and len(spec.get(field) or ()) > 1:
                    spec[field] = spec[field][:1]
        errors = _policy_errors(spec, before)
        self._infer_families(spec, errors)
        _refuse(service, errors)
        families = spec.setdefault("ipFamilies", [])
        if headless_alone:
            # It stands for endpoints that somebody else manages, and they may be of any family.
            if not families:
                families.append(self.default_family)
            if len(families) < 2 and policy != "SingleStack":
                families.append(_OTHER[families[0]])
            return
        if policy == "RequireDualStack" and len(self.ranges) < 2:
            errors.append(
                invalid(
                    "spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services"
                )
            )
        for index, family in enumerate(families):
            if family not in self.ranges:
                errors.append(invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster"))
        _refuse(service, errors)
        if not families:
            families.append(self.default_family)
        if policy != "SingleStack" and len(families) == 1 and len(self.ranges) == 2:
            families.append(_OTHER[families[0]])

    def _infer_families(self, spec: Object, errors: list[FieldError]) -> None:
        """Addresses that the user chose tell their families."""
        families = list(spec.get("ipFamilies") or ())
        for index, address in enumerate(spec.get("clusterIPs") or ()):
            if address == HEADLESS:
                break
            if index >= len(families):
                family = _family(address)
                if family in self.ranges:
                    families.append(family)
                else:
                    errors.append(
                        invalid(
                            f"spec.clusterIPs[{index}]",
                            spec["clusterIPs"],
                            f"{family} is not configured on this cluster",
                        )
                    )
        spec["ipFamilies"] = families

    # -- cluster IPs ----------------------------------------------------------------------------------

    def _allocate_ips(self, service: Object, reservation: Reservation) -> None:
        spec = service["spec"]
        if spec["type"] == "ExternalName" or spec.get("clusterIPs") == [HEADLESS]:
            return
        wanted = list(spec.get("clusterIPs") or ())
        wanted += [""] * (len(spec["ipFamilies"]) - len(wanted))
        ips = [
            self._allocate_ip(service, family, address, reservation)
            for family, address in zip(spec["ipFamilies"], wanted, strict=True)
        ]
        spec["clusterIP"], spec["clusterIPs"] = ips[0], ips

    def _allocate_ip(self, service: Object, family: str, address: str, reservation: Reservation) -> str:
        """Take *address*, or any if it is empty."""
        pool = self.ranges[family]
        if not address:
            try:
                address = pool.allocate()
            except RangeFull as error:
                raise _internal(f"failed to allocate a serviceIP: {error}") from None
        else:
            try:
                pool.reserve(address)
            except AllocationError as error:
                fault = invalid(
                    "spec.clusterIPs",
                    service["spec"].get("clusterIPs") or [],
                    f"failed to allocate IP {address}: {error}",
                )
                raise _invalid(service, [fault]) from None
        reservation.taken(lambda: pool.release(address))
        return address

    def _release_ip(self, address: str) -> None:
        pool = self.ranges.get(_family(address))
        if pool is not None:
            pool.release(address)

    def _update_ips(self, service: Object, old: Object, reservation: Reservation) -> None:
        spec, before = service["spec"], old["spec"]
        if _still_prefers_dual(spec, before):
            return
        if before["type"] == "ExternalName":
            self._allocate_ips(service, reservation)
            return
        if before.get("clusterIPs") == [HEADLESS]:
            return
        held = list(before.get("clusterIPs") or ())
        if spec["type"] == "ExternalName":
            for address in held:
                self._give_up_ip(address, reservation)
            return
        families, former = spec.get("ipFamilies") or [], before.get("ipFamilies") or []
        if len(former) == 1 and len(families) == 2:
            ips = list(spec.get("clusterIPs") or ())
            second = ips[1] if len(ips) > 1 else ""
            spec["clusterIPs"] = [*ips[:1], self._allocate_ip(service, families[1], second, reservation)]
        elif len(former) == 2 and len(families) == 1:
            spec["clusterIPs"] = (spec.get("clusterIPs") or [])[:1]
            for address in held[1:]:
                self._give_up_ip(address, reservation)

    def _give_up_ip(self, address: str, reservation: Reservation) -> None:
        reservation.given_up(lambda: self._release_ip(address))

    # -- node ports -----------------------------------------------------------------------------------

    def _allocate_ports(self, service: Object, reservation: Reservation) -> None:
        """One node port serves all protocols of a port number, so that DNS on TCP and UDP shares one."""
        spec = service["spec"]
        ports = spec.get("ports") or ()
        by_number: dict[int, int] = {}
        for index, port in enumerate(ports):
            number, wanted = port.get("port") or 0, port.get("nodePort") or 0
            if not wanted and not _allocates_node_ports(spec):
                continue
            shared = by_number.get(number, 0)
            if not shared:
                requested = next(
                    (p["nodePort"] for p in ports if p.get("port") == number and p.get("nodePort")), 0
                )
                if requested:
                    self._reserve_port(service, index, requested, reservation)
                else:
                    requested = self._any_port("a nodePort", reservation)
                port["nodePort"] = by_number[number] = requested
            elif not wanted:
                port["nodePort"] = shared
            elif wanted != shared:
                self._reserve_port(service, index, wanted, reservation)

    def _update_ports(self, service: Object, old: Object, reservation: Reservation) -> None:
        spec = service["spec"]
        held = _node_ports(old["spec"]) if old["spec"]["type"] in _WITH_NODE_PORT else set()
        taken: set[int] = set()
        for index, port in enumerate(spec.get("ports") or ()):
            wanted = port.get("nodePort") or 0
            if wanted:
                if wanted not in held and wanted not in taken:
                    self._reserve_port(service, index, wanted, reservation)
                    taken.add(wanted)
            elif _allocates_node_ports(spec):
                port["nodePort"] = self._any_port("a nodePort", reservation)
        for number in held - _node_ports(spec):
            self._give_up_port(number, reservation)

    def _allocate_health_port(self, spec: Object, reservation: Reservation) -> None:
        wanted = spec.get("healthCheckNodePort") or 0
        if not wanted:
            spec["healthCheckNodePort"] = self._any_port("a HealthCheck NodePort", reservation)
            return
        try:
            self.ports.reserve(wanted)
        except AllocationError as error:
            raise _internal(f"failed to allocate requested HealthCheck NodePort {wanted}: {error}") from None
        reservation.taken(lambda: self.ports.release(wanted))

    def _reserve_port(self, service: Object, index: int, number: int, reservation: Reservation) -> None:
        try:
            self.ports.reserve(number)
        except AllocationError as error:
            fault = invalid(f"spec.ports[{index}].nodePort", number, str(error))
            raise _invalid(service, [fault]) from None
        reservation.taken(lambda: self.ports.release(number))

    def _any_port(self, purpose: str, reservation: Reservation) -> int:
        try:
            number = self.ports.allocate()
        except RangeFull as error:
            raise _internal(f"failed to allocate {purpose}: {error}") from None
        reservation.taken(lambda: self.ports.release(number))
        return number

    def _give_up_port(self, number: int, reservation: Reservation) -> None:
        if number:
            reservation.given_up(lambda: self.ports.release(number))


def _policy_errors(spec: Object, before: Object) -> list[FieldError]:
    """Whether the number of addresses and families agrees with the policy."""
    errors: list[FieldError] = []
    policy = spec["ipFamilyPolicy"]
    path = "spec.ipFamilyPolicy"
    for field, one, many in (
        ("clusterIPs", "cluster IP", "cluster IPs"),
        ("ipFamilies", "IP family", "IP families"),
    ):
        count = len(spec.get(field) or ())
        if policy != "SingleStack":
            if 0 < count < len(before.get(field) or ()):
                errors.append(invalid(path, policy, f"must be 'SingleStack' to release the secondary {one}"))
        elif count == 2:
            errors.append(
                invalid(
                    path,
                    policy,
                    f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {many} are specified",
                )
            )
    return errors


def _still_prefers_dual(spec: Object, before: Object) -> bool:
    """PreferDualStack before and after, its addresses untouched: it does not follow the cluster's stacks."""
    return (
        spec["type"] == before["type"] != "ExternalName"
        and spec.get("ipFamilyPolicy") == "PreferDualStack"
        and before.get("ipFamilyPolicy") in (None, "PreferDualStack")
        and (spec.get("clusterIPs") or []) == (before.get("clusterIPs") or [])
        and (spec.get("ipFamilies") or []) == (before.get("ipFamilies") or [])
    )


def _allocates_node_ports(spec: Object) -> bool:
    return spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts") is not False


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _addresses(spec: Object) -> list[str]:
    if spec.get("type") == "ExternalName":
        return []
    return [address for address in spec.get("clusterIPs") or () if address and address != HEADLESS]


def _node_ports(spec: Object) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


def _all_node_ports(spec: Object) -> set[int]:
    ports = _node_ports(spec)
    if needs_health_check(spec) and spec.get("healthCheckNodePort"):
        ports.add(spec["healthCheckNodePort"])
    return ports


def _invalid(service: Object, errors: Sequence[FieldError]) -> StatusError:
    return invalid_object("", "Service", service["metadata"].get("name", ""), errors)


def _refuse(service: Object, errors: Sequence[FieldError]) -> None:
    if errors:
        raise _invalid(service, errors)


def _internal(message: str) -> StatusError:
    return StatusError(
        500,
        "InternalError",
        f"Internal error occurred: {message}",
        {"causes": [{"message": message}]},
    )
