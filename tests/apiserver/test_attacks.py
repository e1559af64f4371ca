"""What somebody tries who means harm, and what comes of it."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from typing import Any

import pytest

from buoy.api.status import StatusError
from buoy.apiserver import negotiation
from buoy.apiserver.answers import warning_header
from buoy.apiserver.attributes import Attributes
from buoy.apiserver.authentication import Authenticator, certificate_user

from .api_server import Running

pytestmark = pytest.mark.asyncio(loop_scope="module")

RBAC = "/apis/rbac.authorization.k8s.io/v1"
GROUP = "rbac.authorization.k8s.io"
SELF_REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


async def give(server: Running, namespace: str, user: str, *rules: Any) -> None:
    """*user* may do by these rules what they say, in the namespace."""
    name = f"role-of-{user}"
    await server.post(f"{RBAC}/namespaces/{namespace}/roles", {"metadata": {"name": name}, "rules": rules})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": name},
        "subjects": [{"kind": "User", "apiGroup": GROUP, "name": user}],
    }
    assert (await server.post(f"{RBAC}/namespaces/{namespace}/rolebindings", binding)).status == 201


def rule(group: str, resources: list[str], *verbs: str) -> Any:
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}


# More rights than one has


async def test_binding_a_role_that_is_yet_to_come(server: Running, namespace: str) -> None:
    user = f"binder-{namespace}"
    await give(server, namespace, user, rule(GROUP, ["rolebindings"], "create"))
    binding: Any = {
        "metadata": {"name": "early"},
        "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "powerful"},
        "subjects": [{"kind": "User", "apiGroup": GROUP, "name": user}],
    }
    path = f"{RBAC}/namespaces/{namespace}/rolebindings"
    reply = await server.post(path, binding, user=user)
    assert (reply.status, reply.message) == (404, f'roles.{GROUP} "powerful" not found')
    binding["roleRef"].update(kind="ClusterRole", name="imagined")
    reply = await server.post(path, binding, user=user)
    assert (reply.status, reply.message) == (404, f'clusterroles.{GROUP} "imagined" not found')
    assert (await server.post(path, binding)).status == 201  # an administrator may


async def test_a_role_made_of_others(server: Running) -> None:
    """It would have whatever is in roles with that label, by and by."""
    user = "aggregator"
    role = {
        "metadata": {"name": "roles-for-aggregator"},
        "rules": [rule(GROUP, ["clusterroles"], "create", "update")],
    }
    await server.post(f"{RBAC}/clusterroles", role)
    binding = {
        "metadata": {"name": "roles-for-aggregator"},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "roles-for-aggregator"},
        "subjects": [{"kind": "User", "apiGroup": GROUP, "name": user}],
    }
    await server.post(f"{RBAC}/clusterrolebindings", binding)
    everything = {"matchLabels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}
    made: Any = {
        "metadata": {"name": "made-of-others"},
        "aggregationRule": {"clusterRoleSelectors": [everything]},
    }
    reply = await server.post(f"{RBAC}/clusterroles", made, user=user)
    assert reply.status == 403
    assert "is attempting to grant RBAC permissions not currently held" in reply.message
    plain = {"metadata": {"name": "made-of-others"}, "rules": []}
    assert (await server.post(f"{RBAC}/clusterroles", plain, user=user)).status == 201
    reply = await server.put(f"{RBAC}/clusterroles/made-of-others", {**made, "rules": []}, user=user)
    assert reply.status == 403
    assert (await server.put(f"{RBAC}/clusterroles/made-of-others", made)).status == 200


async def test_creating_by_applying(server: Running, namespace: str) -> None:
    user = f"patcher-{namespace}"
    await give(server, namespace, user, rule("", ["configmaps"], "get", "patch"))
    path = f"/api/v1/namespaces/{namespace}/configmaps/new"
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}, "data": {"a": "b"}}
    reply = await server.patch(f"{path}?fieldManager=me", applied, "apply-patch+yaml", user=user)
    assert reply.message == (
        f'configmaps "new" is forbidden: User "{user}" cannot create resource "configmaps" in API group "" '
        f'in the namespace "{namespace}"'
    )
    await server.post(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "new"}})
    reply = await server.patch(f"{path}?fieldManager=me", applied, "apply-patch+yaml", user=user)
    assert reply.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Impersonate_Group": "nobodies"},
        {"Impersonate_Uid": "7"},
        {"Impersonate_Extra_Scopes": "view"},
        {"Impersonate_User": "", "Impersonate_Group": "nobodies"},
    ],
)
async def test_impersonating_half(server: Running, headers: dict[str, str]) -> None:
    """Who asks for less than it has must not be answered as if it had not asked."""
    reply = await server.get("/api/v1/secrets", **headers)
    assert reply.status == 500
    assert "without impersonating a user" in reply.message


async def test_impersonating_nobody(server: Running) -> None:
    reply = await server.post(SELF_REVIEW, {}, Impersonate_User="system:anonymous")
    assert "cannot create" in reply.message
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    reply = await server.post(path, {}, Impersonate_User="system:anonymous")
    assert reply.status == 403


@pytest.mark.parametrize("resource", ["endpoints", "endpointslices.discovery.k8s.io"])
@pytest.mark.parametrize("role", ["edit", "admin"])
async def test_leading_services_astray(server: Running, resource: str, role: str) -> None:
    """CVE-2021-25740: endpoints may name any address, so they are not for users of a namespace."""
    found = (await server.get(f"{RBAC}/clusterroles/{role}")).json["rules"]
    plural, _, group = resource.partition(".")
    verbs = {
        verb
        for each in found
        if plural in each["resources"] and group in each["apiGroups"]
        for verb in each["verbs"]
    }
    assert verbs == {"get", "list", "watch"}


async def test_a_pod_that_says_it_is_a_mirror(server: Running, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    annotations = {"kubernetes.io/config.mirror": "x"}
    spec: Any = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}
    pod = {"metadata": {"name": "m", "annotations": annotations}, "spec": spec}
    spec["serviceAccountName"] = "default"
    reply = await server.post(pods, pod)
    assert reply.message == 'pods "m" is forbidden: a mirror pod may not reference service accounts'
    del spec["serviceAccountName"]
    spec["volumes"] = [{"name": "v", "secret": {"secretName": "s"}}]
    assert (await server.post(pods, pod)).message.endswith("a mirror pod may not reference secrets")
    del spec["volumes"]
    assert (await server.post(pods, pod)).status == 201


# Credentials that have had their day


async def test_a_token_of_a_pod_that_will_not_go(server: Running, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    pod = {
        "metadata": {"name": "p", "finalizers": ["example.com/stays"]},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    uid = (await server.post(pods, pod)).json["metadata"]["uid"]
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    token = (await server.post(path, {"spec": {"boundObjectRef": reference}})).json["status"]["token"]
    await server.delete(f"{pods}/p?gracePeriodSeconds=0")
    assert (await server.get(f"{pods}/p")).json["metadata"]["deletionTimestamp"]

    async def status() -> int:
        return (await server.get("/version", user="", Authorization=f"Bearer {token}")).status

    assert await status() == 200  # the Pod may have something to say as it ends
    with pytest.MonkeyPatch.context() as patch:
        later = time.time() + 120
        patch.setattr("buoy.apiserver.authentication.time.time", lambda: later)
        assert await status() == 401


async def test_a_certificate_that_has_ended_meanwhile(server: Running) -> None:
    """The connection may be older than the end of the certificate that opened it."""
    authenticator = Authenticator({}, None)  # type: ignore[arg-type]
    certificate = {"subject": ((("commonName", "somebody"),),), "notAfter": "Jan  1 00:00:00 2100 GMT"}
    assert await authenticator.authenticate(certificate, {}) == certificate_user(certificate["subject"])  # type: ignore[arg-type]
    with pytest.raises(StatusError) as refusal:
        await authenticator.authenticate({**certificate, "notAfter": "Jan  1 00:00:00 2020 GMT"}, {})
    assert refusal.value.code == 401


# Bodies that are more than they seem


DEEP = 200_000
LAUGHS = b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 10)) for n in range(8)
)


@pytest.mark.parametrize(
    ("body", "media", "message"),
    [
        (b"[" * DEEP + b"]" * DEEP, "yaml", "exceeded max depth"),
        (b"{a: " * DEEP + b"1" + b"}" * DEEP, "yaml", "exceeded max depth"),
        (b"- " * DEEP + b"1", "yaml", "exceeded max depth"),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "yaml", "maximum recursion depth exceeded"),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "json", "exceeded max depth"),
        (b"&a [*a]", "yaml", "excessive aliasing"),
        (LAUGHS, "yaml", "excessive aliasing"),
        (
            b"a: &a " + b"x" * 100_000 + b"\nb: [" + b",".join([b"*a"] * 1000) + b"]",
            "yaml",
            "excessive aliasing",
        ),
        (b"{? [1, 2] : x}", "yaml", "unhashable"),
        (b"{? {a: b} : x}", "yaml", "unhashable"),
        (b"a: !!python/object:os.system x", "yaml", "could not determine a constructor"),
    ],
)
async def test_bodies(server: Running, body: bytes, media: str, message: str) -> None:
    reply = await server.request(
        "POST", SELF_REVIEW, body, user="somebody", Content_Type=f"application/{media}"
    )
    assert (reply.status, message in reply.message) == (400, True), reply.body
    assert (await server.get("/readyz")).status == 200


async def test_yaml_becomes_what_json_can_say() -> None:
    shared = negotiation.parse_yaml(b"a: &x {k: 1}\nb: *x\n1: !!binary aGk=\nc: .nan\nd: 2020-01-01")
    assert shared == {"a": {"k": 1}, "b": {"k": 1}, "1": "aGk=", "c": None, "d": "2020-01-01"}
    assert shared["a"] is not shared["b"]


async def test_bodies_that_unfold(server: Running) -> None:
    """A megabyte of zeros is a kilobyte on the wire."""
    body = gzip.compress(b" " * (1 << 24))
    reply = await server.request("POST", SELF_REVIEW, body, user="somebody", Content_Encoding="gzip")
    assert reply.status == 400


async def test_bodies_that_are_too_long(server: Running) -> None:
    reply = await server.request("POST", SELF_REVIEW, b" " * (4 << 20), user="somebody")
    assert (reply.status, reply.json["reason"]) == (413, "RequestEntityTooLarge")


async def test_a_patch_that_doubles_what_it_copies(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps/doubled"
    made = {"metadata": {"name": "doubled", "annotations": {"a": "x" * 1000}}}
    await server.post(f"/api/v1/namespaces/{namespace}/configmaps", made)
    steps = [
        {"op": "copy", "from": "/metadata", "path": f"/metadata/{number}"} for number in range(40)
    ]  # of two to the fortieth kilobytes
    reply = await server.patch(path, steps, "json-patch+json")
    assert (reply.status, "accumulated size increase of copy" in reply.message) == (422, True)
    copied = [{"op": "copy", "from": "/metadata/annotations/a", "path": "/metadata/annotations/b"}]
    reply = await server.patch(path, copied, "json-patch+json")
    assert reply.json["metadata"]["annotations"] == {"a": "x" * 1000, "b": "x" * 1000}


# Who takes its time


async def raw(server: Running, sent: bytes) -> bytes:
    """What comes back for *sent*, until the server ends the connection."""
    context = ssl.create_default_context(cafile=str(server.authority.certificate))
    context.load_cert_chain(*server.authority.issue("slow"))
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        writer.write(sent)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /version HT", b"POST /api/v1/namespaces/n/pods/p/exec?command=a HT"]
)
async def test_a_head_that_does_not_come(
    server: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("buoy.apiserver.server._HEAD_SECONDS", 0.2)
    assert await raw(server, sent) == b""


async def test_a_body_that_does_not_come(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buoy.apiserver.rest._BODY_SECONDS", 0.2)
    head = f"POST {SELF_REVIEW} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n"
    answer = await raw(server, head.encode())
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b'"reason":"Timeout"' in answer


# What is kept of strangers' requests


async def test_metrics_do_not_grow_with_what_strangers_ask(server: Running) -> None:
    before = (await server.get("/metrics")).body.count(b"\n")
    for number in range(50):
        for path in (
            f"/apis/g{number}/v1/things",
            f"/api/v1/pods{number}",
            f"/api/v1/namespaces/x/pods/p/sub{number}",
            f"/path{number}",
            f"/path{number}/more",
        ):
            assert (await server.get(path, user="")).status == 403
        await server.request(f"METHOD{number}", "/version", user="")
    after = (await server.get("/metrics")).body.count(b"\n")
    # A label more or less for what is of no kind, with its buckets.
    assert after - before < 200


async def test_long_questions_are_not_kept() -> None:
    assert Attributes("get", path="/x").size < 512 < Attributes("get", path="/" + "x" * 1000).size


async def test_warnings_stay_on_their_line() -> None:
    name, value = warning_header('unknown field "a\r\nSet-Cookie: x"\x00')
    assert (name, value) == ("Warning", '299 - "unknown field \\"a  Set-Cookie: x\\" "')
