"""Pods on a real node: started, watched over, restarted, ended, and forgotten without a trace."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from pathlib import Path

import pytest
from kubelet_cluster import LOOP, Cluster, condition, container, phase, status_of, waiting
from kubelet_world import NODE, NODE_IP, STAND_IN

from buoy.api import meta
from buoy.api.resource import (
    CONFIG_MAPS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    SECRETS,
    SERVICES,
)
from eventual import eventually

pytestmark = pytest.mark.kernel


def traces(cluster: Cluster, uid: str) -> list[str]:
    """What the node still has of a Pod: directories, mounts, logs, cgroups, containers."""
    found = []
    root = Path(cluster.world.inside("/"))
    found += [str(path) for path in (root / "var/lib/kubelet/pods").glob(uid)]
    found += [str(path) for path in (root / "var/log/pods").glob(f"*_{uid}")]
    mounts = Path(f"/proc/{cluster.world.pid}/mountinfo").read_text()
    found += [line for line in mounts.splitlines() if uid in line]
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        found += [
            str(p) for p in (hierarchy / cluster.world.cgroup_root.strip("/")).glob(f"kubepods/**/pod{uid}")
        ]
    if uid in cluster.world.run(
        "ctr", "-n", "k8s.io", "containers", "list", f"labels.io.kubernetes.pod.uid=={uid}"
    ):
        found.append("a container")
    return found


async def test_a_pod_runs_tells_how_it_is_and_leaves_nothing(cluster: Cluster) -> None:
    await cluster.create(CONFIG_MAPS, "settings", data={"colour": "blue"})
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    mounts = [{"name": "settings", "mountPath": "/settings"}, {"name": "scratch", "mountPath": "/scratch"}]
    await cluster.run("web", container(volumeMounts=mounts, ports=[{"containerPort": 80}]), volumes=volumes)
    pod = await cluster.ready("web")
    status = pod["status"]
    assert status["phase"] == "Running"
    assert status["qosClass"] == "BestEffort"
    assert status["hostIP"] == NODE_IP
    assert status["podIPs"] == [{"ip": status["podIP"]}]
    assert status["podIP"].startswith("10.244.0.")
    assert {c["type"]: c["status"] for c in status["conditions"]} == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True"
    )
    main = status_of(pod)
    assert main["containerID"].startswith("containerd://")
    assert (main["ready"], main["started"], main["restartCount"]) == (True, True, 0)
    assert "running" in main["state"]
    assert await cluster.execute("web", "cat /settings/colour; df -k /scratch | tail -1") != ""
    events = await eventually(lambda: _three_events(cluster), what="the events of a start")
    assert events == [
        (
            "Normal",
            "Pulled",
            f'Container image "{main["image"]}" already present on machine and can be accessed by the pod',
        ),
        ("Normal", "Created", "Container created"),
        ("Normal", "Started", "Container started"),
    ]
    event = await cluster.event("web", "Started")
    assert event["involvedObject"]["fieldPath"] == "spec.containers{main}"
    assert event["source"] == {"component": "kubelet", "host": "node-1"}
    begun = time.monotonic()
    await cluster.delete("web")
    await cluster.gone("web")
    assert time.monotonic() - begun < 2
    await eventually(lambda: not traces(cluster, meta.uid(pod)), what="nothing is left")
    assert (await cluster.event("web", "Killing"))["message"] == "Stopping container main"


async def _three_events(cluster: Cluster) -> list[tuple[str, str, str]]:
    events = await cluster.events("web")
    return events if len(events) >= 3 else []


async def test_a_crashing_container_backs_off_and_keeps_its_last_words(cluster: Cluster) -> None:
    script = "echo attempt; printf 'last words' > /dev/termination-log; exit 7"
    pod = await cluster.run("crash", container(script))
    pod = await cluster.until("crash", lambda pod: waiting(pod) == "CrashLoopBackOff")
    main = status_of(pod)
    assert main["restartCount"] == 1
    about = f"crash_{cluster.namespace}({meta.uid(pod)})"
    assert main["state"]["waiting"]["message"] == f"back-off 10s restarting failed container=main pod={about}"
    ended = main["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (7, "Error", "last words")
    assert phase(pod) == "Running"
    assert condition(pod, "Ready") == "False"
    event = await cluster.event("crash", "BackOff")
    assert event["message"] == f"Back-off restarting failed container main in pod {about}"
    assert await cluster.logs("crash", previous="true") == "attempt\n"


async def test_last_words_fall_back_to_the_log(cluster: Cluster) -> None:
    await cluster.run(
        "talker",
        container("echo from the log; exit 1", terminationMessagePolicy="FallbackToLogsOnError"),
        restartPolicy="Never",
    )
    pod = await cluster.finished("talker")
    assert phase(pod) == "Failed"
    assert status_of(pod)["state"]["terminated"]["message"] == "from the log\n"


async def test_init_containers_run_in_order_and_a_sidecar_goes_along(cluster: Cluster) -> None:
    volumes = [{"name": "order", "emptyDir": {}}]
    mounts = [{"name": "order", "mountPath": "/order"}]
    inits = [
        container("sleep 0.1; echo first >> /order/log", "first", volumeMounts=mounts),
        container(LOOP, "side", restartPolicy="Always", volumeMounts=mounts),
        container("echo second >> /order/log", "second", volumeMounts=mounts),
    ]
    await cluster.run(
        "ordered",
        container("cat /order/log", volumeMounts=mounts),
        initContainers=inits,
        volumes=volumes,
        restartPolicy="Never",
    )
    pod = await cluster.finished("ordered")
    assert phase(pod) == "Succeeded"
    assert await cluster.logs("ordered", container="main") == "first\nsecond\n"
    pod = await cluster.until("ordered", lambda pod: "terminated" in status_of(pod, "side")["state"])
    assert [s["name"] for s in pod["status"]["initContainerStatuses"]] == ["first", "side", "second"]
    assert {c["type"]: c.get("reason") for c in pod["status"]["conditions"]}["Ready"] == "PodCompleted"


async def test_a_failed_init_container_fails_a_pod_that_never_restarts(cluster: Cluster) -> None:
    await cluster.run("hopeless", initContainers=[container("exit 3", "init")], restartPolicy="Never")
    pod = await cluster.finished("hopeless")
    assert phase(pod) == "Failed"
    assert waiting(pod) == "PodInitializing"
    assert status_of(pod, "init")["state"]["terminated"]["exitCode"] == 3


@pytest.mark.parametrize(
    ("policy", "script", "outcome"),
    [
        ("Never", "exit 0", ("Succeeded", 0)),
        ("Never", "exit 1", ("Failed", 0)),
        ("OnFailure", "exit 0", ("Succeeded", 0)),
        ("OnFailure", "test -e /keep/it || { touch /keep/it; exit 1; }", ("Succeeded", 1)),
    ],
)
async def test_restart_policies(cluster: Cluster, policy: str, script: str, outcome: tuple[str, int]) -> None:
    mounts = [{"name": "keep", "mountPath": "/keep"}]
    await cluster.run(
        "task",
        container(script, volumeMounts=mounts),
        restartPolicy=policy,
        volumes=[{"name": "keep", "emptyDir": {}}],
    )
    pod = await cluster.finished("task")
    assert (phase(pod), status_of(pod)["restartCount"]) == outcome


async def test_a_memory_hog_is_killed_and_the_reason_told(cluster: Cluster) -> None:
    hog = container("head -c 64m /dev/zero | tail", resources={"limits": {"memory": "16Mi"}})
    await cluster.run("hog", hog, restartPolicy="Never")
    pod = await cluster.finished("hog")
    ended = status_of(pod)["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


@pytest.mark.parametrize(
    ("image", "policy", "reason", "text"),
    [
        ("Not:A:Name", "IfNotPresent", "InvalidImageName", "couldn't parse image name"),
        ("localhost/test/absent:1", "Never", "ErrImageNeverPull", "is not present with pull policy of Never"),
        ("127.0.0.1:1/absent:1", "IfNotPresent", "ErrImagePull", "connection refused"),
    ],
)
async def test_an_image_that_is_not_to_be_had(
    cluster: Cluster, image: str, policy: str, reason: str, text: str
) -> None:
    await cluster.run("without", {**container(), "image": image, "imagePullPolicy": policy})
    pod = await cluster.until("without", lambda pod: waiting(pod) == reason)
    assert text in status_of(pod)["state"]["waiting"]["message"]
    assert phase(pod) == "Pending"
    await cluster.event("without", "Failed", f"Error: {reason}")
    if reason == "ErrImagePull":
        pod = await cluster.until("without", lambda pod: waiting(pod) == "ImagePullBackOff")
        message = status_of(pod)["state"]["waiting"]["message"]
        assert message.startswith(f'Back-off pulling image "{image}": ErrImagePull: rpc error')
        await cluster.event("without", "BackOff", f'Back-off pulling image "{image}"')


async def test_a_stand_in_is_named_as_one(cluster: Cluster) -> None:
    await cluster.run("standing-in", {**container("exit 0"), "image": STAND_IN}, restartPolicy="Never")
    await cluster.finished("standing-in")
    event = await cluster.event("standing-in", "StandInImage")
    assert "stand-in" in event["message"]
    assert "docker.io/library/x:1" in event["message"]


async def test_a_missing_secret_holds_a_container_up_until_it_comes(cluster: Cluster) -> None:
    env = [{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "word"}}}]
    await cluster.run("waiting", container('echo "$WORD"', env=env), restartPolicy="Never")
    pod = await cluster.until("waiting", lambda pod: waiting(pod) == "CreateContainerConfigError")
    assert status_of(pod)["state"]["waiting"]["message"] == 'secret "hidden" not found'
    await cluster.create(SECRETS, "hidden", data={"word": base64.b64encode(b"sesame").decode()})
    await cluster.finished("waiting")
    assert await cluster.logs("waiting") == "sesame\n"


async def test_a_missing_config_map_holds_a_volume_up_until_it_comes(cluster: Cluster) -> None:
    mounts = [{"name": "late", "mountPath": "/late"}]
    volumes = [{"name": "late", "configMap": {"name": "late"}}]
    await cluster.run(
        "mounting", container("cat /late/key", volumeMounts=mounts), volumes=volumes, restartPolicy="Never"
    )
    event = await cluster.event("mounting", "FailedMount")
    assert event["message"] == 'MountVolume.SetUp failed for volume "late" : configmap "late" not found'
    await cluster.create(CONFIG_MAPS, "late", data={"key": "better than never"})
    await cluster.finished("mounting")
    assert await cluster.logs("mounting") == "better than never"


async def test_a_changed_config_map_shows_in_a_running_container(cluster: Cluster) -> None:
    await cluster.create(CONFIG_MAPS, "live", data={"key": "old", "gone": "soon"})
    mounts = [{"name": "live", "mountPath": "/live"}]
    volumes = [{"name": "live", "configMap": {"name": "live"}}]
    script = "until grep -q new /live/key; do sleep 0.05; done; ls /live"
    await cluster.run(
        "reader", container(script, volumeMounts=mounts), volumes=volumes, restartPolicy="Never"
    )
    await cluster.running("reader")
    await cluster.client.patch(CONFIG_MAPS, "live", cluster.namespace, {"data": {"key": "new", "gone": None}})
    await cluster.finished("reader")
    assert await cluster.logs("reader") == "key\n"


async def test_volumes_of_many_kinds(cluster: Cluster) -> None:
    await cluster.create(SECRETS, "hidden", data={"word": base64.b64encode(b"sesame").decode()})
    await cluster.create(
        CONFIG_MAPS,
        "map",
        data={"plain.txt": "plain"},
        binaryData={"raw": base64.b64encode(b"\xff").decode()},
    )
    host = Path(cluster.world.inside("/run/for-pods"))
    host.mkdir(exist_ok=True)
    (host / "file").write_text("from the node")
    volumes = [
        {"name": "secret", "secret": {"secretName": "hidden", "defaultMode": 0o400}},
        {"name": "optional", "secret": {"secretName": "absent", "optional": True}},
        {
            "name": "items",
            "configMap": {"name": "map", "items": [{"key": "plain.txt", "path": "a/b", "mode": 0o440}]},
        },
        {"name": "host", "hostPath": {"path": "/run/for-pods", "type": "Directory"}},
        {
            "name": "down",
            "downwardAPI": {
                "items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                    {
                        "path": "cpu",
                        "resourceFieldRef": {
                            "containerName": "main",
                            "resource": "limits.cpu",
                            "divisor": "1m",
                        },
                    },
                ]
            },
        },
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
                    {"configMap": {"name": "map", "items": [{"key": "raw", "path": "raw"}]}},
                    {"secret": {"name": "hidden"}},
                ]
            },
        },
        {"name": "shared", "emptyDir": {}},
    ]
    mounts = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
    mounts += [
        {"name": "items", "mountPath": "/one-file", "subPath": "a/b"},
        {"name": "shared", "mountPath": "/mine", "subPathExpr": "$(POD)/deep"},
        {"name": "host", "mountPath": "/host-file", "subPath": "file", "readOnly": True},
    ]
    pod = await cluster.run(
        "volumes",
        container(
            volumeMounts=mounts,
            resources={"limits": {"cpu": "250m"}},
            env=[{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        ),
        volumes=volumes,
        metadata={"labels": {"app": "volumes"}},
        securityContext={"fsGroup": 2000},
    )
    await cluster.running("volumes")
    script = """
        cat /secret/word; echo; stat -Lc %a:%g /secret/word; ls /optional | wc -l
        cat /items/a/b; echo; cat /one-file; echo
        cat /host/file; echo; (echo x > /host-file) 2>/dev/null || echo read-only
        cat /down/labels; echo; cat /down/cpu; echo
        od -An -tx1 /all/raw; cat /all/word; echo; test -s /all/token && echo token; stat -Lc %a /all/token
        touch /mine/file && ls /shared/volumes/deep; stat -c %a:%g /shared
        (touch /items/new) 2>/dev/null || echo read-only
    """
    assert (await cluster.execute("volumes", script)).split("\n") == [
        "sesame", "440:2000", "0",
        "plain", "plain",
        "from the node", "read-only",
        'app="volumes"', "250",
        " ff", "sesame", "token", "640",
        "file", "2777:2000",
        "read-only", "",
    ]  # fmt: skip
    await cluster.delete("volumes")
    await cluster.gone("volumes")
    await eventually(lambda: not traces(cluster, meta.uid(pod)), what="nothing is left")
    assert (host / "file").read_text() == "from the node"


async def test_a_host_path_of_the_wrong_type_is_refused(cluster: Cluster) -> None:
    volumes = [{"name": "host", "hostPath": {"path": "/etc/hostname-that-is-not", "type": "File"}}]
    await cluster.run("wrong", container(volumeMounts=[{"name": "host", "mountPath": "/x"}]), volumes=volumes)
    event = await cluster.event("wrong", "FailedMount")
    assert "hostPath type check failed: /etc/hostname-that-is-not is not a file" in event["message"]


async def test_environment_names_and_resolver(cluster: Cluster) -> None:
    ports = [{"name": "http", "port": 80}]
    service = {"spec": {"ports": ports, "selector": {"app": "x"}}}
    made = await cluster.create(SERVICES, "my-service", **service)
    env = [
        {"name": "GREETING", "value": "hello"},
        {"name": "WHOLE", "value": "$(GREETING) $(ABSENT) $$(GREETING) $(MY_SERVICE_SERVICE_PORT)"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    pod = {**container(env=env), "command": ["sh", "-c", LOOP, "$(GREETING)"]}
    await cluster.run(
        "names",
        pod,
        hostname="host",
        subdomain="sub",
        hostAliases=[{"ip": "192.0.2.1", "hostnames": ["alias"]}],
    )
    address = (await cluster.running("names"))["status"]["podIP"]
    text = await cluster.execute(
        "names", "env; cat /etc/hosts /etc/resolv.conf; hostname; cat /proc/1/cmdline | tr '\\0' ' '"
    )
    ns = cluster.namespace
    for expected in (
        "WHOLE=hello $(ABSENT) $(GREETING) 80\n",
        f"IP={address}\n",
        f"MY_SERVICE_SERVICE_HOST={made['spec']['clusterIP']}\n",
        "MY_SERVICE_SERVICE_PORT_HTTP=80\n",
        "KUBERNETES_SERVICE_HOST=",
        f"{address}\thost.sub.{ns}.svc.cluster.local\thost\n",
        "192.0.2.1\talias\n",
        f"search {ns}.svc.cluster.local svc.cluster.local cluster.local example.org\n",
        "nameserver 10.96.0.10\n",
        "options ndots:5\n",
        "\nhost\n",
        " hello ",
    ):
        assert expected in text, (expected, text)


async def test_host_network(cluster: Cluster) -> None:
    await cluster.run("on-node", hostNetwork=True)
    pod = await cluster.running("on-node")
    assert pod["status"]["podIP"] == NODE_IP
    assert NODE_IP in await cluster.execute("on-node", "ip address show lo")


async def test_security_context_and_resources(cluster: Cluster) -> None:
    limited = container(
        securityContext={
            "runAsUser": 1000,
            "runAsGroup": 3000,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        resources={
            "requests": {"cpu": "100m", "memory": "16Mi"},
            "limits": {"cpu": "500m", "memory": "32Mi"},
        },
    )
    pod = await cluster.run(
        "limited",
        limited,
        securityContext={
            "supplementalGroups": [4000],
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "81"}],
        },
    )
    pod = await cluster.running("limited")
    assert pod["status"]["qosClass"] == "Burstable"
    text = await cluster.execute(
        "limited",
        "id -u; id -G; (touch /x) 2>/dev/null || echo read-only;"
        "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/1/status;"
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
    )
    assert text.split("\n")[:3] == ["1000", "3000 4000", "read-only"]
    assert "CapEff:\t0000000000000000" in text
    assert "NoNewPrivs:\t1" in text
    assert "Seccomp:\t2" in text
    assert "\n81\n" in text
    group = f"{cluster.world.cgroup_root}/kubepods/burstable/pod{meta.uid(pod)}"
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        assert Path(f"/sys/fs/cgroup/cpu{group}/cpu.cfs_quota_us").read_text() == "50000\n"
        main = status_of(pod)["containerID"].removeprefix("containerd://")
        assert (
            Path(f"/sys/fs/cgroup/memory{group}/{main}/memory.limit_in_bytes").read_text() == f"{32 << 20}\n"
        )
        assert Path(f"/sys/fs/cgroup/cpu{group}/{main}/cpu.shares").read_text() == "102\n"


async def test_root_is_refused_where_it_must_not_be(cluster: Cluster) -> None:
    await cluster.run("no-root", securityContext={"runAsNonRoot": True})
    pod = await cluster.until("no-root", lambda pod: waiting(pod) == "CreateContainerConfigError")
    assert (
        "container has runAsNonRoot and image will run as root"
        in status_of(pod)["state"]["waiting"]["message"]
    )


async def test_shared_process_namespace(cluster: Cluster) -> None:
    await cluster.run("shared", container(), container(name="other"), shareProcessNamespace=True)
    await cluster.running("shared")
    assert "/pause" in await cluster.kubectl("exec", "shared", "-c", "main", "--", "ps")


async def test_readiness_comes_and_goes_at_once(cluster: Cluster) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    await cluster.run("probed", container(readinessProbe=probe))
    pod = await cluster.running("probed")
    assert condition(pod, "Ready") == "False"
    await cluster.event("probed", "Unhealthy", "Readiness probe failed:")
    await cluster.execute("probed", "touch /tmp/ready")
    pod = await cluster.ready("probed")
    assert condition(pod, "ContainersReady") == "True"
    await cluster.execute("probed", "rm /tmp/ready")
    await cluster.until("probed", lambda pod: condition(pod, "Ready") == "False")


async def test_a_container_that_does_not_live_is_restarted(cluster: Cluster) -> None:
    probe = {
        "tcpSocket": {"port": "web"},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "terminationGracePeriodSeconds": 1,
    }
    await cluster.run("dead", container(livenessProbe=probe, ports=[{"name": "web", "containerPort": 8080}]))
    pod = await cluster.until("dead", lambda pod: status_of(pod)["restartCount"] >= 1)
    event = await cluster.event("dead", "Unhealthy")
    assert (
        event["message"]
        == f"Liveness probe failed: dial tcp {pod['status']['podIP']}:8080: connect: connection refused"
    )
    assert (await cluster.event("dead", "Killing"))["message"] == (
        "Container main failed liveness probe, will be restarted"
    )


async def test_an_http_probe_and_a_startup_probe(cluster: Cluster) -> None:
    serve = "mkdir -p /tmp/www; touch /tmp/www/live; exec httpd -f -p 8080 -h /tmp/www"
    get = {"path": "/ready", "port": 8080, "httpHeaders": [{"name": "X-Test", "value": "1"}]}
    web = container(
        serve,
        startupProbe={"httpGet": {"path": "/live", "port": 8080}, "periodSeconds": 1},
        readinessProbe={"httpGet": get, "periodSeconds": 1},
    )
    await cluster.run("web", web)
    await cluster.until("web", lambda pod: status_of(pod).get("started"))
    await cluster.event("web", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404")
    await cluster.execute("web", "touch /tmp/www/ready")
    await cluster.ready("web")


async def test_hooks(cluster: Cluster) -> None:
    mounts = [{"name": "host", "mountPath": "/host"}]
    hooks = {
        "postStart": {"exec": {"command": ["touch", "/host/started"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "touch /host/stopping; sleep 0.2"]}},
    }
    main = container(
        "trap 'touch /host/told; exit 0' TERM; while :; do sleep 0.05; done",
        lifecycle=hooks,
        volumeMounts=mounts,
    )
    folder = f"/run/hooks-{cluster.namespace}"
    volumes = [{"name": "host", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}]
    await cluster.run("hooked", main, volumes=volumes)
    await cluster.running("hooked")
    host = Path(cluster.world.inside(folder))
    assert (host / "started").exists()
    await cluster.delete("hooked")
    await cluster.gone("hooked")
    stopping, told = (host / "stopping").stat().st_mtime, (host / "told").stat().st_mtime
    assert told - stopping >= 0.15


async def test_a_failing_post_start_hook_kills_the_container(cluster: Cluster) -> None:
    hooks = {"postStart": {"exec": {"command": ["false"]}}}
    await cluster.run("unhooked", container(lifecycle=hooks), restartPolicy="Never")
    await cluster.event("unhooked", "FailedPostStartHook", "PostStartHook failed")
    await cluster.finished("unhooked")


async def test_a_deaf_container_is_killed_when_its_time_is_up(cluster: Cluster) -> None:
    await cluster.run(
        "deaf", container("trap '' TERM; while :; do sleep 0.05; done"), terminationGracePeriodSeconds=30
    )
    await cluster.running("deaf")
    begun = time.monotonic()
    await cluster.delete("deaf")
    pod = await cluster.pod("deaf")
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 30
    await cluster.delete("deaf", grace=1)
    await cluster.gone("deaf")
    assert 0.9 < time.monotonic() - begun < 10


async def test_a_pod_may_be_deleted_while_its_image_is_missing(cluster: Cluster) -> None:
    await cluster.run("never", {**container(), "image": "127.0.0.1:1/absent:1"})
    await cluster.until("never", lambda pod: waiting(pod) in ("ErrImagePull", "ImagePullBackOff"))
    await cluster.delete("never")
    await cluster.gone("never")


async def test_a_pod_is_told_from_its_predecessor_of_the_same_name(cluster: Cluster) -> None:
    first = await cluster.run("same")
    await cluster.running("same")
    await cluster.delete("same", grace=0)
    second = await cluster.run("same")
    pod = await cluster.until(
        "same", lambda pod: meta.uid(pod) == meta.uid(second) and phase(pod) == "Running"
    )
    assert meta.uid(pod) != meta.uid(first)
    await eventually(lambda: not traces(cluster, meta.uid(first)), what="the first is gone")
    assert traces(cluster, meta.uid(second))


async def test_a_finalizer_keeps_the_object_but_not_the_containers(cluster: Cluster) -> None:
    pod = await cluster.run("kept", metadata={"finalizers": ["example.org/keep"]})
    await cluster.running("kept")
    await cluster.delete("kept")
    pod = await cluster.finished("kept")
    await eventually(lambda: not traces(cluster, meta.uid(pod)), what="nothing is left")
    await cluster.client.patch(PODS, "kept", cluster.namespace, {"metadata": {"finalizers": None}})
    await cluster.gone("kept")


async def test_a_deadline(cluster: Cluster) -> None:
    await cluster.run("late", activeDeadlineSeconds=1)
    pod = await cluster.finished("late")
    assert (phase(pod), pod["status"]["reason"]) == ("Failed", "DeadlineExceeded")
    assert status_of(pod)["state"]["terminated"]["exitCode"] == 0


async def test_conditions_of_others_are_kept(cluster: Cluster) -> None:
    await cluster.run("gated", readinessGates=[{"conditionType": "example.org/gate"}])
    pod = await cluster.until("gated", lambda pod: condition(pod, "ContainersReady") == "True")
    ready = next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ReadinessGatesNotReady")
    gate = {"type": "example.org/gate", "status": "True"}
    await cluster.client.patch(
        PODS,
        "gated",
        cluster.namespace,
        {"status": {"conditions": [gate]}},
        type="strategic",
        subresource="status",
    )
    pod = await cluster.ready("gated")
    assert condition(pod, "example.org/gate") == "True"


async def test_a_sandbox_that_dies_is_made_anew(cluster: Cluster) -> None:
    pod = await cluster.run("boxed")
    pod = await cluster.running("boxed")
    pause = cluster.world.run(
        "ctr",
        "-n",
        "k8s.io",
        "containers",
        "list",
        "-q",
        f'labels.io.kubernetes.pod.uid=={meta.uid(pod)},labels."io.cri-containerd.kind"==sandbox',
    )
    cluster.world.run("ctr", "-n", "k8s.io", "tasks", "kill", "-s", "KILL", pause.strip())
    pod = await cluster.until(
        "boxed", lambda pod: status_of(pod)["restartCount"] == 1 and phase(pod) == "Running"
    )
    await cluster.event("boxed", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
    await cluster.ready("boxed")


async def test_streams_through_the_api_server(cluster: Cluster) -> None:
    await cluster.run("streams", container("echo one; echo two; " + LOOP))
    await cluster.running("streams")
    assert (
        await cluster.kubectl("exec", "-i", "streams", "--", "cat", stdin="to the end of input")
        == "to the end of input"
    )
    await cluster.kubectl("exec", "streams", "--", "sh", "-c", "exit 3", code=3)
    assert await cluster.logs("streams") == "one\ntwo\n"
    assert await cluster.logs("streams", tailLines="1") == "two\n"
    assert await cluster.logs("streams", limitBytes="3") == "one"
    stamped = await cluster.logs("streams", timestamps="true", tailLines="1")
    assert stamped.endswith("Z two\n")


async def test_logs_follow_until_the_container_ends(cluster: Cluster) -> None:
    await cluster.run(
        "follower", container("for i in 1 2 3; do echo $i; sleep 0.1; done"), restartPolicy="Never"
    )
    await cluster.until("follower", lambda pod: phase(pod) != "Pending")
    assert await cluster.kubectl("logs", "-f", "follower") == "1\n2\n3\n"


async def test_many_pods_at_once(cluster: Cluster) -> None:
    names = [f"p{n}" for n in range(8)]
    await asyncio.gather(*(cluster.run(name) for name in names))
    ips = {(await cluster.ready(name))["status"]["podIP"] for name in names}
    assert len(ips) == len(names)


async def bound(cluster: Cluster, name: str, source: dict[str, object], **more: object) -> None:
    """A claim, and a volume that is its own, bound by hand: there is no controller here."""
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "",
        "volumeName": f"{cluster.namespace}-{name}",
    }
    claim = await cluster.create(PERSISTENT_VOLUME_CLAIMS, name, spec=spec)
    reference = {"namespace": cluster.namespace, "name": name, "uid": meta.uid(claim)}
    await cluster.client.create(
        PERSISTENT_VOLUMES,
        {
            "metadata": {"name": f"{cluster.namespace}-{name}"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "1Gi"},
                "claimRef": reference,
                **source,
                **more,
            },
        },
    )


async def bind(cluster: Cluster, name: str) -> None:
    patch = {"status": {"phase": "Bound"}}
    await cluster.client.patch(PERSISTENT_VOLUME_CLAIMS, name, cluster.namespace, patch, subresource="status")


def on_node(name: str) -> dict[str, object]:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}


async def test_volumes_of_claims(cluster: Cluster) -> None:
    folder = Path(cluster.world.inside("/run/claims"))
    (folder / "local").mkdir(parents=True)
    (folder / "local" / "old").write_text("old")
    await bound(cluster, "made", {"hostPath": {"path": "/run/claims/made", "type": "DirectoryOrCreate"}})
    await bound(cluster, "local", {"local": {"path": "/run/claims/local"}}, nodeAffinity=on_node(NODE))
    volumes = [
        {"name": "made", "persistentVolumeClaim": {"claimName": "made"}},
        {"name": "local", "persistentVolumeClaim": {"claimName": "local"}},
        {"name": "fixed", "persistentVolumeClaim": {"claimName": "made", "readOnly": True}},
    ]
    mounts = [
        {"name": "made", "mountPath": "/made"},
        {"name": "made", "mountPath": "/part", "subPathExpr": "$(POD)/deep"},
        {"name": "local", "mountPath": "/local"},
        {"name": "fixed", "mountPath": "/fixed"},
    ]
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    pod = await cluster.run(
        "claiming",
        container(volumeMounts=mounts, env=env),
        volumes=volumes,
        securityContext={"fsGroup": 2000},
    )
    # Nothing starts until the claims are bound, and the event says why.
    message = (await cluster.event("claiming", "FailedMount"))["message"]
    assert message == (
        "Unable to attach or mount volumes: unmounted volumes=[made local fixed], unattached volumes=[], "
        "failed to process volumes=[made local fixed]: "
        f"error processing PVC {cluster.namespace}/made: PVC is not bound; "
        f"error processing PVC {cluster.namespace}/local: PVC is not bound; "
        f"error processing PVC {cluster.namespace}/made: PVC is not bound"
    )
    await bind(cluster, "made")
    await bind(cluster, "local")
    await cluster.running("claiming")
    script = """
        echo hello > /part/file; cat /made/claiming/deep/file /fixed/claiming/deep/file
        (touch /fixed/x) 2>/dev/null || echo read-only
        stat -c %g /made; cat /local/old; echo; stat -c %a:%g /local/old; echo new > /local/new
    """
    assert (await cluster.execute("claiming", script)).split("\n") == [
        *["hello", "hello", "read-only", "0", "old", "664:2000"],
        "",
    ]
    await cluster.delete("claiming")
    await cluster.gone("claiming")
    await eventually(lambda: not traces(cluster, meta.uid(pod)))
    assert (folder / "local" / "new").read_text() == "new\n"
    assert (folder / "made" / "claiming" / "deep" / "file").read_text() == "hello\n"


async def test_a_volume_of_another_node_is_not_made_up(cluster: Cluster) -> None:
    source = {"hostPath": {"path": "/run/elsewhere", "type": "DirectoryOrCreate"}}
    await bound(cluster, "far", source, nodeAffinity=on_node("elsewhere"))
    await bind(cluster, "far")
    await cluster.run(
        "lost",
        container(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
        volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "far"}}],
    )
    message = (await cluster.event("lost", "FailedMount"))["message"]
    assert message.endswith(
        "NodeAffinity check failed for volume " + f'"{cluster.namespace}-far" : no matching NodeSelectorTerms'
    )
    assert not Path(cluster.world.inside("/run/elsewhere")).exists()


async def test_a_pod_that_wants_another_node_is_refused(cluster: Cluster) -> None:
    why = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    await cluster.run("elsewhere", nodeSelector={"disk": "fast"})
    status = (await cluster.finished("elsewhere"))["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "NodeAffinity")
    assert status["message"] == f"Pod was rejected: {why}"
    assert (await cluster.event("elsewhere", "NodeAffinity"))["message"] == why
    # A label given just before counts, whether or not the kubelet has heard of it.
    await cluster.client.patch(NODES, NODE, "", {"metadata": {"labels": {"disk": "fast"}}})
    try:
        await cluster.run("here", nodeSelector={"disk": "fast"})
        await cluster.running("here")
    finally:
        await cluster.client.patch(NODES, NODE, "", {"metadata": {"labels": {"disk": None}}})


async def test_a_taint_that_evicts_keeps_pods_out(cluster: Cluster) -> None:
    numbers = iter(range(1000))

    async def reason(**spec: object) -> str:
        name = f"comes-{next(numbers)}"
        await cluster.run(name, **spec)
        pod = await cluster.until(name, lambda pod: phase(pod) in ("Running", "Failed"))
        return str(pod["status"].get("reason", ""))

    async def refused() -> bool:
        return await reason() == "TaintToleration"

    taint = {"key": "mine", "effect": "NoExecute"}
    await cluster.client.patch(NODES, NODE, "", {"spec": {"taints": [taint]}})
    try:
        await eventually(refused, what="a Pod is refused, once the kubelet has heard of the taint")
        assert await reason(tolerations=[{"key": "mine", "operator": "Exists"}]) == ""
    finally:
        await cluster.client.patch(NODES, NODE, "", {"spec": {"taints": None}})
