"""What to do next for a Pod, as tables; and that doing it leads to an end, whatever happens on the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buoy.api.meta import Object
from buoy.kubelet.plan import Kill, Plan, Verdicts, crash_holds, plan, restarts_after, termination_order
from buoy.kubelet.pod import container_hash
from buoy.kubelet.runtime import Container, PodRuntime, Sandbox

SANDBOX = Sandbox("s0", 0, True, 1, ("10.244.0.2",))


def pod(*names: str, init: tuple[Object, ...] = (), policy: str = "Always", **spec: Any) -> Object:
    containers = [{"name": name, "image": "i"} for name in names]
    return {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"containers": containers, "initContainers": list(init), "restartPolicy": policy, **spec},
    }


def init(name: str, **fields: Any) -> Object:
    return {"name": name, "image": "i", **fields}


def sidecar(name: str, **fields: Any) -> Object:
    return init(name, restartPolicy="Always", **fields)


def ran(name: str, state: str = "running", code: int = 0, sandbox: str = "s0", **fields: Any) -> Container:
    digest = container_hash({"name": name, "image": "i"})
    return Container(f"id-{name}", name, sandbox, state, hash=digest, exit_code=code, **fields)  # type: ignore[arg-type]


def runtime(*containers: Container, sandboxes: tuple[Sandbox, ...] = (SANDBOX,)) -> PodRuntime:
    return PodRuntime("u", "p", "ns", sandboxes, containers)


RUNNING = ran("a")
DONE = ran("a", "exited")
FAILED = ran("a", "exited", 1)


@pytest.mark.parametrize(
    ("pod", "runtime", "expected"),
    [
        pytest.param(pod("a", "b"), PodRuntime("u"), Plan(create_sandbox=True, start=("a", "b")), id="new"),
        pytest.param(
            pod("a", init=(init("i"),)),
            PodRuntime("u"),
            Plan(create_sandbox=True, init=("i",)),
            id="new-with-init",
        ),
        pytest.param(pod("a"), runtime(), Plan(start=("a",)), id="sandbox-only"),
        pytest.param(pod("a"), runtime(RUNNING), Plan(), id="all-well"),
        pytest.param(pod("a"), runtime(FAILED), Plan(start=("a",)), id="always-restarts-failed"),
        pytest.param(pod("a"), runtime(DONE), Plan(start=("a",)), id="always-restarts-done"),
        pytest.param(
            pod("a", policy="OnFailure"), runtime(FAILED), Plan(start=("a",)), id="on-failure-restarts"
        ),
        pytest.param(
            pod("a", policy="OnFailure"), runtime(DONE), Plan(kill_pod=True), id="on-failure-is-done"
        ),
        pytest.param(pod("a", policy="Never"), runtime(FAILED), Plan(kill_pod=True), id="never-ends"),
        pytest.param(
            pod("a", "b", policy="Never"), runtime(FAILED, ran("b")), Plan(), id="never-lets-others-run"
        ),
        pytest.param(
            pod("a"), runtime(ran("a", "created")), Plan(start=("a",)), id="created-but-not-started"
        ),
        pytest.param(
            pod("a"),
            runtime(RUNNING, sandboxes=(Sandbox("s0", 0, False, 1),)),
            Plan(kill_pod=True, create_sandbox=True, attempt=1, start=("a",)),
            id="sandbox-died",
        ),
        pytest.param(
            pod("a", policy="Never"),
            runtime(ran("a", "exited", 137), sandboxes=(Sandbox("s0", 0, False, 1),)),
            Plan(attempt=1),
            id="sandbox-died-never-restart",
        ),
        pytest.param(
            pod("a", "b", policy="OnFailure"),
            runtime(DONE, ran("b", "exited", 1), sandboxes=(Sandbox("s0", 0, False, 1),)),
            Plan(create_sandbox=True, attempt=1, start=("b",)),
            id="sandbox-died-only-failed-again",
        ),
        pytest.param(
            pod("a", hostNetwork=True),
            runtime(RUNNING),
            Plan(kill_pod=True, create_sandbox=True, attempt=1, start=("a",)),
            id="network-changed",
        ),
        pytest.param(
            pod("a"),
            runtime(RUNNING, sandboxes=(Sandbox("s1", 1, True, 2, ("1",)), SANDBOX)),
            Plan(kill_pod=True, create_sandbox=True, attempt=2, start=("a",)),
            id="two-sandboxes",
        ),
        pytest.param(pod("a", init=(init("i"), init("j"))), runtime(ran("i")), Plan(), id="init-runs"),
        pytest.param(
            pod("a", init=(init("i"), init("j"))),
            runtime(ran("i", "exited")),
            Plan(init=("j",)),
            id="next-init",
        ),
        pytest.param(
            pod("a", init=(init("i"),)), runtime(ran("i", "exited")), Plan(start=("a",)), id="init-done"
        ),
        pytest.param(
            pod("a", init=(init("i"),)), runtime(ran("i", "exited", 1)), Plan(init=("i",)), id="init-again"
        ),
        pytest.param(
            pod("a", init=(init("i"),), policy="Never"),
            runtime(ran("i", "exited", 1)),
            Plan(kill_pod=True),
            id="init-fatal",
        ),
        pytest.param(
            pod("a", init=(init("i"),)), runtime(RUNNING), Plan(), id="init-forgotten-but-container-runs"
        ),
        pytest.param(
            pod("a", init=(sidecar("s"), init("j"))),
            runtime(ran("s")),
            Plan(init=("j",)),
            id="sidecar-lets-go",
        ),
        pytest.param(
            pod("a", init=(sidecar("s", startupProbe={"exec": {}}), init("j"))),
            runtime(ran("s")),
            Plan(),
            id="sidecar-not-started",
        ),
        pytest.param(
            pod("a", init=(sidecar("s"),)),
            runtime(RUNNING, ran("s", "exited")),
            Plan(init=("s",)),
            id="sidecar-again",
        ),
        pytest.param(
            pod("a", init=(sidecar("s"), init("j"))),
            runtime(ran("s", "exited"), ran("j")),
            Plan(init=("s",)),
            id="sidecar-again-during-init",
        ),
        pytest.param(
            pod("a", init=(sidecar("s"),), policy="Never"),
            runtime(DONE, ran("s")),
            Plan(kill_pod=True),
            id="sidecar-keeps-nobody-alive",
        ),
        pytest.param(
            pod("a", init=(init("i"),)),
            runtime(
                ran("i", "exited", sandbox="old"),
                ran("a", "exited", sandbox="old"),
                sandboxes=(Sandbox("s1", 1, True, 2, ("1",)),),
            ),
            Plan(attempt=1, init=("i",)),
            id="initialised-in-an-older-sandbox-does-not-count",
        ),
    ],
)
def test_plan(pod: Object, runtime: PodRuntime, expected: Plan) -> None:
    assert plan(pod, runtime) == expected


def test_a_changed_definition_restarts_the_container() -> None:
    changed = pod("a", policy="Never")
    changed["spec"]["containers"][0]["image"] = "other"
    assert plan(changed, runtime(RUNNING)) == Plan(
        kill=(Kill(RUNNING, "Container a definition changed, will be restarted"),), start=("a",)
    )


@pytest.mark.parametrize(("policy", "again"), [("Always", True), ("OnFailure", True), ("Never", False)])
@pytest.mark.parametrize("probe", ["liveness", "startup"])
def test_a_failed_probe_kills(policy: str, again: bool, probe: str) -> None:
    failed = {"id-a": False}
    verdicts = Verdicts(failed, {}) if probe == "liveness" else Verdicts({}, failed)
    message = f"Container a failed {probe} probe" + (", will be restarted" if again else "")
    expected = Plan(kill=(Kill(RUNNING, message, probe),), start=("a",) if again else ())  # type: ignore[arg-type]
    if not again:
        expected = Plan(kill_pod=True)
        assert plan(pod("a", "b", policy=policy), runtime(RUNNING, ran("b")), verdicts).kill == (
            Kill(RUNNING, message, probe),  # type: ignore[arg-type]
        )
    assert plan(pod("a", policy=policy), runtime(RUNNING), verdicts) == expected


def test_what_is_held_is_not_started_but_still_counts() -> None:
    assert plan(pod("a"), runtime(FAILED), held={"a"}) == Plan()
    assert plan(pod("a", "b"), runtime(FAILED), held={"a"}) == Plan(start=("b",))
    assert plan(pod("a", init=(init("i"),)), runtime(ran("i", "exited", 1)), held={"i"}) == Plan()


@pytest.mark.parametrize(
    ("rules", "code", "again"),
    [
        ([], 1, False),
        ([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}], 42, True),
        ([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}], 1, False),
        ([{"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [42]}}], 1, True),
        ([{"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [42]}}], 42, False),
    ],
)
def test_container_restart_rules(rules: list[Object], code: int, again: bool) -> None:
    container = {"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}
    assert restarts_after(pod("a"), container, code) is again


def test_ephemeral_containers_are_started_once_whatever_the_others_do() -> None:
    looking = [{"name": "look", "image": "i"}]
    subject = pod("a", init=(init("first"),), ephemeralContainers=looking)
    assert plan(subject, runtime(ran("first"))).start == ("look",)
    ready = runtime(ran("first", "exited"), ran("a"))
    assert plan(subject, ready).start == ("look",)
    for state in ("running", "exited"):
        assert not plan(subject, runtime(ran("first", "exited"), ran("a"), ran("look", state, 1)))


def test_sidecars_end_last_and_in_reverse() -> None:
    subject = pod("a", "b", init=(sidecar("s"), init("i"), sidecar("t")))
    running = [ran(name) for name in ("s", "t", "a", "b")]
    order = [[c.name for c in group] for group in termination_order(subject, running)]
    assert order == [["a", "b"], ["t"], ["s"]]


def test_only_the_latest_crash_counts() -> None:
    older, newer = ran("a", "exited", 1, finished_at=5), ran("a", finished_at=0)
    assert crash_holds(pod("a"), runtime(newer, older), lambda c: 100.0, 50.0) == {}
    assert crash_holds(pod("a"), runtime(older), lambda c: 100.0, 50.0) == {"a": 100.0}
    assert crash_holds(pod("a"), runtime(older), lambda c: 100.0, 150.0) == {}


class Model:
    """A runtime that does what a plan says, with containers that end when and how *chance* says."""

    def __init__(self) -> None:
        self.sandboxes: list[Sandbox] = []
        self.containers: list[Container] = []
        self.clock = 1
        self.started: list[str] = []

    @property
    def state(self) -> PodRuntime:
        return PodRuntime("u", "p", "ns", tuple(self.sandboxes), tuple(self.containers))

    def end(self, index: int, code: int) -> None:
        old = self.containers[index]
        self.containers[index] = Container(
            old.id, old.name, old.sandbox_id, "exited", hash=old.hash, exit_code=code
        )

    def kill(self, chosen: list[str]) -> None:
        for index, container in enumerate(self.containers):
            if container.id in chosen and container.state != "exited":
                self.end(index, 137)

    def kill_sandboxes(self) -> None:
        self.sandboxes = [Sandbox(s.id, s.attempt, False, s.created_at) for s in self.sandboxes]

    def apply(self, step: Plan) -> None:
        self.clock += 1
        if step.kill_pod:
            self.kill([c.id for c in self.containers])
            self.kill_sandboxes()
        self.kill([kill.container.id for kill in step.kill])
        if step.create_sandbox:
            self.sandboxes.insert(0, Sandbox(f"s{self.clock}", step.attempt, True, self.clock, ("10.0.0.1",)))
        for name in (*step.init, *step.start):
            self.clock += 1
            sandbox = self.sandboxes[0].id
            digest = container_hash({"name": name, "image": "i"})
            self.containers.insert(0, Container(f"c{self.clock}", name, sandbox, "running", hash=digest))
            self.started.append(name)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["init", "sidecar"]), max_size=3),
    st.integers(1, 2),
    st.sampled_from(["Always", "OnFailure", "Never"]),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.booleans()), max_size=12),
)
def test_whatever_ends_meanwhile_order_is_kept_and_all_converges(
    inits: list[str], mains: int, policy: str, chances: list[tuple[int, int, bool]]
) -> None:
    declared = tuple(init(f"i{n}") if kind == "init" else sidecar(f"i{n}") for n, kind in enumerate(inits))
    names = [f"m{n}" for n in range(mains)]
    subject = pod(*names, init=declared, policy=policy)
    model = Model()
    for which, code, sandbox_dies in [*chances, *[(0, 0, False)] * 20]:
        step = plan(subject, model.state)
        if step.start:
            for n, kind in enumerate(inits):
                status = model.state.current(f"i{n}") if not step.create_sandbox else None
                begun = any(model.state.current(name) for name in names)
                if kind == "init" and not begun:
                    assert status is not None
                    assert status.succeeded
        running = {
            c.name for c in model.containers if c.running and c not in [k.container for k in step.kill]
        }
        if not step.kill_pod:
            assert not running & {*step.init, *step.start}
        model.apply(step)
        if sandbox_dies:
            model.kill([c.id for c in model.containers])
            model.kill_sandboxes()
        elif (
            model.containers and chances and which < len(model.containers) and model.containers[which].running
        ):
            model.end(which, code)
    # Init containers end by themselves; then, with nothing more happening, nothing more is done.
    for _ in range(20):
        for index, container in enumerate(model.containers):
            if container.running and container.name in {
                f"i{n}" for n, kind in enumerate(inits) if kind == "init"
            }:
                model.end(index, 0)
        model.apply(plan(subject, model.state))
    assert not plan(subject, model.state)
    if policy == "Always":
        assert {c.name for c in model.state.running} >= set(names)
