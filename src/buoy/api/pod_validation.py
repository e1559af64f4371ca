"""Faults in Pods and Pod templates, and in what an update would make of a Pod.

After k8s.io/kubernetes' ``pkg/apis/core/validation``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import formats, meta
from .meta import Object
from .metadata import equivalent, faults, immutable, validate_labels, validate_template_metadata
from .pod_containers import (
    Surroundings,
    validate_containers,
    validate_ephemeral_containers,
    validate_image,
    validate_init_containers,
)
from .pod_placement import validate_affinity, validate_spreading, validate_tolerations
from .pod_security import validate_host_users, validate_pod_security_context
from .pod_volumes import validate_volumes
from .pods import is_sidecar
from .status import FieldError, duplicate, forbidden_field, invalid, not_supported, required

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
DELETION_COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION_POLICIES = ("PreemptLowerPriority", "Never")
_INT32 = 2**31 - 1
_NAMESERVERS = 3
_SEARCHES = 32
_SEARCH_LENGTH = 2048
_UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def validate_pod_spec(spec: Object, path: str, *, in_pod: bool) -> list[FieldError]:
    """A Pod's specification, or with *in_pod* False that of a template."""
    errors: list[FieldError] = []
    grace_period = spec.get("terminationGracePeriodSeconds")
    if grace_period is None:
        errors.append(required(f"{path}.terminationGracePeriodSeconds"))
    volumes, found = validate_volumes(spec.get("volumes") or (), f"{path}.volumes", in_pod=in_pod)
    errors += found
    claims = frozenset(each["name"] for each in spec.get("resourceClaims") or () if each.get("name"))
    around = Surroundings(
        volumes, claims, grace_period, spec.get("restartPolicy") or "", spec.get("hostUsers") is not False
    )
    containers, init = spec.get("containers") or (), spec.get("initContainers") or ()
    errors += validate_containers(containers, around, f"{path}.containers")
    if init:
        errors += validate_init_containers(init, containers, around, f"{path}.initContainers")
    if spec.get("ephemeralContainers"):
        errors += validate_ephemeral_containers(
            spec["ephemeralContainers"], (*containers, *init), around, f"{path}.ephemeralContainers"
        )
    if spec.get("hostNetwork"):
        errors += _validate_host_network(containers, path, in_pod)
    errors += _one_of(spec.get("restartPolicy"), _RESTART_POLICIES, f"{path}.restartPolicy")
    errors += _one_of(spec.get("dnsPolicy"), _DNS_POLICIES, f"{path}.dnsPolicy")
    if spec.get("nodeSelector"):
        errors += validate_labels(spec["nodeSelector"], f"{path}.nodeSelector")
    if spec.get("securityContext"):
        errors += validate_pod_security_context(spec["securityContext"], spec, f"{path}.securityContext")
    if spec.get("affinity"):
        errors += validate_affinity(spec["affinity"], f"{path}.affinity")
    errors += _validate_dns(spec, f"{path}.dnsConfig")
    errors += _validate_gates(spec, path)
    if spec.get("topologySpreadConstraints"):
        errors += validate_spreading(spec["topologySpreadConstraints"], f"{path}.topologySpreadConstraints")
    errors += validate_host_users(spec, path)
    errors += _validate_names(spec, path)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _INT32:
        errors.append(invalid(f"{path}.activeDeadlineSeconds", deadline, formats.between(1, _INT32)))
    if spec.get("tolerations"):
        errors += validate_tolerations(spec["tolerations"], f"{path}.tolerations")
    if spec.get("hostAliases"):
        errors += _validate_host_aliases(spec["hostAliases"], f"{path}.hostAliases")
    if spec.get("preemptionPolicy") is not None:
        errors += _one_of(spec["preemptionPolicy"], _PREEMPTION_POLICIES, f"{path}.preemptionPolicy")
    return errors


def validate_template(template: Object, path: str) -> list[FieldError]:
    """The template of a workload."""
    spec = template.get("spec") or {}
    errors = validate_template_metadata(template.get("metadata") or {}, path)
    errors += validate_pod_spec(spec, f"{path}.spec", in_pod=False)
    if spec.get("ephemeralContainers"):
        errors.append(
            forbidden_field(
                f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"
            )
        )
    return errors


def _one_of(value: str | None, supported: Sequence[str], path: str) -> list[FieldError]:
    if value in supported:
        return []
    return [not_supported(path, value, supported) if value else required(path)]


def _validate_host_network(containers: Sequence[Object], path: str, in_pod: bool) -> list[FieldError]:
    return [
        invalid(
            f"{path}.containers[{index}].ports[{position}].hostPort",
            port.get("hostPort") or 0,
            "must match `containerPort` when `hostNetwork` is true",
        )
        for index, container in enumerate(containers)
        for position, port in enumerate(container.get("ports") or ())
        if (in_pod or port.get("hostPort")) and port.get("hostPort") != port.get("containerPort")
    ]


