"""The shape of objects: what lightkube's dataclasses say, compiled into a tree that is quick to walk.

`Struct.conform` is Kubernetes' typed decoding: it drops what no type knows, and says so; drops what means as
much as nothing, as Go's encoder does (``omitempty``); makes texts of quantities; and raises on a value of a
wrong type, in the words of Go's JSON decoder.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from . import quantity
from .meta import Object

Base = Literal[
    "struct", "map", "list", "string", "integer", "number", "boolean", "time", "quantity", "any", "deduced"
]


@dataclass(frozen=True, slots=True)
class Merge:
    """How a list or map is merged by patches: strategic's strategies and key, and apply's map keys.

    *defaults* are what map keys are that an element leaves out.
    """

    strategies: tuple[str, ...] = ()
    key: str = ""
    map_keys: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def merges(self) -> bool:
        return "merge" in self.strategies


ATOMIC = Merge()


@dataclass(frozen=True, slots=True)
class Field:
    """One field's type. *item* is the element's of a map or list; *struct* is set for structs.

    *go* is the name that Kubernetes' decoder calls the type by. A *binary* string is base64. An empty value
    of the class *omitted* (zero, false, "", [] or {}) is as good as none. Of a *deduced* field, the value
    says what it is; one that is *atomic* is owned, and replaced, whole.
    """

    base: Base
    go: str
    struct: Struct | None = None
    item: Field | None = None
    merge: Merge = ATOMIC
    int_or_string: bool = False
    binary: bool = False
    omitted: type | None = None
    atomic: bool = False


@dataclass(slots=True, eq=False)
class Struct:
    """A type with named fields. *module* is lightkube's: ``core_v1``. An *open* one may have others, too."""

    name: str
    module: str
    model: type
    fields: dict[str, Field]
    required: frozenset[str]
    open: bool = False

    def conform(self, obj: Object) -> list[str]:
        """Fit *obj* to the type in place; the paths of the unknown fields that were dropped.

        Raises TypeMismatch.
        """
        unknown: list[str] = []
        _conform_struct(obj, self, _ROOT, unknown)
        return unknown


class TypeMismatch(Exception):
    """A value that its type cannot hold; the text is that of Go's JSON decoder."""


_PRIMITIVES: Mapping[Any, tuple[Base, str]] = {
    str: ("string", "string"),
    int: ("integer", "int32"),
    float: ("number", "float64"),
    bool: ("boolean", "bool"),
    datetime.datetime: ("time", "v1.Time"),
}

_INT64 = frozenset(
    (
        "activeDeadlineSeconds",
        "deletionGracePeriodSeconds",
        "expirationSeconds",
        "fsGroup",
        "generation",
        "observedGeneration",
        "capacity",
        "gid",
        "runAsGroup",
        "runAsUser",
        "terminationGracePeriodSeconds",
        "tolerationSeconds",
        "templateGeneration",
        "revision",
        "gracePeriodSeconds",
        "remainingItemCount",
        "seconds",
        "sizeBytes",
        "supplementalGroups",
        "uid",
    )
)


@functools.cache
def struct_of(model: type) -> Struct:
    """The compiled shape of a lightkube dataclass; recursive types are tied through the cache."""
    module = model.__module__.rpartition(".")[2]
    struct = Struct(model.__name__, module, model, {}, frozenset())
    _in_progress[model] = struct
    namespace = vars(sys.modules[model.__module__])
    required = []
    for field in dataclasses.fields(model):
        name = field.metadata.get("json", field.name) if field.metadata else field.name
        hint = eval(field.type, namespace) if isinstance(field.type, str) else field.type  # noqa: S307
        text = field.type if isinstance(field.type, str) else ""
        where = (model.__name__, name)
        described = _field(hint, text, name, _MERGE.get(where, ATOMIC))
        if where in _BINARY_MAPS:
            item = Field("string", "[]uint8", binary=True)
            described = dataclasses.replace(described, go="map[string][]uint8", item=item)
        elif where in _NAMED:
            described = _renamed(described, _NAMED[where])
        elif where in _SCHEMA_MAPS:
            item = Field("struct", "v1.JSONSchemaProps", struct)
            described = Field("map", "map[string]v1.JSONSchemaProps", item=item)
        elif where in _SCHEMAS_OR_OTHER:
            described = dataclasses.replace(described, struct=struct)
        optional = field.default is not dataclasses.MISSING or (
            field.default_factory is not dataclasses.MISSING
        )
        if optional:
            described = dataclasses.replace(described, omitted=_omitted(described, *where))
        if where in _ATOMIC_MAPS or (
            described.struct is not None and described.struct.name in _ATOMIC_STRUCTS
        ):
            described = dataclasses.replace(described, atomic=True)
        struct.fields[name] = described
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(name)
    struct.required = frozenset(required)
    del _in_progress[model]
    return struct


