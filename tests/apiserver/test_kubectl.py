"""The real kubectl against the server alone: no controller, no node."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml

from .api_server import Running, write_kubeconfig

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 3
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: web
        image: python:3.7
        ports:
        - containerPort: 80
        env:
        - {name: A, value: "1"}
---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {app: web}
  ports:
  - {port: 80, targetPort: 80}
"""


async def test_apply_twice_and_change(server: Running, namespace: str) -> None:
    async def apply(text: str, *more: str) -> str:
        return await server.kubectl("apply", "-n", namespace, "-f", "-", *more, stdin=text)

    assert await apply(MANIFEST) == "deployment.apps/web created\nservice/web created\n"
    assert await apply(MANIFEST) == "deployment.apps/web unchanged\nservice/web unchanged\n"
    assert "deployment.apps/web configured (server dry run)" in await apply(
        MANIFEST.replace("replicas: 3", "replicas: 5"), "--dry-run=server"
    )
    changed = MANIFEST.replace("python:3.7", "python:3.8").replace(
        '{name: A, value: "1"}', '{name: B, value: "2"}'
    )
    assert "deployment.apps/web configured" in await apply(changed)
    found = json.loads(await server.kubectl("get", "deploy", "web", "-n", namespace, "-o", "json"))
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["env"]) == ("python:3.8", [{"name": "B", "value": "2"}])
    assert found["spec"]["replicas"] == 3
    difference = await server.kubectl("diff", "-n", namespace, "-f", "-", stdin=MANIFEST, code=1)
    assert "-        image: python:3.8" in difference


async def test_validation(server: Running, namespace: str) -> None:
    wrong = MANIFEST.replace("replicas: 3", "replicas: 3\n  replica: 3")
    told = await server.kubectl("apply", "-n", namespace, "-f", "-", stdin=wrong, code=1)
    assert 'strict decoding error: unknown field "spec.replica"' in told
    warned = await server.kubectl("apply", "-n", namespace, "--validate=warn", "-f", "-", stdin=wrong)
    assert 'Warning: unknown field "spec.replica"' in warned


async def test_get_and_describe(server: Running, namespace: str) -> None:
    await server.kubectl("apply", "-n", namespace, "-f", "-", stdin=MANIFEST)
    plain = (await server.kubectl("get", "svc", "-n", namespace)).splitlines()
    assert plain[0].split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    wide = (await server.kubectl("get", "svc,deploy", "-n", namespace, "-o", "wide")).splitlines()
    assert wide[0].split()[-1] == "SELECTOR"
    assert wide[1].split()[-1] == "app=web"
    described = await server.kubectl("describe", "svc", "web", "-n", namespace)
    assert "Selector:                 app=web\n" in described
    assert "TargetPort:               80/TCP\n" in described
    assert "web" in await server.kubectl("get", "all", "-n", namespace, "--show-labels")
    custom = await server.kubectl("get", "deploy", "-n", namespace, "-o", "custom-columns=N:.metadata.name")
    assert custom == "N\nweb\n"
    as_yaml = yaml.safe_load(await server.kubectl("get", "svc", "web", "-n", namespace, "-o", "yaml"))
    assert as_yaml["spec"]["selector"] == {"app": "web"}
    none = await server.kubectl("get", "pods", "-n", namespace)
    assert none == f"No resources found in {namespace} namespace.\n"


async def test_imperative_commands(server: Running, namespace: str) -> None:
    async def kubectl(*arguments: str) -> str:
        return await server.kubectl("-n", namespace, *arguments)

    assert await kubectl("create", "deployment", "d", "--image=i", "--replicas=2", "--port=80") == (
        "deployment.apps/d created\n"
    )
    found = json.loads(await kubectl("get", "deploy", "d", "-o", "json"))
    assert found["spec"]["replicas"] == 2
    assert found["spec"]["template"]["spec"]["containers"][0]["ports"] == [
        {"containerPort": 80, "protocol": "TCP"}
    ]
    assert await kubectl("scale", "deploy", "d", "--replicas=4") == "deployment.apps/d scaled\n"
    assert await kubectl("label", "deploy", "d", "x=y") == "deployment.apps/d labeled\n"
    assert await kubectl("annotate", "deploy", "d", "note=a b") == "deployment.apps/d annotated\n"
    assert await kubectl("set", "image", "deploy/d", "i=j") == "deployment.apps/d image updated\n"
    assert await kubectl("rollout", "pause", "deploy/d") == "deployment.apps/d paused\n"
    assert await kubectl("expose", "deploy", "d", "--port=80") == "service/d exposed\n"
    assert await kubectl("create", "svc", "nodeport", "n", "--tcp=80:80") == "service/n created\n"
    assert await kubectl("create", "configmap", "c", "--from-literal=a=b") == "configmap/c created\n"
    assert await kubectl("create", "secret", "generic", "s", "--from-literal=a=b") == "secret/s created\n"
    assert json.loads(await kubectl("get", "secret", "s", "-o", "json"))["data"] == {"a": "Yg=="}
    assert await kubectl("create", "sa", "robot") == "serviceaccount/robot created\n"
    assert (await kubectl("create", "token", "robot")).count(".") == 2
    assert await kubectl("create", "role", "r", "--verb=get", "--resource=pods") == (
        "role.rbac.authorization.k8s.io/r created\n"
    )
    binding = ("rolebinding", "rb", "--role=r", f"--serviceaccount={namespace}:robot")
    assert await kubectl("create", *binding) == "rolebinding.rbac.authorization.k8s.io/rb created\n"
    assert await kubectl("create", "job", "j", "--image=i") == "job.batch/j created\n"
    assert await kubectl("run", "p", "--image=i") == "pod/p created\n"
    assert "Service Account:  default" in await kubectl("describe", "pod", "p")
    account = f"--as=system:serviceaccount:{namespace}:robot"
    assert await kubectl("auth", "can-i", "get", "pods", account) == "yes\n"
    refused = await server.kubectl("-n", namespace, "auth", "can-i", "delete", "pods", account, code=1)
    assert refused == "no\n"
    assert "admin" in await kubectl("auth", "whoami")
    patch = '{"spec":{"template":{"spec":{"containers":[{"name":"i","image":"k"}]}}}}'
    assert await kubectl("patch", "deploy", "d", "-p", patch) == "deployment.apps/d patched\n"
    assert await kubectl("delete", "pod,svc", "--all", "--wait=true") == (
        f'pod "p" deleted from {namespace} namespace\nservice "d" deleted from {namespace} namespace\n'
        f'service "n" deleted from {namespace} namespace\n'
    )
    await kubectl(
        "replace", "--raw", f"/api/v1/namespaces/{namespace}/configmaps/c", "-f", await _file(server)
    )
    assert json.loads(await kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/configmaps/c"))[
        "data"
    ] == {"z": "1"}