def _validate_names(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for field, check in (
        ("serviceAccountName", formats.dns_subdomain),
        ("nodeName", formats.dns_subdomain),
        ("hostname", formats.dns_label),
        ("subdomain", formats.dns_label),
        ("priorityClassName", formats.dns_subdomain),
        ("runtimeClassName", formats.dns_subdomain),
    ):
        name = spec.get(field)
        if name and (found := check(name)):
            errors += faults(f"{path}.{field}", name, found)
    return errors


def _validate_dns(spec: Object, path: str) -> list[FieldError]:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            return [required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.get("nameservers"):
            return [
                required(
                    f"{path}.nameservers",
                    "must provide at least one DNS nameserver when `dnsPolicy` is None",
                )
            ]
    if not config:
        return []
    errors: list[FieldError] = []
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > _NAMESERVERS:
        errors.append(
            invalid(f"{path}.nameservers", servers, f"must not have more than {_NAMESERVERS} nameservers")
        )
    for index, server in enumerate(servers):
        errors += faults(f"{path}.nameservers[{index}]", server, formats.ip(server))
    if len(searches) > _SEARCHES:
        errors.append(
            invalid(f"{path}.searches", searches, f"must not have more than {_SEARCHES} search paths")
        )
    if formats.size(" ".join(searches)) > _SEARCH_LENGTH:
        errors.append(
            invalid(
                f"{path}.searches",
                searches,
                f"must not have more than {_SEARCH_LENGTH} characters (including spaces) in the search list",
            )
        )
    for index, search in enumerate(searches):
        if search != ".":
            name = search.removesuffix(".")
            errors += faults(f"{path}.searches[{index}]", name, formats.search_domain(name))
    for index, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            errors.append(required(f"{path}.options[{index}]", "must not be empty"))
    return errors


def _validate_gates(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType") or ""
        errors += faults(f"{path}.readinessGates[{index}].conditionType", kind, formats.label_key(kind))
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        name = gate.get("name") or ""
        errors += faults(f"{path}.schedulingGates[{index}]", name, formats.label_key(name))
        if name in seen:
            errors.append(duplicate(f"{path}.schedulingGates[{index}]", name))
        seen.add(name)
    return errors


def _validate_host_aliases(aliases: Sequence[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, alias in enumerate(aliases):
        address = alias.get("ip") or ""
        errors += faults(f"{path}[{index}].ip", address, formats.ip(address))
        for position, name in enumerate(alias.get("hostnames") or ()):
            errors += faults(f"{path}[{index}].hostnames[{position}]", name, formats.dns_subdomain(name))
    return errors


def validate_pod(pod: Object, old: Object | None) -> list[FieldError]:
    """A Pod's own faults, without those of its metadata."""
    spec = pod.get("spec") or {}
    errors = _validate_annotations(pod, old)
    errors += validate_pod_spec(spec, "spec", in_pod=True)
    if not spec.get("serviceAccountName"):
        errors += [
            forbidden_field(
                f"spec.volumes[{index}].projected.sources[{position}].serviceAccountToken",
                "must not be specified when serviceAccountName is not set",
            )
            for index, volume in enumerate(spec.get("volumes") or ())
            for position, source in enumerate((volume.get("projected") or {}).get("sources") or ())
            if source.get("serviceAccountToken") is not None
        ]
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            errors += validate_image(container, f"spec.{field}[{index}]")
    if old is None:
        if spec.get("ephemeralContainers"):
            errors.append(forbidden_field("spec.ephemeralContainers", "cannot be set on create"))
        if spec.get("nodeName") and spec.get("schedulingGates"):
            errors.append(
                forbidden_field("spec.nodeName", "cannot be set until all schedulingGates have been cleared")
            )
        return errors
    return errors + _validate_update(spec, old.get("spec") or {})


def validate_ephemeral_update(pod: Object, old: Object) -> list[FieldError]:
    """Faults of a Pod that was given more ephemeral containers; those that it has stay as they are."""
    errors = validate_pod_spec(pod["spec"], "spec", in_pod=True)
    found = {each.get("name"): each for each in pod["spec"].get("ephemeralContainers") or ()}
    for former in old["spec"].get("ephemeralContainers") or ():
        name, path = former["name"], "spec.ephemeralContainers"
        if name not in found:
            errors.append(
                forbidden_field(path, f'existing ephemeral containers "{name}" may not be removed\n')
            )
        elif not equivalent(found[name], former):
            errors.append(
                forbidden_field(path, f'existing ephemeral containers "{name}" may not be changed\n')
            )
    return errors


def _validate_annotations(pod: Object, old: Object | None) -> list[FieldError]:
    errors: list[FieldError] = []
    notes = meta.annotations(pod)
    path = "metadata.annotations"
    if old is not None:
        former, mirror = meta.annotations(old).get(MIRROR_ANNOTATION), notes.get(MIRROR_ANNOTATION)
        if former is not None and former != mirror:
            errors.append(
                forbidden_field(
                    f"{path}[{MIRROR_ANNOTATION}]", "may not remove or update mirror pod annotation"
                )
            )
        elif former is None and mirror is not None:
            errors.append(
                forbidden_field(f"{path}[{MIRROR_ANNOTATION}]", "may not add mirror pod annotation")
            )
    if MIRROR_ANNOTATION in notes and not (pod.get("spec") or {}).get("nodeName"):
        errors.append(
            invalid(
                f"{path}[{MIRROR_ANNOTATION}]",
                notes[MIRROR_ANNOTATION],
                "must set spec.nodeName if mirror pod annotation is set",
            )
        )
    cost = notes.get(DELETION_COST_ANNOTATION)
    if cost is not None and not _is_int32(cost):
        errors.append(invalid(f"{path}[{DELETION_COST_ANNOTATION}]", cost, "must be a 32bit integer"))
    return errors


def _is_int32(text: str) -> bool:
    digits = text[1:] if text.startswith("-") else text
    canonical = digits.isascii() and digits.isdigit() and (digits == "0" or not digits.startswith("0"))
    return canonical and text != "-0" and -(2**31) <= int(text) <= _INT32


def _validate_update(spec: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for field in ("containers", "initContainers"):
        if len(spec.get(field) or ()) != len(before.get(field) or ()):
            errors.append(forbidden_field(f"spec.{field}", "pod updates may not add or remove containers"))
            return errors
    path = "spec.activeDeadlineSeconds"
    deadline, former = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if deadline is None:
        if former is not None:
            errors.append(invalid(path, None, "must not update from a positive integer to nil value"))
    elif former is not None and former < deadline:
        errors.append(invalid(path, deadline, "must be less than or equal to previous value"))
        return errors
    errors += _validate_added_tolerations(spec.get("tolerations") or (), before.get("tolerations") or ())
    gates = {gate.get("name") for gate in before.get("schedulingGates") or ()}
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        if gate.get("name") not in gates:
            errors.append(
                forbidden_field(
                    f"spec.schedulingGates[{index}].name",
                    f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'",
                )
            )
    if not equivalent(spec, before):
        errors += _validate_fixed_fields(spec, before)
    return errors


def _validate_added_tolerations(new: Sequence[Object], old: Sequence[Object]) -> list[FieldError]:
    kept = [_without_seconds(each) for each in new]
    if all(_without_seconds(each) in kept for each in old):
        return []
    return [
        forbidden_field(
            "spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"
        )
    ]


def _without_seconds(toleration: Object) -> Object:
    return {field: value for field, value in toleration.items() if field != "tolerationSeconds"}


def _validate_fixed_fields(spec: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    masked = dict(spec)
    for field in ("containers", "initContainers"):
        if masked.get(field):
            masked[field] = [
                {**container, "image": former.get("image")}
                for container, former in zip(masked[field], before[field], strict=True)
            ]
    changeable = ["activeDeadlineSeconds", "schedulingGates", "tolerations"]
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and spec.get(
        "terminationGracePeriodSeconds"
    ) == 1:
        changeable.append("terminationGracePeriodSeconds")
    if before.get("schedulingGates"):
        errors += _validate_gated_changes(spec, before)
        changeable.append("nodeSelector")
        masked["affinity"] = _with_node_affinity(spec.get("affinity"), before.get("affinity"))
        if not masked["affinity"]:
            changeable.append("affinity")
    for field in changeable:
        if field in before:
            masked[field] = before[field]
        else:
            masked.pop(field, None)
    if not equivalent(masked, before):
        changed = _changes(before, masked, "")
        errors.append(
            forbidden_field(
                "spec", f"pod updates may not change fields other than {_UPDATABLE}\n" + "\n".join(changed)
            )
        )
    return errors


def _with_node_affinity(new: Object | None, old: Object | None) -> Object:
    """*new* with the node affinity of *old*."""
    masked = dict(new or {})
    masked.pop("nodeAffinity", None)
    if old and "nodeAffinity" in old:
        masked["nodeAffinity"] = old["nodeAffinity"]
    return masked


def _validate_gated_changes(spec: Object, before: Object) -> list[FieldError]:
    """A Pod that waits at a gate may still be narrowed down to fewer nodes."""
    errors: list[FieldError] = []
    selector, former = spec.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if any(selector.get(key) != value for key, value in former.items()):
        errors.append(
            invalid(
                "spec.nodeSelector",
                selector,
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
            )
        )
    path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    terms, old_terms = _node_terms(spec), _node_terms(before)
    if not old_terms:
        return errors
    if len(terms) != len(old_terms):
        errors.append(
            invalid(path, terms, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")
        )
        return errors
    for index, (term, old_term) in enumerate(zip(terms, old_terms, strict=True)):
        if not _only_narrowed(term, old_term):
            errors.append(
                invalid(f"{path}[{index}]", term, "only additions are allowed (no mutations or deletions)")
            )
    return errors


def _node_terms(spec: Object) -> list[Object]:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms")
    return terms or []


def _only_narrowed(term: Object, old: Object) -> bool:
    fields = ("matchExpressions", "matchFields")
    if not any(old.get(field) for field in fields):
        # It matched nothing; anything more would widen it.
        return not any(term.get(field) for field in fields)
    return all(
        (term.get(field) or [])[: len(old.get(field) or ())] == (old.get(field) or []) for field in fields
    )


def _changes(old: Any, new: Any, path: str) -> list[str]:
    """One line for each value that differs, in the manner of a diff."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in (*old, *(key for key in new if key not in old))
            if not equivalent(old.get(key) or None, new.get(key) or None)
            for line in _changes(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line
            for index, (before, after) in enumerate(zip(old, new, strict=True))
            if before != after
            for line in _changes(before, after, f"{path}[{index}]")
        ]
    return [f"- {path}: {old!r}", f"+ {path}: {new!r}"]


def validate_pod_status(pod: Object, old: Object) -> list[FieldError]:
    """An update of the status."""
    errors: list[FieldError] = []
    status, before = pod.get("status") or {}, old.get("status") or {}
    spec = old.get("spec") or {}
    for index, condition in enumerate(status.get("conditions") or ()):
        kind = condition.get("type") or ""
        errors += faults(f"metadata.conditions[{index}].Type", kind, formats.label_key(kind))
    if (pod.get("spec") or {}).get("nodeName") != spec.get("nodeName"):
        errors.append(forbidden_field("status.nodeName", "may not be changed directly"))
    nominated = status.get("nominatedNodeName")
    if nominated and nominated != before.get("nominatedNodeName"):
        errors += faults("status.nominatedNodeName", nominated, formats.dns_subdomain(nominated))
    errors += immutable("status.qosClass", status.get("qosClass") or "", before.get("qosClass") or "")
    sidecars = {each.get("name") for each in spec.get("initContainers") or () if is_sidecar(each)}
    policy = spec.get("restartPolicy")
    for field, final, exempt in (
        ("containerStatuses", policy, set()),
        ("initContainerStatuses", policy, sidecars),
        ("ephemeralContainerStatuses", "Never", set()),
    ):
        if final != "Always":
            errors += _validate_transitions(status, before, field, final == "OnFailure", exempt)
    for field, kind in (("podIPs", "podIP"), ("hostIPs", "hostIP")):
        errors += _validate_status_ips(status, before, field, kind)
    return errors


def _validate_transitions(
    status: Object, before: Object, field: str, retries: bool, exempt: set[Any]
) -> list[FieldError]:
    """A container that has ended for good does not come back to life."""
    errors: list[FieldError] = []
    alive = {
        each.get("name")
        for each in status.get(field) or ()
        if (each.get("state") or {}).get("terminated") is None
    }
    for index, each in enumerate(before.get(field) or ()):
        ended = (each.get("state") or {}).get("terminated")
        if ended is None or each.get("name") in exempt or (retries and ended.get("exitCode")):
            continue
        if each.get("name") in alive:
            errors.append(
                forbidden_field(
                    f"status.{field}[{index}].state", "may not be transitioned to non-terminated state"
                )
            )
    return errors


def _validate_status_ips(status: Object, before: Object, field: str, single: str) -> list[FieldError]:
    errors: list[FieldError] = []
    addresses = [each.get("ip") or "" for each in status.get(field) or ()]
    known = {each.get("ip") for each in before.get(field) or ()}
    path = f"status.{field}"
    if field == "hostIPs" and addresses and status.get(single) != addresses[0]:
        errors.append(invalid(f"{path}[0].ip", addresses[0], f"must be equal to `{single}`"))
    for index, address in enumerate(addresses):
        if address not in known:
            errors += faults(f"{path}[{index}]", address, formats.ip(address))
    if len(addresses) > 1:
        shown = [{"IP": address} for address in addresses]
        if len(addresses) > 2 or len({":" in address for address in addresses}) != 2:
            errors.append(invalid(path, shown, "may specify no more than one IP for each IP family"))
        for index, address in enumerate(addresses):
            if address in addresses[:index]:
                errors.append(duplicate(f"{path}[{index}]", {"IP": address}))
    return errors