def _omitted(field: Field, struct: str, name: str) -> type | None:
    """The class whose empty value the encoder leaves out; pointers are only left out if they are nil."""
    if (struct, name) in _KEPT:
        return None
    if field.base in ("list", "map"):
        return list if field.base == "list" else dict
    if field.base == "string":
        return None if (struct, name) in _POINTERS else str
    if field.base == "boolean":
        return bool if name in _PLAIN_BOOLEANS and (struct, name) not in _POINTERS else None
    plain = name in _PLAIN_INTEGERS or (struct, name) == ("DeploymentStatus", "replicas")
    return int if field.base == "integer" and plain else None


def _renamed(field: Field, go: str) -> Field:
    """The field with the name of its type, or of its elements' for a list of texts."""
    if field.base == "list" and field.item is not None and field.item.base == "string":
        return dataclasses.replace(field, go=f"[]{go}", item=dataclasses.replace(field.item, go=go))
    return dataclasses.replace(field, go=go)


_in_progress: dict[type, Struct] = {}


def _field(hint: Any, text: str, name: str, merge: Merge = ATOMIC) -> Field:
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kept = [argument for argument in arguments if argument is not type(None)]
        if set(kept) == {int, str}:
            return Field("any", "intstr.IntOrString", int_or_string=True)
        return _field(kept[0], text, name, merge)
    if origin is list:
        item = _field(arguments[0], text, name)
        return Field("list", f"[]{item.go}", item=item, merge=merge)
    if hint is dict:
        if name in _OTHER_MAPS:
            return Field("any", "interface {}")
        if name in _QUANTITY_MAPS:
            return Field("map", "v1.ResourceList", item=Field("quantity", "resource.Quantity"), merge=merge)
        return Field("map", "map[string]string", item=Field("string", "string"), merge=merge)
    if "Quantity" in text:
        return Field("quantity", "resource.Quantity")
    if hint in _PRIMITIVES:
        base, go = _PRIMITIVES[hint]
        if base == "integer" and name in _INT64:
            go = "int64"
        if "MicroTime" in text:
            go = "v1.MicroTime"
        return Field(base, go)
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        struct = _in_progress.get(hint) or struct_of(hint)
        return Field(
            "struct",
            f"{hint.__module__.rpartition('.')[2].rpartition('_')[2]}.{hint.__name__}",
            struct,
            merge=merge,
        )
    return Field("any", "interface {}")


# lightkube writes every map as a bare dict: these hold quantities, those something richer, all others texts.
_QUANTITY_MAPS = frozenset(
    (
        "limits",
        "requests",
        "capacity",
        "allocatable",
        "allocatedResources",
        "overhead",
        "podFixed",
        "hard",
        "used",
        "default",
        "defaultRequest",
        "max",
        "min",
        "maxLimitRequestRatio",
    )
)
_OTHER_MAPS = frozenset(
    (
        "definitions",
        "dependencies",
        "patternProperties",
        "properties",
        "extra",
        "resources",
        "counters",
        "attributes",
        "disruptedPods",
    )
)


