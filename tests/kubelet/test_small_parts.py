"""Image names, back-off, resources, probes' verdicts, requests to the server: tables."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api.meta import Object
from buoy.kubelet import Options
from buoy.kubelet.backoff import BackOff
from buoy.kubelet.config import ContainerInput, Mount, check_non_root, container_config, sandbox_config
from buoy.kubelet.cri import Condition
from buoy.kubelet.dns import Resolver
from buoy.kubelet.environment import ConfigError
from buoy.kubelet.image_names import InvalidImageName, Login, logins, parse, with_default_tag
from buoy.kubelet.images import go_duration
from buoy.kubelet.node import Machine, node_conditions, node_object, node_status, readiness, status_differs
from buoy.kubelet.pod import config_names, field_path, grace_period, named_port
from buoy.kubelet.probes import Streak, timing
from buoy.kubelet.resources import container_limits, cpu_quota, cpu_shares, oom_score_adjust, pod_limits
from buoy.kubelet.server import HTTPError, log_options, logged_container, parse_head, redirected

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.7.9", "docker.io/library/nginx:1.7.9"),
        ("appropriate/curl", "docker.io/appropriate/curl:latest"),
        ("localhost/a/b:1", "localhost/a/b:1"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
        (f"quay.io/x/y@{DIGEST}", f"quay.io/x/y@{DIGEST}"),
        (f"x:1@{DIGEST}", f"docker.io/library/x:1@{DIGEST}"),
        ("index.docker.io/library/x", "docker.io/library/x:latest"),
        ("a__b/c-d.e_f", "docker.io/a__b/c-d.e_f:latest"),
    ],
)
def test_image_names(image: str, full: str) -> None:
    assert str(parse(image)) == full


@pytest.mark.parametrize(
    "image", ["", "UPPER", "a b", "a:", "a:b:c", "a@sha256:1", "-a", "a//b", "http://x/y", "a/"]
)
def test_no_image_names(image: str) -> None:
    with pytest.raises(InvalidImageName):
        parse(image)


def test_an_upper_case_name_is_told_why() -> None:
    with pytest.raises(InvalidImageName, match=r"repository name \(library/Nginx\) must be lowercase"):
        parse("Nginx")


def test_a_name_stays_as_it_was_written() -> None:
    assert with_default_tag("nginx") == "nginx:latest"
    assert with_default_tag("localhost:5000/a") == "localhost:5000/a:latest"
    assert with_default_tag("a:1") == "a:1"
    assert with_default_tag(f"a@{DIGEST}") == f"a@{DIGEST}"


def secret(**auths: Object) -> Object:
    text = json.dumps({"auths": {name.replace("__", "/"): entry for name, entry in auths.items()}})
    return {"data": {".dockerconfigjson": base64.b64encode(text.encode()).decode()}}


def test_logins_the_most_specific_first() -> None:
    pair = base64.b64encode(b"user:pass:word").decode()
    given_secrets = [
        secret(**{"quay.io": {"auth": pair}, "other.io": {"username": "no"}}),
        secret(**{"https:____quay.io__team": {"username": "team", "password": "t"}}),
        {"data": {".dockerconfigjson": "not base64!"}},
    ]
    assert logins(given_secrets, "quay.io/team/x") == [Login("team", "t"), Login("user", "pass:word")]
    assert logins(given_secrets, "quay.io/else/x") == [Login("user", "pass:word")]
    hub = [secret(**{"https:____index.docker.io__v1__": {"username": "u", "password": "p"}})]
    assert logins(hub, "nginx") == [Login("u", "p")]
    assert logins([secret(**{"*.example.org": {"username": "w"}})], "a.example.org/x") == [Login("w")]


def test_back_off_doubles_and_forgets() -> None:
    back_off = BackOff(10, 300)
    assert back_off.until("k", 100) <= 100
    delays = []
    now = 100.0
    for _ in range(8):
        back_off.next("k", now, now)
        delays.append(back_off.until("k", now) - now)
        now += delays[-1]
    assert delays == [10, 20, 40, 80, 160, 300, 300, 300]
    assert back_off.until("k", now + 601) == 0
    back_off.next("k", now + 601, now + 601)
    assert back_off.delay("k") == 10
    back_off.forget("k")
    assert back_off.delay("k") == 0


def container(requests: Object | None = None, limits: Object | None = None, **fields: Any) -> Object:
    return {
        "name": "c",
        "image": "i",
        "resources": {"requests": requests or {}, "limits": limits or {}},
        **fields,
    }


def pod(*containers: Object, **spec: Any) -> Object:
    metadata = {"name": "p", "namespace": "ns", "uid": "u"}
    return {"metadata": metadata, "spec": {"containers": list(containers) or [container()], **spec}}


def test_resources() -> None:
    assert [cpu_shares(m) for m in (0, 1, 100, 1000, 10**9)] == [2, 2, 102, 1024, 262144]
    assert [cpu_quota(m) for m in (0, 5, 500, 2000)] == [0, 1000, 50_000, 200_000]
    assert container_limits(container({"cpu": "250m"}, {"cpu": "1", "memory": "1Mi"})) == (
        256,
        100_000,
        1 << 20,
    )
    assert container_limits(container(None, {"cpu": "500m"})).cpu_shares == 512
    one, open_ended = container(None, {"cpu": "1", "memory": "1Ki"}), container({"cpu": "1"})
    assert pod_limits(pod(one, one)) == (2, 200_000, 2048)
    assert pod_limits(pod(one, open_ended)) == (1024, 0, 0)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (container(), 1000),
        (container({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"}), -997),
        (container({"memory": "1Gi"}), 900),
        (container({"cpu": "1"}), 999),
        (container({"memory": "10Gi"}), 3),
    ],
)
def test_who_is_killed_first(subject: Object, expected: int) -> None:
    assert oom_score_adjust(pod(subject), subject, 10 << 30) == expected


def test_a_sandbox_configuration() -> None:
    subject = pod(
        container(
            ports=[{"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}, {"containerPort": 81}]
        ),
        shareProcessNamespace=True,
        securityContext={"sysctls": [{"name": "a", "value": "1"}], "fsGroup": 5},
    )
    made = sandbox_config(
        subject,
        attempt=2,
        log_directory="/l",
        cgroup_parent="/g",
        host_name="h",
        resolver=Resolver(("1",), ("s",), ("o",)),
    )
    assert (made.metadata.uid, made.metadata.attempt, made.hostname) == ("u", 2, "h")
    assert [(p.container_port, p.host_port, p.host_ip) for p in made.port_mappings] == [
        (80, 8080, "127.0.0.1")
    ]
    assert made.labels["io.kubernetes.pod.uid"] == "u"
    assert list(made.dns_config.servers) == ["1"]
    assert dict(made.linux.sysctls) == {"a": "1"}
    assert made.linux.security_context.namespace_options.pid == 0
    assert list(made.linux.security_context.supplemental_groups) == [5]


def test_a_container_configuration() -> None:
    subject = container(
        command=["run", "$(A)"], args=["$$(A)"], workingDir="/w", tty=True,
        securityContext={"privileged": True, "capabilities": {"add": ["NET_ADMIN"]}, "runAsUser": 0},
    )  # fmt: skip
    made = container_config(
        pod(subject, securityContext={"runAsUser": 7, "runAsGroup": 8}),
        subject,
        ContainerInput(3, {"A": "1"}, [Mount("/h", "/c", True, "HostToContainer")], "i:latest"),
    )
    assert (list(made.command), list(made.args), made.working_dir) == (["run", "1"], ["$(A)"], "/w")
    assert made.log_path == "c/3.log"
    assert made.annotations["io.kubernetes.container.restartCount"] == "3"
    assert [(m.container_path, m.readonly, m.propagation) for m in made.mounts] == [("/c", True, 1)]
    security = made.linux.security_context
    assert (security.privileged, security.run_as_user.value, security.run_as_group.value) == (True, 0, 8)
    assert list(security.masked_paths) == []
    assert list(security.capabilities.add_capabilities) == ["NET_ADMIN"]
    plain = container_config(pod(), container(), ContainerInput())
    assert not plain.linux.security_context.HasField("run_as_user")
    assert "/proc/kcore" in plain.linux.security_context.masked_paths


@pytest.mark.parametrize(
    ("context", "uid", "user", "text"),
    [
        ({"runAsUser": 0}, None, "", "container's runAsUser breaks non-root policy"),
        ({}, None, "", "image will run as root"),
        ({}, 0, "", "image will run as root"),
        ({}, None, "web", r"image has non-numeric user \(web\)"),
    ],
)
def test_non_root(context: Object, uid: int | None, user: str, text: str) -> None:
    subject = container(securityContext={"runAsNonRoot": True, **context})
    with pytest.raises(ConfigError, match=text):
        check_non_root(pod(subject), subject, uid, user)


def test_non_root_that_is_fine() -> None:
    subject = container(securityContext={"runAsNonRoot": True})
    check_non_root(pod(subject), subject, 1000, "")
    check_non_root(pod(), container(), 0, "")


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_a_verdict_needs_so_many_in_a_row(answers: list[bool], success: int, failure: int) -> None:
    streak = Streak(None, success, failure)
    for index, answer in enumerate(answers):
        before = streak.verdict
        changed = streak.add(answer)
        needed = success if answer else failure
        tail = answers[max(0, index + 1 - needed) : index + 1]
        expected = answer if len(tail) == needed and set(tail) == {answer} else before
        assert streak.verdict is expected
        assert changed is (expected is not before)


def test_probe_defaults() -> None:
    assert timing({}) == (
        timing({"periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3})
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0305, "30ms"),
        (1.2, "1.2s"),
        (10, "10s"),
        (80, "1m20s"),
        (300, "5m0s"),
        (3661.5, "1h1m1.5s"),
    ],
)
def test_spans_as_go_writes_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_reading_a_pod() -> None:
    subject = pod(
        container(
            ports=[{"name": "web", "containerPort": 80}],
            envFrom=[{"configMapRef": {"name": "a"}}],
            env=[{"name": "x", "valueFrom": {"secretKeyRef": {"name": "b", "key": "k"}}}],
        ),
        initContainers=[{"name": "i"}],
        imagePullSecrets=[{"name": "p"}],
        volumes=[
            {"name": "v", "secret": {"secretName": "c"}},
            {
                "name": "w",
                "projected": {"sources": [{"configMap": {"name": "d"}}, {"secret": {"name": "e"}}]},
            },
        ],
    )
    assert config_names(subject) == ({"a", "d"}, {"b", "c", "e", "p"})
    assert field_path(subject, "i") == "spec.initContainers{i}"
    assert field_path(subject, "c") == "spec.containers{c}"
    main = subject["spec"]["containers"][0]
    assert (named_port(main, "web"), named_port(main, 81), named_port(main, "82")) == (80, 81, 82)
    with pytest.raises(ValueError, match="couldn't find port"):
        named_port(main, "none")
    assert grace_period(subject) == 30
    subject["metadata"]["deletionGracePeriodSeconds"] = 0
    assert grace_period(subject) == 1


MACHINE = Machine(2, 4 << 30, 10 << 30, "amd64", "6.1", "Debian", "m", "b")
OPTIONS = Options("k", "node-1", ("192.168.1.80", "fd00::80"), node_labels={"zone": "a"})


def test_the_node_object() -> None:
    node = node_object(OPTIONS, MACHINE)
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "node-1"
    assert node["metadata"]["labels"]["zone"] == "a"
    conditions = node_conditions(readiness(None), {"MemoryPressure": False}, (), "t0")
    status = node_status(OPTIONS, MACHINE, runtime_version="containerd://1", conditions=conditions)
    assert status["capacity"] == {
        "cpu": "2",
        "memory": "4194304Ki",
        "ephemeral-storage": "10485760Ki",
        "pods": "110",
    }
    assert status["allocatable"]["memory"] == "4091904Ki"
    assert [a["type"] for a in status["addresses"]] == ["InternalIP", "InternalIP", "Hostname"]
    assert status["nodeInfo"]["kubeletVersion"].startswith("v1.36")


def test_when_a_node_is_ready() -> None:
    good, bad = (
        Condition(True, "", ""),
        Condition(False, "NetworkPluginNotReady", "cni plugin not initialized"),
    )
    assert readiness({"RuntimeReady": good, "NetworkReady": good}) == (
        True, "KubeletReady", "kubelet is posting ready status"
    )  # fmt: skip
    assert readiness({"RuntimeReady": good, "NetworkReady": bad}).message == (
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
        "message:cni plugin not initialized"
    )
    assert not readiness({}).ok


def test_conditions_keep_the_time_of_their_transition() -> None:
    first = node_conditions(Condition(True, "KubeletReady", ""), {"DiskPressure": False}, (), "t0")
    second = node_conditions(Condition(True, "KubeletReady", ""), {"DiskPressure": True}, first, "t1")
    assert [(c["type"], c["lastTransitionTime"], c["lastHeartbeatTime"]) for c in second] == [
        ("DiskPressure", "t1", "t1"),
        ("Ready", "t0", "t1"),
    ]
    later = node_conditions(Condition(True, "KubeletReady", ""), {"DiskPressure": False}, first, "t1")
    assert not status_differs({"conditions": first}, {"conditions": later})
    assert status_differs({"conditions": first}, {"conditions": second})


def request(target: str, method: str = "GET") -> Any:
    return parse_head(f"{method} {target} HTTP/1.1\r\nHost: a:1\r\nUpgrade: SPDY/3.1\r\n\r\n".encode())


def test_a_stream_goes_on_with_its_head() -> None:
    found = request("/exec/ns/p/c?command=a&command=b%20c&input=1", "POST")
    assert found.query["command"] == ["a", "b c"]
    assert found.flag("input", "stdin")
    assert not found.flag("tty")
    host, port, head = redirected(found, "http://127.0.0.1:4321/exec/token")
    assert (host, port) == ("127.0.0.1", 4321)
    assert head == b"POST /exec/token HTTP/1.1\r\nHost: 127.0.0.1:4321\r\nUpgrade: SPDY/3.1\r\n\r\n"


@pytest.mark.parametrize("head", [b"GET\r\n\r\n", b"GET / HTTP/2\r\n\r\n", b"\xff / HTTP/1.1\r\n\r\n"])
def test_bad_heads(head: bytes) -> None:
    with pytest.raises(HTTPError):
        parse_head(head)


def test_log_options() -> None:
    found = log_options(
        request("/x?follow=true&tailLines=5&timestamps=true&limitBytes=9&sinceTime=1970-01-01T00:00:01Z")
    )
    assert (found.follow, found.tail_lines, found.timestamps, found.limit_bytes) == (True, 5, True, 9)
    assert found.since == 10**9
    for bad in ("tailLines=x", "sinceTime=yesterday"):
        with pytest.raises(HTTPError):
            log_options(request(f"/x?{bad}"))


ENDED = {"terminated": {"containerID": "containerd://old"}}


@pytest.mark.parametrize(
    ("state", "last", "previous", "expected"),
    [
        ({"running": {}}, {}, False, "now"),
        ({"running": {}}, ENDED, True, "old"),
        ({"running": {}}, {}, True, 'previous terminated container "c" in pod "p" not found'),
        ({"waiting": {"reason": "CrashLoopBackOff"}}, ENDED, False, "old"),
        (ENDED, {}, False, "old"),
        ({"terminated": {}}, {}, False, 'container "c" in pod "p" is terminated'),
        (
            {"waiting": {"reason": "ContainerCreating"}},
            {},
            False,
            'container "c" in pod "p" is waiting to start: ContainerCreating',
        ),
        (
            {"waiting": {"reason": "ImagePullBackOff"}},
            {},
            False,
            'container "c" in pod "p" is waiting to start: trying and failing to pull image',
        ),
    ],
)
def test_whose_log_is_meant(state: Object, last: Object, previous: bool, expected: str) -> None:
    subject = pod()
    status = {"name": "c", "containerID": "containerd://now", "state": state, "lastState": last}
    subject["status"] = {"containerStatuses": [status]}
    if " " in expected:
        with pytest.raises(HTTPError) as raised:
            logged_container(subject, "c", previous)
        assert str(raised.value) == expected
        assert raised.value.code == 400
    else:
        assert logged_container(subject, "c", previous) == expected
