"""Who may come in, and what they may do."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from .api_server import Reply, Running, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

RBAC = "/apis/rbac.authorization.k8s.io/v1"


async def with_token(server: Running, token: str, path: str, method: str = "GET", body: Any = None) -> Reply:
    return await server.request(method, path, body, user="", Authorization=f"Bearer {token}")


async def make_token(server: Running, namespace: str, account: str = "default", **spec: Any) -> Any:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    return await server.post(path, {"spec": spec})


async def bind_role(
    server: Running, namespace: str, name: str, rules: list[Any], subject: dict[str, str]
) -> None:
    role = {"metadata": {"name": name}, "rules": rules}
    assert (await server.post(f"{RBAC}/namespaces/{namespace}/roles", role)).status == 201
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [subject],
    }
    assert (await server.post(f"{RBAC}/namespaces/{namespace}/rolebindings", binding)).status == 201


async def allowed(server: Running, user: str, path: str, status: int = 200) -> None:
    """RBAC looks at what the store has told it, which may be a moment ago."""
    async with asyncio.timeout(5):
        while (await server.get(path, user=user)).status != status:
            await asyncio.sleep(0.01)


# Anonymous


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version"])
async def test_anybody_may_ask_after_health(server: Running, path: str) -> None:
    assert (await server.get(path, user="")).status == 200


async def test_anonymous_may_not_read(server: Running) -> None:
    reply = await server.get("/api/v1/namespaces/default/pods", user="")
    assert (reply.status, reply.json["reason"]) == (403, "Forbidden")
    assert reply.message == (
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the '
        "namespace "
        '"default"'
    )
    assert reply.json["details"] == {"kind": "pods"}
    reply = await server.get("/metrics", user="")
    assert reply.message == 'forbidden: User "system:anonymous" cannot get path "/metrics"'


@pytest.mark.parametrize("token", ["nonsense", "a.b.c"])
async def test_wrong_tokens(server: Running, token: str) -> None:
    reply = await with_token(server, token, "/api/v1/namespaces")
    assert (reply.status, reply.json["reason"], reply.message) == (401, "Unauthorized", "Unauthorized")


async def test_a_certificate_of_another_authority_is_refused(server: Running, tmp_path: Path) -> None:
    from .api_server import Authority

    context = ssl.create_default_context(cafile=str(server.authority.certificate))
    context.load_cert_chain(*Authority(tmp_path).issue("admin", "system:masters"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{server.url}/api/v1/namespaces")


async def test_static_tokens(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.csv"
    tokens.write_text('secret,alice,7,"system:masters,staff"\nother,bob,8\n')
    async with running(tmp_path, token_file=str(tokens)) as server:
        assert (await with_token(server, "secret", "/api/v1/namespaces")).status == 200
        reply = await with_token(server, "other", "/api/v1/namespaces")
        assert 'User "bob" cannot list resource "namespaces"' in reply.message
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        user = (await with_token(server, "secret", path, "POST", {})).json["status"]["userInfo"]
        assert user == {
            "username": "alice",
            "uid": "7",
            "groups": ["system:masters", "staff", "system:authenticated"],
        }


# Roles


async def test_a_role_in_a_namespace(server: Running, namespace: str) -> None:
    user = f"user-of-{namespace}"
    pods = f"/api/v1/namespaces/{namespace}/pods"
    assert (await server.get(pods, user=user)).status == 403
    rules = [{"apiGroups": [""], "resources": ["pods", "pods/status"], "verbs": ["get", "list"]}]
    await bind_role(server, namespace, "reader", rules, {"kind": "User", "name": user})
    await allowed(server, user, pods)
    assert (await server.get(f"{pods}/x", user=user)).status == 404
    assert (await server.get(f"{pods}/x/status", user=user)).status == 404
    for method, path, message in (
        (
            "DELETE",
            f"{pods}/x",
            f'pods "x" is forbidden: User "{user}" cannot delete resource "pods" in API group '
            f'"" in the namespace "{namespace}"',
        ),
        (
            "GET",
            f"{pods}/x/log",
            f'pods "x" is forbidden: User "{user}" cannot get resource "pods/log" in API group '
            f'"" in the namespace "{namespace}"',
        ),
        (
            "GET",
            "/api/v1/pods",
            f'pods is forbidden: User "{user}" cannot list resource "pods" in API group "" at '
            "the cluster scope",
        ),
        (
            "GET",
            f"/apis/apps/v1/namespaces/{namespace}/deployments/d",
            f'deployments.apps "d" is forbidden: User "{user}" cannot get resource "deployments" in API '
            'group "apps" '
            f'in the namespace "{namespace}"',
        ),
        (
            "GET",
            f"{pods}?watch=1",
            f'pods is forbidden: User "{user}" cannot watch resource "pods" in API group "" '
            f'in the namespace "{namespace}"',
        ),
    ):
        reply = await server.request(method, path, user=user)
        assert (reply.status, reply.message) == (403, message)
    await server.delete(f"{RBAC}/namespaces/{namespace}/rolebindings/reader")
    await allowed(server, user, pods, 403)


async def test_resource_names(server: Running, namespace: str) -> None:
    user = f"user-of-{namespace}"
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"], "resourceNames": ["mine"]}
    ]
    await bind_role(server, namespace, "one", rules, {"kind": "User", "name": user})
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await allowed(server, user, f"{path}/mine", 404)
    assert (await server.get(f"{path}/other", user=user)).status == 403
    assert (await server.get(path, user=user)).status == 403
    assert (await server.get(f"{path}?fieldSelector=metadata.name=mine", user=user)).status == 200


@pytest.mark.parametrize(
    ("user", "group", "path", "status"),
    [
        ("system:kube-scheduler", "", "/api/v1/pods", 200),
        ("system:kube-scheduler", "", "/api/v1/secrets", 403),
        ("system:kube-controller-manager", "", "/api/v1/secrets", 200),
        ("system:kube-proxy", "", "/apis/discovery.k8s.io/v1/endpointslices", 200),
        ("system:kube-proxy", "", "/api/v1/pods", 403),
        ("system:node:n", "system:nodes", "/api/v1/pods", 403),
        ("system:node:n", "system:nodes", "/api/v1/pods?fieldSelector=spec.nodeName=n", 200),
        ("system:node:n", "system:nodes", "/apis/apps/v1/deployments", 403),
        ("somebody", "", "/apis", 200),
        ("somebody", "", "/openapi/v2", 200),
        ("somebody", "", "/api/v1/namespaces", 403),
        ("root", "system:masters", "/metrics", 200),
    ],
)
async def test_what_the_components_may(
    server: Running, user: str, group: str, path: str, status: int
) -> None:
    server.session(user, *filter(None, [group]))
    assert (await server.get(path, user=user)).status == status


async def test_nobody_gives_what_they_do_not_have(server: Running, namespace: str) -> None:
    user = f"user-of-{namespace}"
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["*"]},
    ]
    # With all verbs come escalate and bind; without them it takes what one gives.
    rules[1]["verbs"] = ["get", "create", "update"]
    await bind_role(server, namespace, "giver", rules, {"kind": "User", "name": user})
    roles = f"{RBAC}/namespaces/{namespace}/roles"
    await allowed(server, user, f"{roles}/giver")
    same = {"metadata": {"name": "same"}, "rules": rules[:1]}
    assert (await server.post(roles, same, user=user)).status == 201
    more = {
        "metadata": {"name": "more"},
        "rules": [{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get"]}],
    }
    reply = await server.post(roles, more, user=user)
    assert reply.status == 403
    assert reply.message.startswith(
        f'roles.rbac.authorization.k8s.io "more" is forbidden: user "{user}" (groups='
    )
    assert reply.message.endswith(
        "is attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'
    )
    binding = {
        "metadata": {"name": "all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "User", "name": user}],
    }
    reply = await server.post(f"{RBAC}/namespaces/{namespace}/rolebindings", binding, user=user)
    assert reply.status == 403


# Service account tokens


async def test_a_service_account_token(server: Running, namespace: str) -> None:
    reply = await make_token(server, namespace, audiences=[], expirationSeconds=700)
    assert (reply.status, reply.json["kind"]) == (201, "TokenRequest")
    token = reply.json["status"]["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["sub"] == f"system:serviceaccount:{namespace}:default"
    assert claims["exp"] - claims["iat"] == 700
    assert claims["kubernetes.io"]["namespace"] == namespace
    keys = (await server.get("/openid/v1/jwks")).json["keys"]
    jwt.decode(token, jwt.PyJWK(keys[0]).key, [keys[0]["alg"]], audience=claims["aud"], issuer=claims["iss"])
    configuration = (await server.get("/.well-known/openid-configuration")).json
    assert configuration["issuer"] == claims["iss"]
    reply = await with_token(server, token, f"/api/v1/namespaces/{namespace}/pods")
    assert f'User "system:serviceaccount:{namespace}:default" cannot list resource "pods"' in reply.message
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    await bind_role(server, namespace, "account", rules, subject)
    async with asyncio.timeout(5):
        while (await with_token(server, token, f"/api/v1/namespaces/{namespace}/pods")).status != 200:
            await asyncio.sleep(0.01)
    await server.delete(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
    assert (await with_token(server, token, f"/api/v1/namespaces/{namespace}/pods")).status == 401


async def test_a_token_dies_with_its_pod(server: Running, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    uid = (await server.post(pods, pod)).json["metadata"]["uid"]
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}
    wrong = await make_token(server, namespace, boundObjectRef={**reference, "uid": "other"})
    assert wrong.status == 409
    token = (await make_token(server, namespace, boundObjectRef=reference)).json["status"]["token"]
    review = {"spec": {"token": token}}
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    status = (await server.post(path, review)).json["status"]
    assert status["authenticated"]
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    await server.delete(f"{pods}/p")
    status = (await server.post(path, review)).json["status"]
    assert "authenticated" not in status
    assert "has been deleted" in status["error"]
    assert (await with_token(server, token, "/version")).status == 401


@pytest.mark.parametrize(
    ("spec", "status", "message"),
    [
        (
            {"expirationSeconds": 10},
            422,
            'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 10: '
            "may not "
            "specify a duration less than 10 minutes",
        ),
        ({"boundObjectRef": {"kind": "Pod", "name": "none"}}, 404, 'pods "none" not found'),
        (
            {"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "x"}},
            400,
            "cannot bind token to object of type v1, Kind=ConfigMap",
        ),
    ],
)
async def test_tokens_that_are_refused(
    server: Running, namespace: str, spec: Any, status: int, message: str
) -> None:
    reply = await make_token(server, namespace, **spec)
    assert (reply.status, reply.message) == (status, message)


async def test_audiences(server: Running, namespace: str) -> None:
    token = (await make_token(server, namespace, audiences=["vault"])).json["status"]["token"]
    assert (await with_token(server, token, "/version")).status == 401
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    status = (await server.post(path, {"spec": {"token": token, "audiences": ["vault", "other"]}})).json[
        "status"
    ]
    assert (status["authenticated"], status["audiences"]) == (True, ["vault"])


async def test_a_forged_token(server: Running, namespace: str) -> None:
    token = (await make_token(server, namespace)).json["status"]["token"]
    head, claims, signature = token.split(".")
    text = base64.urlsafe_b64decode(claims + "==").replace(b":default", b":builder")
    forged = ".".join((head, base64.urlsafe_b64encode(text).rstrip(b"=").decode(), signature))
    assert (await with_token(server, forged, "/version")).status == 401
    unsigned = jwt.encode(jwt.decode(token, options={"verify_signature": False}), None, "none")
    assert (await with_token(server, unsigned, "/version")).status == 401


# Reviews, impersonation


async def test_access_reviews(server: Running, namespace: str) -> None:
    user = f"user-of-{namespace}"
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    await bind_role(server, namespace, "reader", rules, {"kind": "User", "name": user})
    await allowed(server, user, f"/api/v1/namespaces/{namespace}/pods")
    wanted = {"verb": "list", "resource": "pods", "namespace": namespace}
    own = {"spec": {"resourceAttributes": wanted}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = await server.post(path, own, user=user)
    assert answer.status == 201
    assert answer.json["status"] == {
        "allowed": True,
        "reason": f'RBAC: allowed by RoleBinding "reader/{namespace}" of Role "reader" to User "{user}"',
    }
    own["spec"]["resourceAttributes"] = {**wanted, "verb": "delete"}
    assert (await server.post(path, own, user=user)).json["status"] == {"allowed": False}
    other = {"spec": {"user": user, "resourceAttributes": wanted}}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert (await server.post(path, other)).json["status"]["allowed"] is True
    assert (await server.post(path, other, user=user)).status == 403
    path = f"/apis/authorization.k8s.io/v1/namespaces/{namespace}/localsubjectaccessreviews"
    assert (await server.post(path, other)).json["status"]["allowed"] is True
    other["spec"]["resourceAttributes"] = {**wanted, "namespace": "default"}
    assert (await server.post(path, other)).status == 400
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    found = (await server.post(path, {"spec": {"namespace": namespace}}, user=user)).json["status"]
    assert {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]} in found["resourceRules"]
    assert any("/version" in rule["nonResourceURLs"] for rule in found["nonResourceRules"])


async def test_impersonation(server: Running, namespace: str) -> None:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    reply = await server.post(path, {}, Impersonate_User="bob", Impersonate_Group="staff")
    user = reply.json["status"]["userInfo"]
    assert (user["username"], user["groups"]) == ("bob", ["staff", "system:authenticated"])
    pods = f"/api/v1/namespaces/{namespace}/pods"
    assert 'User "bob" cannot list' in (await server.get(pods, Impersonate_User="bob")).message
    reply = await server.get(pods, user="mallory", Impersonate_User="admin")
    assert reply.message == (
        'users "admin" is forbidden: User "mallory" cannot impersonate resource "users" in API group "" at '
        "the "
        "cluster scope"
    )


# Pods and service accounts


async def test_a_pod_gets_its_account(server: Running, namespace: str) -> None:
    pod = {
        "metadata": {"name": "p"},
        "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "initContainers": [{"name": "d", "image": "i"}],
        },
    }
    spec = (await server.post(f"/api/v1/namespaces/{namespace}/pods", pod)).json["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert [next(iter(source)) for source in volume["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    for container in (*spec["containers"], *spec["initContainers"]):
        assert container["volumeMounts"] == [
            {
                "name": volume["name"],
                "readOnly": True,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
            }
        ]
    assert [toleration["key"] for toleration in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    pod["metadata"] = {"name": "q"}
    pod["spec"]["automountServiceAccountToken"] = False
    assert "volumes" not in (await server.post(f"/api/v1/namespaces/{namespace}/pods", pod)).json["spec"]
    pod["metadata"] = {"name": "r"}
    pod["spec"]["serviceAccountName"] = "robot"
    reply = await server.post(f"/api/v1/namespaces/{namespace}/pods", pod)
    assert (reply.status, reply.message) == (
        403,
        f'pods "r" is forbidden: error looking up service account {namespace}/robot: serviceaccount "robot" '
        "not "
        "found",
    )
