"""The Service.

Defaults, the upkeep of fields that depend on each other, and validation follow k8s.io/kubernetes'
``pkg/registry/core/service`` and ``pkg/apis/core/validation``. What needs to know the cluster's ranges, and
what is taken of them, is in `buoy.api.service_allocation`.
"""

from __future__ import annotations

from typing import Any

from . import formats, meta
from .formats import ip_address
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .metadata import IMMUTABLE, faults, validate_labels, validating
from .models import core_v1
from .resource import SERVICES
from .selectors import from_labels
from .service_warnings import TOPOLOGY_HINTS_ANNOTATION, TOPOLOGY_MODE_ANNOTATION, service_warnings
from .status import FieldError, duplicate, forbidden_field, invalid, not_supported, required

AFFINITY_TIMEOUT = 10800
HEADLESS = "None"
SOURCE_RANGES_ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"

_WITH_CLUSTER_IP = ("ClusterIP", "NodePort", "LoadBalancer")
_WITH_NODE_PORT = ("NodePort", "LoadBalancer")
_PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})
_TYPES = frozenset({*_WITH_CLUSTER_IP, "ExternalName"})
_POLICIES = frozenset({"Cluster", "Local"})
_DISTRIBUTIONS = frozenset({"PreferClose", "PreferSameNode", "PreferSameZone"})
_FAMILIES = frozenset({"IPv4", "IPv6"})
_FAMILY_POLICIES = frozenset({"SingleStack", "PreferDualStack", "RequireDualStack"})
_DAY = 86400


def is_headless(spec: Object) -> bool:
    return spec.get("clusterIPs") == [HEADLESS]


