"""Faults in what says where a Pod may run: affinities, tolerations, spreading.

After k8s.io/kubernetes' ``pkg/apis/core/validation``.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import formats
from .meta import Object
from .metadata import faults, validate_label_selector
from .status import FieldError, duplicate, forbidden_field, invalid, not_supported, required

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TOLERATION_OPERATORS = ("Equal", "Exists")
_ACTIONS = frozenset({"DoNotSchedule", "ScheduleAnyway"})
_INCLUSION = frozenset({"Honor", "Ignore"})
_POSITIVE = "must be greater than zero"
_OPERATOR = "not a valid selector operator"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def validate_affinity(affinity: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    node = affinity.get("nodeAffinity") or {}
    here = f"{path}.nodeAffinity"
    if node.get(_REQUIRED) is not None:
        errors += validate_node_selector(node[_REQUIRED], f"{here}.{_REQUIRED}")
    for index, term in enumerate(node.get(_PREFERRED) or ()):
        at = f"{here}.{_PREFERRED}[{index}]"
        errors += _validate_weight(term, at)
        errors += _validate_node_term(term.get("preference") or {}, f"{at}.preference", values=False)
    for kind in ("podAffinity", "podAntiAffinity"):
        pods = affinity.get(kind) or {}
        for index, term in enumerate(pods.get(_REQUIRED) or ()):
            errors += _validate_pod_term(term, f"{path}.{kind}.{_REQUIRED}[{index}]")
        for index, term in enumerate(pods.get(_PREFERRED) or ()):
            at = f"{path}.{kind}.{_PREFERRED}[{index}]"
            errors += _validate_weight(term, at)
            errors += _validate_pod_term(term.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm")
    return errors


def validate_node_selector(selector: Object, path: str) -> list[FieldError]:
    terms = selector.get("nodeSelectorTerms")
    if not terms:
        return [required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    errors: list[FieldError] = []
    for index, term in enumerate(terms):
        errors += _validate_node_term(term, f"{path}.nodeSelectorTerms[{index}]")
    return errors


def _validate_weight(term: Object, path: str) -> list[FieldError]:
    weight = term.get("weight") or 0
    return [] if 0 < weight <= 100 else [invalid(f"{path}.weight", weight, "must be in the range 1-100")]


def _validate_node_term(term: Object, path: str, *, values: bool = True) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        errors += _validate_node_expression(expression, f"{path}.matchExpressions[{index}]", values)
    for index, expression in enumerate(term.get("matchFields") or ()):
        errors += _validate_node_field(expression, f"{path}.matchFields[{index}]")
    return errors


def _validate_node_expression(expression: Object, path: str, check_values: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, values = expression.get("operator") or "", expression.get("values") or ()
    here = f"{path}.values"
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required(here, "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            errors.append(
                forbidden_field(here, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
            )
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            errors.append(required(here, "must be specified single value when `operator` is 'Lt' or 'Gt'"))
    else:
        errors.append(invalid(f"{path}.operator", operator, _OPERATOR))
    key = expression.get("key") or ""
    errors += faults(f"{path}.key", key, formats.label_key(key))
    if check_values:
        for index, value in enumerate(values):
            errors += faults(f"{here}[{index}]", value, formats.label_value(value))
    return errors


def _validate_node_field(expression: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, values = expression.get("operator") or "", expression.get("values") or ()
    if operator not in ("In", "NotIn"):
        errors.append(invalid(f"{path}.operator", operator, _OPERATOR))
    elif len(values) != 1:
        errors.append(
            required(
                f"{path}.values",
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            )
        )
    key = expression.get("key") or ""
    if key != "metadata.name":
        errors.append(invalid(f"{path}.key", key, "not a valid field selector key"))
    else:
        for index, value in enumerate(values):
            errors += faults(f"{path}.values[{index}]", value, formats.dns_subdomain(value))
    return errors


def _validate_pod_term(term: Object, path: str) -> list[FieldError]:
    selector = term.get("labelSelector")
    errors = validate_label_selector(selector, f"{path}.labelSelector")
    errors += validate_label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for namespace in term.get("namespaces") or ():
        errors += faults(f"{path}.namespace", namespace, formats.dns_label(namespace))
    matching, mismatching = term.get("matchLabelKeys") or (), term.get("mismatchLabelKeys") or ()
    for field, keys in (("matchLabelKeys", matching), ("mismatchLabelKeys", mismatching)):
        if keys and selector is None:
            errors.append(
                forbidden_field(f"{path}.{field}", "must not be specified when labelSelector is not set")
            )
        else:
            for index, key in enumerate(keys):
                errors += faults(f"{path}.{field}[{index}]", key, formats.label_key(key))
    for index, key in enumerate(matching):
        if key in mismatching:
            errors.append(
                invalid(
                    f"{path}.matchLabelKeys[{index}]",
                    key,
                    "exists in both matchLabelKeys and mismatchLabelKeys",
                )
            )
    topology = term.get("topologyKey") or ""
    if not topology:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    return errors + faults(f"{path}.topologyKey", topology, formats.label_key(topology))


def validate_tolerations(tolerations: Sequence[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, toleration in enumerate(tolerations):
        here = f"{path}[{index}]"
        key, operator = toleration.get("key") or "", toleration.get("operator") or ""
        value, effect = toleration.get("value") or "", toleration.get("effect") or ""
        if key:
            errors += faults(f"{here}.key", key, formats.label_key(key))
        elif operator != "Exists":
            errors.append(
                invalid(
                    f"{here}.operator",
                    operator,
                    "operator must be Exists when `key` is empty, "
                    'which means "match all values and all keys"',
                )
            )
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            errors.append(
                invalid(
                    f"{here}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"
                )
            )
        if operator in ("", "Equal"):
            if found := formats.label_value(value):
                errors.append(invalid(f"{here}.operator", value, ";".join(found)))
        elif operator == "Exists":
            if value:
                errors.append(
                    invalid(f"{here}.operator", value, "value must be empty when `operator` is 'Exists'")
                )
        else:
            errors.append(not_supported(f"{here}.operator", operator, _TOLERATION_OPERATORS))
        if effect and effect not in TAINT_EFFECTS:
            errors.append(not_supported(f"{here}.effect", effect, TAINT_EFFECTS))
    return errors


def validate_spreading(constraints: Sequence[Object], path: str) -> list[FieldError]:
    """``topologySpreadConstraints``."""
    errors: list[FieldError] = []
    for index, constraint in enumerate(constraints):
        here = f"{path}[{index}]"
        skew = constraint.get("maxSkew") or 0
        if skew <= 0:
            errors.append(invalid(f"{here}.maxSkew", skew, _POSITIVE))
        topology = constraint.get("topologyKey") or ""
        if not topology:
            errors.append(required(f"{here}.topologyKey", "can not be empty"))
        action = constraint.get("whenUnsatisfiable") or ""
        if action not in _ACTIONS:
            errors.append(not_supported(f"{here}.whenUnsatisfiable", action, _ACTIONS))
        pairs = [
            (each.get("topologyKey"), each.get("whenUnsatisfiable")) for each in constraints[index + 1 :]
        ]
        if (topology, action) in pairs:
            errors.append(
                duplicate(f"{here}.{{topologyKey, whenUnsatisfiable}}", f"{{{topology}, {action}}}")
            )
        domains = constraint.get("minDomains")
        if domains is not None:
            if domains <= 0:
                errors.append(invalid(f"{here}.minDomains", domains, _POSITIVE))
            if action != "DoNotSchedule":
                errors.append(
                    invalid(
                        f"{here}.minDomains",
                        domains,
                        f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}",
                    )
                )
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            policy = constraint.get(field)
            if policy is not None and policy not in _INCLUSION:
                errors.append(not_supported(f"{here}.{field}", policy, _INCLUSION))
        errors += _validate_spread_keys(constraint, here)
        errors += validate_label_selector(constraint.get("labelSelector"), f"{here}.labelSelector")
    return errors


def _validate_spread_keys(constraint: Object, path: str) -> list[FieldError]:
    keys, selector = constraint.get("matchLabelKeys") or (), constraint.get("labelSelector")
    here = f"{path}.matchLabelKeys"
    if not keys:
        return []
    errors: list[FieldError] = []
    selected: set[str] = set()
    if selector is None:
        errors.append(forbidden_field(here, "must not be specified when labelSelector is not set"))
    else:
        selected.update(selector.get("matchLabels") or ())
        selected.update(each.get("key", "") for each in selector.get("matchExpressions") or ())
    for index, key in enumerate(keys):
        errors += faults(f"{here}[{index}]", key, formats.label_key(key))
        if key in selected:
            errors.append(invalid(f"{here}[{index}]", key, "exists in both matchLabelKeys and labelSelector"))
    return errors
