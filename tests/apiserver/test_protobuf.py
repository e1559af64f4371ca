"""Request bodies in protobuf."""

from __future__ import annotations

from struct import pack

import pytest

from buoy.api import KINDS
from buoy.api.field_numbers import FIELD_NUMBERS
from buoy.api.schema import Struct
from buoy.apiserver import protobuf

from .api_server import Running


def varint(number: int) -> bytes:
    found = bytearray()
    number &= (1 << 64) - 1
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes((*found, number))


def message(*fields: tuple[int, int | bytes | str]) -> bytes:
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value))
        else:
            data = value.encode() if isinstance(value, str) else value
            parts.append(varint(number << 3 | 2) + varint(len(data)) + data)
    return b"".join(parts)


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\0" + message((1, message((1, api_version), (2, kind))), (2, raw), (3, ""), (4, ""))


def test_a_pod_in_protobuf() -> None:
    metadata = message((1, "p"), (3, ""), (11, message((1, "app"), (2, "web"))), (8, b""))
    port = message((1, ""), (3, 80), (4, "TCP"))
    probe = message(
        (1, message((2, message((1, "/"), (2, message((1, 1), (2, 0), (3, "http"))))))), (2, 0), (4, 5)
    )
    limits = message((1, "cpu"), (2, message((1, "500m"))))
    container = message((1, "c"), (2, "i"), (6, port), (8, message((1, limits))), (10, probe), (16, 0))
    volume = message((1, "v"), (2, message((2, b""))))
    spec = message((2, container), (1, volume), (4, 0), (7, message((1, "disk"), (2, "ssd"))))
    assert protobuf.decode(envelope("v1", "Pod", message((1, metadata), (2, spec), (3, b"")))) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"app": "web"}},
        "spec": {
            "containers": [
                {
                    "name": "c",
                    "image": "i",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "500m"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5},
                }
            ],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {"disk": "ssd"},
        },
    }


def test_other_shapes_in_protobuf() -> None:
    secret = message((1, message((1, "s"))), (2, message((1, "key"), (2, b"\xff\x00"))))
    assert protobuf.decode(envelope("v1", "Secret", secret))["data"] == {"key": "/wA="}
    revision = message((1, message((1, "r"))), (2, message((1, b'{"spec":{"a":[1]}}'))), (3, 7))
    found = protobuf.decode(envelope("apps/v1", "ControllerRevision", revision))
    assert (found["data"], found["revision"]) == ({"spec": {"a": [1]}}, 7)
    moment = message((1, 1_700_000_000), (2, 123_456_000))
    lease = message((1, message((1, "l"))), (2, message((1, "me"), (2, 15), (3, moment))))
    assert protobuf.decode(envelope("coordination.k8s.io/v1", "Lease", lease))["spec"] == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": "2023-11-14T22:13:20.123456Z",
    }
    extra = message((1, "scopes"), (2, message((1, "a"), (1, "b"))))
    review = message((2, message((3, "bob"), (5, extra))))
    found = protobuf.decode(envelope("authorization.k8s.io/v1", "SubjectAccessReview", review))
    assert found["spec"] == {"user": "bob", "extra": {"scopes": ["a", "b"]}}


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"k8s\0\xff",
        envelope("v1", "Unicorn", b""),
        envelope("v1", "Pod", b"\x0a\x05ab"),
        envelope("v1", "Pod", b"\x0f"),
        envelope("v1", "ConfigMap", message((2, message((1, b"\xff"), (2, "x"))))),
    ],
)
def test_broken_protobuf(body: bytes) -> None:
    with pytest.raises(protobuf.Malformed):
        protobuf.decode(body)


def test_every_field_of_every_kind_has_a_number() -> None:
    seen: set[str] = set()
    missing: list[str] = []

    def numbers(name: str) -> set[str]:
        found: set[str] = set()
        for entry in FIELD_NUMBERS.get(name, "").split():
            text = entry.partition("=")[0]
            found |= numbers(text[1:]) if text.startswith("+") else {text.lstrip("*~")}
        return found

    def walk(struct: Struct) -> None:
        name = f"{struct.module}.{struct.name}"
        if name in seen:
            return
        seen.add(name)
        known = numbers(name)
        for field_name, field in struct.fields.items():
            if field_name not in known and field_name not in ("apiVersion", "kind"):
                missing.append(f"{name}.{field_name}")
            inner = field.item or field
            if inner.struct is not None:
                walk(inner.struct)

    for kind in KINDS:
        walk(kind.struct)
    assert missing == [
        # An alpha feature's field, which 1.37 has dropped again.
        "core_v1.NodeAllocatableResourceClaimStatus.resources",
        # What only a server writes.
        "apiextensions_v1.CustomResourceDefinitionCondition.observedGeneration",
        "apiextensions_v1.CustomResourceDefinitionStatus.observedGeneration",
    ]


def test_a_definition_in_protobuf() -> None:
    """Schemas in maps, schemas that may be something else, JSON in bytes, and floating-point numbers."""
    size = message((5, "number"), (8, message((1, "1.5")))) + varint(11 << 3 | 1) + pack("<d", 0.5)
    names = message((5, "array"), (24, message((1, message((5, "string"), (13, 5))))))
    labels = message((5, "object"), (30, message((1, 0), (2, message((5, "string"))))))
    anything = message((5, "object"), (30, message((1, 1))), (38, 1))
    properties = [
        (29, message((1, name), (2, schema)))
        for name, schema in (("size", size), ("names", names), ("labels", labels), ("any", anything))
    ]
    schema = message((5, "object"), *properties)
    version = message(
        (1, "v1"), (2, 1), (3, 0), (4, message((1, schema))), (5, message((1, b""), (2, message((1, ".a")))))
    )
    raw = message((1, message((1, "boats.example.com"))), (2, message((1, "example.com"), (7, version))))
    decoded = protobuf.decode(envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", raw))
    (found,) = decoded["spec"]["versions"]
    assert (found["served"], found["storage"]) == (True, False)
    assert found["subresources"] == {"status": {}, "scale": {"specReplicasPath": ".a"}}
    assert found["schema"]["openAPIV3Schema"]["properties"] == {
        "size": {"type": "number", "default": 1.5, "minimum": 0.5},
        "names": {"type": "array", "items": {"type": "string", "maxLength": 5}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "any": {
            "type": "object",
            "additionalProperties": True,
            "x-kubernetes-preserve-unknown-fields": True,
        },
    }


@pytest.mark.asyncio(loop_scope="module")
async def test_protobuf_over_http(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    raw = message((1, message((1, "p"))), (2, message((1, "a"), (2, "b"))))
    kind = "application/vnd.kubernetes.protobuf"
    made = await server.post(
        path, envelope("v1", "ConfigMap", raw), Content_Type=kind, Accept=f"{kind},application/json"
    )
    assert (made.status, made.json["data"]) == (201, {"a": "b"})
    bad = await server.post(path, b"{}", Content_Type=kind)
    assert (bad.status, bad.json["reason"]) == (400, "BadRequest")
