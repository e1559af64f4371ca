"""What a Pod may ask of its node, seen through kubectl. All Pods of a module start at once, to save time."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from local_cluster import KUBECTL, LocalCluster, Namespace, until
from manifests import IMAGE, Object, pod, pod_spec, server_container, service, shell

pytestmark = pytest.mark.e2e

FOREVER = "exec sleep 3600"
QUICK_END = "trap 'exit 0' TERM; sleep 3600 & wait"


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def environment_pod() -> Object:
    container = shell(
        FOREVER,
        env=[
            {"name": "PLAIN", "value": "one"},
            {"name": "COMPOSED", "value": "$(PLAIN)-$(MISSING)-$$(PLAIN)"},
            {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
            {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "word"}}},
            {
                "name": "ABSENT",
                "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "no", "optional": True}},
            },
            {"name": "MY_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "MY_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "MY_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "MY_LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "MY_LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
        ],
        envFrom=[{"configMapRef": {"name": "settings"}, "prefix": "SETTING_"}],
        workingDir="/tmp",
        resources={"limits": {"memory": "64Mi", "cpu": "500m"}},
    )
    container["command"] += ["$(PLAIN)", "$$(PLAIN)"]  # arguments of the script: never used, but seen
    return pod("environment", pod_spec(container))


def volumes_pod() -> Object:
    mounts = {
        "shared": "/shared",
        "settings": "/settings",
        "hidden": "/hidden",
        "about-me": "/about-me",
        "both": "/both",
    }
    main = shell(
        FOREVER,
        volumeMounts=[{"name": name, "mountPath": path} for name, path in mounts.items()]
        + [{"name": "settings", "mountPath": "/one-file", "subPath": "colour"}],
    )
    writer = shell(
        "echo hello > /shared/greeting; " + FOREVER,
        name="writer",
        volumeMounts=[{"name": "shared", "mountPath": "/shared"}],
    )
    spec = pod_spec(
        main,
        writer,
        volumes=[
            {"name": "shared", "emptyDir": {"medium": "Memory"}},
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "hidden", "secret": {"secretName": "hidden", "defaultMode": 0o400}},
            {
                "name": "about-me",
                "downwardAPI": {
                    "items": [
                        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
                    ]
                },
            },
            {
                "name": "both",
                "projected": {
                    "sources": [
                        {"configMap": {"name": "settings", "items": [{"key": "colour", "path": "map/c"}]}},
                        {"secret": {"name": "hidden"}},
                    ]
                },
            },
        ],
    )
    return pod("volumes", spec)


def init_pod() -> Object:
    mount = [{"name": "work", "mountPath": "/work"}]
    spec = pod_spec(
        shell("cat /work/log; " + FOREVER, volumeMounts=mount),
        initContainers=[
            shell("echo first >> /work/log", name="first", volumeMounts=mount),
            shell("echo second >> /work/log", name="second", volumeMounts=mount),
        ],
        volumes=[{"name": "work", "emptyDir": {}}],
    )
    return pod("init", spec)


def readiness_pod() -> Object:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    return pod("gated", pod_spec(server_container(readinessProbe=probe)))


def liveness_pod() -> Object:
    script = "touch /tmp/alive; sleep 2; rm /tmp/alive; " + FOREVER
    probe = {"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 2}
    return pod("mortal", pod_spec(shell(script, livenessProbe=probe)))


def probes_pod() -> Object:
    """Each kind of probe that a plain server can answer, and a startup probe before them."""
    return pod(
        "probed",
        pod_spec(
            server_container(
                startupProbe={"tcpSocket": {"port": "http"}, "periodSeconds": 1, "failureThreshold": 20},
                readinessProbe={"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
                livenessProbe={"tcpSocket": {"port": 80}, "periodSeconds": 1},
            )
        ),
    )


def crash_pod() -> Object:
    return pod("crash", pod_spec(shell("echo going down; exit 3")))


def graceful_pod() -> Object:
    """Writes how it ends into a folder of the node, where it can be read afterwards."""
    script = "trap 'echo term >> /trace/log; exit 0' TERM; sleep 3600 & wait"
    container = shell(
        script,
        lifecycle={"preStop": {"exec": {"command": ["sh", "-c", "echo preStop >> /trace/log; sleep 1"]}}},
        volumeMounts=[{"name": "trace", "mountPath": "/trace"}],
    )
    volume = {"name": "trace", "hostPath": {"path": "/run/graceful", "type": "DirectoryOrCreate"}}
    return pod("graceful", pod_spec(container, grace=20, volumes=[volume], nodeName="node-2"))


def secure_pod() -> Object:
    container = shell(
        FOREVER,
        securityContext={
            "runAsUser": 1234,
            "runAsGroup": 2345,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    )
    return pod("secure", pod_spec(container, securityContext={"fsGroup": 3456}))


def host_network_pod() -> Object:
    return pod("on-host", pod_spec(shell(FOREVER), hostNetwork=True, nodeName="node-3"))


def talking_pod() -> Object:
    numbers = "for i in 1 2 3 4 5; do echo line $i; done; "
    return pod(
        "talking",
        pod_spec(shell(numbers + FOREVER), shell("echo other; echo oops >&2; " + FOREVER, name="other")),
    )


def missing_images_pods() -> list[Object]:
    absent = {"name": "main", "image": "localhost:1/nothing/here:1"}
    never = {"name": "main", "image": "not-here:1", "imagePullPolicy": "Never"}
    bad = {"name": "main", "image": "upper/CASE:1"}
    return [
        pod("absent-image", pod_spec(absent)),
        pod("never-pulled", pod_spec(never)),
        pod("bad-name", pod_spec(bad)),
    ]


@pytest.fixture(scope="module")
def pods(cluster: LocalCluster) -> Iterator[Namespace]:
    with cluster.namespace() as namespace:
        namespace.apply(
            config_map("settings", colour="blue"),
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "hidden"},
                "stringData": {"word": "xyzzy"},
            },
            environment_pod(),
            volumes_pod(),
            init_pod(),
            readiness_pod(),
            service("gated"),
            liveness_pod(),
            probes_pod(),
            crash_pod(),
            graceful_pod(),
            secure_pod(),
            host_network_pod(),
            talking_pod(),
            *missing_images_pods(),
        )
        yield namespace


def ready(namespace: Namespace, name: str) -> str:
    namespace.wait("condition=Ready", f"pod/{name}")
    return name


def container_status(namespace: Namespace, name: str) -> Object:
    statuses = namespace.get("pod", name).get("status", {}).get("containerStatuses") or [{}]
    return statuses[0]


def waiting(namespace: Namespace, name: str) -> Object:
    state: Object = container_status(namespace, name).get("state", {}).get("waiting") or {}
    return state


# -- Environment, files, identity


def test_environment(pods: Namespace) -> None:
    name = ready(pods, "environment")
    lines = pods.exec(name, "env").stdout.splitlines()
    environment = dict(line.partition("=")[::2] for line in lines)
    found = pods.get("pod", name)
    assert environment["COMPOSED"] == "one-$(MISSING)-$(PLAIN)"
    assert environment["FROM_MAP"] == environment["SETTING_colour"] == "blue"
    assert environment["FROM_SECRET"] == "xyzzy"
    assert "ABSENT" not in environment
    assert environment["MY_NAME"] == environment["HOSTNAME"] == name
    assert environment["MY_IP"] == found["status"]["podIP"]
    assert environment["MY_NODE"] == found["spec"]["nodeName"]
    assert environment["MY_LABEL"] == name
    assert environment["MY_LIMIT"] == str(64 * 2**20)
    assert environment["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert environment["KUBERNETES_SERVICE_PORT"] == "443"
    assert environment["KUBERNETES_PORT"] == "tcp://10.96.0.1:443"
    assert pods.exec(name, "pwd").stdout == "/tmp\n"
    arguments = pods.exec(name, "sh", "-c", "tr '\\0' '\\n' < /proc/1/cmdline").stdout.splitlines()
    assert arguments == ["sleep", "3600"]
    limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
    assert pods.exec(name, "sh", "-c", limit, check=False).stdout.strip() == str(64 * 2**20)


def test_volumes(pods: Namespace) -> None:
    name = ready(pods, "volumes")

    def read(path: str) -> str:
        return pods.exec(name, "cat", path, container="main").stdout

    assert until(lambda: pods.exec(name, "cat", "/shared/greeting", check=False).stdout) == "hello\n"
    assert "tmpfs /shared tmpfs" in read("/proc/mounts")
    assert read("/settings/colour") == read("/one-file") == read("/both/map/c") == "blue"
    assert read("/hidden/word") == read("/both/word") == "xyzzy"
    mode = pods.exec(name, "sh", "-c", "stat -L -c %a /hidden/word /settings/colour").stdout.split()
    assert mode == ["400", "644"]
    assert read("/about-me/name") == "volumes"
    assert read("/about-me/labels") == 'app="volumes"'
    hosts = read("/etc/hosts")
    address = pods.get("pod", name)["status"]["podIP"]
    assert hosts.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert hosts.endswith(f"{address}\tvolumes\n")
    resolver = read("/etc/resolv.conf")
    assert resolver.startswith(f"search {pods.name}.svc.cluster.local svc.cluster.local cluster.local")
    assert "nameserver 10.96.0.10\noptions ndots:5\n" in resolver

    # A change comes to the files of a running Pod, but not to a file mounted by subPath.
    pods.kubectl("patch", "configmap", "settings", "-p", '{"data": {"colour": "green", "new": "1"}}')
    pods.kubectl("label", "pod", name, "more=yes")
    until(lambda: read("/settings/colour") == "green", within=90, what="the ConfigMap's change", every=0.5)
    assert read("/settings/new") == "1"
    assert read("/one-file") == "blue"
    wanted = 'app="volumes"\nmore="yes"'
    until(lambda: read("/about-me/labels") == wanted, within=90, what="the new label", every=0.5)


def test_the_token_opens_the_api(cluster: LocalCluster, pods: Namespace) -> None:
    """The projected token, the CA beside it and the kubernetes Service are enough for a client in a Pod."""
    name = ready(pods, "volumes")
    subject = f"system:serviceaccount:{pods.name}:default"
    base = "/var/run/secrets/kubernetes.io/serviceaccount"
    script = (
        f'curl -sS --cacert {base}/ca.crt -H "Authorization: Bearer $(cat {base}/token)" '
        '-w "\\n%{http_code}\\n" '
        "https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT"
        f"/api/v1/namespaces/$(cat {base}/namespace)/pods/{name}"
    )

    def ask() -> tuple[Object, str]:
        output = pods.exec(name, "sh", "-c", script, container="main").stdout
        body, code = output.rstrip().rsplit("\n", 1)
        return json.loads(body), code

    answer, code = ask()
    assert code == "403"
    assert answer["message"] == (
        f'pods "{name}" is forbidden: User "{subject}" cannot get resource "pods" in API group "" '
        f'in the namespace "{pods.name}"'
    )
    pods.kubectl("create", "role", "look", "--verb=get", "--resource=pods")
    pods.kubectl("create", "rolebinding", "look", "--role=look", f"--serviceaccount={pods.name}:default")
    answer, code = until(lambda: reply if (reply := ask())[1] == "200" else None, within=10)
    assert answer["metadata"]["name"] == name


def test_security_context(pods: Namespace) -> None:
    name = ready(pods, "secure")
    assert pods.exec(name, "id").stdout.strip().startswith("uid=1234 gid=2345")
    assert "3456" in pods.exec(name, "id", "-G").stdout.split()
    assert "Read-only file system" in pods.exec(name, "touch", "/x", check=False).stderr
    status = pods.exec(name, "cat", "/proc/self/status").stdout
    assert re.search(r"^CapBnd:\t0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.M)


def test_host_network(cluster: LocalCluster, pods: Namespace) -> None:
    name = ready(pods, "on-host")
    found = pods.get("pod", name)["status"]
    assert found["podIP"] == found["hostIP"] == "192.168.1.82"
    assert pods.exec(name, "hostname").stdout == "node-3\n"
    assert "192.168.1.82" in pods.exec(name, "ip", "addr").stdout


# -- Start, probes, crashes, ends


def test_init_containers_run_first_and_in_order(pods: Namespace) -> None:
    name = ready(pods, "init")
    assert pods.kubectl("logs", name).stdout == "first\nsecond\n"
    statuses = pods.get("pod", name)["status"]["initContainerStatuses"]
    assert [status["state"]["terminated"]["reason"] for status in statuses] == ["Completed", "Completed"]
    conditions = {entry["type"]: entry["status"] for entry in pods.get("pod", name)["status"]["conditions"]}
    for condition in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
        assert conditions[condition] == "True"


def test_readiness_gates_traffic(cluster: LocalCluster, pods: Namespace) -> None:
    pods.wait("jsonpath={.status.phase}=Running", "pod/gated")
    address = pods.get("service", "gated")["spec"]["clusterIP"]

    def curl() -> int:
        return cluster.on_node("node-1", "curl", "-sf", "-m", "5", f"{address}:8080", check=False).returncode

    assert container_status(pods, "gated")["ready"] is False
    assert curl() == 7, "refused: a Service without ready endpoints"
    pods.exec("gated", "touch", "/tmp/ready")
    until(lambda: curl() == 0, within=20, what="the ready Pod answers")
    pods.exec("gated", "rm", "/tmp/ready")
    until(lambda: curl() == 7, within=20, what="the Pod that is not ready is left out")
    assert container_status(pods, "gated")["restartCount"] == 0
    assert pods.events("Unhealthy", "gated")


def test_liveness_restarts(pods: Namespace) -> None:
    def restarted() -> bool:
        return container_status(pods, "mortal").get("restartCount", 0) >= 1

    until(restarted, within=40, what="a restart", every=0.3)
    (killing, *_) = until(lambda: pods.events("Killing", "mortal"))
    assert killing["message"] == "Container main failed liveness probe, will be restarted"
    messages = [event["message"] for event in pods.events("Unhealthy", "mortal")]
    assert any(message.startswith("Liveness probe failed:") for message in messages)


def test_startup_and_network_probes(pods: Namespace) -> None:
    name = ready(pods, "probed")
    status = container_status(pods, name)
    assert status["started"] is True
    assert status["restartCount"] == 0


def test_crash_loop(pods: Namespace) -> None:
    until(
        lambda: waiting(pods, "crash").get("reason") == "CrashLoopBackOff",
        within=60,
        what="CrashLoopBackOff",
        every=0.3,
    )
    status = container_status(pods, "crash")
    assert re.fullmatch(
        rf"back-off \d+s restarting failed container=main pod=crash_{pods.name}\([-0-9a-f]{{36}}\)",
        status["state"]["waiting"]["message"],
    )
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["lastState"]["terminated"]["reason"] == "Error"
    assert until(lambda: pods.events("BackOff", "crash"))[0]["message"].startswith(
        "Back-off restarting failed container main in pod crash_"
    )
    columns = pods.kubectl("get", "pod", "crash", "--no-headers").stdout.split()
    assert columns[1:3] in (["0/1", "CrashLoopBackOff"], ["0/1", "Error"])
    assert pods.kubectl("logs", "crash").stdout == "going down\n"
    assert pods.kubectl("logs", "crash", "--previous").stdout == "going down\n"


IMAGE_FAILURES = {
    "absent-image": (
        "ErrImagePull",
        "ImagePullBackOff",
        'Back-off pulling image "localhost:1/nothing/here:1"',
    ),
    "never-pulled": ("ErrImageNeverPull", "ErrImageNeverPull", 'Container image "not-here:1" is not present'),
    "bad-name": ("InvalidImageName", "InvalidImageName", 'Failed to apply default image tag "upper/CASE:1"'),
}


@pytest.mark.parametrize("name", list(IMAGE_FAILURES))
def test_image_errors(pods: Namespace, name: str) -> None:
    first, later, message = IMAGE_FAILURES[name]
    until(lambda: waiting(pods, name).get("reason") == later, within=60, what=later, every=0.2)
    assert waiting(pods, name)["message"].startswith(message)
    until(lambda: pods.events("Failed", name) or pods.events("InspectFailed", name))
    if first == "ErrImagePull":
        told = until(lambda: (found := pods.events("Failed", name)) and len(found) >= 2 and found)
        messages = [event["message"] for event in told]
        assert "Error: ErrImagePull" in messages
        (pull, *_) = [message for message in messages if "Failed to pull image" in message]
        assert "localhost:1" in pull
        assert "connection refused" in pull, "the real reason"
    assert pods.kubectl("get", "pod", name, "--no-headers").stdout.split()[1:3] in (
        ["0/1", later],
        ["0/1", first],
    )


def test_a_command_that_is_not_there(pods: Namespace) -> None:
    container = {"name": "main", "image": IMAGE, "command": ["/no/such/program"]}
    pods.apply(
        pod("never-starts", pod_spec(container, restartPolicy="Never")),
        pod("starts-again", pod_spec(container)),
    )
    pods.wait("jsonpath={.status.phase}=Failed", "pod/never-starts")
    (status,) = pods.get("pod", "never-starts")["status"]["containerStatuses"]
    ended = status["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    assert ended["startedAt"] == "1970-01-01T00:00:00Z"
    assert "no such file or directory" in ended["message"].lower()
    shown = pods.kubectl("get", "pod", "never-starts", "--no-headers").stdout.split()
    assert shown[1:4] == ["0/1", "StartError", "0"]
    until(lambda: waiting(pods, "starts-again").get("reason") == "CrashLoopBackOff", within=40, every=0.2)


def test_graceful_end(cluster: LocalCluster, pods: Namespace) -> None:
    name = ready(pods, "graceful")
    began = time.monotonic()
    pods.kubectl("delete", "pod", name)
    took = time.monotonic() - began
    assert cluster.on_node("node-2", "cat", "/run/graceful/log").stdout == "preStop\nterm\n"
    assert 1.0 <= took < 10, "preStop's second was waited for, the whole grace period was not"
    assert not pods.get("pod", name)
    assert until(lambda: pods.events("Killing", name))[0]["message"] == "Stopping container main"


def test_one_that_will_not_end_is_killed_after_its_grace(pods: Namespace) -> None:
    pods.apply(pod("stubborn", pod_spec(shell("trap '' TERM; while true; do sleep 1; done"), grace=2)))
    ready(pods, "stubborn")
    began = time.monotonic()
    pods.kubectl("delete", "pod", "stubborn")
    assert 2.0 <= time.monotonic() - began < 12


def test_restart_policies(pods: Namespace) -> None:
    once = pod_spec(shell("exit 0"), restartPolicy="Never")
    fails = pod_spec(shell("exit 7"), restartPolicy="Never")
    retries = pod_spec(
        shell("test -e /work/again && exit 0; touch /work/again; exit 1", volumeMounts=[
            {"name": "work", "mountPath": "/work"}
        ]),
        restartPolicy="OnFailure",
        volumes=[{"name": "work", "emptyDir": {}}],
    )  # fmt: skip
    pods.apply(pod("once", once), pod("fails", fails), pod("retries", retries))
    pods.wait("jsonpath={.status.phase}=Succeeded", "pod/once", "pod/retries")
    pods.wait("jsonpath={.status.phase}=Failed", "pod/fails")
    assert container_status(pods, "once")["state"]["terminated"]["reason"] == "Completed"
    assert container_status(pods, "fails")["state"]["terminated"]["exitCode"] == 7
    assert container_status(pods, "retries")["restartCount"] == 1
    phases = pods.kubectl("get", "pods", "once", "fails", "--no-headers").stdout.split()
    assert phases[2] == "Completed"
    assert "Error" in phases


def test_describe_shows_the_life_of_a_pod(pods: Namespace) -> None:
    name = ready(pods, "talking")
    shown = pods.kubectl("describe", "pod", name).stdout
    lines = [line.split() for line in shown[shown.index("Events:") :].splitlines()]
    told = [words[:2] + words[-1:] for words in lines if words and words[0] in ("Normal", "Warning")]
    reasons = [reason for kind, reason, _ in told if kind == "Normal"]
    assert reasons.index("Scheduled") < reasons.index("Created") < reasons.index("Started")
    assert "Pulled" in reasons
    assert f"Successfully assigned {pods.name}/{name} to node-" in shown
    assert f'Container image "{IMAGE}" already present on machine' in shown
    assert re.search(r"Container ID: +containerd://[0-9a-f]{64}", shown)
    assert re.search(r"QoS Class: +BestEffort", shown)


# -- Logs


def test_logs(pods: Namespace) -> None:
    name = ready(pods, "talking")
    text = "".join(f"line {number}\n" for number in range(1, 6))
    until(lambda: pods.kubectl("logs", name, "-c", "main").stdout == text)
    assert pods.kubectl("logs", name, "-c", "main", "--tail=2").stdout == "line 4\nline 5\n"
    assert pods.kubectl("logs", name, "-c", "main", "--tail=0").stdout == ""
    assert pods.kubectl("logs", name, "-c", "main", "--limit-bytes=8").stdout == "line 1\nl"
    assert sorted(pods.kubectl("logs", name, "-c", "other").stdout.splitlines()) == ["oops", "other"]
    stamped = pods.kubectl("logs", name, "-c", "main", "--timestamps", "--tail=1").stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z line 5\n", stamped)
    whole = pods.kubectl("logs", name, "--all-containers", "--prefix").stdout
    assert f"[pod/{name}/main] line 1\n" in whole
    missing = pods.kubectl("logs", name, "-c", "nobody", check=False)
    assert missing.returncode == 1
    assert f"container nobody is not valid for pod {name}" in missing.stderr
    none_before = pods.kubectl("logs", name, "-c", "main", "--previous", check=False)
    assert f'previous terminated container "main" in pod "{name}" not found' in none_before.stderr


def test_logs_follow_until_the_container_ends(pods: Namespace) -> None:
    script = "for i in 1 2 3 4 5 6; do echo step $i; sleep 0.3; done"
    pods.apply(pod("steps", pod_spec(shell(script), restartPolicy="Never")))
    until(lambda: container_status(pods, "steps").get("state", {}).get("running"), every=0.05)
    process = subprocess.Popen(
        [KUBECTL, "--namespace", pods.name, "logs", "-f", "steps"],
        env=pods.cluster.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    moments = [(line, time.monotonic()) for line in process.stdout]
    assert process.wait(timeout=20) == 0
    assert [line for line, _ in moments] == [f"step {number}\n" for number in range(1, 7)]
    assert moments[-1][1] - moments[0][1] > 0.5, "lines came as they were written, not all at the end"


# -- Exec


def test_exec(pods: Namespace) -> None:
    name = ready(pods, "talking")
    both = pods.exec(name, "sh", "-c", "echo out; echo err >&2; exit 42", container="main", check=False)
    assert both.stdout == "out\n"
    assert both.stderr.splitlines() == ["err", "command terminated with exit code 42"]
    assert both.returncode == 42
    text = "".join(f"{number}\n" for number in range(50_000))
    back = pods.kubectl("exec", "-i", name, "-c", "main", "--", "sort", "-rn", input=text)
    assert back.stdout.splitlines() == [str(number) for number in range(49_999, -1, -1)]
    missing = pods.exec(name, "/no/such/program", check=False)
    assert missing.returncode != 0
    assert "no such file or directory" in missing.stderr.lower()
    nobody = pods.exec(name, "true", container="nobody", check=False)
    assert nobody.returncode == 1
    assert f"container nobody is not valid for pod {name}" in nobody.stderr
    absent = pods.exec("no-such-pod", "true", check=False)
    assert 'pods "no-such-pod" not found' in absent.stderr


class Terminal:
    """kubectl on a pseudo-terminal, as a user has it."""

    def __init__(self, namespace: Namespace, *arguments: str, rows: int, columns: int) -> None:
        self.leader, follower = pty.openpty()
        self.resize(rows, columns)
        self.process = subprocess.Popen(
            [KUBECTL, "--namespace", namespace.name, *arguments],
            env=namespace.cluster.environment,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(follower)
        self.seen = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.leader, text.encode())

    def read(self, wanted: str, within: float = 15) -> str:
        """What was written up to now, as soon as it contains *wanted*."""
        self._collect(lambda: wanted in self.seen, within)
        assert wanted in self.seen, f"{wanted!r} is not in {self.seen!r}"
        return self.seen

    def end(self, within: float = 15) -> int:
        self._collect(lambda: self.process.poll() is not None, within)
        try:
            return self.process.wait(timeout=1)
        finally:
            self.process.kill()
            os.close(self.leader)

    def _collect(self, enough: Callable[[], bool], within: float) -> None:
        deadline = time.monotonic() + within
        while not enough() and time.monotonic() < deadline:
            if select.select([self.leader], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.leader, 65536).decode()
                except OSError:  # the other end is closed
                    return


def test_exec_on_a_terminal_that_changes_its_size(pods: Namespace) -> None:
    name = ready(pods, "talking")
    terminal = Terminal(pods, "exec", "-it", name, "-c", "main", "--", "sh", rows=24, columns=80)
    try:
        terminal.type("stty size; tty\n")
        terminal.read("24 80")
        terminal.read("/dev/pts/")
        terminal.resize(50, 132)
        terminal.process.send_signal(signal.SIGWINCH)

        def resized() -> bool:
            terminal.type("stty size\n")
            terminal._collect(lambda: "50 132" in terminal.seen, 0.5)
            return "50 132" in terminal.seen

        until(resized, within=10, what="the new size")
        terminal.type("exit 5\n")
    finally:
        status = terminal.end()
    assert status == 5
    assert "command terminated with exit code 5" in terminal.seen


def test_attach(pods: Namespace) -> None:
    pods.apply(
        pod(
            "echoing",
            pod_spec(
                shell("while read line; do echo got $line; done", stdin=True, stdinOnce=True),
                restartPolicy="Never",
            ),
        )
    )
    ready(pods, "echoing")
    attached = pods.kubectl("attach", "-i", "echoing", input="one\ntwo\n")
    assert "got one\ngot two\n" in attached.stdout
    pods.wait("jsonpath={.status.phase}=Succeeded", "pod/echoing")


# -- The kubelet itself


def test_a_restarted_kubelet_finds_its_pods(cluster: LocalCluster, namespace: Namespace) -> None:
    container = shell(QUICK_END)
    spec = pod_spec(container, nodeName="node-1")
    namespace.apply(*(pod(f"steady-{number}", spec) for number in range(3)))
    for number in range(3):
        ready(namespace, f"steady-{number}")
    before = {item["metadata"]["name"]: item["status"] for item in namespace.list("pods")}
    cluster.buoy("kill", "kubelet", "--node", "node-1")
    # It is back when it has started another Pod, and has taken away one that was deleted meanwhile.
    namespace.kubectl("delete", "pod", "steady-2", "--wait=false")
    namespace.apply(pod("newcomer", spec))
    ready(namespace, "newcomer")
    until(lambda: not namespace.get("pod", "steady-2"), what="the deleted Pod is gone")
    for item in namespace.list("pods"):
        if item["metadata"]["name"] in before:
            earlier = before[item["metadata"]["name"]]
            (status,) = item["status"]["containerStatuses"]
            assert status["containerID"] == earlier["containerStatuses"][0]["containerID"]
            assert status["restartCount"] == 0
            assert item["status"]["startTime"] == earlier["startTime"]
    assert namespace.exec("steady-0", "hostname").stdout == "steady-0\n"


def test_unschedulable_pods_say_why(namespace: Namespace) -> None:
    spec = pod_spec(shell(FOREVER), nodeSelector={"disk": "ssd"})
    namespace.apply(pod("picky", spec))
    message = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
    (event, *_) = until(lambda: namespace.events("FailedScheduling", "picky"))
    assert event["message"].startswith(message)
    (condition,) = [
        entry
        for entry in namespace.get("pod", "picky")["status"]["conditions"]
        if entry["type"] == "PodScheduled"
    ]
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert condition["message"].startswith(message)
    namespace.cluster.kubectl("label", "node", "node-2", "disk=ssd")
    try:
        ready(namespace, "picky")
        assert namespace.get("pod", "picky")["spec"]["nodeName"] == "node-2"
    finally:
        namespace.cluster.kubectl("label", "node", "node-2", "disk-")