def is_external(spec: Object) -> bool:
    """It can be reached from outside the cluster."""
    kind = spec.get("type")
    return kind in _WITH_NODE_PORT or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check(spec: Object) -> bool:
    """It has a node port of its own for a load balancer's health checks."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def default(service: Object) -> None:
    spec = service.setdefault("spec", {})
    kind = spec.get("type") or "ClusterIP"
    spec["type"] = kind
    affinity = spec.get("sessionAffinity") or "None"
    spec["sessionAffinity"] = affinity
    if affinity == "None":
        spec.pop("sessionAffinityConfig", None)
    elif affinity == "ClientIP":
        config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        if config.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": AFFINITY_TIMEOUT}}
    for port in spec.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if not port.get("targetPort"):
            port["targetPort"] = port.get("port", 0)
    if is_external(spec) and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if kind in _WITH_CLUSTER_IP and not spec.get("internalTrafficPolicy"):
        spec["internalTrafficPolicy"] = "Cluster"
    if kind == "LoadBalancer":
        if spec.get("allocateLoadBalancerNodePorts") is None:
            spec["allocateLoadBalancerNodePorts"] = True
        for ingress in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
            if ingress.get("ip") and not ingress.get("ipMode"):
                ingress["ipMode"] = "VIP"


def prepare(service: Object, old: Object | None) -> None:
    """Fill in what the client left out and was allocated before; drop what its new type has no use for."""
    spec = service["spec"]
    if old is None:
        service["status"] = {"loadBalancer": {}}
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        return
    service["status"] = old.get("status", {})
    before = old["spec"]
    _keep_allocated(spec, before)
    _align_cluster_ips(spec, before)
    _drop_unused(spec, before)
    if spec["type"] != "LoadBalancer":
        service["status"] = {**service["status"], "loadBalancer": {}}


def _keep_allocated(spec: Object, before: Object) -> None:
    if "ExternalName" not in (spec["type"], before["type"]):
        if not spec.get("clusterIP") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
        if not spec.get("clusterIPs") and spec.get("clusterIP") == before.get("clusterIP"):
            _set(spec, "clusterIPs", list(before.get("clusterIPs") or ()))
    if spec["type"] in _WITH_NODE_PORT and before["type"] in _WITH_NODE_PORT:
        _keep_node_ports(spec.get("ports") or [], before.get("ports") or [])
    if needs_health_check(spec) and needs_health_check(before) and not spec.get("healthCheckNodePort"):
        _set(spec, "healthCheckNodePort", before.get("healthCheckNodePort"))


def _keep_node_ports(ports: list[Object], before: list[Object]) -> None:
    """A port without node port gets that of its namesake, unless another port claims it now."""
    known = {port.get("name", ""): port.get("nodePort", 0) for port in before}
    used = {port["nodePort"] for port in ports if port.get("nodePort")}
    for port in ports:
        if not port.get("nodePort"):
            former = known.get(port.get("name", ""), 0)
            if former and former not in used:
                port["nodePort"] = former
                used.add(former)


def _align_cluster_ips(spec: Object, before: Object) -> None:
    """Clients that know one of clusterIP and clusterIPs only: let the other follow."""
    same_list = (spec.get("clusterIPs") or []) == (before.get("clusterIPs") or [])
    if (spec.get("clusterIP") or "") != (before.get("clusterIP") or "") and same_list:
        cleared = not spec.get("clusterIP")
        _set(spec, "clusterIPs", [] if cleared else [spec["clusterIP"]])


def _drop_unused(spec: Object, before: Object) -> None:
    """Fields that the old type needed and the new one forbids go, but only if the user left them alone."""

    def unchanged(*fields: str) -> bool:
        return all(spec.get(field) == before.get(field) for field in fields)

    def drop(*fields: str) -> None:
        if unchanged(*fields):
            for field in fields:
                spec.pop(field, None)

    if before["type"] != "ExternalName" == spec["type"]:
        drop("clusterIP", "clusterIPs")
        drop("ipFamilies")
        drop("ipFamilyPolicy")
    released = before["type"] in _WITH_NODE_PORT and spec["type"] not in _WITH_NODE_PORT
    if released and _node_ports(spec) <= _node_ports(before):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)
    if needs_health_check(before) and not needs_health_check(spec):
        drop("healthCheckNodePort")
    if before["type"] == "LoadBalancer" != spec["type"]:
        drop("allocateLoadBalancerNodePorts")
        drop("loadBalancerClass")
    if is_external(before) and not is_external(spec):
        drop("externalTrafficPolicy")


def _node_ports(spec: Object) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


def _set(spec: Object, field: str, value: Any) -> None:
    if value:
        spec[field] = value
    else:
        spec.pop(field, None)


def _validate(service: Object, old: Object | None) -> list[FieldError]:
    spec = service["spec"]
    before = (old or {}).get("spec") or {}
    errors: list[FieldError] = []
    if old is not None:
        errors += _validate_ips_update(spec, before)
        errors += _validate_families_update(spec, before)
        errors += _validate_class_update(spec, before)
        both = needs_health_check(spec) and needs_health_check(before)
        if both and spec.get("healthCheckNodePort") != before.get("healthCheckNodePort"):
            errors.append(forbidden_field("spec.healthCheckNodePort", IMMUTABLE))
    errors += _validate_topology(service)
    errors += _validate_type(spec)
    errors += _validate_ports(spec)
    if spec.get("selector"):
        errors += validate_labels(spec["selector"], "spec.selector")
    errors += _validate_affinity(spec)
    errors += validate_cluster_ips(spec, before.get("clusterIPs") or ())
    errors += _validate_external_ips(spec, before.get("externalIPs") or ())
    kind = spec.get("type")
    if not kind:
        errors.append(required("spec.type"))
    elif kind not in _TYPES:
        errors.append(not_supported("spec.type", kind, _TYPES))
    errors += _validate_duplicates(spec)
    errors += _validate_load_balancer(service, old)
    errors += _validate_traffic(spec)
    return errors


def _validate_topology(service: Object) -> list[FieldError]:
    notes = meta.annotations(service)
    mode, hints = notes.get(TOPOLOGY_MODE_ANNOTATION), notes.get(TOPOLOGY_HINTS_ANNOTATION)
    if mode is None or hints is None or mode == hints:
        return []
    return [
        invalid(
            f"metadata.annotations[{TOPOLOGY_MODE_ANNOTATION}]",
            mode,
            f"must match annotations[{TOPOLOGY_HINTS_ANNOTATION}] when both are specified",
        )
    ]


def _validate_type(spec: Object) -> list[FieldError]:
    """What each type demands of the other fields."""
    errors: list[FieldError] = []
    kind = spec.get("type")
    headless = is_headless(spec)
    if not spec.get("ports") and not headless and kind != "ExternalName":
        errors.append(required("spec.ports"))
    if headless and kind in _WITH_NODE_PORT:
        errors.append(
            invalid("spec.clusterIPs[0]", HEADLESS, f"may not be set to 'None' for {kind} services")
        )
    if kind == "ExternalName":
        for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(field):
                errors.append(forbidden_field(f"spec.{field}", "may not be set for ExternalName services"))
        name = (spec.get("externalName") or "").removesuffix(".")
        if name:
            errors += faults("spec.externalName", name, formats.dns_subdomain(name))
        else:
            errors.append(required("spec.externalName"))
    return errors


def _validate_ports(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    ports = spec.get("ports") or ()
    names: set[str] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        name = port.get("name") or ""
        if name:
            errors += faults(f"{path}.name", name, formats.dns_label(name))
            if name in names:
                errors.append(duplicate(f"{path}.name", name))
            names.add(name)
        elif len(ports) > 1:
            errors.append(required(f"{path}.name"))
        number = port.get("port") or 0
        errors += [invalid(f"{path}.port", number, fault) for fault in formats.port_number(number)]
        protocol = port.get("protocol")
        if not protocol:
            errors.append(required(f"{path}.protocol"))
        elif protocol not in _PROTOCOLS:
            errors.append(not_supported(f"{path}.protocol", protocol, _PROTOCOLS))
        target = port.get("targetPort", 0)
        found = formats.port_name(target) if isinstance(target, str) else formats.port_number(target)
        errors += [invalid(f"{path}.targetPort", target, fault) for fault in found]
        if (application := port.get("appProtocol")) is not None:
            errors += faults(f"{path}.appProtocol", application, formats.label_key(application))
    return errors


def _validate_duplicates(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    ports = spec.get("ports") or ()
    if spec.get("type") == "ClusterIP":
        errors += [
            forbidden_field(f"spec.ports[{index}].nodePort", "may not be used when `type` is 'ClusterIP'")
            for index, port in enumerate(ports)
            if port.get("nodePort")
        ]
    seen = set()
    for index, port in enumerate(ports):
        node_port = port.get("nodePort")
        if node_port:
            if (port.get("protocol"), node_port) in seen:
                errors.append(duplicate(f"spec.ports[{index}].nodePort", node_port))
            seen.add((port.get("protocol"), node_port))
    seen = set()
    for index, port in enumerate(ports):
        key = (port.get("protocol"), port.get("port"))
        if key in seen:
            errors.append(duplicate(f"spec.ports[{index}]", _internal_port(*key)))
        seen.add(key)
    return errors


def _internal_port(protocol: Any, port: Any) -> Object:
    """Kubernetes shows its internal form of a port here, with all fields and its own spelling of them."""
    return {
        "Name": "",
        "Protocol": protocol or "",
        "AppProtocol": None,
        "Port": port or 0,
        "TargetPort": 0,
        "NodePort": 0,
    }


def _validate_affinity(spec: Object) -> list[FieldError]:
    affinity = spec.get("sessionAffinity")
    config = spec.get("sessionAffinityConfig")
    if not affinity:
        return [required("spec.sessionAffinity")]
    if affinity == "None":
        if config is None:
            return []
        return [
            forbidden_field("spec.sessionAffinityConfig", "must not be set when session affinity is None")
        ]
    if affinity != "ClientIP":
        return [not_supported("spec.sessionAffinity", affinity, ("ClientIP", "None"))]
    path = "spec.sessionAffinityConfig"
    if config is None:
        return [required(path, "when session affinity type is ClientIP")]
    if config.get("clientIP") is None:
        return [required(f"{path}.clientIP", "when session affinity type is ClientIP")]
    timeout = config["clientIP"].get("timeoutSeconds")
    if timeout is None:
        return [required(f"{path}.clientIP.timeoutSeconds", "when session affinity type is ClientIP")]
    if not 0 < timeout <= _DAY:
        return [
            invalid(
                f"{path}.clientIP.timeoutSeconds",
                timeout,
                f"must be greater than 0 and less than {_DAY}",
            )
        ]
    return []


def validate_cluster_ips(spec: Object, before: Any = ()) -> list[FieldError]:
    """clusterIP(s), ipFamilies and ipFamilyPolicy together; addresses in *before* are beyond dispute."""
    if spec.get("type") == "ExternalName":
        return []
    errors: list[FieldError] = []
    ips = spec.get("clusterIPs") or []
    families = spec.get("ipFamilies") or []
    policy = spec.get("ipFamilyPolicy")
    if spec.get("clusterIP"):
        if not ips:
            errors.append(required("spec.clusterIPs"))
        elif ips[0] != spec["clusterIP"]:
            errors.append(invalid("spec.clusterIPs", ips, "first value must match `clusterIP`"))
    elif ips:
        errors.append(invalid("spec.clusterIPs", ips, "must be empty when `clusterIP` is not specified"))
    for index, family in enumerate(families):
        if family not in _FAMILIES:
            errors.append(not_supported(f"spec.ipFamilies[{index}]", family, _FAMILIES))
        if family in families[:index]:
            errors.append(duplicate(f"spec.ipFamilies[{index}]", family))
    if policy is not None and policy not in _FAMILY_POLICIES:
        errors.append(not_supported("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES))
    bad = False
    for index, address in enumerate(ips):
        if index == 0 and address == HEADLESS:
            if len(ips) > 1:
                bad = True
                errors.append(invalid("spec.clusterIPs", ips, "'None' must be the first and only value"))
        elif address not in before and (found := formats.ip(address)):
            bad = True
            errors += faults(f"spec.clusterIPs[{index}]", address, found)
    if len(ips) > 2:
        errors.append(invalid("spec.clusterIPs", ips, "may only hold up to 2 values"))
    if bad:
        return errors
    if len(ips) > 1 and len({":" in address for address in ips}) != len(ips):
        errors.append(invalid("spec.clusterIPs", ips, "may specify no more than one IP for each IP family"))
    if not is_headless(spec):
        for index, (address, family) in enumerate(zip(ips, families, strict=False)):
            if family in _FAMILIES and (":" in address) is not (family == "IPv6"):
                errors.append(
                    invalid(
                        f"spec.clusterIPs[{index}]",
                        address,
                        f"expected an {family} value as indicated by `ipFamilies[{index}]`",
                    )
                )
    return errors


def _validate_external_ips(spec: Object, before: Any) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, address in enumerate(spec.get("externalIPs") or ()):
        path = f"spec.externalIPs[{index}]"
        found = () if address in before else formats.ip(address)
        errors += faults(path, address, found or formats.ordinary_ip(address))
    return errors


def _validate_load_balancer(service: Object, old: Object | None) -> list[FieldError]:
    errors: list[FieldError] = []
    spec = service["spec"]
    balanced = spec.get("type") == "LoadBalancer"
    only = "may only be used when `type` is 'LoadBalancer'"
    ranges = spec.get("loadBalancerSourceRanges")
    noted = meta.annotations(service).get(SOURCE_RANGES_ANNOTATION)
    if ranges:
        # Kubernetes spells the path so, with a capital L.
        path = "spec.LoadBalancerSourceRanges"
        known = {
            each.strip() for each in ((old or {}).get("spec") or {}).get("loadBalancerSourceRanges") or ()
        }
        if not balanced:
            errors.append(forbidden_field(path, only))
        for index, text in enumerate(each.strip() for each in ranges):
            if text not in known:
                errors += faults(f"{path}[{index}]", text, formats.cidr(text))
    elif noted is not None:
        path = f"metadata.annotations[{SOURCE_RANGES_ANNOTATION}]"
        if not balanced:
            errors.append(forbidden_field(path, only))
        if noted.strip() and (old is None or meta.annotations(old).get(SOURCE_RANGES_ANNOTATION) != noted):
            for text in (each.strip() for each in noted.strip().split(",")):
                errors += faults(path, text, formats.cidr(text))
    if spec.get("allocateLoadBalancerNodePorts") is not None:
        if not balanced:
            errors.append(forbidden_field("spec.allocateLoadBalancerNodePorts", only))
    elif balanced:
        errors.append(required("allocateLoadBalancerNodePorts"))
    name = spec.get("loadBalancerClass")
    if name is not None:
        if balanced:
            errors += faults("spec.loadBalancerClass", name, formats.label_key(name))
        else:
            errors.append(forbidden_field("spec.loadBalancerClass", only))
    return errors


def _validate_traffic(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    external = spec.get("externalTrafficPolicy")
    if not is_external(spec):
        if external:
            errors.append(
                invalid(
                    "spec.externalTrafficPolicy",
                    external,
                    "may only be set for externally-accessible services",
                )
            )
    elif not external:
        errors.append(required("spec.externalTrafficPolicy"))
    elif external not in _POLICIES:
        errors.append(not_supported("spec.externalTrafficPolicy", external, _POLICIES))
    port = spec.get("healthCheckNodePort") or 0
    path = "spec.healthCheckNodePort"
    if not needs_health_check(spec):
        if port:
            errors.append(
                invalid(
                    path,
                    port,
                    "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
                )
            )
    elif not port:
        errors.append(required(path))
    else:
        errors += [invalid(path, port, fault) for fault in formats.port_number(port)]
    internal = spec.get("internalTrafficPolicy")
    if internal is None:
        if spec.get("type") in _WITH_CLUSTER_IP:
            errors.append(required("spec.internalTrafficPolicy"))
    elif internal not in _POLICIES:
        errors.append(not_supported("spec.internalTrafficPolicy", internal, _POLICIES))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        errors.append(not_supported("spec.trafficDistribution", distribution, _DISTRIBUTIONS))
    return errors


def _validate_ips_update(spec: Object, before: Object) -> list[FieldError]:
    """Addresses stay, but for a secondary one that comes or, with SingleStack, goes."""
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return []
    if is_headless(spec) and is_headless(before):
        return []
    errors: list[FieldError] = []
    new, old = spec.get("clusterIPs") or [], before.get("clusterIPs") or []
    fixed = "may not change once set"
    if len(new) == len(old):
        return [
            invalid(f"spec.clusterIPs[{index}]", new, fixed)
            for index, address in enumerate(old)
            if address != new[index]
        ]
    if old and not new:
        errors.append(invalid("spec.clusterIPs[0]", new, "primary clusterIP can not be unset"))
    if old and new and old[0] != new[0]:
        errors.append(invalid("spec.clusterIPs[0]", new, fixed))
    if len(new) == 1 < len(old) and spec.get("ipFamilyPolicy") != "SingleStack":
        errors.append(
            invalid(
                "spec.ipFamilyPolicy",
                spec.get("ipFamilyPolicy"),
                "must be set to 'SingleStack' when releasing the secondary clusterIP",
            )
        )
    return errors


def _validate_families_update(spec: Object, before: Object) -> list[FieldError]:
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return []
    if is_headless(spec) or is_headless(before):
        return []
    errors: list[FieldError] = []
    new, old = spec.get("ipFamilies") or [], before.get("ipFamilies") or []
    fixed = "may not change once set"
    if len(new) == len(old):
        return [
            invalid("spec.ipFamilies[0]", new, fixed)
            for index, family in enumerate(old)
            if family != new[index]
        ]
    if len(new) < len(old) and not spec.get("clusterIPs"):
        errors.append(invalid("spec.ipFamilies[0]", new, "primary ipFamily can not be unset"))
    if old and new and old[0] != new[0]:
        errors.append(invalid("spec.ipFamilies[0]", spec.get("clusterIPs") or [], fixed))
    if len(new) == 1 < len(old) and spec.get("ipFamilyPolicy") != "SingleStack":
        errors.append(
            invalid(
                "spec.ipFamilyPolicy",
                spec.get("ipFamilyPolicy"),
                "must be set to 'SingleStack' when releasing the secondary ipFamily",
            )
        )
    return errors


def _validate_class_update(spec: Object, before: Object) -> list[FieldError]:
    if spec.get("type") == before.get("type") == "LoadBalancer":
        name = spec.get("loadBalancerClass")
        if name != before.get("loadBalancerClass"):
            return [invalid("spec.loadBalancerClass", name, "may not change once set")]
    return []


def _validate_status(service: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    ingresses = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    path = "status.loadBalancer.ingress"
    if ingresses and service["spec"].get("type") != "LoadBalancer":
        return [forbidden_field(path, "may only be used when `spec.type` is 'LoadBalancer'")]
    for index, ingress in enumerate(ingresses):
        here = f"{path}[{index}]"
        address, mode, host = ingress.get("ip"), ingress.get("ipMode"), ingress.get("hostname")
        if address:
            errors += faults(f"{here}.ip", address, formats.ip(address))
        if mode is None:
            if address:
                errors.append(required(f"{here}.ipMode", "must be specified when `ip` is set"))
        elif not address:
            errors.append(forbidden_field(f"{here}.ipMode", "may not be specified when `ip` is not set"))
        elif mode not in ("Proxy", "VIP"):
            errors.append(not_supported(f"{here}.ipMode", mode, ("Proxy", "VIP")))
        if host:
            errors += faults(f"{here}.hostname", host, formats.dns_subdomain(host))
            if ip_address(host) is not None:
                errors.append(invalid(f"{here}.hostname", host, "must be a DNS name, not an IP address"))
    return errors


def external_ips(service: Object) -> list[str]:
    """What kubectl lists under EXTERNAL-IP: the load balancer's addresses, then ``spec.externalIPs``."""
    spec = service.get("spec") or {}
    found: set[str] = set()
    if spec.get("type") == "LoadBalancer":
        for ingress in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
            address = ingress.get("ip") or ingress.get("hostname")
            if address:
                found.add(str(address))
    return sorted(found) + [str(address) for address in spec.get("externalIPs") or ()]