# Optional texts and booleans that are pointers in k8s.io/api, so that an empty one is more than nothing.
_POINTERS = frozenset(
    {
        ("AppArmorProfile", "localhostProfile"),
        ("CSIVolumeSource", "fsType"),
        ("CSIVolumeSource", "readOnly"),
        ("ClusterTrustBundleProjection", "name"),
        ("ClusterTrustBundleProjection", "signerName"),
        ("Container", "restartPolicy"),
        ("Endpoint", "hostname"),
        ("Endpoint", "nodeName"),
        ("Endpoint", "zone"),
        ("EndpointAddress", "nodeName"),
        ("EndpointPort", "appProtocol"),
        ("EndpointPort", "name"),
        ("EndpointPort", "protocol"),
        ("EphemeralContainer", "restartPolicy"),
        ("GRPCAction", "service"),
        ("HostPathVolumeSource", "type"),
        ("ISCSIVolumeSource", "initiatorName"),
        ("LeaseSpec", "holderIdentity"),
        ("LeaseSpec", "preferredHolder"),
        ("LeaseSpec", "strategy"),
        ("LoadBalancerIngress", "ipMode"),
        ("LocalVolumeSource", "fsType"),
        ("PersistentVolumeClaimSpec", "storageClassName"),
        ("PersistentVolumeClaimSpec", "volumeAttributesClassName"),
        ("PersistentVolumeClaimSpec", "volumeMode"),
        ("PersistentVolumeClaimStatus", "currentVolumeAttributesClassName"),
        ("PersistentVolumeSpec", "volumeAttributesClassName"),
        ("PersistentVolumeSpec", "volumeMode"),
        ("PodDNSConfigOption", "value"),
        ("PodSecurityContext", "fsGroupChangePolicy"),
        ("PodSecurityContext", "seLinuxChangePolicy"),
        ("PodSecurityContext", "supplementalGroupsPolicy"),
        ("PodSpec", "hostnameOverride"),
        ("PodSpec", "preemptionPolicy"),
        ("PodSpec", "runtimeClassName"),
        ("SeccompProfile", "localhostProfile"),
        ("SecurityContext", "procMount"),
        ("ServicePort", "appProtocol"),
        ("ServiceSpec", "internalTrafficPolicy"),
        ("ServiceSpec", "ipFamilyPolicy"),
        ("ServiceSpec", "loadBalancerClass"),
        ("ServiceSpec", "trafficDistribution"),
        ("StorageClass", "reclaimPolicy"),
        ("StorageClass", "volumeBindingMode"),
        ("TopologySpreadConstraint", "nodeAffinityPolicy"),
        ("TypedLocalObjectReference", "apiGroup"),
        ("TypedObjectReference", "apiGroup"),
        ("TypedObjectReference", "namespace"),
        ("TopologySpreadConstraint", "nodeTaintsPolicy"),
        ("VolumeMount", "mountPropagation"),
        ("VolumeMount", "recursiveReadOnly"),
    }
)
# Optional, but written even if empty.
_KEPT = frozenset(
    {
        ("ClusterRole", "rules"),
        ("CustomResourceDefinitionStatus", "conditions"),
        ("CustomResourceDefinitionStatus", "storedVersions"),
        ("EndpointSlice", "ports"),
        ("Event", "reportingComponent"),
        ("Event", "reportingInstance"),
        ("Role", "rules"),
        ("StatefulSetStatus", "availableReplicas"),
    }
)
# Booleans and integers that are no pointers anywhere.
_PLAIN_BOOLEANS = frozenset(
    (
        "deprecated",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "nullable",
        "paused",
        "preserveUnknownFields",
        "publishNotReadyAddresses",
        "readOnly",
        "stdin",
        "stdinOnce",
        "tty",
        "uniqueItems",
        "unschedulable",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    )
)
_PLAIN_INTEGERS = frozenset(
    (
        "active",
        "availableReplicas",
        "count",
        "currentReplicas",
        "failed",
        "fullyLabeledReplicas",
        "generation",
        "healthCheckNodePort",
        "hostPort",
        "initialDelaySeconds",
        "minReadySeconds",
        "nodePort",
        "numberAvailable",
        "numberUnavailable",
        "observedGeneration",
        "readyReplicas",
        "signal",
        "succeeded",
        "unavailableReplicas",
        "updatedNumberScheduled",
        "updatedReplicas",
    )
)

# A schema has schemas in it; some of these may also be a boolean or a list.
_SCHEMA_MAPS = frozenset(
    ("JSONSchemaProps", name) for name in ("definitions", "patternProperties", "properties")
)
_SCHEMAS_OR_OTHER = frozenset(
    ("JSONSchemaProps", name) for name in ("additionalItems", "additionalProperties", "items")
)

