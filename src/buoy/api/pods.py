"""What a Pod's object tells: readiness, resources, class of service, restarts. Shared by all components."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from . import quantity
from .meta import Object

SAFE_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
TEMPLATE_HASH_LABEL = "pod-template-hash"

_ZERO = Decimal(0)
Resources = dict[str, Decimal]


def condition(pod: Object, kind: str) -> Object | None:
    """The condition of that type, of a Pod or anything else with ``status.conditions``."""
    for each in (pod.get("status") or {}).get("conditions") or ():
        if each.get("type") == kind:
            found: Object = each
            return found
    return None


def is_true(obj: Object, kind: str) -> bool:
    """Whether the condition of that type is ``True``."""
    found = condition(obj, kind)
    return found is not None and found.get("status") == "True"


def phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def is_ready(pod: Object) -> bool:
    """The condition ``Ready`` is ``True``."""
    return is_true(pod, "Ready")


def is_terminal(pod: Object) -> bool:
    """It has ended, one way or the other, and will not run again."""
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Neither ended nor about to be deleted."""
    return not is_terminal(pod) and not pod["metadata"].get("deletionTimestamp")


def is_sidecar(init_container: Object) -> bool:
    """An init container that keeps running beside the containers."""
    return init_container.get("restartPolicy") == "Always"


def all_containers(spec: Object) -> Iterator[tuple[str, int, Object]]:
    """Every container with the field that it stands in and its index there."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield field, index, container


def container_status(pod: Object, name: str) -> Object | None:
    """The status of the container of that name, of whichever sort it is."""
    status = pod.get("status") or {}
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for each in status.get(field) or ():
            if each.get("name") == name:
                found: Object = each
                return found
    return None


def ips(pod: Object) -> list[str]:
    """The Pod's addresses, the primary one first."""
    status = pod.get("status") or {}
    found = [str(each["ip"]) for each in status.get("podIPs") or () if each.get("ip")]
    if not found and status.get("podIP"):
        found = [str(status["podIP"])]
    return found


def named_port(pod: Object, port: int | str, protocol: str = "TCP") -> int | None:
    """The number of a target port: itself, or that of the container port of this name and protocol."""
    if isinstance(port, int):
        return port
    spec = pod.get("spec") or {}
    sidecars = [each for each in spec.get("initContainers") or () if is_sidecar(each)]
    for container in (*(spec.get("containers") or ()), *sidecars):
        for each in container.get("ports") or ():
            if each.get("name") == port and (each.get("protocol") or "TCP") == protocol:
                return int(each["containerPort"])
    return None


HostPort = tuple[str, str, int]
"""``(address, protocol, port)``; address ``0.0.0.0`` stands for all."""

_EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - how a host port says that it is on every address


def host_ports(pod: Object) -> set[HostPort]:
    found = set()
    spec = pod.get("spec") or {}
    sidecars = [each for each in spec.get("initContainers") or () if is_sidecar(each)]
    for container in (*(spec.get("containers") or ()), *sidecars):
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                address = port.get("hostIP") or _EVERY_ADDRESS
                found.add((address, port.get("protocol") or "TCP", int(port["hostPort"])))
    return found


def host_ports_clash(wanted: Iterable[HostPort], taken: Iterable[HostPort]) -> bool:
    """Whether one of *wanted* cannot be had where *taken* are in use."""
    taken = list(taken)
    return any(
        (protocol, port) == (other_protocol, other_port)
        and (address == other_address or _EVERY_ADDRESS in (address, other_address))
        for address, protocol, port in wanted
        for other_address, other_protocol, other_port in taken
    )


def _amounts(container: Object, field: str) -> Resources:
    resources = container.get("resources") or {}
    return {name: quantity.value(text) for name, text in (resources.get(field) or {}).items()}


def _add(total: Resources, more: Mapping[str, Decimal]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, _ZERO) + amount


def _raise(total: Resources, floor: Mapping[str, Decimal]) -> None:
    for name, amount in floor.items():
        if amount > total.get(name, _ZERO):
            total[name] = amount


def _effective(spec: Object, field: str) -> Resources:
    total: Resources = {}
    for container in spec.get("containers") or ():
        _add(total, _amounts(container, field))
    sidecars: Resources = {}
    peak: Resources = {}
    for container in spec.get("initContainers") or ():
        amounts = _amounts(container, field)
        if is_sidecar(container):
            _add(total, amounts)
            _add(sidecars, amounts)
            _raise(peak, sidecars)
        else:
            _add(amounts, sidecars)
            _raise(peak, amounts)
    _raise(total, peak)
    total.update(_amounts(spec, field))
    return total


def _overhead(spec: Object) -> Resources:
    return {name: quantity.value(text) for name, text in (spec.get("overhead") or {}).items()}


def requests(pod: Object) -> Resources:
    """What the Pod needs of a node, by resource name, in cores, bytes or pieces.

    The containers together with the sidecars, or the greediest moment of initialisation if that is more;
    Pod-level resources replace the sum; the overhead comes on top.
    """
    spec = pod.get("spec") or {}
    total = _effective(spec, "requests")
    _add(total, _overhead(spec))
    return total


def limits(pod: Object) -> Resources:
    """The Pod's limits, reckoned as `requests`; only resources that are limited at all."""
    spec = pod.get("spec") or {}
    total = _effective(spec, "limits")
    for name, amount in _overhead(spec).items():
        if name in total:
            total[name] += amount
    return total


def qos_class(pod: Object) -> str:
    """``Guaranteed``, ``Burstable`` or ``BestEffort``, from CPU and memory of all containers."""
    spec = pod.get("spec") or {}
    if (spec.get("resources") or {}).get("requests") or (spec.get("resources") or {}).get("limits"):
        holders: Iterable[Object] = (spec,)
    else:
        holders = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    any_set = False
    guaranteed = True
    for holder in holders:
        wanted, limited = _amounts(holder, "requests"), _amounts(holder, "limits")
        for name in ("cpu", "memory"):
            request, limit = wanted.get(name, _ZERO), limited.get(name, _ZERO)
            any_set = any_set or bool(request) or bool(limit)
            guaranteed = guaranteed and bool(limit) and request == limit
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def safe_encode(number: int, length: int = 10) -> str:
    """*length* characters of the alphabet in which no word, least of all a bad one, can be spelt."""
    letters = []
    for _ in range(length):
        number, digit = divmod(number, len(SAFE_ALPHABET))
        letters.append(SAFE_ALPHABET[digit])
    return "".join(letters)


def template_hash(template: Object, collision_count: int | None = None) -> str:
    """The value of ``pod-template-hash``: ten characters, the same for equal templates in any key order.

    *collision_count* makes another hash of the same template, when the first is taken by something else.
    """
    digest = hashlib.sha256(msgspec.json.encode(template, order="deterministic"))
    if collision_count:
        digest.update(collision_count.to_bytes(8, "little"))
    return safe_encode(int.from_bytes(digest.digest(), "little"))


def restarts(pod: Object) -> int:
    """Restarts of all containers and sidecars."""
    status = pod.get("status") or {}
    sidecars = {each.get("name") for each in pod["spec"].get("initContainers") or () if is_sidecar(each)}
    statuses: list[Any] = list(status.get("containerStatuses") or ())
    statuses += [each for each in status.get("initContainerStatuses") or () if each.get("name") in sidecars]
    return sum(int(each.get("restartCount") or 0) for each in statuses)


def service_variable_prefix(name: str) -> str:
    """``my-service`` as it begins the names of environment variables: ``MY_SERVICE``."""
    return name.upper().replace("-", "_")
