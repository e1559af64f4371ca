"""A Pod's status from what the runtime has, as tables; and the patch that carries it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api.meta import Object
from buoy.api.models import core_v1
from buoy.api.schema import struct_of
from buoy.api.strategic import merge
from buoy.kubelet.runtime import Container, PodRuntime, Sandbox
from buoy.kubelet.status import Facts, Verdict, Waiting, phase, pod_status, status_patch, timestamp

NOW = "2026-01-01T00:00:00Z"
SECOND = 10**9


def pod(*names: str, init: tuple[Object, ...] = (), status: Object | None = None, **spec: Any) -> Object:
    return {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 3},
        "spec": {
            "containers": [{"name": name, "image": "i"} for name in names],
            "initContainers": list(init),
            **spec,
        },
        "status": status or {},
    }


def ran(name: str, state: str = "running", code: int = 0, **fields: Any) -> Container:
    return Container(
        f"id-{name}", name, "s0", state, image="i", image_ref="sha256:1", started_at=SECOND,  # type: ignore[arg-type]
        finished_at=2 * SECOND if state == "exited" else 0, exit_code=code, **fields,
    )  # fmt: skip


def facts(*containers: Container, ready: bool = True, **more: Any) -> Facts:
    sandbox = Sandbox("s0", 0, ready, 1, ("10.244.0.2",) if ready else ())
    return Facts(PodRuntime("u", "p", "ns", (sandbox,), containers), ("192.168.1.80",), now=NOW, **more)


def conditions(status: Object) -> dict[str, str]:
    return {
        c["type"]: c["status"] + (f" {c['reason']}" if c.get("reason") else "") for c in status["conditions"]
    }


def test_a_pod_that_runs() -> None:
    status = pod_status(pod("a"), facts(ran("a")))
    assert status["phase"] == "Running"
    assert status["podIP"] == "10.244.0.2"
    assert status["podIPs"] == [{"ip": "10.244.0.2"}]
    assert status["hostIPs"] == [{"ip": "192.168.1.80"}]
    assert status["observedGeneration"] == 3
    assert set(conditions(status).values()) == {"True"}
    (container,) = status["containerStatuses"]
    assert container == {
        "name": "a",
        "image": "i",
        "imageID": "sha256:1",
        "containerID": "containerd://id-a",
        "lastState": {},
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": "1970-01-01T00:00:01Z"}},
    }


def test_nothing_yet() -> None:
    status = pod_status(pod("a", init=({"name": "i", "image": "i"},)), Facts(PodRuntime("u"), now=NOW))
    assert status["phase"] == "Pending"
    assert status["startTime"] == NOW
    assert [s["state"] for s in status["containerStatuses"]] == [{"waiting": {"reason": "PodInitializing"}}]
    assert conditions(status) == {
        "PodReadyToStartContainers": "False",
        "Initialized": "False ContainersNotInitialized",
        "Ready": "False ContainersNotReady",
        "ContainersReady": "False ContainersNotReady",
        "PodScheduled": "True",
    }
    messages = [c.get("message") for c in status["conditions"]]
    assert messages[1] == "containers with incomplete status: [i]"
    assert messages[2] == "containers with unready status: [a]"


@pytest.mark.parametrize(
    ("policy", "containers", "init", "expected"),
    [
        ("Always", [ran("a")], None, "Running"),
        ("Always", [ran("a", "exited", 1)], None, "Running"),
        ("OnFailure", [ran("a", "exited", 1)], None, "Running"),
        ("OnFailure", [ran("a", "exited")], None, "Succeeded"),
        ("Never", [ran("a", "exited", 1)], None, "Failed"),
        ("Never", [ran("a", "exited")], None, "Succeeded"),
        ("Always", [ran("a", "created")], None, "Pending"),
        ("Always", [], None, "Pending"),
        ("Always", [], ran("i"), "Pending"),
        ("Always", [], ran("i", "exited"), "Pending"),
        ("OnFailure", [], ran("i", "exited", 1), "Pending"),
        ("Never", [], ran("i", "exited", 1), "Failed"),
        ("Always", [ran("a")], ran("i", "exited"), "Running"),
    ],
)
def test_phases(policy: str, containers: list[Container], init: Container | None, expected: str) -> None:
    inits: tuple[Object, ...] = ({"name": "i", "image": "i"},) if init else ()
    observed = facts(*containers, *([init] if init else []))
    assert pod_status(pod("a", init=inits, restartPolicy=policy), observed)["phase"] == expected


def test_a_finished_pod_stays_finished() -> None:
    done = pod("a", status={"phase": "Succeeded"})
    assert phase(done, [], []) == "Succeeded"


def test_two_containers_of_which_one_has_ended() -> None:
    subject = pod("a", "b", restartPolicy="Never")
    status = pod_status(subject, facts(ran("a", "exited"), ran("b")))
    assert status["phase"] == "Running"
    assert conditions(status)["Ready"] == "False ContainersNotReady"


def test_a_crash_looping_container_waits_with_its_last_state() -> None:
    crashed = ran("a", "exited", 7, restart_count=2, message="words")
    status = pod_status(pod("a"), facts(crashed, problems={"a": Waiting("CrashLoopBackOff", "back-off 10s")}))
    (container,) = status["containerStatuses"]
    assert container["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert container["lastState"]["terminated"] == {
        "exitCode": 7,
        "reason": "Error",
        "message": "words",
        "startedAt": "1970-01-01T00:00:01Z",
        "finishedAt": "1970-01-01T00:00:02Z",
        "containerID": "containerd://id-a",
    }
    assert container["restartCount"] == 2
    assert status["phase"] == "Running"


def test_a_restarted_container_remembers_the_one_before() -> None:
    before = Container("id-0", "a", "s0", "exited", exit_code=137, started_at=SECOND, finished_at=SECOND)
    status = pod_status(pod("a"), facts(ran("a", restart_count=1), before, oom_killed=frozenset(["id-0"])))
    assert status["containerStatuses"][0]["lastState"]["terminated"]["reason"] == "OOMKilled"


@pytest.mark.parametrize(
    ("ready", "started", "expected"),
    [
        ({}, {}, (True, True)),
        ({"id-a": False}, {}, (False, True)),
        ({"id-a": True}, {}, (True, True)),
        ({"id-a": True}, {"id-a": None}, (False, False)),
        ({"id-a": True}, {"id-a": True}, (True, True)),
    ],
)
def test_probes_decide(ready: dict[str, bool], started: dict[str, bool], expected: tuple[bool, bool]) -> None:
    status = pod_status(
        pod("a"),
        facts(ran("a"), ready=True)
        if not (ready or started)
        else Facts(facts(ran("a")).runtime, ready=ready, started=started, now=NOW),
    )
    (container,) = status["containerStatuses"]
    assert (container["ready"], container["started"]) == expected


def test_a_deleted_pod_that_never_started_has_failed() -> None:
    status = pod_status(pod("a"), Facts(PodRuntime("u"), terminated=True, now=NOW))
    assert status["phase"] == "Failed"


def test_a_deleted_pod_that_ended_well_has_succeeded() -> None:
    assert (
        pod_status(pod("a"), facts(ran("a", "exited"), ready=False, terminated=True))["phase"] == "Succeeded"
    )


def test_a_verdict_waits_for_the_containers_to_end() -> None:
    verdict = Verdict("DeadlineExceeded", "too long")
    assert pod_status(pod("a"), facts(ran("a"), verdict=verdict))["phase"] == "Running"
    status = pod_status(pod("a"), facts(ran("a", "exited"), verdict=verdict, terminated=True))
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


def test_a_pod_that_was_rejected_has_no_containers() -> None:
    verdict = Verdict("NodePorts", "no room", rejected=True)
    status = pod_status(pod("a", init=({"name": "i", "image": "i"},)), facts(ready=False, verdict=verdict))
    assert (status["phase"], status["reason"]) == ("Failed", "NodePorts")
    assert status["message"] == "Pod was rejected: no room"
    assert not {"containerStatuses", "initContainerStatuses"} & status.keys()


def test_an_address_outlives_its_sandbox() -> None:
    old = {"podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}]}
    status = pod_status(pod("a", status=old), facts(ran("a", "exited"), ready=False))
    assert status["podIP"] == "10.244.0.9"


def test_the_host_network_has_the_host_addresses() -> None:
    sandbox = Sandbox("s0", 0, True, 1, (), True)
    given_facts = Facts(
        PodRuntime("u", "p", "ns", (sandbox,), (ran("a"),)), ("192.168.1.80", "fd00::1"), now=NOW
    )
    status = pod_status(pod("a", hostNetwork=True), given_facts)
    assert status["podIPs"] == [{"ip": "192.168.1.80"}, {"ip": "fd00::1"}]
    assert conditions(status)["PodReadyToStartContainers"] == "True"


@pytest.mark.parametrize(
    ("host_ips", "runtime_ips", "pod_ips"),
    [
        (("192.168.1.80",), ("10.244.0.2",), ["10.244.0.2"]),
        (("192.168.1.80", "fd00::80"), ("10.244.0.2", "fd01::2"), ["10.244.0.2", "fd01::2"]),
        (("fd00::80", "192.168.1.80"), ("10.244.0.2", "fd01::2"), ["fd01::2", "10.244.0.2"]),
        (("192.168.1.80",), ("fd01::2", "fd01::3", "10.244.0.2", "10.244.0.3"), ["10.244.0.2", "fd01::2"]),
        (("fd00::80",), ("fd01::2",), ["fd01::2"]),
        ((), ("fd01::2",), ["fd01::2"]),
    ],
)
def test_the_nodes_primary_family_comes_first(
    host_ips: tuple[str, ...], runtime_ips: tuple[str, ...], pod_ips: list[str]
) -> None:
    sandbox = Sandbox("s0", 0, True, 1, runtime_ips)
    status = pod_status(
        pod("a"), Facts(PodRuntime("u", "p", "ns", (sandbox,), (ran("a"),)), host_ips, now=NOW)
    )
    assert status["podIP"] == pod_ips[0]
    assert [each["ip"] for each in status["podIPs"]] == pod_ips


@pytest.mark.parametrize(
    ("given_status", "ready"),
    [(None, "False ReadinessGatesNotReady"), ("False", "False ReadinessGatesNotReady"), ("True", "True")],
)
def test_readiness_gates(given_status: str | None, ready: str) -> None:
    old = {"conditions": [{"type": "gate", "status": given_status}]} if given_status else {}
    subject = pod("a", readinessGates=[{"conditionType": "gate"}], status=old)
    assert conditions(pod_status(subject, facts(ran("a"))))["Ready"] == ready


def test_a_transition_keeps_its_time() -> None:
    first = pod_status(pod("a"), facts(ran("a")))
    later = Facts(
        **{**{f: getattr(facts(ran("a")), f) for f in Facts.__slots__}, "now": "2027-01-01T00:00:00Z"}
    )
    again = pod_status(pod("a", status=first), later)
    assert again == first


def test_a_patch_says_only_what_changed() -> None:
    first = pod_status(pod("a"), facts())
    subject = pod("a", status=first)
    assert status_patch(subject, first) is None
    second = pod_status(subject, facts(ran("a")))
    patch = status_patch(subject, second)
    assert patch is not None
    assert patch["metadata"] == {"uid": "u"}
    assert set(patch["status"]) == {"phase", "containerStatuses", "conditions"}
    assert [c["type"] for c in patch["status"]["conditions"]] == ["Ready", "ContainersReady"]


containers = st.sampled_from([
    (), (ran("a"),), (ran("a", "created"),), (ran("a", "exited"),), (ran("a", "exited", 1), ),
    (ran("a", restart_count=1), Container("id-0", "a", "s0", "exited", exit_code=1)),
])  # fmt: skip
problems = st.sampled_from([{}, {"a": Waiting("CrashLoopBackOff", "x")}, {"a": Waiting("ErrImagePull", "y")}])


@given(st.lists(st.tuples(containers, problems, st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_patches_lead_where_they_should_and_leave_others_conditions(
    rounds: list[tuple[tuple[Container, ...], dict[str, Waiting], bool, bool]],
) -> None:
    foreign = {"type": "example.org/mine", "status": "True", "reason": "Because"}
    subject = pod("a", status={"conditions": [foreign], "resourceClaimStatuses": [{"name": "kept"}]})
    struct = struct_of(core_v1.Pod)
    for running, problem, alive, ready in rounds:
        observed = facts(*running, ready=alive, problems=problem)
        wanted = pod_status(
            subject, Facts(**{**{f: getattr(observed, f) for f in Facts.__slots__}, "ready": {"id-a": ready}})
        )
        patch = status_patch(subject, wanted)
        if patch is not None:
            subject = merge(subject, patch, struct)
        assert status_patch(subject, wanted) is None
        assert foreign in subject["status"]["conditions"]
        assert subject["status"]["resourceClaimStatuses"] == [{"name": "kept"}]
        assert subject["status"]["podIPs"] == wanted["podIPs"] if wanted.get("podIPs") else True


def test_never_is_no_time() -> None:
    assert timestamp(0) is None
    assert timestamp(1_700_000_000 * SECOND) == "2023-11-14T22:13:20Z"
