from typing import Any

import pytest

from buoy.api.models import apps_v1, core_v1
from buoy.api.schema import TypeMismatch, struct_of

SERVICE = struct_of(core_v1.Service)
POD = struct_of(core_v1.Pod)
SECRET = struct_of(core_v1.Secret)
DEPLOYMENT = struct_of(apps_v1.Deployment)


def test_unknown_fields_are_dropped_and_named() -> None:
    pod: dict[str, Any] = {
        "foo": 1,
        "spec": {"containers": [{"name": "a", "bar": None, "ports": [{"containerPort": 80, "baz": {}}]}]},
    }
    assert POD.conform(pod) == ["foo", "spec.containers[0].bar", "spec.containers[0].ports[0].baz"]
    assert pod == {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}}


def test_nulls_are_as_good_as_absent() -> None:
    pod: dict[str, Any] = {
        "metadata": {"name": "a", "labels": None, "annotations": {"x": None}},
        "spec": {"nodeName": None, "containers": None},
    }
    assert POD.conform(pod) == []
    assert pod == {"metadata": {"name": "a", "annotations": {"x": ""}}, "spec": {}}


def test_what_means_nothing_is_dropped_as_go_does() -> None:
    pod: dict[str, Any] = {
        "metadata": {"name": "a", "namespace": "", "labels": {}, "finalizers": []},
        "spec": {
            "hostNetwork": False,
            "nodeSelector": {},
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {},
            "volumes": [{"name": "v", "hostPath": {"path": "/x", "type": ""}}, {"name": "e", "emptyDir": {}}],
            "containers": [
                {
                    "name": "",
                    "image": "",
                    "command": [],
                    "stdin": False,
                    "env": [{"name": "A", "value": ""}],
                    "ports": [{"containerPort": 0, "hostPort": 0}],
                    "volumeMounts": [{"name": "v", "mountPath": "", "readOnly": False}],
                    "securityContext": {"privileged": False},
                    "livenessProbe": {"initialDelaySeconds": 0},
                }
            ],
        },
    }
    assert POD.conform(pod) == []
    assert pod == {
        "metadata": {"name": "a"},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {},
            "volumes": [{"name": "v", "hostPath": {"path": "/x", "type": ""}}, {"name": "e", "emptyDir": {}}],
            "containers": [
                {
                    "name": "",
                    "env": [{"name": "A"}],
                    "ports": [{"containerPort": 0}],
                    "volumeMounts": [{"name": "v", "mountPath": ""}],
                    "securityContext": {"privileged": False},
                    "livenessProbe": {},
                }
            ],
        },
    }


def test_an_empty_value_of_a_wrong_type_is_still_wrong() -> None:
    with pytest.raises(TypeMismatch, match=r"field PodSpec\.spec\.hostNetwork of type bool"):
        POD.conform({"spec": {"hostNetwork": ""}})


def test_the_tables_name_existing_fields() -> None:
    from buoy.api import KINDS, schema

    found: dict[str, set[str]] = {}

    def walk(struct: Any) -> None:
        names = found.setdefault(struct.name, set())
        if not set(struct.fields) <= names:
            names.update(struct.fields)
            for field in struct.fields.values():
                for each in (field, field.item):
                    if each is not None and each.struct is not None:
                        walk(each.struct)

    for kind in KINDS:
        walk(kind.struct)
    for struct, field in {*schema._POINTERS, *schema._KEPT, *schema._NAMED, *schema._BINARY_MAPS}:
        assert field in found[struct], (struct, field)
    everywhere = set().union(*found.values())
    assert everywhere >= schema._PLAIN_BOOLEANS | schema._PLAIN_INTEGERS


def test_quantities_may_be_numbers() -> None:
    resources = {"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"cpu": 0.5}}
    pod: dict[str, Any] = {"spec": {"containers": [{"name": "a", "resources": resources}]}}
    assert POD.conform(pod) == []
    assert resources == {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "0.5"}}


@pytest.mark.parametrize(
    ("struct", "obj", "message"),
    [
        (
            SERVICE,
            {"spec": {"ports": [{"port": "80"}]}},
            "json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            SERVICE,
            {"spec": {"ports": {"port": 80}}},
            "json: cannot unmarshal object into Go struct field ServiceSpec.spec.ports "
            "of type []v1.ServicePort",
        ),
        (
            SERVICE,
            {"spec": {"selector": {"a": 1}}},
            "json: cannot unmarshal number into Go struct field ServiceSpec.spec.selector of type string",
        ),
        (
            DEPLOYMENT,
            {"spec": {"replicas": "3"}},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            {"spec": {"paused": "yes"}},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.paused of type bool",
        ),
        (
            POD,
            {"spec": {"terminationGracePeriodSeconds": "1"}},
            "json: cannot unmarshal string into Go struct field PodSpec.spec.terminationGracePeriodSeconds "
            "of type int64",
        ),
        (
            POD,
            {"metadata": {"creationTimestamp": "yesterday"}},
            'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"',
        ),
        (
            SERVICE,
            {"spec": {"ports": [{"port": 99999999999}]}},
            "json: cannot unmarshal number 99999999999 into Go struct field ServicePort.spec.ports.port "
            "of type int32",
        ),
        (
            SERVICE,
            {"spec": {"ports": [{"port": 80, "targetPort": True}]}},
            "json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort "
            "of type int32",
        ),
        (
            SERVICE,
            {"spec": {"type": 5}},
            "json: cannot unmarshal number into Go struct field ServiceSpec.spec.type of type v1.ServiceType",
        ),
        (
            SERVICE,
            {"spec": {"ipFamilies": [4]}},
            "json: cannot unmarshal number into Go struct field ServiceSpec.spec.ipFamilies "
            "of type v1.IPFamily",
        ),
        (
            DEPLOYMENT,
            {"spec": {"template": {"spec": {"containers": [{"ports": [{"containerPort": "80["}]}]}}}},
            "json: cannot unmarshal string into Go struct field "
            "ContainerPort.spec.template.spec.containers.ports.containerPort of type int32",
        ),
        (
            POD,
            {"spec": {"containers": [{"resources": {"limits": {"cpu": "one"}}}]}},
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (SECRET, {"data": {"a": "YQ==!"}}, "illegal base64 data at input byte 2"),
        (SECRET, {"data": {"a": "YWJ"}}, "illegal base64 data at input byte 3"),
        (POD, {"spec": []}, "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
    ],
)
def test_wrong_types_are_told_as_go_does(struct: Any, obj: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeMismatch) as caught:
        struct.conform(obj)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [80, "http", "25%"])
def test_int_or_string(value: Any) -> None:
    service = {"spec": {"ports": [{"port": 80, "targetPort": value}]}}
    assert SERVICE.conform(service) == []
    assert service["spec"]["ports"][0]["targetPort"] == value


def test_merge_keys_stand_on_existing_fields() -> None:
    from buoy.api.schema import _MERGE

    for (model, field), merge in _MERGE.items():
        found = [
            getattr(module, model)
            for module in (core_v1, apps_v1, *_other_modules())
            if hasattr(module, model)
        ]
        assert found, model
        described = struct_of(found[0]).fields[field]
        assert described.merge == merge
        if merge.key:
            assert described.item is not None
            assert described.item.struct is not None
            assert merge.key in described.item.struct.fields, (model, field)


def _other_modules() -> list[Any]:
    import importlib

    names = ("meta_v1", "batch_v1", "policy_v1", "networking_v1", "apiextensions_v1")
    return [importlib.import_module(f"lightkube.models.{name}") for name in names]
