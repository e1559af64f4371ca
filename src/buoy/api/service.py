"""The Service."""

from __future__ import annotations

from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .models import core_v1
from .resource import SERVICES
from .selectors import from_labels

AFFINITY_TIMEOUT = 10800


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
    external = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs"))
    if external and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if kind in ("ClusterIP", "NodePort", "LoadBalancer") and not spec.get("internalTrafficPolicy"):
        spec["internalTrafficPolicy"] = "Cluster"
    if kind == "LoadBalancer":
        if spec.get("allocateLoadBalancerNodePorts") is None:
            spec["allocateLoadBalancerNodePorts"] = True
        for ingress in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
            if ingress.get("ip") and not ingress.get("ipMode"):
                ingress["ipMode"] = "VIP"


def prepare(service: Object, old: Object | None) -> None:
    service["status"] = {"loadBalancer": {}} if old is None else old.get("status", {})


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
    selectable_fields={
        "spec.clusterIP": lambda service: str((service.get("spec") or {}).get("clusterIP") or ""),
        "spec.type": lambda service: str((service.get("spec") or {}).get("type") or ""),
    },
)