_BINARY_MAPS = frozenset({("Secret", "data"), ("ConfigMap", "binaryData")})

# Texts that have a type of their own in k8s.io/api, as far as users are likely to get them wrong.
_NAMED: Mapping[tuple[str, str], str] = {
    ("Container", "imagePullPolicy"): "v1.PullPolicy",
    ("Container", "terminationMessagePolicy"): "v1.TerminationMessagePolicy",
    ("ContainerPort", "protocol"): "v1.Protocol",
    ("DeploymentStrategy", "type"): "v1.DeploymentStrategyType",
    ("EndpointPort", "protocol"): "v1.Protocol",
    ("EndpointSlice", "addressType"): "v1.AddressType",
    ("HTTPGetAction", "scheme"): "v1.URIScheme",
    ("JobSpec", "completionMode"): "v1.CompletionMode",
    ("LabelSelectorRequirement", "operator"): "v1.LabelSelectorOperator",
    ("NodeSelectorRequirement", "operator"): "v1.NodeSelectorOperator",
    ("ObjectMeta", "uid"): "types.UID",
    ("OwnerReference", "uid"): "types.UID",
    ("PersistentVolumeClaimSpec", "accessModes"): "v1.PersistentVolumeAccessMode",
    ("PersistentVolumeClaimSpec", "volumeMode"): "v1.PersistentVolumeMode",
    ("PersistentVolumeSpec", "accessModes"): "v1.PersistentVolumeAccessMode",
    ("PersistentVolumeSpec", "persistentVolumeReclaimPolicy"): "v1.PersistentVolumeReclaimPolicy",
    ("PersistentVolumeSpec", "volumeMode"): "v1.PersistentVolumeMode",
    ("PodSpec", "dnsPolicy"): "v1.DNSPolicy",
    ("PodSpec", "restartPolicy"): "v1.RestartPolicy",
    ("PodStatus", "phase"): "v1.PodPhase",
    ("Secret", "type"): "v1.SecretType",
    ("ServicePort", "protocol"): "v1.Protocol",
    ("ServiceSpec", "externalTrafficPolicy"): "v1.ServiceExternalTrafficPolicy",
    ("ServiceSpec", "internalTrafficPolicy"): "v1.ServiceInternalTrafficPolicy",
    ("ServiceSpec", "ipFamilies"): "v1.IPFamily",
    ("ServiceSpec", "ipFamilyPolicy"): "v1.IPFamilyPolicy",
    ("ServiceSpec", "sessionAffinity"): "v1.ServiceAffinity",
    ("ServiceSpec", "type"): "v1.ServiceType",
    ("StorageClass", "reclaimPolicy"): "v1.PersistentVolumeReclaimPolicy",
    ("StorageClass", "volumeBindingMode"): "v1.VolumeBindingMode",
    ("Taint", "effect"): "v1.TaintEffect",
    ("Toleration", "effect"): "v1.TaintEffect",
    ("Toleration", "operator"): "v1.TolerationOperator",
}


# The structType=atomic and mapType=atomic tags of k8s.io/api's types: owned whole.
_ATOMIC_STRUCTS = frozenset(
    {
        "ConfigMapKeySelector",
        "FileKeySelector",
        "LabelSelector",
        "LocalObjectReference",
        "NodeSelector",
        "NodeSelectorTerm",
        "ObjectFieldSelector",
        "ObjectReference",
        "OwnerReference",
        "ResourceFieldSelector",
        "RoleRef",
        "ScopeSelector",
        "SecretKeySelector",
        "SecretReference",
        "Subject",
        "TopologySelectorTerm",
        "TypedLocalObjectReference",
    }
)
_ATOMIC_MAPS = frozenset({("PodSpec", "nodeSelector"), ("ServiceSpec", "selector")})


Unknown = list[str]
_Path = tuple[Any, Any]
_ROOT: _Path = (None, "")


