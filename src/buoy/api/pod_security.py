"""Faults in security contexts, of Pods and containers."""

from __future__ import annotations

import re

from . import formats
from .meta import Object
from .metadata import faults
from .status import FieldError, duplicate, forbidden_field, invalid, not_supported, required, too_long

_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_PROC_MOUNTS = ("Default", "Unmasked")
_GROUP_CHANGES = frozenset({"Always", "OnRootMismatch"})
_GROUP_POLICIES = frozenset({"Merge", "Strict"})
_SELINUX_CHANGES = frozenset({"MountOption", "Recursive"})
_PATH_LIMIT = 4095
_SYSCTL_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = rf"({_SYSCTL_SEGMENT}[\./])*{_SYSCTL_SEGMENT}"
_SYSCTL_LIMIT = 253
_sysctl_re = re.compile(_SYSCTL, re.ASCII).fullmatch


def validate_security_context(context: Object, host_users: bool, path: str) -> list[FieldError]:
    """A container's."""
    errors = _validate_ids(context, ("runAsUser", "runAsGroup"), path)
    mount = context.get("procMount")
    if mount is not None:
        if mount not in _PROC_MOUNTS:
            errors.append(not_supported(f"{path}.procMount", mount, _PROC_MOUNTS))
        if host_users and mount == "Unmasked":
            errors.append(invalid(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`"))
    errors += _validate_profiles(context, path)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            errors.append(
                invalid(
                    path,
                    context,
                    "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
                )
            )
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            errors.append(
                invalid(
                    path,
                    context,
                    "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
                )
            )
    return errors


def validate_pod_security_context(context: Object, spec: Object, path: str) -> list[FieldError]:
    """A Pod's."""
    errors = _validate_ids(context, ("fsGroup", "runAsUser", "runAsGroup"), path)
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        errors += [
            invalid(f"{path}.supplementalGroups[{index}]", group, fault)
            for fault in formats.user_or_group(group)
        ]
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        errors.append(
            invalid(
                f"{path}.shareProcessNamespace",
                True,
                "ShareProcessNamespace and HostPID cannot both be enabled",
            )
        )
    errors += _validate_sysctls(context, spec, f"{path}.sysctls")
    for field, supported in (
        ("fsGroupChangePolicy", _GROUP_CHANGES),
        ("supplementalGroupsPolicy", _GROUP_POLICIES),
        ("seLinuxChangePolicy", _SELINUX_CHANGES),
    ):
        value = context.get(field)
        if value is not None and value not in supported:
            errors.append(not_supported(f"{path}.{field}", value, supported))
    return errors + _validate_profiles(context, path)


def validate_host_users(spec: Object, path: str) -> list[FieldError]:
    """A user namespace excludes sharing most of the host's other namespaces."""
    if spec.get("hostUsers") is not False:
        return []
    shared = (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC"))
    return [
        forbidden_field(f"{path}.{shown}", "when `pod.Spec.HostUsers` is false")
        for field, shown in shared
        if spec.get(field)
    ]


def _validate_ids(context: Object, fields: tuple[str, ...], path: str) -> list[FieldError]:
    return [
        invalid(f"{path}.{field}", context[field], fault)
        for field in fields
        if context.get(field) is not None
        for fault in formats.user_or_group(context[field])
    ]


def _validate_profiles(context: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if context.get("seccompProfile") is not None:
        errors += _validate_seccomp(context["seccompProfile"], f"{path}.seccompProfile")
    if context.get("appArmorProfile") is not None:
        errors += _validate_app_armor(context["appArmorProfile"], f"{path}.appArmorProfile")
    return errors


def _validate_seccomp(profile: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kind, local = profile.get("type"), profile.get("localhostProfile")
    if not kind:
        errors.append(required(f"{path}.type", "type is required when seccompProfile is set"))
    elif kind not in _PROFILES:
        errors.append(not_supported(f"{path}.type", kind, _PROFILES))
    here = f"{path}.localhostProfile"
    if kind == "Localhost":
        if local is None:
            errors.append(required(here, "must be set when seccomp type is Localhost"))
        else:
            errors += faults(here, local, formats.relative_path(local))
    elif local is not None:
        shown = {"Type": kind or "", "LocalhostProfile": local}
        errors.append(invalid(here, shown, "can only be set when seccomp type is Localhost"))
    return errors


def _validate_app_armor(profile: Object, path: str) -> list[FieldError]:
    kind, local = profile.get("type"), profile.get("localhostProfile")
    here = f"{path}.localhostProfile"
    if not kind:
        return [required(f"{path}.type", "type is required when appArmorProfile is set")]
    if kind not in _PROFILES:
        return [not_supported(f"{path}.type", kind, _PROFILES)]
    if kind != "Localhost":
        if local is None:
            return []
        return [invalid(here, local, "can only be set when AppArmor type is Localhost")]
    if local is None or not local.strip():
        return [required(here, "must be set when AppArmor type is Localhost")]
    if local.strip() != local:
        return [invalid(here, local, "must not be padded with whitespace")]
    return [too_long(here, _PATH_LIMIT)] if formats.size(local) > _PATH_LIMIT else []


def _validate_sysctls(context: Object, spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, sysctl in enumerate(context.get("sysctls") or ()):
        here, name = f"{path}[{index}].name", sysctl.get("name") or ""
        if not name:
            errors.append(required(here))
        elif len(name) > _SYSCTL_LIMIT or not _sysctl_re(name):
            errors.append(
                invalid(
                    here, name, f"must have at most {_SYSCTL_LIMIT} characters and match regex ^{_SYSCTL}$"
                )
            )
        elif name in names:
            errors.append(duplicate(here, name))
        names.add(name)
        dotted = name.replace("/", ".")
        if spec.get("hostNetwork") and dotted.startswith("net."):
            errors.append(invalid(here, name, "may not be specified when 'hostNetwork' is true"))
        if spec.get("hostIPC") and dotted.startswith(
            ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
        ):
            errors.append(invalid(here, name, "may not be specified when 'hostIPC' is true"))
    return errors
