# ruff: noqa: E501 - whole sentences are easier to compare

from typing import Any

import pytest

from buoy.api.apps import CONTROLLER_REVISION, DAEMON_SET, DEPLOYMENT, REPLICA_SET, STATEFUL_SET
from buoy.api.batch import JOB
from buoy.api.kind import Kind
from buoy.api.meta import Object

from .kinds import faults, made, put

TEMPLATE: Object = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
}
POD = {
    "containers": [
        {
            "name": "c",
            "image": "nginx:1",
            "imagePullPolicy": "IfNotPresent",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }
    ],
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "terminationGracePeriodSeconds": 30,
    "securityContext": {},
}


def workload(**spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE, **spec},
    }


SELECTOR = {"matchLabels": {"app": "web"}}
FULL_TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": POD}


@pytest.mark.parametrize(
    ("kind", "spec", "status"),
    [
        (
            DEPLOYMENT,
            {
                "replicas": 1,
                "selector": SELECTOR,
                "template": FULL_TEMPLATE,
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
                },
                "revisionHistoryLimit": 10,
                "progressDeadlineSeconds": 600,
            },
            {},
        ),
        (REPLICA_SET, {"replicas": 1, "selector": SELECTOR, "template": FULL_TEMPLATE}, {"replicas": 0}),
        (
            STATEFUL_SET,
            {
                "replicas": 1,
                "selector": SELECTOR,
                "template": FULL_TEMPLATE,
                "podManagementPolicy": "OrderedReady",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
                "revisionHistoryLimit": 10,
            },
            {"replicas": 0, "availableReplicas": 0},
        ),
        (
            DAEMON_SET,
            {
                "selector": SELECTOR,
                "template": FULL_TEMPLATE,
                "updateStrategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
                },
                "revisionHistoryLimit": 10,
            },
            {
                "currentNumberScheduled": 0,
                "desiredNumberScheduled": 0,
                "numberMisscheduled": 0,
                "numberReady": 0,
            },
        ),
    ],
)
def test_defaults(kind: Kind, spec: Object, status: Object) -> None:
    obj = made(kind, workload())
    assert obj["spec"] == spec
    assert obj["status"] == status
    assert faults(kind, workload()) == []


def test_recreate_has_no_rolling_update() -> None:
    assert made(DEPLOYMENT, workload(strategy={"type": "Recreate"}))["spec"]["strategy"] == {
        "type": "Recreate"
    }


MISMATCH = (
    'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'
)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"selector": None}, ["spec.selector: Required value", MISMATCH]),
        ({"selector": {}}, ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]),
        ({"selector": {"matchLabels": {"app": "x"}}}, [MISMATCH]),
        (
            {"selector": {"matchExpressions": [{"key": "app", "operator": "Is"}]}},
            [
                'spec.selector.matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator',
                'spec.selector: Invalid value: {"matchExpressions":[{"key":"app","operator":"Is"}]}: invalid label selector',
            ],
        ),
        (
            {"template": {"spec": {"containers": [{"name": "c", "image": "a"}]}}},
            [
                "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`"
            ],
        ),
        ({"replicas": -1}, ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
        (
            {"strategy": {"type": "Recreate", "rollingUpdate": {}}},
            [
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
            ],
        ),
        (
            {"strategy": {"type": "Slow"}},
            [
                'spec.strategy: Unsupported value: {"Type":"Slow","RollingUpdate":null}: supported values: "Recreate", "RollingUpdate"'
            ],
        ),
        (
            {"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}},
            [
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"
            ],
        ),
        (
            {"strategy": {"rollingUpdate": {"maxUnavailable": "150%", "maxSurge": "lots"}}},
            [
                'spec.strategy.rollingUpdate.maxSurge: Invalid value: "lots": a valid percent string must be a '
                "numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%',
            ],
        ),
        (
            {"progressDeadlineSeconds": 5, "minReadySeconds": 5},
            ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
        ),
        (
            {
                "template": {
                    **TEMPLATE,
                    "spec": {**TEMPLATE["spec"], "restartPolicy": "Never", "activeDeadlineSeconds": 5},
                }
            },
            [
                'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
            ],
        ),
        (
            {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}},
            ["spec.template.spec.containers[0].image: Required value"],
        ),
        (
            {"template": {**TEMPLATE, "metadata": {"labels": {"app": "web"}, "annotations": {"a b": ""}}}},
            [
                'spec.template.annotations: Invalid value: "a b": name part must consist of alphanumeric characters, '
                "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  "
                "or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ],
        ),
    ],
)
def test_deployment_faults(spec: Object, expected: list[str]) -> None:
    assert faults(DEPLOYMENT, workload(**spec)) == expected