def _conform_struct(obj: Object, struct: Struct, path: _Path, unknown: Unknown) -> None:
    fields = struct.fields
    drop = None
    for name, value in obj.items():
        field = fields.get(name)
        if field is None:
            unknown.append(_show((path, name)))
        elif value or (value is not None and value.__class__ is not field.omitted):
            base = field.base
            if base == "string":
                if value.__class__ is str:
                    continue
                raise _mismatch(value, field, struct, (path, name))
            if base == "integer":
                if value.__class__ is int and _fits(value, field):
                    continue
                raise _mismatch(value, field, struct, (path, name))
            replaced = _conform(value, field, struct, (path, name), unknown)
            if replaced is not value:
                obj[name] = replaced
            continue
        if drop is None:
            drop = [name]
        else:
            drop.append(name)
    if drop is not None:
        for name in drop:
            del obj[name]


_ZERO: Mapping[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False, "quantity": "0"}


def _conform(value: Any, field: Field, parent: Struct, path: _Path, unknown: Unknown) -> Any:
    base = field.base
    if base == "struct":
        assert field.struct is not None
        if value.__class__ is not dict:
            raise _mismatch(value, field, parent, path)
        _conform_struct(value, field.struct, path, unknown)
    elif base == "list":
        item = field.item
        assert item is not None
        if value.__class__ is not list:
            raise _mismatch(value, field, parent, path)
        for index, element in enumerate(value):
            if element is None:
                value[index] = {} if item.base == "struct" else _ZERO.get(item.base)
            elif item.base == "string" and element.__class__ is str:
                continue
            else:
                value[index] = _conform(element, item, parent, (path, index), unknown)
    elif base == "map":
        item = field.item
        assert item is not None
        if value.__class__ is not dict:
            raise _mismatch(value, field, parent, path)
        for key, element in value.items():
            if element is None:
                value[key] = _ZERO.get(item.base)
            elif item.base == "string" and element.__class__ is str and not item.binary:
                continue
            elif item.base == "struct":
                value[key] = _conform(element, item, parent, (path, key), unknown)
            else:
                # Go's decoder leaves the keys of maps out of the path that it tells.
                value[key] = _conform(element, item, parent, path, unknown)
    elif base == "boolean":
        if value is not True and value is not False:
            raise _mismatch(value, field, parent, path)
    elif base == "quantity":
        text = value if value.__class__ is str else str(value)
        if value.__class__ not in (str, int, float):
            text = ""
        try:
            quantity.parse(text)
        except quantity.QuantityError as error:
            raise TypeMismatch(str(error)) from None
        return text
    elif base == "time":
        _check_time(value, field, parent, path)
    elif base == "number":
        if value.__class__ not in (int, float):
            raise _mismatch(value, field, parent, path)
    elif base == "any":
        if field.struct is not None and value.__class__ is dict:
            _conform_struct(value, field.struct, path, unknown)
        elif field.int_or_string and value.__class__ is not str:
            number = _INT32
            if value.__class__ is not int or not _fits(value, number):
                raise _mismatch(value, number, parent, path)
    elif base == "string":
        if value.__class__ is not str:
            raise _mismatch(value, field, parent, path)
        if field.binary:
            _check_base64(value)
    elif value.__class__ is not int or not _fits(value, field):
        raise _mismatch(value, field, parent, path)
    return value


_INT32 = Field("integer", "int32")


def _fits(value: int, field: Field) -> bool:
    if -0x80000000 <= value <= 0x7FFFFFFF:
        return True
    return field.go == "int64" and -(2**63) <= value < 2**63


_base64_re = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?").fullmatch
_not_base64_re = re.compile(r"[^A-Za-z0-9+/]").search


def _check_base64(text: str) -> None:
    # Line ends are let through, as Go does.
    bare = text.replace("\n", "").replace("\r", "")
    if _base64_re(bare) is None:
        found = _not_base64_re(text)
        place = len(text) if found is None else found.start()
        raise TypeMismatch(f"illegal base64 data at input byte {place}")