async def _file(server: Running) -> str:
    path = Path(server.folder) / "replacement.json"
    path.write_text(json.dumps({"metadata": {"name": "c"}, "data": {"z": "1"}}))
    return str(path)


async def test_wait_and_watch(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await server.post(path, {"metadata": {"name": "a"}})
    waiting = asyncio.create_task(
        server.kubectl("-n", namespace, "wait", "cm/a", "--for=jsonpath={.data.done}=yes", "--timeout=20s")
    )
    leaving = asyncio.create_task(
        server.kubectl("-n", namespace, "wait", "cm/b", "--for=create", "--timeout=20s")
    )
    await server.patch(f"{path}/a", {"data": {"done": "yes"}})
    await server.post(path, {"metadata": {"name": "b"}})
    assert await waiting == "configmap/a condition met\n"
    assert await leaving == "configmap/b condition met\n"
    deleting = asyncio.create_task(
        server.kubectl("-n", namespace, "wait", "cm/a", "--for=delete", "--timeout=20s")
    )
    await server.delete(f"{path}/a")
    await deleting


async def test_explain_and_resources(server: Running) -> None:
    explained = await server.kubectl("explain", "service.spec.ports.targetPort")
    assert "FIELD: targetPort <IntOrString>" in explained
    assert "Number or name of the port to access on the pods" in explained
    recursive = await server.kubectl("explain", "deployment", "--recursive")
    assert "maxUnavailable\t<IntOrString>" in recursive
    old = await server.kubectl("explain", "pod.spec.containers", "--output=plaintext-openapiv2")
    assert "FIELDS:\n   args\t<[]string>" in old
    resources = await server.kubectl("api-resources", "-o", "name")
    assert {"services", "deployments.apps", "endpointslices.discovery.k8s.io"} <= set(resources.split())
    assert "apps/v1" in (await server.kubectl("api-versions")).split()


async def test_somebody_without_rights(server: Running, namespace: str) -> None:
    kubeconfig = write_kubeconfig(server, "eve")
    told = await server.kubectl("--kubeconfig", str(kubeconfig), "get", "pods", "-n", namespace, code=1)
    assert told == (
        'Error from server (Forbidden): pods is forbidden: User "eve" cannot list resource "pods" in API '
        'group "" '
        f'in the namespace "{namespace}"\n'
    )


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: my-service}\nspec: {type: loadBalancer, ports: "
            "[{port: 80}]}",
            'The Service "my-service" is invalid: spec.type: Unsupported value: "loadBalancer": supported '
            "values: "
            '"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"\n',
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: my-service}\nspec: {type: NodePort, ports: "
            "[{port: 80, nodePort: 80}]}",
            'The Service "my-service" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port '
            "is not "
            "in the valid range. The range of valid ports is 30000-32767\n",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i, ports: "
            '[{containerPort: "80["}]}]}',
            'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct '
            "field "
            "ContainerPort.spec.containers.ports.containerPort of type int32\n",
        ),
    ],
)
async def test_mistakes(server: Running, namespace: str, manifest: str, message: str) -> None:
    told = await server.kubectl("create", "-n", namespace, "-f", "-", stdin=manifest, code=1)
    assert told.endswith(message)


async def test_ephemeral_containers_can_only_be_added(server: Running, namespace: str) -> None:
    await server.kubectl("-n", namespace, "run", "p", "--image=i")
    path = f"/api/v1/namespaces/{namespace}/pods/p/ephemeralcontainers"
    pod = json.loads(await server.kubectl("get", "--raw", path))
    pod["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": "i"}]
    pod["spec"]["containers"][0]["image"] = "ignored"

    async def replace(code: int = 0) -> str:
        return await server.kubectl("replace", "--raw", path, "-f", "-", stdin=json.dumps(pod), code=code)

    found = json.loads(await replace())
    assert found["spec"]["ephemeralContainers"][0]["imagePullPolicy"] == "Always"
    assert found["spec"]["containers"][0]["image"] == "i"
    assert found["metadata"]["generation"] == 2
    pod["metadata"].pop("resourceVersion")
    for wrong, sentence in (
        ([{"name": "debugger", "image": "j"}], 'existing ephemeral containers "debugger" may not be changed'),
        ([], 'existing ephemeral containers "debugger" may not be removed'),
        ([{"name": "p", "image": "i"}], 'spec.ephemeralContainers[0].name: Duplicate value: "p"'),
    ):
        pod["spec"]["ephemeralContainers"] = wrong
        assert sentence in await replace(code=1)
