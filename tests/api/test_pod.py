# ruff: noqa: E501 - whole sentences are easier to compare

import copy
import datetime
from typing import Any

import pytest

from buoy.api import meta
from buoy.api.meta import Object
from buoy.api.pod import POD
from buoy.api.podspec import image_tag

from .kinds import faults, made, put

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
PORT = "must be between 1 and 65535, inclusive"


def pod(**spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "nginx:1.7.9"}], **spec},
    }


def container(**fields: Any) -> Object:
    return pod(containers=[{"name": "c", "image": "nginx:1.7.9", **fields}])


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("nginx", "latest"),
        ("nginx:1.7.9", "1.7.9"),
        ("registry.example:5000/a/nginx", "latest"),
        ("registry.example:5000/a/nginx:1", "1"),
        ("nginx@sha256:0123", ""),
        ("nginx:1@sha256:0123", "1"),
    ],
)
def test_image_tags(image: str, tag: str) -> None:
    assert image_tag(image) == tag


def test_defaults() -> None:
    obj = made(
        POD,
        pod(
            containers=[
                {
                    "name": "c",
                    "image": "nginx",
                    "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "0.1", "memory": "1024Mi"}},
                    "livenessProbe": {"httpGet": {"port": 80}},
                    "lifecycle": {"preStop": {"httpGet": {"port": 80}}},
                    "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                }
            ],
            volumes=[
                {"name": "a"},
                {"name": "b", "configMap": {"name": "m"}},
                {"name": "c", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
                {"name": "d", "hostPath": {"path": "/x"}},
            ],
        ),
    )
    assert obj["spec"] == {
        "containers": [
            {
                "name": "c",
                "image": "nginx",
                "imagePullPolicy": "Always",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {
                    "limits": {"cpu": "100m", "memory": "1Gi"},
                    "requests": {"cpu": "100m", "memory": "1Gi"},
                },
                "livenessProbe": {
                    "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                    "timeoutSeconds": 1,
                    "periodSeconds": 10,
                    "successThreshold": 1,
                    "failureThreshold": 3,
                },
                "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}}},
                "env": [
                    {
                        "name": "IP",
                        "valueFrom": {"fieldRef": {"fieldPath": "status.podIP", "apiVersion": "v1"}},
                    }
                ],
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "volumes": [
            {"name": "a", "emptyDir": {}},
            {"name": "b", "configMap": {"name": "m", "defaultMode": 420}},
            {
                "name": "c",
                "projected": {
                    "sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}],
                    "defaultMode": 420,
                },
            },
            {"name": "d", "hostPath": {"path": "/x", "type": ""}},
        ],
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {},
        "enableServiceLinks": True,
    }
    assert obj["status"] == {"phase": "Pending", "qosClass": "Guaranteed"}


def test_host_network_and_service_account_defaults() -> None:
    obj = made(POD, container(ports=[{"containerPort": 80}]) | {})
    assert "hostPort" not in obj["spec"]["containers"][0]["ports"][0]
    on_host = container(ports=[{"containerPort": 80}])
    on_host["spec"] |= {"hostNetwork": True, "serviceAccountName": "robot"}
    obj = made(POD, on_host)
    assert obj["spec"]["containers"][0]["ports"][0]["hostPort"] == 80
    assert obj["spec"]["serviceAccount"] == "robot"


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (pod(), []),
        (pod(containers=[]), ["spec.containers: Required value"]),
        (
            pod(containers=[{}]),
            ["spec.containers[0].name: Required value", "spec.containers[0].image: Required value"],
        ),
        (container(name="C"), [f'spec.containers[0].name: Invalid value: "C": {LABEL}']),
        (
            pod(containers=[{"name": "c", "image": "a"}] * 2),
            ['spec.containers[1].name: Duplicate value: "c"'],
        ),
        (
            container(image=" a"),
            ['spec.containers[0].image: Invalid value: " a": must not have leading or trailing whitespace'],
        ),
        (
            container(imagePullPolicy="Sometimes"),
            [
                'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: '
                '"Always", "IfNotPresent", "Never"'
            ],
        ),
        (
            container(ports=[{"containerPort": 0}, {"containerPort": 65536, "hostPort": -1}]),
            [
                "spec.containers[0].ports[0].containerPort: Required value",
                f"spec.containers[0].ports[1].containerPort: Invalid value: 65536: {PORT}",
                f"spec.containers[0].ports[1].hostPort: Invalid value: -1: {PORT}",
            ],
        ),
        (
            container(ports=[{"containerPort": 80, "name": "http"}, {"containerPort": 81, "name": "http"}]),
            ['spec.containers[0].ports[1].name: Duplicate value: "http"'],
        ),
        (
            container(ports=[{"containerPort": 80, "name": "a-very-long-port-name"}]),
            [
                'spec.containers[0].ports[0].name: Invalid value: "a-very-long-port-name": '
                "must be no more than 15 bytes"
            ],
        ),
        (
            container(ports=[{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]),
            ['spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80"'],
        ),
        (
            container(env=[{"name": ""}, {"name": "a=b"}, {"name": "1.A-b"}]),
            [
                "spec.containers[0].env[0].name: Required value",
                'spec.containers[0].env[1].name: Invalid value: "a=b": a valid environment variable name must '
                "consist only of printable ASCII characters other than '='",
            ],
        ),
        (
            container(
                env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
            ),
            [
                'spec.containers[0].env[0].valueFrom: Invalid value: "": '
                "may not be specified when `value` is not empty"
            ],
        ),
        (
            container(env=[{"name": "A", "valueFrom": {}}]),
            [
                'spec.containers[0].env[0].valueFrom: Invalid value: "": must specify one of: '
                "`fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            ],
        ),
        (
            container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]),
            [
                'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.nope": '
                "error converting fieldPath: field label not supported: spec.nope"
            ],
        ),
        (
            container(
                env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}]
            ),
            [],
        ),
        (
            container(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m"}}}]),
            ["spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Required value"],
        ),
        (
            container(envFrom=[{"prefix": "a=", "secretRef": {}}]),
            [
                'spec.containers[0].envFrom[0].prefix: Invalid value: "a=": a valid environment variable name '
                "must consist only of printable ASCII characters other than '='",
                "spec.containers[0].envFrom[0].secretRef.name: Required value",
            ],
        ),
        (
            container(volumeMounts=[{"name": "x", "mountPath": "/x"}]),
            ['spec.containers[0].volumeMounts[0].name: Not found: "x"'],
        ),
        (
            put(
                pod(volumes=[{"name": "v"}]),
                "spec.containers.0.volumeMounts",
                [{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x", "subPath": "../y"}],
            ),
            [
                'spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/x": must be unique',
                "spec.containers[0].volumeMounts.subPath: Invalid value: \"../y\": must not contain '..'",
            ],
        ),
        (
            container(livenessProbe={}),
            ["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        (
            container(livenessProbe={"exec": {}, "tcpSocket": {"port": 1}, "successThreshold": 2}),
            [
                "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                "spec.containers[0].livenessProbe.exec.command: Required value",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            container(readinessProbe={"httpGet": {"port": "no_port"}, "periodSeconds": -1}),
            [
                'spec.containers[0].readinessProbe.httpGet.port: Invalid value: "no_port": '
                "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                "spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: "
                "must be greater than or equal to 0",
            ],
        ),
        (
            container(lifecycle={"preStop": {"sleep": {"seconds": 31}}}),
            [
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: "
                "must be non-negative and less than terminationGracePeriodSeconds (30)"
            ],
        ),
        (
            container(resources={"requests": {"cpu": "2", "memory": "-1"}, "limits": {"cpu": "1"}}),
            [
                'spec.containers[0].resources.requests: Invalid value: "2": '
                "must be less than or equal to cpu limit of 1",
                'spec.containers[0].resources.requests[memory]: Invalid value: "-1": '
                "must be greater than or equal to 0",
            ],
        ),
        (
            container(resources={"limits": {"gpu": "1"}}),
            [
                'spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": '
                "must be a standard resource type or fully qualified",
                'spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": '
                "must be a standard resource for containers",
                'spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": '
                "must be a standard resource type or fully qualified",
                'spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": '
                "must be a standard resource for containers",
            ],
        ),
        (
            container(resources={"requests": {"example.com/gpu": "1"}}),
            [
                "spec.containers[0].resources.limits: Required value: "
                "Limit must be set for non overcommitable resources"
            ],
        ),
        (
            container(
                securityContext={"runAsUser": -1, "privileged": True, "allowPrivilegeEscalation": False}
            ),
            [
                "spec.containers[0].securityContext.runAsUser: Invalid value: -1: "
                "must be between 0 and 4294967295, inclusive",
                'spec.containers[0].securityContext: Invalid value: {"runAsUser":-1,"privileged":true,'
                '"allowPrivilegeEscalation":false}: cannot set `allowPrivilegeEscalation` to false and '
                "`privileged` to true",
            ],
        ),
        (
            container(restartPolicy="Always"),
            ["spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers"],
        ),
        (
            pod(initContainers=[{"name": "c", "image": "a", "livenessProbe": {"tcpSocket": {"port": 1}}}]),
            [
                'spec.initContainers[0].name: Duplicate value: "c"',
                "spec.initContainers[0].livenessProbe: Forbidden: "
                "may not be set for init containers without restartPolicy=Always",
            ],
        ),
        (
            pod(
                volumes=[
                    {"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}},
                    {"name": "v", "secret": {}},
                ]
            ),
            [
                "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
                "spec.volumes[1].secret.secretName: Required value",
            ],
        ),
        (
            pod(volumes=[{"name": "v"}, {"name": "v"}]),
            ['spec.volumes[1].name: Duplicate value: "v"'],
        ),
        (
            pod(
                volumes=[
                    {"name": "v", "configMap": {"name": "m", "defaultMode": 512, "items": [{"key": "a"}]}}
                ]
            ),
            [
                "spec.volumes[0].configMap.defaultMode: Invalid value: 512: "
                "must be a number between 0 and 0777 (octal), both inclusive",
                "spec.volumes[0].configMap.items[0].path: Required value",
            ],
        ),
        (
            pod(volumes=[{"name": "v", "hostPath": {"path": "/a/../b", "type": "Disk"}}]),
            [
                "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                'spec.volumes[0].hostPath.type: Unsupported value: "Disk": supported values: "", "BlockDevice", '
                '"CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"',
            ],
        ),
        (
            pod(
                volumes=[
                    {
                        "name": "v",
                        "projected": {
                            "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 60}}]
                        },
                    }
                ],
                serviceAccountName="a",
            ),
            [
                "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: "
                "Invalid value: 60: may not specify a duration less than 10 minutes"
            ],
        ),
        (
            pod(
                volumes=[
                    {
                        "name": "v",
                        "downwardAPI": {
                            "items": [{"path": "a"}, {"fieldRef": {"fieldPath": "metadata.labels"}}]
                        },
                    }
                ]
            ),
            [
                "spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
                "spec.volumes[0].downwardAPI.path: Required value",
            ],
        ),
        (
            pod(
                volumes=[
                    {
                        "name": "v",
                        "downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "status.podIP"}}]},
                    }
                ]
            ),
            [
                'spec.volumes[0].downwardAPI.fieldRef.fieldPath: Unsupported value: "status.podIP": supported values: '
                '"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"'
            ],
        ),
        (
            pod(
                volumes=[
                    {
                        "name": "v",
                        "projected": {
                            "sources": [
                                {
                                    "downwardAPI": {
                                        "items": [
                                            {
                                                "path": "a",
                                                "resourceFieldRef": {
                                                    "resource": "limits.cpu",
                                                    "divisor": "1k",
                                                },
                                            }
                                        ]
                                    }
                                },
                                {
                                    "configMap": {"items": [{"key": "k", "path": "a"}]},
                                    "secret": {"name": "s"},
                                },
                            ]
                        },
                    }
                ]
            ),
            [
                "spec.volumes[0].projected.sources[0].downwardAPI.resourceFieldRef.containerName: Required value",
                'spec.volumes[0].projected.sources[0].downwardAPI.resourceFieldRef.divisor: Invalid value: "limits.cpu": '
                "only divisor's values 1m and 1 are supported with the cpu resource",
                "spec.volumes[0].projected.sources[1].configMap.name: Required value",
                'spec.volumes[0].projected: Invalid value: "": conflicting duplicate paths',
                "spec.volumes[0].projected.sources[1]: Forbidden: may not specify more than 1 volume type per source",
            ],
        ),
        (
            pod(
                volumes=[
                    {"name": "v", "image": {}},
                    {"name": "w", "image": {"reference": "a", "pullPolicy": "x"}},
                ]
            ),
            [
                "spec.volumes[0].image.reference: Required value",
                'spec.volumes[1].image.pullPolicy: Unsupported value: "x": supported values: "Always", "IfNotPresent", "Never"',
            ],
        ),
        (
            pod(
                affinity={
                    "nodeAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {
                                "weight": 0,
                                "preference": {
                                    "matchFields": [
                                        {"key": "metadata.name", "operator": "In", "values": ["A"]},
                                        {"key": "metadata.uid", "operator": "Gt"},
                                    ]
                                },
                            },
                        ]
                    }
                }
            ),
            [
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: "
                "must be in the range 1-100",
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0]."
                f'values[0]: Invalid value: "A": {SUBDOMAIN}',
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[1]."
                'operator: Invalid value: "Gt": not a valid selector operator',
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[1]."
                'key: Invalid value: "metadata.uid": not a valid field selector key',
            ],
        ),
        (
            pod(restartPolicy="Sometimes"),
            [
                'spec.restartPolicy: Unsupported value: "Sometimes": supported values: '
                '"Always", "OnFailure", "Never"'
            ],
        ),
        (
            pod(dnsPolicy="None"),
            ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            pod(dnsPolicy="Mine", dnsConfig={"nameservers": ["a"], "searches": ["_a.b", "A"]}),
            [
                'spec.dnsPolicy: Unsupported value: "Mine": supported values: '
                '"ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"',
                'spec.dnsConfig.nameservers[0]: Invalid value: "a": '
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                'spec.dnsConfig.searches[1]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of '
                "lower case alphanumeric characters, '_', '-' or '.', and must start and end with an "
                "alphanumeric character (e.g. 'example.com', regex used for validation is "
                r"'_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
        (
            pod(tolerations=[{"operator": "Equal"}, {"key": "a", "operator": "Near", "effect": "Go"}]),
            [
                'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is '
                'empty, which means "match all values and all keys"',
                'spec.tolerations[1].operator: Unsupported value: "Near": supported values: "Equal", "Exists"',
                'spec.tolerations[1].effect: Unsupported value: "Go": supported values: '
                '"NoSchedule", "PreferNoSchedule", "NoExecute"',
            ],
        ),
        (
            pod(
                affinity={
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}
                    },
                    "podAntiAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a/b"}]
                    },
                }
            ),
            [
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: "
                "Required value: must have at least one node selector term"
            ],
        ),
        (
            pod(topologySpreadConstraints=[{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "x"}]),
            [
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
                'spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "x": '
                'supported values: "DoNotSchedule", "ScheduleAnyway"',
            ],
        ),
        (
            pod(hostAliases=[{"ip": "1.2", "hostnames": ["a.b"]}], hostname="a.b"),
            [
                'spec.hostname: Invalid value: "a.b": must not contain dots',
                'spec.hostAliases[0].ip: Invalid value: "1.2": '
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
        (
            pod(activeDeadlineSeconds=0),
            ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        ),
        (
            pod(
                hostNetwork=True,
                containers=[{"name": "c", "image": "a", "ports": [{"containerPort": 1, "hostPort": 2}]}],
            ),
            [
                "spec.containers[0].ports[0].hostPort: Invalid value: 2: "
                "must match `containerPort` when `hostNetwork` is true"
            ],
        ),
        (
            pod(ephemeralContainers=[{"name": "e", "image": "a"}]),
            ["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
        (
            pod(nodeName="n", schedulingGates=[{"name": "a.example/b"}]),
            ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
        ),
        (
            pod(
                securityContext={"sysctls": [{"name": "net.ipv4.ip_forward"}, {"name": "A"}]},
                hostNetwork=True,
            ),
            [
                'spec.securityContext.sysctls[0].name: Invalid value: "net.ipv4.ip_forward": '
                "may not be specified when 'hostNetwork' is true",
                'spec.securityContext.sysctls[1].name: Invalid value: "A": must have at most 253 characters and '
                r"match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            ],
        ),
    ],
)
def test_faults(obj: Object, expected: list[str]) -> None:
    assert faults(POD, obj) == expected


UPDATABLE = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("spec.containers.0.image", "nginx:2", []),
        ("spec.tolerations", [{"operator": "Exists"}], []),
        ("spec.activeDeadlineSeconds", 10, []),
        ("spec.hostNetwork", False, []),
        ("spec.nodeName", "other", [UPDATABLE]),
        ("spec.containers.0.command", ["a"], [UPDATABLE]),
        (
            "spec.containers",
            [],
            [
                "spec.containers: Required value",
                "spec.containers: Forbidden: pod updates may not add or remove containers",
            ],
        ),
        (
            "spec.schedulingGates",
            [{"name": "a.example/b"}],
            [
                "spec.schedulingGates[0].name: Forbidden: "
                "only deletion is allowed, but found new scheduling gate 'a.example/b'",
            ],
        ),
        ("metadata.name", "other", ['metadata.name: Invalid value: "other": field is immutable']),
    ],
)
def test_updates(path: str, value: Any, expected: list[str]) -> None:
    old = made(POD, pod(nodeName="node-1"))
    found = faults(POD, put(old, path, value), old)
    assert [each.partition(",`spec.init")[0] for each in found] == expected


def test_the_refusal_of_an_update_shows_what_changed() -> None:
    old = made(POD, pod(nodeName="node-1"))
    (fault,) = faults(POD, put(old, "spec.nodeName", "node-2"), old)
    assert fault.endswith("\n- nodeName: 'node-1'\n+ nodeName: 'node-2'")
    (fault,) = faults(POD, put(old, "spec.containers.0.ports", [{"containerPort": 1}]), old)
    assert fault.partition("\n")[2] == (
        "- containers[0].ports: None\n+ containers[0].ports: [{'containerPort': 1, 'protocol': 'TCP'}]"
    )


def test_tolerations_are_only_added() -> None:
    old = made(
        POD,
        pod(tolerations=[{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]),
    )
    assert faults(POD, put(old, "spec.tolerations.0.tolerationSeconds", 9), old) == []
    assert faults(POD, put(old, "spec.tolerations", []), old) == [
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
    ]


def test_gated_pods_may_be_narrowed_down() -> None:
    old = made(POD, pod(schedulingGates=[{"name": "a.example/b"}], nodeSelector={"a": "b"}))
    assert faults(POD, put(old, "spec.nodeSelector.c", "d"), old) == []
    assert faults(POD, put(old, "spec.nodeSelector", {"c": "d"}), old) == [
        'spec.nodeSelector: Invalid value: {"c":"d"}: '
        "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
    ]
    assert faults(POD, put(old, "spec.schedulingGates", []), old) == []


def status_faults(old: Object, **status: Any) -> list[str]:
    assert POD.validate_status is not None
    return [str(error) for error in POD.validate_status({**old, "status": {**old["status"], **status}}, old)]


def test_status() -> None:
    old = made(POD, pod(restartPolicy="Never"))
    old["status"]["containerStatuses"] = [{"name": "c", "state": {"terminated": {"exitCode": 1}}}]
    assert status_faults(old, phase="Failed") == []
    assert status_faults(old, qosClass="Guaranteed") == [
        'status.qosClass: Invalid value: "Guaranteed": field is immutable'
    ]
    assert status_faults(old, containerStatuses=[{"name": "c", "state": {"running": {}}}]) == [
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    ]
    assert status_faults(old, nominatedNodeName="node-1") == []
    assert status_faults(old, nominatedNodeName="A") == [
        f'status.nominatedNodeName: Invalid value: "A": {SUBDOMAIN}'
    ]
    assert status_faults(old, podIPs=[{"ip": "x"}]) == [
        'status.podIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
    ]
    assert status_faults(old, hostIP="1.2.3.4", hostIPs=[{"ip": "1.2.3.5"}]) == [
        'status.hostIPs[0].ip: Invalid value: "1.2.3.5": must be equal to `hostIP`'
    ]
    assert status_faults(old, podIPs=[{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]) == [
        'status.podIPs: Invalid value: [{"IP":"10.0.0.1"},{"IP":"10.0.0.2"}]: '
        "may specify no more than one IP for each IP family"
    ]


def state(ready: bool = True, restarts: int = 0, last: str = "", **state: Any) -> Object:
    status: Object = {"name": "c", "ready": ready, "restartCount": restarts, "state": state}
    if last:
        status["lastState"] = {"terminated": {"finishedAt": last}}
    return status


RUNNING: Object = {"running": {}}


@pytest.mark.parametrize(
    ("spec", "status", "deleted", "cells"),
    [
        ({}, {"phase": "Pending"}, False, ["0/1", "Pending", "0"]),
        (
            {},
            {"phase": "Running", "containerStatuses": [state(running={})]},
            False,
            ["1/1", "Running", "0"],
        ),
        (
            {},
            {
                "phase": "Pending",
                "containerStatuses": [state(False, waiting={"reason": "ContainerCreating"})],
            },
            False,
            ["0/1", "ContainerCreating", "0"],
        ),
        (
            {},
            {
                "phase": "Running",
                "containerStatuses": [state(False, 4, waiting={"reason": "CrashLoopBackOff"})],
            },
            False,
            ["0/1", "CrashLoopBackOff", "4"],
        ),
        (
            {},
            {"phase": "Succeeded", "containerStatuses": [state(False, terminated={"reason": "Completed"})]},
            False,
            ["0/1", "Completed", "0"],
        ),
        (
            {},
            {"phase": "Failed", "containerStatuses": [state(False, terminated={"exitCode": 3})]},
            False,
            ["0/1", "ExitCode:3", "0"],
        ),
        (
            {},
            {
                "phase": "Failed",
                "containerStatuses": [state(False, terminated={"exitCode": 137, "signal": 9})],
            },
            False,
            ["0/1", "Signal:9", "0"],
        ),
        (
            {},
            {"phase": "Running", "containerStatuses": [state(running={})]},
            True,
            ["1/1", "Terminating", "0"],
        ),
        ({}, {"phase": "Running", "reason": "NodeLost"}, True, ["0/1", "Unknown", "0"]),
        ({}, {"phase": "Failed", "reason": "Evicted"}, False, ["0/1", "Evicted", "0"]),
        (
            {"initContainers": [{"name": "i", "image": "a"}, {"name": "j", "image": "a"}]},
            {
                "phase": "Pending",
                "initContainerStatuses": [
                    {"name": "i", "state": {"terminated": {"exitCode": 0}}},
                    {"name": "j", "restartCount": 2, "state": {"running": {}}},
                ],
                "containerStatuses": [state(False, waiting={"reason": "PodInitializing"})],
            },
            False,
            ["0/1", "Init:1/2", "2"],
        ),
        (
            {"initContainers": [{"name": "i", "image": "a"}]},
            {
                "phase": "Pending",
                "initContainerStatuses": [
                    {"name": "i", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
                ],
            },
            False,
            ["0/1", "Init:CrashLoopBackOff", "0"],
        ),
        (
            {"initContainers": [{"name": "i", "image": "a"}]},
            {
                "phase": "Pending",
                "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1}}}],
            },
            False,
            ["0/1", "Init:ExitCode:1", "0"],
        ),
        (
            {"initContainers": [{"name": "s", "image": "a", "restartPolicy": "Always"}]},
            {
                "phase": "Running",
                "initContainerStatuses": [
                    {"name": "s", "started": True, "ready": True, "restartCount": 1, "state": RUNNING}
                ],
                "containerStatuses": [state(running={})],
            },
            False,
            ["2/2", "Running", "1"],
        ),
        (
            {"schedulingGates": [{"name": "a"}]},
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]},
            False,
            ["0/1", "SchedulingGated", "0"],
        ),
    ],
)
def test_columns(spec: Object, status: Object, deleted: bool, cells: list[str]) -> None:
    obj = {**pod(**spec), "status": status}
    if deleted:
        obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    shown = {column.name: column.value(obj) for column in POD.columns}
    assert [shown[name] for name in ("Ready", "Status", "Restarts")] == cells


def test_the_last_restart() -> None:
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5, seconds=1)
    last = meta.format_time(moment)
    obj = {**pod(), "status": {"containerStatuses": [state(restarts=3, last=last, running={})]}}
    assert next(c for c in POD.columns if c.name == "Restarts").value(obj) in ("3 (5m1s ago)", "3 (5m2s ago)")


def test_wide_columns() -> None:
    obj = pod(nodeName="node-1", readinessGates=[{"conditionType": "a"}, {"conditionType": "b"}])
    obj["status"] = {
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [{"type": "a", "status": "True"}],
    }
    wide = {column.name: column.value(obj) for column in POD.columns if column.wide}
    assert wide == {"IP": "10.0.0.1", "Node": "node-1", "Nominated Node": "<none>", "Readiness Gates": "1/2"}
    bare = {column.name: column.value(pod()) for column in POD.columns if column.wide}
    assert set(bare.values()) == {"<none>"}


def test_defaulting_twice_changes_nothing() -> None:
    once = made(POD, container(resources={"limits": {"cpu": "0.5"}}))
    twice = copy.deepcopy(once)
    POD.default(twice)
    assert twice == once
