"""Faults in the specification of a Job, also as a CronJob's template. After ``pkg/apis/batch/validation``."""

from __future__ import annotations

import re

from .formats import domain_prefixed_path
from .meta import Object
from .metadata import faults, non_negative
from .pod_validation import validate_template
from .status import FieldError, duplicate, invalid, not_supported, required, too_long, too_many
from .workload_validation import validate_counts

_MODES = ("Indexed", "NonIndexed")
_COUNTS = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
_INDEXED_ONLY = ("backoffLimitPerIndex", "maxFailedIndexes")
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_CONDITION_STATUSES = ("False", "True", "Unknown")
_MOST_RULES = 20
_MOST_EXIT_CODES = 255
_MOST_PARALLEL = 100_000
_MANY_COMPLETIONS = 100_000
_FEW = 10_000
_LONGEST_MANAGER = 63
_LISTED = "the number of indexes in the specified succeededIndexes field"
_NEEDS_INDEXES = "requires indexed completion mode"
_interval = re.compile(r"\d+(-\d+)?", re.ASCII).fullmatch


def validate_job_spec(spec: Object, path: str) -> list[FieldError]:
    """What holds of a Job and of a template; selectors are the Job's own matter."""
    errors = validate_counts(spec, (*_COUNTS, *_INDEXED_ONLY), path)
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    errors += _validate_manager(spec.get("managedBy"), f"{path}.managedBy")
    mode = spec.get("completionMode")
    if mode not in _MODES:
        errors.append(not_supported(f"{path}.completionMode", mode or "", ("NonIndexed", "Indexed")))
    errors += _validate_indexed(spec, path) if mode == "Indexed" else _validate_plain(spec, path)
    if spec.get("podFailurePolicy"):
        errors += _validate_failure_policy(spec, f"{path}.podFailurePolicy")
    replacing = spec.get("podReplacementPolicy")
    allowed = ("Failed",) if spec.get("podFailurePolicy") else ("Failed", "TerminatingOrFailed")
    if replacing is not None and replacing not in allowed:
        errors.append(not_supported(f"{path}.podReplacementPolicy", replacing, allowed))
    template = spec.get("template") or {}
    errors += validate_template(template, f"{path}.template")
    errors += _validate_restart_policy(spec, (template.get("spec") or {}).get("restartPolicy"), path)
    return errors


def _validate_manager(manager: str | None, path: str) -> list[FieldError]:
    if manager is None:
        return []
    errors = faults(path, manager, domain_prefixed_path(manager))
    if len(manager) > _LONGEST_MANAGER:
        errors.append(too_long(path, _LONGEST_MANAGER))
    return errors


def _validate_plain(spec: Object, path: str) -> list[FieldError]:
    errors = [
        invalid(f"{path}.{field}", spec[field], _NEEDS_INDEXES)
        for field in _INDEXED_ONLY
        if spec.get(field) is not None
    ]
    if spec.get("successPolicy") is not None:
        errors.append(invalid(f"{path}.successPolicy", spec["successPolicy"], _NEEDS_INDEXES))
    return errors


def _validate_indexed(spec: Object, path: str) -> list[FieldError]:
    completions, parallelism = spec.get("completions"), spec.get("parallelism")
    errors: list[FieldError] = []
    if completions is None:
        errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
    if parallelism is None:
        errors.append(required(f"{path}.parallelism", "when completion mode is Indexed"))
    elif parallelism > _MOST_PARALLEL:
        bound = f"must be less than or equal to {_MOST_PARALLEL} when completion mode is Indexed"
        errors.append(invalid(f"{path}.parallelism", parallelism, bound))
    most = spec.get("maxFailedIndexes")
    if most is not None and completions is not None and most > completions:
        errors.append(invalid(f"{path}.maxFailedIndexes", most, "must be less than or equal to completions"))
    if (completions or 0) > _MANY_COMPLETIONS and spec.get("backoffLimitPerIndex") is not None:
        errors += _validate_many(spec, path)
    if spec.get("successPolicy") is not None:
        errors += _validate_success_policy(spec["successPolicy"], completions, f"{path}.successPolicy")
    return errors


def _validate_many(spec: Object, path: str) -> list[FieldError]:
    """With a limit for each index a great many of them cost too much status."""
    bound = (
        f"must be less than or equal to {_FEW} when completions are above {_MANY_COMPLETIONS} "
        "and used with backoff limit per index"
    )
    errors = []
    if spec.get("maxFailedIndexes") is None:
        sentence = f"must be specified when completions is above {_MANY_COMPLETIONS}"
        errors.append(required(f"{path}.maxFailedIndexes", sentence))
    for field in ("maxFailedIndexes", "parallelism"):
        if (spec.get(field) or 0) > _FEW:
            errors.append(invalid(f"{path}.{field}", spec[field], bound))
    return errors