def _check_time(value: Any, field: Field, parent: Struct, path: _Path) -> None:
    if value.__class__ is not str:
        raise _mismatch(value, field, parent, path)
    if not value:
        return
    try:
        moment = datetime.datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in value:
        layout = (
            "2006-01-02T15:04:05.000000Z07:00" if field.go == "v1.MicroTime" else "2006-01-02T15:04:05Z07:00"
        )
        raise TypeMismatch(f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"')


_JSON_WORD: Mapping[type, str] = {
    str: "string",
    bool: "bool",
    int: "number",
    float: "number",
    dict: "object",
    list: "array",
}


def _mismatch(value: Any, field: Field, parent: Struct, path: _Path) -> TypeMismatch:
    word = _JSON_WORD[value.__class__]
    if word == "number" and field.base in ("integer", "number"):
        word = f"number {value}"
    names = []
    step: _Path | None = path
    while step is not None and step is not _ROOT:
        if isinstance(step[1], str):
            names.append(step[1])
        step = step[0]
    where = ".".join(reversed(names))
    return TypeMismatch(
        f"json: cannot unmarshal {word} into Go struct field {parent.name}.{where} of type {field.go}"
    )


def _show(path: _Path) -> str:
    parts: list[str] = []
    step: _Path | None = path
    while step is not None and step is not _ROOT:
        parts.append(f"[{step[1]}]" if isinstance(step[1], int) else f".{step[1]}")
        step = step[0]
    return "".join(reversed(parts)).lstrip(".")


def _by(*keys: str) -> Merge:
    return Merge(("merge",), keys[0], keys, {"protocol": "TCP"} if "protocol" in keys else {})


_CONDITIONS = _by("type")
_SET = Merge(("merge",))

# The patchStrategy, patchMergeKey and listMapKey tags of k8s.io/api's types; lightkube leaves them out.
_MERGE: Mapping[tuple[str, str], Merge] = {
    ("ObjectMeta", "ownerReferences"): _by("uid"),
    ("ObjectMeta", "finalizers"): _SET,
    ("PodSpec", "containers"): _by("name"),
    ("PodSpec", "initContainers"): _by("name"),
    ("PodSpec", "ephemeralContainers"): _by("name"),
    ("PodSpec", "imagePullSecrets"): _by("name"),
    ("PodSpec", "hostAliases"): _by("ip"),
    ("PodSpec", "schedulingGates"): _by("name"),
    ("PodSpec", "topologySpreadConstraints"): _by("topologyKey", "whenUnsatisfiable"),
    ("PodSpec", "volumes"): Merge(("merge", "retainKeys"), "name", ("name",)),
    ("PodSpec", "resourceClaims"): Merge(("merge", "retainKeys"), "name", ("name",)),
    ("PodStatus", "conditions"): _CONDITIONS,
    ("PodStatus", "podIPs"): _by("ip"),
    ("PodStatus", "hostIPs"): _by("ip"),
    ("PodStatus", "resourceClaimStatuses"): Merge(("merge", "retainKeys"), "name", ("name",)),
    ("ServiceSpec", "ports"): _by("port", "protocol"),
    ("ServiceStatus", "conditions"): _CONDITIONS,
    ("ServiceAccount", "secrets"): _by("name"),
    ("NodeSpec", "podCIDRs"): _SET,
    ("NodeStatus", "conditions"): _CONDITIONS,
    ("NodeStatus", "addresses"): _by("type"),
    ("NamespaceStatus", "conditions"): _CONDITIONS,
    ("DeploymentSpec", "strategy"): Merge(("retainKeys",)),
    ("DeploymentStatus", "conditions"): _CONDITIONS,
    ("ReplicaSetStatus", "conditions"): _CONDITIONS,
    ("StatefulSetStatus", "conditions"): _CONDITIONS,
    ("DaemonSetStatus", "conditions"): _CONDITIONS,
    ("JobStatus", "conditions"): _CONDITIONS,
    ("ReplicationControllerStatus", "conditions"): _CONDITIONS,
    ("PersistentVolumeClaimStatus", "conditions"): _CONDITIONS,
    ("PodDisruptionBudgetStatus", "conditions"): _CONDITIONS,
    ("PodDisruptionBudgetSpec", "selector"): Merge(("replace",)),
    ("ServiceCIDRStatus", "conditions"): _CONDITIONS,
    ("CustomResourceDefinitionStatus", "conditions"): Merge((), "", ("type",)),
    ("JSONSchemaProps", "x-kubernetes-validations"): Merge(("merge",), "rule", ("rule",)),
    **{
        (container, field): merge
        for container in ("Container", "EphemeralContainer")
        for field, merge in {
            "env": _by("name"),
            "ports": _by("containerPort", "protocol"),
            "volumeMounts": _by("mountPath"),
            "volumeDevices": _by("devicePath"),
        }.items()
    },
}
