"""The Pod's specification: defaults, in a Pod and in the template of a workload."""

from __future__ import annotations

from .meta import Object
from .persistentvolumeclaim import default_spec as default_claim_spec
from .quantity import canonical

_FILE_MODE = 0o644


def image_tag(image: str) -> str:
    """The tag of an image reference: ``latest`` if it has none; empty if only a digest names it."""
    name, at, _ = image.partition("@")
    last = name.rpartition("/")[2]
    _, colon, tag = last.partition(":")
    if colon:
        return tag
    return "" if at else "latest"


def default_pod_spec(spec: Object) -> None:
    """What holds in a template too."""
    _default(spec, "restartPolicy", "Always")
    _default(spec, "dnsPolicy", "ClusterFirst")
    _default(spec, "schedulerName", "default-scheduler")
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    if spec.get("serviceAccount") and not spec.get("serviceAccountName"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    elif spec.get("serviceAccountName"):
        # The deprecated name for the same field is always kept in step.
        spec["serviceAccount"] = spec["serviceAccountName"]
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            _default_container(container)
    for volume in spec.get("volumes") or ():
        _default_volume(volume)
    for constraint in spec.get("topologySpreadConstraints") or ():
        _default(constraint, "whenUnsatisfiable", "DoNotSchedule")
    _canonical_resources(spec)
    _canonical(spec, "overhead")


def default_pod_only(spec: Object) -> None:
    """What is filled in a Pod but not in a template."""
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            resources = container.get("resources") or {}
            if resources.get("limits"):
                requests = resources.setdefault("requests", {})
                for name, limit in resources["limits"].items():
                    requests.setdefault(name, limit)
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    if spec.get("hostNetwork"):
        default_host_ports(spec)


def default_host_ports(spec: Object) -> None:
    """In the host's network a container port is a host port."""
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            for port in container.get("ports") or ():
                if not port.get("hostPort") and port.get("containerPort"):
                    port["hostPort"] = port["containerPort"]


def default_template(template: Object) -> None:
    default_pod_spec(template.setdefault("spec", {}))
    template.setdefault("metadata", {})
    if template["spec"].get("hostNetwork"):
        default_host_ports(template["spec"])


def _default(obj: Object, field: str, value: object) -> None:
    if not obj.get(field):
        obj[field] = value


def _canonical(obj: Object, field: str) -> None:
    amounts = obj.get(field)
    if amounts:
        obj[field] = {name: canonical(amount) for name, amount in amounts.items()}


def _canonical_resources(holder: Object) -> None:
    resources = holder.get("resources")
    if resources:
        _canonical(resources, "limits")
        _canonical(resources, "requests")


def _default_container(container: Object) -> None:
    if not container.get("imagePullPolicy"):
        latest = image_tag(container.get("image") or "") == "latest"
        container["imagePullPolicy"] = "Always" if latest else "IfNotPresent"
    _default(container, "terminationMessagePath", "/dev/termination-log")
    _default(container, "terminationMessagePolicy", "File")
    if container.get("resources") is None:
        container["resources"] = {}
    _canonical_resources(container)
    for port in container.get("ports") or ():
        _default(port, "protocol", "TCP")
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(field) is not None:
            _default_probe(container[field])
    lifecycle = container.get("lifecycle") or {}
    for field in ("postStart", "preStop"):
        if lifecycle.get(field):
            _default_http_get(lifecycle[field])
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        if source.get("fieldRef"):
            _default(source["fieldRef"], "apiVersion", "v1")
        if source.get("resourceFieldRef") is not None:
            _default_divisor(source["resourceFieldRef"])


def _default_probe(probe: Object) -> None:
    _default(probe, "timeoutSeconds", 1)
    _default(probe, "periodSeconds", 10)
    _default(probe, "successThreshold", 1)
    _default(probe, "failureThreshold", 3)
    _default_http_get(probe)
    if probe.get("grpc") is not None and probe["grpc"].get("service") is None:
        probe["grpc"]["service"] = ""


def _default_http_get(handler: Object) -> None:
    action = handler.get("httpGet")
    if action is not None:
        _default(action, "path", "/")
        _default(action, "scheme", "HTTP")


def _default_divisor(reference: Object) -> None:
    if reference.get("divisor") is None:
        reference["divisor"] = "0"
    else:
        reference["divisor"] = canonical(reference["divisor"])


def _default_volume(volume: Object) -> None:
    if len(volume) == 1 and "name" in volume:
        volume["emptyDir"] = {}
    for field in ("secret", "configMap", "projected", "downwardAPI"):
        source = volume.get(field)
        if source is not None and source.get("defaultMode") is None:
            source["defaultMode"] = _FILE_MODE
    if volume.get("downwardAPI"):
        _default_downward_items(volume["downwardAPI"])
    for source in (volume.get("projected") or {}).get("sources") or ():
        if source.get("serviceAccountToken") is not None:
            token = source["serviceAccountToken"]
            if token.get("expirationSeconds") is None:
                token["expirationSeconds"] = 3600
        if source.get("downwardAPI"):
            _default_downward_items(source["downwardAPI"])
    if volume.get("hostPath") is not None and volume["hostPath"].get("type") is None:
        volume["hostPath"]["type"] = ""
    if (volume.get("emptyDir") or {}).get("sizeLimit") is not None:
        volume["emptyDir"]["sizeLimit"] = canonical(volume["emptyDir"]["sizeLimit"])
    image = volume.get("image")
    if image is not None and not image.get("pullPolicy"):
        latest = image_tag(image.get("reference") or "") == "latest"
        image["pullPolicy"] = "Always" if latest else "IfNotPresent"
    claim = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if claim:
        default_claim_spec(claim.setdefault("spec", {}))


def _default_downward_items(source: Object) -> None:
    for item in source.get("items") or ():
        if item.get("fieldRef"):
            _default(item["fieldRef"], "apiVersion", "v1")
        if item.get("resourceFieldRef") is not None:
            _default_divisor(item["resourceFieldRef"])