def _validate_restart_policy(spec: Object, policy: str | None, path: str) -> list[FieldError]:
    here = f"{path}.template.spec.restartPolicy"
    if policy == "Always":
        return [required(here, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [not_supported(here, policy or "", ("OnFailure", "Never"))]
    return [
        invalid(here, policy, f'only "Never" is supported when {field} is specified')
        for field in ("podFailurePolicy", "backoffLimitPerIndex")
        if spec.get(field) is not None and policy != "Never"
    ]


def _validate_failure_policy(spec: Object, path: str) -> list[FieldError]:
    rules = spec["podFailurePolicy"].get("rules") or ()
    if len(rules) > _MOST_RULES:
        return [too_many(f"{path}.rules", len(rules), _MOST_RULES)]
    template = (spec.get("template") or {}).get("spec") or {}
    names = {
        each.get("name") for field in ("containers", "initContainers") for each in template.get(field) or ()
    }
    errors: list[FieldError] = []
    for index, rule in enumerate(rules):
        here = f"{path}.rules[{index}]"
        action = rule.get("action") or ""
        if action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            errors.append(invalid(f"{here}.action", action, "requires the backoffLimitPerIndex to be set"))
        elif not action:
            errors.append(
                required(f"{here}.action", "valid values: " + ", ".join(f'"{each}"' for each in _ACTIONS))
            )
        elif action not in _ACTIONS:
            errors.append(not_supported(f"{here}.action", action, _ACTIONS))
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes and conditions:
            sentence = "specifying both OnExitCodes and OnPodConditions is not supported"
            errors.append(invalid(here, None, sentence))
        elif not codes and not conditions:
            sentence = "specifying one of OnExitCodes and OnPodConditions is required"
            errors.append(invalid(here, None, sentence))
        if codes:
            errors += _validate_exit_codes(codes, names, f"{here}.onExitCodes")
        if len(conditions or ()) > _MOST_RULES:
            errors.append(too_many(f"{here}.onPodConditions", len(conditions), _MOST_RULES))
        for number, condition in enumerate(conditions or ()):
            at = f"{here}.onPodConditions[{number}].status"
            status = condition.get("status") or ""
            if not status:
                errors.append(required(at, 'valid values: "False", "True", "Unknown"'))
            elif status not in _CONDITION_STATUSES:
                errors.append(not_supported(at, status, _CONDITION_STATUSES))
    return errors


def _validate_exit_codes(codes: Object, names: set[str | None], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, values = codes.get("operator") or "", codes.get("values") or []
    if operator not in _OPERATORS:
        errors.append(not_supported(f"{path}.operator", operator, _OPERATORS))
    container = codes.get("containerName")
    if container is not None and container not in names:
        sentence = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid(f"{path}.containerName", container, sentence))
    if not values:
        errors.append(invalid(f"{path}.values", values, "at least one value is required"))
    elif len(values) > _MOST_EXIT_CODES:
        errors.append(too_many(f"{path}.values", len(values), _MOST_EXIT_CODES))
    seen: set[int] = set()
    ordered = True
    for index, value in enumerate(values):
        here = f"{path}.values[{index}]"
        if operator == "In" and value == 0:
            errors.append(invalid(here, value, "must not be 0 for the In operator"))
        if value in seen:
            errors.append(duplicate(here, value))
        ordered = ordered and value >= max(seen, default=value)
        seen.add(value)
    if not ordered:
        errors.append(invalid(f"{path}.values", values, "must be ordered"))
    return errors


def _validate_success_policy(policy: Object, completions: int | None, path: str) -> list[FieldError]:
    rules = policy.get("rules") or ()
    if not rules:
        return [
            required(
                f"{path}.rules", "at least one rules must be specified when the successPolicy is specified"
            )
        ]
    if len(rules) > _MOST_RULES:
        return [too_many(f"{path}.rules", len(rules), _MOST_RULES)]
    errors: list[FieldError] = []
    for index, rule in enumerate(rules):
        here = f"{path}.rules[{index}]"
        count, text = rule.get("succeededCount"), rule.get("succeededIndexes")
        if count is None and text is None:
            sentence = "at least one of succeededCount or succeededIndexes must be specified"
            errors.append(required(here, sentence))
        total = completions
        if text is not None:
            fault, total = _index_fault(text, completions)
            if fault:
                sentence = f"error parsing succeededIndexes: {fault}"
                errors.append(invalid(f"{here}.succeededIndexes", text, sentence))
                continue
        if count is not None:
            errors += non_negative(f"{here}.succeededCount", count)
            if total is not None and count > total:
                of = "completions" if text is None else _LISTED
                bound = f"must be less than or equal to {total} ({of})"
                errors.append(invalid(f"{here}.succeededCount", count, bound))
    return errors


def _index_fault(text: str, completions: int | None) -> tuple[str, int]:
    """What is wrong with a list of indexes, and how many it has."""
    total, last = 0, -1
    for part in text.split(",") if text else ():
        if not _interval(part):
            return f'cannot convert string to integer for index: "{part}"', total
        first, _, end = part.partition("-")
        low, high = int(first), int(end or first)
        if low <= last or high < low:
            return f"non-increasing order, previous: {max(last, low)}, current: {min(low, high)}", total
        if completions is not None and high >= completions:
            return f'too large index: "{part}"', total
        total += high - low + 1
        last = high
    return "", total