def _external(service: Object) -> str:
    spec = service.get("spec") or {}
    match spec.get("type"):
        case "ExternalName":
            return str(spec.get("externalName") or "")
        case "LoadBalancer":
            addresses = external_ips(service)
            return ",".join(addresses) if addresses else "<pending>"
        case "ClusterIP" | "NodePort":
            return ",".join(external_ips(service)) or "<none>"
    return "<unknown>"


def _cluster_ip(service: Object) -> str:
    spec = service.get("spec") or {}
    ips = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return str(ips[0]) if ips else "<none>"


def _ports(service: Object) -> str:
    shown = []
    for port in (service.get("spec") or {}).get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        shown.append(f"{port.get('port', 0)}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(shown) or "<none>"


def _selector(service: Object) -> str:
    return str(from_labels((service.get("spec") or {}).get("selector"))) or "<none>"


SERVICE = Kind(
    resource=SERVICES,
    model=core_v1.Service,
    singular="service",
    short_names=("svc",),
    categories=("all",),
    columns=(
        NAME_COLUMN,
        Column("Type", lambda service: (service.get("spec") or {}).get("type", "")),
        Column("Cluster-IP", _cluster_ip),
        Column("External-IP", _external),
        Column("Port(s)", _ports),
        AGE_COLUMN,
        Column("Selector", _selector, wide=True),
    ),
    has_status=True,
    default=default,
    prepare=prepare,
    validate=validating(formats.dns_label, _validate),
    warn=service_warnings,
    validate_status=_validate_status,
    selectable_fields={
        "spec.clusterIP": lambda service: str((service.get("spec") or {}).get("clusterIP") or ""),
        "spec.type": lambda service: str((service.get("spec") or {}).get("type") or ""),
    },
)
