"""What a Job's ``podFailurePolicy`` and ``successPolicy`` make of ended Pods (KEP-3329, KEP-3998)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from buoy.api import meta
from buoy.api.meta import Object

from . import indexes


@dataclass(frozen=True, slots=True)
class Match:
    """The *action* of the first rule that fits, None if none does; whether the failure *counts*.

    *message* says why the Job fails, of ``FailJob`` only.
    """

    action: str | None = None
    counts: bool = True
    message: str = ""


def match(job: Object, pod: Object) -> Match:
    """What the policy says of a Pod that has failed."""
    rules = (job["spec"].get("podFailurePolicy") or {}).get("rules") or ()
    for index, rule in enumerate(rules):
        action = str(rule["action"])
        if action == "FailIndex" and job["spec"].get("backoffLimitPerIndex") is None:
            continue
        found = _by_exit_code(rule, pod) or _by_condition(rule, pod)
        if found:
            if action == "FailJob":
                return Match(action, True, f"{found} matching {action} rule at index {index}")
            return Match(action, action != "Ignore")
    return Match()


def _by_exit_code(rule: Object, pod: Object) -> str:
    wanted = rule.get("onExitCodes")
    if not wanted:
        return ""
    status = pod.get("status") or {}
    for field in ("containerStatuses", "initContainerStatuses"):
        for container in status.get(field) or ():
            ended = (container.get("state") or {}).get("terminated")
            if wanted.get("containerName") not in (None, container["name"]) or not ended:
                continue
            code = ended.get("exitCode") or 0
            if code and (code in wanted["values"]) == (wanted["operator"] == "In"):
                return f"Container {container['name']} for pod {meta.key(pod)} failed with exit code {code}"
    return ""


def _by_condition(rule: Object, pod: Object) -> str:
    for wanted in rule.get("onPodConditions") or ():
        for condition in (pod.get("status") or {}).get("conditions") or ():
            if (condition["type"], condition["status"]) == (wanted["type"], wanted.get("status") or "True"):
                return f"Pod {meta.key(pod)} has condition {wanted['type']}"
    return ""


def success(job: Object, succeeded: Collection[int]) -> str:
    """Why the Job has done enough with the indexes that *succeeded*; empty if it has not."""
    rules = (job["spec"].get("successPolicy") or {}).get("rules") or ()
    for number, rule in enumerate(rules):
        count = rule.get("succeededCount")
        if rule.get("succeededIndexes") is not None:
            wanted = indexes.parse(rule["succeededIndexes"], job["spec"]["completions"])
            met = len(wanted & set(succeeded)) >= (len(wanted) if count is None else count)
        else:
            met = count is not None and len(succeeded) >= count
        if met:
            return f"Matched rules at index {number}"
    return ""