@pytest.mark.parametrize("kind", [DEPLOYMENT, REPLICA_SET, DAEMON_SET])
def test_the_selector_stays(kind: Kind) -> None:
    old = made(kind, workload())
    new = put(old, "spec.selector.matchLabels", {"app": "x"})
    assert 'spec.selector: Invalid value: {"matchLabels":{"app":"x"}}: field is immutable' in faults(
        kind, new, old
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"replicas": 2, "readyReplicas": 2, "availableReplicas": 1, "updatedReplicas": 2}, []),
        (
            {"replicas": 1, "readyReplicas": 2},
            ["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"],
        ),
        (
            {"replicas": 2, "availableReplicas": 1},
            ["status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas"],
        ),
        (
            {"observedGeneration": -1},
            ["status.observedGeneration: Invalid value: -1: must be greater than or equal to 0"],
        ),
    ],
)
def test_deployment_status(status: Object, expected: list[str]) -> None:
    old = made(DEPLOYMENT, workload())
    assert DEPLOYMENT.validate_status is not None
    assert [str(error) for error in DEPLOYMENT.validate_status({**old, "status": status}, old)] == expected


def test_stateful_set() -> None:
    old = made(STATEFUL_SET, workload(serviceName="web"))
    assert faults(STATEFUL_SET, put(old, "spec.replicas", 3), old) == []
    assert faults(STATEFUL_SET, put(old, "spec.serviceName", "other"), old) == [
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
        "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    ]
    assert faults(
        STATEFUL_SET,
        workload(podManagementPolicy="Any", updateStrategy={"type": "OnDelete", "rollingUpdate": {}}),
    ) == [
        "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'",
        "spec.updateStrategy.rollingUpdate: Invalid value: {}: only allowed for updateStrategy 'RollingUpdate'",
    ]


def test_daemon_set() -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}}
    assert faults(DAEMON_SET, workload(updateStrategy=rolling)) == [
        "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"
    ]
    assert faults(DAEMON_SET, workload(updateStrategy={"rollingUpdate": {"maxUnavailable": 0}})) == [
        "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"
    ]


def job(**spec: Any) -> Object:
    template = {"spec": {"containers": [{"name": "c", "image": "a:1"}], "restartPolicy": "Never"}}
    return {"metadata": {"name": "j", "uid": "u-1"}, "spec": {"template": template, **spec}}


def test_job() -> None:
    obj = made(JOB, job())
    spec = obj["spec"]
    assert {
        key: spec[key] for key in ("completions", "parallelism", "backoffLimit", "completionMode", "suspend")
    } == {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "suspend": False,
    }
    assert spec["podReplacementPolicy"] == "TerminatingOrFailed"
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}
    assert spec["template"]["metadata"]["labels"] == {
        "job-name": "j",
        "batch.kubernetes.io/job-name": "j",
        "controller-uid": "u-1",
        "batch.kubernetes.io/controller-uid": "u-1",
    }
    assert faults(JOB, job()) == []
    always = put(job(), "spec.template.spec.restartPolicy", ...)
    assert faults(JOB, always) == [
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    ]
    assert faults(JOB, put(obj, "spec.template.spec.containers.0.image", "b:1"), obj)[0].endswith(
        "field is immutable"
    )
    assert faults(JOB, job(completionMode="Indexed", parallelism=1)) == [
        "spec.completions: Required value: when completion mode is Indexed"
    ]


def test_revision() -> None:
    revision = {"data": {"spec": 1}, "revision": 1}
    assert faults(CONTROLLER_REVISION, revision) == []
    assert faults(CONTROLLER_REVISION, {"revision": -1}) == [
        "data: Required value: data is mandatory",
        "revision: Invalid value: -1: must be greater than or equal to 0",
    ]
    old = made(CONTROLLER_REVISION, revision)
    assert faults(CONTROLLER_REVISION, {**revision, "data": {}}, old) == [
        "data: Invalid value: {}: field is immutable"
    ]


def cells(kind: Kind, obj: Object) -> list[Any]:
    return [column.value(obj) for column in kind.columns if column.name != "Age"]


def test_columns() -> None:
    deployment = made(DEPLOYMENT, workload(replicas=3))
    deployment["status"] = {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2}
    assert cells(DEPLOYMENT, deployment) == ["web", "2/3", 3, 2, "c", "nginx:1", "app=web"]
    assert cells(REPLICA_SET, made(REPLICA_SET, workload(replicas=2))) == [
        "web",
        2,
        0,
        0,
        "c",
        "nginx:1",
        "app=web",
    ]
    assert cells(STATEFUL_SET, made(STATEFUL_SET, workload())) == ["web", "0/1", "c", "nginx:1"]
    assert cells(DAEMON_SET, made(DAEMON_SET, workload())) == [
        "web",
        0,
        0,
        0,
        0,
        0,
        "<none>",
        "c",
        "nginx:1",
        "app=web",
    ]
    done = made(JOB, job())
    done["status"] = {
        "succeeded": 1,
        "startTime": "2026-01-01T00:00:00Z",
        "completionTime": "2026-01-01T00:02:05Z",
        "conditions": [{"type": "Complete", "status": "True"}],
    }
    assert cells(JOB, done)[:4] == ["j", "Complete", "1/1", "2m5s"]
    assert cells(JOB, made(JOB, job(parallelism=3)))[1:4] == ["Running", "0/1 of 3", ""]
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": True}
    revision = {"metadata": {"name": "r", "ownerReferences": [owner]}, "revision": 4}
    assert cells(CONTROLLER_REVISION, revision) == ["r", "daemonset.apps/d", 4]
